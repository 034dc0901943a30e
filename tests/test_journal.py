"""The journal on a real folder: groups, commits, snapshots, seals, room, errors, and what operators see."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import struct
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from journal_crash import IDENTITY, Fold, some_commands

from engine.journal import FreeSpace, Identity, Journal, JournalError, JournalFailed, RealDisk, RecoveryRefused
from engine.journal.crash_disk import CrashDisk
from engine.journal.disk import RealFile
from engine.journal.group import GROUP_BYTES_MAX, group_length, seed_of
from engine.journal.inspection import list_files, recovery_text, show_groups, verify
from engine.journal.recovery import survey
from engine.journal.rewrite import identity_of, rewrite, sound_groups
from engine.journal.scan import crc32_words, walk_groups
from engine.journal.tail import append_group, mark_durable
from engine.records import COMMAND, NEW

SEGMENT_BYTES = 64 << 10


class Hashed(Fold):
    """The fold with the state hash that seals and ``verify`` use."""

    def seal_hash(self) -> bytes:
        return self.hash.to_bytes(8, "little")


def from_state(state: bytes) -> Hashed:
    machine = Hashed()
    machine.restore(state)
    return machine


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[RealDisk]:
    real = RealDisk(tmp_path / "journal")
    yield real
    real.close()


def opened(disk: RealDisk | CrashDisk, **options: int) -> Journal:
    return Journal.open(disk, IDENTITY, segment_bytes=SEGMENT_BYTES, **options)


def write(journal: Journal, machine: Fold, groups: int, size: int = 8, seed: int = 1) -> None:
    """Append and commit ``groups`` groups of ``size`` commands, and apply them."""
    rng = random.Random(seed)
    for _ in range(groups):
        commands, payloads = some_commands(rng, journal.next_seq, size)
        machine.apply(commands, payloads)
        journal.append(commands, payloads)
        journal.commit()


def replayed(journal: Journal) -> Hashed:
    machine = Hashed()
    if journal.recovery.snapshot is not None:
        machine.restore(journal.recovery.snapshot)
    for group in journal.groups(journal.recovery.snapshot_seq):
        machine.apply(group.commands, group.payloads)
    return machine


def test_what_is_committed_comes_back_from_a_real_folder(disk: RealDisk) -> None:
    journal, machine = opened(disk), Hashed()
    write(journal, machine, 200)
    assert journal.durable_seq == 1_600
    journal.close()
    again = opened(disk)
    assert again.recovery.last_seq == 1_600
    assert again.recovery.epoch == 2
    assert replayed(again).state() == machine.state()
    assert len([n for n in disk.names() if n.endswith(".segment")]) > 2, "segments were changed on the way"


def test_the_commands_read_back_are_the_bytes_that_were_written(disk: RealDisk) -> None:
    rng = random.Random(4)
    journal = opened(disk)
    written = [some_commands(rng, 1 + 5 * i, 5) for i in range(20)]
    for commands, payloads in written:
        journal.append(commands, payloads)
    journal.close()
    for group, (commands, payloads) in zip(opened(disk).groups(), written, strict=True):
        assert group.commands.dtype == COMMAND
        assert group.commands.tobytes() == commands.tobytes()
        assert group.payloads == payloads


def test_groups_after_a_sequence_inside_a_group_begin_with_the_next_command_and_its_payload(disk: RealDisk) -> None:
    journal, machine = opened(disk), Hashed()
    write(journal, machine, 4, size=10, seed=9)
    journal.close()
    again = opened(disk)
    for cut in range(41):
        half = Hashed()
        for group in again.groups():
            keep = group.commands[group.commands["seq"] <= cut]
            lengths = np.where(keep["kind"] == 7, keep["quantity"], 0)
            half.apply(keep, group.payloads[: int(lengths.sum())])
        for group in again.groups(cut):
            assert group.commands["seq"][0] > cut
            half.apply(group.commands, group.payloads)
        assert half.state() == machine.state()


@pytest.mark.parametrize("commands_max", [1, 7, 40, 8_192])
def test_batches_are_the_groups_put_together(disk: RealDisk, commands_max: int) -> None:
    journal, machine = opened(disk), Hashed()
    for size in (1, 30, 2, 9):
        write(journal, machine, 40, size=size)
    journal.seal(20260105, b"", {})
    write(journal, machine, 40, size=3)
    journal.close()
    again = opened(disk)
    for cut in (0, 1, 500, 1_000, again.durable_seq):
        groups = [(g.commands.tobytes(), g.payloads) for g in again.groups(cut)]
        batches = [(g.commands.tobytes(), g.payloads) for g in again.batches(cut, commands_max)]
        assert b"".join(b[0] for b in batches) == b"".join(g[0] for g in groups)
        assert b"".join(b[1] for b in batches) == b"".join(g[1] for g in groups)
        if commands_max > 40:
            assert len(batches) < max(2, len(groups) / 3)


def test_groups_with_messages_stay_apart_where_that_is_asked_for(disk: RealDisk) -> None:
    journal, rng, expected = opened(disk), random.Random(4), []
    for size in (3, 1, 5, 2, 8, 1, 1, 1, 40, 6):
        commands, payloads = some_commands(rng, journal.next_seq, size)
        journal.append(commands, payloads)
        if payloads or not expected or expected[-1][1]:
            expected.append([commands.tobytes(), payloads])
        else:
            expected[-1][0] += commands.tobytes()
    journal.close()
    found = [[g.commands.tobytes(), g.payloads] for g in opened(disk).batches(messages_apart=True)]
    assert found == expected
    assert 3 < len(found) < 10, "some groups have messages, and some neighbours have none"


def test_nothing_is_durable_before_the_commit_returns() -> None:
    disk = CrashDisk()
    journal = opened(disk)
    journal.append(*some_commands(random.Random(1), 1, 3))
    assert journal.durable_seq == 0
    assert opened(disk.power_cut(lambda n: 0)).recovery.last_seq == 0
    assert journal.commit() == 3
    assert opened(disk.power_cut(lambda n: 0)).recovery.last_seq == 3


def test_a_sequence_that_does_not_follow_is_a_programming_error(disk: RealDisk) -> None:
    journal = opened(disk)
    commands, payloads = some_commands(random.Random(1), 2, 3)
    with pytest.raises(AssertionError):
        journal.append(commands, payloads)


def test_a_group_beyond_the_limit_is_refused_and_nothing_is_buffered(disk: RealDisk) -> None:
    journal = opened(disk)
    commands, _ = some_commands(random.Random(1), 1, 1)
    with pytest.raises(JournalError, match="GROUP_TOO_LARGE"):
        journal.append(commands, bytes(GROUP_BYTES_MAX))
    assert journal.commit() == 0


def test_a_group_larger_than_a_segment_gets_a_segment_of_its_size(disk: RealDisk) -> None:
    journal, machine = opened(disk), Hashed()
    write(journal, machine, 1, size=3)
    write(journal, machine, 1, size=3_000)
    write(journal, machine, 1, size=3)
    journal.close()
    assert replayed(opened(disk)).state() == machine.state()


def test_a_command_takes_at_most_80_bytes_in_groups_of_eight_and_128_alone() -> None:
    assert group_length(8, 0) / 8 == 72
    assert group_length(1, 0) == 128
    assert group_length(1_024, 0) / 1_024 < 65


def test_the_kernels_checksum_is_zlibs() -> None:
    rng = random.Random(5)
    for words in (*range(40), 1_000):
        data = rng.randbytes(4 * words)
        seed = rng.getrandbits(32)
        array = np.frombuffer(data, np.uint32)
        assert crc32_words(array, 0, words, seed) == zlib.crc32(data, seed)


def test_a_walk_over_more_groups_than_its_table_holds_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = CrashDisk()
    journal, machine = opened(disk), Hashed()
    write(journal, machine, 100, size=1)
    monkeypatch.setattr("engine.journal.scan._OFFSETS_MAX", 7)
    data = np.frombuffer(bytes(disk.content("00000001.segment")), np.uint8)
    walk = walk_groups(data, 512, data.size, seed=seed_of(IDENTITY.journal_id), epoch=1, next_seq=1, prev_crc=0)
    assert len(walk.offsets) == 100
    assert walk.next_seq == 101


def test_machine_code_appends_the_same_bytes_as_python() -> None:
    disks = CrashDisk(), CrashDisk()
    rng = random.Random(6)
    journals = [opened(disk) for disk in disks]
    for _ in range(40):
        batch = []
        for count in [rng.randrange(1, 40) for _ in range(rng.randrange(1, 6))]:
            first = journals[0].next_seq + sum(len(c) for c in batch)
            commands, _ = some_commands(rng, first, count)
            commands["kind"] = NEW
            batch.append(commands)
        for commands in batch:
            journals[0].append(commands)
        tail, left = journals[1].lend(), list(batch)
        while left and append_group(tail.ctypes.data, left[0].ctypes.data, len(left[0]), int(left[0]["time_ns"][-1])):
            left.pop(0)
        journals[1].take_back()
        for commands in left:  # the segment is full: python begins the next one
            journals[1].append(commands)
        assert journals[0].commit() == journals[1].commit()
    assert disks[0].names() == disks[1].names()
    assert len(disks[0].names()) > 3
    assert all(disks[0].content(name) == disks[1].content(name) for name in disks[0].names())
    assert journals[1].snapshot(b"state", journals[1].durable_seq)


def test_whatever_else_the_journal_does_takes_the_tail_back_and_the_lane_finds_no_room(disk: RealDisk) -> None:
    journal, rng = opened(disk), random.Random(1)
    commands = np.zeros(1, COMMAND)
    for use in (journal.commit, lambda: journal.append(*some_commands(rng, journal.next_seq, 2))):
        tail = journal.lend()
        with pytest.raises(AssertionError, match="lent"):
            journal.lend()
        commands["seq"] = journal.next_seq
        assert append_group(tail.ctypes.data, commands.ctypes.data, 1, 0)
        seen = journal.next_seq
        assert seen == int(commands["seq"][0]) + 1, "also while it is lent"
        use()
        assert not journal.lent
        assert not append_group(tail.ctypes.data, commands.ctypes.data, 1, 0)
    assert journal.commit() == journal.durable_seq == journal.next_seq - 1 == 4


def test_a_lane_that_commits_leaves_the_files_that_python_leaves(tmp_path: Path) -> None:
    """Bytes, segments, the hashes that link them, and the seal over all; some groups are left to Python to commit."""
    disks = [RealDisk(tmp_path / name) for name in ("python", "lane")]
    python, lane = (opened(disk) for disk in disks)
    rng = random.Random(7)
    for _ in range(300):
        commands, _ = some_commands(rng, python.next_seq, rng.randrange(1, 12))
        commands["kind"] = NEW
        python.append(commands)
        python.commit()
        tail = lane._tail if lane.lent else lane.lend()
        if append_group(tail.ctypes.data, commands.ctypes.data, len(commands), int(commands["time_ns"][-1])):
            if rng.random() < 0.9:
                t = tail[0]
                data = bytes((ctypes.c_char * int(t["fill"])).from_address(int(t["buffer_at"])))[int(t["durable"]) :]
                os.pwrite(int(t["fd"]), data, int(t["offset"] + t["durable"]))
                os.fdatasync(int(t["fd"]))
                mark_durable(tail.ctypes.data)
        else:
            lane.append(commands)
        if rng.random() < 0.1 or int(tail[0]["synced_seq"]) < lane.next_seq - 1:
            lane.commit()
        assert lane.durable_seq == python.durable_seq and lane.next_seq == python.next_seq
    assert python.seal(20251203, bytes(32), {}).journal_hash == lane.seal(20251203, bytes(32), {}).journal_hash
    assert disks[0].names() == disks[1].names() and len(disks[0].names()) > 4
    for name in disks[0].names():
        contents = [(tmp_path / folder / name).read_bytes() for folder in ("python", "lane")]
        assert contents[0] == contents[1], name
    for journal in (python, lane):
        journal.close()
    again = opened(disks[1])
    assert again.recovery.last_seq == sum(len(g.commands) for g in again.groups())
    again.close()


def test_a_lane_whose_commit_failed_ends_the_journal(disk: RealDisk) -> None:
    journal = opened(disk)
    journal.lend()
    with pytest.raises(JournalFailed, match="No space"):
        journal.lane_failed(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(AssertionError, match="failed"):
        journal.commit()


# Snapshots


def test_recovery_starts_from_the_newest_snapshot_and_keeps_three(disk: RealDisk) -> None:
    journal, machine = opened(disk), Hashed()
    for _ in range(5):
        write(journal, machine, 10)
        state = machine.state()
        assert journal.snapshot([state[:100], np.frombuffer(state[100:], np.uint8)], journal.durable_seq)
    write(journal, machine, 2)
    journal.close()
    assert len([n for n in disk.names() if n.endswith(".snapshot")]) == 3
    again = opened(disk)
    assert again.recovery.snapshot_seq == 400
    assert sum(len(g.commands) for g in again.groups(400)) == 16
    assert replayed(again).state() == machine.state()


def test_a_snapshot_may_be_written_while_further_groups_commit(disk: RealDisk) -> None:
    journal, machine = opened(disk), Hashed()
    write(journal, machine, 3)
    state, seq = machine.state(), journal.durable_seq
    write(journal, machine, 3, seed=2)
    assert journal.snapshot(state, seq)
    journal.close()
    again = opened(disk)
    assert again.recovery.snapshot_seq == seq
    assert replayed(again).state() == machine.state()


def test_a_snapshot_of_what_is_not_durable_is_a_programming_error(disk: RealDisk) -> None:
    journal = opened(disk)
    journal.append(*some_commands(random.Random(1), 1, 3))
    with pytest.raises(AssertionError, match="follows the commit"):
        journal.snapshot(b"state", 3)


def test_a_snapshot_without_room_is_left_out_and_the_market_goes_on() -> None:
    disk = CrashDisk()
    journal, machine = opened(disk), Hashed()
    write(journal, machine, 3)
    disk.room_bytes = 100
    assert not journal.snapshot(machine.state(), journal.durable_seq)
    write(journal, machine, 3)
    assert replayed(opened(disk.copy())).state() == machine.state()


# Seals


def test_a_seal_ends_a_segment_and_verify_recomputes_it(disk: RealDisk) -> None:
    journal, machine = opened(disk), Hashed()
    for day in (20260105, 20260106):
        write(journal, machine, 100, seed=day)
        seal = journal.seal(day, machine.seal_hash(), {"commands": 800, "balance_hash": "ab"})
        assert seal.last_seq == journal.durable_seq
    write(journal, machine, 3)
    journal.close()
    report = verify(disk, Hashed, from_state)
    assert report.problems == ()
    assert [s.day for s in report.seals] == [20260105, 20260106]
    assert report.commands == report.last_seq == 1_624
    assert report.state_hash == machine.seal_hash()


def test_a_seal_that_no_longer_fits_stands_in_the_next_segment_and_still_verifies() -> None:
    for groups in range(50, 75):  # the segment ends at 64 kB, somewhere among these
        disk = CrashDisk()
        journal, machine = opened(disk), Hashed()
        write(journal, machine, groups, size=13)
        journal.seal(20260105, machine.seal_hash(), {})
        journal.close()
        assert verify(disk, Hashed, from_state).problems == ()


def test_verify_names_a_seal_whose_state_or_bytes_are_not_the_replays(disk: RealDisk) -> None:
    journal, machine = opened(disk), Hashed()
    write(journal, machine, 10)
    journal.seal(20260105, b"not the state", {})
    journal.close()
    report = verify(disk, Hashed, from_state)
    assert report.problems == ("seal of 20260105: replay gives another state hash",)


def test_verify_finds_a_snapshot_that_holds_another_state(disk: RealDisk) -> None:
    journal, machine = opened(disk), Hashed()
    write(journal, machine, 10)
    other = Hashed()
    other.hash = 12_345
    assert journal.snapshot(other.state(), journal.durable_seq)
    journal.close()
    assert verify(disk, Hashed, from_state).problems == ("snapshot of sequence 80: replay gives another state hash",)


def test_verify_finds_damage_behind_a_snapshot_that_a_start_does_not_read(disk: RealDisk) -> None:
    journal, machine = opened(disk), Hashed()
    write(journal, machine, 300)
    assert journal.snapshot(machine.state(), journal.durable_seq)
    journal.close()
    with open(os.path.join(disk.path, "00000001.segment"), "r+b") as file:
        file.seek(700)
        file.write(b"\xff\xff")
    assert not verify(disk).ok
    assert "damage_in_closed_segment" in verify(disk).problems[0]
    again = opened(disk)
    assert replayed(again).state() == machine.state(), "the snapshot is later than the damage"


# Room and errors


def test_the_market_goes_to_cancel_only_while_a_segment_of_room_is_left() -> None:
    disk = CrashDisk()
    journal, machine = opened(disk), Hashed()
    assert journal.free_space_state() is FreeSpace.OK
    disk.room_bytes = SEGMENT_BYTES // 2
    assert journal.free_space_state() is FreeSpace.LOW
    write(journal, machine, 100)  # this segment and the spare still take commands
    disk.room_bytes = 10 * SEGMENT_BYTES
    assert journal.free_space_state() is FreeSpace.OK, "it tries again"


def test_a_disk_that_is_full_ends_the_process_only_when_all_reserved_room_is_used() -> None:
    disk = CrashDisk()
    journal, machine = opened(disk), Hashed()
    disk.room_bytes = 0
    taken = 0
    with pytest.raises(JournalFailed, match="No space left") as failed:  # noqa: PT012
        while True:
            write(journal, machine, 1, seed=taken)
            taken = journal.durable_seq
    assert failed.value.code == 74
    assert taken * 64 > SEGMENT_BYTES, "at least the spare segment's room was used"
    with pytest.raises(RecoveryRefused, match="make room"):
        opened(disk.copy())
    disk.room_bytes = SEGMENT_BYTES
    assert opened(disk.copy()).recovery.last_seq >= taken


def test_a_restart_is_possible_on_a_full_disk_because_the_spare_segment_is_there() -> None:
    disk = CrashDisk()
    journal, machine = opened(disk), Hashed()
    write(journal, machine, 3)
    disk.room_bytes = 0
    again = opened(disk.copy())
    assert replayed(again).state() == machine.state()
    assert again.free_space_state() is FreeSpace.LOW


def test_a_short_write_is_continued_and_an_error_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    file = RealFile(os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:3], offset))
    file.write(5, b"0123456789")
    assert file.read(0, 99).tobytes() == bytes(5) + b"0123456789"

    def full(fd: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        file.write(0, b"x")
    file.close()


def test_two_processes_cannot_open_one_folder(disk: RealDisk) -> None:
    opened(disk)
    other = RealDisk(disk.path)
    with pytest.raises(JournalError, match="IN_USE"):
        opened(other)
    other.close()


def test_a_journal_that_was_never_closed_is_recovered_all_the_same(disk: RealDisk) -> None:
    journal, machine = opened(disk), Hashed()
    write(journal, machine, 20)
    disk.close()  # the lock goes with the process
    other = RealDisk(disk.path)
    assert replayed(opened(other)).state() == machine.state()
    other.close()


# What operators see and do


def test_ls_lists_segments_snapshots_and_leftovers(disk: RealDisk) -> None:
    journal, machine = opened(disk), Hashed()
    write(journal, machine, 200)
    assert journal.snapshot(machine.state(), journal.durable_seq)
    journal.close()
    rows = list_files(disk)
    assert [r.kind for r in rows] == ["segment"] * (len(rows) - 2) + ["snapshot", "leftover"]
    assert rows[0].first_seq == 1
    assert all(a.last_seq + 1 == b.first_seq for a, b in pairwise(rows) if b.kind == "segment")
    assert {r.state for r in rows} == {"ok", "leftover"}


def damage(disk: RealDisk, name: str, at: int) -> None:
    with open(os.path.join(disk.path, name), "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def test_show_marks_the_damaged_place_and_what_is_sound_behind_it(disk: RealDisk) -> None:
    journal = opened(disk)
    for i in range(5):
        commands = np.zeros(2, COMMAND)
        commands["seq"], commands["kind"] = [1 + 2 * i, 2 + 2 * i], NEW
        journal.append(commands)
        journal.commit()
    journal.close()
    damage(disk, "00000001.segment", 512 + 2 * 192 + 100)
    rows = show_groups(disk)
    assert [r.state for r in rows] == ["ok", "ok", "garbled", "sound behind damage", "sound behind damage"]
    assert [r.first_seq for r in rows] == [1, 3, 5, 7, 9]
    assert show_groups(disk, after_seq=2, limit=1)[0].first_seq == 3
    assert list_files(disk)[0].state == "damaged"
    assert any("start-up refuses" in text for text in recovery_text(survey(disk)))


def test_a_cut_writes_a_new_journal_up_to_the_sequence_and_keeps_the_old_one(disk: RealDisk, tmp_path: Path) -> None:
    journal, machine = opened(disk), Hashed()
    write(journal, machine, 10)
    journal.close()
    damage(disk, "00000001.segment", 512 + 2_000)
    with pytest.raises(RecoveryRefused) as refused:
        opened(disk)
    after_seq = int(refused.value.command.split()[-1])
    assert 0 < after_seq < 80
    before = {n: Path(disk.path, n).read_bytes() for n in disk.names()}
    target = RealDisk(tmp_path / "cut")
    identity = identity_of(disk)
    assert identity == IDENTITY
    assert rewrite(disk, target, identity, after_seq - 3) == after_seq - 3, "a cut inside a group keeps its beginning"
    assert {n: Path(disk.path, n).read_bytes() for n in disk.names()} == before
    again = opened(target)
    assert again.recovery.epoch == 3, "members see that something happened"
    whole = [g.commands for g in sound_groups(disk)]
    assert np.array_equal(np.concatenate([g.commands for g in again.groups()]), np.concatenate(whole)[: after_seq - 3])
    with pytest.raises(JournalError, match="TARGET_NOT_EMPTY"):
        rewrite(disk, target, identity)
    target.close()


def test_a_cut_behind_the_sound_part_says_where_it_ends(disk: RealDisk, tmp_path: Path) -> None:
    journal, machine = opened(disk), Hashed()
    write(journal, machine, 3)
    journal.close()
    target = RealDisk(tmp_path / "cut")
    with pytest.raises(JournalError, match=r"SEQUENCE_NOT_REACHED.* ends with 24"):
        rewrite(disk, target, IDENTITY, 99)
    target.close()


def test_a_migrated_journal_opens_under_the_new_rules_and_the_original_under_the_old(
    disk: RealDisk, tmp_path: Path
) -> None:
    journal, machine = opened(disk), Hashed()
    write(journal, machine, 300)
    assert journal.snapshot(machine.state(), journal.durable_seq)
    journal.close()
    new = Identity(engine_abi=2, rules_hash=b"new rules", journal_id=77)
    with pytest.raises(RecoveryRefused, match="cea journal migrate"):
        Journal.open(disk, Identity(engine_abi=2, rules_hash=b"new rules"))
    target = RealDisk(tmp_path / "new")
    assert rewrite(disk, target, new) == 2_400
    assert replayed(Journal.open(target, new)).state() == machine.state()
    assert replayed(opened(disk)).state() == machine.state()
    target.close()


def test_a_segment_header_that_is_not_a_header_does_not_stop_an_inspection(disk: RealDisk) -> None:
    journal, machine = opened(disk), Hashed()
    write(journal, machine, 3)
    journal.close()
    damage(disk, "00000001.segment", 80)
    assert list_files(disk)[0].state == "damaged"
    assert show_groups(disk)[0].state == "segment header does not verify"
    assert list(sound_groups(disk)) == []
    assert not verify(disk).ok
    assert struct.unpack("<I", Path(disk.path, "00000001.segment").read_bytes()[8:12]) == (1,)
