"""The order of a day's deals: the composite's open, high and low result (R7.3, R7.4)."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from engine.rules import Rules, in_force
from replay.figures import DayFigures, read_daily_file
from replay.interleave import NoOrder, composite_path, order_deals

PIECES = {"CEA22": 12, "CEA23": 60, "CEA24": 140}


def weights_of(date: int) -> dict[str, int]:
    return in_force(Rules.national().weights, date).weights


@pytest.fixture(scope="module")
def day(repository: Path) -> DayFigures:
    return msgspec.toml.decode((repository / "cea" / "day_20251203.toml").read_bytes(), type=DayFigures)


def assert_gives(sequence, day: DayFigures) -> None:
    """Every published figure of the day results from the sequence."""
    c, path = day.composite, composite_path(sequence, day, weights_of(day.date))
    assert (path[0], max(path), min(path)) == (c.open, c.high, c.low)
    for v in day.vintages:
        own = [d for d in sequence if d.code == v.code]
        assert sum(d.quantity for d in own) == v.listed_volume
        assert sum(d.quantity * d.price for d in own) == v.listed_amount
        if own:
            assert (own[0].price, max(d.price for d in own), min(d.price for d in own)) == (v.open, v.high, v.low)


@pytest.mark.parametrize("seed", range(8))
def test_the_composite_of_2025_12_03_results_with_every_seed(day, seed) -> None:
    sequence = order_deals(day, weights_of(day.date), pieces=PIECES, seed=seed)
    assert_gives(sequence, day)
    assert sequence[0].code == "CEA24" and sequence[0].price == 5950  # E6
    assert sequence == order_deals(day, weights_of(day.date), pieces=PIECES, seed=seed)


def test_a_composite_that_cannot_result_is_refused(day) -> None:
    impossible = msgspec.structs.replace(day, composite=msgspec.structs.replace(day.composite, high=7000, low=6900))
    with pytest.raises(NoOrder):
        order_deals(impossible, weights_of(day.date), pieces=PIECES)


def test_a_stale_weight_turns_the_check_red(day) -> None:
    """Planted: the weights of before 2023-08-28, when only CEA counted (D31)."""
    sequence = order_deals(day, weights_of(day.date), pieces=PIECES)
    path = composite_path(sequence, day, weights_of(20230101))
    assert (path[0], max(path), min(path)) != (day.composite.open, day.composite.high, day.composite.low)


def test_nearly_all_days_of_the_daily_file_find_an_order(shared_data) -> None:
    found = missed = 0
    for day in read_daily_file(shared_data / "cea" / "cea_daily_2021-2025.csv"):
        if not any(v.listed_volume for v in day.vintages):
            continue
        try:
            assert_gives(order_deals(day, weights_of(day.date), pieces={}), day)
            found += 1
        except NoOrder:
            missed += 1
    assert found >= 1_040 and found + missed == 1_069


def test_the_figures_of_the_day_are_those_of_the_daily_file(shared_data, day) -> None:
    published = read_daily_file(shared_data / "cea" / "cea_daily_2021-2025.csv")
    (row,) = [d for d in published if d.date == day.date]
    assert row.vintages == day.vintages and row.composite == day.composite
