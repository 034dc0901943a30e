"""Historical days through the engine: every published figure comes out, and planted errors turn the run red (D31)."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

import engine.market
from engine.market import Market
from engine.prices import composite_price, divide_half_up
from engine.rules import Rules, Weights
from replay.bulk_deals import solve_bulk
from replay.commands import app
from replay.days import LAUNCH, limits_by_decimal, replay_days
from replay.deals import NoDeals
from replay.source_files import SourceError

COLUMNS = (
    "trade_date,subject_code,open,high,low,close,prev_close,change_cny,change_rate,listed_volume_t,listed_amount_cny,"
    "bulk_volume_t,bulk_amount_cny,auction_volume_t,auction_amount_cny"
)


@pytest.fixture
def daily(shared_data: Path) -> Path:
    return shared_data / "cea" / "cea_daily_2021-2025.csv"


@pytest.mark.parametrize(
    ("first", "last", "days"),
    [
        (20210716, 20210730, 11),  # E1, E2: the first fortnight, starts from 48.00
        (20230821, 20230905, 12),  # two new vintages (R6.5), the composite's weights change
        (20240415, 20240430, 12),  # E4: a high that touches a limit made by a tie
        (20241018, 20241106, 14),  # CEA23 is new and stands for days without a deal (E8)
        (20241224, 20250116, 17),  # D32: 97.80 for 97.805, and an open of 0.00
        (20250926, 20251017, 10),  # D32: a blank row
        (20251030, 20251104, 4),  # two one-way auctions (R10)
        (20251127, 20251205, 7),  # E6
    ],
)
def test_every_published_figure_comes_out_of_the_engine(daily, first, last, days) -> None:
    r = replay_days(daily, first, last)
    assert r.ok and r.mismatches == [] and r.limit_violations == 0
    assert (r.days, r.first, r.last) == (days, first, last)
    assert r.closes_matched == r.limits_matched == r.vintage_days > 0
    assert r.auctions == (2 if first == 20251030 else 0)
    assert r.bulk_unsolved == [] and r.listed_deals > 3 * r.vintage_days_with_deals


@pytest.mark.slow
def test_all_days_of_the_file_come_out_but_four_exempt_fields(daily) -> None:
    r = replay_days(daily)
    assert (r.days, r.vintage_days, r.vintage_days_with_deals, r.auctions) == (1_083, 2_678, 1_869, 6)
    assert r.ok and r.closes_matched == r.limits_matched == 2_678
    assert [(f.date, f.field) for f in r.exempt] == [
        (20230828, "change"),
        (20241226, "close"),
        (20250114, "open"),
        (20251013, "row"),
    ]
    assert r.composites_matched == 1_080  # the other three: exempt open, exempt close, blank row
    assert r.ranges_matched == 1_082 and r.ranges_unsolved == []  # all but the blank row


def test_the_exempt_fields_are_reported_and_are_no_mismatches(daily) -> None:
    r = replay_days(daily, 20241225, 20241227)
    assert [(f.date, f.code, f.field) for f in r.exempt] == [(20241226, "COMCEA", "close")]
    assert r.composites_matched == 2 and r.ok


def test_a_close_that_counts_a_bulk_deal_turns_the_run_red(daily, monkeypatch) -> None:
    real = Market.settle_deal

    def planted(self, method, instrument, price, quantity, *args, **more):
        self.instruments[instrument]["volume"] += quantity
        self.instruments[instrument]["amount"] += price * quantity
        return real(self, method, instrument, price, quantity, *args, **more)

    assert replay_days(daily, 20210719, 20210721).ok
    monkeypatch.setattr(Market, "settle_deal", planted)
    r = replay_days(daily, 20210719, 20210721)
    assert not r.ok and {"close", "change"} <= {f.field for f in r.mismatches if f.date == 20210721}


def test_a_limit_rounded_down_at_a_tie_turns_the_run_red(daily, monkeypatch) -> None:
    def planted(reference, limit_bp, tick=1):
        return reference * (10_000 - limit_bp) // 10_000, reference * (10_000 + limit_bp) // 10_000

    monkeypatch.setattr(engine.market, "price_limits", planted)
    r = replay_days(daily, 20240423, 20240423)
    assert r.limit_violations == 1
    assert {"order", "limits", "high"} <= {f.field for f in r.mismatches}
    assert any("above the day's upper limit" in f.reason for f in r.mismatches)


def test_a_stale_weight_turns_the_run_red(daily) -> None:
    national = Rules.national()
    stale = [w for w in national.weights if w.from_date != 20241028]
    r = replay_days(daily, 20241028, 20241030, rules=msgspec.structs.replace(national, weights=tuple(stale)))
    assert not r.ok and {f.code for f in r.mismatches} == {"COMCEA"}


def test_a_close_that_is_carried_wrongly_shows_on_the_next_day(daily, monkeypatch) -> None:
    real = Market.set_reference
    monkeypatch.setattr(Market, "set_reference", lambda self, i, reference, date: real(self, i, reference + 1, date))
    r = replay_days(daily, 20251202, 20251203)
    assert not r.ok and "previous" in {f.field for f in r.mismatches}


def test_a_published_figure_that_is_off_by_a_fen_is_named(daily, tmp_path) -> None:
    text = daily.read_text(encoding="utf-8-sig")
    line = next(ln for ln in text.splitlines() if ln.startswith("2021-07-20,CEA,"))
    fields = line.split(",")
    fields[5] = f"{float(fields[5]) + 0.01:.2f}"
    changed = tmp_path / "changed.csv"
    changed.write_text(text.replace(line, ",".join(fields)))
    r = replay_days(changed, LAUNCH, 20210720)
    assert [(f.date, f.code, f.field) for f in r.mismatches] == [(20210720, "CEA", "close")]
    assert r.closes_matched == r.vintage_days - 1


@pytest.mark.parametrize(
    ("code", "field", "figure", "named"),
    [
        ("COMCEA", "high", "99.00", "high"),
        ("COMCEA", "low", "40.00", "low"),
        ("COMCEA", "open", "59.67", "open"),
        ("COMCEA", "close", "59.91", "close"),
        ("CEA24", "bulk_amount_cny", "999999999.0", "bulk"),
        ("CEA24", "change_rate", "-0.09%", "change"),
        ("CEA24", "prev_close", "59.90", "previous"),
    ],
)
def test_a_wrong_figure_of_a_day_is_a_mismatch_with_its_name(daily, tmp_path, code, field, figure, named) -> None:
    text = daily.read_text(encoding="utf-8-sig")
    line = next(ln for ln in text.splitlines() if ln.startswith(f"2025-12-03,{code},"))
    fields = line.split(",")
    fields[COLUMNS.split(",").index(field)] = figure
    changed = tmp_path / "changed.csv"
    changed.write_text(text.replace(line, ",".join(fields)))
    r = replay_days(changed, 20251203, 20251203)
    if field == "prev_close":  # the first day's is believed, and its consequences are not
        assert not r.ok and (20251203, code, "change") in {(f.date, f.code, f.field) for f in r.mismatches}
    else:
        assert not r.ok and (20251203, code, named) in {(f.date, f.code, f.field) for f in r.mismatches}


def row(date, code, prices, previous, change, volume=0, amount="0.0", bulk=(0, "0.0")) -> str:
    figures = (date, code, *prices, previous, "", change, volume, amount, *bulk, "", "")
    return ",".join(map(str, figures))


def test_a_later_year_with_a_new_vintage_and_its_own_weights_works(tmp_path) -> None:
    """2026-01-05: CEA25 is listed at the composite's close, is the whole composite, whose range counts the close."""
    rows = [
        COLUMNS,
        row("2025-12-31", "CEA24", ("74.0", "74.0", "74.0", "74.0"), "74.00", "0.00%", 10, "740.0"),
        row("2025-12-31", "COMCEA", ("74.0", "74.0", "74.0", "74.0"), "74.00", "0.00%"),
        row("2026-01-05", "CEA24", ("74.5", "74.5", "74.5", "74.5"), "74.00", "0.68%", 2, "149.0"),
        row("2026-01-05", "CEA25", ("75.0", "76.0", "75.0", "75.33"), "", "1.80%", 3, "226.0"),
        row("2026-01-05", "COMCEA", ("75.0", "76.0", "75.0", "75.33"), "74.00", "1.80%"),
        row("2026-01-06", "CEA24", ("74.5", "0.0", "0.0", "74.5"), "74.50", "0.00%"),
        row("2026-01-06", "CEA25", ("75.33", "0.0", "0.0", "75.33"), "75.33", "0.00%"),
        row("2026-01-06", "COMCEA", ("75.33", "75.33", "75.33", "75.33"), "75.33", "0.00%"),
    ]
    national = Rules.national()
    only = (Weights(from_date=20210716, weights={"CEA24": 1}), national.weights[-1])
    path = tmp_path / "later.csv"
    path.write_text("\n".join(rows) + "\n")
    r = replay_days(path, rules=msgspec.structs.replace(national, weights=only))
    assert r.ok, r.mismatches
    assert (r.days, r.vintage_days, r.closes_matched, r.composites_matched, r.ranges_matched) == (3, 5, 5, 3, 3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n", "line 1: has no column trade_date"),
        (COLUMNS + "\n2021-07-16,CEA,48.0,x,48,51.23,,,6.73%,1,48,0,0,,\n", "line 2: figure 'x'"),
        (COLUMNS + "\n16.7.,CEA,48.0,48,48,48,,,6.73%,1,48,0,0,,\n", "line 2"),
        (COLUMNS + "\n2021-13-16,CEA,48.0,48,48,48,,,6.73%,1,48,0,0,,\n", "line 2: month must be in 1..12"),
        (COLUMNS + "\n2021-07-16,CEA,48.0,48,48,48,,,6.73%,1.5,48,0,0,,\n", "line 2: figure '1.5': expected whole"),
        (COLUMNS + 2 * "\n2021-07-16,CEA,48.0,48,48,48,,,6.73%,1,48,0,0,,", "line 3: a second row of 2021-07-16 CEA"),
        (COLUMNS + "\n", "has no day"),
    ],
)
def test_a_broken_daily_file_is_refused_with_line_and_reason(tmp_path, text, says) -> None:
    path = tmp_path / "broken.csv"
    path.write_text(text)
    with pytest.raises(SourceError, match=says):
        replay_days(path)


