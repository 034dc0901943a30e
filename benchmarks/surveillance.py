"""How many events a second surveillance takes, and what it finds.

    python -m benchmarks.surveillance [--json] [--smoke] [--seeds 30]

throughput   events of the exchange's own mix (benchmarks/engine_stream.py): 4,000 accounts, 6 vintages, batches of
             4,096 events, with one look a minute of event time; the events span --minutes of the morning
detection    recall and false alarms per scenario (gateway.surveillance.scenarios), on seeds from 4,000 on, which no
             threshold was chosen on; days on which the manipulator could not act are not counted
sessions     alerts on published days of this market, rebuilt deal by deal (--days N; figures from CEA_DATA): their
             prices, volumes, bulk and auction deals are real, members and orders are made up (docs/replay.md)

One core, one process. Throughput is the median of the runs, first run (compilation) apart.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import engine_stream
from benchmarks.conditions import conditions, describe
from engine.calendar import day_start_ns, parse_clock
from engine.exchange import Output
from engine.rules import Rules
from gateway.surveillance import Surveillance, scenarios
from replay.days import read_days
from replay.one_day import FlowSession, plan_day
from replay.source_files import SourceError

BATCH: Final = 4_096
ACCOUNTS, VINTAGES = 4_000, 6
SEED: Final = 20251203
HELD_OUT: Final = 4_000  # first seed of the count; thresholds were chosen on 0 … 29


def make_events(commands: int, minutes: int) -> np.ndarray:
    """Events of a mixed stream, their times spread evenly over the morning's first minutes."""
    exchange = engine_stream.build(ACCOUNTS, VINTAGES, 1 << 17)
    stream = engine_stream.make(exchange, commands, SEED)
    exchange = engine_stream.build(ACCOUNTS, VINTAGES, 1 << 17)
    parts = [exchange.submit(stream[at : at + BATCH]).copy() for at in range(0, len(stream), BATCH)]
    events = np.concatenate([p.view(np.uint8) for p in parts]).view(parts[0].dtype)
    start = day_start_ns(engine_stream.DATE) + parse_clock("09:30")
    events["time_ns"] = start + np.arange(len(events)) * (minutes * 60 * 10**9) // len(events)
    return events


def throughput(commands: int, minutes: int, runs: int) -> dict[str, Any]:
    """Events a second through :meth:`Surveillance.feed`, looks included."""
    events = make_events(commands, minutes)
    rates, cpu_rates, alerts = [], [], 0
    for run in range(runs + 1):
        watch = Surveillance(accounts=4_096, instruments=8)
        watch.start_day(engine_stream.DATE, {})
        began, began_cpu = time.perf_counter(), time.process_time()
        for at in range(0, len(events), BATCH):
            watch.feed(events[at : at + BATCH])
        if run:
            rates.append(len(events) / (time.perf_counter() - began))
            cpu_rates.append(len(events) / (time.process_time() - began_cpu))
        alerts = len(watch.alerts)
    return {
        "events": len(events),
        "deals": int((events["kind"] == 4).sum()),
        "minutes_of_event_time": minutes,
        "events_per_second": round(statistics.median(rates)),
        "worst": round(min(rates)),
        "events_per_cpu_second": round(statistics.median(cpu_rates)),
        "runs": runs,
        "alerts": alerts,
    }


def watched_day(path: Path, date: int, seed: int) -> Surveillance:
    """One published day, rebuilt with its flow and played through an engine, under surveillance."""
    rules = Rules.national()
    plan = plan_day(path, date, rules, seed=seed)
    session = FlowSession(rules, plan.flow)
    watch, apply = Surveillance(rules=rules), session.exchange.apply

    def watching(commands: np.ndarray, payloads: bytes | memoryview = b"") -> Output:
        out = apply(commands, payloads)
        watch.codes = {number: code for code, number in session.exchange.market.codes.items()}
        watch.feed(out.events, bytes(out.payloads))
        return out

    session.exchange.apply = watching  # type: ignore[method-assign]
    references = {v.code: v.previous for v in plan.day.vintages}
    session.begin(date, list(references), references, plan.composite)
    session.play(plan)
    session.end(date)
    watch.finish()
    return watch


def sessions(path: Path, count: int, seed: int) -> dict[str, Any]:
    """Alerts by kind on ``count`` published days, evenly spread over the file."""
    dates = [day.date for day in read_days(path)[0] if any(v.listed_volume for v in day.vintages)]
    chosen = [dates[len(dates) * n // count] for n in range(count)]
    kinds: Counter[str] = Counter()
    days: Counter[str] = Counter()
    played = events = 0
    left_out, texts = [], []
    for date in chosen:
        try:
            watch = watched_day(path, date, seed)
        except SourceError as error:
            left_out.append(f"{date}: {error}")
            continue
        played, events = played + 1, events + int(watch.state[0]["events"])
        kinds.update(a.kind for a in watch.alerts)
        days.update({a.kind for a in watch.alerts})
        texts += [
            f"{a.date} {a.kind} {a.instrument}: {a.text}" for a in watch.alerts if a.kind not in scenarios.REPORTS
        ]
    return {
        "days": played,
        "left_out": left_out,
        "events": events,
        "alerts": dict(kinds),
        "days_with": dict(days),
        "not_reports": texts,
    }


def main() -> None:
    """Prints what was measured."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.surveillance", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="does it run at all")
    parser.add_argument("--commands", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--seeds", type=int, default=30, help="seeds of each scenario; 0 leaves detection out")
    parser.add_argument("--first", type=int, default=HELD_OUT, help="the first seed")
    parser.add_argument("--days", type=int, default=0, help="published days to rebuild; 0 leaves them out")
    parser.add_argument("--figures", type=Path, help="the daily figures (CSV); else found in the folder CEA_DATA")
    args = parser.parse_args()
    if args.smoke:
        args.commands, args.runs, args.seeds = 20_000, 1, 1
    found = {
        "conditions": conditions(),
        "throughput": throughput(args.commands, args.minutes, args.runs) if args.runs else {},
        "detection": scenarios.count(range(args.first, args.first + args.seeds)) if args.seeds else {},
    }
    if args.days:
        folder = Path(os.environ.get("CEA_DATA", "."))
        path = args.figures or next(iter(sorted(folder.glob("**/cea_daily*.csv"))), None)
        if path is None:
            parser.error("name the daily figures with --figures, or their folder with CEA_DATA")
        found["sessions"] = sessions(path, args.days, SEED)
    if args.json:
        print(json.dumps(found, indent=1))
        return
    print(describe(conditions()))
    if t := found["throughput"]:
        print(
            f"{t['events_per_second']:,} events/s, median of {t['runs']} (worst {t['worst']:,}), "
            f"{t['events_per_cpu_second']:,} a second of processor time: {t['events']:,} events, {t['deals']:,} deals, "
            f"{t['minutes_of_event_time']} minutes of event time"
        )
    for name, row in found["detection"].items():
        hit = f"found {row['found']} of {row['happened']}" if name != "clean" else f"{row['days']} clean days"
        print(f"  {name:18} {hit}, {row['false_alarms']} false alarms on {row['days_with_false_alarm']} days")
    if "sessions" in found:
        days = found["sessions"]
        print(f"{days['days']} published days, {days['events']:,} order events: alerts {days['alerts']}")
        print(f"days with such an alert: {days['days_with']}")
        print("\n".join(days["not_reports"]))


if __name__ == "__main__":
    main()
