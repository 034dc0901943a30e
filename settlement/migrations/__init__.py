"""Schema versions of the registry (alembic). ``settlement.versions`` runs them."""
