"""Deals from published figures: exact on made-up edges and on every vintage-day of the daily file."""

from __future__ import annotations

import pytest

from replay.deals import DEAL_MAX_T, NoDeals, solve_deals
from replay.figures import parse_hundredths, parse_tonnes, read_daily_file
from replay.pseudo_random import PseudoRandom


def assert_gives(deals, opening, high, low, volume, amount, tick=1) -> None:
    """The deals have exactly these figures."""
    prices = [p for p, _ in deals]
    assert prices[0] == opening and max(prices) == high and min(prices) == low
    assert all(p % tick == 0 for p in prices) and all(1 <= q <= DEAL_MAX_T for _, q in deals)
    assert sum(q for _, q in deals) == volume
    assert sum(p * q for p, q in deals) == amount


@pytest.mark.parametrize("pieces", [0, 7, 200])
@pytest.mark.parametrize(
    "figures",
    [
        (5950, 5950, 5950, 1, 5950),
        (5950, 5950, 5950, 465_181, 5950 * 465_181),
        (5950, 6000, 5900, 3, 5950 + 6000 + 5900),
        (5950, 6050, 5950, 465_181, 2_786_854_210),
        (6000, 6000, 5900, 250_000, 5900 * 249_999 + 6000),
    ],
)
def test_the_figures_result_exactly(figures, pieces) -> None:
    assert_gives(solve_deals(*figures, pieces=pieces, seed=5), *figures)


def test_prices_asked_for_are_dealt_at() -> None:
    deals = solve_deals(5950, 6050, 5950, 465_181, 2_786_854_210, through=(6012, 5999), pieces=50)
    assert [p for p, _ in deals[:3]] == [5950, 6012, 5999]
    assert_gives(deals, 5950, 6050, 5950, 465_181, 2_786_854_210)


def test_a_coarse_tick_is_kept() -> None:
    assert_gives(solve_deals(500, 600, 500, 100, 55_000, 50, pieces=20), 500, 600, 500, 100, 55_000, 50)


def test_equal_seeds_give_equal_deals_and_other_seeds_others() -> None:
    make = lambda seed: solve_deals(5950, 6050, 5950, 465_181, 2_786_854_210, pieces=80, seed=seed)  # noqa: E731
    assert make(1) == make(1) != make(2)


@pytest.mark.parametrize(
    ("figures", "names"),
    [
        ((5950, 6000, 5900, 2, 11_950), "volume 2"),
        ((6001, 6000, 5900, 9, 53_500), "open 6001"),
        ((5950, 6000, 5900, 10, 10 * 6000), "amount 60000"),
        ((5950, 6000, 5900, 10, 10 * 5900), "amount 59000"),
        ((5950, 5950, 5950, 1, 5951), "amount 5951"),
    ],
)
def test_figures_that_contradict_each_other_are_refused_by_name(figures, names) -> None:
    with pytest.raises(NoDeals, match=names):
        solve_deals(*figures)


def test_what_is_possible_is_found_whenever_brute_force_finds_it() -> None:
    """All days of up to 5 t over 4 prices: solvable exactly when some deals have these figures."""
    import itertools

    possible = set()
    for count in range(1, 6):
        for prices in itertools.product(range(1, 5), repeat=count):
            possible.add((prices[0], max(prices), min(prices), count, sum(prices)))
    for high, low in itertools.product(range(1, 5), repeat=2):
        for opening, volume, amount in itertools.product(range(low, high + 1), range(1, 6), range(1, 21)):
            figures = (opening, high, low, volume, amount)
            if figures in possible:
                assert_gives(solve_deals(*figures, pieces=3), *figures)
            else:
                with pytest.raises(NoDeals):
                    solve_deals(*figures)


def test_every_vintage_day_of_the_daily_file_has_deals(shared_data) -> None:
    days = read_daily_file(shared_data / "cea" / "cea_daily_2021-2025.csv")
    solved = 0
    for day in days:
        for v in day.vintages:
            if v.listed_volume:
                figures = (v.open, v.high, v.low, v.listed_volume, v.listed_amount)
                assert_gives(solve_deals(*figures, pieces=12, seed=day.date), *figures)
                solved += 1
    assert (len(days), solved) == (1_083, 1_869)


def test_a_planted_wrong_amount_is_noticed() -> None:
    with pytest.raises(AssertionError):
        assert_gives([(5950, 2), (6000, 1)], 5950, 6000, 5950, 3, 17_901)


def test_published_numbers_are_read_exactly() -> None:
    assert parse_hundredths("27868542.1") == 2_786_854_210 and parse_hundredths("") == 0
    assert parse_tonnes("465181.0") == 465_181
    for bad in ("1.005", "x", "-1.0"):
        with pytest.raises(ValueError, match="figure"):
            parse_hundredths(bad)
    with pytest.raises(ValueError, match="whole tonnes"):
        parse_tonnes("1.5")


def test_the_generator_is_splitmix64() -> None:
    # first outputs for seed 1234567, as printed by the reference implementation
    chance = PseudoRandom(1234567)
    assert [chance.bits() for _ in range(3)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert sorted(PseudoRandom(3).shuffled(range(50))) == list(range(50))