def test_figures_that_no_deals_can_give_are_a_mismatch_and_not_a_crash(tmp_path) -> None:
    rows = [
        COLUMNS,
        row("2021-07-16", "CEA", ("48.0", "50.0", "48.0", "60.0"), "", "25.00%", 10, "600.0"),
        row("2021-07-16", "COMCEA", ("48.0", "50.0", "48.0", "60.0"), "", "25.00%"),
    ]
    path = tmp_path / "impossible.csv"
    path.write_text("\n".join(rows))
    r = replay_days(path)
    assert not r.ok and "deals" in {f.field for f in r.mismatches}


def test_limits_in_decimal_arithmetic_are_those_of_the_golden_examples() -> None:
    assert limits_by_decimal(9_025, 1_000)[1] == 9_928  # E4: 99.275 goes up
    assert limits_by_decimal(7_872, 3_000)[0] == 5_510  # E5
    assert limits_by_decimal(4_800, 1_000) == (4_320, 5_280)  # E1
    assert composite_price([6089, 5944, 5950, 5976, 5991], [1] * 5) == divide_half_up(29_950, 5)  # E6


@pytest.mark.parametrize(
    ("volume", "amount"),
    [
        (100_000, 529_200_000),
        (292_144, 1_609_713_440),
        (250_001, 250_001 * 60_00 + 100_000),
        (3_000_000, 17_999_999_999),
    ],
)
def test_bulk_deals_have_the_published_sums(volume, amount) -> None:
    deals = solve_bulk(volume, amount, 4_000, 7_000)
    assert sum(q for _, q in deals) == volume and sum(p * q for p, q in deals) == amount
    assert all(q >= 100_000 and 4_000 <= p <= 7_000 for p, q in deals)


