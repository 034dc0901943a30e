"""The segment: a preallocated file of groups behind one header sector.

::

      0        8     12    16    20    24    28    32        40        48        56        64
      +--------+-----+-----+-----+-----+-----+-----+---------+---------+---------+---------+
      |magic   |for- |engi-|epoch|index|prev |zero |first_   |capacity |journal_ |previous_|
      |8 bytes |mat  |ne   | u32 | u32 |_crc |     |seq u64  |  u64    |id u64   |end u64  |
      +--------+-----+-----+-----+-----+-----+-----+---------+---------+---------+---------+
      | previous_hash (16 bytes) | rules_hash (32 bytes)       | zeros ...        | crc u32 |
      +--------------------------+-----------------------------+------------------+---------+
      64                         80                            112               508      512

A segment appears under its name only when its header is on the disk (written into a spare file, synced,
renamed, folder synced). ``previous_end``, ``prev_crc`` and ``previous_hash`` (XXH3-128 of the previous
segment's bytes up to its end) close the one before: what a torn commit left beyond that end is dead, and
stays on the disk as evidence. Every start of the exchange opens a new segment with the next epoch, so an
old segment is never written again.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
import xxhash

from .disk import SECTOR_BYTES

FORMAT: Final = 1
SEGMENT_MAGIC: Final = b"CEAJRNL\x00"
SEGMENT_HEADER_BYTES: Final = SECTOR_BYTES  # a sector of its own: no commit ever rewrites it
SEGMENT_BYTES: Final = 64 << 20  # 1 M commands; its hash takes some 10 ms at rotation
SEGMENT_SUFFIX: Final = ".segment"
SPARE: Final = "spare.tmp"
HASH_BYTES: Final = 16
RULES_HASH_BYTES: Final = 32

_FIELDS: Final = struct.Struct("<8sIIIII4xQQQQ16s32s")
_CRC_AT: Final = SEGMENT_HEADER_BYTES - 4


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose journal this is. A journal is opened only by the engine and under the rules that wrote it.

    ``journal_id`` distinguishes journals of one kind; 0 takes the one on the disk. Choose it at random where
    a journal is made, outside the engine: it seeds every checksum.
    """

    engine_abi: int
    rules_hash: bytes
    journal_id: int = 0
    format: int = FORMAT

    def __post_init__(self) -> None:
        assert len(self.rules_hash) <= RULES_HASH_BYTES, "a rules hash has at most 32 bytes"
        object.__setattr__(self, "rules_hash", bytes(self.rules_hash).ljust(RULES_HASH_BYTES, b"\0"))


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """The header's fields (see the diagram above)."""

    format: int
    engine_abi: int
    epoch: int
    index: int
    prev_crc: int
    first_seq: int
    capacity: int
    journal_id: int
    previous_end: int
    previous_hash: bytes
    rules_hash: bytes


def segment_name(index: int) -> str:
    """The file name of segment ``index``: names sort as the segments follow each other."""
    return f"{index:08d}{SEGMENT_SUFFIX}"


def segment_index(name: str) -> int | None:
    """The index in a segment's file name, or None where the name is not one."""
    stem = name.removesuffix(SEGMENT_SUFFIX)
    if stem == name or len(stem) != 8 or not (stem.isascii() and stem.isdigit()):
        return None
    return int(stem)


def encode_segment_header(header: SegmentHeader) -> bytes:
    """512 bytes: the fields, zeros, their checksum."""
    fields = _FIELDS.pack(
        SEGMENT_MAGIC,
        header.format,
        header.engine_abi,
        header.epoch,
        header.index,
        header.prev_crc,
        header.first_seq,
        header.capacity,
        header.journal_id,
        header.previous_end,
        header.previous_hash,
        header.rules_hash,
    ).ljust(_CRC_AT, b"\0")
    return fields + zlib.crc32(fields).to_bytes(4, "little")


def peek_format(data: bytes) -> int | None:
    """The format number of anything that starts as a segment does; it stays readable in every format."""
    if len(data) < 12 or data[:8] != SEGMENT_MAGIC:
        return None
    return int.from_bytes(data[8:12], "little")


def decode_segment_header(data: bytes) -> SegmentHeader | None:
    """The header in ``data`` (512 bytes), or None where it does not verify."""
    if len(data) < SEGMENT_HEADER_BYTES or zlib.crc32(data[:_CRC_AT]) != int.from_bytes(data[_CRC_AT:512], "little"):
        return None
    magic, *fields = _FIELDS.unpack_from(data)
    return SegmentHeader(*fields) if magic == SEGMENT_MAGIC else None


class ContentHash:
    """``content_hash`` of a segment while it is written: each commit adds its bytes, so that its end costs nothing."""

    def __init__(self) -> None:
        self._hash = xxhash.xxh3_128()

    def update(self, data: bytes | memoryview) -> None:
        """Add what was written next."""
        self._hash.update(data)

    def digest(self) -> bytes:
        """16 bytes, equal to ``content_hash`` of everything added."""
        return self._hash.digest()


def content_hash(data: np.ndarray) -> bytes:
    """XXH3-128 of a segment's bytes: 16 bytes, against damage and mix-ups, not against an attacker."""
    return xxhash.xxh3_128_digest(data.data)
