"""The history of the schema, and bringing a database to its newest state."""

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from alembic.config import Config

FOLDER = Path(__file__).parent


def config(connection: sa.Connection | None = None) -> "Config":
    """Return Alembic's configuration for this folder, over a connection."""
    from alembic.config import Config  # noqa: PLC0415 - a process that only looks needs not its 11 MB

    made = Config()
    made.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    made.attributes["connection"] = connection
    return made


def upgrade(engine: sa.Engine) -> None:
    """Bring a database to the newest schema, in one transaction; does nothing if it is there."""
    from alembic import command  # noqa: PLC0415 - as above

    with engine.connect() as connection, connection.begin():
        command.upgrade(config(connection), "head")


def newest() -> str:
    """Name the newest migration; the name of its file begins with it, and names grow."""
    return max(path.name.split("_", 1)[0] for path in (FOLDER / "versions").glob("[0-9]*_*.py"))


def is_current(engine: sa.Engine) -> bool:
    """Say whether a database has the newest schema."""
    with engine.connect().execution_options(portal_write=False) as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return False
        return list(connection.scalars(sa.text("SELECT version_num FROM alembic_version"))) == [newest()]
