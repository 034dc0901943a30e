"""The commands that a refused start names, run as they are printed: `cea journal cut` and `cea journal migrate`."""

from __future__ import annotations

import random
import shlex
from pathlib import Path

import gateway_market as gm
import pytest
import typer
from desk_stream import desk_stream
from journal_market import source_of

from cea.main import command
from cea.output import Exit
from cea.replaying import machine_maker
from engine.exchange import ENGINE_ABI
from engine.journal import Identity, Journal, RealDisk, RecoveryRefused
from engine.rules import Rules

COMMANDS = 300


def run(*words: object) -> int:
    """Runs `cea` inside this process and returns its exit code."""
    try:
        result = command()(args=[str(w) for w in words], prog_name="cea", standalone_mode=False)
    except typer.Exit as ended:
        return ended.exit_code
    except typer.BadParameter:
        return int(Exit.USAGE)
    return result if isinstance(result, int) else 0


def identity(folder: Path, engine_abi: int = ENGINE_ABI) -> Identity:
    return Identity(engine_abi, machine_maker(folder)[0]().rules.hash())


def market(folder: Path, wrote: Identity | None = None) -> Path:
    """A market folder with a journal of some hundred commands, many groups; returns the journal's folder."""
    gm.make(folder)
    stream, rng = desk_stream(3, COMMANDS), random.Random(3)
    disk = RealDisk(folder / "journal")
    wrote = wrote or identity(folder)
    journal = Journal.open(disk, Identity(wrote.engine_abi, wrote.rules_hash, 0x1234))
    while journal.next_seq <= COMMANDS:
        count = min(COMMANDS - journal.next_seq + 1, rng.randrange(1, 12))
        journal.append(*source_of(stream)(rng, journal.next_seq, count))
        journal.commit()
    journal.close()
    disk.close()
    return folder / "journal"


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def refused(journal: Path, folder: Path) -> str:
    """Why the market does not start."""
    disk = RealDisk(journal)
    with pytest.raises(RecoveryRefused) as refusal:
        Journal.open(disk, identity(folder))
    disk.close()
    return str(refusal.value)


def command_in(text: str, new: Path) -> list[str]:
    """The command that a refusal names, with NEW_FOLDER filled in."""
    words = shlex.split(text[text.index("cea journal") :].split("\n")[0].rstrip(")."))
    return [str(new) if w == "NEW_FOLDER" else w for w in words[1:]]


def opened(journal: Path, folder: Path) -> tuple[int, int, str]:
    """(last sequence, epoch, state hash) of a start on the journal."""
    disk = RealDisk(journal)
    found, exchange = Journal.open(disk, identity(folder)), machine_maker(folder)[0]()
    for batch in found.batches():
        exchange.apply(batch.commands, batch.payloads)
    found.close()
    disk.close()
    return found.recovery.last_seq, found.recovery.epoch, exchange.seal_hash().hex()


@pytest.mark.parametrize("what", ["engine", "rules"])
def test_a_journal_of_another_engine_or_rules_is_migrated_by_the_command_that_the_refusal_names(
    tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, new = tmp_path / "m", tmp_path / "new"
    old_rules = Rules.generic().hash()
    gm.make(tmp_path / "asks")
    wrote = identity(tmp_path / "asks", 0) if what == "engine" else Identity(ENGINE_ABI, old_rules)
    journal = market(folder, wrote)
    before = content(journal)
    text = refused(journal, folder)
    assert run(*command_in(text, new), "--yes") == Exit.OK
    last, epoch, state_hash = opened(new, folder)
    assert (last, epoch) == (COMMANDS, 3), "the second start of an epoch that is later than the old one's"
    assert state_hash in capsys.readouterr().out
    assert content(journal) == before, "the original stays as it is"
    assert run(*command_in(text, new), "--yes") == Exit.NO
    assert "name a new folder" in capsys.readouterr().err


def test_there_is_nothing_to_migrate_where_engine_and_rules_are_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    market(tmp_path / "m")
    assert run("journal", "migrate", tmp_path / "m", tmp_path / "new", "--yes") == Exit.NO
    assert "nothing to migrate" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("until", "kept"), [((), COMMANDS), (("--until", 0), 0), (("--until", 123), 123)])
def test_a_cut_keeps_what_it_is_told_and_zero_means_nothing(
    tmp_path: Path, until: tuple[object, ...], kept: int
) -> None:
    folder, new = tmp_path / "m", tmp_path / "new"
    market(folder)
    assert run("journal", "cut", folder, new, *until, "--yes") == Exit.OK
    assert opened(new, folder)[:2] == (kept, 3)
    assert run("journal", "cut", folder, tmp_path / "other", "--until", COMMANDS + 1, "--yes") == Exit.NO
    assert run("journal", "cut", folder, tmp_path / "other", "--until", -1, "--yes") == Exit.USAGE


def test_damage_to_the_first_group_is_cut_by_the_command_that_the_refusal_names(tmp_path: Path) -> None:
    folder, new = tmp_path / "m", tmp_path / "new"
    journal = market(folder)
    segment = journal / "00000001.segment"
    data = bytearray(segment.read_bytes())
    data[600] ^= 1
    segment.write_bytes(data)
    text = refused(journal, folder)
    assert "--until 0" in text
    assert run(*command_in(text, new), "--yes") == Exit.OK
    assert opened(new, folder)[:2] == (0, 3), "nothing before the damage: nothing is kept, and the epoch is a later one"
