"""The registry: one object for everything it does (R13). Acts return ``Posted`` or ``Refused``.

Open it with ``Registry.open(url)``; ``sqlite:///market/registry.db`` or ``postgresql+psycopg://…``. Times are
passed in (ns UTC): the registry has no clock.
"""

from __future__ import annotations

from sqlalchemy import Engine, insert, inspect

from settlement import schema, store
from settlement.accounts import AccountActs, AccountForm
from settlement.allowances import AllowanceActs
from settlement.base import Posted
from settlement.errors import Refused
from settlement.kinds import CNY
from settlement.ledger import GENESIS
from settlement.money import MoneyActs
from settlement.queries import Queries
from settlement.surrender import ComplianceActs

__all__ = ["AccountForm", "Posted", "Refused", "Registry"]


class Registry(AccountActs, AllowanceActs, ComplianceActs, MoneyActs, Queries):
    """The registry on one database."""

    @classmethod
    def open(cls, url: str) -> Registry:
        """Open the database; an empty one gets the present schema. Raises SQLAlchemy's OperationalError when
        the database can't be reached."""
        engine = store.open_engine(url)
        if not inspect(engine).has_table("head"):
            create(engine)
        return cls(engine)

    def close(self) -> None:
        self.engine.dispose()


def create(engine: Engine) -> None:
    """Lay down the present schema."""
    with store.writing(engine) as connection:
        schema.metadata.create_all(connection)
        for statement in schema.immutability_ddl(engine.dialect.name):
            connection.exec_driver_sql(statement)
        connection.execute(insert(schema.head).values(one=1, batch=0, digest=GENESIS, next_ledger_account=1))
        connection.execute(insert(schema.asset).values(code=CNY, kind="money", vintage=0, next_serial=1))
