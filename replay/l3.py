"""Order-by-order sessions of other markets, replayed through the exchange: every fill and every book must be equal.

The stream (``replay.l3_text``) says what was sent and what resulted; the engine, under the generic rules with
accounts off, must produce exactly the same fills in the same order, and the same books at every check. No tolerance.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from engine.codes import TEXT_EN
from engine.exchange import Exchange
from engine.market import Capacity
from engine.records import BUY, COMMAND
from engine.rules import AMOUNT_MAX_FEN, Rules
from replay import l3_driver as driver
from replay.l3_books import BookFile, find_book_file, parse_books
from replay.l3_text import BOOK, BOOK_10, FILL, IMMEDIATE, NEW, Stream, parse_stream
from replay.ladder import Ladder, ladder_of
from replay.number_table import MISSING
from replay.source_files import SourceError, read_source

MISMATCHES_MAX: Final = 20  # that are told one by one; all are counted
ROWS_PER_STEP: Final = 1 << 18  # between two calls of the progress bar: some 30 ms
INSTRUMENT: Final = "L3"

Progress = Callable[[int, int], None]


class Mismatch(msgspec.Struct, frozen=True):
    """The first differences: line of the stream, and what the engine has against what the file expects."""

    line: int
    text: str


class L3Report(msgspec.Struct, frozen=True):
    """What a replay found. ``ok``: every fill and every book equal, nothing more and nothing less."""

    stream: str
    book: str | None
    commands: int
    aggressors: int
    fills: int
    fills_matched: int
    books: int
    books_matched: int
    fills_unexpected: int
    live_ids_ignored: int
    not_open: int
    rejected: int
    traded: int
    resting: int
    ladder: str
    levels: int
    ok: bool
    mismatches: list[Mismatch]


def replay_l3(stream_path: Path, book_path: Path | None = None, progress: Progress | None = None) -> L3Report:
    """Replays a stream file, with its book file found beside it unless named. SourceError for broken files."""
    with ThreadPoolExecutor(1) as reader:  # both files at once: decompression and parsing free the interpreter
        guess = book_path or _book_beside(stream_path)
        reading = reader.submit(_read_books, guess) if guess else None
        stream = parse_stream(stream_path, read_source(stream_path))
        books = None
        if bool(np.isin(stream.rows["kind"], (BOOK, BOOK_10)).any()):
            if reading is None:
                reading = reader.submit(_read_books, find_book_file(stream_path))  # raises, and says what is missing
            books = reading.result()
            _check_references(stream, books)
    return run_stream(stream, books, progress)


def _read_books(path: Path) -> BookFile:
    return parse_books(path, read_source(path))


def _book_beside(stream_path: Path) -> Path | None:
    try:
        return find_book_file(stream_path)
    except (SourceError, OSError):
        return None  # told later, if the stream turns out to need one


def _check_references(stream: Stream, books: BookFile) -> None:
    """Every B and K row must name a row that the book file has."""
    rows = stream.rows[np.isin(stream.rows["kind"], (BOOK, BOOK_10))]
    beyond = rows[(rows["ref"] < 0) | (rows["ref"] >= len(books.table))]
    if len(beyond):
        reason = f"names row {beyond[0]['ref']} of {books.path.name}, which has rows 0 … {len(books.table) - 1}"
        raise SourceError(stream.path, reason, int(beyond[0]["line"]))


def exchange_for(stream: Stream) -> tuple[Exchange, Ladder]:
    """An empty generic market wide enough for the stream's prices and orders. SourceError when no band is."""
    rows = stream.rows
    resting = rows["kind"] == NEW
    try:
        ladder = ladder_of(rows["price"][resting])
        if _largest_amount(ladder, rows[resting | (rows["kind"] == IMMEDIATE)]) > AMOUNT_MAX_FEN:
            ladder = ladder_of(rows["price"][resting], ranks=True)
    except ValueError as error:
        raise SourceError(stream.path, str(error)) from error
    orders = int(resting.sum()) + 1  # as if none ever left; an immediate order needs one slot for a moment
    capacity = Capacity(accounts=1, instruments=1, orders=orders, sessions=1, levels=ladder.levels, deals=1)
    exchange = Exchange(Rules.generic(), capacity)
    middle = 1 + ladder.levels // 2
    exchange.market.add_instrument(INSTRUMENT, middle, exchange.rules.limits[0].from_date)
    assert exchange.market.instruments[0]["band_base"] == 1, "the band starts at level 1"
    return exchange, ladder


