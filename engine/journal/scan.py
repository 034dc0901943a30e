# mypy: disable-error-code="no-untyped-def, assignment"
"""Walks groups at memory speed: the checksum, the chain and the shape of each, in machine code.

The walk stops at the first group that is not in order and says where and why; what that means is not
decided here but in ``decisions``. The CRC is zlib's CRC-32, sixteen bytes a step from sixteen tables
("slicing", Kounavis and Berry 2005), so that a machine-code lane can compute it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from engine.machine_code import native

from ..records import COMMAND, MESSAGE, RECORD_BYTES
from .group import (
    ALIGNMENT,
    COMMANDS,
    GROUP_MAGIC,
    HEADER_BYTES,
    LONG_FIRST_SEQ,
    LONG_LAST_SEQ,
    LONG_SYNCED_SEQ,
    SEAL,
    WORD_COUNT,
    WORD_CRC,
    WORD_EPOCH,
    WORD_KIND,
    WORD_LENGTH,
    WORD_PAYLOAD_BYTES,
    WORD_PREV_CRC,
    GroupHeader,
    decode_header,
)

# Why a walk stopped.
STOP_END: Final = 0  # no room for another header
STOP_NO_GROUP: Final = 1  # no group's magic here: zeros, or garbage
STOP_GARBLED: Final = 2  # a magic, but length or checksum are wrong
STOP_UNCHAINED: Final = 3  # a sound group that does not follow the one before
STOP_MISFIT: Final = 4  # a sound checksum over fields that contradict each other
STOP_FULL: Final = 5  # the table of offsets is full; walk on from here

# Checks of the walk. Tests switch one off to prove that they would notice.
CHECK_CRC: Final = 1
CHECK_CHAIN: Final = 2
ALL_CHECKS: Final = CHECK_CRC | CHECK_CHAIN

# Where a COMMAND's fields lie in its 64-bit words.
assert COMMAND.fields is not None
LONGS: Final = RECORD_BYTES // 8
LONG_QUANTITY: Final = COMMAND.fields["quantity"][1] // 8
LONG_KIND: Final = COMMAND.fields["kind"][1] // 8
KIND_SHIFT: Final = COMMAND.fields["kind"][1] % 8 * 8

_KIND_MASK: Final = 0xFFFFFFFF  # kind and the three zero bytes after it, read as one word
_OFFSETS_MAX: Final = 1 << 16  # groups per call of the kernel: 512 kB of offsets


def _crc_tables() -> np.ndarray:
    """uint32[16, 256]: table k advances a byte's remainder by k further zero bytes."""
    tables = np.zeros((16, 256), np.uint32)
    for byte in range(256):
        remainder = byte
        for _ in range(8):
            remainder = (remainder >> 1) ^ (0xEDB88320 if remainder & 1 else 0)
        tables[0, byte] = remainder
    for k in range(1, 16):
        before = tables[k - 1]
        tables[k] = (before >> np.uint32(8)) ^ tables[0, before & np.uint32(0xFF)]
    return tables


_TABLES: Final = _crc_tables()


_U1: Final = np.uint64(1)
_U2: Final = np.uint64(2)
_U3: Final = np.uint64(3)
_U4: Final = np.uint64(4)


@native(nogil=True)
def crc32_words(words, first, count, seed):  # type: ignore[no-untyped-def]
    """zlib.crc32 of ``words[first : first + count]`` (uint32), started from ``seed``."""
    t = _TABLES
    byte = np.uint32(0xFF)
    crc = np.uint32(~np.uint32(seed))
    i = np.uint64(first)  # unsigned: no test for negative indices in the loop
    stop = np.uint64(first + count)
    while i + _U4 <= stop:
        a = words[i] ^ crc
        b = words[i + _U1]
        c = words[i + _U2]
        d = words[i + _U3]
        crc = (
            t[15, a & byte]
            ^ t[14, (a >> np.uint32(8)) & byte]
            ^ t[13, (a >> np.uint32(16)) & byte]
            ^ t[12, a >> np.uint32(24)]
            ^ t[11, b & byte]
            ^ t[10, (b >> np.uint32(8)) & byte]
            ^ t[9, (b >> np.uint32(16)) & byte]
            ^ t[8, b >> np.uint32(24)]
            ^ t[7, c & byte]
            ^ t[6, (c >> np.uint32(8)) & byte]
            ^ t[5, (c >> np.uint32(16)) & byte]
            ^ t[4, c >> np.uint32(24)]
            ^ t[3, d & byte]
            ^ t[2, (d >> np.uint32(8)) & byte]
            ^ t[1, (d >> np.uint32(16)) & byte]
            ^ t[0, d >> np.uint32(24)]
        )
        i += _U4
    while i < stop:
        a = words[i] ^ crc
        crc = (
            t[3, a & byte]
            ^ t[2, (a >> np.uint32(8)) & byte]
            ^ t[1, (a >> np.uint32(16)) & byte]
            ^ t[0, a >> np.uint32(24)]
        )
        i += _U1
    return np.uint32(~crc)


