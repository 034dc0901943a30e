"""What the commands of `cea registry` share: opening the registry, arguments, how answers and tables are printed."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from settlement.registry import Registry

app = typer.Typer(help="The registry.", no_args_is_help=True, rich_markup_mode="rich")

Db = Annotated[
    str, typer.Option("--db", envvar="CEA_REGISTRY", help="Market folder, SQLite file or postgresql+psycopg://… URL.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")]
Csv = Annotated[bool, typer.Option("--csv", help="CSV instead of a table.")]
ACCOUNT_MAX = 2**32 - 2  # the exchange's ids are u32, the last one means nobody
Account = Annotated[int, typer.Argument(min=0, max=ACCOUNT_MAX, help="The trader's account id at the exchange.")]
Asset = Annotated[str, typer.Argument(help="Vintage or offset credit, such as CEA24.")]
Quantity = Annotated[int, typer.Argument(help="Whole tonnes.")]
Document = Annotated[str, typer.Option("--document", "-d", help="The document number of this act.")]
File = Annotated[Path, typer.Argument(help="A CSV file; '-' reads standard input.")]
HERE = "market"


def date_argument(value: int) -> int:
    """A date from the command line; typer names the argument where it is none."""
    from settlement.hours import is_date

    if not is_date(value):
        raise typer.BadParameter(f"{value} is not a date YYYYMMDD.")
    return value


Date = Annotated[int, typer.Argument(callback=date_argument, metavar="YYYYMMDD", help="A date.")]


def database_url(where: str) -> str:
    """The URL of a market folder, a file or a URL."""
    if "://" in where:
        return where
    path = Path(where)
    if not path.is_dir():
        return f"sqlite:///{path.resolve()}"
    config = path / "market.toml"
    url = "sqlite:///registry.db"
    if config.is_file():
        import tomllib

        url = tomllib.loads(config.read_text(encoding="utf-8")).get("registry", url)
    name = url.removeprefix("sqlite:///")
    return url if name == url or name.startswith("/") else f"sqlite:///{(path / name).resolve()}"


def open_registry(where: str, create: bool = False) -> Registry:
    from settlement.registry import Registry

    url = database_url(where)
    file = url.removeprefix("sqlite:///")
    if file != url and not create and not Path(file).is_file():
        fail(f"{file}: no registry here (make one with `cea registry create`)", 3)
    with database_faults():
        return Registry.open(url)


@contextmanager
def database_faults() -> Iterator[None]:
    """A database that cannot be used ends the command with 3 and one line."""
    from sqlalchemy.exc import SQLAlchemyError

    from settlement.versions import SchemaMismatch

    try:
        yield
    except (SchemaMismatch, SQLAlchemyError, UnicodeDecodeError) as error:
        fail(str(error).splitlines()[0], 3)


def fail(text: str, code: int = 1) -> NoReturn:
    print(f"cea: {text}", file=sys.stderr)
    raise typer.Exit(code)


def now_ns() -> int:
    return time.time_ns()


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def answer(result: Any, as_json: bool) -> None:
    """Print the outcome of an act; a refusal ends the command with code 1."""
    from settlement.errors import Refused

    refused = isinstance(result, Refused)
    if as_json:
        print(json.dumps({"done": not refused, **(_plain(result) or {})}, ensure_ascii=False))
    elif refused:
        print(f"cea: refused: {result}", file=sys.stderr)
    elif result is None:
        print("done")
    else:
        print(f"{result.document}: {'was done before, nothing changed' if result.repeated else 'done'}")
    if refused:
        raise typer.Exit(1)


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]], as_json: bool, as_csv: bool = False) -> None:
    """Print rows as a table, JSON or CSV."""
    listed = [list(row) for row in rows]
    if as_json:
        print(json.dumps([dict(zip(columns, row, strict=True)) for row in listed], ensure_ascii=False))
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(listed)
    else:
        from rich import box
        from rich.console import Console
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        numbers = {n for n in range(len(columns)) if listed and all(isinstance(row[n], int) for row in listed)}
        for n, name in enumerate(columns):
            table.add_column(name, justify="right" if n in numbers else "left", no_wrap=True)
        for row in listed:
            table.add_row(*(_cell(name, cell) for name, cell in zip(columns, row, strict=True)))
        console = Console(highlight=False)
        if not console.is_terminal:
            console.width = 200
        console.print(table)


# Numbers that are names, which thousands separators would spoil.
_NAMES = ("account", "date", "batch", "deal_id")


def _cell(column: str, value: Any) -> str:
    """A table's cell as people read it: times as Asia/Shanghai, quantities with separators."""
    if column == "time_ns":
        from settlement.hours import local_text

        return local_text(value)
    return f"{value:,}" if isinstance(value, int) and column not in _NAMES else str(value)
