"""Fields of a table as Python reads them fastest: one flat sequence of integers over the same memory.

``row["field"]`` of a numpy record makes two objects and takes some 150 ns; ``words[at + FIELD]`` takes 40 and is a
Python int, which cannot overflow silently. For the slow lane, which touches a handful of fields per command;
the kernel has its own way to the same bytes.
"""

from __future__ import annotations

import numpy as np

WORD_BYTES = 8


def words(table: np.ndarray) -> memoryview:
    """The table as int64, shape (records × words per record,). Keeps the table's memory alive."""
    assert table.flags["C_CONTIGUOUS"] and table.dtype.itemsize % WORD_BYTES == 0
    return table.reshape(-1).view(np.int64).data


def octets(table: np.ndarray) -> memoryview:
    """The table as bytes, for its one-byte fields."""
    assert table.flags["C_CONTIGUOUS"]
    return table.reshape(-1).view(np.uint8).data


def word_of(dtype: np.dtype, field: str) -> int:
    """Where an 8-byte field stands in its record, in words."""
    kind, at = dtype.fields[field][:2]  # type: ignore[index]
    assert kind.itemsize == WORD_BYTES and at % WORD_BYTES == 0, field
    return int(at // WORD_BYTES)


def octet_of(dtype: np.dtype, field: str) -> int:
    """Where a one-byte field stands in its record."""
    kind, at = dtype.fields[field][:2]  # type: ignore[index]
    assert kind.itemsize == 1, field
    return int(at)
