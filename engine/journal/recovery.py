"""Reads a journal folder, finds where it ends and what is wrong with it, and applies the decision table.

``survey`` only reads. ``decide`` turns what it saw into a plan or a ``RecoveryRefused``. Acting on the plan
(making the tail durable, beginning the next epoch) is ``journal.Journal.open``'s part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..records import COMMAND
from . import scan
from .beside import LANES, Beside, in_pairs
from .decisions import DECISIONS, Action, Finding
from .disk import Disk
from .errors import RecoveryRefused
from .group import COMMANDS, Group, decode_group, decode_header, payload_lengths, seed_of
from .increment import INCREMENT_TEMPORARY, Increment, increment_is_sound
from .segment import (
    FORMAT,
    SEGMENT_HEADER_BYTES,
    SPARE,
    Identity,
    SegmentHeader,
    content_hash,
    decode_segment_header,
    peek_format,
    segment_index,
)
from .snapshot import SNAPSHOT_TEMPORARY, SnapshotHeader, read_snapshot_file, snapshot_names

BATCH_PAYLOAD_BYTES = 4 << 20  # payloads of one batch: 256 of the longest
TEMPORARY_NAMES = (SPARE, SNAPSHOT_TEMPORARY, INCREMENT_TEMPORARY)

# Takes the state of a snapshot and its increments, which it verifies itself; False where they are not sound.
Restore = Callable[[np.ndarray, tuple[Increment, ...]], bool]


@dataclass(frozen=True, slots=True)
class Observation:
    """One finding: where, in words, and the last sequence that is in order before it."""

    finding: Finding
    place: str
    detail: str
    seq: int = 0


@dataclass(slots=True)
class SegmentRef:
    """A segment that is in order up to ``end``; ``next_seq`` and ``crc`` hold after its last group."""

    name: str
    header: SegmentHeader
    end: int
    next_seq: int
    crc: int
    torn_bytes: int = 0


class Buffers:
    """Memory that segments are read into, one for each lane of a reader: fresh memory costs as much as the reading."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lanes: list[np.ndarray | None] = [None] * LANES

    def lane(self, number: int) -> np.ndarray:
        """uint8[size]; made by the lane that first needs it."""
        found = self._lanes[number]
        if found is None:
            found = self._lanes[number] = np.empty(self._size, np.uint8)
        return found


class Walked(NamedTuple):
    """A segment as it was read: its bytes, how far they are in order, whether they have the hash that was noted."""

    data: np.ndarray
    walk: scan.Walk
    is_noted: bool


@dataclass(slots=True)
class Survey:
    """What the folder holds. ``segments`` are in order; ``rewrite_from`` is where the last commit begins.

    ``buffers`` is the memory that segments were read into, for whoever reads them next.
    """

    segments: list[SegmentRef] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    snapshot: SnapshotHeader | None = None
    state: np.ndarray | None = None
    rewrite_from: int = 0
    snapshot_chained: bool = False
    buffers: Buffers = field(default_factory=lambda: Buffers(0))

    @property
    def next_seq(self) -> int:
        return self.segments[-1].next_seq if self.segments else 1

    def saw(self, finding: Finding, place: str, detail: str, seq: int = 0) -> None:
        self.observations.append(Observation(finding, place, detail, seq))


