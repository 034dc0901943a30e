"""The event log of the bulk desk and of the auctions as tables: complete dialogues and bids, for the operator (R12.6).

One row per thing that happened, in the order of the sequence: declarations, each step of each dialogue, deals (one
row a side), applications, windows, bids, results, and what was refused with its reason. The source is the notices of a
replay, so a row cannot tell anything that the engine did not decide. Bids are sealed until the close: these tables
are for operators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
import pyarrow as pa

from engine.codes import Code
from engine.exchange import Output
from engine.records import NO_ACCOUNT, NOTICE

TIME: Final = pa.timestamp("ns", tz="UTC")
_WHEN: Final = [("seq", pa.uint64()), ("time", TIME), ("what", pa.string())]
_NUMBERS: Final = {"price_fen", "quantity_t", "filled_t", "amount_fen", "fee_fen"}


def _columns(names: str) -> list[tuple[str, pa.DataType]]:
    """uint32 for numbers of things, int64 for prices and quantities, text for words."""
    words = {"event", "state", "side", "instrument", "mode", "reserve", "note"}
    made = []
    for name in names.split():
        kind = pa.int64() if name in _NUMBERS else pa.string() if name in words else pa.uint32()
        made.append((name, TIME if name in ("valid_until", "opens", "closes") else kind))
    return made


DESK: Final = pa.schema(
    _WHEN
    + _columns(
        "declaration thread deal maker taker by event state side instrument price_fen quantity_t amount_fen fee_fen "
        "valid_until note"
    )
)
AUCTIONS: Final = pa.schema(
    _WHEN
    + _columns(
        "auction bid deal account state instrument mode reserve date price_fen quantity_t filled_t amount_fen fee_fen "
        "opens closes note"
    )
)

# Notices that go to several accounts are taken once: the operators' copy. What has none goes to one account each.
_DESK_WHAT: Final = {
    "bulk_declaration": "declaration",
    "bulk_thread": "dialogue",
    "bulk_deal": "deal",
    "bulk_desk": "desk",
}
_AUCTION_WHAT: Final = {
    "auction_state": "application",
    "auction_announced": "window",
    "auction_bid_state": "bid",
    "auction_bid_result": "bid result",
    "auction_sold": "seller's result",
    "auction_result": "result",
}
_EACH_ACCOUNT: Final = {"bulk_deal", "auction_bid_result", "auction_sold"}


def _logged(out: Output, what: dict[str, str], prefix: str) -> Iterator[dict[str, Any]]:
    """Notices of a piece that belong to a table, with seq, time, what and account; refusals too."""
    at = 0
    for event in out.events[out.events["kind"] == NOTICE]:
        end = at + int(event["quantity"])
        n: dict[str, Any] = msgspec.msgpack.decode(out.payloads[at:end])
        at, kind, account = end, n["t"], int(event["account"])
        row = {"seq": int(event["seq"]), "time": int(event["time_ns"]), "on": account}
        if kind in what and (kind in _EACH_ACCOUNT or account == NO_ACCOUNT):
            yield {**n, **row, "what": what[kind]}
        elif kind == "refused" and n["command"].startswith(prefix):
            reason = f"{Code(n['code']).name} {n['field']}: {n['text']}"
            yield {**row, "what": "refused", "event": n["command"].removeprefix(prefix), "note": reason}
        elif kind == "done" and "why" in n["data"] and n["command"].startswith(prefix):
            told = {name: value for name, value in n["data"].items() if name in ("declaration", "thread", "frozen")}
            note = ": ".join(text for text in (n["data"]["by"], n["data"]["why"]) if text)
            yield {**row, **told, "what": "operator", "event": n["command"].removeprefix(prefix), "note": note}


def _account(number: int) -> int | None:
    return None if number == NO_ACCOUNT else number


def desk_rows(out: Output) -> Iterator[dict[str, Any]]:
    """Rows of DESK. ``by`` is the account that acted, null for the exchange; of a deal, the side that the row is of."""
    for n in _logged(out, _DESK_WHAT, "bulk_"):
        row = {name: n.get(name) for name in DESK.names}
        row |= {"price_fen": n.get("price"), "quantity_t": n.get("quantity"), "fee_fen": n.get("fee")}
        row |= {"amount_fen": n.get("amount"), "side": None if "side" not in n else ("buy", "sell")[n["side"]]}
        if n["what"] == "dialogue":
            row["by"] = _account(n["by"])
        elif n["what"] == "declaration":
            row["by"] = n["maker"]
        elif n["what"] == "deal":
            row |= {"deal": n["number"], "by": n["on"], "state": "dealt"}
        elif n["what"] == "desk":
            row |= {"state": "frozen" if n["frozen"] else "open", "note": n["why"]}
        elif n["what"] == "operator":
            row["by"] = None
        else:
            row |= {"by": _account(n["on"]), "state": "refused"}
        yield row


def auction_rows(out: Output) -> Iterator[dict[str, Any]]:
    """Rows of AUCTIONS. ``account`` is the seller or bidder, null where a row is of the whole auction."""
    for n in _logged(out, _AUCTION_WHAT, "auction_"):
        row = {name: n.get(name) for name in AUCTIONS.names}
        row |= {"price_fen": n.get("price"), "quantity_t": n.get("quantity"), "amount_fen": n.get("amount")}
        row |= {"fee_fen": n.get("fee"), "deal": n.get("number") or None, "note": n.get("why", n.get("note"))}
        if n["what"] in ("application", "window"):
            row["account"] = n["seller"]
        elif n["what"] == "bid result":
            row |= {"account": n["on"], "quantity_t": n["quantity_bid"], "filled_t": n["filled"]}
            row |= {"price_fen": n["price"] if n["filled"] else n["price_bid"]}
            row["state"] = "won" if n["filled"] else "lost"
        elif n["what"] == "seller's result":
            row |= {"account": n["on"], "filled_t": n["sold"], "deal": n["first"], "state": "dealt"}
        elif n["what"] == "result":
            row |= {"quantity_t": n["offered"], "filled_t": n["sold"], "price_fen": n["price_low"] or None}
        elif n["what"] == "refused":
            row |= {"account": _account(n["on"]), "state": "refused", "note": f"{n['event']}: {n['note']}"}
        yield row


ROWS: Final[dict[str, tuple[pa.Schema, Callable[[Output], Iterator[dict[str, Any]]]]]] = {
    "desk": (DESK, desk_rows),
    "auctions": (AUCTIONS, auction_rows),
}
