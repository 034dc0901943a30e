"""The recovery decision table row by row, and every byte of a small journal damaged."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from journal_crash import IDENTITY, Fold, some_commands

from engine.journal import Identity, Journal, JournalError, RecoveryRefused, scan
from engine.journal.beside import Beside, ahead, in_pairs
from engine.journal.crash_disk import CrashDisk
from engine.journal.decisions import DECISIONS, Action, Finding
from engine.journal.group import GROUP_MAGIC, HEADER_BYTES, SEAL, decode_header, encode_group, payload_lengths, seed_of
from engine.journal.increment import Increment
from engine.journal.inspection import list_files, verify
from engine.journal.recovery import decide, survey
from engine.journal.segment import SEGMENT_HEADER_BYTES, decode_segment_header, encode_segment_header, segment_index
from engine.journal.snapshot import decode_snapshot_header, encode_snapshot_header, snapshot_name
from engine.records import COMMAND, MESSAGE, NEW

SEGMENT_BYTES = 1_536


class SmallJournal:
    """Three lives of one journal: snapshots with increments after 4 and 8, an open end, all states known."""

    def __init__(self, lives: int = 3, seed: int = 7, journal_id: int = IDENTITY.journal_id) -> None:
        self.disk = CrashDisk()
        self.states = {0: Fold().state()}
        self.rng = random.Random(seed)
        self.machine = Fold()
        self.identity = replace(IDENTITY, journal_id=journal_id)
        self.increments: list[Increment] = []
        for life in range(lives):
            self.live(snapshot=life < 2)

    def live(self, snapshot: bool) -> None:
        journal = Journal.open(self.disk, self.identity, segment_bytes=SEGMENT_BYTES)
        for count in (3, 1):
            commands, payloads = some_commands(self.rng, journal.next_seq, count)
            self.machine.apply(commands, payloads)
            self.states[int(commands["seq"][-1])] = self.machine.state()
            journal.append(commands, payloads)
            journal.commit()
        if snapshot:
            increment = journal.increment(self.machine.state()[:100], journal.durable_seq)
            assert increment is not None
            self.increments.append(increment)
            assert journal.snapshot(self.machine.state(), journal.durable_seq, self.increments)
        self.last = journal.durable_seq
        journal.close()

    def names(self, suffix: str) -> list[str]:
        return [n for n in self.disk.names() if n.endswith(suffix)]

    def last_segment(self) -> bytearray:
        return self.disk.content(self.names(".segment")[-1])

    def offsets(self, name: str) -> list[int]:
        """Where the groups of a segment begin."""
        data = np.frombuffer(bytes(self.disk.content(name)), np.uint8)
        found, at = [], SEGMENT_HEADER_BYTES
        while at + HEADER_BYTES <= data.size and data[at : at + 4].view(np.uint32)[0] == GROUP_MAGIC:
            found.append(at)
            at += decode_header(data, at).length
        return found

    def rewrite_header(self, name: str, **fields: object) -> None:
        """Another segment header with a right checksum."""
        content = self.disk.content(name)
        header = decode_segment_header(bytes(content[:512]))
        assert header is not None
        content[:512] = encode_segment_header(replace(header, **fields))  # type: ignore[arg-type]


def at_once(work: Callable[[], None]) -> Callable[[], None]:
    """A ``Beside`` that is quicker than its caller."""
    work()
    return lambda: None


def when_waited_for(work: Callable[[], None]) -> Callable[[], None]:
    """A ``Beside`` that is slower than its caller."""
    todo = [work]
    return lambda: todo.pop()() if todo else None


SCHEDULES = (None, at_once, when_waited_for)


def outcome(disk: CrashDisk, identity: Identity = IDENTITY, beside: Beside | None = None) -> tuple[Journal, Fold]:
    """Recover; the journal and the machine at its end."""
    journal = Journal.open(disk, identity, segment_bytes=SEGMENT_BYTES, beside=beside)
    machine = Fold()
    if journal.recovery.snapshot is not None:
        machine.restore(journal.recovery.snapshot)
    for group in journal.groups(journal.recovery.snapshot_seq):
        machine.apply(group.commands, group.payloads)
    return journal, machine


# Each situation puts a small journal into the state that its finding names.


def _flip(content: bytearray, at: int) -> None:
    content[at] ^= 0x10


def _empty(small: SmallJournal) -> None:
    for name in small.disk.names():
        small.disk.remove(name)


def _torn_tail(small: SmallJournal) -> None:
    last = small.names(".segment")[-1]
    _flip(small.disk.content(last), small.offsets(last)[-1] + HEADER_BYTES + 3)


def _leftover(small: SmallJournal) -> None:
    small.disk.put("snapshot.tmp", b"half a snapshot")


def _snapshot_damaged(small: SmallJournal) -> None:
    _flip(small.disk.content(small.names(".snapshot")[-1]), 600)


def _increment_missing(small: SmallJournal) -> None:
    small.disk.remove(small.names(".increment")[-1])


def _increment_damaged(small: SmallJournal) -> None:
    _flip(small.disk.content(small.names(".increment")[0]), 50)


def _snapshot_of_other_engine(small: SmallJournal) -> None:
    content = small.disk.content(small.names(".snapshot")[-1])
    header = decode_snapshot_header(bytes(content[:512]))
    assert header is not None
    content[:512] = encode_snapshot_header(replace(header, engine_abi=9))


def _damage_before_sound_group(small: SmallJournal) -> None:
    last = small.names(".segment")[-1]
    _flip(small.disk.content(last), small.offsets(last)[0] + HEADER_BYTES + 3)


def _damage_in_closed_segment(small: SmallJournal) -> None:
    for name in small.names(".snapshot"):
        small.disk.remove(name)
    _flip(small.disk.content(small.names(".segment")[0]), SEGMENT_HEADER_BYTES + HEADER_BYTES)


def _unchained_group(small: SmallJournal) -> None:
    """A write that went to the wrong place: a copy of a group lies where a later, equally long one was."""
    journal = Journal.open(small.disk, IDENTITY, segment_bytes=SEGMENT_BYTES)
    for _ in range(3):
        commands, _ = some_commands(small.rng, journal.next_seq, 1)
        commands["kind"] = NEW
        small.machine.apply(commands, b"")
        small.states[journal.next_seq] = small.machine.state()
        journal.append(commands)
        journal.commit()
    small.last = journal.durable_seq
    journal.close()
    content, places = small.last_segment(), small.offsets(small.names(".segment")[-1])
    content[places[2] : places[2] + 128] = content[places[0] : places[0] + 128]


def _misfit_group(small: SmallJournal) -> None:
    """A right checksum over a seal that claims commands."""
    last = small.names(".segment")[-1]
    content, place = small.disk.content(last), small.offsets(last)[-1]
    header = decode_header(np.frombuffer(bytes(content), np.uint8), place)
    wrong = bytearray(header.length)
    encode_group(
        wrong,
        0,
        bytes(64 * header.count),
        bytes(header.payload_bytes),
        kind=SEAL,
        seed=seed_of(IDENTITY.journal_id),
        prev_crc=header.prev_crc,
        first_seq=header.first_seq,
        synced_seq=header.synced_seq,
        time_ns=0,
        epoch=header.epoch,
    )
    content[place : place + len(wrong)] = wrong


def _snapshot_ahead(small: SmallJournal) -> None:
    """The last life's segment is lost, and what it held is in a snapshot."""
    small.live(snapshot=True)
    last = small.names(".segment")[-1]
    content = small.disk.content(last)
    content[SEGMENT_HEADER_BYTES:] = bytes(len(content) - SEGMENT_HEADER_BYTES)


