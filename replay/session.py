"""Sessions of other markets on their way into the engine: one interface for all importers, and bounded memory.

An importer gives batches of ROW records (``replay.source_rows``), each with the bytes of the ids that they name. A
:class:`Session` takes them all in before anything is sent: a broken row is told, with file, line and reason, while
nothing is loaded yet. What has been taken in lies in a spool: in memory while it is small, in a temporary file
(without a name, gone with the process) when it is not. So memory depends on the batch and on how many orders are
open at once, not on the session's length.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from replay.ladder import PriceSurvey
from replay.source_files import SourceError
from replay.source_rows import BOOK, BOOK_10, FILL, IMMEDIATE, NEW, ROW, Batch, Importer

SPOOL_BYTES: Final = 64 << 20  # held in memory at most, per spool; AMZN's five levels of a day take 25 MB
SCAN_ROWS: Final = 1 << 18  # of a spool at a time where all of it is gone through


class Spool:
    """Records of one shape in order, appended first and read afterwards, in memory or in a temporary file."""

    def __init__(self, dtype: np.dtype | type, columns: int = 0) -> None:
        """``columns``: of each row; 0: a row is one record."""
        self.dtype, self.columns, self.rows = np.dtype(dtype), columns, 0
        self._row_bytes = self.dtype.itemsize * max(1, columns)
        self._file = tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115 (closed by close)

    def __len__(self) -> int:
        return self.rows

    def add(self, rows: np.ndarray) -> None:
        """Appends rows."""
        self._file.write(np.ascontiguousarray(rows).data)
        self.rows += len(rows)

    def window(self, first: int, last: int) -> np.ndarray:
        """A copy of rows ``first`` … ``last`` − 1, as far as they are there."""
        count = max(0, min(last, self.rows) - first)
        out = np.empty((count, self.columns) if self.columns else count, self.dtype)
        if count:
            self._file.seek(first * self._row_bytes)
            read = self._file.readinto(out.reshape(-1).view(np.uint8).data)
            assert read == count * self._row_bytes, "a spool holds what was appended"
        return out

    def close(self) -> None:
        """Forgets everything."""
        self._file.close()


class Session:
    """All batches of an importer, taken in and looked over: prices and sizes decide how the market is made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows, self.ids = Spool(ROW), Spool(np.uint8)
        self.bounds: list[tuple[int, int]] = [(0, 0)]  # rows and bytes of ids before each batch, and in all
        self.prices = PriceSurvey()  # of orders that may rest
        self.new_orders = 0
        self.quantity_max = 0
        self.fills = 0  # that are expected
        self.checks = 0  # books to be compared
        self.ref_min, self.ref_max = 0, -1  # the book file's rows that they name

    @classmethod
    def load(cls, importer: Importer) -> Session:
        """Takes everything in. SourceError: nothing is kept."""
        session = cls(importer.path)
        try:
            for batch in importer.batches():
                session._take(batch)
            if not len(session.rows):
                raise SourceError(importer.path, "holds no row")
        except BaseException:
            session.close()
            raise
        return session

    def _take(self, batch: Batch) -> None:
        rows = batch.rows
        self.rows.add(rows)
        self.ids.add(batch.ids)
        self.bounds.append((len(self.rows), len(self.ids)))
        new = rows["kind"] == NEW
        self.prices.add(rows["price"][new])
        self.new_orders += int(new.sum())
        self.fills += int((rows["kind"] == FILL).sum())
        priced = rows["quantity"][new | (rows["kind"] == IMMEDIATE)]
        self.quantity_max = max(self.quantity_max, int(priced.max(initial=0)))
        refs = rows["ref"][np.isin(rows["kind"], (BOOK, BOOK_10))]
        if len(refs):
            self.ref_min = min(self.ref_min, int(refs.min()))
            self.ref_max = max(self.ref_max, int(refs.max()))
            self.checks += len(refs)

    def batches(self) -> Iterator[Batch]:
        """The batches again, each a copy."""
        for (row, byte), (row_end, byte_end) in zip(self.bounds[:-1], self.bounds[1:], strict=True):
            yield Batch(self.rows.window(row, row_end), self.ids.window(byte, byte_end))

    def scan(self) -> Iterator[np.ndarray]:
        """All rows in pieces, for whoever must look at everything."""
        for first in range(0, len(self.rows), SCAN_ROWS):
            yield self.rows.window(first, first + SCAN_ROWS)

    def close(self) -> None:
        """Forgets everything."""
        self.rows.close()
        self.ids.close()
