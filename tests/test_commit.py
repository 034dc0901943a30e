"""Commits beside the caller: durable when ``wait`` returns, and an error of the disk ends the journal there."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest

from engine.journal import Identity, Journal, JournalFailed, RealDisk
from engine.records import COMMAND, NEW
from gateway.commit import OverlappedJournal

IDENTITY = Identity(engine_abi=1, rules_hash=bytes(32), journal_id=7)
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
