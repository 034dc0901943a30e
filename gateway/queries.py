"""Answers to questions: what is so now, complete up to a journal sequence. Nothing here changes anything."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from engine.codes import TEXT_EN, Code
from engine.market import UNLIMITED
from engine.records import NO_ACCOUNT
from gateway import protocol as p
from gateway.negotiations import ended
from gateway.roles import ROLES

if TYPE_CHECKING:
    from gateway.core import Core
    from gateway.session import Session

# Rows of one answer: a page of 10,000 deals is 640 kB, which a socket takes without holding others up.
ROWS_MAX: Final = 10_000
MEMBERS_MAX: Final = 500  # with ten vintages 350 kB, copied in a fraction of a millisecond


class Refused(Exception):
    """A question that cannot be answered: code and text for the Answer."""

    def __init__(self, code: Code, text: str = "") -> None:
        super().__init__(text)
        self.code, self.text = code, text


def answer_query(core: Core, session: Session, query: p.Query) -> p.Answer:
    """The answer to a question whose role was checked."""
    code, text, data = Code.OK, "", None
    try:
        data = ANSWERS[query.what](core, session, query.args)
    except Refused as refused:
        code = refused.code
        text = TEXT_EN[code] + (f": {refused.text}" if refused.text else "")
    return p.Answer(id=query.id, seq=core.exchange.seq, code=int(code), text=text, data=data)


def _int(args: dict[str, Any], name: str, default: int, low: int, high: int) -> int:
    value = args.get(name, default)
    if type(value) is not int or not low <= value <= high:
        raise Refused(Code.BAD_FIELD, f"{name}: {value!r} is not in {low} … {high}")
    return value


def _code(core: Core, args: dict[str, Any]) -> str:
    code = args.get("code")
    if not isinstance(code, str) or code not in core.exchange.market.codes:
        raise Refused(Code.UNKNOWN_INSTRUMENT, f"code: {code!r}")
    return code


def _accounts(core: Core, session: Session) -> list[int]:
    """The accounts that a session may look at; a drop copy's are in its key."""
    if session.account != NO_ACCOUNT:
        return [session.account]
    key = core.keys.by_public.get(session.key)
    return list(key.accounts) if key else []


def _is_operator(session: Session) -> bool:
    return ROLES[session.role].operator_plane


def _open_orders(core: Core, session: Session, args: dict[str, Any]) -> dict[str, Any]:
    """Open listed orders, OPEN_ORDER rows as bytes; ``first`` pages on from that slot."""
    first = _int(args, "first", 0, 0, 1 << 32)
    orders = core.exchange.open_orders()
    if not _is_operator(session):
        orders = orders[np.isin(orders["account"], _accounts(core, session))]
    orders = orders[orders["slot"] >= first]
    page = orders[:ROWS_MAX]
    more = int(orders[ROWS_MAX]["slot"]) if len(orders) > ROWS_MAX else 0
    return {"orders": page.tobytes(), "next": more}


def _balance(core: Core, account: int) -> dict[str, Any]:
    market = core.exchange.market
    row = market.accounts[account]
    holdings = {}
    for code, index in market.codes.items():
        h = market.holdings[account, index]
        if any(int(h[n]) for n in ("sellable", "bought_today", "locked", "in_transfer")):
            holdings[code] = {n: int(h[n]) for n in ("sellable", "bought_today", "locked", "in_transfer", "sold_today")}
            if int(h["position_max"]) < UNLIMITED:  # R14.1: open buys count
                position = sum(int(h[n]) for n in ("sellable", "bought_today", "locked", "in_transfer", "buy_open"))
                holdings[code] |= {"position": position, "position_max": int(h["position_max"])}
            if int(h["sell_max"]) < UNLIMITED:  # R14.4, per day
                holdings[code] |= {"sold": int(h["sold_today"] + h["locked"]), "sell_max": int(h["sell_max"])}
    return {
        "account": account,
        "name": core.exchange.administration.state.names.get(account, ""),
        "available": int(row["available"]),
        "locked": int(row["locked"]),
        "withdrawable": market.withdrawable(account),
        "proceeds_today": int(row["proceeds_today"]),
        "fees_today": int(row["fees_today"]),
        "open_orders": int(row["open_orders"]),
        "status": int(row["status"]),
        "holdings": holdings,
    }


def _balances(core: Core, session: Session, args: dict[str, Any]) -> list[dict[str, Any]]:
    """Cash and holdings of the session's account(s); operators name one."""
    if _is_operator(session):
        accounts = [_int(args, "account", 0, 0, len(core.exchange.market.accounts) - 1)]
    else:
        accounts = _accounts(core, session)
    return [_balance(core, a) for a in accounts if a < len(core.exchange.market.accounts)]


