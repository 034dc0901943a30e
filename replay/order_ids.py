"""Order ids of a source (any bytes) as small numbers, which are given again when the order is gone from the book.

Whether it is gone is asked of the engine's own book. So the table holds the orders that are open, and a few that have
gone since the last clearing, however many a session has.
"""

# mypy: disable-error-code="no-untyped-def, call-arg"

from __future__ import annotations

from typing import Any, Final

import numpy as np

from engine.book import find, kernel
from replay.source_rows import CANCEL, FILL, NEW, REDUCE

ID: Final = np.dtype([("start", "<i8"), ("length", "<i4"), ("used", "<i4")])
IDS_AT_FIRST: Final = 1 << 16
BYTES_PER_ID: Final = 12  # of the first room; an exchange's own numbers are that long

_U0: Final = np.uint64(0)


@kernel
def _place_of(table, entries, arena, text, start, length):
    """Where an id stands in the table, or where it would: open addressing, FNV-1a, bytes compared."""
    h = np.uint64(0xCBF29CE484222325)
    for at in range(start, start + length):
        h = (h ^ np.uint64(text[at])) * np.uint64(0x100000001B3)
    mask = np.uint64(len(table) - 1)
    place = (h ^ (h >> np.uint64(29))) & mask
    while table[place] != 0:
        entry = entries[table[place]]
        if entry.length == length:
            same = True
            for offset in range(length):
                if arena[entry.start + offset] != text[start + offset]:
                    same = False
                    break
            if same:
                return place
        place = (place + np.uint64(1)) & mask
    return place


@kernel
def _number(rows, text, table, entries, arena, free, counts):
    """Replaces where an id begins by the id's number. ``counts``: numbers that are free, bytes used of ``arena``."""
    for r in range(len(rows)):
        row = rows[r]
        kind = row.kind
        if kind != NEW and kind != CANCEL and kind != REDUCE and kind != FILL:
            row.order = 0
            continue
        start = np.int64(row.order)
        length = np.int64(row.id_bytes)
        place = _place_of(table, entries, arena, text, start, length)
        if table[place] == 0:
            counts[0] -= 1
            number = free[counts[0]]
            begin = counts[1]
            for offset in range(length):
                arena[begin + offset] = text[start + offset]
            counts[1] = begin + length
            entry = entries[number]
            entry.start = begin
            entry.length = length
            entry.used = 1
            table[place] = number
        row.order = table[place]


@kernel
def _clear(orders, pool, engine_ids, table, entries, arena, spare, free, counts):
    """Forgets ids whose order is not open; the others keep their numbers. Returns how many are left."""
    table[:] = 0
    counts[0] = 0
    used = np.int64(0)
    left = 0
    for number in range(len(entries) - 1, 0, -1):
        entry = entries[number]
        if entry.used and find(orders, pool, engine_ids[number]) == _U0:
            entry.used = 0
            engine_ids[number] = _U0
        if not entry.used:
            free[counts[0]] = number
            counts[0] += 1
            continue
        left += 1
        for offset in range(entry.length):
            spare[used + offset] = arena[entry.start + offset]
        entry.start = used
        table[_place_of(table, entries, spare, spare, used, entry.length)] = number
        used += entry.length
    counts[1] = used
    return left


class OrderIds:
    """``engine_ids``: u8 per number, what the engine called the order; 0 before it has one."""

    def __init__(self) -> None:
        self.engine_ids = np.zeros(0, np.uint64)
        self._entries = np.zeros(0, ID)
        self._arena = np.zeros(0, np.uint8)
        self._counts = np.zeros(2, np.int64)
        self._resize(IDS_AT_FIRST, IDS_AT_FIRST * BYTES_PER_ID)

    def _resize(self, ids: int, size: int) -> None:
        """Room for so many ids and bytes; numbers stay."""
        old = len(self._entries)
        for name, dtype in (("engine_ids", np.uint64), ("_entries", ID)):
            grown = np.zeros(ids + 1, dtype)  # number 0 is no order
            grown[:old] = getattr(self, name)[:old]
            setattr(self, name, grown)
        arena = np.zeros(size, np.uint8)
        arena[: len(self._arena)] = self._arena
        self._arena, self._spare = arena, np.zeros(size, np.uint8)
        self._free = np.zeros(ids + 1, np.uint32)
        self._table = np.zeros(1 << (2 * ids).bit_length(), np.uint32)

    def number(self, rows: np.ndarray, ids: np.ndarray, book: Any) -> None:
        """Gives each id in ``rows`` its number, in place. ``book``: the market's tables, asked for who is open."""
        if self._counts[0] < len(rows) or self._counts[1] + len(ids) > len(self._arena):
            self._make_room(len(rows), len(ids), book)
        _number(rows, ids, self._table, self._entries, self._arena, self._free, self._counts)

    def _make_room(self, ids: int, size: int, book: Any) -> None:
        left = self._clear(book)
        used = int(self._counts[1])
        if 2 * left + ids > len(self._entries) - 1 or 2 * used + size > len(self._arena):
            # twice what is open, so that clearing is seldom
            self._resize(max(2 * left + ids, len(self._entries) - 1), max(2 * used + size, len(self._arena)))
            self._clear(book)

    def _clear(self, book: Any) -> int:
        left = _clear(
            book.orders, book.pool, self.engine_ids, self._table, self._entries, self._arena, self._spare,
            self._free, self._counts,
        )  # fmt: skip
        self._arena, self._spare = self._spare, self._arena
        return int(left)
