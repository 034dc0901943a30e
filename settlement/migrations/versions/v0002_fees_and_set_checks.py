"""The division of each deal's fees (settlement.fees); on PostgreSQL, references to ledger accounts are checked once a
statement instead of row by row. The statements are frozen in 0002_<dialect>.sql beside this file."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    text = Path(__file__).with_name(f"0002_{dialect}.sql").read_text(encoding="utf-8")
    for statement in text.split(";\n\n"):
        if statement.strip():
            op.get_bind().exec_driver_sql(statement.strip())


def downgrade() -> None:
    raise NotImplementedError("the registry's records are kept; restore a dump instead")
