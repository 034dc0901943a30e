"""The journal: append groups, commit them to the disk, recover at start.

    journal = Journal.open(disk, identity)      # recovery; raises RecoveryRefused
    state = journal.recovery.snapshot           # bytes of the newest snapshot, or None
    for group in journal.groups(journal.recovery.snapshot_seq):
        exchange.apply(group.commands, group.payloads)
    ...
    journal.append(commands, payloads)          # buffered
    exchange.apply(commands, payloads)          # may overlap the commit
    journal.commit()                            # durable: now the reports may leave

Guarantee: what ``commit`` returned for is found again by every later ``open`` that does not refuse.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Final, NamedTuple

import numpy as np

from ..records import MESSAGE, RECORD_BYTES
from .beside import HERE, Beside, ahead
from .disk import Buffer, Disk, File, RealFile, byte_view
from .errors import JournalError, JournalFailed, RecoveryRefused
from .group import COMMANDS, GROUP_BYTES_MAX, SEAL, Group, decode_group, encode_group, group_length, seed_of
from .increment import Increment, write_increment
from .recovery import (
    Buffers,
    Restore,
    SegmentRef,
    Survey,
    after,
    decide,
    read_segment,
    segment_batches,
    segment_groups,
    survey,
)
from .scan import copy_commands, walk_groups
from .seal import DAY_HASH_BYTES, DayHash, Seal, decode_seal, encode_seal
from .segment import (
    SEGMENT_BYTES,
    SEGMENT_HEADER_BYTES,
    SPARE,
    ContentHash,
    Identity,
    SegmentHeader,
    content_hash,
    encode_segment_header,
    segment_name,
)
from .snapshot import drop_older_snapshots, write_snapshot
from .spare import NO_ROOM, Spare
from .tail import TAIL

# Ends of recent groups, for snapshots that are written while the market goes on: a snapshot of a large market
# takes under a second, in which no more than some thousand groups commit.
BOUNDARIES_KEPT: Final = 65_536
LANE_BYTES: Final = 1 << 20  # 16,000 commands: far more than a lane drains before it commits
BATCH_COMMANDS: Final = 8_192  # of one step of replay: 512 kB, which stays in the cache
# Room that must stay free beside the spare segment: one more segment, for the orders' cancels.
LOW_WATER_SEGMENTS: Final = 2


class FreeSpace(Enum):
    """LOW: the market goes to cancel-only, while the journal still has a segment's room left."""

    OK = "ok"
    LOW = "low"


@dataclass(frozen=True, slots=True)
class Recovery:
    """What start-up found. ``snapshot`` is the newest verified state or None, ``snapshot_seq`` 0 without one.

    ``cut_bytes`` is what a torn last commit left behind; ``alarms`` are texts for the operator.
    """

    epoch: int
    last_seq: int
    snapshot: bytes | None
    snapshot_seq: int
    cut_bytes: int
    alarms: tuple[str, ...]


class Work(NamedTuple):
    """A commit to be done: write ``data`` at ``offset`` of ``file``, all of it, then sync the file."""

    file: File
    offset: int
    data: memoryview


@contextmanager
def _fatal(what: str) -> Iterator[None]:
    """Turn a disk error into the end of the process."""
    try:
        yield
    except OSError as error:
        raise JournalFailed(f"journal: {what} failed: {error}") from error


