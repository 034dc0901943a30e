"""`cea day`: one historical day rebuilt from published figures, and its result next to them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cea.output import Exit, fail, print_json

if TYPE_CHECKING:
    from cea.comparison import Figure
    from cea.demo import Steps
    from engine.bulletin import Bulletin
    from replay.one_day import DayPlan

FILE_NAME: Final = "cea_daily_*.csv"
BUNDLED: Final = 20251203


def day_command(
    date: str,
    figures: Path | None,
    out: Path,
    *,
    seed: int,
    deals: int,
    gateway: Path | None,
    speed: float,
    as_json: bool,
) -> None:
    """Plans the day, plays it, prints the comparison. Exit code 1 when a figure differs, 2 without figures."""
    from cea.demo import Steps
    from engine.rules import Rules
    from replay.one_day import plan_day
    from replay.source_files import SourceError

    if speed and gateway is None:
        fail("--speed plays through the exchange process: name its market folder with --gateway", Exit.USAGE)
    number = date_of(date)
    steps = Steps(quiet=as_json)
    steps.start("Plan of the day")
    try:
        plan = plan_day(daily_file(figures), number, Rules.national(), deals=deals, seed=seed)
    except SourceError as error:
        fail(str(error), Exit.USAGE)
    steps.done(f"{len(plan.flow.deals)} listed deals, {len(plan.bulk)} bulk, {len(plan.auctions)} auctions")
    if gateway is None:
        _play_here(plan, out / f"day-{plan.day.date}.png", steps, seed, as_json=as_json)
    else:
        _play_through_gateway(plan, gateway, steps, seed, speed, as_json=as_json)


def date_of(text: str) -> int:
    """``2025-12-03`` or ``20251203``; ends the command where it is no date."""
    from engine.calendar import to_date

    try:
        number = int(text.replace("-", ""))
        to_date(number)
    except ValueError:
        fail(f"{text!r} is no date such as 2025-12-03", Exit.USAGE)
    return number


def daily_file(named: Path | None) -> Path:
    """The daily figures: the file that was named, else the one in the folder of CEA_DATA."""
    if named is not None:
        return named
    folder = os.environ.get("CEA_DATA", "")
    found = sorted(Path(folder).glob(f"**/{FILE_NAME}")) if folder else []
    if not found:
        fail(
            f"the exchange's daily figures are not part of the project: name them with --figures CSV, or CEA_DATA "
            f"with the folder that holds {FILE_NAME} (`cea demo` carries those of {BUNDLED})",
            Exit.USAGE,
        )
    return found[-1]


def exempt(figure: Figure, date: int) -> bool:
    """True where D32 says that the published figure contradicts its own rules, or a figure follows from such a one."""
    from replay.days import EXEMPT

    field = EXEMPT.get((date, figure.code), ("", ""))[0]
    return field in ("row", figure.name) or (field == "close" and figure.name == "change")


def _play_here(plan: DayPlan, chart: Path, steps: Steps, seed: int, *, as_json: bool) -> None:
    from cea.comparison import compare
    from cea.demo import print_bulletin, print_comparison
    from engine.bulletin import make_bulletin
    from engine.rules import Rules
    from replay.chart import draw_day
    from replay.one_day import play

    rules, day = Rules.national(), plan.day
    steps.start("Orders through the engine")
    played = play(plan, rules)
    steps.done(f"{len(plan.flow.actions):,} messages of {len(plan.flow.members)} members")
    bulletin: Bulletin = make_bulletin(played.outcome.result, plan.totals)
    steps.start("Chart")
    draw_day(chart, bulletin, played.deals, rules.boundaries_ns(day.date))
    steps.done(str(chart))
    figures = compare(bulletin, day)
    refused = [f"{r.code}: {r.text}" for r in played.outcome.refused] + played.wrong
    allowed = [f for f in figures if not f.equal and exempt(f, day.date)]
    differ = [f for f in figures if not f.equal and not exempt(f, day.date)]
    result: dict[str, Any] = {
        "date": day.date,
        "equal": not differ and not refused,
        "seed": seed,
        "deals": len(plan.flow.deals),
        "messages": len(plan.flow.actions),
        "members": len(plan.flow.members),
        "differences": [f._asdict() for f in differ],
        "exempt": [f._asdict() for f in allowed],
        "refused": refused,
        "bulletin": bulletin,
        "chart": str(chart),
    }
    if as_json:
        print_json(result)
    else:
        print_bulletin(bulletin)
        print_comparison(figures)
        for f in allowed:
            print(f"exempt (D32): {f.code} {f.name}: published {f.published}, came out {f.ours}")
        for text in refused[:20]:
            print(f"refused: {text}")
        print(f"chart  {chart}")
        print("All figures equal the published ones." if result["equal"] else "FIGURES DIFFER.")
    if not result["equal"]:
        fail("the day's result is not what it must be: see above", Exit.NO)


def _play_through_gateway(plan: DayPlan, folder: Path, steps: Steps, seed: int, speed: float, *, as_json: bool) -> None:
    """The demo with another day: registry, exchange process, members over CURVE, settlement."""
    from cea.demo import Demo
    from cea.demo_driver import DemoError
    from cea.processes import NotReady
    from gateway.client import GatewayError

    if (folder / "market.toml").exists():
        fail(f"{folder}: there is a market already: name a new folder", Exit.CONFIG)
    try:
        result = Demo(folder, seed, steps, plan=plan, speed=speed).run(kill=False)
    except (DemoError, NotReady, GatewayError) as error:
        fail(str(error), Exit.NO)
    if as_json:
        print_json(result)
    if not result["equal"] or not result["conserved"] or not result["replay_agrees"]:
        fail("the day's result is not what it must be: see above", Exit.NO)
