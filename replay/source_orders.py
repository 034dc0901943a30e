"""Two more sources of order-by-order sessions: market-by-order messages (MBO), and tables of orders.

Both become the batches of ``replay.source_rows`` and are run like a stream. Columns are found by name; prices are
decimal text and are read exactly; a broken row is named with file, line and reason before anything is sent.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from engine.exchange import Depth, Level
from engine.records import BUY, SELL
from replay import source_rows
from replay.l3 import INSTRUMENT, L3Report, Progress, exchange_for, reading_progress, run_session
from replay.l3_books import MBP_DECIMALS, SAMPLE_ROWS, read_books
from replay.session import Session
from replay.source_files import Progress as Reading
from replay.source_files import SourceError, first_line, text_lines
from replay.source_rows import BATCH_ROWS, Batch, Rows

MBO_COLUMNS: Final = ("action", "side", "price", "size", "order_id")
MBO_SIDES: Final = {"B": BUY, "A": SELL}
SIDES: Final = {
    **dict.fromkeys(("b", "buy", "bid", "0", "+1", "1"), BUY),
    **dict.fromkeys(("s", "sell", "ask", "a", "-1", "2"), SELL),
}
ACTIONS: Final = {
    "new": source_rows.NEW,
    "ioc": source_rows.IMMEDIATE,
    "cancel": source_rows.CANCEL,
    "reduce": source_rows.REDUCE,
}
ORDER_FIELDS: Final = ("id", "side", "price", "quantity", "action")
ID_BYTES_MAX: Final = 256


def decimal(text: str, decimals: int) -> int:
    """Decimal text to an integer of 10^-decimals; ValueError where it is none, or not exact in that unit."""
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    whole, _, fraction = digits.partition(".")
    if not (whole + fraction).isascii() or not (whole + fraction).isdigit() or fraction[decimals:].strip("0"):
        raise ValueError(f"{text!r} is not a number with at most {decimals} decimals")
    return sign * int((whole or "0") + (fraction + "0" * decimals)[:decimals])


def _table(
    path: Path, needed: Mapping[str, str], progress: Reading | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, row by column) of a CSV with a header that has the ``needed`` columns (field → column)."""
    reader = csv.DictReader(text_lines(path, progress))
    try:
        missing = [column for column in needed.values() if column not in (reader.fieldnames or ())]
        if missing:
            there = ", ".join(reader.fieldnames or ()) or "none"
            raise SourceError(path, f"has no column {missing[0]!r}; it has {there}", 1)
        for row in reader:
            if any(row[column] is None for column in needed.values()):
                raise SourceError(path, "too few fields", reader.line_num)
            yield reader.line_num, row
    except csv.Error as error:
        raise SourceError(path, f"cannot be read: {error}", reader.line_num) from error


# --- market by order ----------------------------------------------------------------------------------------------


def replay_mbo(path: Path, book_path: Path | None = None, progress: Progress | None = None) -> L3Report:
    """Replays MBO messages; with an MBP-10 file every book whose sequence both files have is compared."""
    if book_path is None:
        return run_session(Session.load(Mbo(path, None, reading_progress(progress))), None, progress)
    with ThreadPoolExecutor(1) as reader:
        reading = reader.submit(read_books, book_path)
        session = Session.load(Mbo(path, book_path, reading_progress(progress)))
        return run_session(session, reading.result(), progress)


