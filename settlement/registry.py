"""The registry: one object for everything it does (R13). Acts return ``Posted`` or ``Refused``.

Open it with ``Registry.open(url)``; ``sqlite:///market/registry.db`` or ``postgresql+psycopg://…``. Times are
passed in (ns UTC): the registry has no clock.
"""

from __future__ import annotations

from settlement import store, versions
from settlement.accounts import AccountActs, AccountForm
from settlement.allowances import AllowanceActs
from settlement.base import Posted
from settlement.errors import Refused
from settlement.money import MoneyActs
from settlement.queries import Queries
from settlement.surrender import ComplianceActs

__all__ = ["AccountForm", "Posted", "Refused", "Registry"]


class Registry(AccountActs, AllowanceActs, ComplianceActs, MoneyActs, Queries):
    """The registry on one database."""

    @classmethod
    def open(cls, url: str) -> Registry:
        """Open the database; an empty one gets the present schema. Raises SchemaMismatch where it has another
        version's, and SQLAlchemy's OperationalError when it can't be reached."""
        engine = store.open_engine(url)
        versions.prepare(engine)
        return cls(engine)

    def close(self) -> None:
        self.engine.dispose()
