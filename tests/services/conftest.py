"""Fixtures of use cases."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.accounts.rules import Role
from portal.core.actor import SYSTEM, Actor
from portal.core.db import make_engine
from portal.identity import service
from portal.migrations import upgrade
from tests import conduct, licensed
from tests.population import Town
from tests.services.entrance import PASSWORD, Spy


@pytest.fixture
def hasher() -> Spy:
    """A real hasher that remembers what it was asked to do."""
    return Spy()


@pytest.fixture
def ann(session: Session, hasher: Spy, now: datetime) -> User:
    """A person with a password and a verified address."""
    user = service.add_verified(
        session, email=" Ann@Identity.Example", password=PASSWORD, name="Ann", affiliation="Lab", country="nl",
        hasher=hasher, by=SYSTEM, now=now,
    )  # fmt: skip
    hasher.seen()
    return user


@pytest.fixture
def editors(session: Session, now: datetime) -> dict[str, Actor]:
    """Three editors, of whom ed writes; the license is published in 1.0.0 and 1.1.0."""
    licensed.publish(session, now)
    role = Role.LICENSE_EDITOR
    people = {name: conduct.person(session, name, now, role, domain="staff.example") for name in ("ed", "flo", "gus")}
    return {name: conduct.acting(user, role) for name, user in people.items()}


@pytest.fixture
def town(session: Session, editors: dict[str, Actor], now: datetime) -> Town:
    """Models that ask for the license; nobody lives there yet."""
    town = Town(session, now)
    town.open()
    return town


@pytest.fixture(params=["sqlite", "postgresql"])
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    """A database of either kind for this test alone, in which work is committed."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'own.db'}"
    else:
        server = make_engine(request.getfixturevalue("postgres_url"))
        with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("CREATE DATABASE own"))
        url = server.url.set(database="own").render_as_string(hide_password=False)
    engine = make_engine(url)
    upgrade(engine)
    yield engine
    engine.dispose()
    if request.param == "postgresql":
        with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("DROP DATABASE own WITH (FORCE)"))
        server.dispose()
