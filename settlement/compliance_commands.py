"""`cea registry …`: obligations, surrender, offsets, carry-over, warnings and certificates (R13)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from settlement.command_line import (
    HERE,
    Account,
    Asset,
    Csv,
    Date,
    Db,
    Document,
    Json,
    Quantity,
    answer,
    app,
    date_argument,
    fail,
    now_ns,
    open_registry,
    print_rows,
)


@app.command()
def obligation(
    account: Account,
    year: int,
    emissions_t: int,
    deadline: Date,
    document: Document,
    db: Db = HERE,
    as_json: Json = False,
) -> None:
    """Record a year's verified emissions and its deadline."""
    answer(open_registry(db).set_obligation(account, year, emissions_t, deadline, document, now_ns()), as_json)


@app.command()
def surrender(
    account: Account,
    year: int,
    asset: Asset,
    quantity: Quantity,
    document: Document,
    for_entity: Annotated[int | None, typer.Option(help="Forced: the entity that ACCOUNT surrenders for.")] = None,
    db: Db = HERE,
    as_json: Json = False,
) -> None:
    """Surrender allowances for a compliance year (R13.4)."""
    registry = open_registry(db)
    if for_entity is None:
        result = registry.surrender(account, year, asset, quantity, document, now_ns())
    else:
        result = registry.forced_surrender(account, for_entity, year, asset, quantity, document, now_ns())
    answer(result, as_json)


@app.command()
def offset(
    account: Account,
    year: int,
    asset: Asset,
    quantity: Quantity,
    document: Document,
    db: Db = HERE,
    as_json: Json = False,
) -> None:
    """Cancel CCER and count them for the year, up to 5 % (R13.5)."""
    answer(open_registry(db).offset(account, year, asset, quantity, document, now_ns()), as_json)


@app.command()
def cut(
    account: Account,
    vintage: Annotated[int, typer.Argument(min=2019, max=2199)],
    quantity: Quantity,
    document: Document,
    db: Db = HERE,
    as_json: Json = False,
) -> None:
    """Cut a later year's allocation (R13.7)."""
    answer(open_registry(db).cut_allocation(account, vintage, quantity, document, now_ns()), as_json)


@app.command("carry-over")
def carry_over(
    account: Account, asset: Asset, quantity: Quantity, document: Document, db: Db = HERE, as_json: Json = False
) -> None:
    """Apply to exchange old allowances for CEA25 (R13.8)."""
    answer(open_registry(db).apply_carry_over(account, asset, quantity, document, now_ns()), as_json)


@app.command("decide-carry-over")
def decide_carry_over(
    application: Annotated[str, typer.Argument(help="Document of the application.")],
    approve: Annotated[bool, typer.Option("--approve/--refuse")],
    document: Document,
    db: Db = HERE,
    as_json: Json = False,
) -> None:
    """Approve or refuse a carry-over."""
    answer(open_registry(db).decide_carry_over(application, approve, document, now_ns()), as_json)


@app.command()
def warnings(
    year: int,
    date: Annotated[int, typer.Argument(callback=date_argument, metavar="YYYYMMDD", help="As of this day.")],
    db: Db = HERE,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Entities that have not complied, those that lack most first; `at-risk` counts their open orders, too."""
    print_warnings(open_registry(db).warnings(year, date), as_json, as_csv)


def print_warnings(found: Sequence[Any], as_json: bool, as_csv: bool) -> None:
    """Print entities at risk (settlement.compliance.Compliance)."""
    columns = ("account", "emissions", "surrendered", "offset", "missing", "shortfall", "days left", "warning")
    rows = [
        (e.account, e.emissions_t, e.surrendered_t, e.offset_t, e.missing_t, e.shortfall_t, e.days_left, e.warning)
        for e in found
    ]
    print_rows(columns, rows, as_json, as_csv)


@app.command()
def certificate(
    account: Account,
    year: int,
    date: Annotated[int, typer.Argument(callback=date_argument, metavar="YYYYMMDD", help="Date on the page.")],
    key: Annotated[Path, typer.Option(help="Signing key (PEM); made where it is not there.")],
    db: Db = HERE,
) -> None:
    """Print the signed completion certificate of an entity."""
    from settlement import certificate as pages
    from settlement.errors import Refused

    registry = open_registry(db)
    entity = next((e for e in registry.compliance(year, date) if e.account == account), None)
    form = registry.account(account)
    if isinstance(form, Refused) or entity is None:
        fail(f"account {account} has no obligation for {year}")
    try:
        if not key.exists():
            pages.new_key(key)
        signing = pages.load_key(key)
    except (OSError, ValueError) as error:
        fail(f"{key}: {str(error).splitlines()[0]}", 3)
    page = pages.certificate(entity, form, date, signing)
    if isinstance(page, Refused):
        fail(str(page))
    print(page, end="")  # exactly the signed page, so that a file of it can be checked


@app.command("check-certificate")
def check_certificate(
    page: Annotated[Path, typer.Argument(help="The page as text.")],
    public: Annotated[str, typer.Option(help="The registry's public key: 64 hexadecimal digits.")],
) -> None:
    """Whether a certificate is unchanged and the registry's; needs no registry. Exit code 1: it is not."""
    from settlement.certificate import is_genuine

    if not page.is_file():
        fail(f"{page}: no such file", 3)
    if not is_genuine(page.read_text(encoding="utf-8"), public.lower()):
        fail(f"{page}: not genuine")
    print(f"{page}: genuine")
