"""Events as lines for people and as plain values for scripts, and filters over them."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from engine import records
from engine.calendar import format_time, trading_date
from engine.codes import TEXT_EN, Code, Reason
from engine.exchange import Output
from engine.market import Market
from engine.prices import format_amount, format_price
from engine.records import NO_ACCOUNT, NOTICE

KINDS: Final = {
    records.ACCEPTED: "accepted",
    records.REJECTED: "rejected",
    records.FILL_MAKER: "fill maker",
    records.FILL_TAKER: "fill taker",
    records.CANCELLED: "cancelled",
    records.REDUCED: "reduced",
    records.REPLACED: "replaced",
    records.MASS_CANCELLED: "mass cancelled",
    records.NOTICE: "notice",
}


class EventFilter(NamedTuple):
    """Which events are wanted; None: all. An order's events are its whole life."""

    account: int | None = None
    instrument: str | None = None
    order: int | None = None

    def mask(self, events: np.ndarray, market: Market) -> np.ndarray:
        """bool per event. An instrument that the market does not know has no events."""
        wanted = np.ones(len(events), bool)
        if self.account is not None:
            wanted &= events["account"] == self.account
        if self.order is not None:
            wanted &= (events["order_id"] == self.order) & (events["kind"] != NOTICE)
        if self.instrument is not None:
            index = market.codes.get(self.instrument, -1)
            wanted &= (events["instrument"] == index) & (events["kind"] != NOTICE)
        return wanted


def rows_of(out: Output, market: Market, wanted: EventFilter) -> list[dict[str, Any]]:
    """The wanted events as plain values, notices with their message."""
    mask, notices = wanted.mask(out.events, market), out.events["kind"] == NOTICE
    sizes = np.where(notices, out.events["quantity"], 0)
    ends = np.cumsum(sizes) if mask.any() else sizes
    rows = []
    for n in np.flatnonzero(mask).tolist():
        end, message = int(ends[n]), None
        if notices[n]:
            message = msgspec.msgpack.decode(out.payloads[end - int(sizes[n]) : end])
        rows.append(_row(out.events[n], market, message))
    return rows


def life_of(rows: list[dict[str, Any]]) -> str:
    """An order's events in one sentence: what it wanted, what came of it, how long it was open."""
    first, last = rows[0], rows[-1]
    fills = [r for r in rows if "deal" in r]
    dealt = sum(r["quantity"] for r in fills)
    text = f"order {first['order']} of account {first['account']}: "
    text += f"{first['side'] or ''} {first['quantity']:,} t {first['instrument']} at {format_price(first['price'])}; "
    if fills:
        amount = sum(r["price"] * r["quantity"] for r in fills)
        text += f"{dealt:,} t dealt in {len(fills)} deals for {format_amount(amount)} yuan, "
    else:
        text += "no deal, "
    ended = last["event"] in ("cancelled", "rejected") or not last["leaves"]
    text += f"{last['leaves']:,} t open" if not ended else last.get("reason", "filled")
    return f"{text}; from {first['date']} {first['time']} to {last['date']} {last['time']}"


def _row(event: np.void, market: Market, message: Any) -> dict[str, Any]:
    time_ns, kind = int(event["time_ns"]), int(event["kind"])
    row: dict[str, Any] = {
        "seq": int(event["seq"]),
        "date": trading_date(time_ns),
        "time": format_time(time_ns),
        "event": KINDS.get(kind, str(kind)),
        "account": int(event["account"]) if event["account"] != NO_ACCOUNT else None,
    }
    if kind == NOTICE:
        return {**row, "message": message}
    instrument = int(event["instrument"])
    row |= {
        "instrument": market.code_of(instrument) if instrument < len(market.codes) else None,
        "side": ("buy", "sell")[event["side"]] if event["side"] < 2 else None,
        "price": int(event["price"]),
        "quantity": int(event["quantity"]),
        "leaves": int(event["leaves"]),
        "order": int(event["order_id"]),
    }
    if kind == records.REJECTED:
        row["reason"] = TEXT_EN.get(Code(int(event["reason"])), str(event["reason"]))
    elif kind == records.CANCELLED:
        row["reason"] = Reason(int(event["reason"])).name.lower()
    elif kind in (records.FILL_MAKER, records.FILL_TAKER):
        row["deal"] = int(event["ref"])
    return row


def line_of(row: dict[str, Any]) -> str:
    """One event on one line."""
    start = f"{row['seq']:>9} {row['date']} {row['time']} {row['event']:<14}"
    who = "" if row["account"] is None else f" account {row['account']}"
    if "message" in row:
        return f"{start}{who} {row['message']}"
    text = f"{start} {row['instrument'] or '':<6} {row['side'] or '':<4} {row['quantity']:>9,} t at "
    text += f"{format_price(row['price']):>9}, leaves {row['leaves']:,}; order {row['order']}{who}"
    if "deal" in row:
        text += f", deal {row['deal']}"
    return text + (f" ({row['reason']})" if "reason" in row else "")
