"""`cea registry …`: the database, accounts and vintages, freezes and deductions, the institution's own money (R13)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from settlement.command_line import (
    HERE,
    Account,
    Asset,
    Csv,
    Db,
    Document,
    File,
    Json,
    Quantity,
    answer,
    app,
    database_faults,
    database_url,
    fail,
    now_ns,
    open_registry,
    print_rows,
)

# -- the database


@app.command()
def create(db: Db = HERE) -> None:
    """Lay down an empty registry (nothing happens where there is one)."""
    open_registry(db, create=True).close()


@app.command()
def migrate(db: Db = HERE) -> None:
    """Bring the schema to this program's version."""
    from settlement import store, versions

    with database_faults():
        engine = store.open_engine(database_url(db))
        before = versions.version(engine)
        versions.migrate(engine)
        print(f"schema {before or 'none'} -> {versions.version(engine)}")


@app.command()
def verify(db: Db = HERE, as_json: Json = False) -> None:
    """Recompute every seal, balance and serial range; exit code 1 when anything does not agree."""
    from settlement.verify import verify as recompute

    findings = recompute(open_registry(db).engine)
    if as_json:
        print(json.dumps({"sound": not findings, "findings": findings}, ensure_ascii=False))
    else:
        print("\n".join(findings) or "sound: every seal, balance and serial range agrees")
    if findings:
        raise typer.Exit(1)


@app.command()
def dump(db: Db = HERE) -> None:
    """Write the registry as SQL to standard output; `restore` reads it back, also into another database."""
    from settlement.dump import dump as lines

    for line in lines(open_registry(db).engine):
        print(line)


@app.command()
def restore(file: File, db: Db) -> None:
    """Restore a dump into an empty database."""
    from settlement import store
    from settlement.dump import restore as read
    from settlement.errors import Refused

    with database_faults():
        rows = read(store.open_engine(database_url(db)), _lines(file))
    if isinstance(rows, Refused):
        fail(str(rows))
    print(f"{rows} rows restored and verified")


# -- accounts, vintages, issue


@app.command("open")
def open_account(
    account: Account,
    number: Annotated[str, typer.Option(help="Registry account number.")],
    name: Annotated[str, typer.Option(help="Registered name.")],
    identity: Annotated[str, typer.Option(help="Unified social credit code.")],
    document: Document,
    kind: Annotated[str, typer.Option(help="entity, institution, individual or authority.")] = "entity",
    province: str = "",
    bank_account: str = "",
    db: Db = HERE,
    as_json: Json = False,
) -> None:
    """Open a real-name account."""
    from settlement.accounts import AccountForm

    form = AccountForm(account, number, name, identity, kind, province, bank_account)
    answer(open_registry(db).open_account(form, document, now_ns()), as_json)


@app.command("close")
def close_account(account: Account, document: Document, db: Db = HERE, as_json: Json = False) -> None:
    """Close an account that holds nothing."""
    answer(open_registry(db).close_account(account, document, now_ns()), as_json)


@app.command("add-asset")
def add_asset(
    code: Asset,
    vintage: Annotated[int, typer.Option(help="Compliance year of the vintage.")] = 0,
    offset: Annotated[bool, typer.Option("--offset", help="An offset credit (CCER).")] = False,
    db: Db = HERE,
    as_json: Json = False,
) -> None:
    """Register a vintage or an offset credit."""
    answer(open_registry(db).add_asset(code, "offset" if offset else "allowance", vintage), as_json)


@app.command()
def issue(
    account: Account,
    asset: Asset,
    quantity: Quantity,
    document: Document,
    step: Annotated[str, typer.Option(help="pre-allocation, final or adjustment.")] = "pre-allocation",
    db: Db = HERE,
    as_json: Json = False,
) -> None:
    """Issue allowances with serial numbers."""
    answer(open_registry(db).issue(account, asset, quantity, document, now_ns(), step), as_json)


def _lines(file: Path) -> Iterable[str]:
    if str(file) == "-":
        return sys.stdin
    if not file.is_file():
        fail(f"{file}: no such file", 3)
    return file.open(encoding="utf-8-sig", newline="")


def _imported(result: Any, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(result), ensure_ascii=False))
    elif result.bad:
        print("\n".join(str(row) for row in result.bad), file=sys.stderr)
        print(f"cea: nothing imported: {len(result.bad)} bad rows", file=sys.stderr)
    else:
        print(f"{result.rows} rows imported, {result.repeated} of them were there already")
    if result.bad:
        raise typer.Exit(1)


@app.command("import-accounts")
def import_accounts(file: File, document: Document, db: Db = HERE, as_json: Json = False) -> None:
    """Open accounts from CSV: account,number,name,identity[,kind,province,bank_account]."""
    from settlement import imports

    _imported(imports.import_accounts(open_registry(db), _lines(file), document, now_ns()), as_json)


@app.command("import-issues")
def import_issues(file: File, db: Db = HERE, as_json: Json = False) -> None:
    """Issue from CSV: account,asset,quantity,document[,step]. A bad row: nothing is imported."""
    from settlement import imports

    _imported(imports.import_issues(open_registry(db), _lines(file), now_ns()), as_json)


@app.command("import-obligations")
def import_obligations(file: File, db: Db = HERE, as_json: Json = False) -> None:
    """Verified emissions from CSV: account,year,emissions_t,deadline,document."""
    from settlement import imports

    _imported(imports.import_obligations(open_registry(db), _lines(file), now_ns()), as_json)


