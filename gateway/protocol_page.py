"""The parts of docs/protocol.md that repeat what the code says: generated, and a test keeps them equal.

python -m gateway.protocol_page docs/protocol.md
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from engine.codes import REASON_EN, TEXT_EN, TEXT_ZH, Code, Reason
from gateway import protocol as p
from gateway.cards import CARDS
from gateway.roles import ROLES
from gateway.session import CLIENT, EXCHANGE

KINDS: Final = {1: "new", 2: "cancel", 3: "reduce", 4: "replace", 5: "mass_cancel", 6: "take", 7: "message"}


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def cards() -> str:
    """The cards, numbered."""
    return _table(("card", "title", "promise"), [(str(c.number), c.title, c.text) for c in CARDS])


def codes() -> str:
    """Reject codes with both texts."""
    return _table(
        ("code", "name", "text", "中文"), [(str(int(c)), c.name, TEXT_EN.get(c, ""), TEXT_ZH.get(c, "")) for c in Code]
    )


def reasons() -> str:
    """Why orders end without a fill."""
    return _table(("reason", "name", "text"), [(str(int(r)), r.name, REASON_EN.get(r, "")) for r in Reason])


def roles() -> str:
    """Who may send what."""
    rows = []
    for role in ROLES.values():
        kinds = ", ".join(KINDS[k] for k in sorted(role.kinds)) or "–"
        tags = sorted(str(t.__struct_config__.tag) for t in role.messages)  # type: ignore[attr-defined]
        plane = "operators" if role.operator_plane else "members"
        rows.append((role.name, plane, kinds, ", ".join(tags) or "–", ", ".join(sorted(role.queries))))
    return _table(("role", "plane", "records", "slow-lane commands", "queries"), rows)


def session() -> str:
    """The exchange's side of the session."""
    rows = [
        (state.name, event.name, after.name, ", ".join(a.name for a in actions) or "–")
        for (state, event), (after, actions) in EXCHANGE.items()
    ]
    return _table(("state", "event", "next state", "actions"), rows)


def client() -> str:
    """The client's side of the session."""
    rows = [
        (state.name, event.name, after.name, ", ".join(a.name for a in actions) or "–")
        for (state, event), (after, actions) in CLIENT.items()
    ]
    return _table(("state", "event", "next state", "actions"), rows)


def controls() -> str:
    """Control messages and their fields."""
    rows = []
    for way, types in (("to the exchange", p.CLIENT_MESSAGES), ("to the client", p.EXCHANGE_MESSAGES)):
        for kind in types:
            names = ", ".join(f.encode_name for f in msgspec.structs.fields(kind)) or "–"
            text = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
            rows.append((str(kind.__struct_config__.tag), way, names, text))  # type: ignore[attr-defined]
    return _table(("t", "way", "fields", "meaning"), rows)


def limits() -> str:
    """Sizes and times."""
    rows = [
        ("protocol version", str(p.PROTOCOL_VERSION)),
        ("records in a frame, at most", str(p.FRAME_RECORDS_MAX)),
        ("bytes of a frame, at most", str(p.FRAME_BYTES_MAX)),
        ("bytes of a control message, at most", str(p.CONTROL_BYTES_MAX)),
        ("bytes of a slow-lane payload, at most", str(p.PAYLOAD_MAX_BYTES)),
        ("events in a report frame, at most", str(p.REPORTS_PER_FRAME)),
        ("bytes of the routing id, random", str(p.ROUTING_ID_BYTES)),
        ("heartbeat, unless agreed otherwise", f"{p.HEARTBEAT_MS} ms; lost after {p.HEARTBEATS_LOST}"),
    ]
    return _table(("limit", "value"), rows)


PARTS: Final[dict[str, Callable[[], str]]] = {
    "limits": limits,
    "controls": controls,
    "session": session,
    "client": client,
    "roles": roles,
    "cards": cards,
    "codes": codes,
    "reasons": reasons,
}


def fill(text: str) -> str:
    """A page with every generated part brought up to date; ValueError names a missing marker."""
    for name, make in PARTS.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        if begin not in text or end not in text:
            raise ValueError(f"the page has no part {name}")
        head, rest = text.split(begin, 1)
        text = f"{head}{begin}\n{make()}\n{end}{rest.split(end, 1)[1]}"
    return text


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(fill(page.read_text("utf-8")), "utf-8")
