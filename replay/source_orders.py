"""Two more sources of order-by-order sessions: market-by-order messages (MBO), and tables of orders.

Both become the ROW records of ``replay.l3_text`` and are run like a stream. Columns are found by name; prices are
decimal text and are read exactly; a broken row is named with file, line and reason before anything is sent.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from engine.exchange import Depth, Level
from engine.records import BUY, SELL
from replay import l3_text
from replay.l3 import INSTRUMENT, L3Report, Progress, exchange_for, run_stream
from replay.l3_books import MBP_DECIMALS, BookFile, parse_books
from replay.l3_text import ROW, Stream
from replay.source_files import SourceError, read_source

MBO_COLUMNS: Final = ("action", "side", "price", "size", "order_id")
MBO_SIDES: Final = {"B": BUY, "A": SELL}
SIDES: Final = {
    **dict.fromkeys(("b", "buy", "bid", "0", "+1", "1"), BUY),
    **dict.fromkeys(("s", "sell", "ask", "a", "-1", "2"), SELL),
}
ACTIONS: Final = {"new": l3_text.NEW, "ioc": l3_text.IMMEDIATE, "cancel": l3_text.CANCEL, "reduce": l3_text.REDUCE}
ORDER_FIELDS: Final = ("id", "side", "price", "quantity", "action")
DECIMALS_MAX: Final = 12


class Rows:
    """ROW records in the making; ids become dense numbers."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, int, int, int, int, int]] = []
        self._ids: dict[str, int] = {}

    def add(
        self, kind: int, line: int, *, order: str = "", side: int = 0, price: int = 0, size: int = 0, ref: int = 0
    ) -> None:
        """One command, expected fill or check."""
        number = self._ids.setdefault(order, len(self._ids)) if order else 0
        self._rows.append((price, size, ref, number, line, kind, side))

    def stream(self, path: Path) -> Stream:
        """All rows so far."""
        rows = np.zeros(len(self._rows), ROW)
        names = ("price", "quantity", "ref", "order", "line", "kind", "side")
        for name, column in zip(names, zip(*self._rows, strict=True), strict=False):
            rows[name] = column
        return Stream(path, rows, len(self._ids))


def decimal(text: str, decimals: int) -> int:
    """Decimal text to an integer of 10^-decimals; ValueError where it is none, or not exact in that unit."""
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    whole, _, fraction = digits.partition(".")
    if not (whole + fraction).isascii() or not (whole + fraction).isdigit() or fraction[decimals:].strip("0"):
        raise ValueError(f"{text!r} is not a number with at most {decimals} decimals")
    return sign * int((whole or "0") + (fraction + "0" * decimals)[:decimals])


