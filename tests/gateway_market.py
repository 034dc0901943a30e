"""A small market in a folder, and an exchange process on it, for the gateway's tests."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from patience import PATIENCE_S

from engine import messages as m
from engine.calendar import day_start_ns
from gateway import config as cfg
from gateway.keys import NewKey
from gateway.operator import OperatorClient
from gateway.server import Server

DATE = 20251203
DAY = day_start_ns(DATE)
HOUR = 3_600_000_000_000
MORNING = DAY + int(9.75 * HOUR)
ROOT = Path(__file__).resolve().parent.parent

CONFIG = cfg.Config(
    first_date=DATE,
    instruments={"CEA23": 5976, "CEA24": 5991},
    composite=5975,
    members=tuple(cfg.Member(i, f"member {i}") for i in range(1, 6)),
)

SERVE = "import sys; from gateway.server import serve; sys.exit(serve(sys.argv[1], clock=sys.argv[2]))"


def make(folder: Path, **gateway: object) -> cfg.Market:
    """A market folder with five members, a drop copy of members 1 and 2, and a risk key of member 1."""
    config = msgspec.structs.replace(CONFIG, gateway=cfg.Gateway(**gateway))  # type: ignore[arg-type]
    extra = (NewKey("drop", "drop_copy", accounts=(1, 2)), NewKey("risk-1", "risk", 1))
    return cfg.create(folder, config, days=[20251202, DATE, 20251204, 20251205], extra_keys=extra)


class Process:
    """An exchange in a process of its own, that can be killed."""

    def __init__(self, folder: Path, clock: str = "stepped") -> None:
        self.folder, self.clock = folder, clock
        self.start()

    def start(self) -> None:
        """Starts it; clients wait by themselves until it answers."""
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        (self.folder / "log").touch()
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVE, str(self.folder), self.clock], env=env, stderr=log, stdout=log
            )

    def ready(self) -> None:
        """Waits until it answers; a first start compiles the engine."""
        assert wait_until(lambda: (e := cfg.read_endpoints(self.folder)) and e.pid == self.process.pid, 240), "no start"

    def kill(self) -> None:
        """SIGKILL: nothing is written any more."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)


@contextlib.contextmanager
def running(folder: Path, clock: str = "stepped") -> Iterator[Process]:
    """An exchange process; its log is printed where a test fails."""
    process = Process(folder, clock)
    try:
        process.ready()
        yield process
    finally:
        if process.process.poll() is None:
            process.kill()
        text = (folder / "log").read_text()
        if text:
            print(text)


@contextlib.contextmanager
def serving(market: cfg.Market) -> Iterator[Server]:
    """A server in a thread of this process, so that a test can reach into it."""
    server = Server(market, "stepped")
    server.open()
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.stopping = True
        thread.join()
        server.close()


def fund(ops: OperatorClient, members: int = 5) -> None:
    """Gives every member ten million yuan and 200,000 t of each vintage, and opens the morning."""
    for message in funding(members):
        ops.execute(message)
    ops.step_clock(MORNING)


def funding(members: int = 5) -> list[m.Deposit | m.TransferIn]:
    """The commands of :func:`fund`."""
    found: list[m.Deposit | m.TransferIn] = []
    for account in range(1, members + 1):
        found.append(m.Deposit(account=account, amount=10**9, document=f"bank-{account}"))
        for code in ("CEA23", "CEA24"):
            found.append(
                m.TransferIn(account=account, instrument=code, quantity=200_000, transfer=f"in-{code}-{account}")
            )
    return found


def wait_until(condition, seconds: float = PATIENCE_S) -> bool:
    """Polls a condition of another process."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False
