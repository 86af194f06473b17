"""A campaign of false news against a portal that really runs, while honest people go on using it."""

import random
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.rules import Role
from portal.cases import service as cases
from portal.cases.models import Case
from portal.cases.rules import LinkKind, Origin
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import make_engine, transaction
from portal.detection.models import DetectionRule, Hit
from portal.detection.rules import Mode, Move
from portal.features.models import FeatureVector
from portal.features.rules import Look
from portal.licensing import service as licensing
from portal.proofs.models import Receipt
from portal.rulebook import service as rulebook
from portal.sanctions.models import Sanction
from portal.sanctions.rules import SanctionKind
from portal.tokens import service as tokens
from portal.usage import service as usage
from portal.usage.models import UsageRecord
from portal.usage.rules import HIGHEST_LIMIT
from tests import conduct, licensed
from tests.running import RunningPortal, wait_until

MODEL = "demo/bloom-tiny"
CLAUSE = "restriction.false_information_to_harm"
MOLD = "one-text-again-and-again"


@dataclass(frozen=True)
class Account:
    """Somebody who signed, with an access token."""

    user_id: int
    ref: str
    token: str


@dataclass
class Field:
    """A running portal, people who use it, and what its database says of them."""

    portal: RunningPortal

    def __post_init__(self) -> None:
        self.settings = Settings.from_env(self.portal.environ)
        self.engine = make_engine(self.settings.database_url)

    def close(self) -> None:
        self.engine.dispose()

    def read(self, what: Callable[[Session], Any]) -> Any:
        with transaction(self.engine, write=False) as session:
            return what(session)

    def people(self, name: str, count: int) -> list[Account]:
        """Have people join, sign and make an access token, and wait until their receipts are made."""
        made, now = [], utcnow()
        for number in range(count):
            with transaction(self.engine) as session:
                user = conduct.person(session, f"{name}{number}", now, domain=f"{name}.example")
                version = licensing.find_version(session, slug=licensed.SLUG, number="1.1.0")
                licensed.sign(session, licensed.browsing(user), version, now)
                acting = conduct.acting(user)
                usage.set_quota(
                    session, user_id=user.id, calls=HIGHEST_LIMIT, text_tokens=HIGHEST_LIMIT, by=acting, now=now
                )
                _, secret = tokens.issue(
                    session, by=acting, owner_id=user.id, name=name, scopes=["inference"], model_ids=[], days=30,
                    pepper=self.settings.pepper, now=now,
                )  # fmt: skip
                made.append(Account(user.id, user.public_id, secret))
        wait_until(lambda: self.read(lambda s: s.scalar(sa.select(sa.func.count(Receipt.id)))) >= count, 300)
        return made

    def enforce(self, slug: str) -> None:
        """A moderator lets a rule act that came with the portal; what does not refuse takes one person."""
        with transaction(self.engine) as session:
            user = conduct.person(session, f"mo-{slug}", utcnow(), Role.MODERATOR, domain="staff.example")
            query = sa.select(DetectionRule).where(DetectionRule.slug == slug, DetectionRule.mode == Mode.FLAGGING)
            rule = session.scalars(query).unique().one()
            rulebook.step(
                session, ref=rule.public_id, action=Move.ENFORCE, reason="It found what it should.",
                by=conduct.acting(user, Role.MODERATOR), now=utcnow(),
            )  # fmt: skip

    def ask(
        self, accounts: Sequence[Account], prompts: Iterable[str], *, at_once: int = 8, a_second: float = 1_000
    ) -> list[int]:
        """Ask the portal, each prompt from some account, so many at once and a second; returns how it answered."""
        chance, began = random.Random(4), time.monotonic()
        with httpx.Client(base_url=self.portal.base_url, timeout=60) as http, ThreadPoolExecutor(at_once) as pool:

            def one(asked: tuple[int, Account, str]) -> int:
                number, account, prompt = asked
                time.sleep(max(0.0, began + number / a_second - time.monotonic()))
                answer = http.post(
                    "/v1/completions", json={"model": MODEL, "prompt": prompt, "max_tokens": 1},
                    headers={"Authorization": f"Bearer {account.token}"},
                )  # fmt: skip
                return answer.status_code

            return list(pool.map(one, ((n, chance.choice(accounts), prompt) for n, prompt in enumerate(prompts))))

    def looked(self, accounts: Sequence[Account], count: int) -> bool:
        """Say whether so many uses of some people were looked at as a whole, and whatever was hit is in a case."""
        ids = [account.user_id for account in accounts]

        def done(session: Session) -> bool:
            vectors = sa.select(sa.func.count()).select_from(FeatureVector)
            seen = session.scalar(vectors.where(FeatureVector.user_id.in_(ids), FeatureVector.look != Look.PENDING))
            loose = session.scalar(sa.select(sa.func.count(Hit.id)).where(Hit.case_id.is_(None)))
            return seen == count and loose == 0

        return bool(self.read(done))

    def cases_about(self, accounts: Sequence[Account]) -> list[tuple[str, list[str], list[str]]]:
        """Return the cases of rules about some people: what each is about, its people and its clauses."""
        refs = {account.ref for account in accounts}

        def found(session: Session) -> list[tuple[str, list[str], list[str]]]:
            made = []
            for case in session.scalars(sa.select(Case).where(Case.origin == Origin.RULE).order_by(Case.id)):
                people = cases.refs(session, case=case, kind=LinkKind.SUBJECT)
                if refs & {case.subject_ref, *people}:
                    clauses = cases.refs(session, case=case, kind=LinkKind.CLAUSE)
                    made.append((case.subject_ref, people, clauses))
            return made

        return list(self.read(found))

    def hits_of(self, accounts: Sequence[Account]) -> int:
        """Return how many uses of some people any rule hit."""
        ids = [account.user_id for account in accounts]
        query = sa.select(sa.func.count(Hit.usage_record_id.distinct())).where(Hit.user_id.in_(ids))
        return int(self.read(lambda s: s.scalar(query)) or 0)

    def first_case_at(self, accounts: Sequence[Account], *, together: bool) -> datetime | None:
        """Return when the first case about some of these people was opened, or the first about several of them."""
        refs = [account.ref for account in accounts]
        query = sa.select(sa.func.min(Case.opened_at)).where(Case.origin == Origin.RULE)
        query = query.where(Case.user_id.is_(None), Case.reach > 1) if together else query.where(
            Case.subject_ref.in_(refs)
        )  # fmt: skip
        found: datetime | None = self.read(lambda s: s.scalar(query))
        return found

    def throttled_at(self, accounts: Sequence[Account]) -> datetime | None:
        """Return when the use of some people was first limited."""
        ids = [account.user_id for account in accounts]
        query = sa.select(sa.func.min(Sanction.starts_at)).where(
            Sanction.user_id.in_(ids), Sanction.kind == SanctionKind.THROTTLE
        )
        found: datetime | None = self.read(lambda s: s.scalar(query))
        return found

    def lost(self, accounts: Sequence[Account]) -> int:
        """Return how many texts of some people never came to be looked at."""
        ids = [account.user_id for account in accounts]
        query = sa.select(sa.func.count()).select_from(FeatureVector)
        lost = query.where(FeatureVector.user_id.in_(ids), FeatureVector.look == Look.LOST)
        return int(self.read(lambda s: s.scalar(lost)) or 0)

    def lags(self) -> list[float]:
        """Return how many seconds after its end each use was looked at as a whole."""
        query = sa.select(UsageRecord.finished_at, FeatureVector.looked_at).join(
            UsageRecord, UsageRecord.id == FeatureVector.usage_record_id
        )
        rows = self.read(lambda s: s.execute(query.where(FeatureVector.look == Look.DONE)).all())
        return [(looked - ended).total_seconds() for ended, looked in rows]
