"""flash1 kernel draft"""
from __future__ import annotations

import numpy as np

from engine.book import (
    BOOK_SIDE, LEVEL, ORDER, POOL, allocate, append, level_of, new_book, pop_head, prefetch, primitive, kernel, reduce, release, remove, tick_of,
)

MESSAGE = np.dtype([("type","u1"),("side","u1"),("ioc","u1"),("pad","u1"),("qty","<u4"),("order_id","<u4"),("price","<u4")])
REPORT = np.dtype([("seq","<u4"),("price","<u4"),("qty","<u4"),("order_id","<u4"),("taker_id","<u4"),("kind","u1"),("side","u1"),("pad","<u2")])

AHEAD = np.uint64(16)
U1 = np.uint64(1)
U0 = np.uint64(0)

@primitive
def write(reports, n, kind, seq, side, order_id, taker_id, price, qty):
    r = reports[n]
    r.seq = seq
    r.price = price
    r.qty = qty
    r.order_id = order_id
    r.taker_id = taker_id
    r.kind = kind
    r.side = side
    r.pad = 0

@primitive
def match(orders, pool, sides, levels, bitmap, base, reports, n, seq, opposite, tick, leaves, order_id):
    limit = level_of(sides, opposite, tick)
    while leaves > 0:
        best = np.uint64(sides[opposite].best)
        if best > limit:
            break
        slot = np.uint64(levels[np.uint64(sides[opposite].levels_offset) + best].head)
        maker = orders[slot]
        traded = min(leaves, maker.leaves)
        write(reports, n, 1, seq, 0, maker.account, order_id, base + tick_of(sides, opposite, best), traded)
        n += U1
        leaves -= traded
        if traded == maker.leaves:
            pop_head(orders, levels, sides, bitmap, opposite, best)
            release(orders, pool, slot)
        else:
            reduce(orders, levels, sides, opposite, slot, traded)
    return n, leaves

@kernel
def run(messages, orders, pool, sides, levels, bitmap, index, base, reports):
    n = np.uint64(0)
    total = np.uint64(len(messages))
    last = total - U1
    for i in range(total):
        ahead = np.uint64(messages[min(i + AHEAD, last)].order_id)
        prefetch(index, ahead)
        m = messages[i]
        order_id = np.uint64(m.order_id)
        kind = m.type
        if kind == 0:
            side = np.uint64(m.side)
            tick = np.uint64(m.price) - base
            write(reports, n, 0, i, m.side, m.order_id, 0, m.price, m.qty)
            n += U1
            n, leaves = match(orders, pool, sides, levels, bitmap, base, reports, n, i, side ^ U1, tick, np.int64(m.qty), order_id)
            if leaves > 0:
                if m.ioc != 0:
                    write(reports, n, 2, i, m.side, m.order_id, 0, m.price, 0)
                    n += U1
                else:
                    slot = allocate(orders, pool)
                    index[order_id] = slot
                    orders[slot].account = m.order_id
                    orders[slot].flags = m.side
                    append(orders, levels, sides, bitmap, side, slot, level_of(sides, side, tick), leaves)
        else:
            slot = np.uint64(index[order_id])
            order = orders[slot]
            if order.leaves <= 0 or np.uint64(order.account) != order_id:
                write(reports, n, kind + 3, i, 0, m.order_id, 0, 0, 0)
                n += U1
                continue
            side = np.uint64(order.flags)
            if kind == 1:
                write(reports, n, 2, i, order.flags, m.order_id, 0, base + tick_of(sides, side, order.level), 0)
                n += U1
                remove(orders, levels, sides, bitmap, side, slot)
                release(orders, pool, slot)
            else:
                remove(orders, levels, sides, bitmap, side, slot)
                side = np.uint64(m.side)
                tick = np.uint64(m.price) - base
                n, leaves = match(orders, pool, sides, levels, bitmap, base, reports, n, i, side ^ U1, tick, np.int64(m.qty), order_id)
                write(reports, n, 3, i, m.side, m.order_id, 0, m.price, m.qty)
                n += U1
                if leaves > 0:
                    order.flags = m.side
                    append(orders, levels, sides, bitmap, side, slot, level_of(sides, side, tick), leaves)
                else:
                    release(orders, pool, slot)
    return n
