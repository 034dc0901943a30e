"""`cea registry …`: what accounts hold and held, serial ranges, circulation, statements."""

from __future__ import annotations

from typing import Annotated

import typer

from settlement.command_line import (
    ACCOUNT_MAX,
    HERE,
    Account,
    Asset,
    Csv,
    Db,
    Json,
    app,
    date_argument,
    fail,
    open_registry,
    print_rows,
)


@app.command()
def holdings(
    account: Annotated[int | None, typer.Argument(min=0, max=ACCOUNT_MAX, help="One account; default: all.")] = None,
    db: Db = HERE,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """What accounts hold, per asset and bucket (t, CNY in fen)."""
    rows = [(h.account, h.asset, h.bucket, h.quantity, h.reserved) for h in open_registry(db).holdings(account)]
    print_rows(("account", "asset", "bucket", "quantity", "reserved"), rows, as_json, as_csv)


@app.command()
def ranges(account: Account, asset: Asset, bucket: str = "registry", db: Db = HERE, as_json: Json = False) -> None:
    """The serial ranges in a bucket."""
    from settlement.serials import serial_text

    found = open_registry(db).ranges(account, asset, bucket)
    rows = [(serial_text(asset, first), serial_text(asset, last), last - first + 1) for first, last in found]
    print_rows(("first", "last", "tonnes"), rows, as_json)


@app.command()
def circulation(db: Db = HERE, as_json: Json = False) -> None:
    """Per vintage: issued, and where it is."""
    rows = [
        (code, bucket, tonnes)
        for code, parts in open_registry(db).circulation().items()
        for bucket, tonnes in parts.items()
    ]
    print_rows(("asset", "where", "tonnes"), rows, as_json)


@app.command()
def history(
    serial: Annotated[str, typer.Argument(help="Such as CEA24-000000000017.")], db: Db = HERE, as_json: Json = False
) -> None:
    """Everything that happened to a serial number."""
    from settlement.errors import Refused

    steps = open_registry(db).history(serial)
    if isinstance(steps, Refused):
        fail(str(steps))
    columns = ("batch", "time_ns", "kind", "document", "giver", "taker", "first", "last")
    print_rows(columns, [[getattr(step, name) for name in columns] for step in steps], as_json)


@app.command()
def statement(
    account: Account,
    first: Annotated[int, typer.Argument(callback=date_argument, metavar="YYYYMMDD", help="First day.")],
    last: Annotated[int, typer.Argument(callback=date_argument, metavar="YYYYMMDD", help="Last day.")],
    db: Db = HERE,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """An account's movements, with its balances before and after (--json)."""
    from settlement.errors import Refused
    from settlement.hours import day_bounds_ns
    from settlement.queries import statement_json

    found = open_registry(db).statement(account, day_bounds_ns(first)[0], day_bounds_ns(last)[1])
    if isinstance(found, Refused):
        fail(str(found))
    if as_json:
        print(statement_json(found))
        return
    columns = ("time_ns", "kind", "document", "asset", "bucket", "change")
    print_rows(columns, [[getattr(line, name) for name in columns] for line in found.lines], False, as_csv)
