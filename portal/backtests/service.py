"""Trying a version of a rule on past use, stretch by stretch, so that it can stop and go on anywhere."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.audit import service as audit
from portal.backtests import rules
from portal.backtests.models import Backtest, BacktestPart
from portal.backtests.rules import BacktestDone, Tally
from portal.core.actor import SYSTEM, Actor
from portal.core.errors import NotFound
from portal.core.ids import public_id
from portal.detection import service as detection
from portal.detection.models import CaseFinding, DetectionRule, Hit
from portal.detection.rules import OnMissing, RuleFact, RuleOutcome
from portal.expressions.rules import compiled
from portal.features.models import FeatureVector
from portal.features.rules import Phase
from portal.usage.models import UsageRecord

CHUNK = 100_000
PART = 5_000  # as many ids as both databases take in one question


@dataclass(frozen=True)
class Part:
    """What one stretch came to, to be kept; nothing was left to look at where `last_id` is None."""

    backtest_id: int
    last_id: int | None
    tally: Tally


def ask(session: Session, *, rule: DetectionRule, days: int, by: Actor, now: datetime) -> Backtest:
    """Ask what a version of a rule would have done; background work finds out. One that still runs is returned."""
    since = now - rules.span(days)
    running = session.scalar(
        sa.select(Backtest).where(Backtest.rule_id == rule.id, Backtest.done_at.is_(None)).limit(1)
    )
    if running is not None:
        return running
    total = sa.select(sa.func.count()).select_from(FeatureVector).where(*_between(since, now))
    row = Backtest(
        public_id=public_id("bkt"), rule_id=rule.id, days=days, since=since, until=now,
        total=session.scalar(total) or 0, asked_by=by.public_id, asked_at=now,
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row


def _between(since: datetime, until: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    return FeatureVector.at >= since, FeatureVector.at < until


def find(session: Session, *, ref: str) -> Backtest:
    """Find a backtest by its public id."""
    found = session.scalars(sa.select(Backtest).where(Backtest.public_id == ref)).unique().one_or_none()
    if found is None:
        raise NotFound("backtest_not_found", "There is no such backtest.")
    return found


def of_rule(session: Session, *, rule: DetectionRule) -> Sequence[Backtest]:
    """Return the backtests of a version of a rule, newest first."""
    query = sa.select(Backtest).where(Backtest.rule_id == rule.id).order_by(Backtest.id.desc())
    return session.scalars(query).unique().all()


def progress(session: Session, *, backtest: Backtest) -> int:
    """Count the uses that a backtest has looked at so far."""
    looked = sa.select(sa.func.sum(BacktestPart.looked)).where(BacktestPart.backtest_id == backtest.id)
    return session.scalar(looked) or 0


def sampled(session: Session, *, backtest: Backtest) -> Sequence[UsageRecord]:
    """Return some of the records that a backtest hit, drawn at random; what they said is no part of them."""
    ids = (backtest.result or {}).get("sample", [])
    return session.scalars(sa.select(UsageRecord).where(UsageRecord.id.in_(ids)).order_by(UsageRecord.id)).all()


def look(session: Session, *, now: datetime) -> Part | None:
    """Look at the next stretch for the oldest backtest that is not done; only reads, so that nobody has to wait.

    Where an earlier run stopped follows from what it kept, so one that was cut off is taken up again.
    """
    query = sa.select(Backtest).where(Backtest.done_at.is_(None)).order_by(Backtest.id).limit(1)
    backtest = session.scalars(query).unique().one_or_none()
    if backtest is None:
        return None
    last = session.scalar(sa.select(sa.func.max(BacktestPart.last_id)).where(BacktestPart.backtest_id == backtest.id))
    if last is None:
        first = sa.select(sa.func.min(FeatureVector.usage_record_id)).where(*_between(backtest.since, backtest.until))
        last = (session.scalar(first) or 1) - 1
    return _examine(session, backtest, last, now)


def keep(session: Session, *, part: Part, now: datetime) -> Backtest | None:
    """Keep what one stretch came to; once nothing is left, sum it up and return the backtest, which is done."""
    if part.last_id is not None:
        session.add(
            BacktestPart(
                backtest_id=part.backtest_id, last_id=part.last_id, looked=part.tally.looked, tally=part.tally.written()
            )
        )
        session.flush()
        return None
    backtest, whole = session.get_one(Backtest, part.backtest_id), Tally()
    kept = sa.select(BacktestPart.tally).where(BacktestPart.backtest_id == backtest.id).order_by(BacktestPart.last_id)
    for tally in session.scalars(kept):
        whole.add(Tally.read(tally))
    opens_cases = backtest.rule.outcome.reaches(RuleOutcome.FLAG)
    backtest.result, backtest.done_at = whole.forecast(opens_cases=opens_cases), now
    session.flush()
    event = BacktestDone(
        subject=backtest.public_id, rule=backtest.rule.public_id, looked=whole.looked, hits=whole.hits
    )  # fmt: skip
    audit.record(session, event, by=SYSTEM, now=now)
    return backtest


def _examine(session: Session, backtest: Backtest, last: int, now: datetime) -> Part:
    """Run the rule over the next stretch.

    What is read goes by hand around the types of columns: a million rows take seconds, not minutes.
    """
    rule, f = detection.fact_of(backtest.rule), FeatureVector
    query = (
        sa.select(f.usage_record_id, f.user_id, f.license, f.model_id, f.route, sa.cast(f.values, sa.Text))
        .where(f.usage_record_id > last, *_between(backtest.since, backtest.until))
        .order_by(f.usage_record_id)
        .limit(CHUNK)
    )
    rows: Sequence[Any] = session.connection().execute(query).all()
    if not rows:
        return Part(backtest.id, None, Tally())
    run, late, flags = compiled([rule.when]), Phase.ASYNC in rule.when.phases, rule.on_missing is OnMissing.FLAG
    read, hit, tally = orjson.loads, dict[int, Any](), Tally(looked=len(rows))
    for record_id, user_id, license_slug, model_id, route, text in rows:
        vector = read(text)
        # As when it is in force: a text that could not be looked at is passed over, or flagged.
        holds = flags if late and not vector.get("scanned") else run(vector)
        if holds and rule.watches(license_slug=license_slug, model_id=model_id, route=route):
            hit[record_id] = vector
            tally.people.add(user_id or 0)
    tally.hits = len(hit)
    if hit:
        _count(session, tally, hit, rule=rule, seed=backtest.id, now=now)
    return Part(backtest.id, rows[-1][0], tally)


def _count(
    session: Session, tally: Tally, hit: Mapping[int, Any], *, rule: RuleFact, seed: int, now: datetime
) -> None:  # fmt: skip
    """Count what else there is to say of records that were hit."""
    ruleset = detection.rule_set(session, now=now)
    for vector in hit.values():
        for other in ruleset.matched(ruleset.run_all(vector)):
            if other.slug != rule.slug:
                tally.others[other.slug] += 1
    tally.days.update(_days(session, list(hit)))
    tally.draw(hit, seed)
    tally.judge(_findings(session, min(hit), max(hit)), hit)


def _days(session: Session, record_ids: Sequence[int]) -> Counter[str]:
    """Count records by their UTC day."""
    found: Counter[str] = Counter()
    for start in range(0, len(record_ids), PART):
        asked = UsageRecord.id.in_(record_ids[start : start + PART])
        by_day = sa.select(UsageRecord.day, sa.func.count()).where(asked).group_by(UsageRecord.day)
        found.update(dict(session.execute(by_day).all()))
    return found


def _findings(session: Session, first: int, last: int) -> dict[int, bool]:
    """Return what people found about use in a stretch, by usage record; the newest finding about a case counts."""
    query = (
        sa.select(Hit.usage_record_id, CaseFinding.breach)
        .join(CaseFinding, CaseFinding.case_id == Hit.case_id)
        .where(Hit.usage_record_id.between(first, last))
        .order_by(CaseFinding.id)
    )
    return dict(session.execute(query).all())
