"""`cea settle --watch`: the standing settlement service on a running exchange, from a member's transfer to the open."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import gateway_market as gm
import pytest
import typer
from patience import PATIENCE_S as WAIT_S

from cea.folder import open_registry
from cea.main import command
from cea.output import Exit
from cea.processes import ExchangeProcess
from cea.replaying import load_market
from cea.settling import Service, service_key
from engine import messages as m
from gateway.client import Client
from gateway.operator import OperatorClient
from settlement import progress
from settlement.errors import accepted
from settlement.progress import Step


def run(*words: object) -> int:
    """`cea` in this process; its exit code."""
    try:
        command()(args=[str(word) for word in words], prog_name="cea", standalone_mode=False)
    except typer.Exit as ended:
        return ended.exit_code
    return 0


def key(folder: Path, name: str) -> str:
    return str(folder / "keys" / f"{name}.key")


@pytest.mark.slow
def test_a_service_follows_members_settles_the_day_and_halts_an_open_that_differs(tmp_path: Path) -> None:
    """D23, D24, R12, R13.1: everything that a person did by hand, and what only a person may decide stays open."""
    folder = tmp_path / "market"
    assert run("init", folder, "--yes", "--date", 20251203) == Exit.OK
    process = ExchangeProcess(folder)
    process.start()
    registry = open_registry(load_market(folder), hours=True)
    try:
        assert run("fund", "-m", folder) == Exit.OK
        assert run("clock", "09:35", "-m", folder) == Exit.OK
        with (
            OperatorClient(folder, key=service_key(folder)) as client,
            OperatorClient(folder, key=key(folder, "ops2")) as ops,
            Client(folder, key=key(folder, "member-1")) as one,
            Client(folder, key=key(folder, "member-2")) as two,
        ):
            service = Service(folder, registry, client)
            service.look()
            assert progress.read(folder) is None, "in the middle of trading nothing is compared"
            one.sell("CEA24", "59.50", 700)
            assert two.buy("CEA24", "59.50", 700).filled == 700
            one.execute(m.TransferOut(account=1, instrument="CEA24", quantity=1_000, transfer="T-1"))
            one.execute(m.Withdraw(account=1, amount=5_000, document="W-1"))
            cash = registry.cash(1)
            assert gm.wait_until(lambda: (service.look(), registry.balance(1, "CEA24", "registry"))[1])
            service.look()
            assert registry.balance(1, "CEA24", "registry") == 1_000
            assert ops.balance(1)["holdings"]["CEA24"]["in_transfer"] == 0
            held = {h.bucket: h for h in registry.holdings(1) if h.asset == "CNY"}["cash"]
            assert (held.quantity, held.reserved) == (cash, 5_000), "reserved until the bank has paid"
            Service(folder, registry, client).look()  # a restart hears all of the day again, and does nothing twice
            assert registry.balance(1, "CEA24", "registry") == 1_000

            assert run("clock", "15:00", "-m", folder) == Exit.OK
            service.look()
            done = progress.read(folder)
            assert done is not None
            assert (done.step, done.state, done.posted, done.deals) == (Step.DONE, "reconciled", 1, 1)
            assert done.service
            assert len(list((folder / "reports" / "statements").iterdir())) == 2
            assert ops.time()["settled"]

            assert run("clock", "08:40", "-m", folder) == Exit.OK
            service.look()
            assert progress.read(folder).step == Step.MAY_OPEN  # type: ignore[union-attr]
            accepted(registry.deposit(2, 77, "bank-err", registry_now(client)))  # planted: the exchange does not hear
            assert run("clock", "15:00", "-m", folder) == Exit.OK
            assert run("clock", "08:40", "-m", folder) == Exit.OK
            service.look()
            stopped = progress.read(folder)
            assert stopped is not None
            assert stopped.step == Step.STOPPED
            assert stopped.differences[0].startswith("account 2 CNY: registry ")
            assert ops.status()["halted"]
            assert run("registry", "adopt", "-d", "dec-1", "--by", "Li", "-m", folder) == Exit.OK
            assert run("registry", "check-open", "-m", folder) == Exit.OK
            ops.execute(m.Resume(why="adopted"))
            assert run("clock", "09:31", "-m", folder) == Exit.OK
            assert one.buy("CEA24", "59.00", 1).open
            assert one.balances()[0]["available"] >= 0
    finally:
        registry.close()
        process.stop()


def registry_now(client: OperatorClient) -> int:
    return int(client.time()["time_ns"])


def says(service: subprocess.Popen[str], words: str) -> None:
    """Reads on until the service has said it: whatever else it says before (a warning, another reason) is no matter."""
    assert service.stderr is not None
    assert any(words in line for line in service.stderr), f"{words!r} was never said"


@pytest.mark.slow
def test_a_service_that_is_killed_goes_on_and_one_that_is_told_stops(tmp_path: Path) -> None:
    """As its own process, also before the exchange is there; killed over the close, the next one settles."""
    folder = tmp_path / "market"
    assert run("init", folder, "--yes", "--date", 20251203) == Exit.OK
    words = [sys.executable, "-m", "cea.main", "settle", "--watch", "-m", str(folder)]
    service = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    process = ExchangeProcess(folder)
    try:
        says(service, "no answer, trying again")
        process.start()
        says(service, "watching")
        service.kill()
        service.wait()
        assert run("fund", "-m", folder) == Exit.OK
        assert run("clock", "09:35", "-m", folder) == Exit.OK
        with Client(folder, key=key(folder, "member-1")) as one, Client(folder, key=key(folder, "member-2")) as two:
            one.sell("CEA24", "59.50", 700)
            assert two.buy("CEA24", "59.50", 700).filled == 700
        assert run("clock", "15:00", "-m", folder) == Exit.OK
        service = subprocess.Popen(words, stderr=subprocess.DEVNULL, text=True)
        deadline = time.monotonic() + WAIT_S
        while (found := progress.read(folder)) is None or found.step != Step.DONE:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        first, service = service, subprocess.Popen(words, stderr=subprocess.DEVNULL, text=True)
        assert first.wait(WAIT_S) == Exit.CONFIG, "two services would throw each other out for ever"
        service.send_signal(signal.SIGTERM)
        assert service.wait(WAIT_S) == 0
    finally:
        service.kill()
        service.wait()
        process.stop()
