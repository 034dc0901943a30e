"""What the desk remembers of what is open: declarations and dialogues, and how that is dumped and loaded.

What has ended is in the journal; of it the desk keeps only a number and how it ended, for a clear refusal.
"""

from __future__ import annotations

from typing import Any

import msgspec

from engine.bulk_states import Declared, Talk


class Hold(msgspec.Struct, array_like=True, gc=False):
    """A lock that one declaration or one taker owns; all zero when nothing is locked. See engine/bulk_locks.py."""

    quantity: int = 0  # allowances locked (seller), or counted in the buyer's open buys, t
    cash: int = 0  # fen, buyer only


class Declaration(msgspec.Struct, array_like=True, gc=False):
    """An open (or frozen) declaration."""

    number: int
    maker: int
    side: int
    instrument: int
    price: int
    quantity: int  # still open
    dealt: int
    partial: bool
    to: tuple[int, ...]
    group: int
    note: str
    valid_until: int
    state: Declared = Declared.OPEN
    hold: Hold = msgspec.field(default_factory=Hold)
    threads: dict[int, int] = {}  # taker → open dialogue
    raised: dict[int, int] = {}  # dialogue → price that the maker is bound to in it
    threads_opened: int = 0

    @property
    def public(self) -> bool:
        """Addressed to everyone."""
        return not self.to and not self.group


class Thread(msgspec.Struct, array_like=True, gc=False):
    """An open dialogue, with the terms on the table and all its steps so far."""

    number: int
    declaration: int
    taker: int
    price: int
    quantity: int
    state: Talk = Talk.NEW
    hold: Hold = msgspec.field(default_factory=Hold)  # the taker's
    steps: list[tuple[int, int, int, int, int, int, str]] = []  # seq, time_ns, turn, by, price, quantity, note


class DeskState(msgspec.Struct, array_like=True):
    """Everything that a snapshot keeps of the desk, in the order of the numbers."""

    declarations: list[Declaration]
    threads: list[Thread]
    ended_declarations: list[tuple[int, tuple[int, int, bool]]]
    ended_threads: list[tuple[int, tuple[int, int, int]]]
    next_declaration: int
    next_thread: int
    frozen: bool


_encoder = msgspec.msgpack.Encoder()  # dictionaries in the order of insertion: it is part of the state
_decoder: Any = msgspec.msgpack.Decoder(DeskState)


def encode_state(state: DeskState) -> bytes:
    """Deterministic MessagePack: the same sequence of commands gives the same bytes, also over a load."""
    return _encoder.encode(state)


def decode_state(data: bytes) -> DeskState:
    """The reverse of :func:`encode_state`; msgspec.ValidationError where the bytes are something else."""
    return _decoder.decode(data)
