"""`cea journal …` and `cea verify journal`: what is in a journal, and whether it is sound."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cea.options import Json
from cea.output import Exit, console, fail, print_json, table

app = typer.Typer(help="Look into a journal.", no_args_is_help=True, rich_markup_mode="rich")

Dir = Annotated[Path, typer.Argument(metavar="DIR", help="A market folder, or a journal folder.")]


def journal_folder(folder: Path) -> Path:
    """The journal of a market folder, or the folder itself; ends the command where there is none."""
    inside = folder / "journal"
    found = inside if inside.is_dir() else folder
    if not found.is_dir():
        fail(f"{folder}: no such folder", Exit.CONFIG)
    return found


def open_disk(folder: Path) -> Any:
    """The journal's disk, for reading."""
    from engine.journal import RealDisk

    return RealDisk(journal_folder(folder))


@app.command("ls")
def list_command(folder: Dir = Path("market"), as_json: Json = False) -> None:
    """List the files: segments with their sequences and epochs, snapshots, leftovers."""
    from engine.journal.inspection import list_files

    rows = list_files(open_disk(folder))
    if as_json:
        print_json(rows)
        return
    columns = ("file", "kind", "state", "first seq", "last seq", "epoch", "bytes used", "bytes reserved")
    cells = [
        (
            r.name,
            r.kind,
            r.state,
            f"{r.first_seq:,}",
            f"{r.last_seq:,}",
            r.epoch,
            f"{r.bytes_used:,}",
            f"{r.bytes_reserved:,}",
        )
        for r in rows
    ]
    console().print(table(columns, cells, left=3))


@app.command("show")
def show_command(
    folder: Dir = Path("market"),
    after: Annotated[int, typer.Option(min=0, help="Only groups behind this sequence.")] = 0,
    limit: Annotated[int, typer.Option(min=1, help="At most so many groups.")] = 40,
    as_json: Json = False,
) -> None:
    """Show the groups: sequences, time, size, checksum, and where a walk through the journal would stop."""
    from engine.calendar import format_time, trading_date
    from engine.journal.inspection import show_groups

    rows = show_groups(open_disk(folder), after, limit)
    if as_json:
        print_json(rows)
        return
    columns = ("segment", "offset", "kind", "state", "time", "seq", "records", "payload", "epoch", "crc")
    cells = []
    for r in rows:
        when = f"{trading_date(r.time_ns)} {format_time(r.time_ns)}" if r.time_ns else ""
        span = f"{r.first_seq:,} … {r.last_seq:,}"
        cells.append(
            (r.segment, r.offset, r.kind, r.state, when, span, r.count, r.payload_bytes, r.epoch, f"{r.crc:08x}")
        )
    console().print(table(columns, cells, left=5))
    if len(rows) == limit:
        print(f"More groups follow: cea journal show {folder} --after {rows[-1].last_seq}")


