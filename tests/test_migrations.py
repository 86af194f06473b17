"""The schema's history ends where the tables are, and can be walked both ways with data in it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from portal.core.db import APPEND_ONLY, Base, make_engine, transaction
from portal.migrations import config, is_current, newest, upgrade
from tests.conftest import NOW
from tests.factories import Make


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """An empty database of either kind."""
    if request.param == "sqlite":
        engine = make_engine(f"sqlite:///{tmp_path / 'fresh.db'}")
    else:
        url = sa.make_url(request.getfixturevalue("postgres_url"))
        admin = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(sa.text("DROP DATABASE IF EXISTS migrations"))
            connection.execute(sa.text("CREATE DATABASE migrations"))
        admin.dispose()
        engine = make_engine(url.set(database="migrations").render_as_string(hide_password=False))
    yield engine
    engine.dispose()


def triggers(connection: sa.Connection) -> set[str]:
    if connection.dialect.name == "sqlite":
        query = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    else:
        query = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal"
    return set(connection.execute(sa.text(query)).scalars())


def test_the_newest_schema_is_the_tables(fresh: sa.Engine) -> None:
    assert not is_current(fresh)
    upgrade(fresh)
    assert is_current(fresh)
    with fresh.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
        for table in APPEND_ONLY:
            assert {f"ao_{table}_update", f"ao_{table}_delete"} <= triggers(connection)


def test_the_schema_goes_down_and_up_again_with_data_in_it(fresh: sa.Engine) -> None:
    upgrade(fresh)
    with transaction(fresh) as session:
        Make(session, NOW).noise()
    with fresh.connect() as connection, connection.begin():
        command.downgrade(config(connection), "base")
        assert sa.inspect(connection).get_table_names() == ["alembic_version"]
        assert triggers(connection) == set()
    upgrade(fresh)
    upgrade(fresh)
    with transaction(fresh) as session:
        Make(session, NOW).noise()


def test_the_newest_migration_is_known_without_its_library() -> None:
    from alembic.script import ScriptDirectory

    assert ScriptDirectory.from_config(config()).get_heads() == [newest()]
    program = "import sys, portal.main_edge; print({'alembic', 'mako', 'flask', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
