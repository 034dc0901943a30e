"""Matching: the order in flight against the other side, and how it ends."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from engine.book import append, head_of, level_of
from engine.kernel.answers import E_CANCELLED, R_BEYOND_BEST_FIVE, R_IOC_REST, R_SELF_TRADE, R_TURNOVER_LIMIT
from engine.kernel.cancel import cancel
from engine.kernel.control import DEALS_FULL, DONE, OUTPUT_FULL, ROOM
from engine.kernel.deals import deal
from engine.kernel.events import emit_order
from engine.kernel.locks import free, release_lock
from engine.kernel.tables import U0, ZERO, tables_at, tick_at
from engine.machine_code import part, shared
from engine.market import CANCEL_INCOMING, CANCEL_RESTING, LISTING
from engine.records import LIMIT, POST_ONLY
from engine.rules import TURNOVER_MAX_FEN


@part
def is_counted_out(t, m, i, maker, taker):
    """Has the vintage's turnover, or what the seller got for its sales, reached what a day can count (int64)?"""
    if m.accounts_on:
        seller = maker.account if maker.flags & 1 else taker.account
        if t.accounts[np.uint64(seller)].proceeds_today > TURNOVER_MAX_FEN:
            return True
    return i.amount > TURNOVER_MAX_FEN


@shared
def end_incoming(address, w, c, slot, price, rest, reason):
    """An incoming order ends without resting: its rest, if any, is cancelled and its lock given back. Returns w."""
    t = tables_at(address)
    m = t.market[np.uint64(0)]
    order = t.orders[slot]
    if rest > 0:
        if m.accounts_on:
            order.leaves = rest
            release_lock(t, m, slot, order.account, np.uint64(order.instrument), order.flags & 1, price, rest)
            order.leaves = 0
        w = emit_order(t, w, c, E_CANCELLED, slot, price, rest, ZERO, c.request_no, reason)
    if m.accounts_on:
        t.accounts[np.uint64(order.account)].open_orders -= 1
    free(t, slot)
    return w


@shared
def match_order(address, w, c):
    """The order in flight against the opposite side: best level first, FIFO inside; then it rests, or it ends.

    Returns (w, status): DONE, or what is full.
    """
    t = tables_at(address)
    m = t.market[U0]
    k = t.control[U0]
    slot = np.uint64(k.slot)
    order = t.orders[slot]
    instrument = np.uint64(order.instrument)
    i = t.instruments[instrument]
    own = np.uint64(2) * instrument + np.uint64(order.flags & 1)
    opposite = own ^ np.uint64(1)
    tick = tick_at(i, k.price, i.tick)
    limit_level = level_of(t.sides, opposite, tick)
    rests = k.order_type == LIMIT or k.order_type == POST_ONLY
    reason = np.int64(-1) if rests else np.int64(R_IOC_REST)  # why its rest must not rest, -1: it may
    while k.leaves > 0 and i.policy != LISTING:
        best = np.uint64(t.sides[opposite].best)
        if best > limit_level:
            break
        if best != np.uint64(k.level):
            if i.best_levels != 0 and k.visited == i.best_levels:
                reason = np.int64(R_BEYOND_BEST_FIVE) if rests else reason
                break
            k.visited += 1
            k.level = np.int64(best)
        if w + ROOM > k.event_capacity:
            return w, np.int64(OUTPUT_FULL)
        if m.accounts_on and np.int64(m.deals) >= k.n_deals:
            return w, np.int64(DEALS_FULL)
        maker_slot = np.uint64(head_of(t.levels, t.sides, opposite, best))
        if m.self_trade_on and t.orders[maker_slot].account == order.account:
            mode = t.accounts[np.uint64(order.account)].self_trade if m.accounts_on else np.uint8(CANCEL_INCOMING)
            if mode != CANCEL_INCOMING:
                w = cancel(address, w, c, maker_slot, np.uint32(0), R_SELF_TRADE)
            if mode != CANCEL_RESTING:
                reason = np.int64(R_SELF_TRADE)
                break
        elif is_counted_out(t, m, i, t.orders[maker_slot], order):
            reason = np.int64(R_TURNOVER_LIMIT)
            break
        else:
            w, quantity = deal(address, w, c, maker_slot, slot, k.price, k.leaves)
            k.leaves -= quantity
    if k.leaves > 0 and reason < 0:
        append(t.orders, t.levels, t.sides, t.bitmap, own, slot, level_of(t.sides, own, tick), k.leaves)
        return w, np.int64(DONE)
    return end_incoming(address, w, c, slot, k.price, k.leaves, reason), np.int64(DONE)
