"""REPLACE and REDUCE: an open order gets other terms (D11)."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from engine.book import level_of, reduce, remove
from engine.kernel.answers import (
    C_BAD_LOT,
    C_INSUFFICIENT_CASH,
    C_POSITION_LIMIT,
    C_POST_ONLY_WOULD_TRADE,
    C_QUANTITY_TOO_SMALL,
    C_SELL_CAP,
    E_REDUCED,
    E_REPLACED,
    R_REDUCED_TO_ZERO,
    R_REPLACED_TO_FILLED,
)
from engine.kernel.cancel import cancel
from engine.kernel.checks import check_account, check_allowances, check_market, check_price, check_size
from engine.kernel.control import set_in_flight
from engine.kernel.events import emit_order, reject
from engine.kernel.locks import lock_of, release_lock
from engine.kernel.tables import FLAG_POST_ONLY, U0, ZERO, holding_of, price_of, tables_at, tick_at
from engine.machine_code import part, shared
from engine.market import LISTING
from engine.records import LIMIT


@part
def _check_replace(address, t, m, c, slot, filled):
    """Lines 10 to 15 of the table for new terms that leave something open; the old lock counts as free (D11)."""
    order = t.orders[slot]
    i = t.instruments[np.uint64(order.instrument)]
    side = order.flags & 1
    s = np.uint64(2) * np.uint64(order.instrument) + np.uint64(side)
    code = check_size(i, c.price, c.quantity)
    if code != 0:
        return code
    leaves = c.quantity - filled
    if order.flags & FLAG_POST_ONLY and i.policy != LISTING:
        opposite = s ^ np.uint64(1)
        if np.uint64(t.sides[opposite].best) <= level_of(t.sides, opposite, tick_at(i, c.price, i.tick)):
            return C_POST_ONLY_WOULD_TRADE
    if m.accounts_on:
        h = holding_of(t, order.account, np.uint64(order.instrument))
        if side == 0:
            if _replace_cash(t, m, slot, c.price, leaves) > t.accounts[np.uint64(order.account)].available:
                return C_INSUFFICIENT_CASH
            position = h.sellable + h.bought_today + h.locked + h.in_transfer + h.buy_open
            if leaves > order.leaves and position - order.leaves > h.position_max - leaves:
                return C_POSITION_LIMIT
        else:
            code = check_allowances(h, leaves - order.leaves)
            if code != 0:
                return code
            if leaves > order.leaves and h.sold_today + h.locked - order.leaves > h.sell_max - leaves:
                return C_SELL_CAP
    return 0


@part
def _replace_cash(t, m, slot, price, leaves):
    """How much more cash the new terms of a buy lock; negative where they free some."""
    order = t.orders[slot]
    amount = t.cold[slot].filled_amount
    old = price_of(t, np.uint64(2) * np.uint64(order.instrument), np.uint64(order.level))
    return lock_of(m, price, leaves, amount) - lock_of(m, old, order.leaves, amount)


@shared
def replace(address, w, c, slot):
    """REPLACE (D11): checks, new lock, and either in place or out of its place to match anew. Returns w."""
    t = tables_at(address)
    m = t.market[np.uint64(0)]
    order = t.orders[slot]
    i = t.instruments[np.uint64(order.instrument)]
    side = order.flags & 1
    s = np.uint64(2) * np.uint64(order.instrument) + np.uint64(side)
    code = check_market(m, i, c.time_ns)
    if code == 0:
        code = check_account(t, m, c.account)
    if code == 0:
        code = check_price(i, c.price)
    filled = t.cold[slot].filled
    if code == 0 and c.quantity <= filled:
        return cancel(address, w, c, slot, c.request_no, R_REPLACED_TO_FILLED)
    if code == 0:
        code = _check_replace(address, t, m, c, slot, filled)
    if code != 0:
        return reject(address, w, c, code)
    leaves = c.quantity - filled
    if m.accounts_on:
        h = holding_of(t, order.account, np.uint64(order.instrument))
        if side == 0:
            a = t.accounts[np.uint64(order.account)]
            cash = _replace_cash(t, m, slot, c.price, leaves)
            a.available -= cash
            a.locked += cash
            h.buy_open += leaves - order.leaves
        else:
            h.sellable -= leaves - order.leaves
            h.locked += leaves - order.leaves
    if c.session != 0:
        order.session = c.session
    w = emit_order(t, w, c, E_REPLACED, slot, c.price, c.quantity, leaves, c.request_no, ZERO)
    if c.price == price_of(t, s, np.uint64(order.level)) and leaves < order.leaves:
        reduce(t.orders, t.levels, t.sides, s, slot, order.leaves - leaves)
    else:
        remove(t.orders, t.levels, t.sides, t.bitmap, s, slot)
        order.leaves = 0
        set_in_flight(t.control[np.uint64(0)], slot, c.price, leaves, np.int64(LIMIT))
    return w


@shared
def reduce_order(address, w, c, slot):
    """REDUCE of the order in ``slot``. Returns w."""
    t = tables_at(address)
    m = t.market[U0]
    order = t.orders[slot]
    i = t.instruments[np.uint64(order.instrument)]
    if c.quantity < 1:
        return reject(address, w, c, C_QUANTITY_TOO_SMALL)
    if i.lot != 1 and c.quantity % i.lot != 0:
        return reject(address, w, c, C_BAD_LOT)
    if c.quantity >= order.leaves:
        return cancel(address, w, c, slot, c.request_no, R_REDUCED_TO_ZERO)
    side = order.flags & 1
    s = np.uint64(2) * np.uint64(order.instrument) + np.uint64(side)
    price = price_of(t, s, np.uint64(order.level))
    if m.accounts_on:
        release_lock(t, m, slot, order.account, np.uint64(order.instrument), side, price, c.quantity)
    reduce(t.orders, t.levels, t.sides, s, slot, c.quantity)
    return emit_order(t, w, c, E_REDUCED, slot, price, c.quantity, order.leaves, c.request_no, ZERO)
