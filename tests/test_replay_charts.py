"""Pictures of a day: they are drawn from the replay's own figures, and a day that is not there is a clear error."""

from __future__ import annotations

from pathlib import Path

import pytest
from journal_maker import make_journal
from typer.testing import CliRunner

from engine.exchange import Exchange
from replay.chart_command import app
from replay.journal import JournalReplay
from replay.market_charts import _axis_minutes, _price_range, collect, language, words
from replay.market_settings import settings_for


@pytest.fixture(scope="module")
def market(tmp_path_factory) -> tuple[Path, Exchange]:
    folder = tmp_path_factory.mktemp("journal")
    return folder, make_journal(folder, seed=8)


def test_a_day_has_the_deals_and_figures_of_the_exchange(market) -> None:
    day = collect(JournalReplay(*settings_for(market[0])), "CEA24")
    row = market[1].market.instruments[market[1].market.codes["CEA24"]]
    assert (day.date, len(day.deals), day.close) == (20251203, row["deals"], row["close"])
    assert sum(p * q for _, p, q in day.deals) == row["amount"]
    assert [q for _, _, q in day.bulk] == [150_000]
    assert (day.limit_low, day.limit_high) == (row["limit_low"], row["limit_high"])
    assert all(570 <= m <= 900 for m, _, _ in day.deals) and day.minutes == sorted(set(day.minutes))


def test_an_earlier_day_is_found_by_its_date(market) -> None:
    day = collect(JournalReplay(*settings_for(market[0])), "CEA23", 20251201)
    assert day.date == 20251201 and day.reference == 6000 and day.bulk == []


@pytest.mark.parametrize("what", ["day", "heat", "spread"])
@pytest.mark.parametrize("ending", ["png", "svg", "html"])
def test_pictures_are_written_whole(market, tmp_path, what, ending) -> None:
    out = tmp_path / f"{what}.{ending}"
    run = CliRunner().invoke(app, [what, str(market[0]), str(out), "-i", "CEA24"])
    assert run.exit_code == 0, run.output
    data = out.read_bytes()
    assert list(tmp_path.iterdir()) == [out] and len(data) > 8_000
    if ending == "png":
        assert data[:4] == b"\x89PNG" and int.from_bytes(data[16:20], "big") == 1_000  # pixels wide
    else:
        assert b"<svg" in data and b"http-equiv" not in data and b"<script" not in data


@pytest.mark.parametrize(
    ("args", "says"),
    [(["-i", "CEA99"], "CEA99: has no day"), (["-i", "CEA24", "--date", "20200101"], "has no day 20200101")],
)
def test_a_day_that_is_not_there_is_one_clear_line(market, tmp_path, args, says) -> None:
    run = CliRunner().invoke(app, ["day", str(market[0]), str(tmp_path / "x.png"), *args])
    assert run.exit_code == 2 and says in run.stderr and not list(tmp_path.iterdir())


def test_an_interrupted_picture_leaves_nothing_behind(market, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("replay.market_charts._page", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    (tmp_path / "x.html").write_text("yesterday's")
    run = CliRunner().invoke(app, ["heat", str(market[0]), str(tmp_path / "x.html"), "-i", "CEA24"])
    assert run.exit_code != 0 and [p.read_text() for p in tmp_path.iterdir()] == ["yesterday's"]


def test_texts_are_in_the_language_that_is_wanted(monkeypatch) -> None:
    for font, wanted, text in (("a font", "zh", "价差"), ("a font", "both", "价差 spread"), (None, "zh", "spread")):
        monkeypatch.setattr("replay.market_charts.cjk_font", lambda font=font: font)
        with language(wanted):
            assert words("价差", "spread") == text


def test_an_unknown_ending_is_refused(market, tmp_path) -> None:
    run = CliRunner().invoke(app, ["day", str(market[0]), str(tmp_path / "x.gif"), "-i", "CEA24"])
    assert run.exit_code == 2 and "must end with" in run.stderr


def test_the_midday_break_has_no_width_and_the_axis_shows_every_price(market) -> None:
    assert _axis_minutes([690, 700, 780, 781]).tolist() == [690, 690, 690, 691]
    day = collect(JournalReplay(*settings_for(market[0])), "CEA24")
    low, high = _price_range(day)
    assert all(low < p < high for _, p, _ in day.deals) and low < day.reference < high
