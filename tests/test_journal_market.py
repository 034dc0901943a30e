"""The real exchange behind the journal: crash images, and the same bytes from every way of replaying."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Thread
from unittest.mock import patch

import numpy as np
import pytest
from conftest import REPOSITORY
from desk_stream import CAPACITY, desk_stream
from journal_crash import IDENTITY, Fold, Writer, recovered, some_commands
from journal_market import MarketMachine, market_stream, source_of

from engine import memory
from engine.bulk import Desk
from engine.exchange import Exchange
from engine.journal import Journal, RealDisk
from engine.journal.crash_disk import CrashDisk
from engine.journal.inspection import verify
from engine.rules import Rules

GOLDEN = Path(__file__).parent / "golden" / "journal-format-1"
STREAM_COMMANDS = 6_000


def small_pages() -> AbstractContextManager[object]:
    """Markets without huge pages: thousands are made here, and zeroing 4 MB for each takes half the time."""
    return patch.object(memory, "HUGE_FROM", 1 << 40)


DESK_STEPS, DESK_COMMANDS = 60, 1_600


def desk_machine() -> MarketMachine:
    """The machine of the desk's streams."""
    return MarketMachine("national", CAPACITY, Rules.national())


def desk_writer(seed: int, steps: int) -> Writer:
    """A crash workload with negotiations and auctions open at nearly every point."""
    writer = Writer(seed, images_a_point=2, make=desk_machine, source=source_of(desk_stream(seed, DESK_COMMANDS)))
    writer.group_max = 40
    with small_pages():
        writer.run(steps)
    return writer


def market_writer(seed: int, steps: int) -> Writer:
    """A crash workload on the exchange; some 10 commands a step."""
    stream, make = market_stream("national", seed, STREAM_COMMANDS)
    writer = Writer(seed, images_a_point=2, make=make, source=source_of(stream), group_max=60)
    with small_pages():
        writer.run(steps)
    return writer


def test_the_exchange_recovers_every_crash_image_to_an_acknowledged_prefix() -> None:
    writer = market_writer(3, 30)
    assert writer.images > 200
    assert writer.accepted > 100, "the market was laid and traded in"


@pytest.mark.slow
def test_the_desk_and_the_auctions_recover_every_crash_image_to_an_acknowledged_prefix() -> None:
    stream = desk_stream(1, DESK_COMMANDS)
    assert stream.bulk_deals > 10 and stream.auctions_closed == 2 and stream.listed_deals > 50, stream[2:]
    writer = desk_writer(1, 24)
    assert writer.images > 100
    assert writer.accepted > 100, "declarations, dialogues and bids were open"


@pytest.mark.slow
def test_the_desk_and_the_auctions_recover_three_thousand_crash_images() -> None:
    images = torn = seed = 0
    while images < 3_000:
        writer = desk_writer(200 + seed, DESK_STEPS)
        images, torn, seed = images + writer.images, torn + writer.torn, seed + 1
    print(f"{images} crash images with desk and auctions, {seed} seeds from 200, {torn} with a torn commit")


def test_a_desk_that_a_snapshot_forgets_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Desk, "load", lambda self, data: None)
    with pytest.raises(AssertionError):
        desk_writer(0, 40)


@pytest.mark.slow
def test_the_exchange_recovers_ten_thousand_crash_images() -> None:
    images = torn = seed = 0
    while images < 10_000:
        writer = market_writer(50 + seed, 60)
        images, torn, seed = images + writer.images, torn + writer.torn, seed + 1
    print(f"{images} crash images of the exchange, {seed} seeds from 50, {torn} with a torn commit")


@pytest.mark.soak
@pytest.mark.parametrize("make", [market_writer, desk_writer])
def test_the_exchange_recovers_a_hundred_thousand_crash_images(make: Callable[[int, int], Writer]) -> None:
    images = torn = seed = 0
    while images < 100_000:
        writer = make(5_000 + seed, 60)
        images, torn, seed = images + writer.images, torn + writer.torn, seed + 1
    print(f"{images} crash images of the exchange, {make.__name__}, {seed} seeds from 5000, {torn} with a torn commit")


