"""What ``cea replay journal`` shows: verification, a moment, a filtered list of events, what if. Each prints its text
unless plain values are wanted, and returns (everything equal, plain values)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import typer

from engine.exchange import Output
from engine.journal import Disk
from engine.prices import format_amount, format_price
from replay.event_text import EventFilter, life_of, line_of, rows_of
from replay.journal import JournalReplay, JournalReport, compare_minutes, parse_moment
from replay.market_settings import Settings, settings_for
from replay.picture_of_state import state_view
from replay.progress import progress_bar
from replay.source_files import SourceError
from replay.what_if import WhatIf

Answer = tuple[bool, Any]
ROWS_MAX = 1_000_000  # of events that --json holds at once; more is for `cea replay export`


class Wanted(NamedTuple):
    """Which events to list, and how fast."""

    account: int | None
    instrument: str | None
    order: int | None
    all: bool
    speed: float

    @property
    def any(self) -> bool:
        """True when events are asked for at all."""
        return self.all or any(f is not None for f in (self.account, self.instrument, self.order))


def open_journal(path: Path, rules: Path | None) -> tuple[Settings, Disk, str]:
    """Settings, disk, and the segment to end with (empty: all). SourceError says what is missing."""
    settings, disk = settings_for(path, rules)
    return settings, disk, path.name if path.is_file() else ""


def verify(
    settings: Settings, disk: Disk, last_segment: str, index: Path | None, expect: Path | None, plain: bool
) -> Answer:
    """The whole journal, with a hash per minute; compared with seals, snapshots and an earlier report."""
    with progress_bar("replay", "commands") as update:
        started = time.perf_counter()
        report = JournalReplay(settings, disk, last_segment).run(progress=update, index=index)
        seconds = time.perf_counter() - started
    if expect is not None:
        try:
            earlier = msgspec.json.decode(expect.read_bytes(), type=JournalReport)
        except (OSError, msgspec.DecodeError) as error:
            raise SourceError(expect, f"is no report of an earlier replay: {error}") from error
        report.differs += compare_minutes(earlier, report)
    if not plain:
        typer.echo(
            f"sequences {report.first_seq:,} … {report.last_seq:,}: {report.commands:,} commands, "
            f"{report.events:,} events, {len(report.minutes):,} minutes; "
            f"{report.commands / max(seconds, 1e-9):,.0f} commands/s"
        )
        typer.echo(f"state {report.state_hash}, events {report.events_hash}")
        typer.echo(f"{report.seals_checked} seals and {report.snapshots_checked} snapshots compared")
        for difference in report.differs:
            typer.echo(f"DIFFERENT: {difference}")
    return report.ok, report


def moment(
    settings: Settings,
    disk: Disk,
    last_segment: str,
    text: str,
    step: int,
    index: Path | None,
    account: int | None,
    plain: bool,
) -> Answer:
    """Books, accounts and desk at a moment, and the commands after it."""
    try:
        target = parse_moment(text)
    except ValueError as error:
        raise SourceError("--at", str(error)) from error
    replay = JournalReplay(settings, disk, last_segment)
    with progress_bar("to the moment", "commands") as update:
        replay.go_to(target, index, update)
    view = state_view(replay.exchange, account=account)
    steps = []
    for _, out in replay.step(step):
        steps.append(rows_of(out, replay.exchange.market, EventFilter()))
    if not plain:
        _print_state(view)
        for rows in steps:
            for row in rows:
                typer.echo(line_of(row))
    return True, {**view, "steps": steps}


def _print_state(view: dict[str, Any]) -> None:
    typer.echo(f"after sequence {view['seq']:,}, {view['date']} {view['time']}, state {view['state_hash']}")
    for code, book in view["books"].items():
        typer.echo(
            f"{code}: last {format_price(book['last'])}, limits {format_price(book['limit_low'])} … "
            f"{format_price(book['limit_high'])}, {book['deals']:,} deals, {book['volume']:,} t"
        )
        for name in ("asks", "bids"):
            levels = book[name][::-1] if name == "asks" else book[name]
            for price, quantity, orders in levels:
                typer.echo(f"   {name[:-1]} {format_price(price):>10} {quantity:>12,} t in {orders:,} orders")
    for a in view["accounts"]:
        held = ", ".join(f"{code} {h['sellable']:,}+{h['bought_today']:,} t" for code, h in a["holdings"].items())
        typer.echo(
            f"account {a['account']}: {format_amount(a['available'])} yuan, {format_amount(a['locked'])} locked; {held}"
        )
    for d in view["desk"]["declarations"]:
        typer.echo(
            f"declaration {d['declaration']}: account {d['maker']} {d['side']}s {d['open']:,} t {d['instrument']} "
            f"at {format_price(d['price'])}, {d['dialogues']} dialogues"
        )


def events(settings: Settings, disk: Disk, last_segment: str, wanted: Wanted, plain: bool) -> Answer:
    """The events that a filter lets through, at the day's own speed if that is wanted."""
    replay = JournalReplay(settings, disk, last_segment)
    chosen = EventFilter(wanted.account, wanted.instrument, wanted.order)
    kept: list[dict[str, Any]] = []
    life: list[dict[str, Any]] = []
    shown = 0
    wait = _pace(wanted.speed)

    def watch(out: Output) -> None:
        nonlocal shown
        for row, event in zip(rows_of(out, replay.exchange.market, chosen), _times(out, replay, chosen), strict=True):
            wait(event)
            shown += 1
            if wanted.order is not None:
                life.append(row)
            if not plain:
                typer.echo(line_of(row))
            elif len(kept) < ROWS_MAX:
                kept.append(row)
            else:
                raise SourceError("--json", f"more than {ROWS_MAX:,} events: narrow the filter, or export them")

    if plain or not sys.stdout.isatty():  # a bar among lines of events could not be read
        with progress_bar("replay", "commands") as update:
            report = replay.run(watch=watch, progress=update)
    else:
        report = replay.run(watch=watch)
    codes = replay.exchange.market.codes
    if wanted.instrument is not None and wanted.instrument not in codes:
        raise SourceError("--instrument", f"{wanted.instrument!r}: the journal has {', '.join(codes) or 'none'}")
    if life and not plain:
        typer.echo(life_of(life))
    if not shown:
        typer.echo("no event passes the filter", err=True)
    return report.ok, kept


