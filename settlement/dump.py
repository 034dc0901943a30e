"""A registry as SQL text that restores, on SQLite and on PostgreSQL alike: rows only, the schema is a version.

The first line names the schema version and the last one the head's seal; a dump without its last line is
incomplete and is refused. After a restore, ``verify`` recomputes every seal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from sqlalchemy import Engine, select

from settlement import schema, store, versions
from settlement.errors import MISMATCH, SCHEMA, Refused
from settlement.verify import verify

_FIRST: Final = "-- cea registry dump, schema "
_LAST: Final = "-- end of dump, head "
# The tables with bytes; none of them has free text that could look like a bytes literal.
_WITH_BYTES: Final = tuple(f'INSERT INTO "{name}"' for name in ("head", "seal", "settlement_day"))
_FETCH: Final = 10_000


def dump(engine: Engine) -> Iterator[str]:
    """The lines of the dump, from one view of the database; memory does not grow with the registry."""
    yield f"{_FIRST}{versions.version(engine)}"
    with store.reading(engine) as connection:
        head = connection.execute(select(schema.head)).one()
        for table in schema.metadata.sorted_tables:
            names = ", ".join(f'"{column.name}"' for column in table.c)
            rows = connection.execution_options(yield_per=_FETCH).execute(select(table))
            for row in rows:
                values = ", ".join(_literal(value) for value in row)
                yield f'INSERT INTO "{table.name}" ({names}) VALUES ({values});'
        yield f"{_LAST}{head.batch} {bytes(head.digest).hex()}"


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, bytes | memoryview):
        return f"X'{bytes(value).hex()}'"
    # A line is a statement: line breaks can't be in a value (names and documents are printable).
    assert isinstance(value, str) and "\n" not in value
    return "'" + value.replace("'", "''") + "'"


def restore(engine: Engine, lines: Iterable[str]) -> int | Refused:
    """Restore a dump into an empty database, in one transaction; returns the number of rows. A dump of an older
    schema is brought to this program's. Everything is verified before it is kept to."""
    if versions.version(engine) is not None:
        return Refused(SCHEMA, "database", "holds a registry already: restore into an empty one")
    rest = iter(lines)
    first = next(rest, "").rstrip("\n")
    schema_version = first.removeprefix(_FIRST)
    if schema_version == first or schema_version not in versions.known():
        return Refused(SCHEMA, "file", f"is no dump of schema {versions.HEAD} or older: {first[:60]!r}")
    versions.migrate(engine, to=schema_version)
    rows, last = 0, ""
    with store.writing(engine) as connection:
        connection.exec_driver_sql("DELETE FROM head")
        connection.exec_driver_sql("DELETE FROM asset")
        cursor = connection.connection.cursor()
        for line in rest:
            last = line.rstrip("\n")
            if last.startswith("INSERT "):
                # Straight to the driver: SQLAlchemy would look for parameters in the text.
                cursor.execute(_blobs(last) if engine.dialect.name == "postgresql" else last)
                rows += 1
        cursor.close()
    if not last.startswith(_LAST):
        return Refused(MISMATCH, "file", "the dump is incomplete: its last line is missing; drop this database")
    versions.migrate(engine)
    findings = verify(engine)
    if findings:
        return Refused(MISMATCH, "file", f"does not verify: {findings[0]}; drop this database")
    return rows


def _blobs(statement: str) -> str:
    """PostgreSQL writes bytes as '\\x…' where SQL has X'…' (which it reads as a bit string)."""
    if not statement.startswith(_WITH_BYTES):
        return statement
    return statement.replace(", X'", ", '\\x")