def survey(
    disk: Disk,
    identity: Identity | None = None,
    *,
    whole: bool = False,
    restore: Restore | None = None,
    beside: Beside | None = None,
) -> Survey:
    """Read the folder; stops at the first observation that makes the rest meaningless.

    ``identity``: what the engine expects, or None to take the journal as it is. ``whole``: verify every
    segment, not only those that recovery would replay. ``restore`` is offered the sound snapshots, newest first, until
    it takes one; without it their increments are verified here. ``beside``: every other segment is read and verified
    there.
    """
    result = Survey()
    names = disk.names()
    result.leftovers = [n for n in names if n in TEMPORARY_NAMES]
    for name in result.leftovers:
        result.saw(Finding.LEFTOVER, name, "left by an interrupted write")
    headers = _read_headers(disk, names, identity, result)
    if headers is None:
        return result
    _choose_snapshot(disk, headers[0][1].journal_id if headers else 0, identity, result, restore)
    if not headers:
        if result.snapshot is not None or snapshot_names(disk):
            result.saw(Finding.SNAPSHOT_WITHOUT_JOURNAL, disk.path, "no segment in the folder")
        else:
            result.saw(Finding.EMPTY_FOLDER, disk.path, "no segment in the folder")
        return result
    _walk_segments(disk, headers, result, whole, beside)
    return result


def _read_headers(
    disk: Disk, names: list[str], identity: Identity | None, result: Survey
) -> list[tuple[str, SegmentHeader, int]] | None:
    """(name, header, file size) of each segment in order, or None after a fatal observation."""
    headers: list[tuple[str, SegmentHeader, int]] = []
    for name in names:
        index = segment_index(name)
        if index is None:
            continue
        file = disk.open(name)
        try:
            size = file.size()
            data = file.read(0, SEGMENT_HEADER_BYTES).tobytes()
        finally:
            file.close()
        written = peek_format(data)
        if written is None:
            result.saw(Finding.SEGMENT_NOT_OURS, name, "no segment magic in its first bytes")
            return None
        if written != FORMAT:
            finding = Finding.NEWER_FORMAT if written > FORMAT else Finding.OLDER_FORMAT
            result.saw(finding, name, f"format {written}, this program reads {FORMAT}")
            return None
        header = decode_segment_header(data)
        if header is None or header.index != index:
            result.saw(Finding.SEGMENT_HEADER_DAMAGED, name, "header checksum or index is wrong")
            return None
        headers.append((name, header, size))
    if headers and not _headers_fit(headers, identity, result):
        return None
    return headers


def _headers_fit(headers: list[tuple[str, SegmentHeader, int]], identity: Identity | None, result: Survey) -> bool:
    name, last, _ = headers[-1]
    if identity is not None:
        if identity.journal_id not in (0, last.journal_id):
            result.saw(Finding.OTHER_JOURNAL, name, f"journal id {last.journal_id:016x}, not ours")
            return False
        if last.engine_abi != identity.engine_abi:
            result.saw(
                Finding.OTHER_ENGINE, name, f"engine ABI {last.engine_abi}, this engine has {identity.engine_abi}"
            )
            return False
        if last.rules_hash != identity.rules_hash:
            result.saw(
                Finding.OTHER_RULES, name, f"rules hash {last.rules_hash.hex()}, ours {identity.rules_hash.hex()}"
            )
            return False
    for (_, before, _), (name, header, _) in pairwise(headers):
        if header.index != before.index + 1:
            result.saw(Finding.SEGMENT_MISSING, name, f"index jumps from {before.index} to {header.index}")
            return False
        if header.journal_id != before.journal_id:
            result.saw(Finding.OTHER_JOURNAL, name, "journal id differs from the segment before")
            return False
        if header.epoch < before.epoch or header.first_seq < before.first_seq:
            result.saw(Finding.SEGMENT_STALE, name, "epoch or first sequence goes back")
            return False
    return True


def _choose_snapshot(
    disk: Disk, journal_id: int, identity: Identity | None, result: Survey, restore: Restore | None
) -> None:
    """The newest snapshot that verifies; the damaged ones before it are observations."""
    for name in snapshot_names(disk):
        found = read_snapshot_file(disk, name)
        if found is None:
            result.saw(Finding.SNAPSHOT_DAMAGED, name, "header, length or state hash does not verify")
            continue
        header, state, increments = found
        if journal_id and header.journal_id != journal_id:
            result.saw(Finding.OTHER_JOURNAL, name, f"journal id {header.journal_id:016x}, the segments' differs")
            return
        if header.format != FORMAT or (
            identity is not None
            and (header.engine_abi != identity.engine_abi or header.rules_hash != identity.rules_hash)
        ):
            result.saw(Finding.SNAPSHOT_OF_OTHER_ENGINE, name, "format, engine ABI or rules hash is not ours")
            continue
        if not (restore(state, increments) if restore else all(increment_is_sound(disk, i) for i in increments)):
            result.saw(Finding.SNAPSHOT_DAMAGED, name, "one of its increments is missing or does not verify")
            continue
        result.snapshot, result.state = header, None if restore else state
        return


