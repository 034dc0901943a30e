"""Order-by-order sessions of other markets, replayed through the exchange: every fill and every book must be equal.

The stream (``replay.l3_text``) says what was sent and what resulted; the engine, under the generic rules with
accounts off, must produce exactly the same fills in the same order, and the same books at every check. No tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import numpy as np

from engine.codes import TEXT_EN
from engine.exchange import Exchange
from engine.market import Capacity
from engine.records import BUY, COMMAND
from engine.rules import AMOUNT_MAX_FEN, Rules
from replay import l3_driver as driver
from replay.l3_books import BookFile, find_book_file, read_books
from replay.l3_text import L3Text
from replay.ladder import Ladder, ladder_from
from replay.number_table import MISSING
from replay.order_ids import OrderIds
from replay.session import Session
from replay.source_files import SourceError
from replay.source_rows import BOOK, BOOK_10, IMMEDIATE, NEW

MISMATCHES_MAX: Final = 20  # that are told one by one; all are counted
ROWS_PER_STEP: Final = 1 << 18  # between two calls of the progress bar: some 30 ms
ORDERS_MAX: Final = 1 << 28  # open at once: what the engine's table can hold
INSTRUMENT: Final = "L3"


class Progress(Protocol):
    """Called from time to time; ``unit`` tells reading from replaying."""

    def __call__(self, done: int, total: int, unit: str = ..., /) -> None: ...


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
        reading = reader.submit(read_books, guess) if guess else None
        session = Session.load(L3Text(stream_path, reading_progress(progress)))
        books = None
        if session.checks:
            if reading is None:
                reading = reader.submit(read_books, find_book_file(stream_path))  # raises, and says what is missing
            books = reading.result()
    return run_session(session, books, progress)


def _book_beside(stream_path: Path) -> Path | None:
    try:
        return find_book_file(stream_path)
    except (SourceError, OSError):
        return None  # told later, if the stream turns out to need one


def reading_progress(progress: Progress | None) -> Callable[[int, int], None] | None:
    """The callback for a file's reader: it counts bytes, the replay counts rows."""
    return None if progress is None else lambda done, total: progress(done, total, "bytes read")


def _check_references(session: Session, books: BookFile) -> None:
    """Every B and K row must name a row that the book file has."""
    if session.ref_min >= 0 and session.ref_max < len(books.table):
        return
    for rows in session.scan():
        beyond = rows[np.isin(rows["kind"], (BOOK, BOOK_10)) & ((rows["ref"] < 0) | (rows["ref"] >= len(books.table)))]
        if len(beyond):
            reason = f"names row {beyond[0]['ref']} of {books.path.name}, which has rows 0 … {len(books.table) - 1}"
            raise SourceError(session.path, reason, int(beyond[0]["line"]))


def exchange_for(session: Session) -> tuple[Exchange, Ladder]:
    """An empty generic market wide enough for the session's prices and orders. SourceError when no band is."""
    try:
        ladder = ladder_from(session.prices, lambda: _resting_prices(session))
        if ladder.levels * session.quantity_max > AMOUNT_MAX_FEN and _largest_amount(ladder, session) > AMOUNT_MAX_FEN:
            ladder = ladder_from(session.prices, lambda: _resting_prices(session), ranks=True)
    except ValueError as error:
        raise SourceError(session.path, str(error)) from error
    # as if no order ever left, and one slot for an immediate one: memory is touched only where orders are
    orders = min(session.new_orders + 1, ORDERS_MAX)
    capacity = Capacity(accounts=1, instruments=1, orders=orders, sessions=1, levels=ladder.levels, deals=1)
    exchange = Exchange(Rules.generic(), capacity)
    middle = 1 + ladder.levels // 2
    exchange.market.add_instrument(INSTRUMENT, middle, exchange.rules.limits[0].from_date)
    assert exchange.market.instruments[0]["band_base"] == 1, "the band starts at level 1"
    return exchange, ladder


def _resting_prices(session: Session) -> Iterator[np.ndarray]:
    for rows in session.scan():
        yield rows["price"][rows["kind"] == NEW]


def _largest_amount(ladder: Ladder, session: Session) -> float:
    """Largest engine price × quantity of all orders, about: the engine refuses what it cannot represent."""
    largest = 0.0
    for rows in session.scan():
        priced = rows[(rows["kind"] == NEW) | (rows["kind"] == IMMEDIATE)]
        levels = ladder.to_levels(priced["price"], priced["side"])
        largest = max(largest, float((levels.astype(np.float64) * priced["quantity"]).max(initial=0.0)))
    return largest * 1.001  # float64 rounds by 2^-53


def run_session(
    session: Session,
    books: BookFile | None,
    progress: Progress | None = None,
    made: tuple[Exchange, Ladder] | None = None,
) -> L3Report:
    """Sends a session through an empty exchange and compares; ``progress(rows done, rows)`` from time to time.

    ``made``: what :func:`exchange_for` gave, where the caller wants to look at the market afterwards. Session and
    books are closed at the end.
    """
    try:
        if books:
            _check_references(session, books)
        exchange, ladder = made or exchange_for(session)
        counts, mismatches = np.zeros(1, driver.COUNTS), np.zeros(MISMATCHES_MAX, driver.MISMATCH)
        command, ids, done = np.zeros(1, COMMAND), OrderIds(), 0
        control, events = exchange.hot_lane()
        book = exchange.market.book
        for rows, id_bytes in session.batches():
            ids.number(rows, id_bytes, book)
            expected = _expected(rows, books)
            levels = np.zeros(len(rows), np.int64)
            priced = (rows["kind"] == NEW) | (rows["kind"] == IMMEDIATE)
            levels[priced] = ladder.to_levels(rows["price"][priced], rows["side"][priced])
            counts[0]["next_row"] = 0
            while counts[0]["next_row"] < len(rows):
                driver.drive(
                    control, control.ctypes.data, events, command, command.ctypes.data, tuple(book),
                    rows, levels, ids.engine_ids, ladder.low, ladder.tick, ladder.prices,
                    expected, books.levels if books else 0, books.fields if books else 0,
                    counts, mismatches, ROWS_PER_STEP,
                )  # fmt: skip
                if progress:
                    progress(done + int(counts[0]["next_row"]), len(session.rows), "lines")
            done += len(rows)
        return _report(session, books, exchange, ladder, counts[0], mismatches[: counts[0]["mismatches"]])
    finally:
        session.close()
        if books:
            books.table.close()


def _expected(rows: np.ndarray, books: BookFile | None) -> np.ndarray:
    """The books that these rows name; their ``ref`` then counts from the first of them."""
    checks = np.isin(rows["kind"], (BOOK, BOOK_10))
    if books is None or not checks.any():
        return np.zeros((0, 0), np.int64)
    refs = rows["ref"]
    first, last = int(refs[checks].min()), int(refs[checks].max()) + 1
    refs[checks] -= first
    return books.table.window(first, last)


def _report(
    session: Session, books: BookFile | None, exchange: Exchange, ladder: Ladder, c: Any, mismatches: np.ndarray
) -> L3Report:
    assert c["fills"] == session.fills and c["books"] == session.checks, "every F, B and K line is compared once"
    told = [Mismatch(int(m["line"]), _describe(m)) for m in mismatches]
    equal = c["fills"] == c["fills_matched"] and c["books"] == c["books_matched"]
    return L3Report(
        stream=str(session.path),
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