CUTTINGS = ((1, False), (20, True), (500, True), (5_000, False))  # groups of at most so many; snapshots or none
DAY_COMMANDS, LONG_DAY_COMMANDS = 3_000, 12_000


def journaled_day(
    profile: str, cutting: int, snapshots: bool, length: int = DAY_COMMANDS
) -> tuple[CrashDisk, str, bytes]:
    """A random day through exchange and journal, cut into groups by ``cutting``: (disk, events' hash, state hash)."""
    stream, make = market_stream(profile, 11, length)
    source, rng, machine = source_of(stream), random.Random(cutting), make()
    disk = CrashDisk()
    journal = Journal.open(disk, IDENTITY, segment_bytes=64 << 10)
    while (left := len(stream.commands) - journal.next_seq + 1) > 0:
        commands, payloads = source(rng, journal.next_seq, min(left, rng.randrange(1, 2 + cutting)))
        journal.append(commands, payloads)
        journal.commit()
        machine.apply(commands, payloads)
        if snapshots and rng.random() < 0.02:
            assert journal.snapshot(machine.state(), journal.durable_seq)
    journal.seal(20251203, machine.exchange.seal_hash(), {"commands": len(stream.commands)})
    journal.close()
    return disk, machine.output(), machine.exchange.seal_hash()


@pytest.mark.parametrize("profile", ["national", "listing"])
def test_replay_gives_the_same_event_bytes_and_state_in_any_cutting_with_snapshots_or_without(profile: str) -> None:
    _, make = market_stream(profile, 11, 3_000)
    results = []
    for cutting, snapshots in CUTTINGS:
        disk, events, state_hash = journaled_day(profile, cutting, snapshots)
        results.append((events, state_hash))
        report = verify(disk, lambda: make().exchange, lambda data: _restored(make(), data))
        assert report.problems == ()
        assert report.state_hash == state_hash
        for name in [n for n in disk.names() if n.endswith(".snapshot")] if snapshots else []:
            machine = make()
            journal = recovered(disk.copy(), machine)
            assert journal.recovery.snapshot_seq > 0
            assert machine.exchange.seal_hash() == state_hash
            disk.remove(name)  # next time from an older one, at last from the first command
        replayed = make()
        recovered(disk, replayed)
        results.append((replayed.output(), replayed.exchange.seal_hash()))
    assert all(result == results[0] for result in results)


def test_a_snapshot_written_beside_the_running_market_is_that_of_its_moment() -> None:
    stream = desk_stream(7, 600)
    machine, source, rng = desk_machine(), source_of(stream), random.Random(7)
    disk = CrashDisk()
    journal = Journal.open(disk, IDENTITY, segment_bytes=64 << 10)
    views = []
    for count in (300, 150, 150):
        commands, payloads = source(rng, journal.next_seq, count)
        journal.append(commands, payloads)
        journal.commit()
        if views:  # the market goes on: what was copied stays as it was
            writer = Thread(target=journal.snapshot, args=views[-1][:2])
            writer.start()
            machine.apply(commands, payloads)
            writer.join()
            assert views[-1][0].tobytes() == views[-1][2]
        else:
            machine.apply(commands, payloads)
        kept = machine.exchange.snapshot()
        views.append((machine.exchange.snapshot_view(), journal.durable_seq, kept))
        assert views[-1][0].tobytes() == kept
    assert np.shares_memory(machine.exchange.snapshot_view(), views[2][0]), "the same memory again"
    journal.close()
    again = desk_machine()
    assert recovered(disk, again).recovery.snapshot_seq == 450
    assert again.exchange.seal_hash() == machine.exchange.seal_hash()


def _restored(machine: MarketMachine, state: bytes) -> Exchange:
    machine.restore(state)
    return machine.exchange


DAY_ON_ANOTHER_PYTHON = """
import sys
from test_journal_market import long_day
print(sys.version.split()[0], *long_day())
"""
PYTHONS_VARIABLE = "CEA_PYTHONS"  # interpreters with the exchange's libraries, as a search path is written


def long_day() -> tuple[str, str]:
    """(hash of the event and notice bytes, state hash) of one long random day, the same in every cutting."""
    results = {journaled_day("national", *cutting, length=LONG_DAY_COMMANDS)[1:] for cutting in CUTTINGS}
    assert len(results) == 1, "another cutting gave other bytes"
    events, state_hash = results.pop()
    return events, state_hash.hex()


