"""Real processes and real system calls: kills at any moment, errors injected by strace where it is present."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import faulty_writes
import pytest
from conftest import REPOSITORY
from journal_child import SEGMENT_BYTES
from journal_crash import IDENTITY

from engine.journal import EXIT_JOURNAL_FAILED, Journal, JournalError, RealDisk
from engine.journal.inspection import verify

CHILD = [sys.executable, str(Path(__file__).with_name("journal_child.py"))]
KILL_ROUNDS = 20
COMMITS_BEFORE_KILL = 40  # fewer than these, by chance; then a moment that no commit knows
WAIT_S = 300.0  # generous: the machine may be shared, and strace is slow
KILL_ROUNDS_SOAK = 1_000


@pytest.fixture(scope="session")
def strace() -> str:
    path = shutil.which("strace")
    if path is None:
        pytest.skip("strace is not here")
    if subprocess.run([path, "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace here")
    return path


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "tests")))}


def acknowledged(output: str) -> int:
    """The last whole line with a sequence."""
    lines = [line for line in output.split("\n")[:-1] if line.isdigit()]
    return int(lines[-1]) if lines else 0


def recover(folder: Path) -> tuple[int, int]:
    """(last sequence recovered, epoch); the whole journal verified."""
    disk = RealDisk(folder)
    report = verify(disk)
    assert [p for p in report.problems if not p.startswith("torn_tail")] == []
    journal = Journal.open(disk, IDENTITY, segment_bytes=SEGMENT_BYTES)
    seqs = [s for g in journal.groups() for s in g.commands["seq"].tolist()]
    assert seqs == list(range(1, len(seqs) + 1)), "every command is there once"
    last, epoch = journal.durable_seq, journal.recovery.epoch
    journal.close()
    disk.close()
    return last, epoch


def traced(strace: str, folder: Path, *injections: str, groups: int = 300) -> subprocess.CompletedProcess[str]:
    """Run the child with faults injected into its journal's system calls (not the interpreter's start)."""
    options = [f"--inject={text}" for text in injections]
    calls = ",".join(dict.fromkeys(text.split(":")[0] for text in injections))
    # -P: only calls on this folder's files, so that "when" counts the journal's calls.
    names = [f"{folder}/{i:08d}.segment" for i in range(1, 40)] + [f"{folder}/{n}.tmp" for n in ("spare", "snapshot")]
    paths = [argument for name in (str(folder), *names) for argument in ("-P", name)]
    command = [strace, "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", *options, *paths]
    return subprocess.run(
        [*command, *CHILD, str(folder), str(groups)],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=WAIT_S,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("occurrence", [1, 2, 3, 7, 40])
def test_an_error_of_fdatasync_ends_the_process_with_its_own_code_and_loses_nothing(
    strace: str, tmp_path: Path, occurrence: int
) -> None:
    ended = traced(strace, tmp_path, f"fdatasync:error=EIO:when={occurrence}")
    assert ended.returncode == EXIT_JOURNAL_FAILED, ended.stderr
    assert "Input/output error" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert recover(tmp_path)[0] >= acknowledged(ended.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["pwrite64:error=ENOSPC:when=9", "pwrite64:error=EIO:when=5", "rename:error=EIO"])
def test_an_error_of_a_write_or_rename_ends_the_process_with_its_own_code(
    strace: str, tmp_path: Path, fault: str
) -> None:
    ended = traced(strace, tmp_path, fault)
    assert ended.returncode == EXIT_JOURNAL_FAILED, ended.stderr
    assert "Traceback" not in ended.stderr
    assert recover(tmp_path)[0] >= acknowledged(ended.stdout)


@pytest.mark.slow
def test_no_room_for_spares_and_snapshots_stops_the_process_only_when_the_reserved_room_is_used(
    strace: str, tmp_path: Path
) -> None:
    ended = traced(strace, tmp_path, "fallocate:error=ENOSPC:when=3+", groups=2_000)
    assert ended.returncode == EXIT_JOURNAL_FAILED, ended.stderr
    assert "No space left" in ended.stderr
    last = acknowledged(ended.stdout)
    assert last * 64 > SEGMENT_BYTES, "the first segment and its spare were used"
    assert recover(tmp_path)[0] >= last


@pytest.mark.slow
@pytest.mark.parametrize("call", ["fdatasync", "pwrite64", "rename", "fsync"])
def test_a_kill_at_a_system_call_loses_nothing_acknowledged(strace: str, tmp_path: Path, call: str) -> None:
    for number, occurrence in enumerate((1, 2, 5)):
        ended = traced(strace, tmp_path, f"{call}:signal=KILL:when={occurrence}", groups=3_000)
        assert ended.returncode != 0, f"{call} number {occurrence} was never reached"
        last, epoch = recover(tmp_path)
        assert last >= acknowledged(ended.stdout)
        assert epoch > number


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return faulty_writes.build(tmp_path_factory.mktemp("library"))


def writing(library: Path, mode: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a child whose larger writes go as ``mode`` says."""
    env = {**faulty_writes.preloading(library, mode), "PYTHONPATH": environment()["PYTHONPATH"]}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=WAIT_S, check=False)


