"""The rows of the bare-book benchmark on the exchange's book: no accounts, no events, a hash over the trades.

`benchmarks/ladder_kernel.py` runs the same rows on a book that keeps less.

A row is five int32: op, order_id, side, price (ticks), qty. What a row means where it could mean two things:

- A cancel, reduce or replace of an id that does not rest is ignored; so is a new order whose id still rests (D18).
- A reduce by as much as is left, or more, removes the order. It keeps its priority otherwise.
- A replace takes the order out and enters price and qty of the row anew under the same id, on the order's own side
  (D11, last sentence): it always loses its priority and may trade. A qty of 0 or less only takes it out.
- A new order of qty 0 or less, and a reduce by 0 or less, are ignored.

The hash runs over maker id, taker id, price and qty of each trade, in order: h = 1469598103934665603 at first (the
number as written, one digit short of FNV's own), then h = (h ^ x) * 1099511628211 modulo 2^64 for each of the four x
(sign-extended to 64 bits).
"""

# mypy: disable-error-code="no-untyped-def, call-arg"

from __future__ import annotations

from typing import Final

import numpy as np

from benchmarks.ids import FAR, NEAR, look_ahead, position
from engine.book import allocate, append, head_of, kernel, level_of, part, pop_head, reduce, release, remove, tick_of

NEW: Final = 0
CANCEL: Final = 1
REDUCE: Final = 2
REPLACE: Final = 3
ROW: Final = np.dtype([(name, "<i4") for name in ("op", "order_id", "side", "price", "qty")])
"""A row as a record: its place is a constant times its number, which a two-dimensional array cannot promise."""

HASH_START: Final = np.uint64(1469598103934665603)
HASH_PRIME: Final = np.uint64(1099511628211)

RESULT: Final = np.dtype([("trades", "<i8"), ("volume", "<i8"), ("hash", "<u8")])

_U1: Final = np.uint64(1)


@part
def _mix(h, x):
    return (h ^ np.uint64(x)) * HASH_PRIME


@part
def _match(book, base, trades, volume, h, side, tick, leaves, order_id):
    """Trade ``leaves`` of an incoming order. Returns (trades, volume, hash) so far and what is left of it."""
    orders, pool, sides, levels, bitmap = book
    opposite = side ^ _U1
    limit = level_of(sides, opposite, tick)
    while leaves > 0:
        best = np.uint64(sides[opposite].best)
        if best > limit:
            break
        slot = np.uint64(head_of(levels, sides, opposite, best))
        maker = orders[slot]
        traded = min(leaves, maker.leaves)
        h = _mix(_mix(h, np.int64(np.int32(maker.account))), order_id)
        h = _mix(_mix(h, base + np.int64(tick_of(sides, opposite, best))), traded)
        trades += 1
        volume += traded
        leaves -= traded
        if traded == maker.leaves:
            pop_head(orders, levels, sides, bitmap, opposite, best)
            release(orders, pool, slot)
        else:
            reduce(orders, levels, sides, opposite, slot, traded)
    return trades, volume, h, leaves


@kernel
def run(rows, book, ids, base, result):
    """Apply all rows (ROW, (N,)) to ``book``, one instrument; ``base`` (i8) is the price of tick 0.

    Writes RESULT. ORDER.account holds the external id.
    """
    orders, pool, sides, levels, bitmap = book
    slot_of = ids.slot_of
    last = np.uint64(len(rows)) - _U1
    trades = 0
    volume = 0
    h = HASH_START
    for i in range(np.uint64(len(rows))):
        if ids.dense:
            far_id = np.int64(rows[min(i + FAR, last)].order_id)
            near_id = np.int64(rows[min(i + NEAR, last)].order_id)
            look_ahead(ids, orders, far_id, near_id)
        row = rows[i]
        op = row.op
        order_id = np.int64(row.order_id)
        quantity = np.int64(row.qty)
        tick = np.uint64(np.int64(row.price) - base)
        at = position(ids, order_id)
        slot = np.uint64(slot_of[at])
        order = orders[slot]
        live = order.leaves > 0 and np.uint32(order.account) == np.uint32(order_id)
        if op == NEW:
            if live or quantity <= 0:
                continue
            side = np.uint64(row.side)
            trades, volume, h, leaves = _match(book, base, trades, volume, h, side, tick, quantity, order_id)
            if leaves > 0:
                slot = allocate(orders, pool)
                slot_of[at] = slot
                orders[slot].account = np.uint32(order_id)
                orders[slot].flags = side
                append(orders, levels, sides, bitmap, side, slot, level_of(sides, side, tick), leaves)
            continue
        if not live:
            continue
        side = np.uint64(order.flags)
        if op == REDUCE and quantity < order.leaves:
            if quantity > 0:
                reduce(orders, levels, sides, side, slot, quantity)
            continue
        remove(orders, levels, sides, bitmap, side, slot)
        if op == REPLACE and quantity > 0:
            trades, volume, h, leaves = _match(book, base, trades, volume, h, side, tick, quantity, order_id)
            if leaves > 0:
                append(orders, levels, sides, bitmap, side, slot, level_of(sides, side, tick), leaves)
                continue
        release(orders, pool, slot)
    result[0].trades = trades
    result[0].volume = volume
    result[0].hash = h
