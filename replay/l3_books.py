"""The book files that a stream's B and K rows are checked against: LOBSTER orderbook and MBP-10, found or named.

Either becomes one int64 table in a spool: per level bid price, size, orders, then ask price, size, orders, best level
first; an empty level's price is MISSING. LOBSTER files have no number of orders: those columns are absent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from replay.number_table import MISSING, read_columns
from replay.session import Spool
from replay.source_files import Progress, SourceError, first_line, name_without_compression, text_blocks

LOBSTER_EMPTY: Final = 9_999_999_999  # price of an empty ask level; negative for a bid
MBP_UNDEFINED: Final = (1 << 63) - 1  # price of an empty level where prices are printed as integers
MBP_DECIMALS: Final = 9  # the stream's prices are USD × 10^9


class BookFile(NamedTuple):
    """Expected books: ``table`` int64, levels × fields columns; fields is 4 (LOBSTER) or 6 (with order counts)."""

    path: Path
    table: Spool
    levels: int
    fields: int


def find_book_file(stream: Path) -> Path:
    """The book file beside a stream, by its name. SourceError when there is none, or more than one.

    ``X.cmd.csv`` belongs to ``X.mbp-10.csv``, ``X.orderbook.csv`` or ``X_orderbook.csv``; ``X_5.cmd.csv`` (ticker
    and levels) also to LOBSTER's ``X_date_…_orderbook_5.csv``. Any of them may be compressed.
    """
    stem = name_without_compression(stream).removesuffix(".csv").removesuffix(".cmd")
    exact = {f"{stem}{end}.csv" for end in (".mbp-10", ".mbp10", ".orderbook", "_orderbook")}
    ticker, _, levels = stem.rpartition("_")
    found, looser = [], []
    for path in sorted(stream.parent.iterdir()):
        name = name_without_compression(path)
        if name in exact:
            found.append(path)
        elif (
            ticker and levels.isdigit() and name.startswith(f"{ticker}_") and name.endswith(f"_orderbook_{levels}.csv")
        ) or (name.startswith(f"{stem}_") and "orderbook" in name and name.endswith(".csv")):
            looser.append(path)
    found = found or looser
    if not found:
        raise SourceError(stream, "has book checks, and no book file lies beside it: name one with --book")
    if len(found) > 1:
        names = ", ".join(p.name for p in found)
        raise SourceError(stream, f"more than one book file lies beside it ({names}): name one with --book")
    return found[0]


def read_books(path: Path, progress: Progress | None = None) -> BookFile:
    """The expected books of a LOBSTER orderbook or MBP-10 file. SourceError names file, line, field and reason."""
    first = first_line(path).decode("utf-8", "replace")
    names = [name.strip() for name in first.split(",")]
    if "bid_px_00" in names:
        return _read_mbp(path, names, progress)
    if len(names) < 4 or len(names) % 4 or any(c.isalpha() for c in first):
        raise SourceError(path, "is neither a LOBSTER orderbook (4 numbers a level) nor an MBP file with a header", 1)
    levels = len(names) // 4
    columns = [4 * level + field for level in range(levels) for field in (2, 3, 0, 1)]  # bid first
    table = Spool(np.int64, len(columns))
    for batch in read_columns(path, columns, [0] * len(columns), progress=progress):
        prices = batch[:, 0::2]
        prices[np.abs(prices) == LOBSTER_EMPTY] = MISSING
        table.add(batch)
    return BookFile(path, table, levels, 4)


def _read_mbp(path: Path, names: list[str], progress: Progress | None) -> BookFile:
    """MBP: columns by name. Prices are decimal USD (as pandas prints them), or integers of 10^-9 USD."""
    levels = sum(name.startswith("bid_px_") for name in names)
    wanted = [f"{side}_{what}_{level:02d}" for level in range(levels) for side in ("bid", "ask") for what in WHAT]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise SourceError(path, f"has no column {missing[0]}", 1)
    columns = [names.index(name) for name in wanted]
    price_columns = [c for c, name in zip(columns, wanted, strict=True) if "_px_" in name]
    decimal = any(b"." in fields[c] for fields in _first_rows(path) for c in price_columns if c < len(fields))
    decimals = [MBP_DECIMALS if decimal and "_px_" in name else 0 for name in wanted]
    table = Spool(np.int64, len(columns))
    for batch in read_columns(path, columns, decimals, header_lines=1, progress=progress):
        prices, sizes = batch[:, 0::3], batch[:, 1::3]
        prices[(prices == MBP_UNDEFINED) | (sizes == 0)] = MISSING
        table.add(batch)
    return BookFile(path, table, levels, 6)


WHAT: Final = ("px", "sz", "ct")
SAMPLE_BYTES: Final = 1 << 20
SAMPLE_ROWS: Final = 1_000  # in which a decimal point must turn up where prices are decimal


def _first_rows(path: Path) -> list[list[bytes]]:
    block = next(text_blocks(path, block_bytes=SAMPLE_BYTES), b"")
    return [line.split(b",") for line in block.splitlines()[1 : SAMPLE_ROWS + 1]]
