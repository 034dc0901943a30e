"""Schema versions: laying down a new registry, finding out how old one is, migrating it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Engine, inspect, text
from sqlalchemy.schema import CreateIndex, CreateTable

from settlement import schema, store
from settlement.kinds import CNY
from settlement.ledger import GENESIS

HEAD: Final = "0002"  # the version that schema.py describes
_FOLDER: Final = Path(__file__).with_name("migrations")


class SchemaMismatch(RuntimeError):
    """The database has another schema version than this program; the text says what to do."""


def statements(dialect_name: str, engine: Engine) -> list[str]:
    """The DDL of schema.py for the engine's dialect, with the rows that an empty registry has."""
    ddl: list[str] = []
    for table in schema.metadata.sorted_tables:
        ddl.append(str(CreateTable(table).compile(engine)).strip())
        ddl += [
            str(CreateIndex(index).compile(engine)).strip()
            for index in sorted(table.indexes, key=lambda index: str(index.name))
        ]
    ddl += schema.immutability_ddl(dialect_name) + schema.set_checks_ddl(dialect_name)
    genesis = f"x'{GENESIS.hex()}'" if dialect_name == "sqlite" else f"'\\x{GENESIS.hex()}'"
    ddl.append(f"INSERT INTO head (one, batch, digest, next_ledger_account) VALUES (1, 0, {genesis}, 1)")
    ddl.append(f"INSERT INTO asset (code, kind, vintage, next_serial) VALUES ('{CNY}', 'money', 0, 1)")
    return ddl


def create(engine: Engine) -> None:
    """Lay down the present schema in an empty database, marked with its version."""
    with store.writing(engine) as connection:
        for statement in statements(engine.dialect.name, engine):
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
        connection.execute(text("INSERT INTO alembic_version VALUES (:version)"), {"version": HEAD})


def version(engine: Engine) -> str | None:
    """The database's schema version; None where there is no registry."""
    if not inspect(engine).has_table("alembic_version"):
        return None
    with store.reading(engine) as connection:
        found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return found


def known() -> list[str]:
    """The schema versions up to this program's, oldest first."""
    return sorted(path.name[1:5] for path in (_FOLDER / "versions").glob("v[0-9][0-9][0-9][0-9]_*.py"))


def prepare(engine: Engine) -> None:
    """Lay down the schema where the database is empty; raise SchemaMismatch where it is another version's."""
    found = version(engine)
    if found is None:
        if inspect(engine).get_table_names():
            raise SchemaMismatch("the database holds tables that are not a registry's: give it one of its own")
        create(engine)
    elif found < HEAD:
        raise SchemaMismatch(
            f"the registry's schema is version {found}, this program's {HEAD}: run `cea registry migrate`"
        )
    elif found > HEAD:
        raise SchemaMismatch(f"the registry's schema is version {found}, newer than this program's {HEAD}")


def migrate(engine: Engine, to: str = "head") -> None:
    """Bring a database (also an empty one) to schema version ``to``, in one transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    with store.writing(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, to)
