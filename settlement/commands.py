"""`cea registry …`: every act and every question of the registry on the command line (R13).

Acts need a document number; repeating one does nothing. Exit code 0: done; 1: refused or something found.
"""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
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


def _date(value: int) -> int:
    """A date from the command line; typer names the argument where it is none."""
    from settlement.hours import is_date

    if not is_date(value):
        raise typer.BadParameter(f"{value} is not a date YYYYMMDD.")
    return value


Date = Annotated[int, typer.Argument(callback=_date, metavar="YYYYMMDD", help="A date.")]


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


def _open(where: str, create: bool = False) -> Registry:
    from settlement.registry import Registry

    url = database_url(where)
    file = url.removeprefix("sqlite:///")
    if file != url and not create and not Path(file).is_file():
        _fail(f"{file}: no registry here (make one with `cea registry create`)", 3)
    with _database_faults():
        return Registry.open(url)


@contextmanager
def _database_faults() -> Iterator[None]:
    """A database that cannot be used ends the command with 3 and one line."""
    from sqlalchemy.exc import SQLAlchemyError

    from settlement.versions import SchemaMismatch

    try:
        yield
    except (SchemaMismatch, SQLAlchemyError, UnicodeDecodeError) as error:
        _fail(str(error).splitlines()[0], 3)


def _fail(text: str, code: int = 1) -> NoReturn:
    print(f"cea: {text}", file=sys.stderr)
    raise typer.Exit(code)


def _now() -> int:
    return time.time_ns()


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _answer(result: Any, as_json: bool) -> None:
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


def _rows(columns: Sequence[str], rows: Iterable[Sequence[Any]], as_json: bool, as_csv: bool = False) -> None:
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


# -- the database


@app.command()
def create(db: Db = HERE) -> None:
    """Lay down an empty registry (nothing happens where there is one)."""
    _open(db, create=True).close()


@app.command()
def migrate(db: Db = HERE) -> None:
    """Bring the schema to this program's version."""
    from settlement import store, versions

    with _database_faults():
        engine = store.open_engine(database_url(db))
        before = versions.version(engine)
        versions.migrate(engine)
        print(f"schema {before or 'none'} -> {versions.version(engine)}")


@app.command()
def verify(db: Db = HERE, as_json: Json = False) -> None:
    """Recompute every seal, balance and serial range; exit code 1 when anything does not agree."""
    from settlement.verify import verify as recompute

    findings = recompute(_open(db).engine)
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

    for line in lines(_open(db).engine):
        print(line)


@app.command()
def restore(file: File, db: Db) -> None:
    """Restore a dump into an empty database."""
    from settlement import store
    from settlement.dump import restore as read
    from settlement.errors import Refused

    with _database_faults():
        rows = read(store.open_engine(database_url(db)), _lines(file))
    if isinstance(rows, Refused):
        _fail(str(rows))
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
    _answer(_open(db).open_account(form, document, _now()), as_json)


@app.command("close")
def close_account(account: Account, document: Document, db: Db = HERE, as_json: Json = False) -> None:
    """Close an account that holds nothing."""
    _answer(_open(db).close_account(account, document, _now()), as_json)


@app.command("add-asset")
def add_asset(
    code: Asset,
    vintage: Annotated[int, typer.Option(help="Compliance year of the vintage.")] = 0,
    offset: Annotated[bool, typer.Option("--offset", help="An offset credit (CCER).")] = False,
    db: Db = HERE,
    as_json: Json = False,
) -> None:
    """Register a vintage or an offset credit."""
    _answer(_open(db).add_asset(code, "offset" if offset else "allowance", vintage), as_json)


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
    _answer(_open(db).issue(account, asset, quantity, document, _now(), step), as_json)


def _lines(file: Path) -> Iterable[str]:
    if str(file) == "-":
        return sys.stdin
    if not file.is_file():
        _fail(f"{file}: no such file", 3)
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

    _imported(imports.import_accounts(_open(db), _lines(file), document, _now()), as_json)


@app.command("import-issues")
def import_issues(file: File, db: Db = HERE, as_json: Json = False) -> None:
    """Issue from CSV: account,asset,quantity,document[,step]. A bad row: nothing is imported."""
    from settlement import imports

    _imported(imports.import_issues(_open(db), _lines(file), _now()), as_json)


