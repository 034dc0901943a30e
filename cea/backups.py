"""`cea backup`, `cea restore`: a market folder copied while the exchange runs, and brought back with a proof.

Order matters: the registry first, then snapshots, then the journal. What the copy's registry has delivered is then in
the copy's journal, and settling again delivers nothing twice (each pair is keyed by its deal).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from cea.output import Exit, fail, print_json

MANIFEST: Final = "manifest.json"
# run/ is of one machine's moment; a backup of it would only mislead. Reports are for people and small.
FILES: Final = ("market.toml", "calendar.toml", "funding.json", "totals.toml", "surveillance.toml")
FOLDERS: Final = ("keys", "reports")
REGISTRY: Final = "registry.db"


class Manifest(msgspec.Struct, frozen=True):
    """What a backup holds: SHA-256 by path; ``last_seq`` the journal's last command; ``outside``: a database that is
    backed up by its own means."""

    made: str
    last_seq: int
    files: dict[str, str]
    outside: str = ""


class BackupError(Exception):
    """A backup cannot be made or used; the text says why."""


def digest_of(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def backup(folder: Path, target: Path) -> Manifest:
    """Copies a market folder into a new folder, private to its owner; the exchange may run."""
    from cea.replaying import load_market

    market = load_market(folder)
    if target.exists() and any(target.iterdir()):
        raise BackupError(f"{target}: is not empty; name a new folder")
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    outside = _registry(market.config.registry, folder, target)
    last_seq = _journal(market.journal, target / "journal")
    for name in FILES:
        if (folder / name).is_file():
            shutil.copy2(folder / name, target / name)
    for name in FOLDERS:
        shutil.copytree(folder / name, target / name, dirs_exist_ok=True)
    os.chmod(target / "keys", 0o700)
    found = {str(p.relative_to(target)): digest_of(p) for p in sorted(target.rglob("*")) if p.is_file()}
    manifest = Manifest(dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), last_seq, found, outside)
    (target / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
    for path in (p for p in target.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    return manifest


def _registry(url: str, folder: Path, target: Path) -> str:
    """SQLite's own online backup. Another database is named, and left to its own tools."""
    name = url.removeprefix("sqlite:///")
    if name == url:
        return url.partition("://")[0] + ": back it up with its own tools (pg_basebackup, pg_dump)"
    source = folder / name
    if source.is_file():
        with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target / REGISTRY)) as new:
            old.backup(new)
    return ""


def _journal(source: Path, target: Path) -> int:
    """Snapshots, increments, segments; the last one up to its last sound group, what was being written is left out."""
    from engine.journal import scan
    from engine.journal.group import seed_of
    from engine.journal.increment import is_increment
    from engine.journal.segment import SEGMENT_HEADER_BYTES, decode_segment_header, segment_index
    from engine.journal.snapshot import snapshot_names

    from engine.journal import RealDisk  # isort: skip

    disk = RealDisk(source)
    target.mkdir(mode=0o750)
    for name in (*snapshot_names(disk), *filter(is_increment, disk.names())):
        try:
            shutil.copy2(source / name, target / name)
        except FileNotFoundError:
            (target / name).unlink(missing_ok=True)  # a newer one has taken its place meanwhile
    last_seq = 0
    segments = [name for name in disk.names() if segment_index(name) is not None]
    for name in segments:
        shutil.copy2(source / name, target / name)
        copy = RealDisk(target).open(name)
        data = copy.read(0, copy.size())
        header = decode_segment_header(data[:SEGMENT_HEADER_BYTES].tobytes())
        if header is None:
            copy.close()
            if name == segments[-1]:  # begun this moment
                (target / name).unlink()
                continue
            raise BackupError(f"{source / name}: its header does not verify; see `cea verify journal`")
        walk = scan.walk_groups(
            data, SEGMENT_HEADER_BYTES, data.size, seed=seed_of(header.journal_id), epoch=header.epoch,
            next_seq=header.first_seq, prev_crc=header.prev_crc,
        )  # fmt: skip
        size = data.size
        if name == segments[-1] and not scan.is_zero(data, walk.offset):
            copy.truncate(walk.offset)
            copy.truncate(size)  # zeros again, as it was before
            copy.sync()
        copy.close()
        last_seq = walk.next_seq - 1
    return last_seq