class Journal:
    """One writer on one folder. Not for two threads at once, but for what says that it may run beside."""

    def __init__(
        self,
        disk: Disk,
        identity: Identity,
        seen: Survey,
        alarms: list[str],
        segment_bytes: int,
        first_epoch: int,
        beside: Beside | None,
    ) -> None:
        """Use ``open``."""
        assert segment_bytes >= SEGMENT_HEADER_BYTES + 1024 and segment_bytes % 8 == 0
        self._disk = disk
        self._identity = identity
        self._recovered = seen.segments
        self._recovered_hash = b""
        self._buffers: Buffers | None = seen.buffers  # until the replay has ended
        self._beside = beside
        self._ends = [(ref.name, ref.end) for ref in seen.segments]
        self._segment_bytes = segment_bytes
        self._buffer = bytearray(1 << 16)
        self._fill = 0
        self._spare = Spare(disk, segment_bytes, beside)
        self._failed = False
        self._tail = np.zeros(1, TAIL)
        self.lent = False  # the tail, to a lane
        self._committing: memoryview | None = None
        last = seen.segments[-1] if seen.segments else None
        self._journal_id = last.header.journal_id if last else identity.journal_id
        self._seed = seed_of(self._journal_id)
        self._crc = last.crc if last else 0
        self._next_seq = seen.next_seq
        self._durable_seq = self._next_seq - 1
        self._boundaries: OrderedDict[int, int] = OrderedDict({self._durable_seq: self._crc})
        self.recovery = Recovery(
            epoch=last.header.epoch + 1 if last else first_epoch,
            last_seq=self._durable_seq,
            snapshot=seen.state.tobytes() if seen.state is not None else None,
            snapshot_seq=seen.snapshot.seq if seen.snapshot is not None else 0,
            cut_bytes=last.torn_bytes if last else 0,
            alarms=tuple(alarms),
        )
        self._file: File
        self._header: SegmentHeader
        self._offset = 0

    @classmethod
    def open(
        cls,
        disk: Disk,
        identity: Identity,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        first_epoch: int = 1,
        restore: Restore | None = None,
        beside: Beside | None = None,
    ) -> Journal:
        """Lock the folder, recover, begin a new epoch. Nothing is changed on the disk before the decision.

        ``first_epoch`` is the epoch of a journal that begins here; an existing one goes on with its next.
        ``restore(state, increments)`` is offered the sound snapshots, newest first, until it takes one: for a caller
        that reads (and verifies) increments into memory of its own. It must leave nothing behind where it refuses.
        ``recovery.snapshot`` is None then: the caller has it.
        ``beside(work)`` has things done elsewhere: a new segment's successor reserved (without it, in ``append``), and
        half of what recovery and replay read.

        Raises ``JournalError`` (in use), ``RecoveryRefused`` (the text names the command to run) and
        ``JournalFailed`` (the disk reports an error).
        """
        disk.lock()
        try:
            with _fatal("recovery"):
                seen = survey(disk, identity, restore=restore, beside=beside)
                alarms = decide(disk, seen)
                journal = cls(disk, identity, seen, alarms, segment_bytes, first_epoch, beside)
                try:
                    journal._settle(seen)
                except OSError as error:
                    if error.errno not in NO_ROOM:
                        raise
                    text = f"{disk.path}: no room for a segment of {segment_bytes} bytes"
                    raise RecoveryRefused("disk_full", text, f"df {disk.path}, make room, start again") from error
        except BaseException:
            disk.unlock()
            raise
        return journal

    def _settle(self, seen: Survey) -> None:
        """Make durable what recovery accepted, then begin the next segment."""
        for name in seen.leftovers:
            # A whole spare's room stays reserved: a restart must be possible on a full disk.
            if name != SPARE or not self._spare.take_over():
                self._disk.remove(name)
        if seen.segments:
            last = seen.segments[-1]
            file = self._disk.open(last.name)
            try:
                content = file.read(0, last.end, seen.buffers.lane(HERE))
                # After a kill the last commit may stand in memory only, and after a failed fsync the kernel
                # may take it for written: write it again, then sync.
                if seen.rewrite_from < last.end:
                    file.write(seen.rewrite_from, content[seen.rewrite_from :])
                file.sync()
                self._disk.sync_names()
                self._recovered_hash = content_hash(content)
                self._begin_segment(last.header.index + 1, last.end, self._recovered_hash)
                if last.torn_bytes == 0:
                    file.truncate(last.end)  # the untouched room goes back; a torn tail stays as evidence
            finally:
                file.close()
        else:
            self._begin_segment(1, 0, bytes(16))
        if not self._spare.reserved:
            self._spare.reserve()

    # Segments

    def _begin_segment(self, index: int, previous_end: int, previous_hash: bytes, least_bytes: int = 0) -> None:
        """Write the header into the spare file; only when that is on the disk does it get its name."""
        capacity = max(self._segment_bytes, SEGMENT_HEADER_BYTES + least_bytes)
        header = SegmentHeader(
            format=self._identity.format,
            engine_abi=self._identity.engine_abi,
            epoch=self.recovery.epoch,
            index=index,
            prev_crc=self._crc,
            first_seq=self._next_seq,
            capacity=capacity,
            journal_id=self._journal_id,
            previous_end=previous_end,
            previous_hash=previous_hash,
            rules_hash=self._identity.rules_hash,
        )
        file = self._spare.take(capacity)
        encoded = encode_segment_header(header)
        file.write(0, encoded)
        file.sync()
        self._disk.rename(SPARE, segment_name(index))
        self._disk.sync_names()
        self._file, self._header, self._offset = file, header, SEGMENT_HEADER_BYTES
        self._content = ContentHash()
        self._content.update(encoded)

    def _rotate(self, least_bytes: int = 0) -> None:
        self.commit()
        with self._io("beginning a segment"):
            self._file.close()
            self._ends.append((segment_name(self._header.index), self._offset))
            self._begin_segment(self._header.index + 1, self._offset, self._content.digest(), least_bytes)
            self._spare.begin()

    # Writing

    @contextmanager
    def _io(self, what: str) -> Iterator[None]:
        assert not self._failed, "the journal has failed: the process should have ended"
        try:
            with _fatal(what):
                yield
        except JournalFailed:
            self._failed = True
            raise

    @property
    def next_seq(self) -> int:
        """The sequence that the next command appended must have."""
        return int(self._tail[0]["next_seq"]) if self.lent else self._next_seq

    @property
    def first_seq(self) -> int:
        """The first sequence that was recovered; without any, the next one."""
        return self._recovered[0].header.first_seq if self._recovered else self._next_seq

    @property
    def has_descriptors(self) -> bool:
        """Whether its disk's files are the system's own, so that a lane may commit by itself."""
        return isinstance(self._file, RealFile)

    @property
    def durable_seq(self) -> int:
        """The last sequence that is on the disk."""
        return int(self._tail[0]["synced_seq"]) if self.lent else self._durable_seq

    def append(self, commands: np.ndarray, payloads: Buffer = b"") -> None:
        """Buffer one group: ``commands`` COMMAND[n], n >= 1, sequences without a gap from ``next_seq`` on.

        ``payloads``: what belongs to the MESSAGE commands, in order. Nothing is durable before ``commit``.
        A group that no longer fits into the segment commits those before it and begins the next segment.
        Raises ``JournalError("GROUP_TOO_LARGE")`` beyond GROUP_BYTES_MAX; nothing is buffered then.
        """
        self._recall()
        records = byte_view(commands)
        blob = byte_view(payloads)
        count = len(records) // RECORD_BYTES
        assert count > 0 and count * RECORD_BYTES == len(records), "a group has at least one command"
        assert int(commands["seq"][0]) == self._next_seq and int(commands["seq"][-1]) == self._next_seq + count - 1
        self._add(COMMANDS, records, blob, int(commands["time_ns"][-1]))

    def _add(self, kind: int, records: memoryview | bytes, blob: memoryview | bytes, time_ns: int) -> None:
        assert self._committing is None, "the commit that was begun comes first"
        count = len(records) // RECORD_BYTES
        length = group_length(count, len(blob))
        if length > GROUP_BYTES_MAX:
            raise JournalError("GROUP_TOO_LARGE", f"a group of {length} bytes; at most {GROUP_BYTES_MAX}")
        if self._offset + self._fill + length > self._header.capacity:
            self._rotate(length)
        if self._fill + length > len(self._buffer):
            self._buffer.extend(bytes(max(len(self._buffer), length)))
        _, self._crc = encode_group(
            self._buffer,
            self._fill,
            records,
            blob,
            kind=kind,
            seed=self._seed,
            prev_crc=self._crc,
            first_seq=self._next_seq,
            synced_seq=self._durable_seq,
            time_ns=time_ns,
            epoch=self.recovery.epoch,
        )
        self._fill += length
        self._next_seq += count
        self._remember_boundary()

    def lend(self, room_bytes: int = LANE_BYTES) -> np.ndarray:
        """The tail as a TAIL[1] record, always the same one, for a lane that appends by ``tail.append_group``.

        The lane has it until ``take_back``, or until the journal is asked for anything that needs it. At least
        ``room_bytes`` of the commit buffer are free for the lane, unless the segment ends before: then it finds no
        room, and an ``append`` begins the next segment.
        """
        assert not self.lent, "the tail is lent already"
        assert not self._failed, "the journal has failed: the process should have ended"
        assert self._committing is None, "the commit that was begun comes first"
        if self._fill + room_bytes > len(self._buffer):
            self._buffer.extend(bytes(self._fill + room_bytes - len(self._buffer)))
        self.lent = True
        tail = self._tail[0]
        tail["buffer_at"] = np.frombuffer(self._buffer, np.uint8).ctypes.data
        tail["fill"], tail["durable"], tail["offset"], tail["groups"] = self._fill, 0, self._offset, 0
        tail["fd"] = self._file.fd if isinstance(self._file, RealFile) else -1
        tail["room"] = min(len(self._buffer), self._header.capacity - self._offset)
        tail["next_seq"], tail["synced_seq"] = self._next_seq, self._durable_seq
        tail["crc"], tail["seed"], tail["epoch"] = self._crc, self._seed, self.recovery.epoch
        return self._tail

    def take_back(self) -> None:
        """Go on from what the lane appended and committed. Only its last group's end can be that of a snapshot."""
        assert self.lent, "the tail is not lent"
        tail, self.lent = self._tail[0], False
        tail["room"] = 0
        self._fill, self._next_seq, self._crc = int(tail["fill"]), int(tail["next_seq"]), int(tail["crc"])
        self._durable_seq = int(tail["synced_seq"])
        durable = int(tail["durable"])
        if durable:
            self._content.update(memoryview(self._buffer)[:durable])
            self._buffer[: self._fill - durable] = self._buffer[durable : self._fill]
            self._offset, self._fill = self._offset + durable, self._fill - durable
        if tail["groups"]:
            self._remember_boundary()

    def lane_failed(self, error: OSError) -> None:
        """The lane's commit met ``error``: raises ``JournalFailed``, as ``commit`` does."""
        with self._io("commit"):
            raise error

    def _recall(self) -> None:
        """Takes the tail back where it is lent."""
        if self.lent:
            self.take_back()

    def _remember_boundary(self) -> None:
        self._boundaries[self._next_seq - 1] = self._crc
        if len(self._boundaries) > BOUNDARIES_KEPT:
            self._boundaries.popitem(last=False)

    def commit(self) -> int:
        """Write what is buffered, wait for the disk, return the last durable sequence.

        Raises ``JournalFailed`` on any error: the process must end; nothing is tried again.
        """
        work = self.begin_commit()
        if work is None:
            return self._durable_seq
        with self._io("commit"):
            work.file.write(work.offset, work.data)
            work.file.sync()
        return self.end_commit()

    def begin_commit(self) -> Work | None:
        """What a commit has to do, for a caller that has it done elsewhere and goes on meanwhile; None: nothing.

        Until ``end_commit`` nothing may be appended and nothing else asked of the journal.
        """
        self._recall()
        assert not self._failed, "the journal has failed: the process should have ended"
        assert self._committing is None, "one commit at a time"
        if not self._fill:
            return None
        self._committing = memoryview(self._buffer)[: self._fill]
        return Work(self._file, self._offset, self._committing)

    def end_commit(self, error: OSError | None = None) -> int:
        """The work of ``begin_commit`` was done, or met ``error``; returns the last durable sequence.

        Raises ``JournalFailed`` for an error, as ``commit`` does.
        """
        assert self._committing is not None, "no commit was begun"
        with self._io("commit"):
            if error is not None:
                raise error
        self._content.update(self._committing)
        self._committing.release()
        self._committing = None
        self._offset += self._fill
        self._fill = 0
        self._durable_seq = self._next_seq - 1
        return self._durable_seq

    def increment(self, content: Buffer | Iterable[Buffer], seq: int) -> Increment | None:
        """Write what snapshots from ``seq`` on will name; None when the disk has no room. May run as ``snapshot`` does.

        It is removed with the next snapshot that is written, unless that one or another that is kept names it.
        """
        assert not self._failed, "the journal has failed: the process should have ended"
        with _fatal("increment"):
            try:
                return write_increment(self._disk, content, seq)
            except OSError as error:
                if error.errno not in NO_ROOM:
                    raise
                return None

    def snapshot(self, state: Buffer | Iterable[Buffer], seq: int, increments: Sequence[Increment] = ()) -> bool:
        """Write the state after ``seq``, which must be durable and the end of a group; then drop older ones.

        ``increments``: all that belong to the state, in order, as ``increment`` gave them.
        False when the disk has no room for it, or it did not verify: the older ones are then kept, and the
        market goes on. May run in another thread than ``append`` and ``commit``.
        """
        assert seq <= self._durable_seq and seq in self._boundaries, "a snapshot follows the commit of its last group"
        assert not self._failed, "the journal has failed: the process should have ended"
        with _fatal("snapshot"):
            try:
                verified = write_snapshot(
                    self._disk,
                    state,
                    identity=self._identity,
                    journal_id=self._journal_id,
                    epoch=self.recovery.epoch,
                    chain_crc=self._boundaries[seq],
                    seq=seq,
                    increments=increments,
                )
            except OSError as error:
                if error.errno not in NO_ROOM:
                    raise
                return False
            if verified:
                drop_older_snapshots(self._disk)
            return verified

    def seal(self, day: int, state_hash: bytes, counts: dict[str, int | str]) -> Seal:
        """End ``day`` (yyyymmdd): a seal over everything since the last one, then a new segment. Durable on return."""
        self.commit()
        blank = encode_seal(Seal(day, self._durable_seq, bytes(state_hash), bytes(DAY_HASH_BYTES), dict(counts)))
        length = group_length(0, len(blank))
        if self._offset + length > self._header.capacity:
            self._rotate(length)  # before the hash is taken: the bytes up to the seal include its segment's header
        with self._io("seal"):
            day_hash = self._day_hash()
        seal = Seal(day, self._durable_seq, bytes(state_hash), day_hash.digest(), dict(counts))
        self._add(SEAL, b"", encode_seal(seal), 0)
        self._rotate()
        return seal

    def _day_hash(self) -> DayHash:
        """Over the last seal and all segments since; reads them one at a time, and one more to find the seal."""
        ends = [*self._ends, (segment_name(self._header.index), self._offset)]
        first, before = 0, b""
        for number in range(len(ends) - 1, -1, -1):
            sealed = last_seal(self._read(*ends[number]))
            if sealed is not None:
                first, before = number + 1, sealed.journal_hash
                break
        day_hash = DayHash(before)
        for name, end in ends[first:]:
            day_hash.update(self._read(name, end))
        return day_hash

    def _read(self, name: str, end: int) -> np.ndarray:
        file = self._disk.open(name)
        try:
            return file.read(0, end)
        finally:
            file.close()

    # Reading

    def groups(self, after_seq: int = 0) -> Iterator[Group]:
        """What ``open`` recovered behind sequence ``after_seq``, in order; seals are left out."""
        for ref in self._recovered:
            if ref.next_seq - 1 <= after_seq:
                continue
            with _fatal("reading a segment"):
                data = read_segment(self._disk, ref)
            for group in segment_groups(data, ref):
                if group.header.kind == COMMANDS and group.header.last_seq > after_seq:
                    yield after(group, after_seq)

    def batches(
        self, after_seq: int = 0, commands_max: int = BATCH_COMMANDS, *, messages_apart: bool = False
    ) -> Iterator[Group]:
        """As ``groups``, with neighbouring groups put together at memory speed: what replay reads.

        ``messages_apart`` keeps groups with MESSAGE commands as they were written, for a reader that does something
        once per group that held one (the gateway's routing and its change of day). The next segment is read beside the
        replay of this one. What is yielded is overwritten by the next step.
        """
        refs = [ref for ref in self._recovered if ref.next_seq - 1 > after_seq]
        with closing(ahead([partial(self._read_recovered, ref) for ref in refs], self._beside)) as read:
            for ref, data in zip(refs, read, strict=True):
                for batch in segment_batches(data, ref, commands_max, messages_apart):
                    if batch.header.last_seq > after_seq:
                        yield after(batch, after_seq)
        self._buffers = None

    def copy_commands(self, first_seq: int, into: np.ndarray) -> dict[int, bytes]:
        """Reads the commands from ``first_seq`` on that a snapshot covers into COMMAND[n], as many as it has room for.

        Returns the payloads of the MESSAGE commands among them, by sequence. Raises ``JournalError("DAMAGED")`` where
        bytes do not verify; ``into`` then holds anything. May run in another thread than all else, as ``snapshot`` may.
        """
        end_seq = first_seq + len(into)
        assert self.first_seq <= first_seq and end_seq <= self.recovery.last_seq + 1, "what was recovered"
        refs = [
            (number, ref)
            for number, ref in enumerate(self._recovered)
            if ref.next_seq > first_seq and ref.header.first_seq < end_seq
        ]
        buffer = np.empty(max((ref.end for _, ref in refs), default=0), np.uint8)
        found: dict[int, bytes] = {}
        for number, ref in refs:
            with _fatal("reading a segment"):
                data = read_segment(self._disk, ref, buffer)
            if not self._is_sound(number, data):
                raise JournalError("DAMAGED", f"{ref.name} does not verify; `cea verify` tells more")
            blob = copy_commands(data, SEGMENT_HEADER_BYTES, ref.end, first_seq, into)
            if not blob:
                continue
            start, stop = max(ref.header.first_seq, first_seq) - first_seq, min(ref.next_seq - first_seq, len(into))
            at = 0
            for place in (np.flatnonzero(into[start:stop]["kind"] == MESSAGE) + start).tolist():
                size = int(into[place]["quantity"])
                found[first_seq + place] = blob[at : at + size]
                at += size
        return found

    def _read_recovered(self, ref: SegmentRef, lane: int) -> np.ndarray:
        """A recovered segment's bytes, in the lane's memory."""
        with _fatal("reading a segment"):
            return read_segment(self._disk, ref, self._buffers.lane(lane) if self._buffers is not None else None)

    def _is_sound(self, number: int, data: np.ndarray) -> bool:
        """Whether a recovered segment's bytes are those that the next one names, or that recovery has walked."""
        if number + 1 < len(self._recovered):
            return content_hash(data) == self._recovered[number + 1].header.previous_hash
        return content_hash(data) == self._recovered_hash

    # State

    def free_space_state(self) -> FreeSpace:
        """LOW while the next segment's room can't be reserved or the disk is nearly full; tries again each time.

        While that room is being reserved only the disk's room counts.
        """
        with self._io("reserving room"):
            self._spare.collect(wait=False)
            if not self._spare.reserved and not self._spare.under_way:
                self._spare.reserve()
            free = self._disk.free_bytes()
        kept = self._spare.reserved or self._spare.under_way
        return FreeSpace.OK if kept and free >= LOW_WATER_SEGMENTS * self._segment_bytes else FreeSpace.LOW

    def close(self) -> None:
        """Commit and give the folder back. A journal that was not closed is recovered all the same."""
        if not self._failed and self._committing is None:
            self.commit()
        self._spare.abandon()  # the folder is another's afterwards
        self._file.close()
        self._disk.unlock()


def last_seal(data: np.ndarray) -> Seal | None:
    """The seal that ends a verified segment's bytes (uint8[end]), or None."""
    walk = walk_groups(data, SEGMENT_HEADER_BYTES, data.size, seed=0, epoch=0, next_seq=0, prev_crc=0, checks=0)
    if not len(walk.offsets):
        return None
    last = decode_group(data, int(walk.offsets[-1]))
    return decode_seal(last.payloads) if last.header.kind == SEAL else None
