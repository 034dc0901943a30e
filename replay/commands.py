"""The commands ``cea replay …``: sessions replayed through the engine, ours or another market's.

Exit codes: 0 everything equal, 1 something differs, 2 wrong use or a file that can't be read. With ``--json`` standard
output is one JSON object and nothing else. Heavy modules are imported inside the commands, so that help is quick.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="Replay sessions through the engine: journals, other markets' data, historical days.")


@app.callback()
def _replay() -> None:
    """Replay sessions through the engine."""


DIFFERENT = 1
WRONG_USE = 2

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@contextmanager
def _errors() -> Iterator[None]:
    """Operating errors become one line on standard error and exit code 2."""
    from replay.source_files import SourceError

    try:
        yield
    except SourceError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(WRONG_USE) from None


def _print_json(value: Any) -> None:
    import msgspec

    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


@app.command()
def l3(
    stream: Annotated[Path, typer.Argument(help="Command stream (.cmd.csv, also .xz).", metavar="STREAM")],
    book: Annotated[
        Path | None, typer.Option("--book", help="LOBSTER orderbook or MBP-10 CSV; default: found beside STREAM.")
    ] = None,
    json: Json = False,
) -> None:
    """Another market's session, order by order: every fill and every book must be equal."""
    from replay.progress import progress_bar

    with _errors():
        from replay.l3 import replay_l3

        with progress_bar(stream.name, "lines") as update:
            report = replay_l3(stream, book, update)
    if json:
        _print_json(report)
    else:
        typer.echo(
            f"{stream.name}: {report.commands:,} commands, {report.aggressors:,} aggressors; "
            f"fills {report.fills_matched:,} of {report.fills:,} equal; "
            f"books {report.books_matched:,} of {report.books:,} equal"
        )
        for name, count in (
            ("fills that the stream does not tell", report.fills_unexpected),
            ("orders refused by the engine", report.rejected),
            ("new orders ignored because their id was live (D18)", report.live_ids_ignored),
            ("cancels and reduces of orders that were not open", report.not_open),
        ):
            if count:
                typer.echo(f"  {count:,} {name}")
        for m in report.mismatches:
            typer.echo(f"  line {m.line}: {m.text}")
        typer.echo("equal" if report.ok else "DIFFERENT")
    if not report.ok:
        raise typer.Exit(DIFFERENT)


def _date(text: str | None, default: int) -> int:
    """``2025-12-03`` or ``20251203`` → 20251203."""
    if text is None:
        return default
    from engine.calendar import to_date

    try:
        number = int(text.replace("-", ""))
        to_date(number)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no date such as 2025-12-03") from None
    return number


@app.command()
def days(
    csv: Annotated[Path, typer.Argument(help="The exchange's daily figures.", metavar="CSV")],
    first: Annotated[str | None, typer.Option("--from", help="First day, 2025-12-03 or 20251203.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last day.")] = None,
    json: Json = False,
) -> None:
    """Historical days of this market: orders lead to the published deals, and every figure must come out."""
    from replay.progress import progress_bar

    begin, end = _date(first, 0), _date(last, 99_999_999)
    with _errors():
        from replay.days import replay_days

        with progress_bar(csv.name, "days") as update:
            report = replay_days(csv, begin, end, progress=update)
    if json:
        _print_json(report)
    else:
        _print_days(report)
    if not report.ok:
        raise typer.Exit(DIFFERENT)


def _print_days(r: Any) -> None:
    from engine.calendar import to_date

    typer.echo(f"{to_date(r.first)} … {to_date(r.last)}: {r.days:,} days, {r.vintage_days:,} vintage-days")
    typer.echo(
        f"  {r.closes_matched:,} closes and {r.limits_matched:,} pairs of limits as published, "
        f"{r.limit_violations} deals beyond a limit"
    )
    typer.echo(
        f"  {r.composites_matched:,} composites (open, close) as published; high and low too on {r.ranges_matched:,}"
    )
    typer.echo(f"  {r.listed_deals:,} listed and {r.bulk_deals:,} bulk deals, {r.auctions} auctions")
    for title, findings in (
        ("exempt (D32)", r.exempt),
        ("no order of the vintages' deals found for the composite's range", r.ranges_unsolved),
        ("no bulk deals found", r.bulk_unsolved),
        ("MISMATCHES", r.mismatches),
    ):
        if findings:
            typer.echo(f"  {title}: {len(findings)}")
        for f in findings[:20]:
            typer.echo(f"    {to_date(f.date)} {f.code} {f.field}: {f.reason}")
    typer.echo("equal" if r.ok else "DIFFERENT")


