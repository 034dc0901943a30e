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

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np

from engine.records import BUY, SELL
from replay import l3_text
from replay.l3 import L3Report, run_stream
from replay.l3_books import BookFile, parse_books
from replay.l3_text import ROW, Stream
from replay.number_table import MISSING, read_columns
from replay.source_files import SourceError, read_source

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

Level = tuple[int, int]  # side, price
Progress = Callable[[int, int], None]


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


class Visit(NamedTuple):
    """A period in which a level is in view: book rows ``first`` … ``end`` − 1; ``end`` is the first row without it."""

    level: Level
    first: int
    end: int


def replay_lobster(message_path: Path, book_path: Path, progress: Progress | None = None) -> LobsterReport:
    """Replays a pair of files. SourceError names file, line and reason; nothing is half-loaded."""
    messages = read_messages(message_path)
    books = parse_books(book_path, read_source(book_path))
    if books.fields != 4:
        raise SourceError(book_path, "is no LOBSTER orderbook")
    if len(books.table) != len(messages):
        raise SourceError(book_path, f"has {len(books.table)} rows, the message file {len(messages)}")
    compiler = Compiler(messages, books)
    rows = compiler.compile()
    stream = Stream(message_path, rows, compiler.orders)
    return LobsterReport(
        messages=len(messages),
        aggressors=compiler.aggressors,
        executions=int((messages[:, 1] == EXECUTION).sum()),
        hidden_executions=int((messages[:, 1] == HIDDEN_EXECUTION).sum()),
        halts=int((messages[:, 1] == HALT).sum()),
        seeds=compiler.seeds,
        visits=compiler.visits,
        exclusions=compiler.exclusions,
        replay=run_stream(stream, books, progress),
    )


