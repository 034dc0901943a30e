"""Machine code of the public feeds: what of a batch's events a feed needs, and which levels have changed."""

# mypy: ignore-errors
from __future__ import annotations

import numpy as np

from engine.book import tick_of
from engine.machine_code import native
from engine.records import FILL_MAKER, NOTICE


@native()
def pick(events, deals, n_deals, touched):  # type: ignore[no-untyped-def]
    """Keeps what a feed needs of a batch: its deals, and which instruments may have changed.

    events: EVENT[n]; deals: EVENT, room for n more behind ``n_deals``; touched: uint8 by instrument.
    Returns (deals kept so far, notices of this batch).
    """
    notices = 0
    for i in range(events.size):
        kind = events[i].kind
        if kind >= NOTICE:
            notices += 1
            continue
        touched[events[i].instrument] = 1
        if kind == FILL_MAKER:
            deals[n_deals] = events[i]
            n_deals += 1
    return n_deals, notices


@native()
def compare(sides, levels, s, base, tick, quantity, count, moved, top):  # type: ignore[no-untyped-def]
    """Finds what changed on side record ``s`` since the last time.

    base, tick: fen. quantity, count: int64[n_levels], what was seen last, brought up to date. moved: int64[n, 3],
    top: int64[any, 3]: price (fen), quantity (t), orders. Returns how many rows of ``moved`` and of ``top`` hold.
    """
    offset = np.int64(sides[s].levels_offset)
    n_moved = n_top = 0
    for i in range(quantity.size):
        q, c = levels[offset + i].quantity, np.int64(levels[offset + i].count)
        changed = q != quantity[i] or c != count[i]
        listed = c != 0 and n_top < top.shape[0]
        if not changed and not listed:
            continue
        price = base + np.int64(tick_of(sides, s, i)) * tick
        if changed:
            quantity[i], count[i] = q, c
            moved[n_moved, 0], moved[n_moved, 1], moved[n_moved, 2] = price, q, c
            n_moved += 1
        if listed:
            top[n_top, 0], top[n_top, 1], top[n_top, 2] = price, q, c
            n_top += 1
    return n_moved, n_top
