"""The demo's day through real processes: a short one, the full one and the killed one, all in the slow suite."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from cea.bulletins import bulletins_of
from cea.comparison import compare
from cea.demo import Demo, Steps, is_conserved
from cea.folder import day_figures, vintages_on
from engine.bulletin import OpeningTotals, Totals, make_bulletin
from engine.messages import DayClosed, VintageClose
from engine.prices import change_bp

SHORT = {"CEA22": 2, "CEA23": 4, "CEA24": 8}


def run(out: Path, *, kill: bool = False, pieces: dict[str, int] | None = None) -> dict:
    steps = Steps(quiet=True)
    return (Demo(out, 1, steps, pieces) if pieces else Demo(out, 1, steps)).run(kill=kill)


def assert_published(result: dict) -> None:
    assert result["equal"], result["differences"]
    assert result["conserved"] and result["replay_agrees"] and result["exit_code"] == 0
    assert Path(result["chart"]).stat().st_size > 20_000
    assert {"PRICE_ABOVE_LIMIT", "QUANTITY_TOO_LARGE", "INSUFFICIENT_CASH", "BOUGHT_TODAY"} <= set(result["refused"])


@pytest.mark.slow  # the fast suite has a day through a process in tests/test_cli.py
def test_a_short_day_ends_with_the_published_figures_and_a_settled_registry(tmp_path) -> None:
    result = run(tmp_path, pieces=SHORT)
    assert_published(result)
    assert result["settled"]["quantity_t"] == 639_256 + 226_790
    assert result["settled"]["amount_fen"] == 3_826_804_210 + 1_247_250_000
    statements = list((Path(result["market"]) / "reports" / "statements").glob("20251203-*.json"))
    assert len(statements) >= 15
    (from_journal,) = bulletins_of(Path(result["market"]))
    assert from_journal == result["bulletin"]


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> dict:
    """The full day that nobody disturbs."""
    return run(tmp_path_factory.mktemp("calm"))


@pytest.mark.slow
def test_the_full_day_ends_with_the_published_figures(calm) -> None:
    assert_published(calm)
    assert calm["settled"]["deals"] > 260 and len(calm["refused"]) == 10


@pytest.mark.slow
def test_a_killed_exchange_comes_back_and_the_bulletin_is_the_same(calm, tmp_path) -> None:
    """SIGKILL half-way: the members reconnect, resynchronise and finish."""
    killed = run(tmp_path / "killed", kill=True)
    assert_published(killed)
    assert killed["killed_ready_s"] > 0
    assert killed["bulletin"] == calm["bulletin"]
    assert killed["settled"]["digest"] != "" and killed["settled"]["deals"] == calm["settled"]["deals"]


def closed_day() -> DayClosed:
    """The published day as the engine would close it."""
    day = day_figures()
    return DayClosed(
        date=day.date,
        composite_open=day.composite.open,
        composite_high=day.composite.high,
        composite_low=day.composite.low,
        composite_close=day.composite.close,
        composite_previous=day.composite.previous,
        composite_change_bp=25,
        vintages=tuple(
            VintageClose(
                *(v.code, v.open, v.high, v.low, v.close, v.previous, change_bp(v.close, v.previous)),
                *(v.listed_volume, v.listed_amount, 1, v.bulk_volume, v.bulk_amount, 0, 0, 0, 0),
            )
            for v in day.vintages
        ),
        lapsed_orders=0,
    )


@pytest.mark.parametrize("field", ["open", "high", "low", "close", "volume", "amount", "bulk_volume", "bulk_amount"])
def test_a_planted_difference_in_any_figure_is_told(field) -> None:
    nothing = OpeningTotals(until=20251202, year=Totals(), launch=Totals())
    closed = closed_day()
    assert all(f.equal for f in compare(make_bulletin(closed, nothing), day_figures()))
    wrong = msgspec.structs.replace(closed.vintages[4], **{field: getattr(closed.vintages[4], field) + 1})
    planted = msgspec.structs.replace(closed, vintages=(*closed.vintages[:4], wrong))
    told = [f for f in compare(make_bulletin(planted, nothing), day_figures()) if not f.equal]
    assert told and told[0].code == "CEA24"


def test_a_missing_vintage_and_a_wrong_composite_are_told() -> None:
    nothing = OpeningTotals(until=20251202, year=Totals(), launch=Totals())
    fewer = msgspec.structs.replace(closed_day(), vintages=closed_day().vintages[:4], composite_low=5957)
    told = [(f.code, f.name) for f in compare(make_bulletin(fewer, nothing), day_figures()) if not f.equal]
    assert ("CEA24", "open") in told and ("COMCEA", "low") in told


def test_a_planted_lost_tonne_or_fen_is_not_conserved() -> None:
    first = {"CEA24": {"issued": 10, "registry": 10}, "CNY": {"issued": 0}}
    opened = {"CEA24": {"issued": 10, "trading": 10}, "CNY": {"issued": 7, "cash": 7}}
    assert is_conserved([first, opened, opened])
    for bad in (
        {**opened, "CEA24": {"issued": 10, "trading": 9}},
        {**opened, "CEA24": {"issued": 11, "trading": 11}},
        {**opened, "CNY": {"issued": 7, "cash": 6}},
    ):
        assert not is_conserved([first, opened, bad])


def test_a_market_of_2026_lists_the_new_vintage() -> None:
    assert "CEA25" not in vintages_on(20251203)[0]
    assert vintages_on(20260817) == ({**vintages_on(20251203)[0], "CEA25": 9_821}, 9_821)
