"""The increment: an immutable file of bytes beside the snapshots, written once, named by every snapshot that needs it.

What only grows during a day (the reports) need not be written again with each snapshot, and the market need not wait
for a copy of it. A snapshot holds a reference to each increment that belongs to its state::

      0        8         16                32
      +--------+---------+-----------------+
      |seq u64 |length   |XXH3-128 of the  |      one of these for each increment, in order, before the state;
      |        |  u64    |bytes (16)       |      their number stands in the snapshot's header
      +--------+---------+-----------------+

Order of writing: a temporary file, sync, rename, sync of the folder; only then the snapshot. One that no kept snapshot
names is removed when older snapshots are dropped. An increment that is missing or damaged makes its snapshot one that
does not verify: an older one is used, or the whole journal.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import xxhash

from .disk import Buffer, Disk, File, joined

INCREMENT_SUFFIX: Final = ".increment"
INCREMENT_TEMPORARY: Final = "increment.tmp"
# A large write is synced in pieces, so that a commit of the running market waits for one piece at most.
PIECE_BYTES: Final = 4 << 20
_REFERENCE: Final = struct.Struct("<QQ16s")
REFERENCE_BYTES: Final = _REFERENCE.size


@dataclass(frozen=True, slots=True)
class Increment:
    """A reference: ``seq`` is that of the snapshot with which it was written, ``digest`` XXH3-128 of its bytes."""

    seq: int
    length: int
    digest: bytes

    @property
    def name(self) -> str:
        """Its file name: names sort by sequence."""
        return f"{self.seq:020d}{INCREMENT_SUFFIX}"


def is_increment(name: str) -> bool:
    """Whether a file name is that of an increment."""
    stem = name.removesuffix(INCREMENT_SUFFIX)
    return stem != name and len(stem) == 20 and stem.isascii() and stem.isdigit()


def encode_references(increments: Iterable[Increment]) -> bytes:
    """32 bytes each, in order."""
    return b"".join(_REFERENCE.pack(i.seq, i.length, i.digest) for i in increments)


def decode_references(data: bytes | memoryview, count: int) -> tuple[Increment, ...]:
    """The first ``count`` references in ``data``."""
    return tuple(Increment(*_REFERENCE.unpack_from(data, i * REFERENCE_BYTES)) for i in range(count))


def hash_of(parts: Iterable[memoryview]) -> bytes:
    """XXH3-128 of ``parts`` one behind the other, piece by piece: a thread that does this lets others go on."""
    hasher = xxhash.xxh3_128()
    for part in parts:
        for at in range(0, len(part), PIECE_BYTES):
            hasher.update(part[at : at + PIECE_BYTES])
    return hasher.digest()


def write_pieces(file: File, offset: int, parts: Iterable[memoryview]) -> int:
    """Write ``parts`` one behind the other from ``offset`` on, synced piece by piece; the offset behind them."""
    pending = 0
    for part in parts:
        for at in range(0, len(part), PIECE_BYTES):
            piece = part[at : at + PIECE_BYTES]
            file.write(offset, piece)
            offset += len(piece)
            pending += len(piece)
            if pending >= PIECE_BYTES:
                file.sync()
                pending = 0
    return offset


def write_increment(disk: Disk, content: Buffer | Iterable[Buffer], seq: int) -> Increment:
    """Write, sync, rename, sync the folder. Raises ``OSError`` as the disk does (ENOSPC only from the first step)."""
    parts = joined(content)
    increment = Increment(seq, sum(map(len, parts)), hash_of(parts))
    file = disk.create(INCREMENT_TEMPORARY, increment.length)
    try:
        write_pieces(file, 0, parts)
        file.sync()
    finally:
        file.close()
    disk.rename(INCREMENT_TEMPORARY, increment.name)
    disk.sync_names()
    return increment


def increment_is_sound(disk: Disk, increment: Increment) -> bool:
    """Whether the file is there with the length and the bytes of its reference; reads it piece by piece."""
    try:
        file = disk.open(increment.name)
    except FileNotFoundError:
        return False
    try:
        if file.size() != increment.length:
            return False
        piece = np.empty(min(PIECE_BYTES, increment.length), np.uint8)
        hasher = xxhash.xxh3_128()
        for at in range(0, increment.length, PIECE_BYTES):
            hasher.update(file.read(at, PIECE_BYTES, piece).data)
    finally:
        file.close()
    return hasher.digest() == increment.digest
