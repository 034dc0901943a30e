"""The command `cea`: help, exit codes, errors in one line, and every command against a running exchange."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from cea.main import SUB_COMMANDS, app, command
from cea.output import Exit

# What `cea --help` may import beside Python's own modules; how long it takes, `python -m benchmarks.cea` measures.
HELP_IMPORTS = {"cea", "typer", "rich", "click", "shellingham", "annotated_doc", "typing_extensions", "pygments"}
HELP_MODULES_MAX = 400  # 150 with today's typer: a tree of imports that somebody adds is larger


def run(*words: object) -> int:
    """Runs `cea` inside this process and returns its exit code."""
    try:
        result = command()(args=[str(w) for w in words], prog_name="cea", standalone_mode=False)
    except typer.Exit as ended:
        return ended.exit_code
    except typer.BadParameter as error:
        print(error, file=sys.stderr)
        return int(Exit.USAGE)
    except SystemExit as ended:
        return int(ended.code or 0)
    return result if isinstance(result, int) else 0


SHOW_HELP = """
import atexit, sys
before = set(sys.modules)  # an installation's own, editable ones for example
atexit.register(lambda: print(*sorted(set(sys.modules) - before), file=sys.stderr))
{planted}
import cea.main
sys.argv = ["cea", "--help"]
cea.main.main()
"""


def imported_for_help(planted: str = "") -> tuple[str, set[str], int]:
    """The text, the foreign packages and the number of modules that a process has imported when it has shown it."""
    script = SHOW_HELP.format(planted=planted)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    modules = done.stderr.split()
    return done.stdout, {name.partition(".")[0] for name in modules} - set(sys.stdlib_module_names), len(modules)


def test_help_answers_at_once_as_it_imports_little() -> None:
    text, packages, modules = imported_for_help()
    assert "Running a market" in text
    assert packages <= HELP_IMPORTS and modules <= HELP_MODULES_MAX
    assert "numpy" in imported_for_help(planted="import numpy")[1]


def every_command() -> list[list[str]]:
    """The words of every command, sub-commands included."""
    tree = command()
    context = tree.make_context("cea", [], resilient_parsing=True)
    found = []
    for name in tree.list_commands(context):
        sub = tree.get_command(context, name)
        if name in SUB_COMMANDS:
            inner = sub.make_context(name, [], resilient_parsing=True, parent=context)
            found += [[name, word] for word in sub.list_commands(inner)]
        else:
            found.append([name])
    return found


@pytest.mark.slow
def test_every_command_has_a_finished_help_text(capsys) -> None:
    names = every_command()
    assert len(names) > 40
    for words in names:
        assert run(*words, "--help") == Exit.OK, words
        text = capsys.readouterr().out
        assert len(text) > 200 and "Usage: " in text, words
        assert "TODO" not in text


def test_main_commands_say_what_their_options_are() -> None:
    for info in app.registered_commands:
        assert info.callback is not None and (info.callback.__doc__ or "").strip(), info


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["status", "-m", "{empty}"], Exit.CONFIG, "cea init"),
        (["serve", "{empty}"], Exit.CONFIG, "not there"),
        (["journal", "show", "{empty}/none"], Exit.CONFIG, "no such folder"),
        (["verify", "ledger"], Exit.USAGE, "journal or registry"),
        (["verify", "registry", "{empty}"], Exit.CONFIG, "no registry here"),
        (["verify", "registry", "{market}", "--expect", "00"], Exit.USAGE, "no state hash"),
        (["init", "{market}", "--yes"], Exit.CONFIG, "already"),
        (["init", "{empty}/m", "--yes", "--date", "20251206"], Exit.CONFIG, "no trading day; the next one is 20251208"),
        (["init", "{empty}/m", "--yes", "--date", "20991203"], Exit.CONFIG, "trading days are known from"),
        (["init", "{market}/market.toml/m", "--yes"], Exit.CONFIG, "cannot be made here"),
        (["status", "-m", "{market}"], Exit.UNREACHABLE, "cea serve"),
        (["order", "buy", "CEA24", "59.5x", "1", "-m", "{market}"], Exit.USAGE, "59.5x"),
        (["order", "hold", "CEA24", "59.50", "1", "-m", "{market}"], Exit.USAGE, "buy or sell"),
        (["order", "buy", "CEA24", "59.50", "1", "-a", "77", "-m", "{market}"], Exit.CONFIG, "no key member-77"),
        (["cancel", "x", "-m", "{market}"], Exit.USAGE, "expected a number"),
        (["bulletin", "-m", "{market}"], Exit.NO, "no day is closed"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_its_exit_code(words, code, says, idle_market, tmp_path, capsys) -> None:
    text = [w.format(empty=tmp_path / "empty", market=idle_market) for w in words]
    (tmp_path / "empty").mkdir()
    assert run(*text) == code
    error = capsys.readouterr().err
    assert says in error and "Traceback" not in error
    assert len(error.strip().splitlines()) == 1


@pytest.fixture(scope="module")
def idle_market(tmp_path_factory) -> Path:
    """A market folder whose exchange never ran."""
    folder = tmp_path_factory.mktemp("idle") / "market"
    assert run("init", folder, "--yes", "--date", 20251203) == Exit.OK
    return folder


def test_init_asks_only_on_a_terminal(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115
    assert run("init", tmp_path / "m") == Exit.USAGE
    assert "--yes" in capsys.readouterr().err and not (tmp_path / "m").exists()


def test_a_fresh_market_has_private_keys_and_a_sound_registry(idle_market, capsys, monkeypatch) -> None:
    monkeypatch.setattr("cea.doctor._today", lambda: 20251203)  # whenever this runs: a calendar has an end
    secrets = list((idle_market / "keys").glob("*.key"))
    assert len(secrets) >= 7 and all(path.stat().st_mode & 0o077 == 0 for path in secrets)
    assert run("doctor", "-m", idle_market, "--json") == Exit.OK
    checks = {c["name"]: c["state"] for c in json.loads(capsys.readouterr().out)}
    assert checks["registry"] == checks["keys"] == checks["journal"] == "ok"


def test_doctor_finds_a_planted_fault(tmp_path, capsys) -> None:
    folder = tmp_path / "m"
    assert run("init", folder, "--yes", "--date", 20251203) == Exit.OK
    (folder / "keys" / "member-1.key").chmod(0o644)
    assert run("doctor", "-m", folder) == Exit.NO
    assert "others can read it" in capsys.readouterr().out
    (folder / "market.toml").write_text("name = 3")
    assert run("doctor", "-m", folder) == Exit.NO
    assert "name" in capsys.readouterr().out


class Live:
    """A running exchange, and `cea` on it."""

    def __init__(self, folder: Path, capsys) -> None:
        self.folder, self.capsys = folder, capsys

    def __call__(self, *words: object, code: Exit = Exit.OK) -> str:
        got = run(*words, "-m", self.folder)
        seen = self.capsys.readouterr()
        assert got == code, (words, got, seen.out, seen.err)
        return seen.out + seen.err

    def json(self, *words: object, code: Exit = Exit.OK):
        return json.loads(self(*words, "--json", code=code).splitlines()[0])


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A market with its exchange process and a stepped clock at 09:35; stopped by Ctrl-C's signal."""
    from cea.processes import ExchangeProcess

    folder = tmp_path_factory.mktemp("running") / "market"
    assert run("init", folder, "--yes", "--date", 20251203) == Exit.OK
    process = ExchangeProcess(folder)
    process.start()
    assert run("fund", "-m", folder) == Exit.OK
    assert run("clock", "09:35", "-m", folder) == Exit.OK
    yield folder, process
    process.stop()