def _times(out: Output, replay: JournalReplay, chosen: EventFilter) -> list[int]:
    return out.events["time_ns"][chosen.mask(out.events, replay.exchange.market)].tolist()


def _pace(speed: float) -> Callable[[int], None]:
    """Waits until an event's time has come, ``speed`` times as fast as it was; no waiting at 0."""
    if speed <= 0:
        return lambda time_ns: None
    start: list[tuple[int, float]] = []

    def wait(time_ns: int) -> None:
        if not start:
            start.append((time_ns, time.monotonic()))
        due = start[0][1] + (time_ns - start[0][0]) / 1e9 / speed
        time.sleep(max(0.0, due - time.monotonic()))

    return wait


def what_if(settings: Settings, disk: Disk, changes: list[str], plain: bool) -> Answer:
    """The same commands under other rules; differing is what is asked for, so it is no error."""
    fields: dict[str, Any] = {}
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals or name not in type(settings.rules).__struct_fields__:
            known = ", ".join(type(settings.rules).__struct_fields__)
            raise SourceError("--what-if", f"{change!r}: expected RULE=VALUE, where RULE is one of {known}")
        try:
            fields[name] = msgspec.json.decode(value)
        except msgspec.DecodeError as error:
            text = f"{change!r}: the value is no JSON, where text stands in quotes ({error})"
            raise SourceError("--what-if", text) from error
    try:
        run = WhatIf(settings, fields)
    except ValueError as error:
        raise SourceError("--what-if", str(error)) from error
    with progress_bar("what if", "commands") as update:
        report = run.run(disk, update)
    if not plain:
        for name in ("deals", "volume", "rejected"):
            one, other = getattr(report, name)
            typer.echo(f"{name}: {one:,} as it was, {other:,} with {', '.join(changes)}")
        typer.echo(f"{len(report.differences)} of {report.vintage_days} vintage-days differ")
        for d in report.differences:
            typer.echo(
                f"  {d.date} {d.code}: close {format_price(d.close[0])} → {format_price(d.close[1])}, "
                f"{d.deals[0]:,} → {d.deals[1]:,} deals, {d.volume[0]:,} → {d.volume[1]:,} t"
            )
    return True, report
