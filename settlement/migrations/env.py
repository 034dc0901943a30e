"""Alembic's entry: migrates the connection that ``settlement.versions.migrate`` hands over."""

from __future__ import annotations

from alembic import context

from settlement.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
context.run_migrations()
