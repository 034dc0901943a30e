"""The text lines of the public benchmark's reports, and their SHA-256: the result that is published.

0,seq,side,order_id,price,qty      acknowledgement     3,seq,side,order_id,price,qty   modify acknowledged
1,seq,price,qty,maker_id,taker_id  trade               4,seq,order_id                  cancel rejected
2,seq,side,order_id,price          cancelled           5,seq,order_id                  modify rejected
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

import numpy as np

from benchmarks.flash1_kernel import ACKNOWLEDGED, CANCELLED, MODIFIED, TRADE
from engine.book import kernel, part

LINE_BYTES_MAX: Final = 1 + 5 * 11 + 1  # a digit, five times a comma and ten digits, a newline
REPORTS_PER_BLOCK: Final = 1 << 16  # of text that is held at a time

_COMMA: Final = np.uint8(ord(","))
_NEWLINE: Final = np.uint8(ord("\n"))
_ZERO: Final = np.uint64(ord("0"))
_TEN: Final = np.uint64(10)
_U1: Final = np.uint64(1)


def fields(reports: np.ndarray) -> Iterator[tuple[int, ...]]:
    """Each report as the numbers of its text line."""
    for seq, price, qty, order_id, taker_id, kind, side, _ in reports.tolist():
        if kind in (ACKNOWLEDGED, MODIFIED):
            yield kind, seq, side, order_id, price, qty
        elif kind == TRADE:
            yield kind, seq, price, qty, order_id, taker_id
        elif kind == CANCELLED:
            yield kind, seq, side, order_id, price
        else:
            yield kind, seq, order_id


@part
def _number(text, at, value):
    """A comma and ``value`` (u8) in decimal at ``text[at]``. Returns where it ends."""
    text[at] = _COMMA
    digits = _U1
    bound = _TEN
    while value >= bound:
        digits += _U1
        bound *= _TEN
    end = at + digits + _U1
    for i in range(digits):
        text[end - _U1 - np.uint64(i)] = np.uint8(_ZERO + value % _TEN)
        value = value // _TEN
    return end


@kernel
def _render(reports, text):
    """Each report's line with a newline after it. Returns the bytes written."""
    at = np.uint64(0)
    for i in range(np.uint64(len(reports))):
        report = reports[i]
        kind = report.kind
        text[at] = np.uint8(_ZERO + np.uint64(kind))
        at = _number(text, at + _U1, np.uint64(report.seq))
        if kind == TRADE:
            at = _number(text, at, np.uint64(report.price))
            at = _number(text, at, np.uint64(report.qty))
            at = _number(text, at, np.uint64(report.order_id))
            at = _number(text, at, np.uint64(report.taker_id))
        else:
            if kind <= MODIFIED:
                at = _number(text, at, np.uint64(report.side))
            at = _number(text, at, np.uint64(report.order_id))
            if kind <= MODIFIED:
                at = _number(text, at, np.uint64(report.price))
                if kind != CANCELLED:
                    at = _number(text, at, np.uint64(report.qty))
        text[at] = _NEWLINE
        at += _U1
    return at


def report_hash(reports: np.ndarray) -> str:
    """SHA-256 of the reports' text: lines joined by a newline, none at the end."""
    digest = hashlib.sha256()
    text = np.empty(REPORTS_PER_BLOCK * LINE_BYTES_MAX, np.uint8)
    for start in range(0, len(reports), REPORTS_PER_BLOCK):
        block = reports[start : start + REPORTS_PER_BLOCK]
        written = int(_render(block, text))
        last = start + len(block) == len(reports)
        digest.update(text[: written - 1 if last else written].tobytes())
    return digest.hexdigest()
