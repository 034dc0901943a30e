"""A made-up but lifelike order stream for the bare-book benchmark, in the manner of the QuantCup feed.

The mid price walks at random; new orders rest a few ticks from it (exponential distances, most near the touch), one in
eight is priced through it and trades; later rows name mostly young orders: cancels, partial reductions and replaces by
up to three ticks. A row may name an order that has meanwhile been filled, as real feeds of requests do. Shares of the
rows: 55 % new, 32 % cancel, 7 % reduce, 6 % replace.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from benchmarks.book_kernel import CANCEL, NEW, REDUCE, REPLACE

MID_START_TICKS: Final = 10_000
STEP_TICKS: Final = 0.05  # standard deviation of the mid's step, per row
DISTANCE_TICKS: Final = 12.0  # mean distance of a resting order from the mid
SHARE_NEW: Final = 0.55
SHARE_CANCEL: Final = 0.32
SHARE_REDUCE: Final = 0.07
SHARE_MARKETABLE: Final = 0.12  # of the new orders
AGE_ORDERS: Final = 400.0  # mean age, in younger open orders, of the order that a row names
QTY_MAX: Final = 100


def generate(rows: int, seed: int) -> np.ndarray:
    """``rows`` rows as int32 (rows, 5): op, order_id, side, price_ticks, qty. The same seed gives the same rows."""
    random = np.random.default_rng(seed)
    stream = np.zeros((rows, 5), np.int32)
    steps = np.cumsum(random.standard_normal(rows) * STEP_TICKS)
    # reflected, so that the band stays narrow however long the stream is
    mids = MID_START_TICKS + (np.abs((steps + 500) % 2000 - 1000) - 500).astype(np.int64)
    _fill(stream, mids, random.random((rows, 5)), np.zeros(rows, np.int64))
    return stream


@njit(cache=True)
def _fill(stream, mids, uniform, open_rows):
    count = 0
    order_id = 0
    for i in range(len(stream)):
        what, which, marketable, where, size = uniform[i]
        row = stream[i]
        row[4] = 1 + int(size * QTY_MAX)
        if what < SHARE_NEW or count == 0:
            order_id += 1
            side = 0 if which < 0.5 else 1
            distance = 1 + int(-np.log(1.0 - where) * DISTANCE_TICKS)
            if marketable < SHARE_MARKETABLE:
                distance = -int(where * 4)
            row[0] = NEW
            row[1] = order_id
            row[2] = side
            row[3] = mids[i] - distance if side == 0 else mids[i] + distance
            open_rows[count] = i
            count += 1
            continue
        at = count - 1 - min(int(-np.log(1.0 - which) * AGE_ORDERS), count - 1)
        named = stream[open_rows[at]]
        row[1:4] = named[1:4]
        if what < SHARE_NEW + SHARE_CANCEL:
            row[0] = CANCEL
            count -= 1
            open_rows[at] = open_rows[count]
        elif what < SHARE_NEW + SHARE_CANCEL + SHARE_REDUCE:
            row[0] = REDUCE
            row[4] = 1 + row[4] // 4
        else:
            row[0] = REPLACE
            row[3] += int(where * 7) - 3