def _walk_segments(
    disk: Disk, headers: list[tuple[str, SegmentHeader, int]], result: Survey, whole: bool, beside: Beside | None
) -> None:
    """Verify the segments that recovery replays (or all), and find the journal's end."""
    first = headers[0][1]
    covered = result.snapshot.seq if result.snapshot is not None else 0
    if first.first_seq > covered + 1:
        result.saw(
            Finding.SEGMENT_MISSING,
            headers[0][0],
            f"the first segment begins at sequence {first.first_seq}, snapshots reach {covered}",
            covered,
        )
        return
    seed = seed_of(first.journal_id)
    result.buffers = Buffers(max(size for _, _, size in headers))
    followers = [following for _, following, _ in headers[1:]]
    passed = 0 if whole else sum(following.first_seq <= covered for following in followers)
    if not _pass_segments(headers[:passed], followers, result):
        return
    todo = list(zip(headers[passed:], [*followers, None][passed:], strict=True))
    jobs = [partial(_read_and_walk, disk, *segment, following, seed, result.buffers) for segment, following in todo]
    with closing(in_pairs(jobs, beside)) as walked:
        for segment, following in todo:
            ref = _judge(next(walked), *segment, following, seed, result)
            if ref is None or not _goes_on(ref, result):
                return
    _judge_snapshot(headers[-1][0], result)


def _pass_segments(
    headers: list[tuple[str, SegmentHeader, int]], followers: list[SegmentHeader], result: Survey
) -> bool:
    """Take segments that a snapshot covers as the next one's header tells; False after a fatal observation."""
    for (name, header, size), following in zip(headers, followers, strict=False):
        ref = SegmentRef(name, header, following.previous_end, following.first_seq, following.prev_crc)
        ref.torn_bytes = size - ref.end
        if ref.torn_bytes < 0:
            result.saw(Finding.SEGMENT_SHORT, name, f"{size} bytes of {ref.end}", header.first_seq - 1)
            return False
        if not _goes_on(ref, result):
            return False
    return True


def _goes_on(ref: SegmentRef, result: Survey) -> bool:
    """Take the next segment; False where it does not follow the one before."""
    if result.segments:
        before = result.segments[-1]
        if (ref.header.first_seq, ref.header.prev_crc) != (before.next_seq, before.crc):
            result.saw(Finding.SEGMENT_STALE, ref.name, "does not follow the segment before", before.next_seq - 1)
            return False
    result.segments.append(ref)
    return True


def _judge_snapshot(last_name: str, result: Survey) -> None:
    """Does the snapshot belong to the journal that was walked?"""
    if result.snapshot is None:
        return
    if result.snapshot.seq >= result.next_seq:
        result.saw(
            Finding.SNAPSHOT_AHEAD,
            last_name,
            f"snapshot of sequence {result.snapshot.seq}, the journal ends with {result.next_seq - 1}",
            result.next_seq - 1,
        )
    elif not result.snapshot_chained:
        result.saw(
            Finding.SNAPSHOT_UNCHAINED,
            f"snapshot of sequence {result.snapshot.seq}",
            "no group there has its chain checksum",
            result.snapshot.seq,
        )


