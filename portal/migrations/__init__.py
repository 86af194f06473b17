"""The history of the schema, and bringing a database to its newest state."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

FOLDER = Path(__file__).parent


def config(connection: sa.Connection | None = None) -> Config:
    """Return Alembic's configuration for this folder, over a connection."""
    made = Config()
    made.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    made.attributes["connection"] = connection
    return made


def upgrade(engine: sa.Engine) -> None:
    """Bring a database to the newest schema, in one transaction; does nothing if it is there."""
    with engine.connect() as connection, connection.begin():
        command.upgrade(config(connection), "head")


def is_current(engine: sa.Engine) -> bool:
    """Say whether a database has the newest schema."""
    with engine.connect().execution_options(portal_write=False) as connection:
        now = MigrationContext.configure(connection).get_current_revision()
    return now == ScriptDirectory.from_config(config()).get_current_head()