class _Sequences:
    """The last row of each sequence of an MBP file, asked for in rising order, so that only one is held."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows = enumerate(_table(path, {"sequence": "sequence"}))
        self._next = self._read(-(1 << 63), 1)

    def _read(self, before: int, line: int) -> tuple[int, int, int] | None:
        """(sequence, row, line) of the next row."""
        for row, (line, fields) in self._rows:
            sequence = _sequence(self.path, fields["sequence"], line)
            if sequence < before:
                raise SourceError(self.path, f"sequence {sequence} comes after {before}: they must rise", line)
            return sequence, row, line
        return None

    def row_of(self, sequence: int) -> int:
        """The row, −1 where there is none."""
        found = -1
        while self._next is not None and self._next[0] <= sequence:
            if self._next[0] == sequence:
                found = self._next[1]
            self._next = self._read(self._next[0], self._next[2])
        return found


def _sequence(path: Path, text: str, line: int) -> int:
    try:
        return int(text)
    except ValueError:
        raise SourceError(path, f"sequence {text!r} is not a whole number", line) from None


class Mbo:
    """Messages as batches of rows, an importer. A trade comes as T (told), F (the resting fill), C (its taking away).

    Memory: the orders that are open, and one batch.
    """

    def __init__(self, path: Path, book_path: Path | None = None, progress: Reading | None = None) -> None:
        self.path, self.progress = path, progress
        self.sequences = _Sequences(book_path) if book_path else None
        self.rows = Rows()
        self.left: dict[str, tuple[int, int, int]] = {}  # live order → side, price, what is left
        self.filled: dict[str, int] = {}  # order → filled, and not taken away yet by its C
        self.run: list[tuple[int, str, int, int]] = []  # fills of the aggressor: line, order, price, size
        self.run_side, self.run_time = BUY, ""

    def batches(self) -> Iterator[Batch]:
        """The whole file. SourceError names line and reason."""
        decimals = MBP_DECIMALS if self._prices_are_decimal() else 0
        last_line, last_sequence = 0, ""
        for line, row in _table(self.path, {name: name for name in MBO_COLUMNS}, self.progress):
            sequence = row.get("sequence", "")
            if last_line and sequence != last_sequence:
                self._check_book(last_line, last_sequence)
            try:
                self._message(line, row, decimals)
            except (ValueError, KeyError) as error:
                raise SourceError(self.path, f"cannot be read: {error}", line) from error
            last_line, last_sequence = line, sequence
            if len(self.rows) >= BATCH_ROWS:
                yield self.rows.take()
        if last_line:
            self._check_book(last_line, last_sequence)
        self._flush()
        yield self.rows.take()

    def _prices_are_decimal(self) -> bool:
        """Whether a decimal point stands in one of the first prices; a later one is then told as an error."""
        table = _table(self.path, {name: name for name in MBO_COLUMNS})
        return any("." in row["price"] for _, (_, row) in zip(range(SAMPLE_ROWS), table, strict=False))

    def _check_book(self, line: int, text: str) -> None:
        """A book check after the last message of a sequence that the MBP file has too."""
        if self.sequences is None:
            return
        row = self.sequences.row_of(_sequence(self.path, text, line))
        if row >= 0:
            self._flush()
            self.rows.add(source_rows.BOOK_10, line, ref=row)

    def _message(self, line: int, row: Mapping[str, str], decimals: int) -> None:
        action, order = row["action"], row["order_id"]
        if action in ("T", "N", ""):
            return
        if action == "R":
            self._flush()
            for live in self.left:
                self.rows.add(source_rows.CANCEL, line, order=live.encode())
            self.left.clear()
            self.filled.clear()
            return
        size = _in_64_bits(decimal(row["size"], 0))
        price = _in_64_bits(decimal(row["price"], decimals)) if row["price"] else 0
        if action == "F":
            self._fill(line, order, MBO_SIDES[row["side"]], price, size, row.get("ts_event", ""))
            return
        if action == "C" and self.filled.get(order, 0) >= size:
            self.filled[order] -= size
            if not self.filled[order]:
                del self.filled[order]
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
        self.rows.add(source_rows.NEW, line, order=order.encode(), side=side, price=price, size=size)

    def _take(self, line: int, order: str, size: int) -> None:
        """A cancel of a part keeps the order's place."""
        if order not in self.left:
            self.rows.add(
                source_rows.CANCEL, line, order=order.encode()
            )  # the engine says that it is not open; it is counted
            return
        side, price, left = self.left[order]
        if size >= left:
            del self.left[order]
            self.rows.add(source_rows.CANCEL, line, order=order.encode())
        else:
            self.left[order] = side, price, left - size
            self.rows.add(source_rows.REDUCE, line, order=order.encode(), size=size)

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
        self.rows.add(source_rows.IMMEDIATE, line, side=1 - self.run_side, price=price, size=total)
        for at, order, fill_price, size in self.run:
            self.rows.add(source_rows.FILL, at, order=order.encode(), price=fill_price, size=size)
        self.run = []


# --- any table of orders ------------------------------------------------------------------------------------------


def replay_orders(
    path: Path, columns: Mapping[str, str], decimals: int, progress: Progress | None = None
) -> tuple[L3Report, Depth]:
    """Sends a table of orders. ``fills_unexpected`` are the fills made; the book's prices in 10^-decimals.

    ``columns``: field of ORDER_FIELDS → column; a field that is left out is looked for by its own name, and ``action``
    may be absent (then every row is a new order).
    """
    session = Session.load(OrderTable(path, columns, decimals, reading_progress(progress)))
    made = exchange_for(session)
    report = run_session(session, None, progress, made)
    exchange, ladder = made
    depth = exchange.depth(INSTRUMENT, 5)
    sides = ([Level(ladder.to_price(p), q, n) for p, q, n in levels] for levels in depth)
    return report, Depth(*sides)


class OrderTable:
    """A table of orders as batches of rows, an importer; columns by the caller's map."""

    def __init__(self, path: Path, columns: Mapping[str, str], decimals: int, progress: Reading | None = None) -> None:
        self.path, self.decimals, self.progress = path, decimals, progress
        self.wanted = {field: columns.get(field, field) for field in ORDER_FIELDS}
        if "action" not in columns and "action" not in _header(path):
            del self.wanted["action"]

    def batches(self) -> Iterator[Batch]:
        """The whole file. SourceError names line and reason."""
        rows = Rows()
        for line, row in _table(self.path, self.wanted, self.progress):
            try:
                self._add(rows, line, row)
            except KeyError as error:
                raise SourceError(self.path, f"{error.args[0]!r} is no side or action that is known", line) from error
            except ValueError as error:
                raise SourceError(self.path, str(error), line) from error
            if len(rows) >= BATCH_ROWS:
                yield rows.take()
        yield rows.take()

    def _add(self, rows: Rows, line: int, row: Mapping[str, str]) -> None:
        names = self.wanted
        kind = ACTIONS[row[names["action"]].strip().lower()] if "action" in names else source_rows.NEW
        priced = kind in (source_rows.NEW, source_rows.IMMEDIATE)
        order = row[names["id"]].encode() if kind != source_rows.IMMEDIATE else b""
        if kind != source_rows.IMMEDIATE and not 0 < len(order) <= ID_BYTES_MAX:
            raise ValueError(f"{names['id']} must have 1 … {ID_BYTES_MAX} bytes")
        rows.add(
            kind,
            line,
            order=order,
            side=SIDES[row[names["side"]].strip().lower()] if priced else 0,
            price=_in_64_bits(decimal(row[names["price"]], self.decimals)) if priced else 0,
            size=_in_64_bits(decimal(row[names["quantity"]], 0)) if kind != source_rows.CANCEL else 0,
        )


def _in_64_bits(value: int) -> int:
    if not -(1 << 63) < value < 1 << 63:
        raise ValueError(f"{value} does not fit into 64 bits")
    return value


def _header(path: Path) -> list[str]:
    return next(csv.reader([first_line(path).decode("utf-8-sig", "replace")]), [])
