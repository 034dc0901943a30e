"""`cea day`: one historical day with its flow, here through an engine, in the slow suite through the gateway (D31)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from cea.comparison import compare
from cea.main import app
from engine.bulletin import make_bulletin
from engine.records import BUY, CANCEL, NEW
from engine.rules import Rules
from replay.days import EXEMPT
from replay.one_day import DayPlan, Played, plan_day, play, totals_before
from replay.source_files import SourceError

RULES = Rules.national()
# the first day, a limit-up, bulk at limit down, no listed deal, two auctions, and the golden day (E1, E4-E6, E8)
DAYS = (20210716, 20240423, 20231101, 20241104, 20250716, 20251203)


@pytest.fixture(scope="module")
def daily(shared_data: Path) -> Path:
    return shared_data / "cea" / "cea_daily_2021-2025.csv"


def differences(plan: DayPlan, played: Played) -> list[tuple[str, str]]:
    bulletin = make_bulletin(played.outcome.result, plan.totals)
    return [(f.code, f.name) for f in compare(bulletin, plan.day) if not f.equal]


@pytest.mark.parametrize("date", DAYS)
def test_a_day_with_its_flow_ends_with_the_published_figures(daily, date) -> None:
    plan = plan_day(daily, date, RULES)
    played = play(plan, RULES)
    assert differences(plan, played) == [] and played.wrong == [] and played.outcome.refused == []
    assert sum(map(len, played.deals.values())) >= len(plan.flow.deals)


@pytest.fixture(scope="module")
def golden(daily) -> DayPlan:
    return plan_day(daily, 20251203, RULES)


def test_a_plan_is_its_seed_and_another_seed_gives_the_same_figures(daily, golden) -> None:
    assert plan_day(daily, 20251203, RULES).flow == golden.flow
    other = plan_day(daily, 20251203, RULES, seed=2)
    assert other.flow.actions != golden.flow.actions and differences(other, play(other, RULES)) == []


def test_the_flow_has_a_profile_a_book_around_the_touch_and_a_mix_of_members(golden) -> None:
    morning, noon, afternoon, close = RULES.boundaries_ns(20251203)
    times = [a.time_ns for a in golden.flow.actions]
    assert times == sorted(times) and all(morning <= t < noon or afternoon <= t < close for t in times)
    half_hour = 1_800 * 10**9
    first, second = (sum(morning + n * half_hour <= t < morning + (n + 1) * half_hour for t in times) for n in (0, 1))
    last = sum(close - half_hour <= t for t in times)
    assert first > 1.2 * second and last > 1.2 * second  # 18 against 11 of 100
    buys = Counter(a.member % 6 for a in golden.flow.actions if a.kind == NEW and a.side == BUY and a.filled)
    sells = Counter(a.member % 6 for a in golden.flow.actions if a.kind == NEW and a.side != BUY and a.filled)
    assert buys[1] > sells[1] and sells[3] > buys[3]  # compliance buyers, entities with a surplus
    quotes = [a for a in golden.flow.actions if a.kind == NEW and not a.filled]
    assert len(quotes) > len(golden.flow.deals) and any(a.kind == CANCEL for a in golden.flow.actions)


def test_a_planted_lost_message_turns_the_figures_red(golden) -> None:
    actions = list(golden.flow.actions)
    at = next(n for n, a in enumerate(actions) if a.filled > 10 and a.kind == NEW)
    del actions[at]
    broken = golden._replace(flow=golden.flow._replace(actions=actions))
    assert differences(broken, play(broken, RULES))


def test_totals_of_the_days_before_are_the_sums_of_the_file(golden, daily, repository) -> None:
    published = (repository / "cea" / "totals_20251202.toml").read_text()
    assert f"listed_amount = {golden.totals.launch.listed_amount}\n" in published
    assert f"bulk_volume = {golden.totals.year.bulk_volume}\n" in published
    assert totals_before([], 20210716).launch.volume == 0


def test_a_day_that_is_not_there_is_named(daily) -> None:
    with pytest.raises(SourceError, match="has no day 20251206"):
        plan_day(daily, 20251206, RULES)
    with pytest.raises(SourceError, match="20251013: the composite's row is blank"):
        plan_day(daily, 20251013, RULES)


def run(*args: str, **environment: str | None) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, args, env=environment)
    return result.exit_code, result.stdout, result.stderr


def test_the_command_prints_one_object_and_draws_the_day(daily, tmp_path) -> None:
    code, out, _ = run("day", "2025-12-03", "--figures", str(daily), "--out", str(tmp_path), "--json")
    found = msgspec.json.decode(out)
    assert code == 0 and found["equal"] and found["differences"] == [] and found["seed"] == 1
    assert found["bulletin"]["composite_close"] == 5_990
    assert (tmp_path / "day-20251203.png").stat().st_size > 20_000


def test_an_exempt_figure_is_told_and_is_no_difference(daily, tmp_path) -> None:
    assert (20241226, "COMCEA") in EXEMPT
    code, out, _ = run("day", "2024-12-26", "--figures", str(daily), "--out", str(tmp_path), "--json")
    found = msgspec.json.decode(out)
    assert code == 0 and [(f["code"], f["name"]) for f in found["exempt"]] == [
        ("COMCEA", "close"),
        ("COMCEA", "change"),
    ]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["2025-12-03"], "--figures"),
        (["yesterday"], "no date"),
        (["2025-12-03", "--speed", "10"], "--gateway"),
        (["2025-12-03", "--figures", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_a_wrong_command_line_is_one_clear_line(args, says) -> None:
    code, out, err = run("day", *args, CEA_DATA=None)
    assert code == 2 and says in err and out == ""


@pytest.mark.slow
def test_a_day_through_the_gateway_is_settled_and_its_journal_replays(daily, tmp_path) -> None:
    args = ("--deals", "10", "--gateway", str(tmp_path / "market"), "--json")
    code, out, err = run("day", "2025-07-16", "--figures", str(daily), *args)  # listed, bulk and two auctions
    assert code == 0, err
    found = msgspec.json.decode(out)
    assert found["equal"] and found["conserved"] and found["replay_agrees"] and found["settled"]["deals"] > 10
    assert sum(v["auction_volume"] for v in found["bulletin"]["vintages"]) == 130_000


@pytest.mark.slow
def test_days_over_all_years_come_out_with_their_flow(daily) -> None:
    from replay.days import read_days

    for day in read_days(daily)[0][::25]:
        if EXEMPT.get((day.date, "COMCEA"), ("", ""))[0] == "row":
            continue  # the test above: it is refused
        plan = plan_day(daily, day.date, RULES, deals=60)
        played = play(plan, RULES)
        assert differences(plan, played) == [] and played.wrong == [], day.date