def _snapshot_unchained(small: SmallJournal) -> None:
    other = SmallJournal(lives=2, seed=8)
    for name in (*other.names(".increment"), other.names(".snapshot")[-1]):
        small.disk.put(name, bytes(other.disk.content(name)))


def _snapshot_without_journal(small: SmallJournal) -> None:
    for name in small.names(".segment"):
        small.disk.remove(name)


def _segment_not_ours(small: SmallJournal) -> None:
    small.disk.put(small.names(".segment")[0], b"#!/bin/sh\n" * 100)


def _segment_header_damaged(small: SmallJournal) -> None:
    _flip(small.disk.content(small.names(".segment")[1]), 100)


def _segment_short(small: SmallJournal) -> None:
    last = small.names(".segment")[-1]
    del small.disk.content(last)[-8:]


def _segment_missing(small: SmallJournal) -> None:
    small.disk.remove(small.names(".segment")[1])


def _segment_stale(small: SmallJournal) -> None:
    """The last segment continues another history than the one that lies before it."""
    small.rewrite_header(small.names(".segment")[-1], previous_hash=b"another history.")


def _older_format(small: SmallJournal) -> None:
    small.rewrite_header(small.names(".segment")[0], format=0)


def _newer_format(small: SmallJournal) -> None:
    small.rewrite_header(small.names(".segment")[-1], format=2)


