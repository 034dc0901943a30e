"""What the operators' room costs is told of all windows, and of all taken together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.room import BIN, KINDS, TOLD, bins, summary


def window(latencies_ns: np.ndarray) -> dict[str, Any]:
    us = {name: float(np.percentile(latencies_ns, float(name[1:-3]))) / 1_000 for name in TOLD}
    others = dict.fromkeys(("exchange_cores", "load_cores", "other_cores", "stolen_ms", "scrape_bytes"), 0)
    return {"orders_per_second": 1, "cpu_us_per_order": 1, **us, **others, "bins": bins(latencies_ns)}


def rows_of(factor: float, pauses: int) -> list[dict[str, Any]]:
    """Ten pairs, with so many times as slow as without; so many windows of each side meet a pause of 20 ms."""
    chance, found = np.random.default_rng(4), []
    for kind in KINDS:
        for n in range(10):
            sides = {}
            for side in ("with", "without"):
                latencies = chance.lognormal(13, 0.5, 4_000) * (factor if side == "with" and kind == "pair" else 1)
                paused = (n if side == "with" else 9 - n) < pauses
                sides[side] = window(np.concatenate([latencies, np.full(400 if paused else 0, 20e6)]))
            found.append({"kind": kind, **sides})
    return found


@pytest.mark.parametrize("pauses", [0, 5])
def test_all_windows_taken_together_have_what_a_pause_does_to_single_ones(pauses):
    found = summary(rows_of(1.2, pauses), "")
    for name in ("p50_us",) if pauses else TOLD[:2]:
        told = found["pair"][f"all windows, {name}"]
        assert told["from"] <= told["median"] <= told["to"] and abs(told["median"] - 1.2) < 0.03
        assert abs(found["control"][f"all windows, {name}"]["median"] - 1) < 0.03
    for name in TOLD[:2]:  # the usual window
        told = found["pair"][f"median window, {name}"]
        assert told["from"] <= told["median"] <= told["to"]
        assert pauses or (told["to"] < 1.3 and abs(told["median"] - 1.2) < 0.05)
        assert pauses or abs(found["control"][f"median window, {name}"]["median"] - 1) < 0.05
    if pauses:  # half of the windows of each side: together the same, of single pairs anything
        assert abs(found["control"]["all windows, p99_us"]["median"] - 1) < 0.03


def test_a_pause_in_few_windows_leaves_the_median_window_alone():
    told = summary(rows_of(1.2, 3), "")["pair"]["median window, p99_us"]
    assert abs(told["median"] - 1.2) < 0.1 and told["pairs"] == 10


def test_a_step_is_a_hundredth():
    latencies = np.array([500, 1_000, 1_000_000, 1_000_000 * (1 + BIN) ** 1.5], np.int64)
    steps = sorted(int(step) for step in bins(latencies))
    assert steps[0] == 0 and bins(latencies)["0"] == 2 and steps[-1] - steps[-2] in (1, 2)
