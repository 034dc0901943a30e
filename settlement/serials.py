"""Serial numbers as ranges that split and join. No I/O: rows come through a loader.

A range is a pair ``(first, last)``, both included. Serials count from 1 per asset; a serial is printed as
``CEA24-000000000001``. An account always gives its lowest serials first: one rule, the same on every
machine, and ranges that were split meet again more often than under any other.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Final

Range = tuple[int, int]
# load(after, limit) -> the account's stored ranges with first > after, ascending, at most `limit`
Loader = Callable[[int, int], list[Range]]

SERIAL_MAX: Final = 10**12 - 1  # 12 digits: a hundred times the national total of a decade (8 billion t a year)
_NOTHING_LOADED: Final = 0
_ALL_LOADED: Final = SERIAL_MAX + 1
_FIRST_LOAD: Final = 32  # most accounts hold fewer ranges than this


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


class RangeWindow:
    """The serial ranges of one account, loaded from the lowest on as far as needed.

    ``_head`` holds every range below ``_edge``, joined; ``_tail`` what came in at or above it and is not yet
    merged with what is stored there. So a settlement keeps in memory what it touches, not what there is.
    """

    __slots__ = ("_edge", "_head", "_load", "_next_load", "_stored", "_tail")

    def __init__(self, load: Loader) -> None:
        self._load = load
        self._head: list[Range] = []
        self._tail: list[Range] = []
        self._stored: dict[int, int] = {}
        self._edge = _NOTHING_LOADED
        self._next_load = _FIRST_LOAD

    def preload(self, rows: list[Range], limit: int) -> None:
        """Rows that the caller has already read: the first ``limit`` of the account."""
        if self._edge == _NOTHING_LOADED and not self._head:
            self._merge(rows, limit)

    def take(self, quantity: int) -> list[Range]:
        """Remove the ``quantity`` lowest serials; the pieces in ascending order. Asserts that there are enough."""
        assert quantity > 0
        pieces: list[Range] = []
        while quantity:
            while not self._head:
                assert self._edge != _ALL_LOADED, "an account's ranges hold less than its balance"
                self._merge(self._load(self._edge - 1 if self._edge else 0, self._next_load), self._next_load)
                self._next_load *= 2
            first, last = self._head[0]
            length = last - first + 1
            if length <= quantity:
                pieces.append((first, last))
                del self._head[0]
                quantity -= length
            else:
                pieces.append((first, first + quantity - 1))
                self._head[0] = (first + quantity, last)
                quantity = 0
        return pieces

    def put(self, pieces: Iterable[Range]) -> None:
        """Add ranges that this account did not hold."""
        for piece in pieces:
            if piece[0] < self._edge:
                self._insert(piece)
            elif self._tail and self._tail[-1][1] + 1 == piece[0]:
                self._tail[-1] = (self._tail[-1][0], piece[1])
            else:
                self._tail.append(piece)

    def changes(self) -> tuple[list[int], list[Range]]:
        """(firsts of stored rows to delete, rows to insert) that bring the table to this state."""
        now = dict(self._head)
        now.update(join(self._tail))
        gone = [first for first, last in self._stored.items() if now.get(first) != last]
        new = [(first, last) for first, last in now.items() if self._stored.get(first) != last]
        return gone, new

    def _insert(self, piece: Range) -> None:
        first, last = piece
        at = bisect_left(self._head, piece)
        if at < len(self._head) and self._head[at][0] == last + 1:
            last = self._head.pop(at)[1]
        if at and self._head[at - 1][1] + 1 == first:
            self._head[at - 1] = (self._head[at - 1][0], last)
        else:
            assert not at or self._head[at - 1][1] < first, "serial ranges overlap"
            self._head.insert(at, (first, last))

    def _merge(self, rows: list[Range], limit: int) -> None:
        assert len(rows) <= limit
        self._stored.update(rows)
        self._edge = rows[-1][1] + 1 if len(rows) == limit else _ALL_LOADED
        near = [piece for piece in self._tail if piece[0] < self._edge]
        self._tail = [piece for piece in self._tail if piece[0] >= self._edge]
        self._head = join([*self._head, *rows, *near])