def test_a_member_trades_and_an_operator_looks_on(running, capsys) -> None:
    cea = Live(running[0], capsys)
    resting = cea.json("order", "sell", "CEA24", "60.00", 700, "-a", 2)
    assert (resting["status"], resting["leaves"]) == ("accepted", 700)
    taker = cea.json("order", "buy", "cea24", "60.05", 1000, "-a", "1")
    assert (taker["status"], taker["filled"], taker["fills"][0]["price"]) == ("partly_filled", 700, 6000)
    assert "price is above the day's upper limit (code 19)" in cea("order", "buy", "CEA24", "70", 1, code=Exit.NO)
    assert "not listed" in cea("order", "buy", "CEA99", "60", 1, code=Exit.USAGE)
    assert "best_five" in cea("order", "buy", "CEA24", "60", 1, "--type", "market", code=Exit.USAGE)
    (open_order,) = cea.json("orders", "-a", 1)
    assert open_order["leaves"] == 300
    assert "60.00" in cea("fills", "-a", 1) and "60.05" in cea("orders", "-a", 1)
    (balance,) = cea.json("balances", "-a", 1)
    assert balance["holdings"]["CEA24"]["bought_today"] == 700
    assert "bought today" in cea("balances", "-a", 1)
    depth = cea("book", "CEA24", "--once")
    assert "60.05" in depth and "300" in depth and "limits 53.96 … 65.96" in depth
    assert cea.json("book", "CEA24")["bids"][0][:2] == [6005, 300]
    assert "not listed" in cea("book", "CEA99", code=Exit.NO)
    status = cea.json("status")
    assert status["instruments"]["CEA24"]["volume"] == 700 and status["phase"] == "morning"
    assert "CEA24" in cea("status") and "COMCEA" in cea("status")
    assert "300 t taken away" in cea("cancel", open_order["order_id"], "-a", 1)
    assert "not an open order" in cea("cancel", open_order["order_id"], "-a", 1, code=Exit.NO)
    assert "0 orders cancelled" in cea("cancel", "all", "-a", 3)
    assert [c["passed"] for c in cea.json("certify", "--only", 2, "--only", 3, "-a", 3)] == [True, True]
    assert "card 99" in cea("certify", "--only", 99, code=Exit.USAGE)