def python_of(version: str) -> str | None:
    """An interpreter of this version: ours, one that the environment names, or one on the search path."""
    if version == f"3.{sys.version_info.minor}":
        return sys.executable
    for named in filter(None, os.environ.get(PYTHONS_VARIABLE, "").split(os.pathsep)):
        asked = subprocess.run([named, "-V"], capture_output=True, text=True, check=False)
        if asked.stdout.startswith(f"Python {version}."):
            return named
    return shutil.which(f"python{version}")


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_another_python_gives_the_same_event_bytes_and_state(version: str) -> None:
    python = python_of(version)
    if python is None:
        pytest.skip(f"python{version} is not here; name one in {PYTHONS_VARIABLE}")
    ready = subprocess.run(
        [python, "-c", "import numba, msgspec, xxhash, sortedcontainers, pytest"], capture_output=True, check=False
    )
    if ready.returncode:
        pytest.skip(f"python{version} is here without the exchange's libraries")
    path = f"import sys; sys.path[:0] = [{str(REPOSITORY)!r}, {str(REPOSITORY / 'tests')!r}]\n"
    other = subprocess.run([python, "-c", path + DAY_ON_ANOTHER_PYTHON], capture_output=True, text=True, check=False)
    assert other.returncode == 0, other.stderr
    print(other.stdout)
    assert other.stdout.split()[0].startswith(version)
    assert other.stdout.split()[1:] == list(long_day())


# The golden journal: a folder of format 1, made once by `python tests/test_journal_market.py` and never again.


def golden_journal(disk: RealDisk) -> dict[str, object]:
    """Two lives, a snapshot, a seal, several segments, an end that was never closed."""
    machine, rng = Fold(), random.Random(20_260_105)
    for life in range(2):
        journal = Journal.open(disk, IDENTITY, segment_bytes=2_048)
        for _ in range(4):
            commands, payloads = some_commands(rng, journal.next_seq, 6)
            machine.apply(commands, payloads)
            journal.append(commands, payloads)
            journal.commit()
        if life == 0:
            journal.snapshot(machine.state(), journal.durable_seq)
            journal.seal(20_260_105, machine.state()[:8], {"commands": 24})
            journal.close()
    return {"last_seq": journal.durable_seq, "fold": machine.hash, "files": files_of(disk)}


def files_of(disk: RealDisk) -> dict[str, str]:
    """SHA-256 of every file of a folder."""
    return {n: hashlib.sha256(Path(disk.path, n).read_bytes()).hexdigest() for n in disk.names()}


def test_the_golden_journal_of_format_1_is_still_read(tmp_path: Path) -> None:
    expected = json.loads((GOLDEN / "expected.json").read_text())
    shutil.copytree(GOLDEN / "journal", tmp_path / "journal")
    disk = RealDisk(tmp_path / "journal")
    assert files_of(disk) == expected["files"], "the golden files themselves are unchanged"
    assert verify(disk).ok
    assert [s.counts for s in verify(disk).seals] == [{"commands": 24}]
    machine = Fold()
    journal = recovered(disk, machine)  # type: ignore[arg-type]
    assert journal.durable_seq == expected["last_seq"]
    assert journal.recovery.snapshot_seq == 24
    assert machine.hash == expected["fold"]
    whole = Fold()
    for group in journal.groups():
        whole.apply(group.commands, group.payloads)
    assert whole.hash == expected["fold"]
    disk.close()


def test_the_program_still_writes_format_1_byte_for_byte(tmp_path: Path) -> None:
    expected = json.loads((GOLDEN / "expected.json").read_text())
    disk = RealDisk(tmp_path / "journal")
    assert golden_journal(disk) == expected, "another byte on the disk is another format: raise FORMAT, keep the golden"
    disk.close()


if __name__ == "__main__":
    assert not GOLDEN.exists(), "a golden journal is made once"
    golden = RealDisk(GOLDEN / "journal")
    (GOLDEN / "expected.json").write_text(json.dumps(golden_journal(golden), indent=1) + "\n")
