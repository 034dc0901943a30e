"""What the bulk desk refuses before anything changes: who may act and when (R3.2, D22), terms (R4.2, R9.3), audience.

Each check answers with None where nothing speaks against the command, else with the refusal as the member reads it.
"""

from __future__ import annotations

import numpy as np

from engine.bulk_messages import GROUP_MEMBERS_MAX, BulkDeclare
from engine.bulk_records import Declaration, Thread
from engine.bulk_states import Declared
from engine.calendar import format_time
from engine.codes import Code
from engine.lane import Envelope, Refusal, refuse
from engine.market import UNLIMITED, Market
from engine.prices import format_price
from engine.records import NO_ACCOUNT


def may_act(market: Market, envelope: Envelope, instrument: int | None, *, desk_frozen: bool) -> Refusal | None:
    """Account, instrument, hours (R3.2), halts (D22): whatever binds somebody passes through here."""
    if envelope.account == NO_ACCOUNT:
        return refuse(Code.NOT_AUTHORISED, "account", "a member's command")
    code = market.may_trade(envelope.account)
    if code != Code.OK:
        return refuse(code, "account")
    if instrument is None:
        return refuse(Code.UNKNOWN_INSTRUMENT, "instrument")
    if not market.bulk_is_open(envelope.time_ns):
        m = market.market[0]
        hours = f"{format_time(int(m['bulk_open']))[:8]}–{format_time(int(m['bulk_end']))[:8]} of the trading day"
        return refuse(Code.BULK_CLOSED, "time", f"bulk hours are {hours}")
    stop = market.stopped(instrument)
    if stop in (Code.CANCEL_ONLY, Code.UNKNOWN_INSTRUMENT):
        return refuse(stop, "instrument" if stop == Code.UNKNOWN_INSTRUMENT else "")
    if desk_frozen:
        return refuse(Code.BULK_FROZEN, "", "the desk")
    if stop == Code.MARKET_HALTED:
        return refuse(Code.BULK_FROZEN, "", "the market")
    return refuse(Code.BULK_FROZEN, "instrument", "the instrument") if stop != Code.OK else None


def may_step(found: Declaration) -> Refusal | None:
    """Whether an operator has frozen this one declaration."""
    frozen = found.state == Declared.FROZEN
    return refuse(Code.BULK_FROZEN, "declaration", "this declaration, by the operator") if frozen else None


def same_terms(thread: Thread, price: int, quantity: int) -> Refusal | None:
    """Whoever agrees names the terms that stand: nobody is bound to others than those that they saw."""
    if (price, quantity) == (thread.price, thread.quantity):
        return None
    field = "price" if price != thread.price else "quantity"
    terms = f"{format_price(thread.price)} × {thread.quantity} t is on the table"
    return refuse(Code.BULK_TERMS_CHANGED, field, terms)


def terms(market: Market, instrument: int, price: int, quantity: int) -> Refusal | None:
    """Bulk minimum (R4.2), lot, tick, band (R9.3)."""
    smallest = market.rules.bulk_quantity_min_t
    if quantity < smallest:
        return refuse(Code.BULK_QUANTITY_TOO_SMALL, "quantity", f"{quantity} t, minimum {smallest} t")
    lot, tick, low, high = market.bulk_terms(instrument)
    if quantity % lot:
        return refuse(Code.BAD_LOT, "quantity")
    if price % tick:
        return refuse(Code.BAD_TICK, "price")
    if not low <= price <= high:
        band = f"{format_price(price)} is not in {format_price(low)} … {format_price(high)}"
        return refuse(Code.BULK_PRICE_OUT_OF_BAND, "price", band)
    return None


def fit(found: Declaration, quantity: int, code: Code) -> Refusal | None:
    """All or none: exactly the declaration's quantity. Partial: not more than is open."""
    if found.partial:
        return None if quantity <= found.quantity else refuse(code, "quantity", f"{found.quantity} t are open")
    return None if quantity == found.quantity else refuse(code, "quantity", f"all or none of {found.quantity} t")


def audience(market: Market, maker: int, m: BulkDeclare) -> Refusal | None:
    """Whom a declaration is addressed to: accounts, a group, or everybody."""
    if m.to and m.group:
        return refuse(Code.BAD_FIELD, "group", "address accounts or a group, not both")
    if maker in m.to:
        return refuse(Code.SELF_DEAL, "to")
    if len(set(m.to)) != len(m.to):
        return refuse(Code.BAD_FIELD, "to", "an account is named twice")
    unknown = next((a for a in m.to if market.account_code(a) != Code.OK), None)
    if unknown is not None:
        return refuse(Code.UNKNOWN_ACCOUNT, "to", str(unknown))
    if m.group:
        others = [a for a in group_members(market, m.group) if a != maker]
        if not others:
            return refuse(Code.BAD_FIELD, "group", "nobody else is in this group")
        if len(others) > GROUP_MEMBERS_MAX:
            return refuse(Code.LIMIT_REACHED, "group", f"more than {GROUP_MEMBERS_MAX} members")
    return None


def valid_until(market: Market, envelope: Envelope, wanted: int) -> int | Refusal:
    """When a declaration ends (ns UTC): as wanted, within today's bulk hours; 0: with them."""
    m = market.market[0]
    end = UNLIMITED if m["around_the_clock"] else int(m["bulk_end"])
    if wanted == 0:
        return end
    if not envelope.time_ns < wanted <= end:
        return refuse(Code.BAD_FIELD, "valid_until", "must lie ahead, within today's bulk hours")
    return wanted


def group_members(market: Market, group: int) -> list[int]:
    """The accounts of an operators' named group."""
    members: list[int] = np.flatnonzero(market.accounts["group"] == group).tolist()
    return [a for a in members if market.account_code(a) == Code.OK]


def sees(market: Market, account: int, found: Declaration) -> bool:
    """Whether a declaration is addressed to an account, or its own."""
    if found.maker == account or found.public:
        return True
    if found.to:
        return account in found.to
    return int(market.accounts[account]["group"]) == found.group
