"""The best levels of a book side, for those who look at its depth."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from numba import int64

from engine.book import next_level
from engine.kernel.tables import tables_at
from engine.machine_code import entry
from engine.rows import rows_at


@entry(int64(int64, int64, int64, int64))
def best_levels(control_address, side, levels_address, count):
    """Writes the best occupied levels of side record ``side``, best first and ``count`` at most, as u8 at an address.

    Returns how many there are.
    """
    t = tables_at(control_address)
    found = rows_at(levels_address, np.uint64)
    s = np.uint64(side)
    end = np.uint64(t.sides[s].n_levels)
    n = np.int64(0)
    level = np.uint64(t.sides[s].best)
    while level < end and n < count:
        found[np.uint64(n)] = level
        n += 1
        level = next_level(t.sides, t.bitmap, s, level)
    return n
