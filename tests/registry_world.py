"""Databases and small worlds for the settlement tests: one suite on SQLite and on PostgreSQL.

PostgreSQL is started once per test process, on a free port, in its own folder, as a user that is not root (D35).
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from settlement.clearing import summarise
from settlement.deals import DEAL, Deals, deal_id
from settlement.delivery import Day, Delivery
from settlement.errors import accepted
from settlement.registry import AccountForm, Registry

DAY = 20251203
PORTS_TRIED = 5
NOON = 1_764_734_400 * 10**9  # 2025-12-03 12:00 Asia/Shanghai
DAY_BEFORE = NOON - 24 * 3600 * 10**9


@dataclass(frozen=True)
class PostgresServer:
    """A running server of our own."""

    folder: Path
    port: int
    bin: Path

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://cea@127.0.0.1:{self.port}/{database}"

    def run(self, *command: str) -> None:
        _as_user(self.bin / command[0], *command[1:])


def postgres_bin() -> Path | None:
    """Where the server's programs are, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    on_path = shutil.which("initdb")
    if found:
        return found[-1]
    return Path(on_path).resolve().parent if on_path else None


def _user() -> str | None:
    """The user to run the server as: ourselves, or for root the first of postgres and nobody."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in names)


def _as_user(*command: object) -> None:
    name = _user()
    words = [str(word) for word in command]
    if name is not None:
        words = ["setpriv", f"--reuid={name}", f"--regid={pwd.getpwnam(name).pw_gid}", "--clear-groups", *words]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, f"{words}: {done.stdout} {done.stderr}"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


def new_folder() -> Path:
    """A folder that the server's user owns; tmp_path's parents are closed to other users."""
    folder = Path(tempfile.mkdtemp(prefix="cea-pg-"))
    name = _user()
    if name is not None:
        shutil.chown(folder, name)
    return folder


def serve_on_a_free_port(programs: Path, folder: Path, options: str = "") -> int:
    """Starts the server of a folder; the port that it got. Another process may be quicker to take a port that was
    free a moment ago: then the next one is tried."""
    for _ in range(PORTS_TRIED):
        port = free_port()
        arguments = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 {options}"
        log = folder / f"log-{port}"
        try:
            _as_user(programs / "pg_ctl", "-D", folder / "data", "-l", log, "-o", arguments, "-w", "-t", "240", "start")
            return port
        except AssertionError as error:
            said = f"{error}\n{log.read_text() if log.exists() else ''}"
            if "in use" not in said:
                raise AssertionError(said) from error
    raise AssertionError(f"{PORTS_TRIED} ports were taken: {said}")


def start_postgres(options: str = "") -> Iterator[PostgresServer]:
    """A server for the block; stopped and deleted at its end."""
    programs = postgres_bin()
    assert programs is not None
    folder = new_folder()
    data = folder / "data"
    _as_user(programs / "initdb", "-D", data, "-U", "cea", "--auth=trust", "-E", "UTF8", "--no-sync")
    port = serve_on_a_free_port(programs, folder, options)
    try:
        yield PostgresServer(folder, port, programs)
    finally:
        if (data / "postmaster.pid").exists():  # a test may have killed it
            _as_user(programs / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def small_world(url: str, accounts: int = 4, tonnes: int = 1_000_000, cash_fen: int = 10**12) -> Registry:
    """A registry with accounts 1 … n, each with tonnes of CEA23 and CEA24 in trading, and cash."""
    registry = Registry.open(url)
    for code, vintage in (("CEA23", 2023), ("CEA24", 2024)):
        assert registry.add_asset(code, vintage=vintage) is None
    with registry.batch(DAY_BEFORE):
        for account in range(1, accounts + 1):
            form = AccountForm(account, f"R{account:05d}", f"Power Station {account}", f"91-{account:05d}")
            accepted(registry.open_account(form, f"open-{account}", DAY_BEFORE))
            for code in ("CEA23", "CEA24") if tonnes else ():
                accepted(registry.issue(account, code, tonnes, f"issue-{code}-{account}", DAY_BEFORE))
                accepted(registry.move_in(account, code, tonnes, f"in-{code}-{account}", DAY_BEFORE))
            if cash_fen:
                accepted(registry.deposit(account, cash_fen, f"deposit-{account}", DAY_BEFORE))
    return registry


def some_deals(count: int, accounts: int = 4, seed: int = 1, fees: bool = False, date: int = DAY) -> Deals:
    """Random deals of a day between accounts 1 … n."""
    random = np.random.default_rng(seed)
    deals = np.zeros(count, dtype=DEAL)
    deals["deal_id"] = deal_id(date, 1) + np.arange(count, dtype=np.uint64)
    deals["seq"] = np.arange(1, count + 1)
    deals["time_ns"] = NOON + np.arange(count)
    deals["price_fen"] = random.integers(5_000, 6_500, count)
    deals["quantity_t"] = random.integers(1, 100, count)
    deals["amount_fen"] = deals["price_fen"] * deals["quantity_t"]
    if fees:
        deals["buyer_fee_fen"] = deals["amount_fen"] // 1_000
        deals["seller_fee_fen"] = deals["amount_fen"] // 2_000
    deals["date"] = date
    deals["buyer"] = random.integers(1, accounts + 1, count)
    deals["seller"] = (deals["buyer"] - 1 + random.integers(1, accounts, count)) % accounts + 1
    deals["instrument"] = random.choice([b"CEA23", b"CEA24"], count)
    return deals


def one_deal(number: int, buyer: int, seller: int, quantity: int, price: int = 6_000, code: bytes = b"CEA24") -> Deals:
    """One deal of the day."""
    deal = some_deals(1)
    deal["deal_id"], deal["buyer"], deal["seller"], deal["instrument"] = deal_id(DAY, number), buyer, seller, code
    deal["price_fen"], deal["quantity_t"], deal["amount_fen"] = price, quantity, price * quantity
    return deal


def confirmed(registry: Registry, deals: Deals, date: int = DAY) -> Delivery:
    """The day received, cleared and confirmed."""
    delivery = Delivery(registry)
    assert accepted(delivery.receive(date, [deals], NOON)) == len(deals)
    accepted(delivery.clear(date, NOON))
    assert delivery.confirm(summarise(date, [deals]), NOON) is None
    return delivery


def settled(registry: Registry, deals: Deals, block: int = 20_000) -> Day:
    """The day settled."""
    return accepted(confirmed(registry, deals).settle(DAY, NOON, block_deals=block))


def expected_balances(
    registry_before: dict[tuple[int, str], int],
    deals: Deals,
    held: set[int] = frozenset(),  # type: ignore[assignment]
) -> dict[tuple[int, str], int]:
    """Trading and cash balances after the deals, from a dictionary: the naive model."""
    book = dict(registry_before)
    for deal in deals:
        if int(deal["deal_id"]) in held:
            continue
        code, quantity, amount = deal["instrument"].decode(), int(deal["quantity_t"]), int(deal["amount_fen"])
        buyer, seller = int(deal["buyer"]), int(deal["seller"])
        for account, asset, change in (
            (buyer, code, quantity),
            (seller, code, -quantity),
            (buyer, "CNY", -amount - int(deal["buyer_fee_fen"])),
            (seller, "CNY", amount - int(deal["seller_fee_fen"])),
        ):
            book[account, asset] = book.get((account, asset), 0) + change
    return {key: value for key, value in book.items() if value}


def trading_balances(registry: Registry) -> dict[tuple[int, str], int]:
    """What every trader has in trading and cash."""
    return {(h.account, h.asset): h.quantity for h in registry.holdings() if h.bucket in ("trading", "cash")}


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for the test process."""
    if postgres_bin() is None:
        pytest.skip("PostgreSQL's server is not installed here")
    yield from start_postgres()


_databases = iter(range(10**9))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, once of each kind. PostgreSQL's turn is with the slow tests: making a database costs
    more than most tests do. The fast suite has its own tests of it, which take ``postgres``."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/registry.db"
    return new_database(request.getfixturevalue("postgres"))


def new_database(server: PostgresServer) -> str:
    """The URL of a new, empty database on the server."""
    name = f"t{next(_databases)}"
    server.run("createdb", "-h", "127.0.0.1", "-p", str(server.port), "-U", "cea", name)
    return server.url(name)


@pytest.fixture
def world(url: str) -> Iterator[Registry]:
    """A small world on each kind of database."""
    registry = small_world(url)
    yield registry
    registry.close()