@app.command("import-obligations")
def import_obligations(file: File, db: Db = HERE, as_json: Json = False) -> None:
    """Verified emissions from CSV: account,year,emissions_t,deadline,document."""
    from settlement import imports

    _imported(imports.import_obligations(_open(db), _lines(file), _now()), as_json)


@app.command()
def accounts(db: Db = HERE, as_json: Json = False, as_csv: Csv = False) -> None:
    """The real-name accounts; --csv is what import-accounts reads."""
    columns = ["account", "number", "name", "identity", "kind", "province", "bank_account"]
    if not as_csv:
        columns.append("state")
    _rows(columns, [[getattr(row, name) for name in columns] for row in _open(db).accounts()], as_json, as_csv)


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
        _answer(act(_open(db), account, asset, quantity, document, _now(), bucket), as_json)

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
        _answer(act(_open(db), freeze, quantity, document, _now()), as_json)

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
    _answer(_open(db).deduct(freeze, quantity, document, _now(), to_account), as_json)


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
    _answer(_open(db).cancel(account, asset, quantity, document, _now(), forced), as_json)


@app.command("request-cancel")
def request_cancel(
    account: Account, asset: Asset, quantity: Quantity, document: Document, db: Db = HERE, as_json: Json = False
) -> None:
    """Ask for a cancellation; the quantity is tied up until decide-cancel (R13.3)."""
    _answer(_open(db).request_cancel(account, asset, quantity, document, _now()), as_json)


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

    _answer(_open(db).decide(ActKind.CANCEL, request, approve, document, _now()), as_json)


@app.command("waiting")
def waiting(db: Db = HERE, as_json: Json = False, as_csv: Csv = False) -> None:
    """Requests that are not decided: cancellations, carry-overs, withdrawals that the bank has not answered."""
    columns = ("kind", "document", "account", "amount", "time_ns")
    _rows(columns, [[getattr(row, name) for name in columns] for row in _open(db).waiting()], as_json, as_csv)


# -- money of the institution


@app.command("fund-reserve")
def fund_reserve(
    amount_fen: Annotated[int, typer.Argument(help="Fen.")], document: Document, db: Db = HERE, as_json: Json = False
) -> None:
    """Pay into the settlement risk reserve (R12.5)."""
    _answer(_open(db).fund_reserve(amount_fen, document, _now()), as_json)


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
        _fail(f"part: {part!r} is not trading or settlement", 2)
    _answer(_open(db).pay_out_fees(amount_fen, document, _now(), buckets[part]), as_json)


@app.command("funds")
def funds(db: Db = HERE, as_json: Json = False) -> None:
    """The institution's own accounts in fen: reserve, fees, what traders owe."""
    _rows(("account", "fen"), _open(db).funds(), as_json)


# -- compliance


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
    _answer(_open(db).set_obligation(account, year, emissions_t, deadline, document, _now()), as_json)


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
    registry = _open(db)
    if for_entity is None:
        result = registry.surrender(account, year, asset, quantity, document, _now())
    else:
        result = registry.forced_surrender(account, for_entity, year, asset, quantity, document, _now())
    _answer(result, as_json)


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
    _answer(_open(db).offset(account, year, asset, quantity, document, _now()), as_json)


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
    _answer(_open(db).cut_allocation(account, vintage, quantity, document, _now()), as_json)


@app.command("carry-over")
def carry_over(
    account: Account, asset: Asset, quantity: Quantity, document: Document, db: Db = HERE, as_json: Json = False
) -> None:
    """Apply to exchange old allowances for CEA25 (R13.8)."""
    _answer(_open(db).apply_carry_over(account, asset, quantity, document, _now()), as_json)


@app.command("decide-carry-over")
def decide_carry_over(
    application: Annotated[str, typer.Argument(help="Document of the application.")],
    approve: Annotated[bool, typer.Option("--approve/--refuse")],
    document: Document,
    db: Db = HERE,
    as_json: Json = False,
) -> None:
    """Approve or refuse a carry-over."""
    _answer(_open(db).decide_carry_over(application, approve, document, _now()), as_json)


