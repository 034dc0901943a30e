"""LOBSTER sessions: message and orderbook files become an order-by-order stream with its expected fills and books.

A level-N file tells only what happens inside the best N prices of a side. What lies deeper is never announced, so a
price level is *in view* for a while, leaves, and comes again with orders that nobody told us of. A visit is one such
period of a level. All of a visit is known afterwards: orders that were there when it began are found by looking ahead
(their cancels and executions name them); what is left of the level's size is one order without a name, which nothing
touched during the visit, so that it stands behind the others. What is there when a level leaves view is cancelled.

One aggressor is a run of executions (type 4) with equal time and side, at prices that do not come back: it is sent as
one immediate order at its last price. An execution that skips an older displayed order, or a better price, is the
venue's own exception: it is sent as a reduction, counted and named. Hidden executions (5) and halts (7) do not touch
the displayed book.

A session opens with a burst of submissions of one time stamp, in no order: orders that were there before. The first
book is that after the burst, its orders in order of their ids, which rise with time.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np

from engine.records import BUY, SELL
from replay import source_rows
from replay.l3 import L3Report, Progress, reading_progress, run_session
from replay.l3_books import BookFile, read_books
from replay.number_table import MISSING, read_columns
from replay.session import Session, Spool
from replay.source_files import Progress as Reading
from replay.source_files import SourceError
from replay.source_rows import BATCH_ROWS, Batch, Rows

SUBMISSION: Final = 1
PARTIAL_CANCEL: Final = 2
DELETION: Final = 3
EXECUTION: Final = 4
HIDDEN_EXECUTION: Final = 5
CROSS: Final = 6
HALT: Final = 7
TIME_DECIMALS: Final = 13  # some times are printed through a binary float: 43002.632812672004
TIME_UNIT: Final = 10 ** (TIME_DECIMALS - 9)  # of a nanosecond
FIELDS: Final = 6
NO_ORDER: Final = 0

WINDOW_ROWS: Final = 1 << 16  # of messages and books at a time

Level = tuple[int, int]  # side, price


class Exclusion(msgspec.Struct, frozen=True):
    """A row that is not reproduced as it stands, and why."""

    row: int
    reason: str


class LobsterReport(msgspec.Struct):
    """``replay``: what came out of the engine. ``exclusions``: executions sent as reductions, each named."""

    messages: int
    aggressors: int
    executions: int
    hidden_executions: int
    halts: int
    seeds: int
    visits: int
    exclusions: list[Exclusion]
    replay: L3Report

    @property
    def ok(self) -> bool:
        """True when all that was not excluded by name came out exactly."""
        return self.replay.ok


def replay_lobster(message_path: Path, book_path: Path, progress: Progress | None = None) -> LobsterReport:
    """Replays a pair of files. SourceError names file, line and reason; nothing is half-loaded."""
    with ThreadPoolExecutor(1) as reader:  # decompression and parsing free the interpreter
        reading = reader.submit(read_books, book_path)
        messages = read_messages(message_path, reading_progress(progress))
        books = reading.result()
    if books.fields != 4:
        raise SourceError(book_path, "is no LOBSTER orderbook")
    if len(books.table) != len(messages):
        raise SourceError(book_path, f"has {len(books.table)} rows, the message file {len(messages)}")
    importer = Lobster(message_path, messages, books, progress)
    session = Session.load(importer)
    messages.close()
    return LobsterReport(
        messages=len(messages),
        aggressors=importer.aggressors,
        executions=importer.kinds[EXECUTION],
        hidden_executions=importer.kinds[HIDDEN_EXECUTION],
        halts=importer.kinds[HALT],
        seeds=importer.seeds,
        visits=importer.visits,
        exclusions=importer.exclusions,
        replay=run_session(session, books, progress),
    )


def read_messages(path: Path, progress: Reading | None = None) -> Spool:
    """int64, 6 columns: time (ns after midnight), type, order id, size, price, direction. SourceError for bad rows."""
    messages = Spool(np.int64, FIELDS)
    for table in read_columns(path, list(range(FIELDS)), [TIME_DECIMALS, 0, 0, 0, 0, 0], progress=progress):
        bad = (table == MISSING).any(axis=1) | (table[:, 1] < SUBMISSION) | (table[:, 1] > HALT)
        bad |= (table[:, 1] < HIDDEN_EXECUTION) & ((table[:, 3] <= 0) | (np.abs(table[:, 5]) != 1))
        if bad.any():
            line = len(messages) + int(np.flatnonzero(bad)[0]) + 1
            raise SourceError(path, "is no LOBSTER message (time, type 1–7, id, size, price, direction ±1)", line)
        table[:, 0] = (table[:, 0] + TIME_UNIT // 2) // TIME_UNIT
        messages.add(table)
    return messages


# --- what is in view when ---------------------------------------------------------------------------------------------


class Seed(NamedTuple):
    """An order that was there when its level came into view at book row ``row``; ``order`` 0: it has no name."""

    row: int
    side: int
    price: int
    order: int
    size: int


class _Visit:
    """A period in which a level is in view, while it lasts."""

    def __init__(self, row: int) -> None:
        self.row = row  # the first with the level
        self.size = 0  # of the level in that row
        self.new_now = 0  # of it, submitted with that row's message
        self.known: dict[int, int] = {}  # orders that were there before → what is known of their size
        self.submitted: dict[int, int] = {}  # orders of this visit → what is left


class Views:
    """First pass: which levels come into view and leave, and what stood there when they came.

    All of a visit must be known before its first row can be sent, so the whole session is gone through; what is kept
    of it is 40 bytes for each order that was there before and 24 for each visit.
    """

    def __init__(self, messages: Spool, books: BookFile) -> None:
        self.messages, self.books = messages, books
        self.start = self._opening()
        self.kinds = [0] * (HALT + 1)
        self.visits = 0
        self._open: dict[Level, _Visit] = {}
        self._opened: dict[int, _Visit] = {}
        seeds: list[np.ndarray] = []
        leaving: list[np.ndarray] = []
        self._seeds: list[Seed] = []
        self._leaving: list[tuple[int, int, int]] = []
        for first in range(0, len(messages), WINDOW_ROWS):
            window = messages.window(first, first + WINDOW_ROWS)
            kinds = np.bincount(window[:, 1], minlength=HALT + 1)
            self.kinds = [a + int(b) for a, b in zip(self.kinds, kinds, strict=True)]
            self._window(first, window)
            seeds.append(np.array(self._seeds, np.int64).reshape(-1, len(Seed._fields)))
            leaving.append(np.array(self._leaving, np.int64).reshape(-1, 3))
            self._seeds, self._leaving = [], []
        for level in list(self._open):
            self._end(level)
        seeds.append(np.array(self._seeds, np.int64).reshape(-1, len(Seed._fields)))
        table = np.concatenate(seeds)
        self.seeds = table[np.argsort(table[:, 0], kind="stable")]  # by the row at which they are to be rested
        self.leaving = np.concatenate(leaving)  # row, side, price; in order of rows

    def _opening(self) -> int:
        """The row after which the session starts: the last of the burst of submissions with which it opens, or 0."""
        burst: list[int] = []
        first = last = -1
        for at in range(0, len(self.messages), WINDOW_ROWS):
            for row, message in enumerate(self.messages.window(at, at + WINDOW_ROWS)[:, :2].tolist(), at):
                if first < 0:
                    if message[1] == SUBMISSION:
                        first = last = row
                        burst = message
                    elif message[1] != HIDDEN_EXECUTION:
                        return 0
                elif message == burst:
                    last = row
                else:
                    return last if last > first else 0
        return max(0, last) if last > first else 0

    def _window(self, first: int, window: np.ndarray) -> None:
        """Messages and books of some rows. A message that takes a level out of view is still of the visit."""
        before = max(first - 1, 0)
        books = self.books.table.window(before, first + len(window))
        changed: set[int] = set()
        for column in (0, 2):
            prices = np.sort(books[:, column::4], axis=1)
            changed |= set((np.flatnonzero((prices[1:] != prices[:-1]).any(axis=1)) + 1 + before).tolist())
        touching = window[:, 1] <= EXECUTION
        for row, (_, kind, order, size, price, direction) in enumerate(window.tolist(), first):
            if row < self.start:
                if kind == SUBMISSION:
                    self._before(direction, price, order, size)
                continue
            if row == self.start and kind == SUBMISSION:
                self._before(direction, price, order, size)
            if row == self.start or row in changed:
                self._enter(row, books[row - before])
            if row > self.start and touching[row - first]:
                visit = self._open.get((BUY if direction == 1 else SELL, price))
                if visit is not None:
                    self._note(visit, row, kind, order, size)
            if row > self.start and row in changed:
                self._leave(row, books[row - before])

    def _before(self, direction: int, price: int, order: int, size: int) -> None:
        """A submission of the opening burst: the first book is the state after it."""
        level = BUY if direction == 1 else SELL, price
        visit = self._open.setdefault(level, _Visit(self.start))
        visit.known[order] = visit.submitted[order] = size

    @staticmethod
    def _in_view(book: np.ndarray) -> dict[Level, int]:
        fields = book.tolist()
        return {
            (side, fields[at]): fields[at + 1]
            for side, column in ((BUY, 0), (SELL, 2))
            for at in range(column, len(fields), 4)
            if fields[at] != MISSING
        }

    def _enter(self, row: int, book: np.ndarray) -> None:
        levels = self._in_view(book)
        if row == self.start:  # what the burst told of levels that are not in view is forgotten
            self._open = {level: visit for level, visit in self._open.items() if level in levels}
        for level, size in levels.items():
            visit = self._open.get(level)
            if visit is None:
                visit = self._open[level] = _Visit(row)
            if visit.row == row:
                visit.size = size
                self.visits += 1

    def _leave(self, row: int, book: np.ndarray) -> None:
        levels = self._in_view(book)
        for level in [level for level in self._open if level not in levels]:
            self._end(level)
            self._leaving.append((row, *level))

    @staticmethod
    def _note(visit: _Visit, row: int, kind: int, order: int, size: int) -> None:
        """What a message says of the orders that were there when the visit began."""
        if kind == SUBMISSION:
            visit.submitted[order] = size
            visit.new_now += size if row == visit.row else 0
        elif order in visit.submitted:
            left = visit.submitted[order] - size
            if kind == DELETION or left <= 0:
                del visit.submitted[order]
            else:
                visit.submitted[order] = left
        else:
            visit.known[order] = visit.known.get(order, 0) + size

    def _end(self, level: Level) -> None:
        """The visit is over: the orders that were there when it began, and one unnamed for the rest of the size."""
        visit = self._open.pop(level)
        at = visit.size - visit.new_now
        for order, size in sorted(visit.known.items()):  # ids rise with time
            if (size := min(size, at)) > 0:
                self._seeds.append(Seed(visit.row, *level, order, size))
                at -= size
        if at > 0:
            self._seeds.append(Seed(visit.row, *level, NO_ORDER, at))


# --- the stream -------------------------------------------------------------------------------------------------------


class Lobster:
    """Messages and books as batches of rows, an importer: a book check after every row that is not inside a sweep."""

    def __init__(self, path: Path, messages: Spool, books: BookFile, progress: Progress | None = None) -> None:
        self.path, self.messages, self.progress = path, messages, progress
        self.exclusions: list[Exclusion] = []
        self.aggressors = self.seeds = 0
        views = Views(messages, books)
        self.start, self.kinds, self.visits = views.start, views.kinds, views.visits
        self._seeds, self._leaving = views.seeds, views.leaving
        self._in_view: dict[Level, dict[int, int]] = {}  # orders → what is left, in order of time
        self._rows = Rows()

    def batches(self) -> Iterator[Batch]:
        """The session from its first whole book on."""
        seed = leave = 0
        for first, messages in self._windows():
            row = first
            seeds = self._rows_of(self._seeds, seed, first + len(messages))
            leaving = self._rows_of(self._leaving, leave, first + len(messages))
            seed, leave = seed + len(seeds), leave + len(leaving)
            seeds.reverse()
            leaving.reverse()
            while row < first + len(messages):
                end = self._run_end(messages, row, first)
                while seeds and seeds[-1][0] < end:  # what comes into view during a sweep may be hit by it
                    self._rest_seed(*seeds.pop())
                if row > self.start:
                    if messages[row - first][1] == EXECUTION:
                        self._execute(messages[row - first : end - first], row)
                    else:
                        self._message(messages[row - first], row)
                while leaving and leaving[-1][0] < end:
                    at, side, price = leaving.pop()
                    self._leave((side, price), at)
                self._rows.add(source_rows.BOOK, end, ref=end - 1)
                row = end
            yield self._rows.take()
            if self.progress:
                self.progress(row, len(self.messages), "rows looked at")

    def _windows(self) -> Iterator[tuple[int, list[list[int]]]]:
        """(first row, messages) of windows that end where no sweep is under way."""
        at = self.start
        size = BATCH_ROWS
        while at < len(self.messages):
            messages = self.messages.window(at, at + size).tolist()
            end = len(messages)
            if at + end < len(self.messages):  # the last sweep may go on behind the window
                while end and messages[end - 1][1] == EXECUTION and messages[end - 1][0] == messages[-1][0]:
                    end -= 1
            if not end:
                size *= 2  # one sweep longer than the window
                continue
            yield at, messages[:end]
            at, size = at + end, BATCH_ROWS

    @staticmethod
    def _rows_of(table: np.ndarray, first: int, before_row: int) -> list[list[int]]:
        last = int(np.searchsorted(table[:, 0], before_row))
        return table[first:last].tolist()

    def _run_end(self, messages: list[list[int]], row: int, first: int) -> int:
        """The row after a run of executions that one aggressor makes; the next row for anything else."""
        time, kind, _, _, price, direction = messages[row - first]
        end = row + 1
        if kind != EXECUTION or row == self.start:
            return end
        while end - first < len(messages):
            t, k, _, _, p, d = messages[end - first]
            away = (p - price) * -direction  # a buyer hits asks (−1) at rising prices
            if t != time or k != EXECUTION or d != direction or away < 0:
                break
            price, end = p, end + 1
        return end

    def _rest_seed(self, row: int, side: int, price: int, order: int, size: int) -> None:
        if order == NO_ORDER:
            self.seeds += 1
            order = -self.seeds
        self._rest((side, price), order, size, row)

    def _rest(self, where: Level, order: int, size: int, row: int) -> None:
        self._in_view.setdefault(where, {})[order] = size
        self._add(source_rows.NEW, row, order, side=where[0], price=where[1], size=size)

    def _add(self, kind: int, row: int, order: int, *, side: int = 0, price: int = 0, size: int = 0) -> None:
        self._rows.add(kind, row + 1, order=b"%d" % order, side=side, price=price, size=size, ref=row)

    def _message(self, message: list[int], row: int) -> None:
        """A submission, cancel or deletion at a level in view."""
        _, kind, order, size, price, direction = message
        if kind > EXECUTION:
            return
        where = (BUY if direction == 1 else SELL, price)
        level = self._in_view.get(where)
        if kind == SUBMISSION:
            self._rest(where, order, size, row)
        elif level is None:
            self.exclusions.append(Exclusion(row, f"order {order} at {price} is not in view"))
        elif order not in level:
            self.exclusions.append(Exclusion(row, f"order {order} at {price} is not known"))
        else:
            self._take(level, order, size, row)

    def _take(self, level: dict[int, int], order: int, size: int, row: int) -> None:
        """Removes ``size`` of an order: a reduction, or a cancel of all that is left."""
        if size >= level[order]:
            del level[order]
            self._add(source_rows.CANCEL, row, order)
        else:
            level[order] -= size
            self._add(source_rows.REDUCE, row, order, size=size)

    def _execute(self, messages: list[list[int]], first: int) -> None:
        """One aggressor's fills as an immediate order; what the venue dealt out of turn as reductions."""
        fills: list[tuple[int, int, int]] = []
        side = BUY if messages[0][5] == 1 else SELL
        for row, (_, _, order, size, price, _) in enumerate(messages, first):
            level = self._in_view.get((side, price), {})
            if order not in level:
                self.exclusions.append(Exclusion(row, f"execution of order {order} at {price}, which is not known"))
                continue
            best = self._best(side)
            if next(iter(level)) != order or price != best or size > level[order]:
                self._send_aggressor(side, fills, first)
                fills = []
                why = "an older order" if price == best else f"the better price {best}"
                self.exclusions.append(Exclusion(row, f"execution of order {order} at {price} skips {why}"))
                self._take(level, order, size, row)
                continue
            level[order] -= size
            if not level[order]:
                del level[order]
            fills.append((order, price, size))
        self._send_aggressor(side, fills, first)

    def _send_aggressor(self, side: int, fills: list[tuple[int, int, int]], row: int) -> None:
        if not fills:
            return
        self.aggressors += 1
        size = sum(f[2] for f in fills)
        self._rows.add(source_rows.IMMEDIATE, row + 1, side=1 - side, price=fills[-1][1], size=size, ref=row)
        for order, price, size in fills:
            self._add(source_rows.FILL, row, order, price=price, size=size)

    def _best(self, side: int) -> int:
        prices = [price for (s, price), orders in self._in_view.items() if s == side and orders]
        return max(prices) if side == BUY else min(prices)

    def _leave(self, where: Level, row: int) -> None:
        """Cancels what is left at a level that goes out of view."""
        for order in self._in_view.pop(where, {}):
            self._add(source_rows.CANCEL, row, order)
