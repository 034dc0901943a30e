"""One deal: at the resting price (R8.1), paid and delivered at once, with its fees, statistics and two events."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from engine.book import prefetch, rarely, reduce, remove
from engine.kernel.answers import E_FILL_MAKER, E_FILL_TAKER
from engine.kernel.events import emit_order
from engine.kernel.locks import free, lock_of, share
from engine.kernel.tables import PLACE_FILLED, U0, ZERO, holding_of, price_of, tables_at
from engine.machine_code import part, shared
from engine.market import DEAL_BUYER_TAKES, LISTED
from engine.rules import AMOUNT_MAX_FEN


@part
def _remember_fill(t, slot, leaves_after, quantity, amount):
    """Adds to an order's running totals, which only matter while it lives on (D11, D16)."""
    if leaves_after > 0:
        t.cold[slot].filled += quantity
        t.cold[slot].filled_amount += amount
        t.orders[slot].place |= PLACE_FILLED  # as a word, as its event will read it: of a byte that would have to wait


@part
def _charge(t, m, account, slot, amount, most):
    """One side's fees of a deal, on the order's running total (D16), ``most`` fen at most. Returns the fee."""
    before = t.cold[slot].filled_amount
    trading = min(share(before + amount, m.trading_ppm) - share(before, m.trading_ppm), most)
    settlement = share(before + amount, m.settlement_ppm) - share(before, m.settlement_ppm)
    settlement = min(settlement, most - trading)
    m.trading_fees += trading
    m.settlement_fees += settlement
    t.accounts[np.uint64(account)].fees_today += trading + settlement
    return trading + settlement


@part
def _pay(t, m, slot, account, instrument, limit, leaves, price, quantity):
    """The buyer's side of a deal: pays out of its lock, gets allowances. Returns the fee."""
    a = t.accounts[np.uint64(account)]
    h = holding_of(t, account, instrument)
    amount = price * quantity
    fee = np.int64(0)
    freed = limit * quantity
    if rarely(m.trading_ppm | m.settlement_ppm != 0):
        before = t.cold[slot].filled_amount
        fee = _charge(t, m, account, slot, amount, np.int64(AMOUNT_MAX_FEN))
        freed = lock_of(m, limit, leaves, before) - lock_of(m, limit, leaves - quantity, before + amount)
    a.locked -= freed
    a.available += freed - amount - fee
    h.buy_open -= quantity
    if m.t_plus_one:
        h.bought_today += quantity
    else:
        h.sellable += quantity
    return fee


@part
def _deliver(t, m, slot, account, instrument, price, quantity):
    """The seller's side of a deal: allowances go, proceeds come (T+0 for use, not for withdrawal). Returns the fee."""
    a = t.accounts[np.uint64(account)]
    h = holding_of(t, account, instrument)
    amount = price * quantity
    fee = np.int64(0)
    if rarely(m.trading_ppm | m.settlement_ppm != 0):
        fee = _charge(t, m, account, slot, amount, amount)
    a.available += amount - fee
    a.proceeds_today += amount - fee
    h.locked -= quantity
    h.sold_today += quantity
    return fee


@part
def _statistics(m, i, price, quantity):
    """Open, high, low, last, volume, amount of the instrument; the composite at this deal (R6.3, R6.6, R7.3, R7.4)."""
    if i.open == 0:
        i.open = price
        i.high = price
        i.low = price
    i.high = max(i.high, price)
    i.low = min(i.low, price)
    m.composite_sum += i.weight * (price - i.last)
    i.last = price
    i.volume += quantity
    i.amount += price * quantity
    i.deals += 1
    weight = m.composite_weight
    if weight != 0:
        last = m.composite_sum if weight == 1 else (2 * m.composite_sum + weight) // (2 * weight)
        m.composite_last = last
        if m.composite_open == 0:
            m.composite_open = last
            m.composite_high = last
            m.composite_low = last
        m.composite_high = max(m.composite_high, last)
        m.composite_low = min(m.composite_low, last)


@part
def _look_behind(t, maker, instrument):
    """Asks the cache for what the next deals at this price will touch: those who stand behind the maker.

    Nobody's command names them, so `_look_ahead` cannot: the second behind is asked for, of the first (asked for one
    deal ago) its account and holding. At the end of the list that is slot 0, which is harmless.
    """
    behind = t.orders[np.uint64(maker.next)]
    row = np.uint64(t.control[U0].n_instruments)
    prefetch(t.orders, np.uint64(behind.next))
    prefetch(t.cold, np.uint64(maker.next))
    prefetch(t.accounts, np.uint64(behind.account))
    prefetch(t.holdings, np.uint64(behind.account) * row + instrument)


@shared
def deal(address, w, c, maker_slot, taker_slot, limit, leaves):
    """One deal of an incoming order (its ``limit`` and ``leaves``) with a resting one, at the resting price (R8.1).

    All its bookkeeping and its two events. Returns (w, quantity).
    """
    t = tables_at(address)
    m = t.market[U0]
    maker = t.orders[maker_slot]
    taker = t.orders[taker_slot]
    taker_side = taker.flags & 1
    instrument = np.uint64(maker.instrument)
    s = np.uint64(2) * instrument + np.uint64(taker_side ^ 1)
    level = np.uint64(maker.level)
    price = price_of(t, s, level)
    maker_leaves = maker.leaves
    quantity = min(leaves, maker_leaves)
    amount = price * quantity
    number = m.deals + np.uint64(1)
    prefetch(t.cold, maker_slot)
    prefetch(t.deals, number + np.uint64(4))
    _look_behind(t, maker, instrument)
    if m.accounts_on:
        buys = taker_side == 0  # the two sides change places without a branch (`release_lock`)
        buyer_slot = taker_slot if buys else maker_slot
        seller_slot = maker_slot if buys else taker_slot
        buyer = t.orders[buyer_slot].account
        seller = t.orders[seller_slot].account
        buyer_limit = limit if buys else price
        buyer_leaves = leaves if buys else maker_leaves
        buyer_fee = _pay(t, m, buyer_slot, buyer, instrument, buyer_limit, buyer_leaves, price, quantity)
        seller_fee = _deliver(t, m, seller_slot, seller, instrument, price, quantity)
        d = t.deals[m.deals]
        d.time_ns = c.time_ns
        d.price = price
        d.quantity = quantity
        d.seq = c.seq
        d.buyer_fee = buyer_fee
        d.seller_fee = seller_fee
        d.buyer = buyer
        d.seller = seller
        d.number = number
        d.instrument = instrument
        d.method = LISTED
        d.flags = DEAL_BUYER_TAKES if taker_side == 0 else 0
    m.deals = number
    _statistics(m, t.instruments[instrument], price, quantity)
    _remember_fill(t, maker_slot, maker_leaves - quantity, quantity, amount)
    _remember_fill(t, taker_slot, leaves - quantity, quantity, amount)
    w = emit_order(t, w, c, E_FILL_MAKER, maker_slot, price, quantity, maker_leaves - quantity, np.uint32(number), ZERO)
    w = emit_order(t, w, c, E_FILL_TAKER, taker_slot, price, quantity, leaves - quantity, np.uint32(number), ZERO)
    if quantity == maker_leaves:
        if m.accounts_on:
            t.accounts[np.uint64(maker.account)].open_orders -= 1
        remove(t.orders, t.levels, t.sides, t.bitmap, s, maker_slot)  # from the middle of its level, when taken
        free(t, maker_slot)
    else:
        reduce(t.orders, t.levels, t.sides, s, maker_slot, quantity)
    return w, quantity
