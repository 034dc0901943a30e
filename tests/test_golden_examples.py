"""The rulebook's golden examples (real published figures, with their dates), computed by the engine's arithmetic."""

from __future__ import annotations

import pytest

from engine.calendar import TradingCalendar, day_start_ns, parse_clock, trading_date
from engine.prices import (
    change_bp,
    closing_price,
    composite_price,
    format_change,
    format_price,
    parse_price,
    price_limits,
)
from engine.rules import Rules, in_force


def test_e1_the_first_day_of_the_market() -> None:
    """2021-07-16: R6.2 limits, R6.4 close, R6.6 change."""
    assert price_limits(4_800, 1_000) == (4_320, 5_280)
    assert closing_price(21_023_005_325, 4_103_953, 4_800) == 5_123
    assert format_change(change_bp(5_123, 4_800)) == "6.73%"


def test_e2_a_bulk_deal_stays_out_of_the_close() -> None:
    """2021-07-21: R6.1 both bands, R6.4."""
    assert price_limits(5_328, 1_000) == (4_795, 5_861)
    assert price_limits(5_328, 3_000) == (3_730, 6_926)
    assert closing_price(609_283_000, 112_000, 5_328) == 5_440
    with_the_bulk_deal = closing_price(609_283_000 + 5_292 * 100_000, 212_000, 5_328)
    assert with_the_bulk_deal != 5_440  # planted: a close that counts it is another one


@pytest.mark.parametrize(
    ("amount", "quantity", "close"),
    [(12_223_000, 2_000, 6_112), (41_870_000, 4_000, 10_468), (1_192_019_000, 142_000, 8_395)],
)
def test_e3_ties_round_up(amount, quantity, close) -> None:
    """2023-07-26, 2024-11-04, 2026-05-14."""
    assert closing_price(amount, quantity, 1) == close
    assert amount // quantity == close - 1  # planted: rounding down gives another price


def test_e4_a_limit_at_a_tie() -> None:
    """2024-04-23: 99.275 → 99.28, which was dealt at."""
    assert price_limits(9_025, 1_000)[1] == 9_928


def test_e5_a_bulk_deal_at_limit_down() -> None:
    """2023-11-01: 55.104 → 55.10."""
    assert price_limits(7_872, 3_000)[0] == 5_510
    assert 5_510 * 292_144 == 1_609_713_440


def test_e6_the_composite_of_2025_12_03() -> None:
    assert composite_price([6_089, 5_944, 5_950, 5_976, 5_991], [1] * 5) == 5_990
    assert composite_price([6_089, 5_944, 5_849, 5_998, 5_996], [1] * 5) == 5_975
    assert composite_price([6_089, 5_944, 5_849, 5_998, 5_950], [1] * 5) == 5_966
    assert format_change(change_bp(5_990, 5_975)) == "0.25%"


def test_e7_the_composite_of_2026_08_14_is_the_new_vintage() -> None:
    weights = in_force(Rules.national().weights, 20260814).weights
    assert weights == {"CEA25": 1}
    assert closing_price(2_201_743_800, 224_197, 9_815) == 9_821 == composite_price([9_821], [1])
    assert format_change(change_bp(9_821, 9_815)) == "0.06%"


def test_e8_a_day_without_a_deal_carries_the_close_on() -> None:
    assert closing_price(0, 0, 10_425) == 10_425


def test_changes_round_half_away_from_zero() -> None:
    """D19: −3.125 % → −3.13 %."""
    assert (
        change_bp(9_688, 10_000) == -312 and change_bp(96_875, 100_000) == -313 and change_bp(103_125, 100_000) == 313
    )


@pytest.mark.parametrize(
    ("date", "sample"),
    [
        (20230827, 1),
        (20230828, 3),
        (20241027, 3),
        (20241028, 4),
        (20250428, 4),
        (20250429, 5),
        (20260104, 5),
        (20260105, 1),
    ],
)
def test_weights_change_on_their_dates(date, sample) -> None:
    """R7.2."""
    weights = in_force(Rules.national().weights, date).weights
    assert len(weights) == sample and set(weights.values()) == {1}


def test_the_hours_are_shanghais_and_the_date_is_too() -> None:
    """R3.2, D2: 2025-12-03 00:00 in Shanghai is 16:00 UTC of the day before."""
    start = day_start_ns(20251203)
    assert start == 1_764_691_200 * 10**9
    assert trading_date(start) == 20251203 and trading_date(start - 1) == 20251202
    boundaries = Rules.national().boundaries_ns(20251203)
    assert boundaries == tuple(start + parse_clock(t) for t in ("09:30", "11:30", "13:00", "15:00"))


def test_a_holiday_and_a_make_up_saturday_are_no_trading_days() -> None:
    """R3.1: 2025-10-01 is a holiday, Saturday 2025-10-11 a make-up working day."""
    calendar = TradingCalendar.shanghai(20250901, 20251231)
    assert not calendar.is_trading_day(20251001) and not calendar.is_trading_day(20251011)
    assert calendar.next_day(20250930) == 20251009
    with pytest.raises(ValueError, match="calendar ends"):
        calendar.is_trading_day(20300101)


def test_every_published_trading_day_is_one_of_the_calendar(shared_data) -> None:
    from replay.figures import read_daily_file

    published = [d.date for d in read_daily_file(shared_data / "cea" / "cea_daily_2021-2025.csv")]
    assert TradingCalendar.shanghai(20210716, 20251231).days == published


@pytest.mark.parametrize("text", ["59.5", "59.50", "0.01", "60", "59.500"])
def test_prices_are_read_exactly(text) -> None:
    assert float(format_price(parse_price(text))) == float(text)


@pytest.mark.parametrize("text", ["", ".", "59.", ".5", "59.505", "-1", "1e3", "59,5", "５９", "nan", "9" * 18])
def test_what_is_no_price_is_refused_by_name(text) -> None:
    with pytest.raises(ValueError, match="price"):
        parse_price(text)