def _read_and_walk(
    disk: Disk,
    name: str,
    header: SegmentHeader,
    size: int,
    following: SegmentHeader | None,
    seed: int,
    buffers: Buffers,
    lane: int,
) -> Walked | None:
    """Read a segment and verify its groups, by what it says itself; None where it is too short to be read.

    ``following`` is None for the last one. Nothing is decided here: another segment may be read at the same time.
    """
    needed = following.previous_end if following is not None else header.capacity
    if size < needed:
        return None
    file = disk.open(name)
    try:
        data = file.read(0, needed, buffers.lane(lane))
    finally:
        file.close()
    walk = scan.walk_groups(
        data,
        SEGMENT_HEADER_BYTES,
        needed,
        seed=seed,
        epoch=header.epoch,
        next_seq=header.first_seq,
        prev_crc=header.prev_crc,
    )
    is_noted = following is not None and walk.offset == needed and content_hash(data) == following.previous_hash
    return Walked(data, walk, is_noted)


def _judge(
    walked: Walked | None,
    name: str,
    header: SegmentHeader,
    size: int,
    following: SegmentHeader | None,
    seed: int,
    result: Survey,
) -> SegmentRef | None:
    """What a segment's walk means; None after a fatal observation."""
    start_seq = header.first_seq - 1
    needed = following.previous_end if following is not None else header.capacity
    if walked is None:
        result.saw(Finding.SEGMENT_SHORT, name, f"{size} bytes of {needed}", start_seq)
        return None
    data, walk, is_noted = walked
    last_seq = walk.next_seq - 1
    place = f"{name} at byte {walk.offset}"
    if walk.stop == scan.STOP_UNCHAINED:
        result.saw(Finding.UNCHAINED_GROUP, place, f"after sequence {last_seq}", last_seq)
        return None
    if walk.stop == scan.STOP_MISFIT:
        result.saw(Finding.MISFIT_GROUP, place, f"after sequence {last_seq}", last_seq)
        return None
    ref = SegmentRef(name, header, walk.offset, walk.next_seq, walk.prev_crc, size - walk.offset)
    if following is not None:
        if walk.offset != needed:
            result.saw(Finding.DAMAGE_IN_CLOSED_SEGMENT, place, f"after sequence {last_seq}", last_seq)
            return None
        if not is_noted:  # all of it is sound, so the next one is of another history
            result.saw(Finding.SEGMENT_STALE, f"the segment after {name}", "it names another hash for it", last_seq)
            return None
    elif not _judge_end(data, walk, place, seed, result, ref):
        return None
    if result.snapshot is not None and not result.snapshot_chained:
        result.snapshot_chained = _holds_snapshot(data, walk, header, result.snapshot)
    return ref


def _judge_end(data: np.ndarray, walk: scan.Walk, place: str, seed: int, result: Survey, ref: SegmentRef) -> bool:
    """Is the end of the last segment clean, torn, or damage to something durable?"""
    last_seq = walk.next_seq - 1
    result.rewrite_from = _last_commit(data, walk)
    if scan.is_zero(data, walk.offset):
        result.saw(Finding.CLEAN_END, place, f"last sequence {last_seq}", last_seq)
        ref.torn_bytes = 0
        return True
    later = scan.later_groups(data, walk.offset, seed=seed)
    proof = [h for h in later if h.synced_seq >= walk.next_seq]
    if proof:
        result.saw(
            Finding.DAMAGE_BEFORE_SOUND_GROUP,
            place,
            f"after sequence {last_seq}; sound again from sequence {proof[0].first_seq}",
            last_seq,
        )
        return False
    if result.snapshot is not None and result.snapshot.seq > last_seq:
        return True  # _walk_segments reports SNAPSHOT_AHEAD
    torn = int(np.flatnonzero(data[walk.offset :])[-1]) + 1
    ref.torn_bytes = torn
    result.saw(Finding.TORN_TAIL, place, f"{torn} bytes after sequence {last_seq}", last_seq)
    return True


