"""Fixtures of use cases."""

from datetime import datetime

import pytest
from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.accounts.rules import Role
from portal.core.actor import SYSTEM, Actor
from portal.identity import service
from tests import conduct, licensed
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
