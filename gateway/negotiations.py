"""The answer to "what became of my negotiations today?": dialogues of the desk that have ended, with all their steps.

The desk keeps only what is open (engine.bulk_records); what has ended is in the day's reports, which the exchange
keeps for everybody (D5). So this looks through the day's notices, of whichever session, for those of the account:
a few milliseconds for a desk's whole day, whatever the listed market did.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import msgspec
import numpy as np

from engine.bulk_messages import BulkThread
from engine.bulk_states import Talk
from gateway.reports import ReportStore

ENDED: Final = frozenset(s.name.lower() for s in (Talk.DEALT, Talk.REFUSED, Talk.RETRACTED, Talk.ENDED, Talk.UNFIT))
# Dialogues of one answer: with their steps some 200 kB, which a socket takes without holding others up.
ENDED_PER_ANSWER: Final = 500

_decoder = msgspec.msgpack.Decoder(BulkThread)


def ended(store: ReportStore, accounts: Collection[int], first: int) -> dict[str, Any]:
    """The accounts' ended dialogues from number ``first`` on, by number: terms, how they ended, and their steps.

    ``next`` is where the next page begins, 0 at the end. A step: [seq, time_ns, event, by, price, quantity, note].
    """
    places = np.fromiter(store.payloads, np.int64, len(store.payloads))
    places = places[np.isin(store.events["account"][places], list(accounts))]
    found: dict[int, dict[int, tuple[int, BulkThread]]] = {}  # dialogue → sequence → time, notice
    for place in np.sort(places).tolist():
        try:
            notice = _decoder.decode(store.payloads[place])
        except msgspec.ValidationError:
            continue  # a notice of another kind
        event = store.events[place]
        found.setdefault(notice.thread, {})[int(event["seq"])] = (int(event["time_ns"]), notice)
    numbers = sorted(n for n, steps in found.items() if n >= first and steps[max(steps)][1].state in ENDED)
    page, more = numbers[:ENDED_PER_ANSWER], numbers[ENDED_PER_ANSWER:]
    return {"dialogues": [_dialogue(found[n]) for n in page], "next": more[0] if more else 0}


def _dialogue(steps: dict[int, tuple[int, BulkThread]]) -> dict[str, Any]:
    last = steps[max(steps)][1]
    return {
        **{name: getattr(last, name) for name in ("thread", "declaration", "maker", "taker", "side", "instrument")},
        "price": last.price,
        "quantity": last.quantity,
        "state": last.state,
        "steps": [
            [seq, time_ns, n.event, n.by, n.price, n.quantity, n.note] for seq, (time_ns, n) in sorted(steps.items())
        ],
    }