def _last_commit(data: np.ndarray, walk: scan.Walk) -> int:
    """Offset of the first group that the last group did not yet know to be durable."""
    place = walk.offset
    for offset in walk.offsets[::-1]:
        if decode_header(data, int(offset)).last_seq <= walk.synced_seq:
            break
        place = int(offset)
    return place


def _holds_snapshot(data: np.ndarray, walk: scan.Walk, header: SegmentHeader, snapshot: SnapshotHeader) -> bool:
    """Whether a group (or the segment's beginning) at the snapshot's sequence has its chain checksum."""
    if snapshot.seq == header.first_seq - 1 and snapshot.chain_crc == header.prev_crc:
        return True
    low, high = 0, len(walk.offsets)
    while low < high:  # the first group whose last sequence reaches the snapshot's
        middle = (low + high) // 2
        if decode_header(data, int(walk.offsets[middle])).last_seq < snapshot.seq:
            low = middle + 1
        else:
            high = middle
    for offset in walk.offsets[low:]:
        group = decode_header(data, int(offset))
        if group.last_seq != snapshot.seq:
            break
        if group.crc == snapshot.chain_crc:
            return True  # a seal has the same last sequence as the group before it: either may match
    return False


def decide(disk: Disk, seen: Survey) -> list[str]:
    """Alarms to raise, in order; ``RecoveryRefused`` where the table says so."""
    alarms = []
    for observation in seen.observations:
        decision = DECISIONS[observation.finding]
        if decision.action is Action.REFUSE:
            raise RecoveryRefused(
                observation.finding.value,
                f"{observation.place}: {decision.why} ({observation.detail})",
                decision.command.format(folder=disk.path, seq=observation.seq),
            )
        if decision.action is not Action.ACCEPT:
            alarms.append(f"{observation.finding.value}: {observation.place}: {decision.why} ({observation.detail})")
    return alarms


def read_segment(disk: Disk, ref: SegmentRef, into: np.ndarray | None = None) -> np.ndarray:
    """The segment's bytes up to its end: uint8[end], in the buffer ``into`` where it is large enough."""
    file = disk.open(ref.name)
    try:
        return file.read(0, ref.end, into)
    finally:
        file.close()


def segment_groups(data: np.ndarray, ref: SegmentRef) -> Iterator[Group]:
    """All groups of a verified segment, seals included."""
    offset = SEGMENT_HEADER_BYTES
    while offset < ref.end:
        group = decode_group(data, offset)
        offset += group.header.length
        yield group


def segment_batches(
    data: np.ndarray, ref: SegmentRef, commands_max: int, messages_apart: bool = False
) -> Iterator[Group]:
    """All commands of a verified segment, neighbouring groups put together; what is yielded is overwritten next time.

    ``messages_apart``: a group with MESSAGE commands stays as it was cut when it was written.
    The header is that of the first group of each batch, with the last sequence of its last.
    """
    records = np.empty(8 * commands_max, np.uint64)
    blob = np.empty(BATCH_PAYLOAD_BYTES, np.uint8)
    offset = SEGMENT_HEADER_BYTES
    while offset < ref.end:
        first = decode_header(data, offset)
        stop, count, size = scan.gather_groups(data, offset, ref.end, records, blob, apart=messages_apart)
        if stop == offset:  # a group of its own size
            if first.kind == COMMANDS:
                yield decode_group(data, offset)
            offset += first.length
            continue
        if count:
            header = replace(first, last_seq=first.first_seq + count - 1, count=count, kind=COMMANDS)
            yield Group(records[: 8 * count].view(COMMAND), blob[:size].tobytes(), header)
        offset = stop


def after(group: Group, seq: int) -> Group:
    """The part of ``group`` behind sequence ``seq``."""
    skip = seq - group.header.first_seq + 1
    if skip <= 0:
        return group
    lengths = payload_lengths(group.commands[:skip])
    return Group(group.commands[skip:], group.payloads[int(lengths.sum()) :], group.header)