@pytest.mark.parametrize(("volume", "amount"), [(99_999, 599_994_000), (150_000, 900_000_001), (200_000, 1)])
def test_bulk_sums_that_no_deals_have_are_refused(volume, amount) -> None:
    with pytest.raises(NoDeals):
        solve_bulk(volume, amount, 4_000, 7_000)


def test_the_command_prints_pure_json_and_exits_with_one_on_a_mismatch(daily, tmp_path) -> None:
    run = CliRunner().invoke(app, ["days", str(daily), "--from", "2025-12-03", "--to", "20251203", "--json"])
    out = json.loads(run.stdout)
    assert run.exit_code == 0 and out["days"] == 1 and out["closes_matched"] == out["vintage_days"] == 5
    assert out["ranges_matched"] == 1 and out["mismatches"] == []
    text = daily.read_text(encoding="utf-8-sig").splitlines()
    kept = [text[0], *(ln.replace("59.9,", "59.91,") for ln in text if ln.startswith("2025-12-03"))]
    changed = tmp_path / "changed.csv"
    changed.write_text("\n".join(kept))
    red = CliRunner().invoke(app, ["days", str(changed)])
    assert red.exit_code == 1 and "2025-12-03 COMCEA close" in red.stdout
    assert CliRunner().invoke(app, ["days", str(daily), "--from", "yesterday"]).exit_code == 2
