"""Making a market folder: what stands in it at first, and the registry's opening entries."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from cea.output import Exit, fail
from replay.figures import DayFigures

if TYPE_CHECKING:
    from gateway.config import Market
    from settlement.registry import Registry

CEA25_FROM = 20260105
CEA25_REFERENCE = 9821  # its published close of 2026-08-14
LANES: Final = ("plain", "hot")
LAST_PORT: Final = 65_532
MEMBERS_MAX: Final = 4_000  # 3,902 trading accounts exist
FIRST_VINTAGE = 2020  # plain CEA: the first allocation, of 2019 and 2020 (R1.3)
_MINUTE_NS = 60 * 10**9
DAY_FILE = Path(__file__).with_name("day_20251203.toml")


class Endowment(NamedTuple):
    """What a member brings: account number, name, cash (fen), allowances (t) per vintage."""

    account: int
    name: str
    cash: int
    allowances: dict[str, int]


def day_figures() -> DayFigures:
    """The published figures of 2025-12-03."""
    return msgspec.toml.decode(DAY_FILE.read_bytes(), type=DayFigures)


def registry_url(market: Market) -> str:
    """The registry's database URL; a relative SQLite file lies in the market folder."""
    url = market.config.registry
    name = url.removeprefix("sqlite:///")
    if name == url or name.startswith("/") or name == ":memory:":
        return url
    return f"sqlite:///{(market.folder / name).resolve()}"


