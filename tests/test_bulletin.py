"""The bulletin (R11) on the golden figures of two days (E6, E7) and on its edges."""

from __future__ import annotations

import msgspec
import pytest

from engine import messages as msg
from engine.bulletin import (
    COLUMNS,
    OpeningTotals,
    Totals,
    make_bulletin,
    sentences_en,
    sentences_zh,
    table_rows,
    totals_after,
)
from engine.messages import DayClosed, VintageClose
from engine.prices import change_bp

NOTHING = OpeningTotals(until=20251202, year=Totals(), launch=Totals())


def vintage(
    code: str, prices: tuple[int, int, int, int, int], listed=(0, 0), bulk=(0, 0), auction=(0, 0)
) -> VintageClose:
    opening, high, low, close, previous = prices
    return VintageClose(
        code, opening, high, low, close, previous, change_bp(close, previous), *listed, 1, *bulk, *auction, 1, 1 << 30
    )


def closed_day(date: int, composite: tuple[int, int, int, int, int], *vintages: VintageClose) -> DayClosed:
    opening, high, low, close, previous = composite
    return DayClosed(
        date=date,
        composite_open=opening,
        composite_high=high,
        composite_low=low,
        composite_close=close,
        composite_previous=previous,
        composite_change_bp=change_bp(close, previous),
        vintages=vintages,
        lapsed_orders=0,
    )


def day_e6() -> DayClosed:
    """2025-12-03 (E6), published figures of the five vintages."""
    return closed_day(
        20251203,
        (5966, 6013, 5956, 5990, 5975),
        vintage("CEA", (6089, 0, 0, 6089, 6089)),
        vintage("CEA21", (5944, 0, 0, 5944, 5944)),
        vintage("CEA22", (5900, 6000, 5900, 5950, 5849), (10_000, 59_500_000)),
        vintage("CEA23", (5950, 6000, 5850, 5976, 5998), (164_075, 980_450_000)),
        vintage("CEA24", (5950, 6050, 5950, 5991, 5996), (465_181, 2_786_854_210), (226_790, 1_247_250_000)),
    )


def test_the_bulletin_of_2025_12_03_has_the_published_figures() -> None:
    before = OpeningTotals(
        until=20251202, year=Totals(listed_volume=5, listed_amount=500), launch=Totals(bulk_volume=7)
    )
    b = make_bulletin(day_e6(), before)
    assert (b.day.listed_volume, b.day.listed_amount) == (639_256, 3_826_804_210)
    assert (b.day.bulk_volume, b.day.bulk_amount) == (226_790, 1_247_250_000)
    assert (b.year.volume, b.year.listed_amount) == (639_256 + 226_790 + 5, 3_826_804_210 + 500)
    assert b.launch.volume == 639_256 + 226_790 + 7
    zh = sentences_zh(b)
    assert zh[0] == (
        "2025年12月3日，全国碳市场综合价格行情为：开盘价59.66元/吨，最高价60.13元/吨，最低价59.56元/吨，"
        "收盘价59.90元/吨，收盘价较前一日上涨0.25%。"
    )
    assert zh[1] == (
        "今日挂牌协议交易成交量639,256吨，成交额38,268,042.10元；"
        "大宗协议交易成交量226,790吨，成交额12,472,500.00元；今日无单向竞价。"
    )
    assert zh[2] == "今日全国碳排放配额总成交量866,046吨，成交额50,740,542.10元。"
    assert zh[3].startswith("2025年1月1日至12月3日，") and "866,051吨" in zh[3]
    assert zh[4].startswith("截至2025年12月3日，") and "866,053吨" in zh[4]
    en = sentences_en(b)
    assert (
        en[0]
        == "2025-12-03: composite open 59.66, high 60.13, low 59.56, close 59.90 CNY/t, up 0.25% on the day before."
    )
    assert "no one-way auction today" in en[1]


def test_the_bulletin_of_2026_08_14_has_the_published_figures() -> None:
    day = closed_day(
        20260814,
        (9880, 9880, 9800, 9821, 9815),
        vintage("CEA25", (9880, 9880, 9800, 9821, 9815), (224_197, 2_201_743_800), (500_000, 4_694_500_000)),
    )
    b = make_bulletin(day, OpeningTotals(until=20260813, year=Totals(), launch=Totals()))
    assert sentences_zh(b)[0].endswith("收盘价98.21元/吨，收盘价较前一日上涨0.06%。")
    assert "224,197吨，成交额22,017,438.00元" in sentences_zh(b)[1]
    assert "500,000 t, 46,945,000.00 CNY" in sentences_en(b)[1]


