"""A new order: all its checks in the order of docs/matching.md, then its lock, its slot and its place in the book."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Final

import numpy as np

from engine.book import append, copy_head, head_of, id_of, level_of, next_level, rarely, take_free
from engine.kernel.answers import (
    C_BAD_ORDER_TYPE,
    C_BAD_SIDE,
    C_INSUFFICIENT_CASH,
    C_NOT_FILLABLE,
    C_OPEN_ORDERS_LIMIT,
    C_ORDER_POOL_FULL,
    C_POSITION_LIMIT,
    C_POST_ONLY_WOULD_TRADE,
    C_SELL_CAP,
    C_STALE,
    C_UNKNOWN_INSTRUMENT,
    C_WRONG_POLICY,
    E_ACCEPTED,
)
from engine.kernel.checks import (
    check_account,
    check_account_exists,
    check_allowances,
    check_market,
    check_price,
    check_size,
)
from engine.kernel.control import STAGE_MATCH, STAGE_NONE, set_in_flight
from engine.kernel.events import reject
from engine.kernel.locks import lock_of
from engine.kernel.tables import FLAG_POST_ONLY, U0, ZERO, holding_of, tables_at, tick_at
from engine.machine_code import part, shared
from engine.market import ACTIVE, CANCEL_INCOMING, CANCEL_RESTING, LISTING
from engine.records import ACCEPTED, BEST_FIVE, EXPIRES, FOK, LIMIT, NEW, POST_ONLY

SMALL: Final = 1 << 30  # both below it: their bits too
FORM_PLAIN: Final = np.uint32(NEW)  # a limit order without flags, but for its side
FORM_SIDE: Final = np.uint32(1 << 8)
HALF: Final = np.uint64(32)
assert NEW == ACCEPTED  # of a plain order, COMMAND.form is EVENT.form
STATE_MASK: Final = np.uint32(0x00FFFFFF)  # listed, halted, policy
STATE_PLAIN: Final = np.uint32(1)  # listed, not halted, CONTINUOUS


@shared
def _fillable(address, opposite, limit_level, best_levels, account, wanted):
    """Would a fill-or-kill be filled (D12, D13)? Others' quantity inside limit and best levels, as its mode reaches."""
    t = tables_at(address)
    m = t.market[np.uint64(0)]
    mode = t.accounts[np.uint64(account)].self_trade if m.accounts_on else np.uint8(CANCEL_INCOMING)
    found = np.int64(0)
    visited = 0
    level = np.uint64(t.sides[opposite].best)
    while level <= limit_level and found < wanted and (best_levels == 0 or visited < best_levels):
        visited += 1
        slot = np.uint64(head_of(t.levels, t.sides, opposite, level))
        while slot != np.uint64(0) and found < wanted:
            order = t.orders[slot]
            if m.self_trade_on and order.account == account:
                if mode != CANCEL_RESTING:
                    return False
            else:
                found += order.leaves
            slot = np.uint64(order.next)
        level = next_level(t.sides, t.bitmap, opposite, level)
    return found >= wanted


@part
def _check_means(t, a, h, side, quantity, sold, cash):
    """Open orders, pool, cash or allowances, position and cap of a new order (lines 13 to 15), accounts being on.

    Both sides' checks without a branch on the side (`release_lock`): a sell needs no cash, a buy no allowances.
    """
    if a.open_orders >= a.open_orders_max:
        return C_OPEN_ORDERS_LIMIT
    if t.pool[U0].live >= t.pool[U0].capacity:
        return C_ORDER_POOL_FULL
    sellable = h.sellable
    locked = h.locked
    position = sellable + h.bought_today + locked + h.in_transfer + h.buy_open
    spent = h.sold_today + locked
    position_max = h.position_max
    sell_max = h.sell_max
    used = spent if side else position
    most = sell_max if side else position_max
    if cash > a.available:
        return C_INSUFFICIENT_CASH
    code = check_allowances(h, sold)
    if code != 0:
        return code
    if used > most - quantity:
        return C_SELL_CAP if side else C_POSITION_LIMIT
    return 0


@part
def place_order(t, m, c, instrument, side, flags, price, quantity):
    """Checks and locks the means of a new order and gives it a slot. Returns (code, slot): 0 and a slot, or why not.

    The lock is taken without a branch on the side (`release_lock`).
    """
    a = t.accounts[np.uint64(c.account)]
    h = holding_of(t, c.account, instrument)
    if m.accounts_on:
        sold = quantity * np.int64(side)
        cash = lock_of(m, price, quantity - sold, ZERO)
        code = _check_means(t, a, h, side, quantity, sold, cash)
        if code != 0:
            return code, U0
        a.available -= cash
        a.locked += cash
        a.open_orders += 1
        h.buy_open += quantity - sold
        h.sellable -= sold
        h.locked += sold
    elif t.pool[U0].live >= t.pool[U0].capacity:
        return C_ORDER_POOL_FULL, U0
    slot = take_free(t.orders, t.pool)
    order = t.orders[slot]
    order.account = c.account
    marks = np.uint32(side | flags)
    order.place = np.uint32(c.session) | np.uint32(instrument) << np.uint32(16) | marks << np.uint32(24)
    return ZERO, slot


@part
def _check_crossing(address, t, i, c, own, limit):
    """Post-only must not trade, fill-or-kill must fill (line 12)."""
    opposite = own ^ np.uint64(1)
    limit_level = level_of(t.sides, opposite, tick_at(i, limit, i.tick))
    if c.order_type == POST_ONLY:
        return C_POST_ONLY_WOULD_TRADE if np.uint64(t.sides[opposite].best) <= limit_level else 0
    fillable = _fillable(address, opposite, limit_level, i.best_levels, c.account, c.quantity)
    return 0 if fillable else C_NOT_FILLABLE