def read_messages(path: Path) -> np.ndarray:
    """int64 (rows, 6): time (ns after midnight), type, order id, size, price, direction. SourceError for bad rows."""
    table = read_columns(path, read_source(path), list(range(FIELDS)), [TIME_DECIMALS, 0, 0, 0, 0, 0])
    bad = (table == MISSING).any(axis=1) | (table[:, 1] < SUBMISSION) | (table[:, 1] > HALT)
    bad |= (table[:, 1] < HIDDEN_EXECUTION) & ((table[:, 3] <= 0) | (np.abs(table[:, 5]) != 1))
    if bad.any():
        line = int(np.flatnonzero(bad)[0])
        raise SourceError(path, "is no LOBSTER message (time, type 1–7, id, size, price, direction ±1)", line + 1)
    table[:, 0] = (table[:, 0] + TIME_UNIT // 2) // TIME_UNIT
    return table


class Compiler:
    """Turns messages and books into ROW records. Keeps, per level in view, its orders in order of time."""

    def __init__(self, messages: np.ndarray, books: BookFile) -> None:
        self.messages, self.books = messages.tolist(), books
        self.exclusions: list[Exclusion] = []
        self.aggressors = self.seeds = self.orders = self.visits = self.start = 0
        self._ids: dict[int, int] = {}  # LOBSTER's order id → dense number
        self._in_view: dict[Level, dict[int, int]] = {}  # orders (dense) → what is left, in order of time
        self._rows: list[tuple[int, int, int, int, int, int]] = []  # price, quantity, ref, order, kind, side

    # --- what is in view when ------------------------------------------------------------------------------

    def _opening(self) -> int:
        """The row after which the session starts: the last of the burst of submissions with which it opens, or 0."""
        first = next((r for r, m in enumerate(self.messages) if m[1] == SUBMISSION), 0)
        if any(m[1] != HIDDEN_EXECUTION for m in self.messages[:first]):
            return 0
        last = first
        while last + 1 < len(self.messages) and self.messages[last + 1][:2] == self.messages[first][:2]:
            last += 1
        return last if last > first else 0

    def _find_visits(self) -> list[Visit]:
        """All visits in order of their first row."""
        found: list[Visit] = []
        for side, column in ((BUY, 0), (SELL, 2)):
            prices = np.sort(self.books.table[:, column::4], axis=1)
            changed = np.flatnonzero((prices[1:] != prices[:-1]).any(axis=1)) + 1
            changed = changed[changed > self.start]
            since: dict[int, int] = {}
            for row in [self.start, *changed.tolist()]:
                now = set(prices[row].tolist()) - {MISSING}
                for price in [p for p in since if p not in now]:
                    found.append(Visit((side, price), since.pop(price), row))
                for price in now - since.keys():
                    since[price] = row
            found += [Visit((side, price), row, len(prices)) for price, row in since.items()]
        return sorted(found, key=lambda v: v.first)

    def _events_by_level(self) -> dict[Level, list[int]]:
        """Rows of the messages that touch a level, in order."""
        found: dict[Level, list[int]] = {}
        for row, (_, kind, _, _, price, direction) in enumerate(self.messages):
            if kind <= EXECUTION:
                found.setdefault((BUY if direction == 1 else SELL, price), []).append(row)
        return found

    # --- the stream -----------------------------------------------------------------------------------------

    def compile(self) -> np.ndarray:
        """The stream as ROW records, a book check after every row that is not inside an aggressor's run."""
        self.start = self._opening()
        visits = self._find_visits()
        self.visits = len(visits)
        events = self._events_by_level()
        place = dict.fromkeys(events, 0)
        leaving: dict[int, list[Level]] = {}
        coming: dict[int, list[tuple[Visit, list[int]]]] = {}
        for visit in visits:
            rows = events.get(visit.level, [])
            at = place.get(visit.level, 0)
            while at < len(rows) and rows[at] < visit.first and visit.first > self.start:
                at += 1
            begin = at
            while at < len(rows) and rows[at] <= visit.end:
                at += 1
            place[visit.level] = at
            coming.setdefault(visit.first, []).append((visit, rows[begin:at]))
            leaving.setdefault(visit.end, []).append(visit.level)
        row = self.start
        while row < len(self.messages):
            end = self._run_end(row)
            for r in range(row, end):  # what comes into view during a sweep may be hit by it
                for visit, rows in coming.get(r, []):
                    self._enter(visit, rows, r)
            if self.messages[row][1] == EXECUTION and row > self.start:
                self._execute(row, end)
            elif row > self.start:
                self._message(row)
            for r in range(row, end):
                for level in leaving.get(r, []):
                    self._leave(level, r)
            self._add(0, 0, end - 1, 0, l3_text.BOOK, 0)
            row = end
        return self._as_rows()

    def _run_end(self, row: int) -> int:
        """The row after a run of executions that one aggressor makes; the next row for anything else."""
        time, kind, _, _, price, direction = self.messages[row]
        end = row + 1
        if kind != EXECUTION or row == self.start:
            return end
        while end < len(self.messages):
            t, k, _, _, p, d = self.messages[end]
            away = (p - price) * -direction  # a buyer hits asks (−1) at rising prices
            if t != time or k != EXECUTION or d != direction or away < 0:
                break
            price, end = p, end + 1
        return end

    def _enter(self, visit: Visit, rows: list[int], row: int) -> None:
        """Rests what was at a level when it came into view: named orders by their later events, the rest unnamed."""
        side, price = visit.level
        known: dict[int, int] = {}
        submitted: set[int] = set()
        new_now = 0
        for r in rows:
            _, kind, order, size, _, _ = self.messages[r]
            if r <= self.start:  # the first book is the state after it; only what it says of orders counts
                if kind == SUBMISSION:
                    known[order] = size
                    submitted.add(order)
            elif kind == SUBMISSION:
                submitted.add(order)
                new_now += size if r == row else 0
            elif order not in submitted:
                known[order] = known.get(order, 0) + size
        level = self._in_view.setdefault(visit.level, {})
        at = self._level_size(row, side, price) - new_now
        for order, size in sorted(known.items()):  # ids rise with time
            size = min(size, at)
            if size > 0:
                self._rest(level, visit.level, self._number(order), size, row)
                at -= size
        if at > 0:
            self.orders += 1
            self.seeds += 1
            self._rest(level, visit.level, self.orders - 1, at, row)

    def _level_size(self, row: int, side: int, price: int) -> int:
        fields = self.books.table[row]
        for at in range(0 if side == BUY else 2, len(fields), 4):
            if fields[at] == price:
                return int(fields[at + 1])
        raise AssertionError("a level in view is in the row")

    def _number(self, order: int) -> int:
        number = self._ids.get(order)
        if number is None:
            number = self._ids[order] = self.orders
            self.orders += 1
        return number

    def _rest(self, level: dict[int, int], where: Level, number: int, size: int, row: int) -> None:
        level[number] = size
        self._add(where[1], size, row, number, l3_text.NEW, where[0])

    def _message(self, row: int) -> None:
        """A submission, cancel or deletion at a level in view."""
        _, kind, order, size, price, direction = self.messages[row]
        if kind > EXECUTION:
            return
        where = (BUY if direction == 1 else SELL, price)
        level = self._in_view.get(where)
        if level is None:
            if kind == SUBMISSION:
                self._rest(self._in_view.setdefault(where, {}), where, self._number(order), size, row)
            else:
                self.exclusions.append(Exclusion(row, f"order {order} at {price} is not in view"))
            return
        number = self._number(order)
        if kind == SUBMISSION:
            self._rest(level, where, number, size, row)
        elif number not in level:
            self.exclusions.append(Exclusion(row, f"order {order} at {price} is not known"))
        else:
            self._take(level, number, size, row)

    def _take(self, level: dict[int, int], number: int, size: int, row: int) -> None:
        """Removes ``size`` of an order: a reduction, or a cancel of all that is left."""
        if size >= level[number]:
            del level[number]
            self._add(0, 0, row, number, l3_text.CANCEL, 0)
        else:
            level[number] -= size
            self._add(0, size, row, number, l3_text.REDUCE, 0)

    def _execute(self, first: int, end: int) -> None:
        """One aggressor's fills as an immediate order; what the venue dealt out of turn as reductions."""
        fills: list[tuple[int, int, int]] = []
        side = BUY if self.messages[first][5] == 1 else SELL
        for row in range(first, end):
            _, _, order, size, price, _ = self.messages[row]
            level = self._in_view.get((side, price), {})
            number = self._number(order)
            if number not in level:
                self.exclusions.append(Exclusion(row, f"execution of order {order} at {price}, which is not known"))
                continue
            best = self._best(side)
            if next(iter(level)) != number or price != best or size > level[number]:
                self._send_aggressor(side, fills, first)
                fills = []
                why = "an older order" if price == best else f"the better price {best}"
                self.exclusions.append(Exclusion(row, f"execution of order {order} at {price} skips {why}"))
                self._take(level, number, size, row)
                continue
            level[number] -= size
            if not level[number]:
                del level[number]
            fills.append((number, price, size))
        self._send_aggressor(side, fills, first)

    def _send_aggressor(self, side: int, fills: list[tuple[int, int, int]], row: int) -> None:
        if not fills:
            return
        self.aggressors += 1
        self._add(fills[-1][1], sum(f[2] for f in fills), row, 0, l3_text.IMMEDIATE, 1 - side)
        for number, price, size in fills:
            self._add(price, size, row, number, l3_text.FILL, 0)

    def _best(self, side: int) -> int:
        prices = [price for (s, price), orders in self._in_view.items() if s == side and orders]
        return max(prices) if side == BUY else min(prices)

    def _leave(self, where: Level, row: int) -> None:
        """Cancels what is left at a level that goes out of view."""
        for number in self._in_view.pop(where, {}):
            self._add(0, 0, row, number, l3_text.CANCEL, 0)

    def _add(self, price: int, quantity: int, ref: int, order: int, kind: int, side: int) -> None:
        self._rows.append((price, quantity, ref, order, kind, side))

    def _as_rows(self) -> np.ndarray:
        rows = np.zeros(len(self._rows), ROW)
        for name, column in zip(
            ("price", "quantity", "ref", "order", "kind", "side"), zip(*self._rows, strict=True), strict=True
        ):
            rows[name] = column
        rows["line"] = rows["ref"] + 1  # of the message file
        return rows
