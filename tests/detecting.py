"""Rules, use and hits for tests of detection, made through the services."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.accounts.rules import Role
from portal.backtests import service as backtests
from portal.backtests.models import Backtest
from portal.catalog.models import Release
from portal.core.actor import Actor
from portal.detection import service as detection
from portal.detection.models import DetectionRule
from portal.detection.rules import SHADOW_TIME, Found, Move, RuleOutcome, Use
from portal.features.models import FeatureVector
from portal.features.rules import Look, Value
from portal.rulebook import service
from portal.rulebook.rules import RuleDraft
from portal.usage.models import UsageRecord
from portal.usage.rules import Outcome
from tests import conduct
from tests.factories import BASE, Make

SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
NEWS = 'phrases("news")'
DRAFT = RuleDraft(
    slug="fake-news", title="Many fake news at once", license=conduct.SLUG, clauses=("restriction.spam",),
    when=f"{NEWS} >= 2", outcome=RuleOutcome.BLOCK, reason_text="The prompt asks for invented news.",
    match=("news and more news",), passes=("Is this news story true?",),
)  # fmt: skip


def measure(text: str) -> dict[str, Value]:
    """What is measured of a prompt, in these tests."""
    return {NEWS: text.count("news"), "chars": len(text)}


@dataclass
class Desk:
    """Staff who keep rules, people who use a model, and what is measured of them."""

    session: Session
    make: Make
    now: datetime
    banks: set[str] | None = field(default_factory=lambda: {"news"})
    numbers: Any = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self.release: Release = self.make.release(self.make.model("lab/watched"))
        people = {name: self.make.person(name, Role.MODERATOR, domain="staff.example") for name in ("mo", "nia")}
        self.users: dict[str, User] = dict(people)
        self.mo, self.nia = (conduct.acting(user, Role.MODERATOR) for user in people.values())

    def write(self, by: Actor | None = None, now: datetime | None = None, **said: Any) -> DetectionRule:
        """Write a rule; what is not said is as in `DRAFT`."""
        return service.write(
            self.session, draft=replace(DRAFT, **said), banks=self.banks, measure=measure, by=by or self.mo,
            now=now or self.now,
        )  # fmt: skip

    def rule(self, mode: str = "enforcing", now: datetime | None = None, **said: Any) -> DetectionRule:
        """A rule brought as far as that by every step, so that it is there at `now`."""
        at = now or self.now
        row = self.write(now=at - SHADOW_TIME, **said)
        if mode != "draft":
            backtests.ask(self.session, rule=row, days=1, by=self.mo, now=at - SHADOW_TIME)
            self.try_out(at - SHADOW_TIME)
            self.step(row, Move.SHADOW, at - SHADOW_TIME)
        if mode in {"flagging", "enforcing"}:
            self.step(row, Move.FLAG, at)
        if mode == "enforcing":
            self.step(row, Move.ENFORCE, at)
        return row

    def step(self, row: DetectionRule, move: Move, now: datetime | None = None, reason: str = "Tried.") -> None:
        """Take a step, by two people where it takes two."""
        at = now or self.now
        if move is Move.ENFORCE and service.needs_two(row):
            proposal = service.propose(self.session, ref=row.public_id, reason=reason, by=self.mo, now=at)
            service.confirm(
                self.session, ref=row.public_id, payload_sha256=proposal.payload_sha256, by=self.nia, now=at
            )
        else:
            service.step(self.session, ref=row.public_id, action=move, reason=reason, by=self.mo, now=at)

    def try_out(self, now: datetime | None = None) -> Backtest:
        """Let the oldest backtest that waits run to its end."""
        while (part := backtests.look(self.session, now=now or self.now)) is not None:
            if (done := backtests.keep(self.session, part=part, now=now or self.now)) is not None:
                return done
        raise AssertionError("no backtest waits")

    def use(self, user: User, vector: Mapping[str, Value], at: datetime | None = None) -> UsageRecord:
        """One use of the model by somebody, with what was measured of it."""
        moment = at or self.now
        row = UsageRecord(
            request_id=f"req_d{next(self.numbers)}", user_id=user.id, model_name="lab/watched",
            release_id=self.release.id, action="infer", channel="inference", outcome=Outcome.FINISHED,
            day=moment.date().isoformat(), started_at=moment, finished_at=moment,
        )  # fmt: skip
        self.session.add(row)
        self.session.flush()
        self.session.add(
            FeatureVector(
                usage_record_id=row.id,
                user_id=user.id,
                at=moment,
                values=dict(vector),
                digest="",
                license=conduct.SLUG,
                model_id=self.release.model_id,
                route="inference",
                applied={},
                look=Look.PENDING,
            )
        )
        self.session.flush()
        return row

    def hit(
        self, user: User, at: datetime | None = None, vector: Mapping[str, Value] | None = None, **acted: Any
    ) -> list[Found]:
        """A use with what the rules find in it."""
        measured = vector or {NEWS: 3, "scanned": True}
        record = self.use(user, measured, at)
        use = Use(user.id, self.release.model_id, conduct.SLUG, "inference", at or self.now)
        return detection.record_hits(
            self.session, ruleset=detection.rule_set(self.session, now=use.at), usage_record_id=record.id,
            vector=measured, use=use, base_url=BASE, **acted,
        )  # fmt: skip
