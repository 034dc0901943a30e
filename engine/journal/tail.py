# mypy: disable-error-code="no-untyped-def, assignment"
"""Appending groups from machine code: the journal's tail as one record that a numba lane works on by address.

::

    tail = journal.lend()                    # TAIL[1]; from here on only the lane appends
    append_group(tail.ctypes.data, commands_at, count, time_ns)      # as often as there is room
    mark_durable(tail.ctypes.data)           # or never: what the lane has written and synced by itself
    journal.take_back()                      # the journal goes on from what the lane left
    journal.commit()

The bytes are those that ``Journal.append`` writes. A lane appends groups without payloads only. Whatever else
the journal is asked to do takes the tail back by itself; the lane then finds no room until the next ``lend``.

A lane that commits writes ``buffer[durable:fill]`` at ``offset + durable`` of the file ``fd``, syncs it, and only
then calls ``mark_durable``. What it has committed stays in the buffer until ``take_back``, which adds it to the
segment's content hash.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from engine.machine_code import native

from ..book import array_at
from ..records import RECORD_BYTES
from .group import COMMANDS as COMMANDS_KIND
from .group import CRC_START, GROUP_MAGIC, HEADER_BYTES
from .scan import crc32_words

TAIL: Final = np.dtype(
    [
        ("buffer_at", "<i8"),  # address of the commit buffer
        ("fill", "<i8"),  # bytes in it
        ("durable", "<i8"),  # of them, on the disk
        ("offset", "<i8"),  # of the buffer's first byte in the file
        ("fd", "<i8"),  # of the segment; -1 where its disk has no descriptors: then the lane cannot commit
        ("room", "<i8"),  # bytes that it may hold: what is left of buffer and segment; 0: the tail is not lent
        ("next_seq", "<u8"),
        ("synced_seq", "<u8"),
        ("crc", "<u4"),  # of the last group
        ("seed", "<u4"),
        ("epoch", "<u4"),
        ("groups", "<u4"),  # appended since ``lend``
    ]
)
_WORD: Final = np.dtype(np.uint32)
_LONG: Final = np.dtype(np.uint64)


@native(nogil=True)
def append_group(tail_at, commands_at, count, time_ns):
    """Append ``count`` >= 1 sequenced COMMAND records at an address as one group. False: no room, nothing done.

    Cost: one copy and one checksum. The records' sequences are the caller's; the first must be ``next_seq``.
    """
    tail = array_at(tail_at, 1, TAIL)[0]
    length = HEADER_BYTES + RECORD_BYTES * count
    if tail.fill + length > tail.room:
        return False
    start = tail.buffer_at + tail.fill
    words = array_at(start, length // 4, _WORD)
    longs = array_at(start, length // 8, _LONG)
    records = array_at(commands_at, count * (RECORD_BYTES // 8), _LONG)
    first = tail.next_seq
    words[0] = GROUP_MAGIC
    words[2] = tail.crc
    words[3] = length
    longs[2] = first
    longs[3] = first + np.uint64(count) - np.uint64(1)
    longs[4] = tail.synced_seq
    longs[5] = np.uint64(time_ns)
    words[12] = tail.epoch
    words[13] = count
    words[14] = 0
    words[15] = COMMANDS_KIND
    for i in range(count * (RECORD_BYTES // 8)):
        longs[HEADER_BYTES // 8 + i] = records[i]
    crc = crc32_words(words, CRC_START // 4, length // 4 - CRC_START // 4, tail.seed)
    words[1] = crc
    tail.crc = crc
    tail.next_seq = first + np.uint64(count)
    tail.fill += length
    tail.groups += np.uint32(1)
    return True


@native(nogil=True)
def mark_durable(tail_at):
    """All that was appended is on the disk."""
    tail = array_at(tail_at, 1, TAIL)[0]
    tail.durable = tail.fill
    tail.synced_seq = tail.next_seq - np.uint64(1)