def _other_engine(small: SmallJournal) -> None:
    small.rewrite_header(small.names(".segment")[-1], engine_abi=2)


def _other_rules(small: SmallJournal) -> None:
    small.rewrite_header(small.names(".segment")[-1], rules_hash=b"z" * 32)


def _other_journal(small: SmallJournal) -> None:
    other = SmallJournal(lives=1, journal_id=99)
    small.disk.put(small.names(".segment")[0], bytes(other.disk.content(other.names(".segment")[0])))


SITUATIONS: dict[Finding, Callable[[SmallJournal], None]] = {
    Finding.EMPTY_FOLDER: _empty,
    Finding.CLEAN_END: lambda small: None,
    Finding.TORN_TAIL: _torn_tail,
    Finding.LEFTOVER: _leftover,
    Finding.SNAPSHOT_DAMAGED: _snapshot_damaged,
    Finding.SNAPSHOT_OF_OTHER_ENGINE: _snapshot_of_other_engine,
    Finding.DAMAGE_BEFORE_SOUND_GROUP: _damage_before_sound_group,
    Finding.DAMAGE_IN_CLOSED_SEGMENT: _damage_in_closed_segment,
    Finding.UNCHAINED_GROUP: _unchained_group,
    Finding.MISFIT_GROUP: _misfit_group,
    Finding.SNAPSHOT_AHEAD: _snapshot_ahead,
    Finding.SNAPSHOT_UNCHAINED: _snapshot_unchained,
    Finding.SNAPSHOT_WITHOUT_JOURNAL: _snapshot_without_journal,
    Finding.SEGMENT_NOT_OURS: _segment_not_ours,
    Finding.SEGMENT_HEADER_DAMAGED: _segment_header_damaged,
    Finding.SEGMENT_SHORT: _segment_short,
    Finding.SEGMENT_MISSING: _segment_missing,
    Finding.SEGMENT_STALE: _segment_stale,
    Finding.OLDER_FORMAT: _older_format,
    Finding.NEWER_FORMAT: _newer_format,
    Finding.OTHER_ENGINE: _other_engine,
    Finding.OTHER_RULES: _other_rules,
    Finding.OTHER_JOURNAL: _other_journal,
}


def test_every_row_of_the_decision_table_has_a_situation() -> None:
    assert set(SITUATIONS) == set(Finding)


@pytest.mark.parametrize("finding", Finding, ids=lambda f: f.value)
def test_each_situation_is_found_and_decided_as_the_table_says(finding: Finding) -> None:
    small = SmallJournal()
    SITUATIONS[finding](small)
    assert finding in [o.finding for o in survey(small.disk, IDENTITY).observations]
    decision = DECISIONS[finding]
    before = {name: bytes(small.disk.content(name)) for name in small.disk.names()}
    if decision.action is Action.REFUSE:
        with pytest.raises(RecoveryRefused) as refused:
            outcome(small.disk)
        assert refused.value.code == finding.value
        assert refused.value.command
        assert refused.value.command in str(refused.value)
        assert "{" not in str(refused.value)
        after = {name: bytes(small.disk.content(name)) for name in small.disk.names()}
        assert after == before, "a refusal changes nothing on the disk"
        small.disk.lock()  # and it does not keep the folder
        return
    journal, machine = outcome(small.disk)
    assert machine.state() == small.states[journal.durable_seq]
    alarmed = any(a.startswith(finding.value) for a in journal.recovery.alarms)
    assert alarmed == (decision.action is not Action.ACCEPT)
    if decision.action is Action.CUT:
        assert journal.recovery.cut_bytes > 0
        assert journal.durable_seq < small.last
    elif finding is not Finding.EMPTY_FOLDER:
        assert journal.durable_seq == small.last


