"""Ways in, as people use them, and a hasher that remembers, for tests of passwords, links and login sessions."""

import re
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts import service as accounts
from portal.accounts.models import User
from portal.accounts.rules import StandingAction
from portal.adapters.hashing import Hasher
from portal.audit.models import AuditEvent
from portal.core.actor import SYSTEM, Actor
from portal.identity import rules, service
from portal.logins import service as logins
from portal.logins.rules import new_secret
from portal.notices.models import Notice

PEPPER = b"p" * 32
BASE = "https://portal.example"
EMAIL = "ann@identity.example"
PASSWORD = "four words are fine"
OTHER = "five other words are finer"
HOME = "192.0.2.0/24"
MINUTE = timedelta(minutes=1)


class Spy(Hasher):
    """A real hasher that remembers what it was asked to do."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def hash(self, password: str) -> str:
        self.calls.append("hash")
        return super().hash(password)

    def verify(self, digest: str, password: str) -> bool:
        self.calls.append("verify")
        return super().verify(digest, password)

    def seen(self) -> list[str]:
        calls, self.calls = self.calls, []
        return calls


def sign_up(session: Session, hasher: Spy, now: datetime, email: str = EMAIL, password: str = PASSWORD) -> User:
    who = rules.applicant(email=email, password=password, name="Ann", affiliation="Lab", country="NL", hasher=hasher)
    service.sign_up(session, who=who, pepper=PEPPER, base_url=BASE, now=now)
    user = accounts.find_by_email(session, email=email)
    assert user is not None
    return user


def sign_in(  # noqa: PLR0917
    session: Session, hasher: Spy, now: datetime, email: str = EMAIL, password: str = PASSWORD, network: str = HOME
) -> Actor:
    reference = new_secret()
    proof = service.prove(
        session, email=email, password=password, network=network, hasher=hasher, pepper=PEPPER, now=now
    )
    service.sign_in(session, proof=proof, reference=reference, user_agent="tests", pepper=PEPPER, now=now)
    return logins.actor_for_session(session, reference=reference, pepper=PEPPER, now=now)


def mails(session: Session, user: User) -> list[tuple[str, str]]:
    query = sa.select(Notice).where(Notice.recipient_id == user.id).order_by(Notice.id)
    return [(notice.kind, notice.body or "") for notice in session.scalars(query)]


def secret_in(body: str) -> str:
    return re.findall(rf"{BASE}/\S*/(\S{{43}})", body)[0]


def names(session: Session, user: User) -> list[str]:
    query = sa.select(AuditEvent.name).where(AuditEvent.subject == user.public_id).order_by(AuditEvent.id)
    return list(session.scalars(query))


def close(session: Session, user: User, now: datetime) -> None:
    accounts.set_standing(
        session, user_id=user.id, action=StandingAction.CLOSE, until=None, ref="dec_1", by=SYSTEM, now=now
    )
