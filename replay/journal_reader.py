"""Reads a journal's commands in batches for replay, from any sequence on, without a lock and without writing."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np

from engine.journal import Disk, Group
from engine.journal import scan as journal_scan
from engine.journal.disk import RealFile
from engine.journal.group import SEAL, decode_group, decode_header, payload_lengths, seed_of
from engine.journal.recovery import SegmentRef, after, segment_batches
from engine.journal.rewrite import segment_headers
from engine.journal.seal import Seal, decode_seal
from engine.journal.segment import SEGMENT_HEADER_BYTES, SegmentHeader, segment_name
from engine.journal.snapshot import decode_snapshot_header, read_snapshot_file, snapshot_names
from replay.market_settings import Settings

BATCH_COMMANDS: Final = 8_192  # 512 kB: stays in the cache
MINUTE_NS: Final = 60 * 1_000_000_000
EVERYTHING: Final = (1 << 63) - 1
Walked = tuple[np.ndarray, SegmentRef, int]


class Reader:
    """Verified commands of a journal, segment by segment; the next segment is read and checked meanwhile.

    ``seals``: those of the segments read so far, by their last sequence. A seal ends its segment (engine.journal.seal),
    so it is known before the last batch of its day is given out.
    """

    def __init__(
        self,
        disk: Disk,
        after_seq: int = 0,
        last_segment: str = "",
        until_seq: int = EVERYTHING,
        walked: dict[int, Walked] | None = None,
    ) -> None:
        """Segments that begin behind ``until_seq`` are not read.

        ``walked``: segments that were read already, by index; those before the one that is read are taken out of it.
        """
        self.disk, self.after_seq = disk, after_seq
        self._walked = {} if walked is None else walked
        self.seals: dict[int, Seal] = {}
        headers = [h for h in segment_headers(disk) if h.first_seq <= until_seq]
        names = [segment_name(h.index) for h in headers]
        if last_segment in names:
            headers = headers[: names.index(last_segment) + 1]
        # a segment is of no use where the one behind it begins at or before the first command wanted
        useful = [b.first_seq > after_seq + 1 for b in headers[1:]] + [True] * bool(headers)
        self.headers = [h for h, use in zip(headers, useful, strict=True) if use]

    def __iter__(self) -> Iterator[Group]:
        """Neighbouring groups put together; what is yielded is overwritten by the next.

        Ends with the first group that is not in order, as recovery would cut it; ``cea verify journal`` says what is
        wrong there.
        """
        with ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(self._walk, self.headers[0]) if self.headers else None
            for position in range(len(self.headers)):
                assert coming is not None
                data, ref, last = walked = coming.result()
                here = self.headers[position].index
                for index in [i for i in self._walked if i < here]:
                    del self._walked[index]
                self._walked[here] = walked
                following = self.headers[position + 1] if position + 1 < len(self.headers) else None
                coming = ahead.submit(self._walk, following) if following else None
                if last >= 0 and decode_header(data, last).kind == SEAL:
                    seal = decode_seal(decode_group(data, last).payloads)
                    self.seals[seal.last_seq] = seal
                for group in segment_batches(data, ref, BATCH_COMMANDS):
                    if group.header.last_seq > self.after_seq:
                        yield after(group, self.after_seq)
                if following and (ref.next_seq, ref.crc) != (following.first_seq, following.prev_crc):
                    return

    def _walk(self, header: SegmentHeader) -> Walked:
        return self._walked.get(header.index) or _walk(self.disk, header)


def _walk(disk: Disk, header: SegmentHeader) -> Walked:
    """A segment's bytes, its sound part, and the offset of its last group (-1: none)."""
    name = segment_name(header.index)
    data = _bytes_of(disk, name)
    walk = journal_scan.walk_groups(
        data,
        SEGMENT_HEADER_BYTES,
        data.size,
        seed=seed_of(header.journal_id),
        epoch=header.epoch,
        next_seq=header.first_seq,
        prev_crc=header.prev_crc,
    )
    last = int(walk.offsets[-1]) if len(walk.offsets) else -1
    return data, SegmentRef(name, header, walk.offset, walk.next_seq, walk.prev_crc), last


def last_sequence(disk: Disk, last_segment: str = "") -> int:
    """The last sound command's sequence, of the journal or up to a segment; 0 where there is none."""
    headers = segment_headers(disk)
    names = [segment_name(h.index) for h in headers]
    if last_segment in names:
        headers = headers[: names.index(last_segment) + 1]
    return _walk(disk, headers[-1])[1].next_seq - 1 if headers else 0


def _bytes_of(disk: Disk, name: str) -> np.ndarray:
    """The segment's bytes; of a real file the pages that the system has of it already, which costs no copy."""
    file = disk.open(name)
    try:
        if isinstance(file, RealFile) and file.size():
            return np.frombuffer(mmap.mmap(file.fd, 0, access=mmap.ACCESS_COPY), np.uint8)
        return file.read(0, file.size())
    finally:
        file.close()


def cut_at(group: Group, bounds: list[int]) -> Iterator[tuple[np.ndarray, bytes]]:
    """The batch in pieces that end after the positions ``bounds`` (rising, each 1 … n) and at its end."""
    if not bounds or bounds[-1] != len(group.commands):
        bounds = [*bounds, len(group.commands)]
    if len(bounds) == 1:
        yield group.commands, group.payloads
        return
    ends = np.cumsum(payload_lengths(group.commands))  # of what MESSAGE records carry, 0 for others
    lengths = np.concatenate([[0], ends])
    start = 0
    for bound in bounds:
        yield group.commands[start:bound], group.payloads[int(lengths[start]) : int(lengths[bound])]
        start = bound


def minute_bounds(times_ns: np.ndarray) -> list[int]:
    """Positions behind which another minute begins."""
    if times_ns[0] // MINUTE_NS == times_ns[-1] // MINUTE_NS:
        return []  # times never fall
    minutes = times_ns // MINUTE_NS
    return [int(n) + 1 for n in np.flatnonzero(minutes[1:] != minutes[:-1])]


def snapshot_sequences(disk: Disk) -> dict[int, str]:
    """Sequence → file of every snapshot whose header verifies."""
    found = {}
    for name in snapshot_names(disk):
        file = disk.open(name)
        header = decode_snapshot_header(file.read(0, SEGMENT_HEADER_BYTES).tobytes())
        file.close()
        if header is not None:
            found[header.seq] = name
    return found


def newest_snapshot(disk: Disk, until_seq: int, settings: Settings) -> tuple[int, memoryview] | None:
    """(sequence, state) of the newest sound snapshot not behind ``until_seq`` under these rules, or None."""
    for seq, name in sorted(snapshot_sequences(disk).items(), reverse=True):
        if seq > until_seq:
            continue
        found = read_snapshot_file(disk, name)  # its increments are reports of the day: the engine's state needs none
        if found is not None and found[0].rules_hash.startswith(settings.rules.hash()):
            return seq, found[1].data
    return None