@app.command()
def accounts(db: Db = HERE, as_json: Json = False, as_csv: Csv = False) -> None:
    """The real-name accounts; --csv is what import-accounts reads."""
    columns = ["account", "number", "name", "identity", "kind", "province", "bank_account"]
    if not as_csv:
        columns.append("state")
    print_rows(
        columns, [[getattr(row, name) for name in columns] for row in open_registry(db).accounts()], as_json, as_csv
    )


# -- freezes, deductions, cancellation


def _freezing(name: str, text: str, act: Callable[..., Any]) -> None:
    def command(
        account: Account,
        asset: Asset,
        quantity: Quantity,
        document: Document,
        bucket: Annotated[str, typer.Option(help="Where it lies: registry or trading.")] = "registry",
        db: Db = HERE,
        as_json: Json = False,
    ) -> None:
        answer(act(open_registry(db), account, asset, quantity, document, now_ns(), bucket), as_json)

    command.__doc__ = text
    app.command(name)(command)


def _lifting(name: str, text: str, act: Callable[..., Any]) -> None:
    def command(
        freeze: Annotated[str, typer.Argument(help="Document of the freeze or pledge.")],
        quantity: Quantity,
        document: Document,
        db: Db = HERE,
        as_json: Json = False,
    ) -> None:
        answer(act(open_registry(db), freeze, quantity, document, now_ns()), as_json)

    command.__doc__ = text
    app.command(name)(command)


_freezing("freeze", "Freeze judicially.", lambda registry, *terms: registry.freeze(*terms))
_freezing("pledge", "Freeze in favour of a third party.", lambda registry, *terms: registry.pledge(*terms))
_lifting("unfreeze", "Lift a judicial freeze, in full or in part.", lambda registry, *terms: registry.unfreeze(*terms))
_lifting("release", "Lift a third-party freeze, in full or in part.", lambda registry, *terms: registry.release(*terms))


@app.command()
def deduct(
    freeze: Annotated[str, typer.Argument(help="Document of the judicial freeze.")],
    quantity: Quantity,
    document: Document,
    to_account: Annotated[int | None, typer.Option(help="Who gets it; nobody: out of circulation.")] = None,
    db: Db = HERE,
    as_json: Json = False,
) -> None:
    """Deduct judicially from what is frozen."""
    answer(open_registry(db).deduct(freeze, quantity, document, now_ns(), to_account), as_json)


@app.command()
def cancel(
    account: Account,
    asset: Asset,
    quantity: Quantity,
    document: Document,
    forced: Annotated[bool, typer.Option("--forced", help="Ordered, not voluntary.")] = False,
    db: Db = HERE,
    as_json: Json = False,
) -> None:
    """Cancel allowances for good (R13.6)."""
    answer(open_registry(db).cancel(account, asset, quantity, document, now_ns(), forced), as_json)


@app.command("request-cancel")
def request_cancel(
    account: Account, asset: Asset, quantity: Quantity, document: Document, db: Db = HERE, as_json: Json = False
) -> None:
    """Ask for a cancellation; the quantity is tied up until decide-cancel (R13.3)."""
    answer(open_registry(db).request_cancel(account, asset, quantity, document, now_ns()), as_json)


@app.command("decide-cancel")
def decide_cancel(
    request: Annotated[str, typer.Argument(help="Document of the request.")],
    approve: Annotated[bool, typer.Option("--approve/--refuse")],
    document: Document,
    db: Db = HERE,
    as_json: Json = False,
) -> None:
    """Approve or refuse a requested cancellation."""
    from settlement.kinds import ActKind

    answer(open_registry(db).decide(ActKind.CANCEL, request, approve, document, now_ns()), as_json)


@app.command("waiting")
def waiting(db: Db = HERE, as_json: Json = False, as_csv: Csv = False) -> None:
    """Requests that are not decided: cancellations, carry-overs, withdrawals that the bank has not answered."""
    columns = ("kind", "document", "account", "amount", "time_ns")
    print_rows(
        columns, [[getattr(row, name) for name in columns] for row in open_registry(db).waiting()], as_json, as_csv
    )


# -- money of the institution


@app.command("fund-reserve")
def fund_reserve(
    amount_fen: Annotated[int, typer.Argument(help="Fen.")], document: Document, db: Db = HERE, as_json: Json = False
) -> None:
    """Pay into the settlement risk reserve (R12.5)."""
    answer(open_registry(db).fund_reserve(amount_fen, document, now_ns()), as_json)


@app.command("pay-fees")
def pay_fees(
    amount_fen: Annotated[int, typer.Argument(help="Fen.")],
    document: Document,
    part: Annotated[str, typer.Option(help="trading (the exchange's) or settlement (the registry's).")] = "trading",
    db: Db = HERE,
    as_json: Json = False,
) -> None:
    """Pay collected fees out to the exchange or the registry institution (R5.7)."""
    from settlement.kinds import SETTLEMENT_FEES, TRADING_FEES

    buckets = {"trading": TRADING_FEES, "settlement": SETTLEMENT_FEES}
    if part not in buckets:
        fail(f"part: {part!r} is not trading or settlement", 2)
    answer(open_registry(db).pay_out_fees(amount_fen, document, now_ns(), buckets[part]), as_json)


@app.command("funds")
def funds(db: Db = HERE, as_json: Json = False) -> None:
    """The institution's own accounts in fen: reserve, fees, what traders owe."""
    print_rows(("account", "fen"), open_registry(db).funds(), as_json)