def test_a_chain_that_is_not_checked_lets_a_foreign_group_in(monkeypatch: pytest.MonkeyPatch) -> None:
    small = SmallJournal()
    _unchained_group(small)
    monkeypatch.setattr(scan, "ALL_CHECKS", scan.CHECK_CRC)
    _, machine = outcome(small.disk)
    assert machine.state() not in small.states.values(), "the planted bug executes a command twice"


@pytest.mark.parametrize("fields", [{"epoch": 1}, {"prev_crc": 1}, {"first_seq": 8}, {"first_seq": 3}])
def test_a_segment_that_does_not_continue_the_one_before_is_stale(fields: dict[str, int]) -> None:
    small = SmallJournal()
    for name in small.names(".snapshot"):
        small.disk.remove(name)
    small.rewrite_header(small.names(".segment")[-1], **fields)
    with pytest.raises(RecoveryRefused, match=r"segment_stale|unchained_group"):
        outcome(small.disk)


def test_a_cut_tail_begins_a_new_epoch_and_stays_on_the_disk_as_evidence() -> None:
    small = SmallJournal()
    _torn_tail(small)
    name = small.names(".segment")[-1]
    torn = bytes(small.disk.content(name))
    journal, _ = outcome(small.disk)
    assert journal.recovery.epoch == 4
    assert bytes(small.disk.content(name)) == torn
    journal.close()
    again, _ = outcome(small.disk)
    assert again.recovery.epoch == 5
    assert again.recovery.cut_bytes == 0, "a cut is reported once"
    assert again.recovery.alarms == ()


def torn_with_forged_payload(seed: int) -> Journal:
    """A torn last group whose payload is a whole group of its own, made with ``seed``."""
    forged = bytearray(HEADER_BYTES + 64)
    fields = {"prev_crc": 0, "first_seq": 100, "synced_seq": 99, "time_ns": 0, "epoch": 1}
    encode_group(forged, 0, bytes(64), b"", kind=1, seed=seed, **fields)
    small = SmallJournal()
    journal, _ = outcome(small.disk)
    commands, _ = some_commands(random.Random(3), journal.next_seq, 1)
    commands["kind"], commands["quantity"] = MESSAGE, len(forged)
    journal.append(commands, bytes(forged))
    journal.commit()
    journal.close()
    _torn_tail(small)
    again, machine = outcome(small.disk)
    assert again.durable_seq == small.last
    assert machine.state() == small.states[small.last]
    return again


def test_bytes_in_a_payload_that_look_like_a_group_do_not_stop_a_start() -> None:
    """A member chooses payload bytes; only the journal's seed, which no member knows, makes a group of them."""
    assert torn_with_forged_payload(seed_of(0)).recovery.alarms[0].startswith("torn_tail")
    with pytest.raises(RecoveryRefused, match="damage_before_sound_group"):
        torn_with_forged_payload(seed_of(IDENTITY.journal_id))


@pytest.mark.parametrize(("damage", "seq"), [(_increment_missing, 4), (_increment_damaged, 0)])
def test_a_snapshot_without_one_of_its_increments_is_one_that_does_not_verify(
    damage: Callable[[SmallJournal], None], seq: int
) -> None:
    small = SmallJournal()
    assert {row.state for row in list_files(small.disk)} == {"ok", "leftover"}
    damage(small)
    assert len([row for row in list_files(small.disk) if row.state == "damaged"]) >= 1
    assert not verify(small.disk).ok
    journal, machine = outcome(small.disk)
    assert journal.recovery.snapshot_seq == seq and len(journal.recovery.alarms) == (1 if seq else 2)
    assert machine.state() == small.states[small.last]


