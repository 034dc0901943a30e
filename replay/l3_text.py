"""The order-by-order command stream as text, one line per command, parsed in machine code.

::

    N,row,id,side,price,qty   a new limit order; the F lines that follow are its expected fills
    I,row,side,limit,qty      an immediate-or-cancel order
    C,row,id                  cancel            R,row,id,qty   reduce by qty, priority kept
    F,row,id,price,qty        an expected fill: the resting order hit, price, size
    B,row                     the best levels must equal row ``row`` of the orderbook CSV, counted from 0
    K,i                       the best ten levels must equal data row i of the MBP-10 CSV, counted from 0

Ids are any strings. Prices and quantities are integers in the source's own scale.
"""

# mypy: disable-error-code="no-untyped-def, call-arg"

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from engine.machine_code import native
from replay.number_table import FINE, MISSING, NOT_A_NUMBER, TOO_FEW_FIELDS, TOO_MANY_DIGITS, count_lines, parse_decimal
from replay.source_files import Progress, SourceError, text_blocks
from replay.source_rows import BOOK, BOOK_10, CANCEL, FILL, IMMEDIATE, NEW, REDUCE, ROW, Batch

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


@native(nogil=True)
def _parse(text, rows, line):
    """Fills ``rows``; ``line``: lines before this text. Returns (lines so far or the bad one, field, what is wrong)."""
    begin = np.zeros(FIELDS_MAX + 1, np.int64)
    stop = np.zeros(FIELDS_MAX + 1, np.int64)
    size = len(text)
    at = 0
    count = 0
    while at < size:
        line += 1
        end = at
        n = 0
        begin[0] = at
        while end < size and text[end] != _NEWLINE:
            if text[end] == _COMMA:
                if n == FIELDS_MAX:
                    return line, 0, TOO_MANY_FIELDS
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
            return line, 0, UNKNOWN_KIND
        if n != fields:
            return line, 0, TOO_FEW_FIELDS if n < fields else TOO_MANY_FIELDS
        r = rows[count]
        r.kind = kind
        r.line = line
        for field in range(1, n):
            if field == order_at:
                if begin[field] == stop[field]:
                    return line, field, EMPTY_FIELD
                r.order = begin[field]
                r.id_bytes = stop[field] - begin[field]
            elif field == side_at:
                letter = text[begin[field]] if stop[field] == begin[field] + 1 else np.uint8(0)
                if letter != _BUY and letter != _SELL:
                    return line, field, BAD_SIDE
                r.side = letter == _SELL
            else:
                value, wrong = parse_decimal(text, begin[field], stop[field], 0)
                if wrong != FINE:
                    return line, field, wrong
                if value == MISSING:
                    return line, field, EMPTY_FIELD
                if field == price_at:
                    r.price = value
                elif field == quantity_at:
                    r.quantity = value
                else:
                    r.ref = value
        count += 1
        at = following
    return line, 0, FINE


class L3Text:
    """The stream of a ``.cmd.csv`` file, an importer. ``progress(bytes read, bytes of the file)``."""

    def __init__(self, path: Path, progress: Progress | None = None) -> None:
        self.path, self.progress = path, progress

    def batches(self) -> Iterator[Batch]:
        """SourceError names line, field and reason of the first bad line."""
        lines = 0
        for block in _whole_commands(text_blocks(self.path, self.progress)):
            text = np.frombuffer(block, np.uint8)
            rows = np.zeros(count_lines(text), ROW)
            lines, field, wrong = _parse(text, rows, lines)
            if wrong:
                raise SourceError(self.path, _REASONS[wrong].format(field=field + 1), lines)
            yield Batch(rows, text)


def _whole_commands(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The text cut so that the F lines of a command stand in the same piece."""
    kept = b""
    for block in blocks:
        text = kept + block
        cut = len(text)
        while cut > 0:  # back to the last line that is a command's
            cut = text.rfind(b"\n", 0, cut - 1) + 1
            if text[cut : cut + 1] not in (b"F", b"\n", b"\r"):
                break
        if cut:
            yield text[:cut]
        kept = text[cut:]
    if kept:
        yield kept
