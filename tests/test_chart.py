"""The picture of the day: it is a PNG with ink where deals were; Chinese only where a font can write it (D35)."""

from __future__ import annotations

from pathlib import Path

import pytest

import replay.chart as chart
from engine.bulletin import OpeningTotals, Totals, make_bulletin
from engine.calendar import NS_PER_SECOND
from engine.messages import DayClosed, VintageClose
from engine.rules import Rules

DATE = 20251203
HOURS = Rules.national().boundaries_ns(DATE)
MINUTE = 60 * NS_PER_SECOND


def bulletin(*vintages: VintageClose):
    day = DayClosed(
        date=DATE,
        composite_open=5966,
        composite_high=6013,
        composite_low=5956,
        composite_close=5990,
        composite_previous=5975,
        composite_change_bp=25,
        vintages=vintages,
        lapsed_orders=0,
    )
    return make_bulletin(day, OpeningTotals(until=20251202, year=Totals(), launch=Totals()))


TRADED = VintageClose("CEA24", 5950, 6050, 5950, 5991, 5996, -8, 465_181, 2_786_854_210, 9, 0, 0, 0, 0, 5396, 6596)
IDLE = VintageClose("CEA21", 5944, 0, 0, 5944, 5944, 0, 0, 0, 0, 0, 0, 0, 0, 5350, 6538)


def pixels(path: Path):
    from matplotlib import image

    return image.imread(path)


def test_a_day_with_deals_is_drawn_with_more_ink_than_one_without(tmp_path) -> None:
    deals = {"CEA24": [(HOURS[0] + n * 2 * MINUTE, 5950 + n, 400) for n in range(100)]}
    full = pixels(chart.draw_day(tmp_path / "a.png", bulletin(TRADED), deals, HOURS))
    bare = pixels(chart.draw_day(tmp_path / "b.png", bulletin(TRADED), {}, HOURS))
    assert full.shape == bare.shape and full.shape[1] == 1430
    assert (full[..., 0] < 0.6).sum() > 1.1 * (bare[..., 0] < 0.6).sum()


def test_vintages_without_a_deal_are_drawn_only_when_nothing_was_traded(tmp_path) -> None:
    one = pixels(chart.draw_day(tmp_path / "a.png", bulletin(IDLE, TRADED), {}, HOURS))
    two = pixels(chart.draw_day(tmp_path / "b.png", bulletin(IDLE, IDLE), {}, HOURS))
    assert one.shape[0] < two.shape[0]


def test_without_a_chinese_font_the_picture_is_english_and_says_how_to_get_one(tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(chart, "cjk_font", lambda: None)
    assert chart._title(bulletin(TRADED), chinese=False).isascii()
    chart.draw_day(tmp_path / "a.png", bulletin(TRADED), {}, HOURS)
    assert "apt install" in caplog.text


@pytest.mark.parametrize(
    ("after_open", "minutes"),
    [(-5, 0), (0, 0), (30, 30), (120, 120), (150, 120), (210, 120), (211, 121), (330, 240), (400, 240)],
)
def test_the_break_takes_no_room_on_the_axis(after_open, minutes) -> None:
    assert chart.trading_minutes(HOURS[0] + after_open * MINUTE, HOURS) == minutes
