"""Memory of the hot tables: zeroed, on cache-line boundaries, in huge pages where the kernel gives them.

A book of a day is random access over some ten megabytes. With 4 KiB pages every other access also misses the
translation cache, which on a virtual machine costs more than the data; with 2 MiB pages it does not (measured in
docs/performance.md). Untouched memory costs nothing either way.
"""

from __future__ import annotations

import mmap
import sys
from typing import Final

import numpy as np

CACHE_LINE: Final = 64
HUGE_PAGE: Final = 2 << 20
HUGE_FROM: Final = 128 << 10  # smaller tables fit the translation cache as they are
HUGE_UP_TO: Final = 512 << 20  # beyond, a table is a wide ladder touched here and there: small pages are thriftier
TOUCH_UP_TO: Final = 256 << 20  # a page that is first touched while the market is open costs its command 0.1 ms
# Before Python 3.13 the module lacks the name; another system than Linux has another number, and does without.
NORESERVE: Final = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


def aligned_zeros(n: int, dtype: np.dtype, *, touched: bool = True) -> np.ndarray:
    """``n`` zeroed records, shape (n,), on a cache-line boundary. ``touched``: huge pages are made present at once."""
    size = n * dtype.itemsize
    if HUGE_FROM <= size <= HUGE_UP_TO and hasattr(mmap, "MADV_HUGEPAGE"):
        return _huge(size, touched)[:size].view(dtype)
    raw = np.zeros(size + CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % CACHE_LINE
    return raw[start : start + size].view(dtype)


def _huge(size: int, touched: bool) -> np.ndarray:
    """Bytes on a huge-page boundary; the array keeps the mapping alive."""
    length = -(-size // HUGE_PAGE) * HUGE_PAGE + HUGE_PAGE
    mapping = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    mapping.madvise(mmap.MADV_HUGEPAGE)
    raw = np.frombuffer(mapping, np.uint8)
    start = -raw.ctypes.data % HUGE_PAGE
    table = raw[start : start + length - HUGE_PAGE]
    if touched and size <= TOUCH_UP_TO:
        table[::HUGE_PAGE] = 0
    return table


def reserved(shape: tuple[int, ...], dtype: np.dtype | type, *, most: int = 0, huge: int = 0) -> np.ndarray:
    """Zeros, C-contiguous, on a huge-page boundary; only touched pages take memory. For what grows all day.

    most: rows to have where the system lets us, else ``shape[0]``, else half of that and so on (strict overcommit).
    A table that is copied to grow stands still meanwhile: at 33.5 million orders it was 37 s on a virtual machine
    whose host had not given the pages. huge: bytes at the beginning that may lie in huge pages; others come in small
    ones, since they are written from end to end, once.
    """
    kind = np.dtype(dtype)
    rest = int(np.prod(shape[1:], dtype=np.int64)) * kind.itemsize
    rows = max(most, shape[0])
    while True:
        size = rows * rest
        try:
            mapping = mmap.mmap(-1, size + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE)
            break
        except OSError:
            if rows <= 1:
                raise
            rows = shape[0] if rows > shape[0] else rows // 2
    raw = np.frombuffer(mapping, np.uint8)
    start = -raw.ctypes.data % HUGE_PAGE
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        mapping.madvise(mmap.MADV_NOHUGEPAGE)
        if huge:
            mapping.madvise(mmap.MADV_HUGEPAGE, start, min(-(-huge // HUGE_PAGE) * HUGE_PAGE, size))
    return raw[start : start + size].view(kind).reshape((rows, *shape[1:]))
