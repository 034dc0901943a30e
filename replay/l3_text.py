"""The order-by-order command stream as text, one line per command, parsed in machine code.

::

    N,row,id,side,price,qty   a new limit order; the F lines that follow are its expected fills
    I,row,side,limit,qty      an immediate-or-cancel order
    C,row,id                  cancel            R,row,id,qty   reduce by qty, priority kept
    F,row,id,price,qty        an expected fill: the resting order hit, price, size
    B,row                     the best levels must equal row ``row`` of the orderbook CSV, counted from 0
    K,i                       the best ten levels must equal data row i of the MBP-10 CSV, counted from 0

Ids are any strings; equal strings become the same dense number, in order of first appearance. Prices and
quantities are integers in the source's own scale.
"""

# mypy: disable-error-code="no-untyped-def, call-arg"

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numba import njit

from replay.number_table import FINE, MISSING, NOT_A_NUMBER, TOO_FEW_FIELDS, TOO_MANY_DIGITS, count_lines, parse_decimal
from replay.source_files import SourceError

ROW: Final = np.dtype(
    [
        ("price", "<i8"),
        ("quantity", "<i8"),
        ("ref", "<i8"),  # row of the source; of B and K: the row of the book file
        ("order", "<u4"),  # dense number of the id
        ("line", "<u4"),  # in the file, from 1
        ("kind", "u1"),  # the letter
        ("side", "u1"),  # records.BUY or SELL
        ("spare", "u1", (6,)),
    ]
)

NEW: Final = ord("N")
IMMEDIATE: Final = ord("I")
CANCEL: Final = ord("C")
REDUCE: Final = ord("R")
FILL: Final = ord("F")
BOOK: Final = ord("B")
BOOK_10: Final = ord("K")

_BUY: Final = ord("B")
_SELL: Final = ord("S")
_NEWLINE: Final = 10
_RETURN: Final = 13
_COMMA: Final = 44

UNKNOWN_KIND: Final = 10
BAD_SIDE: Final = 11
TOO_MANY_FIELDS: Final = 12
EMPTY_FIELD: Final = 13
_REASONS: Final = {
    NOT_A_NUMBER: "field {field} is not a whole number",
    TOO_MANY_DIGITS: "field {field} does not fit into 64 bits",
    TOO_FEW_FIELDS: "too few fields for its kind",
    TOO_MANY_FIELDS: "too many fields for its kind",
    EMPTY_FIELD: "field {field} is empty",
    UNKNOWN_KIND: "the first field is not one of N, I, C, R, F, B, K",
    BAD_SIDE: "field {field}: side is not B or S",
}
FIELDS_MAX: Final = 6


class Stream(NamedTuple):
    """A parsed stream: ``rows`` (ROW, in file order) and how many different ids there are."""

    path: Path
    rows: np.ndarray
    n_orders: int


@njit(cache=True, nogil=True)
def _intern(text, start, end, table, starts, ends, known):
    """Number of the id in bytes start … end: (number, ids known now). Open addressing, FNV-1a, bytes compared."""
    h = np.uint64(0xCBF29CE484222325)
    for at in range(start, end):
        h = (h ^ np.uint64(text[at])) * np.uint64(0x100000001B3)
    mask = np.uint64(len(table) - 1)
    place = (h ^ (h >> np.uint64(29))) & mask
    while table[place] != 0:
        number = np.int64(table[place]) - 1
        if ends[number] - starts[number] == end - start:
            same = True
            for offset in range(end - start):
                if text[starts[number] + offset] != text[start + offset]:
                    same = False
                    break
            if same:
                return number, known
        place = (place + np.uint64(1)) & mask
    starts[known] = start
    ends[known] = end
    table[place] = known + 1
    return known, known + 1


@njit(cache=True, nogil=True)
def _parse(text, rows, table, starts, ends):
    """Fills ``rows``. Returns (ids, line, field, what is wrong)."""
    begin = np.zeros(FIELDS_MAX + 1, np.int64)
    stop = np.zeros(FIELDS_MAX + 1, np.int64)
    size = len(text)
    at = 0
    line = 0
    count = 0
    known = 0
    while at < size:
        line += 1
        end = at
        n = 0
        begin[0] = at
        while end < size and text[end] != _NEWLINE:
            if text[end] == _COMMA:
                if n == FIELDS_MAX:
                    return known, line, 0, TOO_MANY_FIELDS
                stop[n] = end
                n += 1
                begin[n] = end + 1
            end += 1
        last = end - 1 if end > at and text[end - 1] == _RETURN else end
        stop[n] = last
        n += 1
        following = end + 1
        if last == at:
            at = following
            continue
        kind = text[at] if stop[0] == at + 1 else np.uint8(0)
        # which field holds what; 0: none
        order_at = 0
        side_at = 0
        price_at = 0
        quantity_at = 0
        if kind == NEW:
            fields, order_at, side_at, price_at, quantity_at = 6, 2, 3, 4, 5
        elif kind == IMMEDIATE:
            fields, side_at, price_at, quantity_at = 5, 2, 3, 4
        elif kind == CANCEL:
            fields, order_at = 3, 2
        elif kind == REDUCE:
            fields, order_at, quantity_at = 4, 2, 3
        elif kind == FILL:
            fields, order_at, price_at, quantity_at = 5, 2, 3, 4
        elif kind in (BOOK, BOOK_10):
            fields = 2
        else:
            return known, line, 0, UNKNOWN_KIND
        if n != fields:
            return known, line, 0, TOO_FEW_FIELDS if n < fields else TOO_MANY_FIELDS
        r = rows[count]
        r.kind = kind
        r.line = line
        for field in range(1, n):
            if field == order_at:
                if begin[field] == stop[field]:
                    return known, line, field, EMPTY_FIELD
                number, known = _intern(text, begin[field], stop[field], table, starts, ends, known)
                r.order = number
            elif field == side_at:
                letter = text[begin[field]] if stop[field] == begin[field] + 1 else np.uint8(0)
                if letter != _BUY and letter != _SELL:
                    return known, line, field, BAD_SIDE
                r.side = letter == _SELL
            else:
                value, wrong = parse_decimal(text, begin[field], stop[field], 0)
                if wrong != FINE:
                    return known, line, field, wrong
                if value == MISSING:
                    return known, line, field, EMPTY_FIELD
                if field == price_at:
                    r.price = value
                elif field == quantity_at:
                    r.quantity = value
                else:
                    r.ref = value
        count += 1
        at = following
    return known, 0, 0, FINE


def parse_stream(path: Path, text: bytes) -> Stream:
    """The stream of a ``.cmd.csv`` text. SourceError names line, field and reason of the first bad line."""
    data = np.frombuffer(text, np.uint8)
    n = count_lines(data)
    rows = np.zeros(n, ROW)
    table = np.zeros(1 << max(4, (2 * n).bit_length()), np.uint32)
    ids, line, field, wrong = _parse(data, rows, table, np.zeros(n + 1, np.int64), np.zeros(n + 1, np.int64))
    if wrong:
        raise SourceError(path, _REASONS[wrong].format(field=field + 1), line)
    return Stream(path, rows, int(ids))
