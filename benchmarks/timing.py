"""Timing of rival implementations of one job, run in turn so that both see the same machine."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

RUNS_MIN: Final = 7  # figures are medians of at least so many runs


class Timed(NamedTuple):
    """Seconds of each run, in order."""

    seconds: list[float]

    def rate(self, count: int) -> float:
        """Millions per second, median run."""
        return count / statistics.median(self.seconds) / 1e6

    def best_rate(self, count: int) -> float:
        """Millions per second, fastest run."""
        return count / min(self.seconds) / 1e6


Job = tuple[Callable[[], Any], Callable[[Any], Any]]
"""(prepare, run): prepare() makes a fresh state outside the timing, run(state) is timed."""


def time_in_turn(jobs: Mapping[str, Job], runs: int) -> dict[str, Timed]:
    """Run every job ``runs`` times after one warm-up each (compilation, page faults), alternating between them."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for prepare, run in jobs.values():
        run(prepare())
    gc.collect()
    gc.disable()
    try:
        for _ in range(runs):
            for name, (prepare, run) in jobs.items():
                state = prepare()
                start = time.perf_counter()
                run(state)
                seconds[name].append(time.perf_counter() - start)
                del state
    finally:
        gc.enable()
    return {name: Timed(values) for name, values in seconds.items()}
