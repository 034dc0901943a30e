"""The match loop of the public matching-engine benchmark (arXiv 2606.01183) on the bare book of engine/book.py.

Its rules, corner by corner (the published adapters' behaviour; where those differ from each other the case is outside
the benchmark's contract and the choice below is ours):

- A new order is acknowledged first, then trades at the makers' prices, then its rest rests; the rest of an
  immediate-or-cancel order is cancelled instead, with its own price in the report.
- A modify is a cancel and a new order under the same id with the *message's* side, price and quantity: priority is
  always lost, it may trade, its acknowledgement comes after its trades. `ioc` means nothing there.
- A cancel reports the resting order's own side and price; the message's are not looked at.
- A cancel or modify of an id that does not rest (filled, cancelled, never seen) is rejected. A dead id may come again.
- Quantity 0 is acknowledged and leaves nothing behind (ours). A new order under a live id rests beside the older one,
  and the id names the newer from then on; the older can only be filled (ours).

MESSAGE, 16 bytes, is the input; REPORT, 24 bytes, the output: fields of one report that its kind does not have are 0.
"""

# mypy: disable-error-code="no-untyped-def, call-arg"

from __future__ import annotations

from typing import Final

import numpy as np

from benchmarks.ids import FAR, NEAR, look_ahead, position
from engine.book import (
    allocate,
    append,
    head_of,
    kernel,
    level_of,
    part,
    pop_head,
    prefetch_level,
    reduce,
    release,
    remove,
    tick_of,
)

MESSAGE: Final = np.dtype(
    [
        ("type", "u1"),
        ("side", "u1"),
        ("ioc", "u1"),
        ("pad", "u1"),
        ("qty", "<u4"),
        ("order_id", "<u4"),
        ("price", "<u4"),
    ]
)
NEW: Final = 0
CANCEL: Final = 1
MODIFY: Final = 2

REPORT: Final = np.dtype(
    [
        ("seq", "<u4"),
        ("price", "<u4"),
        ("qty", "<u4"),
        ("order_id", "<u4"),  # the maker's in a trade
        ("taker_id", "<u4"),  # trades only
        ("kind", "u1"),
        ("side", "u1"),
        ("pad", "<u2"),
    ]
)
REPORT_WORDS: Final = np.dtype([("seq_price", "<u8"), ("qty_order_id", "<u8"), ("taker_kind_side", "<u8")])
"""A REPORT as the kernel writes it: three stores instead of eight."""

ACKNOWLEDGED: Final = 0
TRADE: Final = 1
CANCELLED: Final = 2
MODIFIED: Final = 3
CANCEL_REJECTED: Final = 4
MODIFY_REJECTED: Final = 5

assert MESSAGE.itemsize == 16
assert REPORT.itemsize == REPORT_WORDS.itemsize == 24

_U0: Final = np.uint64(0)
_U1: Final = np.uint64(1)
_U32: Final = np.uint64(32)
_U40: Final = np.uint64(40)


def reports_max(messages: np.ndarray) -> int:
    """Most reports that a stream can cause: one a message and, for each order entered, its own end, its last trade as
    taker and the rest of an immediate order; every trade ends its maker or its taker."""
    return len(messages) + 3 * int((messages["type"] != CANCEL).sum())


@part
def _write(reports, n, kind, seq, side, order_id, taker_id, price, qty):
    report = reports[n]
    report.seq_price = np.uint64(seq) | (np.uint64(price) << _U32)
    report.qty_order_id = np.uint64(qty) | (np.uint64(order_id) << _U32)
    report.taker_kind_side = np.uint64(taker_id) | (np.uint64(kind) << _U32) | (np.uint64(side) << _U40)
    return n + _U1


@part
def _match(book, base, reports, n, seq, side, tick, leaves, order_id):
    """Trade ``leaves`` of an incoming order against the other side. Returns (reports so far, what is left)."""
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
        price = base + tick_of(sides, opposite, best)
        n = _write(reports, n, TRADE, seq, 0, maker.account, order_id, price, traded)
        leaves -= traded
        if traded == maker.leaves:
            pop_head(orders, levels, sides, bitmap, opposite, best)
            release(orders, pool, slot)
        else:
            reduce(orders, levels, sides, opposite, slot, traded)
    return n, leaves


@kernel
def run(messages, start, stop, book, ids, base, reports):
    """Apply messages ``start`` … ``stop - 1``. Returns the number of reports written, from reports[0] on.

    ``book`` is a Book of one instrument, ``ids`` an IdTable, ``base`` (u8) the price of tick 0; ``reports``
    (REPORT_WORDS) has room for `reports_max`. ORDER.account holds the external id, so that a slot to which an id once
    pointed is known to be no longer its own, and the table need never be cleared.
    """
    orders, pool, sides, levels, bitmap = book
    slot_of = ids.slot_of
    n = _U0
    last = np.uint64(stop) - _U1
    for i in range(np.uint64(start), np.uint64(stop)):
        if ids.dense:
            far_id = np.int64(messages[min(i + FAR, last)].order_id)
            near = messages[min(i + NEAR, last)]
            look_ahead(ids, orders, far_id, np.int64(near.order_id))
            prefetch_level(levels, sides, np.uint64(near.side), np.uint64(near.price) - base)
        message = messages[i]
        order_id = message.order_id
        at = position(ids, np.int64(order_id))
        tick = np.uint64(message.price) - base
        quantity = np.int64(message.qty)
        if message.type == NEW:
            side = np.uint64(message.side)
            n = _write(reports, n, ACKNOWLEDGED, i, message.side, order_id, 0, message.price, message.qty)
            n, leaves = _match(book, base, reports, n, i, side, tick, quantity, order_id)
            if leaves > 0:
                if message.ioc != 0:
                    n = _write(reports, n, CANCELLED, i, message.side, order_id, 0, message.price, 0)
                else:
                    slot = allocate(orders, pool)
                    slot_of[at] = slot
                    orders[slot].account = order_id
                    orders[slot].flags = message.side
                    append(orders, levels, sides, bitmap, side, slot, level_of(sides, side, tick), leaves)
            continue
        slot = np.uint64(slot_of[at])
        order = orders[slot]
        if order.leaves <= 0 or order.account != order_id:
            n = _write(reports, n, message.type + 3, i, 0, order_id, 0, 0, 0)
            continue
        side = np.uint64(order.flags)
        if message.type == CANCEL:
            price = base + tick_of(sides, side, order.level)
            n = _write(reports, n, CANCELLED, i, order.flags, order_id, 0, price, 0)
            remove(orders, levels, sides, bitmap, side, slot)
            release(orders, pool, slot)
        else:
            remove(orders, levels, sides, bitmap, side, slot)
            side = np.uint64(message.side)
            n, leaves = _match(book, base, reports, n, i, side, tick, quantity, order_id)
            n = _write(reports, n, MODIFIED, i, message.side, order_id, 0, message.price, message.qty)
            if leaves > 0:
                order.flags = message.side
                append(orders, levels, sides, bitmap, side, slot, level_of(sides, side, tick), leaves)
            else:
                release(orders, pool, slot)
    return n