def _desk(core: Core, session: Session, args: dict[str, Any]) -> dict[str, Any]:
    """What is open at the bulk desk for the session's account, from declaration ``first`` on; operators see all."""
    accounts = [NO_ACCOUNT] if _is_operator(session) else _accounts(core, session)[:1]
    first = _int(args, "first", 0, 0, 1 << 32)
    if not accounts or (accounts[0] != NO_ACCOUNT and accounts[0] >= len(core.exchange.market.accounts)):
        raise Refused(Code.UNKNOWN_ACCOUNT)
    found: dict[str, Any] = msgspec.to_builtins(core.exchange.desk.view(accounts[0], first))
    return found


def _negotiations(core: Core, session: Session, args: dict[str, Any]) -> dict[str, Any]:
    """The account's dialogues at the desk that have ended today; operators name the account."""
    accounts = [_int(args, "account", 0, 0, 1 << 32)] if _is_operator(session) else _accounts(core, session)
    return ended(core.store, accounts, _int(args, "first", 0, 0, 1 << 32))


def _auctions(core: Core, session: Session, args: dict[str, Any]) -> dict[str, Any]:
    """Auctions that are not over, as the session's account may know them; operators page through ``auction``'s bids."""
    accounts = [NO_ACCOUNT] if _is_operator(session) else _accounts(core, session)[:1]
    if not accounts:
        raise Refused(Code.UNKNOWN_ACCOUNT)
    number, first = _int(args, "auction", 0, 0, 1 << 32), _int(args, "first", 0, 0, 1 << 32)
    found: dict[str, Any] = msgspec.to_builtins(core.exchange.auctions.view(accounts[0], number, first))
    return found


def _all_balances(core: Core, session: Session, args: dict[str, Any]) -> dict[str, Any]:
    """Balances of all opened accounts, from account ``first`` on."""
    first = _int(args, "first", 0, 0, 1 << 32)
    opened = np.flatnonzero(core.exchange.market.accounts["status"])
    opened = opened[opened >= first]
    page = opened[:1_000]
    more = int(opened[1_000]) if len(opened) > 1_000 else 0
    return {"balances": [_balance(core, int(a)) for a in page], "next": more}


def _members(core: Core, session: Session, args: dict[str, Any]) -> dict[str, Any]:
    """A page of opened accounts as table rows (bytes), from account ``first`` on: cheap to make for thousands."""
    first = _int(args, "first", 0, 0, 1 << 32)
    market, names = core.exchange.market, core.exchange.administration.state.names
    opened = np.flatnonzero(market.accounts["status"])
    opened = opened[opened >= first]
    page = opened[:MEMBERS_MAX]
    places = list(market.codes.values())
    return {
        "numbers": page.tolist(),
        "names": [names.get(int(a), "") for a in page],
        "codes": list(market.codes),
        "accounts": market.accounts[page].tobytes(),
        "holdings": market.holdings[page][:, places].tobytes(),
        "next": int(opened[MEMBERS_MAX]) if len(opened) > MEMBERS_MAX else 0,
    }


def _time(core: Core, session: Session, args: dict[str, Any]) -> dict[str, Any]:
    m = core.exchange.market.market[0]
    return {
        "time_ns": core.clock.now(),
        "phase": core.phase(),
        "date": int(m["date"]),
        "day_closed": bool(m["day_closed"]),
        "settled": bool(m["settled"]),
        "boundaries": [int(m[n]) for n in ("morning_open", "morning_end", "afternoon_open", "close")],
    }


def _snapshot(core: Core, session: Session, args: dict[str, Any]) -> Any:
    """The book with its feed's sequence; operators may ask for all levels (``full``)."""
    full = args.get("full") is True
    if full and not _is_operator(session):
        raise Refused(Code.ROLE_NOT_ALLOWED, "all levels are for operators (R8.6)")
    if core.publisher is None:
        raise Refused(Code.NOT_YET)
    return msgspec.to_builtins(core.publisher.snapshot(_code(core, args), core.clock.now(), full=full))


def _book(core: Core, session: Session, args: dict[str, Any]) -> dict[str, Any]:
    """All levels of an instrument, as many as ``levels`` says."""
    depth = core.exchange.depth(_code(core, args), _int(args, "levels", 1 << 20, 1, 1 << 20))
    return {"bids": [tuple(level) for level in depth.bids], "asks": [tuple(level) for level in depth.asks]}


