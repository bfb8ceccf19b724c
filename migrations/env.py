"""Runs the migrations on the connection that `station db upgrade` hands over, inside its transaction.

It opens nothing and commits nothing by itself, so a migration happens whole or not at all.
"""

from __future__ import annotations

from alembic import context

from station.adapters.records.schema import metadata

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("run the migrations with: station db upgrade")
# Batch mode makes a new table and copies the rows, since SQLite alters little in place.
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