@app.command()
def warnings(
    year: int,
    date: Annotated[int, typer.Argument(callback=_date, metavar="YYYYMMDD", help="As of this day.")],
    db: Db = HERE,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Entities that have not complied, those that lack most first; `at-risk` counts their open orders, too."""
    print_warnings(_open(db).warnings(year, date), as_json, as_csv)


def print_warnings(found: Sequence[Any], as_json: bool, as_csv: bool) -> None:
    """Print entities at risk (settlement.compliance.Compliance)."""
    columns = ("account", "emissions", "surrendered", "offset", "missing", "shortfall", "days left", "warning")
    rows = [
        (e.account, e.emissions_t, e.surrendered_t, e.offset_t, e.missing_t, e.shortfall_t, e.days_left, e.warning)
        for e in found
    ]
    _rows(columns, rows, as_json, as_csv)


@app.command()
def certificate(
    account: Account,
    year: int,
    date: Annotated[int, typer.Argument(callback=_date, metavar="YYYYMMDD", help="Date on the page.")],
    key: Annotated[Path, typer.Option(help="Signing key (PEM); made where it is not there.")],
    db: Db = HERE,
) -> None:
    """Print the signed completion certificate of an entity."""
    from settlement import certificate as pages
    from settlement.errors import Refused

    registry = _open(db)
    entity = next((e for e in registry.compliance(year, date) if e.account == account), None)
    form = registry.account(account)
    if isinstance(form, Refused) or entity is None:
        _fail(f"account {account} has no obligation for {year}")
    try:
        if not key.exists():
            pages.new_key(key)
        signing = pages.load_key(key)
    except (OSError, ValueError) as error:
        _fail(f"{key}: {str(error).splitlines()[0]}", 3)
    page = pages.certificate(entity, form, date, signing)
    if isinstance(page, Refused):
        _fail(str(page))
    print(page, end="")  # exactly the signed page, so that a file of it can be checked


@app.command("check-certificate")
def check_certificate(
    page: Annotated[Path, typer.Argument(help="The page as text.")],
    public: Annotated[str, typer.Option(help="The registry's public key: 64 hexadecimal digits.")],
) -> None:
    """Whether a certificate is unchanged and the registry's; needs no registry. Exit code 1: it is not."""
    from settlement.certificate import is_genuine

    if not page.is_file():
        _fail(f"{page}: no such file", 3)
    if not is_genuine(page.read_text(encoding="utf-8"), public.lower()):
        _fail(f"{page}: not genuine")
    print(f"{page}: genuine")


# -- questions


@app.command()
def holdings(
    account: Annotated[int | None, typer.Argument(min=0, max=ACCOUNT_MAX, help="One account; default: all.")] = None,
    db: Db = HERE,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """What accounts hold, per asset and bucket (t, CNY in fen)."""
    rows = [(h.account, h.asset, h.bucket, h.quantity, h.reserved) for h in _open(db).holdings(account)]
    _rows(("account", "asset", "bucket", "quantity", "reserved"), rows, as_json, as_csv)


@app.command()
def ranges(account: Account, asset: Asset, bucket: str = "registry", db: Db = HERE, as_json: Json = False) -> None:
    """The serial ranges in a bucket."""
    from settlement.serials import serial_text

    found = _open(db).ranges(account, asset, bucket)
    rows = [(serial_text(asset, first), serial_text(asset, last), last - first + 1) for first, last in found]
    _rows(("first", "last", "tonnes"), rows, as_json)


@app.command()
def circulation(db: Db = HERE, as_json: Json = False) -> None:
    """Per vintage: issued, and where it is."""
    rows = [
        (code, bucket, tonnes) for code, parts in _open(db).circulation().items() for bucket, tonnes in parts.items()
    ]
    _rows(("asset", "where", "tonnes"), rows, as_json)


@app.command()
def history(
    serial: Annotated[str, typer.Argument(help="Such as CEA24-000000000017.")], db: Db = HERE, as_json: Json = False
) -> None:
    """Everything that happened to a serial number."""
    from settlement.errors import Refused

    steps = _open(db).history(serial)
    if isinstance(steps, Refused):
        _fail(str(steps))
    columns = ("batch", "time_ns", "kind", "document", "giver", "taker", "first", "last")
    _rows(columns, [[getattr(step, name) for name in columns] for step in steps], as_json)


@app.command()
def statement(
    account: Account,
    first: Annotated[int, typer.Argument(callback=_date, metavar="YYYYMMDD", help="First day.")],
    last: Annotated[int, typer.Argument(callback=_date, metavar="YYYYMMDD", help="Last day.")],
    db: Db = HERE,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """An account's movements, with its balances before and after (--json)."""
    from settlement.errors import Refused
    from settlement.hours import day_bounds_ns
    from settlement.queries import statement_json

    found = _open(db).statement(account, day_bounds_ns(first)[0], day_bounds_ns(last)[1])
    if isinstance(found, Refused):
        _fail(str(found))
    if as_json:
        print(statement_json(found))
        return
    columns = ("time_ns", "kind", "document", "asset", "bucket", "change")
    _rows(columns, [[getattr(line, name) for name in columns] for line in found.lines], False, as_csv)


# -- settlement


@app.command()
def day(date: Date, db: Db = HERE, as_json: Json = False) -> None:
    """Where the settlement of a day stands, and which deals are held."""
    from settlement.delivery import Delivery
    from settlement.errors import Refused

    found = Delivery(_open(db)).day(date)
    if isinstance(found, Refused):
        _fail(str(found))
    if as_json:
        print(json.dumps(asdict(found), ensure_ascii=False))
        return
    s = found.summary
    yuan = f"{s.amount_fen // 100:,}.{s.amount_fen % 100:02d}"
    print(f"{date}: {found.state} · {s.deals} deals · {s.quantity_t:,} t · {yuan} CNY")
    for held in found.held:
        print(f"  deal {held.deal_id}: {held.state}: {held.reason}")


@app.command("fees")
def fees(date: Date, db: Db = HERE, as_json: Json = False, as_csv: Csv = False) -> None:
    """The fees of a day's deals in fen, each in the exchange's and the registry's part (R5.7)."""
    columns = ("deal_id", "account", "side", "trading_fen", "settlement_fen")
    found = _open(db).fees_of_deals(date)
    _rows(columns, [[getattr(row, name) for name in columns] for row in found], as_json, as_csv)


@app.command("resolve")
def resolve(
    deal: int,
    how: Annotated[str, typer.Argument(help="retry, cover (by the risk reserve) or reverse.")],
    document: Document,
    by: Annotated[str, typer.Option(help="Who decided.")],
    db: Db = HERE,
) -> None:
    """Resolve a held deal (D26)."""
    from settlement.deals import date_of
    from settlement.delivery import Delivery
    from settlement.errors import Refused

    delivery = Delivery(_open(db))
    if how == "retry":
        result = delivery.retry(date_of(deal), _now())
    elif how == "cover":
        result = delivery.cover(deal, document, by, _now())
    elif how == "reverse":
        result = delivery.reverse(deal, document, by, _now())
    else:
        _fail(f"how: {how!r} is not retry, cover or reverse", 2)
    if isinstance(result, Refused):
        _fail(str(result))
    print(f"{result.date}: {result.state}")


@app.command("object")
def object_to(
    account: Account,
    date: Date,
    why: Annotated[str, typer.Argument(help="What is wrong with the statement.")],
    document: Document,
    db: Db = HERE,
    as_json: Json = False,
) -> None:
    """Record a trader's objection to its statement; possible until the next day opens (R12.4)."""
    from settlement.objections import Objections

    _answer(Objections(_open(db)).object(account, date, why, document, _now()), as_json)


@app.command("answer")
def answer_objection(
    objection: Annotated[str, typer.Argument(help="Document of the objection.")],
    decision: Annotated[str, typer.Argument(help="The decision, in a sentence.")],
    document: Document,
    by: Annotated[str, typer.Option(help="Who decided.")],
    db: Db = HERE,
    as_json: Json = False,
) -> None:
    """Answer an objection."""
    from settlement.objections import Objections

    _answer(Objections(_open(db)).answer(objection, decision, document, by, _now()), as_json)


@app.command("objections")
def objections(date: Date, db: Db = HERE, as_json: Json = False, as_csv: Csv = False) -> None:
    """A day's objections and their answers."""
    from settlement.objections import Objections

    columns = ("account", "date", "document", "why", "answer", "by")
    found = Objections(_open(db)).of_day(date)
    _rows(columns, [[getattr(row, name) for name in columns] for row in found], as_json, as_csv)
