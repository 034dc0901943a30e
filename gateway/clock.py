"""Exchange time (D3): real, stepped by commands, or scaled. Heartbeats and throttles never use it."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Exchange time, ns UTC; never runs backwards as the exchange reads it (D2)."""

    def now(self) -> int: ...


class RealClock:
    """The machine's clock."""

    def now(self) -> int:
        return time.time_ns()


class SteppedClock:
    """Stands still until it is stepped."""

    def __init__(self, start_ns: int) -> None:
        self.time_ns = start_ns

    def now(self) -> int:
        return self.time_ns

    def step(self, time_ns: int) -> None:
        """Forward only: the caller refuses anything else."""
        assert time_ns >= self.time_ns, "exchange time never runs backwards"
        self.time_ns = time_ns


class ScaledClock:
    """Runs ``factor`` times as fast as the machine's, from a given start."""

    def __init__(self, start_ns: int, factor: int) -> None:
        self._start_ns, self._factor = start_ns, factor
        self._began = time.monotonic_ns()

    def now(self) -> int:
        return self._start_ns + (time.monotonic_ns() - self._began) * self._factor


def make_clock(text: str, start_ns: int) -> RealClock | SteppedClock | ScaledClock:
    """``real``, ``stepped`` or ``scaled:N``; ValueError names the text."""
    if text == "real":
        return RealClock()
    if text == "stepped":
        return SteppedClock(start_ns)
    kind, _, factor = text.partition(":")
    if kind == "scaled" and factor.isascii() and factor.isdigit() and 1 <= int(factor) <= 1_000_000:
        return ScaledClock(start_ns, int(factor))
    raise ValueError(f"clock {text!r}: expected real, stepped or scaled:N with N in 1 … 1000000")
