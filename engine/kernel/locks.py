"""Fees, and the cash and allowances that an open order holds (R5.2, R5.7, D16)."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from engine.book import rarely, release
from engine.kernel.tables import FLAG_FILLED, ZERO, holding_of
from engine.machine_code import part, shared


@part
def share(amount, ppm):
    """amount × ppm / 10^6, half up, without overflow (D16)."""
    return amount // 1_000_000 * ppm + (2 * (amount % 1_000_000) * ppm + 1_000_000) // 2_000_000


@shared
def _fee_room(m, before, cash):
    """What the fees of ``before`` fen grow by when ``cash`` is spent too."""
    grown = share(before + cash, m.trading_ppm) + share(before + cash, m.settlement_ppm)
    return grown - share(before, m.trading_ppm) - share(before, m.settlement_ppm)


@part
def lock_of(m, price, leaves, filled_amount):
    """Cash that an open buy holds: its rest at its limit, and the fee room on its running total (R5.2, R5.7)."""
    cash = price * leaves
    if rarely(m.trading_ppm | m.settlement_ppm != 0):
        cash += _fee_room(m, filled_amount, cash)
    return cash


@part
def release_lock(t, m, slot, account, instrument, side, price, quantity):
    """Gives back the lock of ``quantity`` tonnes leaving the order in ``slot``; its leaves are still the old ones.

    Without a branch on the side, which no processor can predict: what does not concern a side changes by zero.
    """
    order = t.orders[slot]
    h = holding_of(t, account, instrument)
    a = t.accounts[np.uint64(account)]
    sold = quantity * np.int64(side)
    buys = np.int64(1) - np.int64(side)
    filled_amount = ZERO
    if rarely(order.flags & FLAG_FILLED != 0):
        filled_amount = t.cold[slot].filled_amount
    cash = lock_of(m, price, order.leaves * buys, filled_amount)
    cash -= lock_of(m, price, (order.leaves - quantity) * buys, filled_amount)
    a.locked -= cash
    a.available += cash
    h.buy_open -= quantity - sold
    h.locked -= sold
    h.sellable += sold


@part
def release_all(t, m, slot, instrument, side, price, leaves):
    """Gives back all that a resting order holds: its lock, and its place among its account's open orders."""
    account = np.uint64(t.orders[slot].account)
    h = holding_of(t, account, instrument)
    a = t.accounts[account]
    sold = leaves * np.int64(side)
    bought = leaves - sold
    cash = price * bought
    if rarely(m.trading_ppm | m.settlement_ppm != 0):
        cash += _fee_room(m, t.cold[slot].filled_amount, cash)
    a.locked -= cash
    a.available += cash
    a.open_orders -= 1
    h.buy_open -= bought
    h.locked -= sold
    h.sellable += sold


@part
def free(t, slot):
    """Gives back a slot whose order is out of the book; its part of ORDER_COLD is zero again."""
    if rarely(t.orders[slot].flags & FLAG_FILLED != 0):
        t.cold[slot].filled = 0
        t.cold[slot].filled_amount = 0
    release(t.orders, t.pool, slot)
