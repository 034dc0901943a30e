"""The group, the journal's unit of commit: a header, the commands, their payloads, one checksum over all of it.

::

      0     4     8     12    16        24        32        40        48    52    56    60  61      64
      +-----+-----+-----+-----+---------+---------+---------+---------+-----+-----+-----+---+-------+
      |magic| crc |prev |length|first_  |last_    |synced_  |time_ns  |epoch|count|pay- |kin| zero  |
      | u32 | u32 |_crc | u32 |seq u64  |seq u64  |seq u64  |  i64    | u32 | u32 |load |d u8|      |
      +-----+-----+-----+-----+---------+---------+---------+---------+-----+-----+-----+---+-------+
      | count x COMMAND (64 bytes each)                                                             |
      +----------------------------------------------------------------------------------------------+
      | payload bytes of the MESSAGE commands, in order, without separators, zeros up to 8          |
      +----------------------------------------------------------------------------------------------+

- ``length``: the whole group in bytes, header and padding included; a multiple of 8.
- ``crc``: CRC-32 (zlib's) of everything after the field itself, started from the journal's seed, which comes
  from its id: bytes that merely look like a group, or come from another journal, do not verify.
- ``prev_crc``: the ``crc`` of the group before (0 for the first): the chain. It stands in the header, so that
  a group can be verified alone, even after a damaged one.
- ``synced_seq``: the last sequence that was known to be on the disk when this group was written. A group with
  ``synced_seq >= n`` proves that ``n`` had been durable: that is how recovery tells a torn last commit (cut it)
  from damage to something acknowledged (refuse).
- ``kind``: COMMANDS or SEAL. A seal has no commands; its payload is a MessagePack ``seal.Seal``.

Size: 64 + 64/n bytes per command in a group of n: 128 for one, 80 for four, 72 for eight, 64.1 for 1,024.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..records import COMMAND, MESSAGE, RECORD_BYTES

GROUP_MAGIC: Final = 0x50524743  # "CGRP" as little-endian bytes
HEADER_BYTES: Final = 64
ALIGNMENT: Final = 8  # the scan for later groups looks at multiples of it

COMMANDS: Final = 1
SEAL: Final = 2

# One group must fit into memory several times over at recovery; a drained gateway batch is far below it.
GROUP_BYTES_MAX: Final = 32 << 20

# magic, crc, prev_crc, length, first, last, synced, time, epoch, count, payload bytes, kind
_HEADER: Final = struct.Struct("<IIIIQQQqIIIB3x")
assert _HEADER.size == HEADER_BYTES

# Offsets in 32-bit and 64-bit words, for the machine-code scan.
WORD_CRC: Final = 1
WORD_PREV_CRC: Final = 2
WORD_LENGTH: Final = 3
LONG_FIRST_SEQ: Final = 2
LONG_LAST_SEQ: Final = 3
LONG_SYNCED_SEQ: Final = 4
WORD_EPOCH: Final = 12
WORD_COUNT: Final = 13
WORD_PAYLOAD_BYTES: Final = 14
WORD_KIND: Final = 15
CRC_START: Final = 8  # the checksum covers the group from this byte on


@dataclass(frozen=True, slots=True)
class GroupHeader:
    """The header's fields, in its order (see the diagram above)."""

    crc: int
    prev_crc: int
    length: int
    first_seq: int
    last_seq: int
    synced_seq: int
    time_ns: int
    epoch: int
    count: int
    payload_bytes: int
    kind: int


@dataclass(frozen=True, slots=True)
class Group:
    """What replay applies: ``commands`` COMMAND[n] (read-only), ``payloads`` the MESSAGE payloads in order."""

    commands: np.ndarray
    payloads: bytes
    header: GroupHeader


def seed_of(journal_id: int) -> int:
    """The value from which every checksum of a journal starts."""
    return zlib.crc32(journal_id.to_bytes(8, "little"))


def group_length(count: int, payload_bytes: int) -> int:
    """Bytes of a group of ``count`` commands with ``payload_bytes`` of payload."""
    return HEADER_BYTES + RECORD_BYTES * count + -(-payload_bytes // ALIGNMENT) * ALIGNMENT


def encode_group(
    out: bytearray,
    start: int,
    records: memoryview | bytes,
    payloads: memoryview | bytes,
    *,
    kind: int,
    seed: int,
    prev_crc: int,
    first_seq: int,
    synced_seq: int,
    time_ns: int,
    epoch: int,
) -> tuple[int, int]:
    """Write a group into ``out`` at ``start`` (room must be there) and return (its length, its crc).

    ``records``: count x 64 bytes. Cost: one copy and one checksum over the group.
    """
    count = len(records) // RECORD_BYTES
    payload_bytes = len(payloads)
    length = group_length(count, payload_bytes)
    body = start + HEADER_BYTES
    out[body : body + len(records)] = records
    blob = body + len(records)
    out[blob : blob + payload_bytes] = payloads
    out[blob + payload_bytes : start + length] = bytes(start + length - blob - payload_bytes)
    _HEADER.pack_into(
        out,
        start,
        GROUP_MAGIC,
        0,
        prev_crc,
        length,
        first_seq,
        first_seq + count - 1,
        synced_seq,
        time_ns,
        epoch,
        count,
        payload_bytes,
        kind,
    )
    with memoryview(out) as view:
        crc = zlib.crc32(view[start + CRC_START : start + length], seed)
    struct.pack_into("<I", out, start + 4, crc)
    return length, crc


def decode_header(data: np.ndarray, offset: int) -> GroupHeader:
    """The header at ``offset`` of ``data`` (uint8[n]); nothing is checked."""
    return GroupHeader(*_HEADER.unpack_from(data.data, offset)[1:])


def decode_group(data: np.ndarray, offset: int) -> Group:
    """The group at ``offset``, which a scan has verified: its commands are a view of ``data``."""
    header = decode_header(data, offset)
    body = offset + HEADER_BYTES
    blob = body + header.count * RECORD_BYTES
    return Group(data[body:blob].view(COMMAND), data[blob : blob + header.payload_bytes].tobytes(), header)


def payload_lengths(commands: np.ndarray) -> np.ndarray:
    """Bytes of payload that belong to each command: int64[n], zero for all but MESSAGE."""
    return np.where(commands["kind"] == MESSAGE, commands["quantity"], 0)
