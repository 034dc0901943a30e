"""The snapshot: one file with the whole state after a sequence, behind one header sector.

::

      0        8     12    16    20    24        32        40        48            64          96
      +--------+-----+-----+-----+-----+---------+---------+---------+-------------+-----------+
      |magic   |for- |engi-|epoch|chain|seq u64  |length   |journal_ |state_hash   |rules_hash |
      |8 bytes |mat  |ne   | u32 |_crc |         |  u64    |id u64   |XXH3-128     |32 bytes   |
      +--------+-----+-----+-----+-----+---------+---------+---------+-------------+-----------+
      |increments u32 | zeros ...                                            crc u32 at 508   |
      +----------------------------------------------------------------------------------------+
      | ``length`` bytes from byte 512 on: references to increments (32 bytes each), the state |
      +----------------------------------------------------------------------------------------+

``chain_crc`` is the checksum of the group that ends with ``seq``: it ties the snapshot to this history, so
that one of an abandoned history (before an operator's cut) is not taken for one of this.

One with increments has another magic, so that a program that does not know them takes it for one that does not verify,
and goes back to an older one or the whole journal.

Order of writing: the increment, if any (``increment``); a temporary file, sync, rename, sync of the folder, read back
and verify; only then are older ones dropped. Three are kept.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import xxhash

from .disk import SECTOR_BYTES, Buffer, Disk, joined
from .increment import (
    REFERENCE_BYTES,
    Increment,
    decode_references,
    encode_references,
    hash_of,
    increment_is_sound,
    is_increment,
    write_pieces,
)
from .segment import FORMAT, Identity

SNAPSHOT_MAGIC: Final = b"CEASNAP\x00"
SNAPSHOT_MAGIC_INCREMENTS: Final = b"CEASNAP\x02"
SNAPSHOT_HEADER_BYTES: Final = SECTOR_BYTES
SNAPSHOT_SUFFIX: Final = ".snapshot"
SNAPSHOT_TEMPORARY: Final = "snapshot.tmp"
SNAPSHOTS_KEPT: Final = 3  # two may be damaged before a start has to replay from the first command

PIECE_BYTES: Final = 1 << 20  # of a snapshot that is verified: stays in the cache

_FIELDS: Final = struct.Struct("<8sIIIIQQQ16s32sI")
_CRC_AT: Final = SNAPSHOT_HEADER_BYTES - 4


@dataclass(frozen=True, slots=True)
class SnapshotHeader:
    """The header's fields (see the diagram above)."""

    format: int
    engine_abi: int
    epoch: int
    chain_crc: int
    seq: int
    length: int
    journal_id: int
    state_hash: bytes
    rules_hash: bytes
    increments: int = 0


def snapshot_name(seq: int) -> str:
    """The file name of the snapshot after ``seq``: names sort by sequence."""
    return f"{seq:020d}{SNAPSHOT_SUFFIX}"


def snapshot_seq(name: str) -> int | None:
    """The sequence in a snapshot's file name, or None where the name is not one."""
    stem = name.removesuffix(SNAPSHOT_SUFFIX)
    if stem == name or len(stem) != 20 or not (stem.isascii() and stem.isdigit()):
        return None
    return int(stem)


def snapshot_names(disk: Disk) -> list[str]:
    """Names of all snapshots, newest first."""
    return sorted((n for n in disk.names() if snapshot_seq(n) is not None), reverse=True)


def encode_snapshot_header(header: SnapshotHeader) -> bytes:
    """512 bytes: the fields, zeros, their checksum."""
    fields = _FIELDS.pack(
        SNAPSHOT_MAGIC_INCREMENTS if header.increments else SNAPSHOT_MAGIC,
        header.format,
        header.engine_abi,
        header.epoch,
        header.chain_crc,
        header.seq,
        header.length,
        header.journal_id,
        header.state_hash,
        header.rules_hash,
        header.increments,
    ).ljust(_CRC_AT, b"\0")
    return fields + zlib.crc32(fields).to_bytes(4, "little")


def decode_snapshot_header(data: bytes) -> SnapshotHeader | None:
    """The header in ``data`` (512 bytes), or None where it does not verify."""
    if len(data) < SNAPSHOT_HEADER_BYTES or zlib.crc32(data[:_CRC_AT]) != int.from_bytes(data[_CRC_AT:512], "little"):
        return None
    magic, *fields = _FIELDS.unpack_from(data)
    header = SnapshotHeader(*fields)
    return header if magic == (SNAPSHOT_MAGIC_INCREMENTS if header.increments else SNAPSHOT_MAGIC) else None