@pytest.mark.slow
def test_short_and_interrupted_writes_are_finished(library: Path, tmp_path: Path) -> None:
    ended = writing(library, "short", *CHILD, str(tmp_path), "400")
    assert ended.returncode == 0, ended.stderr
    assert recover(tmp_path)[0] == acknowledged(ended.stdout) > 4_000


WITHOUT_LOOP = """
import os, sys
import journal_child
from engine.journal.disk import RealFile, byte_view
RealFile.write = lambda self, offset, data: os.pwrite(self.fd, byte_view(data), offset)
journal_child.main(sys.argv[1], 400)
"""


@pytest.mark.slow
def test_a_short_write_that_is_not_finished_is_caught(library: Path, tmp_path: Path) -> None:
    ended = writing(library, "short", sys.executable, "-c", WITHOUT_LOOP, str(tmp_path))
    assert acknowledged(ended.stdout) > 0, ended.stderr
    with pytest.raises((AssertionError, JournalError)):
        assert recover(tmp_path)[0] >= acknowledged(ended.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("occurrence", [1, 2, 30])
def test_a_kill_in_the_middle_of_a_write_loses_nothing_acknowledged(
    library: Path, tmp_path: Path, occurrence: int
) -> None:
    ended = writing(library, f"torn:{occurrence}", *CHILD, str(tmp_path), "400")
    assert ended.returncode == -9, ended.stderr
    assert recover(tmp_path)[0] >= acknowledged(ended.stdout)


@pytest.mark.slow
def test_a_disk_that_fills_in_the_middle_of_a_write_ends_the_process_with_its_own_code(
    library: Path, tmp_path: Path
) -> None:
    ended = writing(library, "full:9", *CHILD, str(tmp_path), "400")
    assert ended.returncode == EXIT_JOURNAL_FAILED, ended.stderr
    assert "No space left" in ended.stderr and "Traceback" not in ended.stderr
    assert recover(tmp_path)[0] >= acknowledged(ended.stdout) > 0


def kill_round(folder: Path, rng: random.Random) -> tuple[int, int]:
    """Start the child, kill it at a random moment after its first commits. (acknowledged, recovered)."""
    child = subprocess.Popen([*CHILD, str(folder)], stdout=subprocess.PIPE, text=True, env=environment())
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    lines = [child.stdout.readline() for _ in range(rng.randrange(COMMITS_BEFORE_KILL))]
    time.sleep(rng.uniform(0.0, 0.1))
    child.kill()
    told = acknowledged("".join(lines) + child.stdout.read())
    child.wait()
    child.stdout.close()
    return told, recover(folder)[0]


def kill_rounds(folder: Path, rounds: int) -> int:
    """The last sequence after so many kills of one journal's process."""
    rng, last = random.Random(rounds), 0
    for _ in range(rounds):
        told, found = kill_round(folder, rng)
        assert found >= max(told, last), f"told {told}, found {found}, found before {last}"
        last = found
    return last


@pytest.mark.slow
def test_a_process_killed_twenty_times_loses_nothing_that_it_told(tmp_path: Path) -> None:
    assert kill_rounds(tmp_path / "journal", KILL_ROUNDS) > 1_000


@pytest.mark.soak
def test_a_process_killed_a_thousand_times_loses_nothing_that_it_told(tmp_path: Path) -> None:
    # A fresh journal every 50 rounds: each recovery here reads all of it, which would grow with the square.
    last = sum(kill_rounds(tmp_path / f"journal-{i}", 50) for i in range(KILL_ROUNDS_SOAK // 50))
    print(f"{KILL_ROUNDS_SOAK} kills, {last} commands")