def check(source: Path) -> Manifest:
    """A backup's manifest, when every file is there and as it was; BackupError names the first that is not."""
    try:
        manifest = msgspec.json.decode((source / MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise BackupError(f"{source}: no backup ({MANIFEST} is missing)") from None
    except msgspec.DecodeError as error:
        raise BackupError(f"{source / MANIFEST}: {error}") from None
    for name, digest in manifest.files.items():
        path = source / name
        if not path.resolve().is_relative_to(source.resolve()):
            raise BackupError(f"{source / MANIFEST}: {name} lies outside")
        if not path.is_file():
            raise BackupError(f"{path}: is missing")
        if digest_of(path) != digest:
            raise BackupError(f"{path}: is not what was backed up")
    return manifest


def restore(source: Path, folder: Path) -> dict[str, object]:
    """Makes a market folder of a backup and proves it: hashes, journal with full replay, registry."""
    from cea.folder import open_registry
    from cea.replaying import load_market, machine_maker
    from engine.journal import RealDisk
    from engine.journal.inspection import verify
    from settlement.verify import verify as verify_registry

    manifest = check(source)
    if folder.exists() and any(folder.iterdir()):
        raise BackupError(f"{folder}: is not empty; name a new folder")
    folder.mkdir(parents=True, exist_ok=True, mode=0o750)
    for name in manifest.files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / name, path)
    os.chmod(folder / "keys", 0o700)
    for name in ("run", "reports"):
        (folder / name).mkdir(exist_ok=True, mode=0o750)
    report = verify(RealDisk(folder / "journal"), *machine_maker(folder))
    problems = list(report.problems)
    if report.last_seq != manifest.last_seq:
        problems.append(f"the journal ends with {report.last_seq:,}, the backup says {manifest.last_seq:,}")
    if (folder / REGISTRY).is_file():
        registry = open_registry(load_market(folder))
        try:
            problems += verify_registry(registry.engine)
        finally:
            registry.close()
    return {
        "made": manifest.made,
        "last_seq": report.last_seq,
        "state_hash": report.state_hash.hex(),
        "files": len(manifest.files),
        "outside": manifest.outside,
        "problems": problems,
    }


def backup_command(folder: Path, target: Path, *, drill: bool, as_json: bool) -> None:
    """Makes a backup; with ``drill`` restores it beside, proves it, and takes the restored folder away again."""
    import tempfile

    found: dict[str, object] = {}
    try:
        manifest = backup(folder, target)
        if drill:
            with tempfile.TemporaryDirectory(prefix="drill-", dir=target.parent) as scratch:
                found = restore(target, Path(scratch) / "market")
            _note(folder, found)
    except (BackupError, OSError) as error:
        fail(str(error), Exit.NO)
    if as_json:
        print_json({"files": len(manifest.files), "last_seq": manifest.last_seq, "drill": found})
    else:
        print(f"{target}: {len(manifest.files)} files, journal up to sequence {manifest.last_seq:,}")
        if manifest.outside:
            print(f"The registry is not in it: {manifest.outside}")
        if drill:
            _say(found)
    if found.get("problems"):
        raise SystemExit(int(Exit.NO))


def _note(folder: Path, found: dict[str, object]) -> None:
    """A drill is a verification of what the journal held: metrics tell of it."""
    from cea.journal_commands import note_verified

    seq, problems = found["last_seq"], found["problems"]
    assert isinstance(seq, int) and isinstance(problems, list)
    note_verified(folder, seq, len(problems), str(found["state_hash"]))


def restore_command(source: Path, folder: Path, *, as_json: bool) -> None:
    """Restores into a new folder."""
    try:
        found = restore(source, folder)
    except (BackupError, OSError) as error:
        fail(str(error), Exit.NO)
    if as_json:
        print_json(found)
    else:
        _say(found)
        print(f"{folder}: `cea serve {folder}` starts it. Stop the old exchange first: one set of keys, one market.")
    if found["problems"]:
        raise SystemExit(int(Exit.NO))


def _say(found: dict[str, object]) -> None:
    problems = found["problems"]
    assert isinstance(problems, list)
    print(f"restored and replayed up to sequence {found['last_seq']:,}, state {found['state_hash']}")
    for problem in problems:
        print(f"FOUND {problem}")
    print("The backup is good." if not problems else f"{len(problems)} finding(s).")
