"""Commits beside the caller: durable when ``wait`` returns, and an error of the disk ends the journal there."""

from __future__ import annotations

import errno
import os
import threading

import numpy as np
import pytest

from engine.journal import FreeSpace, Identity, Journal, JournalFailed, RealDisk
from engine.records import COMMAND, NEW
from gateway.commit import OverlappedJournal, beside

IDENTITY = Identity(engine_abi=1, rules_hash=bytes(32), journal_id=7)
WAIT_S = 120  # generous: the machine may be shared
SEGMENT_BYTES = 1 << 18


def group(first_seq: int, count: int = 300) -> np.ndarray:
    made = np.zeros(count, COMMAND)
    made["seq"], made["kind"] = np.arange(first_seq, first_seq + count), NEW
    return made


@pytest.fixture
def journals(tmp_path):
    journal = Journal.open(RealDisk(tmp_path / "j"), IDENTITY, segment_bytes=SEGMENT_BYTES)
    overlapped = OverlappedJournal(journal)
    yield journal, overlapped
    overlapped.close()
    journal.close()


def test_what_wait_returned_for_is_found_again_also_over_a_new_segment(tmp_path, journals):
    journal, overlapped = journals
    for turn in range(20):  # 1.5 segments
        overlapped.append(group(1 + 300 * turn), b"")
        assert journal.durable_seq == 300 * turn
        overlapped.begin()
        overlapped.wait()
        assert journal.durable_seq == 300 * (turn + 1) and overlapped.took_ns > 0
    overlapped.append(group(1 + 300 * 20, 1), b"")
    assert overlapped.commit() == 300 * 20 + 1, "a small group is committed in the caller's thread"
    overlapped.close()
    journal.close()
    again = Journal.open(RealDisk(tmp_path / "j"), IDENTITY, segment_bytes=SEGMENT_BYTES)
    assert sum(len(g.commands) for g in again.groups()) == again.recovery.last_seq == 300 * 20 + 1
    again.close()


def test_while_a_commit_is_under_way_nothing_is_appended_and_no_other_begins(journals):
    _, overlapped = journals
    overlapped.append(group(1), b"")
    overlapped.begin()
    with pytest.raises(AssertionError):
        overlapped.append(group(301), b"")
    with pytest.raises(AssertionError):
        overlapped.begin()
    overlapped.wait()


class Gated(RealDisk):
    """A disk that reserves room only while the gate is open, or fails there."""

    def __init__(self, path) -> None:
        super().__init__(path)
        self.gate, self.reserving = threading.Event(), threading.Event()
        self.gate.set()
        self.error: OSError | None = None

    def create(self, name, size):
        self.reserving.set()
        assert self.gate.wait(WAIT_S), "the test opens it"
        if self.error is not None:
            raise self.error
        return super().create(name, size)


@pytest.fixture
def gated(tmp_path):
    """A journal that reserves beside, whose second segment has just begun, while the third one's room is awaited."""
    disk = Gated(tmp_path / "j")
    journal = Journal.open(disk, IDENTITY, segment_bytes=SEGMENT_BYTES, beside=beside)
    disk.gate.clear()
    disk.reserving.clear()
    journal.append(group(1, 4_000))
    journal.append(group(4_001, 1_000))
    assert disk.reserving.wait(WAIT_S) and len(disk.names()) == 2, "two segments, no spare"
    yield journal, disk
    disk.gate.set()
    journal.close()


def test_commits_go_on_while_the_next_segments_room_is_reserved_and_the_next_segment_waits_for_it(gated):
    journal, disk = gated
    assert journal.commit() == 5_000 and journal.free_space_state() is FreeSpace.OK
    assert "spare.tmp" not in disk.names(), "it is still being reserved"
    threading.Timer(0.02, disk.gate.set).start()
    journal.append(group(5_001, 3_500))
    assert journal.commit() == 8_500 and "00000003.segment" in disk.names()


def test_no_room_found_beside_makes_the_market_cancel_only_and_room_is_looked_for_again(gated):
    journal, disk = gated
    disk.error = OSError(errno.ENOSPC, "No space left on device")
    disk.gate.set()
    journal._spare._wait()
    assert journal.free_space_state() is FreeSpace.LOW
    disk.error = None
    assert journal.free_space_state() is FreeSpace.OK and "spare.tmp" in disk.names()


def test_another_error_met_beside_ends_the_journal_at_the_next_look(gated):
    journal, disk = gated
    disk.error = OSError(errno.EIO, "Input/output error")
    disk.gate.set()
    journal._spare._wait()
    with pytest.raises(JournalFailed, match="Input/output error"):
        journal.free_space_state()
    with pytest.raises(AssertionError):
        journal.commit()


def test_an_error_of_the_disk_comes_out_of_wait_and_nothing_is_tried_again(journals):
    journal, overlapped = journals
    read_only = os.open(journal._disk.path, os.O_RDONLY)
    kept, journal._file.fd = journal._file.fd, read_only
    overlapped.append(group(1), b"")
    overlapped.begin()
    with pytest.raises(JournalFailed, match=os.strerror(errno.EBADF)):
        overlapped.wait()
    assert journal.durable_seq == 0
    with pytest.raises(AssertionError):
        overlapped.begin()
    os.close(kept)