def test_the_commands_that_a_snapshot_covers_are_read_again_only_where_they_verify() -> None:
    small = SmallJournal()
    journal, _ = outcome(small.disk.copy())
    groups = list(journal.groups())
    commands = np.concatenate([g.commands for g in groups])
    payloads: dict[int, bytes] = {}
    for group in groups:
        sizes = payload_lengths(group.commands).tolist()
        ends = np.cumsum(sizes).tolist()
        triples = zip(group.commands["seq"].tolist(), sizes, ends, strict=True)
        payloads |= {seq: group.payloads[end - size : end] for seq, size, end in triples if size}
    assert len(payloads) >= 2
    for first, last in ((1, 8), (3, 7), (6, 5), (1, small.last), *((n, n) for n in range(1, small.last + 1))):
        into = np.zeros(last - first + 1, COMMAND)
        found = journal.copy_commands(first, into)
        assert into.tobytes() == commands[first - 1 : last].tobytes()
        assert found == {seq: payload for seq, payload in payloads.items() if first <= seq <= last}
    _flip(small.disk.content(small.names(".segment")[0]), SEGMENT_HEADER_BYTES + HEADER_BYTES + 3)
    journal, machine = outcome(small.disk)
    assert machine.state() == small.states[small.last], "a start does not need what a snapshot covers"
    with pytest.raises(JournalError, match="DAMAGED"):
        journal.copy_commands(1, np.zeros(8, COMMAND))


# Two hands


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("finding", Finding, ids=lambda f: f.value)
def test_a_survey_sees_the_same_with_two_hands_as_with_one(finding: Finding, whole: bool) -> None:
    small = SmallJournal(lives=5)
    SITUATIONS[finding](small)
    seen = [survey(small.disk.copy(), IDENTITY, whole=whole, beside=beside) for beside in SCHEDULES]
    first = seen[0]
    for other in seen[1:]:
        assert other.observations == first.observations
        assert (other.segments, other.rewrite_from) == (first.segments, first.rewrite_from)


def test_replay_and_copies_give_the_same_with_two_hands_as_with_one() -> None:
    small = SmallJournal(lives=6)
    for name in small.names(".snapshot"):
        small.disk.remove(name)
    found = []
    for beside in SCHEDULES:
        journal, machine = outcome(small.disk.copy(), beside=beside)
        into = np.zeros(small.last, COMMAND)
        payloads = journal.copy_commands(1, into)
        commands = b"".join(batch.commands.tobytes() for batch in journal.batches(commands_max=3))
        assert machine.state() == small.states[small.last] and commands == into.tobytes()
        found.append((commands, payloads))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("each", [in_pairs, ahead])
def test_what_fails_beside_is_told_in_its_turn_and_what_nobody_asks_for_is_waited_for(
    each: Callable[..., Iterator[int]],
) -> None:
    def job(number: int) -> Callable[[int], int]:
        def run(lane: int) -> int:
            lanes.append(lane)
            if number in failing:
                raise OSError(5, "broken")
            return number

        return run

    for beside in SCHEDULES:
        for failing in ({1}, {2}, {3}, {1, 2}):
            lanes: list[int] = []
            results, given = each([job(n) for n in range(5)], beside), list[int]()
            with pytest.raises(OSError, match="broken"):
                given.extend(results)
            assert given == list(range(min(failing)))
        failing, lanes = set(), []
        assert list(each([job(n) for n in range(5)], beside)) == [0, 1, 2, 3, 4]
        assert beside is None or lanes.count(1) == 2, "every other one was done beside"
        failing, lanes = {3}, []
        begun = each([job(n) for n in range(5)], beside)
        assert next(begun) == 0 and next(begun) == 1 and next(begun) == 2
        begun.close()  # type: ignore[attr-defined]
        assert beside is None or len(lanes) == 4, "its end was waited for, and its failure is nobody's"


# Every byte


def damaged_byte_outcomes(small: SmallJournal, bits: Callable[[int], Iterator[int] | range]) -> dict[str, int]:
    """Flip bits of every byte of every file, one at a time; count what recovery did. Fails on a wrong state."""
    counts: dict[str, int] = {}
    for name in small.disk.names():
        for at in range(len(small.disk.content(name))):
            for bit in bits(at):
                disk = small.disk.copy()
                disk.content(name)[at] ^= 1 << bit
                kind = judged(small, disk, f"{name} byte {at} bit {bit}")
                counts[kind] = counts.get(kind, 0) + 1
    return counts


