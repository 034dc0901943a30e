"""Backup and restore: a drill on a running exchange, and every kind of a backup that is not good."""

from __future__ import annotations

import shutil

import gateway_market as gm
import pytest

from cea import backups
from cea.doctor import folder_checks
from gateway.client import Client
from gateway.operator import OperatorClient


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    """(folder, backup made while it ran and traded, state hash then, manifest)."""
    root = tmp_path_factory.mktemp("backup")
    folder = root / "m"
    gm.make(folder)
    with gm.running(folder), OperatorClient(folder, key=str(folder / "keys" / "ops1.key")) as ops:
        gm.fund(ops)
        with Client(folder, key=str(folder / "keys" / "member-1.key")) as me:
            for n in range(20):
                me.buy("CEA24", 5900 + n, 10 + n)
            seal, seq = ops.seal_hash(), ops.status()["seq"]
            manifest = backups.backup(folder, root / "b")
            me.mass_cancel()
    return folder, root / "b", seal, seq, manifest


def test_a_backup_of_a_running_exchange_comes_back_with_the_same_state(market, tmp_path):
    _, copy, seal, seq, manifest = market
    assert manifest.last_seq == seq
    found = backups.restore(copy, tmp_path / "again")
    assert not found["problems"] and found["state_hash"] == seal and found["last_seq"] == seq


def test_the_restored_folder_starts_and_its_members_go_on(market, tmp_path):
    copy = market[1]
    folder = tmp_path / "again"
    backups.restore(copy, folder)
    with gm.running(folder), Client(folder, key=str(folder / "keys" / "member-1.key")) as me:
        assert len(me.orders(only_open=True)) == 20


def test_a_group_that_was_being_written_is_left_out_of_the_copy(market, tmp_path):
    folder, _, _, seq, _ = market
    torn = tmp_path / "torn"
    shutil.copytree(folder, torn, ignore=shutil.ignore_patterns("run"))
    assert not any("run" in name for name in backups.backup(folder, tmp_path / "whole").files)
    for snapshot in (torn / "journal").glob("*.snapshot"):
        snapshot.unlink()
    last = max((torn / "journal").glob("*.segment"))
    data = bytearray(last.read_bytes())
    end = len(data.rstrip(b"\0"))
    data[end - 70 : end - 60] = b"torn group"
    last.write_bytes(data)
    cut = backups.backup(torn, tmp_path / "cut")
    assert seq <= cut.last_seq  # what came behind the first backup, but for the group that is torn
    assert backups.restore(tmp_path / "cut", tmp_path / "cut-again")["problems"] == []


@pytest.mark.parametrize("harm", ["change", "remove", "outside", "nothing", "used"])
def test_a_backup_that_is_not_good_is_refused_by_name(market, tmp_path, harm):
    copy = tmp_path / "copy"
    shutil.copytree(market[1], copy)
    victim = copy / "calendar.toml"
    words = "calendar.toml"
    target = tmp_path / "target"
    if harm == "change":
        victim.write_text(victim.read_text() + "# changed\n")
    elif harm == "remove":
        victim.unlink()
    elif harm == "outside":
        manifest = copy / backups.MANIFEST
        manifest.write_text(manifest.read_text().replace('"calendar.toml"', '"../calendar.toml"'))
        words = "outside"
    elif harm == "nothing":
        (copy / backups.MANIFEST).unlink()
        words = "manifest.json"
    else:
        target.mkdir()
        (target / "something").touch()
        words = "not empty"
    with pytest.raises(backups.BackupError, match=words):
        backups.restore(copy, target)


def test_keys_in_a_backup_stay_private_to_their_owner(market):
    copy = market[1]
    assert copy.stat().st_mode & 0o077 == 0 and (copy / "keys").stat().st_mode & 0o077 == 0
    assert all(p.stat().st_mode & 0o077 == 0 for p in (copy / "keys").glob("*.key"))


def test_the_doctor_looks_at_fsync_clock_and_ports(market):
    found = {c.name: c for c in folder_checks(market[0])}
    assert found["fsync"].text.endswith("median of 20") and found["clock"].state in ("ok", "warning")
    assert found["ports"].state == "ok"


def test_the_doctor_names_a_port_that_is_taken(tmp_path):
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        gm.make(tmp_path / "m", members_port=port)
        found = {c.name: c for c in folder_checks(tmp_path / "m")}
    assert found["ports"].state == "fault" and f"members_port {port}" in found["ports"].text
