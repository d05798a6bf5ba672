"""Alembic's entry: runs the one linear history over the connection that
`services.shared.db.migrate` hands in.
"""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=None, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
