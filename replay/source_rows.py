"""What every importer of another market's session makes: batches of ROW records and the ids that they name.

Kinds are those of the command stream (``replay.l3_text``): a new order, an immediate one, cancel, reduce, an expected
fill of the order before, and two checks of the book.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import numpy as np

ROW: Final = np.dtype(
    [
        ("price", "<i8"),
        ("quantity", "<i8"),
        ("ref", "<i8"),  # row of the source; of BOOK and BOOK_10: the row of the book file
        ("order", "<u4"),  # where the id begins in the batch's ids; later the order's number (replay.order_ids)
        ("line", "<u4"),  # in the file, from 1
        ("id_bytes", "<u4"),  # the id's length
        ("kind", "u1"),
        ("side", "u1"),  # records.BUY or SELL
        ("spare", "u1", (2,)),
    ]
)

NEW: Final = ord("N")
IMMEDIATE: Final = ord("I")
CANCEL: Final = ord("C")
REDUCE: Final = ord("R")
FILL: Final = ord("F")
BOOK: Final = ord("B")
BOOK_10: Final = ord("K")

BATCH_ROWS: Final = 1 << 16  # of importers that make rows one by one: 2.6 MB


class Batch(NamedTuple):
    """Consecutive rows of a session; an order is never in another batch than its expected fills."""

    rows: np.ndarray  # ROW
    ids: np.ndarray  # u1


class Importer(Protocol):
    """Makes batches of a source: ``l3_text.L3Text``, ``lobster.Lobster``, ``source_orders.Mbo`` and ``OrderTable``."""

    path: Path

    def batches(self) -> Iterator[Batch]:
        """The whole source once, in order. SourceError names file, line and reason of the first broken row."""
        ...


class Rows:
    """A batch in the making, row by row."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, int, int, int, int, int, int]] = []
        self._starts: dict[bytes, int] = {}  # id → where it begins
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._rows)

    def add(
        self, kind: int, line: int, *, order: bytes = b"", side: int = 0, price: int = 0, size: int = 0, ref: int = 0
    ) -> None:
        """One command, expected fill or check."""
        start = self._starts.get(order)
        if start is None:
            start = self._starts[order] = self._bytes
            self._bytes += len(order)
        self._rows.append((price, size, ref, start, line, len(order), kind, side))

    def take(self) -> Batch:
        """What has been added since the last call."""
        rows = np.zeros(len(self._rows), ROW)
        names = ("price", "quantity", "ref", "order", "line", "id_bytes", "kind", "side")
        for name, column in zip(names, zip(*self._rows, strict=True), strict=False):
            rows[name] = column
        batch = Batch(rows, np.frombuffer(bytearray(b"".join(self._starts)), np.uint8))
        self._rows, self._starts, self._bytes = [], {}, 0
        return batch