def _largest_amount(ladder: Ladder, rows: np.ndarray) -> float:
    """Largest engine price × quantity of these orders, about: the engine refuses what it cannot represent."""
    levels = ladder.to_levels(rows["price"], rows["side"])
    return float((levels.astype(np.float64) * rows["quantity"]).max(initial=0.0)) * 1.001  # float64 rounds by 2^-53


def run_stream(
    stream: Stream,
    books: BookFile | None,
    progress: Progress | None = None,
    made: tuple[Exchange, Ladder] | None = None,
) -> L3Report:
    """Sends a parsed stream through an empty exchange and compares; ``progress(rows done, rows)`` from time to time.

    ``made``: what :func:`exchange_for` gave, where the caller wants to look at the market afterwards.
    """
    exchange, ladder = made or exchange_for(stream)
    rows = stream.rows
    levels = np.zeros(len(rows), np.int64)
    priced = (rows["kind"] == NEW) | (rows["kind"] == IMMEDIATE)
    levels[priced] = ladder.to_levels(rows["price"][priced], rows["side"][priced])
    counts, mismatches = np.zeros(1, driver.COUNTS), np.zeros(MISMATCHES_MAX, driver.MISMATCH)
    command = np.zeros(1, COMMAND)
    control, events = exchange.hot_lane()
    table = books.table if books else np.zeros((0, 0), np.int64)
    engine_ids = np.zeros(stream.n_orders + 1, np.uint64)
    while counts[0]["next_row"] < len(rows):
        driver.drive(
            control, control.ctypes.data, events, command, command.ctypes.data, tuple(exchange.market.book),
            rows, levels, engine_ids, ladder.low, ladder.tick, ladder.prices,
            table, books.levels if books else 0, books.fields if books else 0, counts, mismatches, ROWS_PER_STEP,
        )  # fmt: skip
        if progress:
            progress(int(counts[0]["next_row"]), len(rows))
    return _report(stream, books, exchange, ladder, counts[0], mismatches[: counts[0]["mismatches"]])


def _report(
    stream: Stream, books: BookFile | None, exchange: Exchange, ladder: Ladder, c: Any, mismatches: np.ndarray
) -> L3Report:
    assert c["fills"] == (stream.rows["kind"] == FILL).sum(), "every F line is compared once"
    told = [Mismatch(int(m["line"]), _describe(m)) for m in mismatches]
    equal = c["fills"] == c["fills_matched"] and c["books"] == c["books_matched"]
    return L3Report(
        stream=str(stream.path),
        book=str(books.path) if books else None,
        **{name: int(c[name]) for name in driver.COUNTS.names or () if name not in ("next_row", "mismatches")},
        resting=int(exchange.market.book.pool[0]["live"]),
        ladder=ladder.kind,
        levels=ladder.levels,
        ok=bool(equal and not c["fills_unexpected"] and not c["rejected"]),
        mismatches=told,
    )


def _describe(m: Any) -> str:
    price = "nothing" if m["price"] == MISSING else int(m["price"])
    wanted = "nothing" if m["expected_price"] == MISSING else int(m["expected_price"])
    kind = int(m["kind"])
    if kind == driver.FILL_DIFFERS:
        order = "the order named" if m["orders"] else "another order"
        return f"fill {m['expected_quantity']} at {wanted} expected, {m['quantity']} at {price} of {order} made"
    if kind == driver.FILL_MISSING:
        return f"fill {m['expected_quantity']} at {wanted} expected, none made"
    if kind == driver.FILL_UNEXPECTED:
        return f"fill {m['quantity']} at {price} made, none expected"
    if kind == driver.REFUSED:
        return f"order {m['quantity']} at {price} refused: {TEXT_EN[int(m['level'])]}"
    side = "bid" if m["side"] == BUY else "ask"
    return (
        f"{side} level {int(m['level']) + 1}: {wanted} × {m['expected_quantity']} ({m['expected_orders']} orders) "
        f"expected, {price} × {m['quantity']} ({m['orders']} orders) in the book"
    )
