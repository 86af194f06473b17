"""Alembic's entry: the schema of `portal.core.db.Base`, over the URL that the caller passes."""

import sqlalchemy as sa
from alembic import context

from portal.core.db import Base, make_engine
from portal.migrations.tables import load_tables

load_tables()


def run() -> None:
    """Run migrations over the connection in the configuration, or over a new one."""
    connection = context.config.attributes.get("connection")
    if connection is not None:
        _migrate(connection)
        return
    engine = make_engine(context.config.get_main_option("sqlalchemy.url") or "")
    with engine.connect() as own, own.begin():
        _migrate(own)
    engine.dispose()


def _migrate(connection: sa.Connection) -> None:
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()


run()