def write_snapshot(
    disk: Disk,
    state: Buffer | Iterable[Buffer],
    *,
    identity: Identity,
    journal_id: int,
    epoch: int,
    chain_crc: int,
    seq: int,
    increments: Sequence[Increment] = (),
) -> bool:
    """Write, sync, rename, sync the folder, read back. True when the snapshot verifies under its name.

    Raises ``OSError`` as the disk does; ENOSPC can only come from the first step, which reserves the room.
    """
    parts = [memoryview(encode_references(increments)), *joined(state)]
    length = sum(map(len, parts))
    header = SnapshotHeader(
        FORMAT,
        identity.engine_abi,
        epoch,
        chain_crc,
        seq,
        length,
        journal_id,
        hash_of(parts),
        identity.rules_hash,
        len(increments),
    )
    file = disk.create(SNAPSHOT_TEMPORARY, SNAPSHOT_HEADER_BYTES + length)
    try:
        file.write(0, encode_snapshot_header(header))
        write_pieces(file, SNAPSHOT_HEADER_BYTES, parts)
        file.sync()
    finally:
        file.close()
    disk.rename(SNAPSHOT_TEMPORARY, snapshot_name(seq))
    disk.sync_names()
    return verify_snapshot(disk, snapshot_name(seq))


def verify_snapshot(disk: Disk, name: str) -> bool:
    """Whether the file itself verifies; reads it piece by piece, through a megabyte of memory."""
    file = disk.open(name)
    try:
        size = file.size()
        header = decode_snapshot_header(file.read(0, SNAPSHOT_HEADER_BYTES).tobytes())
        if header is None or snapshot_seq(name) != header.seq or size != SNAPSHOT_HEADER_BYTES + header.length:
            return False
        piece = np.empty(min(PIECE_BYTES, size), np.uint8)
        hasher = xxhash.xxh3_128()
        for at in range(SNAPSHOT_HEADER_BYTES, size, PIECE_BYTES):
            hasher.update(file.read(at, PIECE_BYTES, piece).data)
    finally:
        file.close()
    return hasher.digest() == header.state_hash


def read_snapshot(disk: Disk, name: str) -> tuple[SnapshotHeader, np.ndarray] | None:
    """Header and state (uint8[n]) of the snapshot, or None where it or an increment of it does not verify."""
    found = read_snapshot_file(disk, name)
    if found is None or not all(increment_is_sound(disk, i) for i in found[2]):
        return None
    return found[:2]


def read_snapshot_file(disk: Disk, name: str) -> tuple[SnapshotHeader, np.ndarray, tuple[Increment, ...]] | None:
    """Header, state (uint8[n]), references; None where the file does not verify. Increments are not looked at."""
    file = disk.open(name)
    try:
        data = file.read(0, file.size())
    finally:
        file.close()
    header = decode_snapshot_header(data[:SNAPSHOT_HEADER_BYTES].tobytes())
    if header is None or snapshot_seq(name) != header.seq or data.size != SNAPSHOT_HEADER_BYTES + header.length:
        return None
    content = data[SNAPSHOT_HEADER_BYTES:]
    if xxhash.xxh3_128_digest(content.data) != header.state_hash or content.size < REFERENCE_BYTES * header.increments:
        return None
    return header, content[REFERENCE_BYTES * header.increments :], decode_references(content.data, header.increments)


def read_references(disk: Disk, name: str) -> tuple[Increment, ...]:
    """The references of a snapshot, without its state; none where its header does not verify."""
    file = disk.open(name)
    try:
        header = decode_snapshot_header(file.read(0, SNAPSHOT_HEADER_BYTES).tobytes())
        if header is None or not header.increments:
            return ()
        data = file.read(SNAPSHOT_HEADER_BYTES, REFERENCE_BYTES * header.increments)
    finally:
        file.close()
    return decode_references(data.data, header.increments) if data.size == REFERENCE_BYTES * header.increments else ()


def drop_older_snapshots(disk: Disk, kept: int = SNAPSHOTS_KEPT) -> list[str]:
    """Remove all but the newest ``kept``, and the increments that none of these names; returns the names removed.

    The folder is synced in between: a snapshot whose removal comes undone must find its increments.
    """
    names = snapshot_names(disk)
    old = names[kept:]
    for name in old:
        disk.remove(name)
    if all_increments := [n for n in disk.names() if is_increment(n)]:
        needed = {i.name for name in names[:kept] for i in read_references(disk, name)}
        if unneeded := [n for n in all_increments if n not in needed]:
            disk.sync_names()
            for name in unneeded:
                disk.remove(name)
            old += unneeded
    return old