def open_registry(market: Market, *, hours: bool = False) -> Registry:
    """The registry of a market; the database is made where it is not there. ``hours``: transfers to and from trading
    accounts keep the market's hours (R13.2)."""
    from engine.calendar import parse_clock
    from settlement.hours import TransferHours, date_at
    from settlement.registry import Registry

    registry = Registry.open(registry_url(market))
    if hours:
        first, last = (parse_clock(t) // _MINUTE_NS for t in (market.config.transfers_from, market.config.transfers_to))
        registry.transfer_hours = TransferHours(
            first, last, lambda time_ns: market.calendar.is_trading_day(date_at(time_ns))
        )
    return registry


def accepted(result: Any, what: str) -> None:
    """Ends the command where the registry refuses an act."""
    from settlement.errors import Refused

    if isinstance(result, Refused):
        fail(f"{what}: {result.code}: {result.field}: {result.reason}", Exit.NO)


def fill_registry(market: Market, endowments: Sequence[Endowment]) -> None:
    """Opening entries: real-name accounts, vintages, allowances issued with serial numbers (R13.1)."""
    from settlement.compliance import FIRST_YEAR, LAST_YEAR
    from settlement.registry import AccountForm

    registry, now = open_registry(market), market.start_ns()
    try:
        for code in market.config.instruments:
            vintage = 2000 + int(code[3:]) if code[3:].isdigit() else 0
            vintage = vintage if FIRST_YEAR <= vintage <= LAST_YEAR else FIRST_VINTAGE
            accepted(registry.add_asset(code, "allowance", vintage), f"vintage {code}")
        with registry.batch(now):
            for e in endowments:
                form = AccountForm(
                    account=e.account,
                    number=f"R-{e.account:06d}",
                    name=e.name,
                    identity=f"9131{e.account:014d}",
                    bank_account=f"6222{e.account:012d}",
                )
                accepted(registry.open_account(form, f"open-{e.account}", now), f"account {e.account}")
                for code, quantity in e.allowances.items():
                    document = f"issue-{e.account}-{code}"
                    accepted(registry.issue(e.account, code, quantity, document, now), document)
    finally:
        registry.close()


def vintages_on(date: int) -> tuple[dict[str, int], int]:
    """Vintages with a reference price each, and the composite's previous close, for a market that begins on a date.

    Those of 2025-12-03; from 2026-01-05 on with CEA25, whose close alone is then the composite (R1.3, R7.2).
    """
    day = day_figures()
    references = {v.code: v.previous for v in day.vintages}
    if date < CEA25_FROM:
        return references, day.composite.previous
    return {**references, "CEA25": CEA25_REFERENCE}, CEA25_REFERENCE


def make_market(
    folder: Path, endowments: Sequence[Endowment], *, days: Sequence[int] | None = None, **changes: Any
) -> Market:
    """A market folder with the vintages of its first date (:func:`vintages_on`) and these members."""
    from gateway.config import Config, ConfigError, Member, create

    date = changes.get("first_date", day_figures().date)
    instruments, composite = vintages_on(date)
    settings: dict[str, Any] = {
        "first_date": date,
        "instruments": instruments,
        "composite": composite,
        "members": tuple(Member(e.account, e.name) for e in endowments),
        **changes,
    }
    try:
        market = create(folder, Config(**settings), days=days)
    except ConfigError as error:
        fail(str(error), Exit.CONFIG)
    except OSError as error:
        fail(f"{folder}: the market cannot be made here: {error}", Exit.CONFIG)
    fill_registry(market, endowments)
    return market


def default_endowments(members: int, date: int, *, empty: bool) -> list[Endowment]:
    """Members of a market to play with: 20,000,000 CNY and 200,000 t of each vintage, unless empty."""
    cash = 0 if empty else 20_000_000_00
    stock = {} if empty else dict.fromkeys(vintages_on(date)[0], 200_000)
    return [Endowment(n, f"Member {n:02d}", cash, stock) for n in range(1, members + 1)]


def init_command(
    folder: Path, *, yes: bool, name: str, members: int, date: int, port: int, registry: str, lane: str, empty: bool
) -> None:
    """`cea init`: asks what was not given, makes the folder, says what is in it."""
    import typer

    from gateway.config import Config, Gateway

    if (folder / "market.toml").exists():
        fail(f"{folder}: there is a market already", Exit.CONFIG)
    name = name or Config().name
    if not yes:
        if not sys.stdin.isatty():
            fail("nobody can be asked here: add --yes", Exit.USAGE)
        folder = Path(typer.prompt("Folder", default=str(folder)))
        if (folder / "market.toml").exists():
            fail(f"{folder}: there is a market already", Exit.CONFIG)
        name = typer.prompt("Name of the market", default=name)
        date = typer.prompt("First trading day, YYYYMMDD", default=date or next_trading_day(), type=int)
        members = typer.prompt("Member accounts", default=members, type=int)
        port = typer.prompt(
            "First of four ports: members, operators, feed, metrics (0: free ones)", default=port, type=int
        )
        lane = typer.prompt(f"Lane of the members' orders, {' or '.join(LANES)}", default=lane)
        registry = typer.prompt("Registry's database: an SQLite file, or postgresql+psycopg://…", default=registry)
        empty = not typer.confirm("Give the members cash and allowances to trade with?", default=not empty)
    if lane not in LANES:
        fail(f"lane {lane!r}: {' or '.join(LANES)}", Exit.USAGE)
    if not 0 <= port <= LAST_PORT:
        fail(f"port {port}: it and the next three must be ports, so 0 … {LAST_PORT:,}", Exit.USAGE)
    if not 1 <= members <= MEMBERS_MAX:
        fail(f"members {members}: 1 … {MEMBERS_MAX:,}", Exit.USAGE)
    first = date or next_trading_day()
    endowments = default_endowments(members, first, empty=empty)
    ports = dict(
        zip(("members_port", "operators_port", "feed_port", "metrics_port"), range(port, port + 4), strict=True)
    )
    gateway = Gateway(lane=lane, **(ports if port else {}))  # type: ignore[arg-type]
    market = make_market(folder, endowments, name=name, first_date=first, gateway=gateway, registry=registry)
    save_funding(market, endowments)
    from gateway.config_text import write_surveillance

    write_surveillance(market)
    vintages, horizon = len(market.config.instruments), market.calendar.horizon
    print(f"{folder}: {name}, {vintages} vintages, {members} members, first day {market.config.first_date}")
    print("  market.toml        rules, members, ports: every option with its unit, range and default")
    print("  surveillance.toml  thresholds, all at their defaults")
    print(f"  calendar.toml      trading days up to {horizon}")
    print("  keys/              one key per member and operator (0600)")
    print(f"  registry           {market.config.registry}: accounts, allowances, serial numbers")
    print(f"Next: cea doctor -m {folder}, cea serve {folder}")
    print(f"and in another terminal: cea fund -m {folder}, cea status -m {folder}")


def save_funding(market: Market, endowments: Sequence[Endowment]) -> None:
    """What `cea fund` will move into trading, as a file that a person can change before."""
    rows = [list(e) for e in endowments if e.cash or e.allowances]
    (market.folder / "funding.json").write_bytes(msgspec.json.format(msgspec.json.encode(rows)))


def load_funding(market: Market) -> list[Endowment]:
    """The funding file; ends the command where it cannot be read, with path and reason."""
    path = market.folder / "funding.json"
    try:
        return msgspec.convert(msgspec.json.decode(path.read_bytes()), list[Endowment])
    except FileNotFoundError:
        return []
    except msgspec.DecodeError as error:
        fail(f"{path}: {error}", Exit.CONFIG)


def next_trading_day() -> int:
    """The first XSHG session from today on, Asia/Shanghai. The calendar's end is an error with its date."""
    import datetime as dt

    from engine.calendar import TradingCalendar, from_date

    today = from_date(dt.datetime.now(dt.timezone(dt.timedelta(hours=8))).date())
    try:
        calendar = TradingCalendar.shanghai(today - 10_000, 21_001_231)
        return today if calendar.is_trading_day(today) else calendar.next_day(today)
    except ValueError as error:
        fail(f"{error}: name a day with --date", Exit.CONFIG)