def _instruments(core: Core, session: Session, args: dict[str, Any]) -> Any:
    return msgspec.to_builtins(core.instruments())


def _deals(core: Core, session: Session, args: dict[str, Any]) -> dict[str, Any]:
    """Deals of the open day as DEAL bytes, from number ``first`` on; ``date`` must be the open day's."""
    m = core.exchange.market.market[0]
    date = _int(args, "date", int(m["date"]), 0, 99_999_999)
    if date != int(m["date"]):
        raise Refused(Code.BAD_FIELD, f"date: the open day is {int(m['date'])}; other days are in the journal")
    first = _int(args, "first", 1, 1, 1 << 32)
    total = int(m["deals"])
    page = core.exchange.market.deals[first - 1 : min(total, first - 1 + ROWS_MAX)]
    last = first + len(page)
    return {"deals": page.tobytes(), "date": date, "next": last if last <= total else 0, "total": total}


def _state_hash(core: Core, session: Session, args: dict[str, Any]) -> dict[str, Any]:
    return {"hash": core.exchange.state_hash(), "seal": core.exchange.seal_hash().hex(), "seq": core.exchange.seq}


def _sessions(core: Core, session: Session, args: dict[str, Any]) -> list[dict[str, Any]]:
    """Sessions that were used since the start."""
    return [
        {
            "session": s.number,
            "account": s.account,
            "name": core.keys.by_session[s.number].name if s.number in core.keys.by_session else "",
            "role": s.role,
            "state": s.state.name.lower(),
            "next_request": s.next_request,
            "reports": core.store.stream(s.number).next_no - 1,
            "unsent": core.store.stream(s.number).next_no - s.cursor,
            "throttled": s.throttled,
            "malformed": s.malformed,
            "round_trip_us": -(-s.round_trip_ns // 1_000),  # until it gave a heartbeat back; 0: not known
        }
        for s in list(core.sessions.values())[:ROWS_MAX]
    ]


def _accounts_list(core: Core, session: Session, args: dict[str, Any]) -> list[dict[str, int]]:
    table = core.exchange.market.accounts
    return [
        {"account": int(a), "status": int(table[a]["status"]), "open_orders": int(table[a]["open_orders"])}
        for a in np.flatnonzero(table["status"])[:ROWS_MAX]
    ]


def _status(core: Core, session: Session, args: dict[str, Any]) -> dict[str, Any]:
    """What an operator sees first."""
    market = core.exchange.market
    rows = {
        code: {name: int(market.instruments[i][name]) for name in _STATUS_FIELDS} for code, i in market.codes.items()
    }
    m = market.market[0]
    return {
        **_time(core, session, args),
        "name": core.market.config.name,
        "pid": os.getpid(),
        "epoch": core.epoch,
        "seq": core.exchange.seq,
        "next_event": core.store.first_event_no + core.store.count,
        "halted": bool(m["halted"]),
        "cancel_only": bool(m["cancel_only"]),
        "logged_in": len(core.tokens),
        "last_session": max(core.exchange.administration.state.sessions, default=0),
        "open_orders": int(market.book.pool[0]["live"]),
        "deals": int(m["deals"]),
        "fees": {"trading": int(m["trading_fees"]), "settlement": int(m["settlement_fees"])},
        "composite": {n: int(m[f"composite_{n}"]) for n in ("open", "high", "low", "last", "close", "previous")},
        "instruments": rows,
        "counters": vars(core.counters),
        "alarms": core.alarms,
        "proposals": {str(n): {"second": s, "command": msgspec.to_builtins(c)} for n, (s, c) in core.proposals.items()},
    }


_STATUS_FIELDS = (
    "reference",
    "limit_low",
    "limit_high",
    "open",
    "high",
    "low",
    "last",
    "close",
    "volume",
    "amount",
    "deals",
    "bulk_volume",
    "bulk_amount",
    "auction_volume",
    "auction_amount",
    "halted",
    "listed",
    "weight",
)

ANSWERS: Final[dict[str, Callable[[Any, Any, dict[str, Any]], Any]]] = {
    "open_orders": _open_orders,
    "balances": _balances,
    "desk": _desk,
    "negotiations": _negotiations,
    "auctions": _auctions,
    "all_balances": _all_balances,
    "members": _members,
    "time": _time,
    "snapshot": _snapshot,
    "book": _book,
    "instruments": _instruments,
    "deals": _deals,
    "state_hash": _state_hash,
    "sessions": _sessions,
    "accounts": _accounts_list,
    "status": _status,
}