def judged(small: SmallJournal, disk: CrashDisk, where: str) -> str:
    """Recover a damaged journal: the right prefix with an alarm when it is shorter, or a refusal."""
    try:
        journal, machine = outcome(disk)
    except RecoveryRefused as refused:
        return f"refused: {refused.code}"
    last = journal.durable_seq
    assert last in small.states, where
    assert machine.state() == small.states[last], where
    assert last == small.last or journal.recovery.alarms, f"{where}: shorter without an alarm"
    return "whole" if last == small.last else "cut"


@pytest.mark.slow
def test_one_flipped_bit_in_any_byte_gives_a_correct_prefix_or_a_refusal() -> None:
    small = SmallJournal()
    counts = damaged_byte_outcomes(small, lambda at: range(at % 8, at % 8 + 1))
    assert counts["cut"] > 50
    assert counts["whole"] > 500
    assert counts["refused: damage_before_sound_group"] > 50
    assert counts["refused: segment_header_damaged"] > 300


@pytest.mark.slow
def test_every_flipped_bit_gives_a_correct_prefix_or_a_refusal() -> None:
    damaged_byte_outcomes(SmallJournal(), lambda at: range(8))
    without_snapshots = SmallJournal()
    for name in without_snapshots.names(".snapshot"):
        without_snapshots.disk.remove(name)
    counts = damaged_byte_outcomes(without_snapshots, lambda at: range(8))
    assert counts["refused: damage_in_closed_segment"] > 1_000


def cut_everywhere(step: int) -> None:
    small = SmallJournal()
    for name in small.disk.names():
        for length in range(0, len(small.disk.content(name)), step):
            disk = small.disk.copy()
            del disk.content(name)[length:]
            kind = judged(small, disk, f"{name} cut to {length}")
            assert segment_index(name) is None or kind != "whole", f"{name} cut to {length} went unnoticed"


def test_a_file_cut_at_many_lengths_gives_a_correct_prefix_or_a_refusal() -> None:
    cut_everywhere(step=5)


@pytest.mark.slow
def test_every_file_cut_at_every_length_gives_a_correct_prefix_or_a_refusal() -> None:
    cut_everywhere(step=1)


def test_a_flipped_bit_is_noticed_by_the_same_test_when_the_checksum_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "ALL_CHECKS", scan.CHECK_CHAIN)
    small = SmallJournal()
    for name in small.names(".snapshot"):
        small.disk.remove(name)
    with pytest.raises(AssertionError):
        damaged_byte_outcomes(small, lambda at: range(at % 8, at % 8 + 1))


def test_a_folder_is_opened_by_one_journal_at_a_time() -> None:
    disk = CrashDisk()
    Journal.open(disk, IDENTITY, segment_bytes=SEGMENT_BYTES)
    with pytest.raises(JournalError, match="IN_USE"):
        Journal.open(disk, IDENTITY, segment_bytes=SEGMENT_BYTES)


def test_decide_names_the_folder_and_the_last_good_sequence_in_its_command() -> None:
    small = SmallJournal()
    _damage_before_sound_group(small)
    with pytest.raises(RecoveryRefused) as refused:
        decide(small.disk, survey(small.disk, IDENTITY))
    assert refused.value.command == "cea journal cut JOURNAL NEW_FOLDER --until 8"


def test_the_identity_of_an_engine_is_compared_with_the_newest_segment() -> None:
    small = SmallJournal()
    with pytest.raises(RecoveryRefused, match="other_rules"):
        outcome(small.disk, replace(IDENTITY, rules_hash=b"other"))
    with pytest.raises(RecoveryRefused, match="other_engine"):
        outcome(small.disk, replace(IDENTITY, engine_abi=5))
    with pytest.raises(RecoveryRefused, match="other_journal"):
        outcome(small.disk, replace(IDENTITY, journal_id=5))
    assert snapshot_name(8) in small.disk.names()
