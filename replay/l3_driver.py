"""Sends a parsed order-by-order stream through the exchange's kernel and compares every fill and book, in machine code.

One command at a time: each line becomes a COMMAND record, `kernel.run` carries it out, and its FILL_MAKER events are
held against the F lines that follow. External ids become engine order ids as the ACCEPTED events tell them; whether
an order is still open is asked of the engine's own book (`find`), so nothing here keeps a second book.
"""

# mypy: disable-error-code="no-untyped-def, call-arg"

from __future__ import annotations

from typing import Final

import numpy as np

from engine.book import NIL, find, kernel, next_level, tick_of
from engine.kernel import DONE, run
from engine.records import ACCEPTED, BUY, FILL_MAKER, IOC, LIMIT, REJECTED, SELL
from engine.records import CANCEL as CANCEL_COMMAND
from engine.records import NEW as NEW_COMMAND
from engine.records import REDUCE as REDUCE_COMMAND
from replay.ladder import GUARDS
from replay.number_table import MISSING
from replay.source_rows import BOOK, BOOK_10, CANCEL, FILL, IMMEDIATE, NEW, REDUCE

COUNTS: Final = np.dtype(
    [
        (name, "<i8")
        for name in (
            "next_row",  # where the next call goes on
            "commands",  # N, I, C, R lines
            "aggressors",  # N and I lines that must trade or did
            "fills",  # F lines
            "fills_matched",
            "fills_unexpected",  # made by the engine without an F line
            "books",  # B and K lines
            "books_matched",
            "live_ids_ignored",  # N lines whose id is open (D18)
            "not_open",  # C and R lines whose order is not open
            "rejected",  # N and I lines that the engine refused
            "traded",  # quantity over all fills
            "mismatches",  # rows written to the list of mismatches, capped by its length
        )
    ]
)

# kinds of mismatch
FILL_DIFFERS: Final = 1  # an F line against another fill: order id is the engine's idea
FILL_MISSING: Final = 2
FILL_UNEXPECTED: Final = 3
BOOK_DIFFERS: Final = 4
REFUSED: Final = 5

MISMATCH: Final = np.dtype(
    [
        ("line", "<i8"),
        ("kind", "<i8"),
        ("level", "<i8"),  # of a book, from 0; reject code of a refusal
        ("side", "<i8"),
        ("price", "<i8"),  # what the engine has
        ("quantity", "<i8"),
        ("orders", "<i8"),
        ("expected_price", "<i8"),
        ("expected_quantity", "<i8"),
        ("expected_orders", "<i8"),
    ]
)

_U0: Final = np.uint64(0)


@kernel
def _note(counts, mismatches, line, kind, level, side, price, quantity, orders, e_price, e_quantity, e_orders):
    at = counts[_U0].mismatches
    if at < len(mismatches):
        m = mismatches[at]
        m.line = line
        m.kind = kind
        m.level = level
        m.side = side
        m.price = price
        m.quantity = quantity
        m.orders = orders
        m.expected_price = e_price
        m.expected_quantity = e_quantity
        m.expected_orders = e_orders
        counts[_U0].mismatches = at + 1


@kernel
def _source_price(low, tick, prices, step):
    """Price in the source's scale of a step of the ladder, from 0."""
    return prices[step] if len(prices) else low + tick * step


@kernel
def _book_equals(counts, mismatches, line, book, low, tick, prices, expected, n_levels, fields):
    """True where the best levels of both sides are what the row of the book file says."""
    _orders, _pool, sides, levels, bitmap = book
    per_side = fields // 2
    for side in (BUY, SELL):
        level = np.uint64(sides[np.uint64(side)].best)
        s = np.uint64(side)
        for n in range(n_levels):
            at = n * fields + side * per_side
            price = np.int64(MISSING)
            quantity = np.int64(0)
            count = np.int64(0)
            if level != np.uint64(NIL):
                here = levels[np.uint64(sides[s].levels_offset) + level]
                price = _source_price(low, tick, prices, np.int64(tick_of(sides, s, level)) + 1 - GUARDS)
                quantity = here.quantity
                count = np.int64(here.count)
                level = next_level(sides, bitmap, s, level)
            e_count = expected[at + 2] if per_side == 3 else count
            if price != expected[at] or quantity != expected[at + 1] or count != e_count:
                _note(
                    counts, mismatches, line, BOOK_DIFFERS, n, side,
                    price, quantity, count, expected[at], expected[at + 1], e_count,
                )  # fmt: skip
                return False
    return True