@app.command("cut")
def cut_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The journal that start-up refused.")],
    target: Annotated[Path, typer.Argument(metavar="NEW", help="A new, empty folder for the part that is kept.")],
    until: Annotated[
        int | None,
        typer.Option(
            min=0, help="Last sequence to keep, as the refusal names it (0: none). Without it: all that is sound."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Copy the sound part of a journal into a new one; the old journal stays as it is.

    What lies behind the cut is given up: members are told by the new epoch. Replace the journal folder by the
    new one yourself, when you have looked at it.
    """
    from engine.journal import JournalError, RealDisk
    from engine.journal.rewrite import identity_of, rewrite

    source = open_disk(folder)
    identity = identity_of(source)
    if identity is None:
        fail(f"{folder}: no segment header verifies; there is nothing to keep", Exit.NO)
    kept = f"up to sequence {until:,}" if until is not None else "all that is sound"
    if not yes and not typer.confirm(f"Copy {kept} of {folder} to {target}?"):
        raise typer.Exit(int(Exit.NO))
    target.mkdir(parents=True, exist_ok=True)
    try:
        last = rewrite(source, RealDisk(target), identity, until)
    except JournalError as error:
        fail(str(error), Exit.NO)
    print(f"{target}: sequences 1 … {last:,}" if last else f"{target}: an empty journal of a later epoch")


@app.command("migrate")
def migrate_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The market folder, or the journal folder in it.")],
    target: Annotated[Path, typer.Argument(metavar="NEW", help="A new, empty folder for the migrated journal.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Copy a journal's commands for this engine and the market's present rules; the old journal stays as it is.

    Snapshots and seals are not copied. The new engine then replays every command, and the hash that it comes to is
    printed: compare it with `cea verify` of the version before. Replace the journal folder yourself.
    """
    from cea.replaying import machine_maker
    from engine.exchange import ENGINE_ABI
    from engine.journal import Identity, JournalError, RealDisk
    from engine.journal.inspection import verify
    from engine.journal.rewrite import identity_of, rewrite

    market = folder if (folder / "journal").is_dir() else folder.absolute().parent
    make, _ = machine_maker(market)
    source = open_disk(folder)
    before = identity_of(source)
    if before is None:
        fail(f"{folder}: no segment header verifies; there is nothing to migrate", Exit.NO)
    now = Identity(ENGINE_ABI, make().rules.hash(), before.journal_id)
    if now == before:
        fail(f"{folder}: the journal is of this engine and these rules already; nothing to migrate", Exit.NO)
    if not yes and not typer.confirm(f"Copy the commands of {folder} to {target} for engine ABI {ENGINE_ABI}?"):
        raise typer.Exit(int(Exit.NO))
    target.mkdir(parents=True, exist_ok=True)
    try:
        last = rewrite(source, RealDisk(target), now)
    except JournalError as error:
        fail(str(error), Exit.NO)
    report = verify(RealDisk(target), make)
    print(f"{target}: sequences 1 … {last:,}, state hash of the replay:")
    print(report.state_hash.hex())
    if not report.ok or report.last_seq != last:
        fail("; ".join(report.problems) or f"the new journal ends with {report.last_seq:,}", Exit.NO)


def verify_command(folder: Path, expect: str, *, as_json: bool) -> None:
    """Verifies a market's journal, replaying it into a new engine under the market's rules."""
    from cea.replaying import machine_maker
    from engine.journal.inspection import verify

    make, restore = machine_maker(folder)
    if not as_json:
        print(f"Replaying {journal_folder(folder)} …", flush=True)
    report = verify(open_disk(folder), make, restore)
    problems = list(report.problems)
    if expect and report.state_hash.hex() != expect.strip().lower():
        problems.append(f"state hash: the replay ends with {report.state_hash.hex()}, expected {expect}")
    note_verified(folder, report.last_seq, len(problems), report.state_hash.hex())
    if as_json:
        print_json({**_plain(report), "problems": problems, "ok": not problems})
    else:
        print(f"{report.commands:,} commands in {report.groups:,} groups, up to sequence {report.last_seq:,}")
        for seal in report.seals:
            print(f"seal of {seal.day}: sequence {seal.last_seq:,}, state {seal.state_hash.hex()[:16]}…, replay agrees")
        print(f"{report.snapshots} snapshot{'s' * (report.snapshots != 1)}, state hash of the replay:")
        print(report.state_hash.hex())
        for problem in problems:
            print(f"FOUND {problem}")
        print("The journal is sound." if not problems else f"{len(problems)} finding(s).")
    if problems:
        raise typer.Exit(int(Exit.NO))


def note_verified(folder: Path, seq: int, problems: int, state_hash: str) -> None:
    """Leaves the result where the exchange's metrics find it (run/verified.json); a read-only folder is no fault."""
    import contextlib
    import time

    from gateway.metrics import Verified, write_verified

    with contextlib.suppress(OSError):
        write_verified(folder, Verified(seq, int(time.time()), problems, state_hash))


def _plain(report: Any) -> dict[str, Any]:
    names = ("last_seq", "groups", "commands", "snapshots", "state_hash")
    return {**{name: getattr(report, name) for name in names}, "seals": list(report.seals)}
