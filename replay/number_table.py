"""Columns of decimal numbers out of a CSV text, as exact integers, in machine code.

Order books and messages of other markets are wide tables of numbers: 18 MB for one small day. numpy and pandas
read them through floats; here each field goes digit by digit into an int64 with a fixed number of decimals.
"""

# mypy: disable-error-code="no-untyped-def, call-arg"

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from engine.machine_code import native
from replay.source_files import Progress, SourceError, text_blocks

MISSING: Final = -(1 << 63)  # an empty field
TENTH_MAX: Final = ((1 << 63) - 1) // 10  # a larger number times ten does not fit into an int64

# what was wrong with a field
FINE: Final = 0
NOT_A_NUMBER: Final = 1
TOO_MANY_DIGITS: Final = 2
TOO_FEW_FIELDS: Final = 3
REASONS: Final = {
    NOT_A_NUMBER: "is not a decimal number",
    TOO_MANY_DIGITS: "does not fit into 64 bits",
    TOO_FEW_FIELDS: "is missing: the line is too short",
}

_NEWLINE: Final = 10
_RETURN: Final = 13
_COMMA: Final = 44
_MINUS: Final = 45
_DOT: Final = 46
_ZERO: Final = 48


@native(nogil=True)
def parse_decimal(text, start, end, decimals):
    """Bytes start … end of ``text`` as an integer of 10^-decimals units: (value, FINE or what is wrong)."""
    if start == end:
        return np.int64(MISSING), FINE
    at = start
    negative = text[at] == _MINUS
    if negative:
        at += 1
    value = np.int64(0)
    after_dot = -1
    any_digit = False
    while at < end:
        c = text[at]
        if c == _DOT:
            if after_dot >= 0:
                return np.int64(0), NOT_A_NUMBER
            after_dot = 0
        else:
            d = np.int64(c) - _ZERO
            if d < 0 or d > 9:
                return np.int64(0), NOT_A_NUMBER
            any_digit = True
            if after_dot >= decimals:  # a digit beyond the unit: only zeros are exact
                if d != 0:
                    return np.int64(0), NOT_A_NUMBER
            else:
                if value > TENTH_MAX or (value == TENTH_MAX and d > 7):
                    return np.int64(0), TOO_MANY_DIGITS
                value = value * 10 + d
                if after_dot >= 0:
                    after_dot += 1
        at += 1
    if not any_digit:
        return np.int64(0), NOT_A_NUMBER
    for _ in range(decimals - max(after_dot, 0)):
        if value > TENTH_MAX:
            return np.int64(0), TOO_MANY_DIGITS
        value *= 10
    return -value if negative else value, FINE


@native(nogil=True)
def count_lines(text):
    """Lines with anything in them."""
    lines = 0
    length = 0
    for at in range(len(text)):
        if text[at] == _NEWLINE:
            lines += length > 0
            length = 0
        elif text[at] != _RETURN:
            length += 1
    return lines + (length > 0)


@native(nogil=True)
def _fill(text, start, target, wanted, decimals, out):
    """Fills ``out``; ``target[f]`` is the output column of field f or -1. Returns (line, field, what is wrong)."""
    at = start
    line = 0
    row = 0
    size = len(text)
    while at < size:
        line += 1
        end = at
        while end < size and text[end] != _NEWLINE:
            end += 1
        stop = end - 1 if end > at and text[end - 1] == _RETURN else end
        if stop > at:
            field = 0
            found = 0
            begin = at
            while begin <= stop and found < wanted and field < len(target):
                comma = begin
                while comma < stop and text[comma] != _COMMA:
                    comma += 1
                column = target[field]
                if column >= 0:
                    value, wrong = parse_decimal(text, begin, comma, decimals[column])
                    if wrong:
                        return line, field, wrong
                    out[row, column] = value
                    found += 1
                field += 1
                begin = comma + 1
            if found < wanted:
                return line, field, TOO_FEW_FIELDS
            row += 1
        at = end + 1
    return 0, 0, FINE


def read_columns(
    path: Path, columns: Sequence[int], decimals: Sequence[int], header_lines: int = 0, progress: Progress | None = None
) -> Iterator[np.ndarray]:
    """Columns of a CSV file as int64 in batches, shape (lines, len(columns)); an empty field is MISSING.

    ``columns[j]`` is the field that becomes output column j, with ``decimals[j]`` decimals (0: whole numbers).
    SourceError names line, field and reason.
    """
    target = np.full(max(columns) + 1, -1, np.int64)
    for j, field in enumerate(columns):
        target[field] = j
    units, lines, skip = np.array(decimals, np.int64), 0, header_lines
    for block in text_blocks(path, progress):
        start = 0
        while skip and start < len(block):
            start, skip = block.find(b"\n", start) + 1 or len(block), skip - 1
        text = np.frombuffer(block, np.uint8)
        out = np.empty((count_lines(text[start:]), len(columns)), np.int64)
        line, field, wrong = _fill(text, start, target, len(columns), units, out)
        if wrong:
            header = header_lines if not lines else 0
            raise SourceError(path, f"field {field + 1} {REASONS[wrong]}", lines + header + line)
        lines += block.count(b"\n")
        if len(out):
            yield out