@app.command()
def journal(
    path: Annotated[
        Path, typer.Argument(help="A market folder, a journal folder, or a segment file.", metavar="DIR|FILE")
    ],
    rules: Annotated[
        Path | None, typer.Option(help="The journal's rules (TOML), where no market folder has them.")
    ] = None,
    at: Annotated[str | None, typer.Option(help="Go to a sequence number or a time, 2025-12-03T10:15:30.")] = None,
    step: Annotated[int, typer.Option(help="After --at: show the next commands one by one.")] = 0,
    account: Annotated[int | None, typer.Option(help="Only this account's events.")] = None,
    instrument: Annotated[str | None, typer.Option(help="Only this instrument's events.")] = None,
    order: Annotated[int | None, typer.Option(help="Only this order's events: its whole life.")] = None,
    events: Annotated[bool, typer.Option("--events", help="Print all events.")] = False,
    speed: Annotated[float, typer.Option(help="Times real time, for --events; 0: as fast as possible.")] = 0.0,
    what_if: Annotated[
        list[str] | None, typer.Option("--what-if", help="A rule that had been otherwise: best_levels=1. Repeatable.")
    ] = None,
    index: Annotated[
        Path | None, typer.Option(help="Folder of states: written by a full replay, used by --at.")
    ] = None,
    expect: Annotated[
        Path | None, typer.Option(help="An earlier report (--json): its hashes must come out again.")
    ] = None,
    json: Json = False,
) -> None:
    """A journal of this exchange: verified with a hash per minute, to any moment, filtered, or under other rules."""
    from replay import journal_views as views

    wanted = views.Wanted(account, instrument, order, events, speed)
    with _errors():
        settings, disk, last_segment = views.open_journal(path, rules)
        if what_if:
            ok, value = views.what_if(settings, disk, what_if, json)
        elif at is not None:
            ok, value = views.moment(settings, disk, last_segment, at, step, index, account, json)
        elif wanted.any:
            ok, value = views.events(settings, disk, last_segment, wanted, json)
        else:
            ok, value = views.verify(settings, disk, last_segment, index, expect, json)
    if json:
        _print_json(value)
    if not ok:
        raise typer.Exit(DIFFERENT)


@app.command()
def lobster(
    message: Annotated[Path, typer.Argument(help="LOBSTER message file (also .xz).", metavar="MESSAGE")],
    orderbook: Annotated[Path, typer.Argument(help="Its orderbook file.", metavar="ORDERBOOK")],
    json: Json = False,
) -> None:
    """A LOBSTER session from its own files: aggressors put together again, what scrolls into view seeded."""
    from replay.progress import progress_bar

    with _errors():
        from replay.lobster import replay_lobster

        with progress_bar(message.name, "lines") as update:
            report = replay_lobster(message, orderbook, update)
    r = report.replay
    if json:
        _print_json(report)
    else:
        typer.echo(
            f"{message.name}: {report.messages:,} messages, {report.visits:,} visits of levels, "
            f"{report.seeds:,} unnamed orders seeded; {report.hidden_executions:,} hidden executions "
            f"and {report.halts:,} halts have no effect"
        )
        typer.echo(
            f"  {report.aggressors:,} aggressors; fills {r.fills_matched:,} of {r.fills:,} equal, "
            f"{len(report.exclusions):,} excluded; books {r.books_matched:,} of {r.books:,} equal"
        )
        for e in report.exclusions[:20]:
            typer.echo(f"  excluded, row {e.row}: {e.reason}")
        for m in r.mismatches:
            typer.echo(f"  row {m.line - 1}: {m.text}")
        typer.echo("equal" if report.ok else "DIFFERENT")
    if not report.ok:
        raise typer.Exit(DIFFERENT)


