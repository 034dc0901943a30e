"""What operators see: rows for `cea journal ls` and `show`, and the verification.

Pure functions on a ``Disk`` that only read; the command line prints what they return.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from . import scan
from .decisions import DECISIONS, Action, Finding
from .disk import Disk
from .group import COMMANDS, SEAL, Group, decode_header, payload_lengths, seed_of
from .increment import increment_is_sound, is_increment
from .recovery import Observation, Survey, read_segment, segment_groups, survey
from .seal import DayHash, Seal, decode_seal
from .segment import SEGMENT_HEADER_BYTES, decode_segment_header, segment_index
from .snapshot import read_references, read_snapshot, snapshot_names

# Of a finding that says only "not yours", an inspection without an identity is not told.
_START_ANYWAY = (Finding.CLEAN_END, Finding.EMPTY_FOLDER, Finding.LEFTOVER)


class Machine(Protocol):
    """What ``verify`` replays into: the engine, behind two calls."""

    def apply(self, commands: np.ndarray, payloads: bytes, /) -> object: ...

    def seal_hash(self) -> bytes:
        """The hash of the whole state that seals hold."""


@dataclass(frozen=True, slots=True)
class FileRow:
    """A row of ``cea journal ls``: ``state`` is ok, torn (bytes beyond its end), damaged, unused, or a leftover."""

    name: str
    kind: str
    first_seq: int
    last_seq: int
    epoch: int
    bytes_used: int
    bytes_reserved: int
    state: str


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A row of ``cea journal show``. ``state`` is ok, or why the walk stopped there."""

    segment: str
    offset: int
    kind: str
    epoch: int
    first_seq: int
    last_seq: int
    synced_seq: int
    count: int
    payload_bytes: int
    time_ns: int
    crc: int
    state: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What ``cea verify`` says. ``problems`` is empty when everything is in order."""

    last_seq: int
    groups: int
    commands: int
    seals: tuple[Seal, ...]
    snapshots: int
    state_hash: bytes
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """True when nothing was found."""
        return not self.problems


def list_files(disk: Disk) -> list[FileRow]:
    """One row for each file of the folder, segments first; nothing is changed and nothing raises."""
    seen = survey(disk, whole=True)
    sound = {ref.name: ref for ref in seen.segments}
    needed = {i for name in snapshot_names(disk) for i in read_references(disk, name)}
    increments = {i.name: increment_is_sound(disk, i) for i in needed}
    rows = []
    for name in disk.names():
        file = disk.open(name)
        size = file.size()
        data = file.read(0, SEGMENT_HEADER_BYTES).tobytes()
        file.close()
        if segment_index(name) is not None:
            header = decode_segment_header(data)
            first, epoch = (header.first_seq, header.epoch) if header else (0, 0)
            if (ref := sound.get(name)) is not None:
                state = "torn" if ref.torn_bytes and ref is seen.segments[-1] else "ok"
                rows.append(FileRow(name, "segment", first, ref.next_seq - 1, epoch, ref.end, size, state))
            else:
                rows.append(FileRow(name, "segment", first, 0, epoch, 0, size, "damaged"))
        elif name in snapshot_names(disk):
            found = read_snapshot(disk, name)
            seq, epoch = (found[0].seq, found[0].epoch) if found else (0, 0)
            rows.append(FileRow(name, "snapshot", seq, seq, epoch, size, size, "ok" if found else "damaged"))
        elif is_increment(name):
            seq = int(name.partition(".")[0])
            state = "unused" if name not in increments else "ok" if increments[name] else "damaged"
            rows.append(FileRow(name, "increment", seq, seq, 0, size, size, state))
        else:
            kind = "leftover" if name in seen.leftovers else "unknown"
            rows.append(FileRow(name, kind, 0, 0, 0, 0, size, kind))
    return sorted(rows, key=lambda row: (row.kind != "segment", row.kind not in ("snapshot", "increment"), row.name))


_STOPS = {
    scan.STOP_GARBLED: "garbled",
    scan.STOP_UNCHAINED: "does not follow the group before",
    scan.STOP_MISFIT: "contradicts itself",
    scan.STOP_NO_GROUP: "no group here",
}


def show_groups(disk: Disk, after_seq: int = 0, limit: int = 100) -> list[GroupRow]:
    """Headers of the groups behind ``after_seq``, damaged places and what is sound behind them included."""
    rows: list[GroupRow] = []
    for name in disk.names():
        if segment_index(name) is None or len(rows) >= limit:
            continue
        file = disk.open(name)
        data = file.read(0, file.size())
        file.close()
        header = decode_segment_header(data[:SEGMENT_HEADER_BYTES].tobytes())
        if header is None:
            rows.append(GroupRow(name, 0, "header", 0, 0, 0, 0, 0, 0, 0, 0, "segment header does not verify"))
            continue
        walk = scan.walk_groups(
            data,
            SEGMENT_HEADER_BYTES,
            data.size,
            seed=seed_of(header.journal_id),
            epoch=header.epoch,
            next_seq=header.first_seq,
            prev_crc=header.prev_crc,
        )
        rows += [_group_row(name, data, int(o), "ok") for o in walk.offsets if _reaches(data, int(o), after_seq)]
        if walk.offset < data.size and not scan.is_zero(data, walk.offset):
            state = _STOPS.get(walk.stop, "no room for a group")
            rows.append(GroupRow(name, walk.offset, "?", header.epoch, walk.next_seq, 0, 0, 0, 0, 0, 0, state))
            for place in scan.later_places(data, walk.offset, seed=seed_of(header.journal_id)):
                rows.append(_group_row(name, data, place, "sound behind damage"))
    return rows[:limit]


def _reaches(data: np.ndarray, offset: int, after_seq: int) -> bool:
    return decode_header(data, offset).last_seq > after_seq


def _group_row(name: str, data: np.ndarray, offset: int, state: str) -> GroupRow:
    h = decode_header(data, offset)
    kind = {COMMANDS: "commands", SEAL: "seal"}.get(h.kind, str(h.kind))
    return GroupRow(
        name,
        offset,
        kind,
        h.epoch,
        h.first_seq,
        h.last_seq,
        h.synced_seq,
        h.count,
        h.payload_bytes,
        h.time_ns,
        h.crc,
        state,
    )


def verify(
    disk: Disk, make: Callable[[], Machine] | None = None, restore: Callable[[bytes], Machine] | None = None
) -> VerifyReport:
    """Check everything that can be checked without trusting anything: each byte, chain, hash, seal, snapshot.

    ``make`` builds the machine to replay with: the state hashes of all seals are then compared with those of a
    replay from the first command, and with ``restore`` (a machine from a snapshot's bytes) the snapshots too.
    Raises nothing for what it finds; it reports.
    """
    seen = survey(disk, whole=True)
    problems = [_text(o) for o in seen.observations if o.finding not in _START_ANYWAY]
    machine = make() if make is not None else None
    snapshots = _sound_snapshots(disk, problems)
    seals: list[Seal] = []
    groups = commands = 0
    day_hash = DayHash(b"")
    for ref in seen.segments:
        data = read_segment(disk, ref)
        hashed = 0
        for group in segment_groups(data, ref):
            groups += 1
            if group.header.kind == SEAL:
                seal = decode_seal(group.payloads)
                day_hash.update(data[: ref.end - group.header.length])  # a seal ends its segment
                if day_hash.digest() != seal.journal_hash:
                    problems.append(f"seal of {seal.day}: the day's bytes have another hash")
                if machine is not None and machine.seal_hash() != seal.state_hash:
                    problems.append(f"seal of {seal.day}: replay gives another state hash")
                if seal.last_seq != group.header.last_seq:
                    problems.append(f"seal of {seal.day}: last_seq is not the journal's")
                seals.append(seal)
                day_hash = DayHash(seal.journal_hash)
                hashed = ref.end
                continue
            commands += group.header.count
            problems += _misfits(group)
            if machine is not None:
                _replay(machine, group, snapshots, restore, problems)
        day_hash.update(data[hashed:])
    return VerifyReport(
        seen.next_seq - 1,
        groups,
        commands,
        tuple(seals),
        len(snapshots),
        machine.seal_hash() if machine is not None else b"",
        tuple(problems),
    )


def _text(observation: Observation) -> str:
    decision = DECISIONS[observation.finding]
    verdict = "" if decision.action is not Action.REFUSE else " (start-up refuses)"
    return f"{observation.finding.value}: {observation.place}: {decision.why}{verdict} ({observation.detail})"


def _sound_snapshots(disk: Disk, problems: list[str]) -> dict[int, bytes]:
    """State by sequence of every snapshot that verifies; the others become problems."""
    states = {}
    for name in snapshot_names(disk):
        found = read_snapshot(disk, name)
        if found is None:
            text = f"{Finding.SNAPSHOT_DAMAGED.value}: {name}"
            if not any(p.startswith(text) for p in problems):
                problems.append(text)
        else:
            states[found[0].seq] = found[1].tobytes()
    return states


def _misfits(group: Group) -> list[str]:
    """Sequences and payload lengths of a group, record by record: the checksum can't see a writer's mistake."""
    found = []
    seqs = group.commands["seq"]
    if not np.array_equal(seqs, np.arange(group.header.first_seq, group.header.last_seq + 1, dtype=np.uint64)):
        found.append(f"group at sequence {group.header.first_seq}: the records' sequences are not consecutive")
    if int(payload_lengths(group.commands).sum()) != len(group.payloads):
        found.append(f"group at sequence {group.header.first_seq}: payload bytes do not fit the MESSAGE records")
    return found


def _replay(
    machine: Machine,
    group: Group,
    snapshots: dict[int, bytes],
    restore: Callable[[bytes], Machine] | None,
    problems: list[str],
) -> None:
    machine.apply(group.commands, group.payloads)
    state = snapshots.get(group.header.last_seq)
    if state is not None and restore is not None and restore(state).seal_hash() != machine.seal_hash():
        problems.append(f"snapshot of sequence {group.header.last_seq}: replay gives another state hash")


def recovery_text(seen: Survey) -> list[str]:
    """The observations of a survey in words, for `cea journal show` before its rows."""
    return [_text(o) for o in seen.observations]