def test_an_operator_acts_with_a_reason_and_two_persons_undo_a_kill_switch(running, capsys) -> None:
    cea = Live(running[0], capsys)
    assert "--position-max" in cea("operate")
    cea("operate", "halt", "--vintage", "CEA23", "--why", "technical failure")
    assert cea.json("status")["instruments"]["CEA23"]["halted"]
    cea("operate", "resume", "--vintage", "CEA23", "--why", "cause is gone")
    assert not cea.json("status")["instruments"]["CEA23"]["halted"]
    assert "needs --account" in cea("operate", "kill", "--why", "stolen", code=Exit.USAGE)
    assert "does not take --deal" in cea("operate", "halt", "--deal", 1, "--why", "stolen", code=Exit.USAGE)
    assert "there is no act" in cea("operate", "stop", "--why", "stolen", code=Exit.USAGE)
    assert "at least 5" in cea("operate", "resume", "--vintage", "CEA23", "--why", "x", code=Exit.NO)
    cea("operate", "kill", "--account", 3, "--why", "credentials were stolen")
    back = ("operate", "reactivate", "--account", 3, "--second", "ops2", "--why", "they were replaced")
    number = cea.json(*back)["proposal"]
    assert "waits for ops2" in cea("operate", "confirm", "--proposal", number, code=Exit.NO)
    assert "confirmed and done" in cea("operate", "confirm", "--proposal", number, "-a", "ops2")
    assert "mode 0600" in cea(
        "operate", "issue-key", "--account", 3, "--key", "risk-3b", "--role", "risk", "--why", "asked"
    )
    assert "session" in cea("operate", "revoke-key", "--key", "risk-3b", "--why", "asked again")
    assert "there is no key" in cea("operate", "revoke-key", "--key", "risk-3b", "--why", "asked again", code=Exit.NO)
    copy = ("operate", "issue-key", "--account", "1,3", "--key", "copy", "--role", "drop_copy", "--why", "custodian")
    assert "copy.key" in cea(*copy)
    assert "Open orders of its accounts: 0" in cea("orders", "-a", "copy")
    assert "account" in cea("fills", "-a", "copy") and "account" not in cea("fills", "-a", 1)
    third = ("operate", "issue-key", "--key", "ops3", "--role", "operator", "--why", "a third shift")
    assert "takes two persons" in cea(*third, code=Exit.NO)
    number = cea.json(*third, "--second", "ops2")["proposal"]
    assert "ops3.key" in cea("operate", "confirm", "--proposal", number, "-a", "ops2")
    assert "session" in cea("operate", "revoke-key", "--key", "copy", "--why", "custody has ended", "-a", "ops3")
    assert "session" in cea("operate", "revoke-key", "--key", "ops3", "--why", "left the company")


def test_money_and_allowances_go_in_and_out_through_the_running_exchange(running, capsys) -> None:
    """D23, D24: each act in both books, once; what is refused says why; the check finds both books equal."""
    folder, _ = running
    cea = Live(folder, capsys)
    cea("order", "sell", "CEA24", "59.00", 10, "-a", 3)
    cea("order", "buy", "CEA24", "59.00", 10, "-a", 1)

    def told(*words: object) -> tuple[int, str]:
        capsys.readouterr()
        code = run("registry", *words, "-m", folder)
        found = capsys.readouterr()
        return code, found.out + found.err

    assert told("deposit", 2, "1,234.50", "-d", "bank-77") == (Exit.OK, "bank-77: done\n")
    assert told("deposit", 2, "1234.50", "-d", "bank-77") == (Exit.OK, "bank-77: was done before, nothing changed\n")
    assert told("transfer-out", 2, "CEA24", 500, "-d", "out-77") == (Exit.OK, "out-77: done\n")
    assert told("transfer-in", 2, "CEA24", 200, "-d", "in-77") == (Exit.OK, "in-77: done\n")
    code, text = told("transfer-out", 2, "CEA24", 99_000_000, "-d", "out-78")
    assert (code, "refused" in text) == (Exit.NO, True)
    assert told("withdraw", 2, "34.50", "-d", "w-77")[0] == Exit.UNREACHABLE, "the bank has not answered"
    assert told("withdraw", 2, "34.50", "-d", "w-77", "--paid", "ICBC-1")[0] == Exit.OK
    assert told("deposit", 2, "12.345", "-d", "bank-78")[0] == Exit.USAGE
    code, text = told("check-open")
    assert code == Exit.NO, "today's deals are not settled: the two books differ, and by whom is said"
    assert all(line.startswith("account ") for line in text.splitlines())
    capsys.readouterr()
    assert run("registry", "holdings", 2, "--db", folder, "--json") == Exit.OK
    held = {(h["asset"], h["bucket"]): h["quantity"] for h in json.loads(capsys.readouterr().out)}
    assert held["CNY", "cash"] == 20_000_000_00 + 1_234_50 - 34_50
    assert (held["CEA24", "trading"], held["CEA24", "registry"]) == (199_700, 300)