@app.command()
def export(
    path: Annotated[
        Path, typer.Argument(help="A market folder, a journal folder, or a segment file.", metavar="DIR|FILE")
    ],
    out: Annotated[Path, typer.Argument(help="The file to write, .parquet or .csv.", metavar="OUT")],
    what: Annotated[str, typer.Option(help="events · trades · books · bars · desk · auctions")] = "events",
    seconds: Annotated[int, typer.Option(min=1, help="Length of a bar.")] = 60,
    rules: Annotated[
        Path | None, typer.Option(help="The journal's rules (TOML), where no market folder has them.")
    ] = None,
    json: Json = False,
) -> None:
    """Events, trades, books, bars, or the log of desk or auctions, streamed to a Parquet or CSV file."""
    tables = ("events", "trades", "books", "bars", "desk", "auctions")
    if what not in tables:
        raise typer.BadParameter(f"{what!r}: expected {', '.join(tables)}", param_hint="--what")
    from replay.progress import progress_bar

    with _errors():
        from replay.export import Export
        from replay.journal import JournalReplay
        from replay.journal_views import open_journal

        replay = JournalReplay(*open_journal(path, rules))
        table = Export(out, what, seconds * 10**9)
        with table.writer, progress_bar(out.name, "commands") as update:
            replay.run(watch=lambda output: table.watch(output, replay.exchange), progress=update)
            rows = table.end(replay.exchange)
    if json:
        _print_json({"out": str(out), "what": what, "rows": rows, "bytes": out.stat().st_size})
    else:
        typer.echo(f"{out}: {rows:,} rows of {what}, {out.stat().st_size:,} bytes")


@app.command()
def mbo(
    csv: Annotated[Path, typer.Argument(help="Market-by-order messages (also .xz).", metavar="CSV")],
    book: Annotated[Path | None, typer.Option("--book", help="MBP-10 CSV with a column sequence.")] = None,
    json: Json = False,
) -> None:
    """A day of market-by-order messages: columns action, side, price, size, order_id, by name."""
    from replay.progress import progress_bar

    with _errors():
        from replay.source_orders import replay_mbo

        with progress_bar(csv.name, "lines") as update:
            report = replay_mbo(csv, book, update)
    if json:
        _print_json(report)
    else:
        typer.echo(
            f"{csv.name}: {report.commands:,} commands, fills {report.fills_matched:,} of {report.fills:,} equal, "
            f"books {report.books_matched:,} of {report.books:,} equal, {report.not_open:,} orders not open"
        )
        for m in report.mismatches:
            typer.echo(f"  line {m.line}: {m.text}")
        typer.echo("equal" if report.ok else "DIFFERENT")
    if not report.ok:
        raise typer.Exit(DIFFERENT)


@app.command()
def orders(
    csv: Annotated[Path, typer.Argument(help="A table of orders with a header (also .xz).", metavar="CSV")],
    columns: Annotated[
        str,
        typer.Option(
            "--map",
            help="id=OrderID,side=BuySell,price=Px,quantity=Qty,action=Type; what is left out has its own name.",
        ),
    ] = "",
    decimals: Annotated[int, typer.Option(min=0, max=12, help="Decimals of the prices.")] = 2,
    json: Json = False,
) -> None:
    """Any table of orders: action is new, ioc, cancel or reduce; side is buy or sell, b or s, bid or ask."""
    pairs = [pair.partition("=") for pair in columns.split(",") if pair]
    names = ("id", "side", "price", "quantity", "action")
    if any(not column or field not in names for field, _, column in pairs):
        raise typer.BadParameter(f"expected FIELD=COLUMN,… with fields {', '.join(names)}", param_hint="--map")
    from replay.progress import progress_bar

    with _errors():
        from replay.source_orders import replay_orders

        with progress_bar(csv.name, "lines") as update:
            report, depth = replay_orders(csv, {field: column for field, _, column in pairs}, decimals, update)
    value = {
        "commands": report.commands,
        "fills": report.fills_unexpected,
        "traded": report.traded,
        "refused": report.rejected,
        "not_open": report.not_open,
        "live_ids_ignored": report.live_ids_ignored,
        "resting": report.resting,
        "bids": depth.bids,
        "asks": depth.asks,
    }
    if json:
        _print_json(value)
        return
    typer.echo(f"{csv.name}: " + ", ".join(f"{name} {v:,}" for name, v in value.items() if isinstance(v, int)))
    for name, levels in (("ask", depth.asks[::-1]), ("bid", depth.bids)):
        for level in levels:
            typer.echo(
                f"  {name} {level.price / 10**decimals:.{decimals}f}: {level.quantity:,} in {level.orders:,} orders"
            )
