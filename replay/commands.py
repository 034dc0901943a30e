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
