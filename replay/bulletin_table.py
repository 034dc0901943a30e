"""Bulletins as a table: a row per day, version and vintage, and one of the composite (R11, D29)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from replay.export import Writer

NUMBERS: Final = (
    *("open_fen", "high_fen", "low_fen", "close_fen", "previous_fen", "change_bp"),
    *("listed_t", "listed_fen", "bulk_t", "bulk_fen", "auction_t", "auction_fen"),
)
# change_bp: hundredths of a percent; high and low are 0 on a day without a listed deal
BULLETINS: Final = pa.schema(
    [("date", pa.int32()), ("version", pa.int16()), ("code", pa.string()), *((name, pa.int64()) for name in NUMBERS)]
)


def write_bulletins(out: Path, rows: Sequence[tuple[Any, ...]]) -> int:
    """Writes rows in the order of BULLETINS to a .parquet or .csv file; returns how many. SourceError: the ending."""
    writer = Writer(out, BULLETINS)
    with writer:
        writer.write([list(column) for column in zip(*rows, strict=True)])
    return len(rows)
