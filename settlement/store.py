"""Opening the registry's database, transactions, and bulk rows, the same for SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, Engine, Table, create_engine, event, insert
from sqlalchemy.engine import make_url

from settlement.serials import DatedRange

# A writer that finds the database locked waits this long before it gives up: longer than any one posting.
_BUSY_MS: Final = 60_000


def open_engine(url: str) -> Engine:
    """A SQLAlchemy engine for ``sqlite:///file`` or ``postgresql+psycopg://…``, set up for durability."""
    parsed = make_url(url)
    dialect = parsed.get_backend_name()
    assert dialect in ("sqlite", "postgresql"), f"registry database {dialect} is not supported"
    engine = create_engine(parsed, future=True)
    if dialect == "sqlite":
        event.listen(engine, "connect", _sqlite_connect)
        event.listen(engine, "begin", _sqlite_begin)
    return engine


def _sqlite_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we begin transactions ourselves, below
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_BUSY_MS}"):
        connection.execute(f"PRAGMA {pragma}")


def _sqlite_begin(connection: Connection) -> None:
    mode = connection.get_execution_options().get("sqlite_begin", "BEGIN")
    connection.exec_driver_sql(mode)


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that commits at the end of the block. SQLite takes the write lock at once, so that no
    transaction has to be upgraded half-way; PostgreSQL's writers lock the head row (``Posting``)."""
    with engine.connect().execution_options(sqlite_begin="BEGIN IMMEDIATE") as connection, connection.begin():
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A read transaction with one view of the database: no reader sees one leg of a deal."""
    options = {} if engine.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
    with engine.connect().execution_options(**options) as connection, connection.begin():
        yield connection


@lru_cache(maxsize=64)
def _sqlite_insert(table: Table, columns: tuple[str, ...]) -> str:
    marks = ",".join("?" * len(columns))
    # Names of columns and tables are ours (schema.py), never input; "first", "last" need the quotes.
    names = ",".join(f'"{column}"' for column in columns)
    return f'INSERT INTO "{table.name}" ({names}) VALUES ({marks})'


def insert_rows(connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert many rows as fast as the database takes them: executemany on SQLite, COPY on PostgreSQL."""
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(_sqlite_insert(table, tuple(columns)), list(rows))
    elif len(rows) < 50:  # below this a COPY costs more than it saves
        connection.execute(insert(table), [dict(zip(columns, row, strict=True)) for row in rows])
    else:
        names = ",".join(f'"{column}"' for column in columns)
        cursor = connection.connection.cursor()
        with cursor.copy(f'COPY "{table.name}" ({names}) FROM STDIN') as copy:  # type: ignore[attr-defined]
            for row in rows:
                copy.write_row(row)
        cursor.close()


BALANCE_COLUMNS: Final = ("credits_posted", "debits_posted", "credits_pending", "debits_pending")


def update_balances(connection: Connection, rows: Sequence[tuple[int, int, int, int, int]]) -> None:
    """Set the four sides of ledger accounts; a row is (credits_posted, debits_posted, …pending, id)."""
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        sides = ",".join(f"{column}=?" for column in BALANCE_COLUMNS)
        connection.exec_driver_sql(f"UPDATE ledger_account SET {sides} WHERE id=?", list(rows))
        return
    sides = ",".join(f"{column}=n.{column}" for column in BALANCE_COLUMNS)
    names = ",".join(BALANCE_COLUMNS)
    arrays = ",".join(["%s::bigint[]"] * 5)
    connection.exec_driver_sql(
        f"UPDATE ledger_account a SET {sides} FROM unnest({arrays}) AS n({names}, id) WHERE a.id = n.id",
        tuple([list(column) for column in zip(*rows, strict=True)]),
    )


def delete_ranges(connection: Connection, rows: Sequence[tuple[int, int, int]]) -> None:
    """Delete stored ranges, each an (account, day, first)."""
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql('DELETE FROM holding_range WHERE account=? AND day=? AND "first"=?', list(rows))
        return
    connection.exec_driver_sql(
        "DELETE FROM holding_range h USING unnest(%s::bigint[], %s::bigint[], %s::bigint[]) AS n(account, day, f) "
        'WHERE h.account = n.account AND h.day = n.day AND h."first" = n.f',
        tuple(list(column) for column in zip(*rows, strict=True)),
    )


def load_ranges(connection: Connection, account: int, after: tuple[int, int], limit: int) -> list[DatedRange]:
    """The stored ranges of one account with (day, first) > ``after``, ascending."""
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    # Straight to the driver: this runs tens of thousands of times a settlement, and SQLAlchemy's result
    # object would cost four times what the query does.
    cursor = connection.connection.cursor()
    cursor.execute(
        f'SELECT day, "first", "last" FROM holding_range WHERE account={mark} AND (day, "first") > ({mark},{mark}) '
        f'ORDER BY day, "first" LIMIT {mark}',
        (account, *after, limit),
    )
    rows = list(cursor.fetchall())
    cursor.close()
    return rows


def first_ranges(connection: Connection, accounts: Iterable[int], limit: int) -> dict[int, list[DatedRange]]:
    """The next ``limit`` ranges that each account gives: one round trip on PostgreSQL, cheap calls on SQLite."""
    wanted = list(accounts)
    if connection.dialect.name == "sqlite":
        return {account: load_ranges(connection, account, (0, 0), limit) for account in wanted}
    found: dict[int, list[DatedRange]] = {account: [] for account in wanted}
    rows = connection.exec_driver_sql(
        'SELECT n.account, r.day, r."first", r."last" FROM unnest(%s::bigint[]) AS n(account), '
        'LATERAL (SELECT h.day, h."first", h."last" FROM holding_range h WHERE h.account = n.account '
        'ORDER BY h.day, h."first" LIMIT %s) r ORDER BY n.account, r.day, r."first"',
        (wanted, limit),
    )
    for account, day, first, last in rows:
        found[account].append((day, first, last))
    return found