def test_two_members_negotiate_a_bulk_deal_and_the_day_ends_with_a_bulletin(running, capsys) -> None:
    folder, process = running
    cea = Live(folder, capsys)
    assert "outside bulk hours" in cea("bulk", "declare", "sell", "CEA24", "55", 120_000, "-a", 1, code=Exit.NO)
    assert cea("clock", "13:10").strip() == "20251203 13:10:00.000"
    declaration = cea.json("bulk", "declare", "sell", "CEA24", "55.00", 120_000, "-a", 1)["declaration"]
    thread = cea.json("bulk", "offer", declaration, "54.00", 120_000, "-a", 2)["thread"]
    cea("bulk", "counter", thread, "54.50", 120_000, "-a", 1)
    assert "terms" in cea("bulk", "accept", thread, "54.00", 120_000, "-a", 2, code=Exit.NO)
    cea("bulk", "accept", thread, "54.50", 120_000, "-a", 2)
    cea("bulk", "confirm", thread, "54.50", 120_000, "-a", 1)
    listed = cea("bulk", "ls", "--day", "-a", 2)
    assert "buy CEA24 120,000 t at 54.50" in listed and "dealt" in listed
    assert "time of day" in cea("clock", "25:00", code=Exit.USAGE)
    assert "not closed yet" in cea("settle", code=Exit.NO)
    dealt = cea.json("status")["instruments"]["CEA24"]["volume"]
    cea("clock", "15:00")
    words = cea("bulletin")
    assert "2025年12月3日" in words and "成交量120,000吨，成交额6,540,000.00元" in words and "120,000 t" in words
    assert cea.json("bulletin", "--date", 20251203)["day"]["bulk_volume"] == 120_000
    assert "not a closed day" in cea("bulletin", "--date", 20251202, code=Exit.NO)
    settled = cea.json("settle")
    assert settled["summary"]["quantity_t"] == 120_000 + dealt and settled["differences"] == []
    assert "20251203: " in cea("settle")  # again: nothing more happens
    assert cea("clock", "09:30").strip() == "20251204 09:30:00.000"
    (balance,) = cea.json("balances", "-a", 2)
    assert balance["holdings"]["CEA24"]["bought_today"] == 0  # T+1 has passed
    assert "not closed yet" in cea("settle", code=Exit.NO)
    assert process.stop() == 0
    assert run("verify", "journal", folder, "--json") == Exit.OK
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] and report["commands"] > 40
    assert run("verify", "journal", folder, "--expect", report["state_hash"]) == Exit.OK
    assert run("verify", "journal", folder, "--expect", "00") == Exit.NO
    assert "expected 00" in capsys.readouterr().out
    assert run("journal", "ls", folder) == run("journal", "show", folder, "--limit", 3) == Exit.OK
    assert "--after" in capsys.readouterr().out


@pytest.mark.slow
def test_a_flipped_byte_in_the_journal_is_found(idle_market, tmp_path, capsys) -> None:
    """Planted: one bit of a command on the disk."""
    import shutil

    from cea.processes import ExchangeProcess

    folder = tmp_path / "m"
    shutil.copytree(idle_market, folder)
    process = ExchangeProcess(folder)
    process.start()
    assert process.stop() == 0
    assert run("verify", "journal", folder) == Exit.OK
    segment = sorted((folder / "journal").glob("*.segment"))[0]
    data = bytearray(segment.read_bytes())
    data[640] ^= 1
    segment.write_bytes(data)
    assert run("verify", "journal", folder) == Exit.NO
    assert "FOUND" in capsys.readouterr().out
    assert run("journal", "cut", folder, tmp_path / "new", "--yes") in (Exit.OK, Exit.NO)