def test_a_fall_is_told_without_a_sign_and_no_change_in_words() -> None:
    down = make_bulletin(closed_day(20251203, (100, 100, 90, 95, 100)), NOTHING)
    assert "较前一日下跌5.00%" in sentences_zh(down)[0] and "down 5.00%" in sentences_en(down)[0]
    flat = make_bulletin(closed_day(20251203, (100, 100, 100, 100, 100)), NOTHING)
    assert "与前一日持平" in sentences_zh(flat)[0] and "unchanged" in sentences_en(flat)[0]


def test_an_auction_is_told_with_its_figures() -> None:
    day = closed_day(20251203, (1, 1, 1, 1, 1), vintage("CEA24", (1, 1, 1, 1, 1), auction=(100_000, 745_000_000)))
    b = make_bulletin(day, NOTHING)
    assert "今日单向竞价成交量100,000吨，成交额7,450,000.00元。" in sentences_zh(b)[1]
    assert b.day.volume == 100_000


def test_the_year_starts_anew_but_the_total_since_launch_goes_on() -> None:
    before = OpeningTotals(until=20251231, year=Totals(listed_volume=9), launch=Totals(listed_volume=90))
    b = make_bulletin(closed_day(20260105, (1, 1, 1, 1, 1), vintage("CEA25", (1, 1, 1, 1, 1), (3, 300))), before)
    assert (b.year.volume, b.launch.volume) == (3, 93)
    assert totals_after(b) == OpeningTotals(until=20260105, year=b.year, launch=b.launch)


def test_totals_that_already_include_the_day_are_refused() -> None:
    with pytest.raises(ValueError, match="20251203"):
        make_bulletin(day_e6(), OpeningTotals(until=20251203, year=Totals(), launch=Totals()))


def test_the_table_has_a_row_per_vintage_and_the_composite_and_no_high_without_a_deal() -> None:
    rows = table_rows(make_bulletin(day_e6(), NOTHING))
    assert [r[0] for r in rows] == ["CEA", "CEA21", "CEA22", "CEA23", "CEA24", "COMCEA"]
    assert all(len(r) == len(COLUMNS) for r in rows)
    assert rows[0][:6] == ("CEA", "60.89", "-", "-", "60.89", "0.00%")
    assert rows[4][1:6] == ("59.50", "60.50", "59.50", "59.91", "-0.08%")
    assert rows[5] == (
        *("COMCEA", "59.66", "60.13", "59.56", "59.90", "0.25%"),
        *("639,256", "38,268,042.10", "226,790", "12,472,500.00", "0", "0.00"),
    )


def test_a_bulletin_survives_its_encoding() -> None:
    b = make_bulletin(day_e6(), NOTHING, version=2)
    assert msgspec.json.decode(msgspec.json.encode(b), type=type(b)) == b


def test_a_correction_says_its_version_and_reason_first() -> None:
    b = make_bulletin(day_e6(), NOTHING, 2, "deal 7 was cancelled")
    assert sentences_en(b)[0] == "Correction, version 2: deal 7 was cancelled"
    assert sentences_zh(b)[0] == "更正（第2版）：deal 7 was cancelled"
    assert sentences_en(b)[1:] == sentences_en(make_bulletin(day_e6(), NOTHING))


def test_a_corrected_bulletin_has_the_deals_that_still_stand_and_changes_nothing_else() -> None:
    from gateway.surveillance.scenarios import Stage, clock

    stage = Stage(1, lambda events, payloads: None)
    stage.at(clock("10:00"))
    for price, quantity in ((6_000, 10), (6_100, 30)):
        stage.order(1, 1, price, quantity)
        stage.order(2, 0, price, quantity)
    assert stage.say(msg.CorrectBulletin(why="too early")) == {}
    stage.at(clock("15:00"))
    stage.say(msg.CloseDay())
    (first,) = [n for n in stage.notices if isinstance(n, DayClosed)]
    assert first.vintages[0].close == 6_075
    assert stage.say(msg.CancelDeal(number=2, by="a", second="b", why="mistake"))
    before = stage.exchange.state_hash()
    assert stage.say(msg.CorrectBulletin(why="deal 2 was cancelled"))
    why, second, _ = stage.notices
    assert (why.what, why.text) == ("bulletin_correction", "deal 2 was cancelled")
    assert (second.vintages[0].close, second.vintages[0].volume, second.date) == (6_000, 10, first.date)
    stage.exchange.check()
    assert stage.exchange.state_hash() != before  # its place in the sequence
    assert second.composite_close == 6_000 != first.composite_close
