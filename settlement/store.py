"""Opening the registry's database, transactions, and bulk rows, the same for SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache
from itertools import repeat
from typing import Any, Final

import numpy as np
from sqlalchemy import Connection, Engine, SmallInteger, String, Table, create_engine, event, insert
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from settlement.serials import DatedRange

# A writer that finds the database locked waits this long before it gives up: longer than any one posting.
_BUSY_MS: Final = 60_000
# SQLite keeps 2 MB of pages by default; a day's block touches some 50 MB, and would be written out half-way.
_CACHE_KB: Final = 65_536


def open_engine(url: str) -> Engine:
    """A SQLAlchemy engine for ``sqlite:///file`` or ``postgresql+psycopg://…``, set up for durability. ArgumentError
    where it is neither."""
    parsed = make_url(url)
    dialect = parsed.get_backend_name()
    if dialect not in ("sqlite", "postgresql"):
        raise ArgumentError(f"a registry is kept in SQLite or PostgreSQL, not in {dialect}")
    engine = create_engine(parsed, future=True)
    if dialect == "sqlite":
        event.listen(engine, "connect", _sqlite_connect)
        event.listen(engine, "begin", _sqlite_begin)
    return engine


def _sqlite_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we begin transactions ourselves, below
    durable = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")
    for pragma in (*durable, f"busy_timeout={_BUSY_MS}", f"cache_size=-{_CACHE_KB}"):
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


@contextmanager
def _driver(connection: Connection, statement: str) -> Iterator[Any]:
    """A cursor of the driver itself; its errors come out as SQLAlchemy's, like those of other statements."""
    error = connection.dialect.loaded_dbapi.Error
    with closing(connection.connection.cursor()) as cursor:
        try:
            yield cursor
        except error as found:
            raise DBAPIError.instance(statement, None, found, error, dialect=connection.dialect) from found


def fetch_rows(connection: Connection, statement: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """Many rows as plain tuples: SQLAlchemy's row objects cost more than the query. ``statement`` has ``?``."""
    if connection.dialect.name == "postgresql":
        statement = statement.replace("?", "%s")
    with _driver(connection, statement) as cursor:
        cursor.execute(statement, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def insert_columns(connection: Connection, table: Table, columns: Mapping[str, Any]) -> None:
    """Insert rows that are given as columns: an array each, or one value (also None) for all rows.

    SQLite gets an iterator, PostgreSQL one binary COPY that numpy lays out: no tuples are kept.
    """
    size = next(len(values) for values in columns.values() if isinstance(values, np.ndarray))
    if not size:
        return
    if connection.dialect.name == "sqlite":
        statement = _sqlite_insert(table, tuple(columns))
        with _driver(connection, statement) as cursor:
            cursor.executemany(statement, zip(*(_values(column, size) for column in columns.values()), strict=True))
        return
    names = ",".join(f'"{column}"' for column in columns)
    statement = f'COPY "{table.name}" ({names}) FROM STDIN (FORMAT BINARY)'
    with _driver(connection, statement) as cursor, cursor.copy(statement) as copy:
        copy.write(_COPY_HEADER)
        for part in _copy_parts(table, columns, size):
            copy.write(part)
        copy.write(_COPY_TRAILER)


def _values(column: Any, size: int) -> Iterable[Any]:
    if not isinstance(column, np.ndarray):
        return repeat(column, size)
    values: list[Any] = column.tolist()
    return map(_text_of(column), values) if column.dtype.kind == "S" else values


def _text_of(column: np.ndarray) -> Any:
    return {code: code.decode("ascii") for code in np.unique(column).tolist()}.__getitem__


# PostgreSQL's binary COPY: signature, flags, no header extension; rows are a field count (i16) and for each
# field its length (i32, -1 for NULL) and bytes, big-endian; a field count of -1 ends it.
_COPY_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_TRAILER: Final = b"\xff\xff"
_COPY_ROWS: Final = 65_536  # rows laid out at a time: some 8 MB


def _copy_parts(table: Table, columns: Mapping[str, Any], size: int) -> Iterator[bytes]:
    """The rows, those together whose text (one column at most) has one length: all rows then have one layout."""
    texts = [column for column in columns.values() if isinstance(column, np.ndarray) and column.dtype.kind == "S"]
    assert len(texts) <= 1
    lengths = np.char.str_len(texts[0]) if texts else np.zeros(size, dtype=np.int64)
    for length in np.unique(lengths).tolist():
        rows = np.flatnonzero(lengths == length)
        for at in range(0, len(rows), _COPY_ROWS):
            yield _copy_run(table, columns, rows[at : at + _COPY_ROWS], length)


def _copy_run(table: Table, columns: Mapping[str, Any], rows: np.ndarray, length: int) -> bytes:
    layout: list[tuple[str, str]] = [("count", ">i2")]
    for name, column in columns.items():
        layout.append((f"length {name}", ">i4"))
        if isinstance(table.c[name].type, String):
            layout.append((name, f"S{length if isinstance(column, np.ndarray) else len(column)}"))
        elif column is not None:
            layout.append((name, ">i2" if isinstance(table.c[name].type, SmallInteger) else ">i8"))
    packed = np.zeros(len(rows), dtype=np.dtype(layout))
    packed["count"] = len(columns)
    for name, column in columns.items():
        packed[f"length {name}"] = -1 if column is None else packed.dtype[name].itemsize
        if column is not None:
            packed[name] = column[rows] if isinstance(column, np.ndarray) else column
    return packed.tobytes()


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
