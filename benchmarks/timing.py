"""Timing of rival implementations of one job, run in turn so that both see the same machine."""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

RUNS_MIN: Final = 7  # figures are medians of at least so many runs


def positive(text: str) -> int:
    """A whole number of at least 1, as argparse's ``type``: there is no median of no run."""
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return number


class Timed(NamedTuple):
    """Seconds of each run, in order: by the clock on the wall, and of this thread's own processor time.

    On a quiet machine the two are equal. On one that others use the first includes their share; figures are of the
    first kind unless their name says `cpu`.
    """

    seconds: list[float]
    cpu_seconds: list[float]

    def rate(self, count: int) -> float:
        """Millions per second, median run."""
        return count / statistics.median(self.seconds) / 1e6

    def cpu_rate(self, count: int) -> float:
        """Millions per second of processor time, median run."""
        return count / statistics.median(self.cpu_seconds) / 1e6

    def best_rate(self, count: int) -> float:
        """Millions per second, fastest run."""
        return count / min(self.seconds) / 1e6


Job = tuple[Callable[[], Any], Callable[[Any], Any]]
"""(prepare, run): prepare() makes a fresh state outside the timing, run(state) is timed."""


def time_in_turn(jobs: Mapping[str, Job], runs: int) -> dict[str, Timed]:
    """Run every job ``runs`` times after one warm-up each (compilation, page faults), alternating between them."""
    timed = {name: Timed([], []) for name in jobs}
    for prepare, run in jobs.values():
        run(prepare())
    gc.collect()
    gc.disable()
    try:
        for _ in range(runs):
            for name, (prepare, run) in jobs.items():
                state = prepare()
                start, cpu_start = time.perf_counter(), time.thread_time()
                run(state)
                cpu_end, end = time.thread_time(), time.perf_counter()
                timed[name].seconds.append(end - start)
                timed[name].cpu_seconds.append(cpu_end - cpu_start)
                del state
    finally:
        gc.enable()
    return timed
