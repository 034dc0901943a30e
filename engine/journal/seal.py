"""The daily seal: what a day's journal was, in a few figures, inside the chain itself.

A seal is a group without commands that ends its segment, so that a day is a whole number of segments, which
can be copied away and checked alone (20 years of originals: R12.6).
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec
import numpy as np

DAY_HASH_BYTES: Final = 32


class Seal(msgspec.Struct, frozen=True, tag="seal"):
    """``day`` is yyyymmdd, ``last_seq`` the day's last command, ``state_hash`` the state after it.

    ``journal_hash`` is BLAKE2b-256 over the seal before (its ``journal_hash``; empty for the first) and all
    bytes of the journal since then, up to this group. ``counts`` are the day's figures by name (commands,
    deals, ...); ``balance_hash`` goes in there as text where the caller has one.
    """

    day: int
    last_seq: int
    state_hash: bytes
    journal_hash: bytes
    counts: dict[str, int | str]


def encode_seal(seal: Seal) -> bytes:
    """The seal as a group's payload (MessagePack)."""
    return msgspec.msgpack.encode(seal)


def decode_seal(payload: bytes) -> Seal:
    """Raises ``msgspec.DecodeError`` where the bytes are not a seal."""
    return msgspec.msgpack.decode(payload, type=Seal)


class DayHash:
    """BLAKE2b-256 over a day's journal bytes, chained with the day before."""

    def __init__(self, before: bytes) -> None:
        self._hash = hashlib.blake2b(before, digest_size=DAY_HASH_BYTES)

    def update(self, data: np.ndarray) -> None:
        self._hash.update(data.data)

    def digest(self) -> bytes:
        return self._hash.digest()
