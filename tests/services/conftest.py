"""Fixtures of use cases."""

from datetime import datetime

import pytest
from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.core.actor import SYSTEM
from portal.identity import service
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
