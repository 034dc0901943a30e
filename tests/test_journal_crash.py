"""Power cuts and kills at every disk operation of seeded workloads, and the planted bugs that they must catch."""

from __future__ import annotations

import random

import pytest
from journal_crash import IDENTITY, SEGMENT_BYTES, Fold, Writer, recovered, some_commands

from engine.journal import Journal, JournalError, JournalFailed, RecoveryRefused, scan
from engine.journal import journal as journal_module
from engine.journal import recovery as recovery_module
from engine.journal import snapshot as snapshot_module
from engine.journal.crash_disk import CrashDisk, CrashFile
from engine.journal.increment import INCREMENT_TEMPORARY
from engine.journal.snapshot import SNAPSHOT_TEMPORARY, drop_older_snapshots, write_snapshot
from engine.journal.spare import Spare

STEPS = 60
FAST_SEEDS = 3  # some 5,000 images
SLOW_IMAGES = 50_000
SOAK_IMAGES = 2_000_000
MANY_SEGMENTS = {"group_max": 40, "images_a_point": 1}  # a new segment with about every second group


def run(seed: int, **options: object) -> Writer:
    writer = Writer(seed, **options)  # type: ignore[arg-type]
    writer.run(STEPS)
    return writer


def run_images(first_seed: int, images: int) -> tuple[int, int, int]:
    """(seeds, images, torn images) until at least ``images`` are checked."""
    done = torn = seed = 0
    while done < images:
        writer = run(first_seed + seed, **(MANY_SEGMENTS if seed % 4 == 3 else {}))
        done, torn, seed = done + writer.images, torn + writer.torn, seed + 1
    return seed, done, torn


def caught(**options: object) -> bool:
    """Whether any of a few seeds fails under a planted bug."""
    for seed in range(102, 110):
        try:
            run(seed, **options)
        except (AssertionError, JournalError, FileNotFoundError):
            return True
    return False


@pytest.mark.parametrize("seed", range(FAST_SEEDS))
def test_every_crash_image_recovers_to_an_acknowledged_prefix(seed: int) -> None:
    writer = run(seed)
    assert writer.images > 1_000
    assert writer.torn > 5, "the workload must produce torn commits, else it proves nothing"


def test_room_reserved_beside_at_any_moment_never_comes_between_a_segment_and_its_name() -> None:
    writer = run(7, **MANY_SEGMENTS)
    assert writer.later.between > 2, "the work was done beside others"
    assert writer.later.waited > 2, "the writer waited for it"


@pytest.mark.slow
def test_fifty_thousand_crash_images_recover_to_an_acknowledged_prefix() -> None:
    seeds, images, torn = run_images(1_000, SLOW_IMAGES)
    print(f"{images} crash images of {seeds} seeds from 1000, {torn} with a torn commit")
    assert images >= SLOW_IMAGES
    assert torn > images // 100


@pytest.mark.soak
def test_two_million_crash_images_recover_to_an_acknowledged_prefix() -> None:
    seeds, images, torn = run_images(1_000_000, SOAK_IMAGES)
    print(f"{images} crash images of {seeds} seeds from 1000000, {torn} with a torn commit")
    assert images >= SOAK_IMAGES


def test_a_left_out_fsync_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CrashFile, "sync", lambda self: None)
    assert caught()


def test_a_segment_that_does_not_wait_for_the_reserving_of_its_room_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def hasty(self: Spare, *, wait: bool) -> None:
        self._wait = None  # and the work may come in any moment, even between a header and its name

    monkeypatch.setattr(Spare, "collect", hasty)
    assert caught(**MANY_SEGMENTS)


def test_a_left_out_folder_sync_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CrashDisk, "sync_names", lambda self: None)
    assert caught()


def test_a_left_out_checksum_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "ALL_CHECKS", scan.ALL_CHECKS & ~scan.CHECK_CRC)
    assert caught()


