"""Serial numbers as ranges that split and join. No I/O: rows come through a loader.

A range is a pair ``(first, last)``, both included; a dated range has the day of receipt in front. Serials
count from 1 per asset; a serial is printed as ``CEA24-000000000001``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Final

import numpy as np

Range = tuple[int, int]
DatedRange = tuple[int, int, int]  # (day YYYYMMDD, first, last)
# load(after, limit) -> the account's stored ranges with (day, first) > after, ascending, at most `limit`
Loader = Callable[[tuple[int, int], int], list[DatedRange]]

SERIAL_MAX: Final = 10**12 - 1  # 12 digits: a hundred times the national total of a decade (8 billion t a year)
_NOTHING_LOADED: Final = (0, 0)
_ALL_LOADED: Final = (99_991_231, SERIAL_MAX + 1)
FIRST_LOAD: Final = 8  # a block of deals rarely takes more ranges of one seller


def serial_text(asset: str, serial: int) -> str:
    """``('CEA24', 17)`` -> ``'CEA24-000000000017'``."""
    return f"{asset}-{serial:012d}"


def parse_serial(text: str) -> tuple[str, int] | None:
    """The asset and number of a printed serial, or None."""
    asset, dash, digits = text.rpartition("-")
    if not dash or not asset or len(digits) != 12 or not (digits.isascii() and digits.isdigit()):
        return None
    return asset, int(digits)


def span_class(first: int, last: int) -> int:
    """Bits of the range's length: lengths of class k are in [2^(k-1), 2^k).

    Serial history is found by asking, per class k, for ranges that start in (s - 2^k, s]: ranges of one
    generation don't overlap, so at most three of a class start there. Portable, no interval index needed.
    """
    return (last - first + 1).bit_length()


def span_classes(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """``span_class`` of many ranges (int64): frexp's exponent is the bit length, exact below 2^53."""
    return np.frexp((last - first + 1).astype(np.float64))[1].astype(np.int64)


def total(ranges: Iterable[Range]) -> int:
    """Tonnes in the ranges."""
    return sum(last - first + 1 for first, last in ranges)


def join(ranges: Iterable[Range]) -> list[Range]:
    """Sorted ranges with neighbours joined. O(n log n). Asserts that none overlap."""
    joined: list[Range] = []
    for first, last in sorted(ranges):
        assert first <= last, "a range runs backwards"
        if joined and joined[-1][1] + 1 == first:
            joined[-1] = (joined[-1][0], last)
        else:
            assert not joined or joined[-1][1] < first, "serial ranges overlap"
            joined.append((first, last))
    return joined


def join_dated(ranges: Iterable[DatedRange]) -> list[DatedRange]:
    """Sorted by (day, first), with neighbours of one day joined. Asserts that none of a day overlap."""
    joined: list[DatedRange] = []
    for day, first, last in sorted(ranges):
        if joined and joined[-1][0] == day and joined[-1][2] + 1 >= first:
            assert joined[-1][2] + 1 == first, "serial ranges overlap"
            joined[-1] = (day, joined[-1][1], last)
        else:
            joined.append((day, first, last))
    return joined


class RangeWindow:
    """The serial ranges of one account, loaded in the order in which they are given.

    An account gives what it received on the earliest day first, and of one day the lowest serials first. So
    what was bought today goes last (T+1 in the serials, too), a day's deals don't chop each other's pieces,
    and which serials a deal moves does not depend on how the day was cut into blocks.

    ``_head`` holds every range whose key (day, first) is below ``_edge``; ``_tail`` what came in at or above it
    and is not yet merged with what is stored there. So a settlement keeps in memory what it touches, not
    what there is. Neighbours of one day are joined.
    """

    __slots__ = ("_edge", "_head", "_load", "_next_load", "_stored", "_tail")

    def __init__(self, load: Loader) -> None:
        self._load = load
        self._head: list[DatedRange] = []
        self._tail: list[DatedRange] = []
        self._stored: dict[int, DatedRange] = {}
        self._edge = _NOTHING_LOADED
        self._next_load = FIRST_LOAD

    def preload(self, rows: list[DatedRange], limit: int) -> None:
        """Rows that the caller has already read: the first ``limit`` of the account."""
        if self._edge == _NOTHING_LOADED:
            self._merge(rows, limit)

    def take(self, quantity: int) -> list[Range]:
        """Remove the next ``quantity`` serials; the pieces in the order given. Asserts that there are enough."""
        assert quantity > 0
        pieces: list[Range] = []
        while quantity:
            while not self._head:
                assert self._edge != _ALL_LOADED, "an account's ranges hold less than its balance"
                self._merge(self._load(self._edge, self._next_load), self._next_load)
                self._next_load *= 2
            day, first, last = self._head[0]
            length = last - first + 1
            if length <= quantity:
                pieces.append((first, last))
                del self._head[0]
                quantity -= length
            else:
                pieces.append((first, first + quantity - 1))
                self._head[0] = (day, first + quantity, last)
                quantity = 0
        return pieces

    def put(self, day: int, pieces: Iterable[Range]) -> None:
        """Add ranges that this account did not hold, received on ``day`` (YYYYMMDD)."""
        for first, last in pieces:
            if (day, first) <= self._edge:
                self._insert(day, first, last)
            elif self._tail and self._tail[-1][0] == day and self._tail[-1][2] + 1 == first:
                self._tail[-1] = (day, self._tail[-1][1], last)
            else:
                self._tail.append((day, first, last))

    def changes(self) -> tuple[list[DatedRange], list[DatedRange]]:
        """(stored rows to delete, rows to insert) that bring the table to this state."""
        now = {row[1]: row for row in (*self._head, *join_dated(self._tail))}
        gone = [row for first, row in self._stored.items() if now.get(first) != row]
        new = [row for first, row in now.items() if self._stored.get(first) != row]
        return gone, new

    def _insert(self, day: int, first: int, last: int) -> None:
        at = bisect_left(self._head, (day, first, last))
        if at < len(self._head) and self._head[at][0] == day and self._head[at][1] == last + 1:
            last = self._head.pop(at)[2]
        if at and self._head[at - 1][0] == day and self._head[at - 1][2] + 1 == first:
            self._head[at - 1] = (day, self._head[at - 1][1], last)
        else:
            self._head.insert(at, (day, first, last))

    def _merge(self, rows: list[DatedRange], limit: int) -> None:
        assert len(rows) <= limit
        self._stored.update((row[1], row) for row in rows)
        self._edge = rows[-1][:2] if len(rows) == limit else _ALL_LOADED
        near = [row for row in self._tail if row[:2] <= self._edge]
        self._tail = [row for row in self._tail if row[:2] > self._edge]
        self._head = join_dated([*self._head, *rows, *near])
