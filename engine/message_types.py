"""Base class and field types of every slow-lane message (msgspec tagged Structs)."""

from __future__ import annotations

from typing import Annotated

import msgspec

from engine.rules import AMOUNT_MAX_FEN, QUANTITY_MAX_T

PAYLOAD_MAX_BYTES = 16 * 1024  # of one slow-lane command: the longest is a group address list of the desk

Amount = Annotated[int, msgspec.Meta(ge=1, le=AMOUNT_MAX_FEN)]
Quantity = Annotated[int, msgspec.Meta(ge=1, le=QUANTITY_MAX_T)]
WORD_MAX = (1 << 63) - 1  # a time, a number of tonnes or fen: what the tables' int64 holds
Word = Annotated[int, msgspec.Meta(ge=-WORD_MAX, le=WORD_MAX)]
Limit = Annotated[int, msgspec.Meta(ge=-1, le=WORD_MAX)]  # -1: none; it is kept in an int64
Account = Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFE)]
Text = Annotated[str, msgspec.Meta(max_length=500)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
InstrumentCode = Annotated[str, msgspec.Meta(pattern=r"\A[A-Z0-9_.-]{1,16}\Z")]
Document = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Date = Annotated[int, msgspec.Meta(ge=19_000_101, le=21_001_231)]


class Message(msgspec.Struct, frozen=True, tag_field="t", forbid_unknown_fields=True, kw_only=True):
    """Base of every slow-lane command and notice."""