@shared
def refusal(address, c):
    """The checks of a new order in their order, but for its means. Returns (code, limit): 0, or why not."""
    t = tables_at(address)
    m = t.market[U0]
    instrument = np.uint64(c.instrument)
    if instrument >= np.uint64(m.n_instruments) or not t.instruments[instrument].listed:
        return C_UNKNOWN_INSTRUMENT, ZERO
    i = t.instruments[instrument]
    side = c.side
    limit = c.price
    if c.order_type == BEST_FIVE and limit == 0:
        limit = i.limit_high if side == 0 else i.limit_low
    code = check_account_exists(t, m, c.account)
    if code == 0 and c.flags & EXPIRES and np.uint64(c.time_ns) > c.order_id:
        code = C_STALE
    if code == 0:
        code = check_market(m, i, c.time_ns)
    if code == 0:
        code = check_account(t, m, c.account)
    if code == 0:
        if side > 1:
            code = C_BAD_SIDE
        elif c.order_type > POST_ONLY:
            code = C_BAD_ORDER_TYPE
        elif i.policy == LISTING and c.order_type != LIMIT:
            code = C_WRONG_POLICY
    if code == 0:
        code = check_price(i, limit)
    if code == 0:
        code = check_size(i, limit, c.quantity)
    if code == 0 and (c.order_type == POST_ONLY or c.order_type == FOK):
        code = _check_crossing(address, t, i, c, np.uint64(2) * instrument + np.uint64(side), limit)
    return code, limit


@part
def is_plain(t, m, k, i, c, instrument):
    """Does the new order pass `refusal` at a glance: a limit order of the usual kind, in a vintage of the usual kind?

    Whatever is not plain is checked line by line; a test holds the two against each other.
    """
    if c.form & ~FORM_SIDE != FORM_PLAIN or instrument >= np.uint64(m.n_instruments):
        return False
    if i.state & STATE_MASK != STATE_PLAIN or c.time_ns < k.open_from or c.time_ns >= k.open_until:
        return False
    if m.accounts_on:
        account = np.uint64(c.account)
        if account >= np.uint64(k.n_accounts) or t.accounts[account].status != ACTIVE:
            return False
    price = c.price
    quantity = c.quantity
    if price < i.limit_low or price > i.limit_high or quantity < i.quantity_min or quantity > i.quantity_max:
        return False
    return price | quantity < SMALL and i.tick | i.lot == 1


@part
def _accept(t, m, k, w, c, instrument, side, order_type, limit, step):
    """A new order that has passed its checks but for its means: lock, slot and ACCEPTED; it rests, or it is in flight.

    ``step`` is the vintage's tick. Returns (code, w, stage): 0, or why its means do not suffice. What is written is the
    event of a plain order; the caller mends the others'.
    """
    quantity = c.quantity
    flags = np.uint64(FLAG_POST_ONLY if order_type == POST_ONLY else 0)
    code, slot = place_order(t, m, c, instrument, side, flags, limit, quantity)
    if code != 0:
        return code, w, np.int64(STAGE_NONE)
    e = t.events[np.uint64(w)]
    copy_head(e, c)
    e.leaves = quantity
    e.order_id = id_of(t.orders, slot)
    e.parties = np.uint64(c.parties) << HALF | np.uint64(c.parties) >> HALF
    e.tail = c.tail
    i = t.instruments[instrument]
    own = np.uint64(2) * instrument + side
    level = level_of(t.sides, own, tick_at(i, limit, step))
    best = np.uint64(t.sides[own ^ np.uint64(1)].best)  # the same price is n_levels - 1 - level over there
    meets = best + level < np.uint64(t.sides[own].n_levels) and i.policy != LISTING
    if rarely(meets or (order_type != LIMIT and order_type != POST_ONLY)):
        set_in_flight(k, slot, limit, quantity, order_type)
        return ZERO, w + 1, np.int64(STAGE_MATCH)
    append(t.orders, t.levels, t.sides, t.bitmap, own, slot, level, quantity)  # most orders never are in flight
    return ZERO, w + 1, np.int64(STAGE_NONE)


@shared
def _enter_unusual(address, w, c):
    """NEW that is not plain: all its checks in their order. Returns w."""
    code, limit = refusal(address, c)
    if code == 0:
        t = tables_at(address)
        instrument = np.uint64(c.instrument)
        step = t.instruments[instrument].tick
        order_type = np.int64(c.order_type)
        k = t.control[U0]
        code, w, _ = _accept(t, t.market[U0], k, w, c, instrument, np.uint64(c.side), order_type, limit, step)
        if code == 0:
            e = t.events[np.uint64(w - 1)]
            e.price = limit
            e.form = np.uint32(E_ACCEPTED) | np.uint32(c.side) << np.uint32(8)
    return w if code == 0 else reject(address, w, c, code)


@part
def enter(address, t, m, k, w, c):
    """NEW: its checks, at a glance where it is plain, and `_accept`. Returns (w, stage)."""
    instrument = np.uint64(c.instrument)
    if rarely(not is_plain(t, m, k, t.instruments[instrument], c, instrument)):
        return _enter_unusual(address, w, c), k.stage
    code, after, stage = _accept(t, m, k, w, c, instrument, np.uint64(c.side), np.int64(LIMIT), c.price, np.int64(1))
    if rarely(code != 0):  # which code it is need not be known here
        return _enter_unusual(address, w, c), k.stage
    return after, stage
