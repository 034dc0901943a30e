"""The exchange as a child process: start, wait until it is ready, kill, stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

START_S = 120.0  # a cold numba cache compiles the kernel first
STOP_S = 20.0
LOOK_S = 0.01


class NotReady(Exception):
    """The exchange did not come up; the text has the end of its log."""


def is_running(folder: Path) -> bool:
    """True while the exchange that last started on a market folder is alive."""
    from gateway.config import read_endpoints

    endpoints = read_endpoints(folder)
    if endpoints is None:
        return False
    try:
        os.kill(endpoints.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs as somebody else
        return True
    return True


class ExchangeProcess:
    """`cea serve` on a market folder, in a process of its own; its log lies in ``run/exchange.log``."""

    def __init__(self, folder: Path, clock: str = "stepped") -> None:
        self.folder, self.clock = folder, clock
        self.log = folder / "run" / "exchange.log"
        self.child: subprocess.Popen[bytes] | None = None

    def start(self, waiting: Callable[[float], None] | None = None) -> float:
        """Starts it; returns how many seconds it took until members can log in. ``waiting`` is told the seconds."""
        command = [sys.executable, "-m", "cea.main", "serve", str(self.folder), "--clock", self.clock]
        began = time.monotonic()
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.wait_ready(waiting)
        return time.monotonic() - began

    def wait_ready(self, waiting: Callable[[float], None] | None = None) -> None:
        """Returns when the child has written its endpoints; NotReady when it ends or takes too long."""
        from gateway.config import read_endpoints

        assert self.child is not None, "not started"
        began = time.monotonic()
        while True:
            elapsed = time.monotonic() - began
            if waiting is not None:
                waiting(elapsed)
            endpoints = read_endpoints(self.folder)
            if endpoints is not None and endpoints.pid == self.child.pid:
                return
            if self.child.poll() is not None or elapsed > START_S:
                raise NotReady(f"the exchange did not start (exit code {self.child.returncode}):\n{self.last_lines()}")
            time.sleep(LOOK_S)

    def kill(self) -> None:
        """SIGKILL: nothing is told, nothing is written."""
        assert self.child is not None, "not started"
        os.kill(self.child.pid, signal.SIGKILL)
        self.child.wait()

    def stop(self) -> int:
        """SIGTERM and its exit code; SIGKILL when it does not obey."""
        if self.child is None:
            return 0
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()
        return int(self.child.returncode)

    def last_lines(self, count: int = 12) -> str:
        """The end of the log."""
        try:
            return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-count:])
        except FileNotFoundError:
            return ""
