"""What the operators' room costs is told of all windows, and of all taken together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.room import BIN, KINDS, TOLD, bins, summary, told_of


def window(latencies_ns: np.ndarray) -> dict[str, Any]:
    rate = len(latencies_ns)  # one second: four quarters
    others = dict.fromkeys(("exchange_cores", "load_cores", "other_cores", "stolen_ms", "scrape_bytes"), 0)
    return {"orders_per_second": 1, "cpu_us_per_order": 1, **others, **told_of(latencies_ns, rate)}


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
    if pauses:  # half of the windows of each side: together the same, of single pairs anything
        assert abs(found["control"]["all windows, p99_us"]["median"] - 1) < 0.03


@pytest.mark.parametrize("pauses", [0, 5, 9])
def test_the_usual_quarter_of_a_second_does_not_know_of_pauses(pauses):
    """Nine of ten windows with a pause each, in one of their quarters."""
    found = summary(rows_of(1.2, pauses), "")
    for kind, factor in zip(KINDS, (1.2, 1), strict=True):
        for name in TOLD[:2]:
            told = found[kind][f"usual quarter, {name}"]
            assert told["from"] <= told["median"] <= told["to"] and abs(told["median"] - factor) < 0.05
            assert told["pairs"] == 10 and told["us"][0] > 0


def test_a_step_is_a_hundredth():
    latencies = np.array([500, 1_000, 1_000_000, 1_000_000 * (1 + BIN) ** 1.5], np.int64)
    steps = sorted(int(step) for step in bins(latencies))
    assert steps[0] == 0 and bins(latencies)["0"] == 2 and steps[-1] - steps[-2] in (1, 2)