@native(nogil=True)
def _sound(words, offset, end, seed, checks):  # type: ignore[no-untyped-def]
    """STOP_FULL if a whole, verified group stands at ``offset``, else why not."""
    if end - offset < HEADER_BYTES:
        return STOP_END
    w = offset // 4
    if words[w] != GROUP_MAGIC:
        return STOP_NO_GROUP
    length = np.int64(words[w + WORD_LENGTH])
    if length < HEADER_BYTES or length % ALIGNMENT != 0 or length > end - offset:
        return STOP_GARBLED
    if checks & CHECK_CRC and crc32_words(words, w + 2, length // 4 - 2, seed) != words[w + WORD_CRC]:
        return STOP_GARBLED
    return STOP_FULL


@native(nogil=True)
def _walk(  # type: ignore[no-untyped-def]
    words, longs, offset, end, seed, epoch, next_seq, prev_crc, checks, offsets, state
):
    """Fill ``offsets`` with sound, chained groups; state out: [groups, offset, stop, next_seq, prev_crc, synced]."""
    n = 0
    synced = state[5]
    stop = STOP_FULL
    while True:
        stop = _sound(words, offset, end, seed, checks)
        if stop != STOP_FULL:
            break
        w = offset // 4
        q = offset // 8
        count = np.int64(words[w + WORD_COUNT])
        blob = np.int64(words[w + WORD_PAYLOAD_BYTES])
        length = np.int64(words[w + WORD_LENGTH])
        kind = words[w + WORD_KIND]
        first = np.int64(longs[q + LONG_FIRST_SEQ])
        padded = (blob + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
        if (
            HEADER_BYTES + count * RECORD_BYTES + padded != length
            or np.int64(longs[q + LONG_LAST_SEQ]) != first + count - 1
            or not ((kind == COMMANDS and count > 0) or (kind == SEAL and count == 0))
        ):
            stop = STOP_MISFIT
            break
        if checks & CHECK_CHAIN and (
            words[w + WORD_PREV_CRC] != prev_crc or first != next_seq or words[w + WORD_EPOCH] != epoch
        ):
            stop = STOP_UNCHAINED
            break
        if n == offsets.size:
            stop = STOP_FULL
            break
        offsets[n] = offset
        n += 1
        prev_crc = words[w + WORD_CRC]
        next_seq = first + count
        synced = np.int64(longs[q + LONG_SYNCED_SEQ])
        offset += length
    state[0] = n
    state[1] = offset
    state[2] = stop
    state[3] = next_seq
    state[4] = prev_crc
    state[5] = synced


@dataclass(slots=True)
class Walk:
    """Where a walk stands. ``offsets`` are the groups that it accepted; ``synced_seq`` is the last one's."""

    offset: int
    next_seq: int
    prev_crc: int
    synced_seq: int
    stop: int
    offsets: np.ndarray


def walk_groups(
    data: np.ndarray,
    start: int,
    end: int,
    *,
    seed: int,
    epoch: int,
    next_seq: int,
    prev_crc: int,
    checks: int | None = None,
) -> Walk:
    """Walk ``data`` (uint8[n], little-endian, 8-aligned) from ``start``, not beyond ``end``."""
    checks = ALL_CHECKS if checks is None else checks
    whole = data.size // 8 * 8
    end = min(end, whole)
    words = data[:whole].view(np.uint32)
    longs = data[:whole].view(np.uint64)
    found: list[np.ndarray] = []
    state = np.array([0, start, STOP_FULL, next_seq, prev_crc, next_seq - 1], np.int64)
    table = np.empty(max(1, min(_OFFSETS_MAX, (end - start) // HEADER_BYTES)), np.int64)
    while state[2] == STOP_FULL:
        _walk(words, longs, int(state[1]), end, seed, epoch, int(state[3]), int(state[4]), checks, table, state)
        found.append(table[: state[0]].copy())
    offsets = found[0] if len(found) == 1 else np.concatenate(found)
    return Walk(int(state[1]), int(state[3]), int(state[4]), int(state[5]), int(state[2]), offsets)


def is_zero(data: np.ndarray, start: int) -> bool:
    """Whether ``data`` holds nothing but zeros from ``start`` on: the untouched rest of a preallocated segment."""
    return not data[start:].any()


def later_places(data: np.ndarray, after: int, *, seed: int) -> list[int]:
    """Offsets of all groups that verify alone, beyond ``after``: what stands behind a damaged place.

    Every multiple of 8 with a group's magic is tried, since the damaged group's length can't be trusted.
    """
    whole = data.size // 8 * 8
    words = data[:whole].view(np.uint32)
    first = (after // ALIGNMENT + 1) * ALIGNMENT
    places = np.flatnonzero(words[first // 4 :: 2] == GROUP_MAGIC) * ALIGNMENT + first
    return [int(o) for o in places if _sound(words, int(o), whole, seed, ALL_CHECKS) == STOP_FULL]


def later_groups(data: np.ndarray, after: int, *, seed: int) -> list[GroupHeader]:
    """Headers of the groups at ``later_places``."""
    return [decode_header(data, place) for place in later_places(data, after, seed=seed)]


@native(nogil=True)
def _gather(words, longs, data, offset, end, records, room, blob, apart, counts):  # type: ignore[no-untyped-def]
    """Append the commands and payloads of whole groups from ``offset`` on; counts out: [offset, commands, bytes]."""
    taken = 0
    used = 0
    while offset < end:
        w = offset // 4
        count = np.int64(words[w + WORD_COUNT])
        size = np.int64(words[w + WORD_PAYLOAD_BYTES])
        if words[w + WORD_KIND] == SEAL:  # its payload is not a command's
            size = np.int64(0)
        if taken and (taken + count > room or used + size > blob.size):
            break
        if count > room or size > blob.size:
            break
        if size and apart:  # a group with payloads stands alone
            if taken:
                break
            end = offset + 1
        elif count > room // 2 and not taken:  # copying it would gain nothing: the caller takes it where it stands
            break
        q = (offset + HEADER_BYTES) // 8
        n = count * (RECORD_BYTES // 8)
        records[taken * 8 : taken * 8 + n] = longs[q : q + n]
        at = offset + HEADER_BYTES + count * RECORD_BYTES
        blob[used : used + size] = data[at : at + size]
        taken += count
        used += size
        offset += np.int64(words[w + WORD_LENGTH])
    counts[0] = offset
    counts[1] = taken
    counts[2] = used


def gather_groups(
    data: np.ndarray, offset: int, end: int, records: np.ndarray, blob: np.ndarray, *, apart: bool = False
) -> tuple[int, int, int]:
    """Copy whole, verified groups side by side: commands into ``records`` (uint64[8 n]), payloads into ``blob``.

    Returns (offset of the first group left, commands copied, payload bytes copied). Nothing is copied where the
    first group alone fills half the room or more. ``apart``: a group with payloads is not put together with others.
    """
    whole = data.size // 8 * 8
    counts = np.zeros(3, np.int64)
    _gather(
        data[:whole].view(np.uint32),
        data[:whole].view(np.uint64),
        data,
        offset,
        end,
        records,
        records.size // 8,
        blob,
        apart,
        counts,
    )
    return int(counts[0]), int(counts[1]), int(counts[2])


@native(nogil=True)
def _copy_commands(words, longs, data, offset, end, first_seq, records, blob):  # type: ignore[no-untyped-def]
    """``copy_commands`` on flat memory: records uint64[8 n]; returns the bytes written to ``blob``."""
    used = 0
    room = records.size // LONGS
    while offset < end:
        w = offset // 4
        q = (offset + HEADER_BYTES) // 8
        count = np.int64(words[w + WORD_COUNT])
        place = np.int64(longs[offset // 8 + LONG_FIRST_SEQ]) - first_seq  # of the group's first command
        start = max(0, -place)
        stop = min(count, room - place)
        if start < stop:
            at = (place + start) * LONGS
            n = (stop - start) * LONGS
            records[at : at + n] = longs[q + start * LONGS : q + start * LONGS + n]
        if words[w + WORD_PAYLOAD_BYTES] and start < stop:  # a seal has no commands
            at = offset + HEADER_BYTES + count * RECORD_BYTES
            for i in range(stop):
                if (longs[q + i * LONGS + LONG_KIND] >> np.uint64(KIND_SHIFT)) & np.uint64(0xFF) == MESSAGE:
                    size = np.int64(longs[q + i * LONGS + LONG_QUANTITY])
                    if i >= start:
                        blob[used : used + size] = data[at : at + size]
                        used += size
                    at += size
        offset += np.int64(words[w + WORD_LENGTH])
    return used


def copy_commands(data: np.ndarray, offset: int, end: int, first_seq: int, into: np.ndarray) -> bytes:
    """Copy the commands of verified groups to where their sequences belong in ``into`` (COMMAND[n] from ``first_seq``).

    Returns the payloads of the MESSAGE commands copied, in order. Lets other threads go on meanwhile.
    """
    whole = data.size // 8 * 8
    words, longs = data[:whole].view(np.uint32), data[:whole].view(np.uint64)
    blob = np.empty(max(0, end - offset), np.uint8)  # more than all payloads; what is not used costs nothing
    used = _copy_commands(words, longs, data, offset, end, first_seq, into.view(np.uint64), blob)
    return blob[:used].tobytes()