def _table(path: Path, needed: Mapping[str, str]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, row by column) of a CSV with a header that has the ``needed`` columns (field → column)."""
    try:
        text = read_source(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(path, f"is not UTF-8: {error}") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [column for column in needed.values() if column not in (reader.fieldnames or ())]
    if missing:
        raise SourceError(path, f"has no column {missing[0]!r}", 1)
    for row in reader:
        if any(row[column] is None for column in needed.values()):
            raise SourceError(path, "too few fields", reader.line_num)
        yield reader.line_num, row


# --- market by order ----------------------------------------------------------------------------------------------


def replay_mbo(path: Path, book_path: Path | None = None, progress: Progress | None = None) -> L3Report:
    """Replays MBO messages; with an MBP-10 file every book whose sequence both files have is compared."""
    books, sequences = None, {}
    if book_path is not None:
        text = read_source(book_path)
        books = parse_books(book_path, text)
        for n, (_, row) in enumerate(_table(book_path, {"sequence": "sequence"})):
            sequences[row["sequence"]] = n
    return run_stream(MboCompiler(path, books, sequences).compile(), books, progress)


class MboCompiler:
    """Messages to commands. A trade comes as T (told), F (the resting order's fill) and C (what it takes away)."""

    def __init__(self, path: Path, books: BookFile | None, sequences: Mapping[str, int]) -> None:
        self.path, self.books, self.sequences = path, books, sequences
        self.rows = Rows()
        self.left: dict[str, tuple[int, int, int]] = {}  # live order → side, price, what is left
        self.filled: dict[str, int] = {}  # order → filled, and not taken away yet by its C
        self.run: list[tuple[int, str, int, int]] = []  # fills of the aggressor: line, order, price, size
        self.run_side, self.run_time = BUY, ""

    def compile(self) -> Stream:
        """The whole file. SourceError names line and reason."""
        table = list(_table(self.path, {name: name for name in MBO_COLUMNS}))
        decimal_prices = any("." in row["price"] for _, row in table)
        for at, (line, row) in enumerate(table):
            try:
                self._message(line, row, MBP_DECIMALS if decimal_prices else 0)
            except (ValueError, KeyError) as error:
                raise SourceError(self.path, f"cannot be read: {error}", line) from error
            sequence = row.get("sequence", "")
            last = at + 1 == len(table) or table[at + 1][1].get("sequence") != sequence
            if last and sequence in self.sequences:
                self._flush()
                self.rows.add(l3_text.BOOK_10, line, ref=self.sequences[sequence])
        self._flush()
        return self.rows.stream(self.path)

    def _message(self, line: int, row: Mapping[str, str], decimals: int) -> None:
        action, order = row["action"], row["order_id"]
        if action in ("T", "N", ""):
            return
        if action == "R":
            self._flush()
            for live in self.left:
                self.rows.add(l3_text.CANCEL, line, order=live)
            self.left.clear()
            return
        size, price = decimal(row["size"], 0), decimal(row["price"], decimals) if row["price"] else 0
        if action == "F":
            self._fill(line, order, MBO_SIDES[row["side"]], price, size, row.get("ts_event", ""))
            return
        if action == "C" and self.filled.get(order, 0) >= size:
            self.filled[order] -= size
            return
        self._flush()
        if action == "A":
            self._add(line, order, MBO_SIDES[row["side"]], price, size)
        elif action == "C":
            self._take(line, order, size)
        elif action == "M":
            self._modify(line, order, MBO_SIDES[row["side"]], price, size)
        else:
            raise ValueError(f"action {action!r} is not one of A, C, M, R, T, F, N")

    def _add(self, line: int, order: str, side: int, price: int, size: int) -> None:
        self.left[order] = side, price, size
        self.rows.add(l3_text.NEW, line, order=order, side=side, price=price, size=size)

    def _take(self, line: int, order: str, size: int) -> None:
        """A cancel of a part keeps the order's place."""
        if order not in self.left:
            self.rows.add(l3_text.CANCEL, line, order=order)  # the engine says that it is not open; it is counted
            return
        side, price, left = self.left[order]
        if size >= left:
            del self.left[order]
            self.rows.add(l3_text.CANCEL, line, order=order)
        else:
            self.left[order] = side, price, left - size
            self.rows.add(l3_text.REDUCE, line, order=order, size=size)

    def _modify(self, line: int, order: str, side: int, price: int, size: int) -> None:
        """Another price, or more, loses the place; less keeps it. An unknown order is a new one."""
        known = self.left.get(order)
        if known is not None and known[:2] == (side, price) and size <= known[2]:
            if size < known[2]:
                self._take(line, order, known[2] - size)
            return
        if known is not None:
            self._take(line, order, known[2])
        self._add(line, order, side, price, size)

    def _fill(self, line: int, order: str, side: int, price: int, size: int, time: str) -> None:
        improves = self.run and (price - self.run[-1][2]) * (1 if side == SELL else -1) < 0
        if self.run and (side != self.run_side or time != self.run_time or improves):
            self._flush()
        self.run_side, self.run_time = side, time
        self.run.append((line, order, price, size))
        self.filled[order] = self.filled.get(order, 0) + size
        if order in self.left:
            left = self.left[order]
            self.left[order] = left[0], left[1], left[2] - size
            if self.left[order][2] <= 0:
                del self.left[order]

    def _flush(self) -> None:
        """Sends the aggressor whose fills were gathered."""
        if not self.run:
            return
        line, _, price, _ = self.run[-1]
        total = sum(size for _, _, _, size in self.run)
        self.rows.add(l3_text.IMMEDIATE, line, side=1 - self.run_side, price=price, size=total)
        for at, order, fill_price, size in self.run:
            self.rows.add(l3_text.FILL, at, order=order, price=fill_price, size=size)
        self.run = []


# --- any table of orders ------------------------------------------------------------------------------------------


def replay_orders(
    path: Path, columns: Mapping[str, str], decimals: int, progress: Progress | None = None
) -> tuple[L3Report, Depth]:
    """Sends a table of orders. ``fills_unexpected`` are the fills made; the book's prices in 10^-decimals.

    ``columns``: field of ORDER_FIELDS → column; a field that is left out is looked for by its own name, and ``action``
    may be absent (then every row is a new order).
    """
    wanted = {field: columns.get(field, field) for field in ORDER_FIELDS}
    if "action" not in columns and not _has_column(path, "action"):
        del wanted["action"]
    rows = Rows()
    for line, row in _table(path, wanted):
        try:
            kind = ACTIONS[row[wanted["action"]].strip().lower()] if "action" in wanted else l3_text.NEW
            priced = kind in (l3_text.NEW, l3_text.IMMEDIATE)
            rows.add(
                kind,
                line,
                order=row[wanted["id"]] if kind != l3_text.IMMEDIATE else "",
                side=SIDES[row[wanted["side"]].strip().lower()] if priced else 0,
                price=decimal(row[wanted["price"]], decimals) if priced else 0,
                size=decimal(row[wanted["quantity"]], 0) if kind != l3_text.CANCEL else 0,
            )
        except KeyError as error:
            raise SourceError(path, f"{error.args[0]!r} is no side or action that is known", line) from error
        except ValueError as error:
            raise SourceError(path, str(error), line) from error
    stream = rows.stream(path)
    made = exchange_for(stream)
    report = run_stream(stream, None, progress, made)
    exchange, ladder = made
    depth = exchange.depth(INSTRUMENT, 5)
    sides = ([Level(ladder.to_price(p), q, n) for p, q, n in levels] for levels in depth)
    return report, Depth(*sides)


def _has_column(path: Path, name: str) -> bool:
    first = read_source(path).partition(b"\n")[0].decode("utf-8-sig", "replace")
    return name in next(csv.reader([first.strip("\r")]), [])