@kernel
def _compare_fill(counts, mismatches, rows, at, row, e, engine_ids, price):
    """One FILL_MAKER event against the line that should tell it. Returns where the next F line should be."""
    counts[_U0].traded += e.quantity
    if at >= len(rows) or rows[at].kind != FILL:
        counts[_U0].fills_unexpected += 1
        _note(
            counts, mismatches, row.line, FILL_UNEXPECTED, 0, np.int64(row.side), price, e.quantity, 0, 0, 0, 0
        )  # fmt: skip
        return at
    f = rows[at]
    counts[_U0].fills += 1
    same = engine_ids[f.order] == e.order_id
    if same and f.price == price and f.quantity == e.quantity:
        counts[_U0].fills_matched += 1
    else:
        _note(
            counts, mismatches, f.line, FILL_DIFFERS, 0, np.int64(row.side),
            price, e.quantity, np.int64(same), f.price, f.quantity, 1,
        )  # fmt: skip
    return at + 1


@kernel
def _miss_fills(counts, mismatches, rows, at):
    """F lines that no fill answers. Returns the first row that is no F line."""
    while at < len(rows) and rows[at].kind == FILL:
        f = rows[at]
        counts[_U0].fills += 1
        _note(counts, mismatches, f.line, FILL_MISSING, 0, 0, 0, 0, 0, f.price, f.quantity, 1)
        at += 1
    return at


@kernel
def _send_order(
    control, control_address, events, c, command_address, rows, r, engine_price, engine_ids,
    low, tick, prices, counts, mismatches,
):  # fmt: skip
    """Sends the N or I line in row ``r`` and compares its fills. Returns the first row after its F lines."""
    row = rows[r]
    k = control[_U0]
    c.seq += np.uint64(1)
    c.kind = NEW_COMMAND
    c.order_id = 0
    c.side = row.side
    c.price = engine_price
    c.quantity = row.quantity
    c.order_type = LIMIT if row.kind == NEW else IOC
    following = r + 1
    first = True
    traded = False
    status = np.int64(-1)
    while status != DONE:  # again while the events' buffer is full
        status = run(control_address, command_address, 1)
        for w in range(k.written):
            e = events[np.uint64(w)]
            if first and e.kind == ACCEPTED and row.kind == NEW:
                engine_ids[row.order] = e.order_id
            elif first and e.kind != ACCEPTED:
                counts[_U0].rejected += 1
                _note(
                    counts, mismatches, row.line, REFUSED, np.int64(e.reason), np.int64(row.side),
                    row.price, row.quantity, 0, 0, 0, 0,
                )  # fmt: skip
            elif e.kind == FILL_MAKER:
                traded = True
                price = _source_price(low, tick, prices, e.price - GUARDS)
                following = _compare_fill(counts, mismatches, rows, following, row, e, engine_ids, price)
            first = False
    after = _miss_fills(counts, mismatches, rows, following)
    counts[_U0].aggressors += traded or after > following
    return after


@kernel
def drive(
    control, control_address, events, command, command_address, book, rows, engine_prices, engine_ids,
    low, tick, prices, expected, n_levels, fields, counts, mismatches, rows_max,
):  # fmt: skip
    """Sends up to ``rows_max`` rows from ``counts.next_row`` on, whole commands with their F lines; see COUNTS.

    ``engine_prices``: the ladder's level of each row; ``engine_ids``: u8 per dense id, 0 at first, kept between calls;
    ``expected``: the book table, (0, 0) where there is none (its rows then only count).
    """
    n = len(rows)
    r = counts[_U0].next_row
    until = min(n, r + rows_max)
    c = command[_U0]
    while r < until:
        row = rows[r]
        kind = row.kind
        if kind in (NEW, IMMEDIATE):
            counts[_U0].commands += 1
            if kind == NEW and find(book[0], book[1], engine_ids[row.order]) != _U0:
                counts[_U0].live_ids_ignored += 1
                r = _miss_fills(counts, mismatches, rows, r + 1)
            else:
                r = _send_order(
                    control, control_address, events, c, command_address, rows, r, engine_prices[r], engine_ids,
                    low, tick, prices, counts, mismatches,
                )  # fmt: skip
            continue
        if kind in (CANCEL, REDUCE):
            counts[_U0].commands += 1
            c.seq += np.uint64(1)
            c.kind = CANCEL_COMMAND if kind == CANCEL else REDUCE_COMMAND
            c.order_id = engine_ids[row.order]
            c.quantity = row.quantity
            run(control_address, command_address, 1)
            if events[_U0].kind == REJECTED:
                counts[_U0].not_open += 1
        elif kind in (BOOK, BOOK_10):
            counts[_U0].books += 1
            if 0 <= row.ref < len(expected):
                counts[_U0].books_matched += _book_equals(
                    counts, mismatches, row.line, book, low, tick, prices, expected[row.ref], n_levels, fields
                )
        else:  # an F line that follows no order: nothing can match it
            r = _miss_fills(counts, mismatches, rows, r)
            continue
        r += 1
    counts[_U0].next_row = r
