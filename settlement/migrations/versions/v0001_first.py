"""The first schema. Its statements are frozen in 0001_<dialect>.sql beside this file: a later change of
schema.py is a new version, and this one stays as it was."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    text = Path(__file__).with_name(f"0001_{dialect}.sql").read_text(encoding="utf-8")
    for statement in text.split(";\n\n"):
        if statement.strip():
            op.get_bind().exec_driver_sql(statement.strip())


def downgrade() -> None:
    raise NotImplementedError("the registry's records are kept; restore a dump instead")