def test_a_snapshot_renamed_before_its_fsync_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    create = CrashDisk.create

    def without_sync(self: CrashDisk, name: str, size: int) -> CrashFile:
        file = create(self, name, size)
        if name == SNAPSHOT_TEMPORARY:
            file.sync = lambda: None  # type: ignore[method-assign]
        return file

    monkeypatch.setattr(CrashDisk, "create", without_sync)
    assert caught()


def test_an_increment_named_by_a_snapshot_before_its_fsync_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    create = CrashDisk.create

    def without_sync(self: CrashDisk, name: str, size: int) -> CrashFile:
        file = create(self, name, size)
        if name == INCREMENT_TEMPORARY:
            file.sync = lambda: None  # type: ignore[method-assign]
        return file

    monkeypatch.setattr(CrashDisk, "create", without_sync)
    assert caught()


def test_an_increment_dropped_while_a_kept_snapshot_needs_it_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_module, "read_references", lambda disk, name: ())
    assert caught()


@pytest.mark.slow
def test_an_increment_dropped_before_its_snapshots_removal_stands_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_sync(disk: CrashDisk) -> list[str]:
        disk.sync_names = lambda: None  # type: ignore[method-assign]
        try:
            return drop_older_snapshots(disk)
        finally:
            del disk.sync_names

    monkeypatch.setattr(journal_module, "drop_older_snapshots", without_sync)
    assert caught()


def test_an_old_snapshot_dropped_before_the_new_one_stands_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def drop_first(disk: CrashDisk, *args: object, **kwargs: object) -> bool:
        drop_older_snapshots(disk, 2)
        return write_snapshot(disk, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(journal_module, "write_snapshot", drop_first)
    assert caught()


def test_an_acknowledgement_before_the_commit_is_caught() -> None:
    assert caught(acknowledge_early=True)


def test_a_recovery_that_trusts_what_only_memory_holds_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = CrashDisk.open

    def without_sync(self: CrashDisk, name: str) -> CrashFile:
        file = opened(self, name)
        if name.endswith(".segment"):  # only recovery opens an existing segment
            file.sync = lambda: None  # type: ignore[method-assign]
        return file

    monkeypatch.setattr(CrashDisk, "open", without_sync)
    assert caught()


def failed_sync_then_power_cut(seed: int) -> None:
    """Fail one fsync, restart on the same kernel, cut the power: what the restart accepted must be there."""
    rng = random.Random(seed)
    disk = CrashDisk(rng.randrange)
    journal = recovered(disk, Fold())
    disk.fail = ("sync", rng.randrange(1, 6))
    acknowledged = 0
    with pytest.raises(JournalFailed) as ended:  # noqa: PT012
        for _ in range(40):
            journal.append(*some_commands(rng, journal.next_seq, rng.randrange(1, 20)))
            acknowledged = journal.commit()
    assert ended.value.code == 74
    after_kill = disk.copy()
    first, machine = recovered(after_kill, Fold()), Fold()
    assert first.durable_seq >= acknowledged
    second = recovered(after_kill.power_cut(rng.randrange), machine)
    assert second.durable_seq >= first.durable_seq, f"seed {seed}"


def test_a_failed_fsync_ends_the_process_and_loses_nothing_that_recovery_accepts() -> None:
    for seed in range(200):
        failed_sync_then_power_cut(seed)


def test_a_recovery_that_only_syncs_again_after_a_failed_fsync_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery_module, "_last_commit", lambda data, walk: walk.offset)
    with pytest.raises((AssertionError, RecoveryRefused)):  # noqa: PT012
        for seed in range(200):
            failed_sync_then_power_cut(seed)


def test_a_journal_that_failed_refuses_every_further_call() -> None:
    disk = CrashDisk()
    journal = Journal.open(disk, IDENTITY, segment_bytes=SEGMENT_BYTES)
    rng = random.Random(1)
    journal.append(*some_commands(rng, 1, 3))
    disk.fail = ("sync", 1)
    with pytest.raises(JournalFailed, match="commit failed"):
        journal.commit()
    with pytest.raises(AssertionError, match="should have ended"):
        journal.commit()
