"""Which rules are looked at, what they hit, and the brake that takes one out of force that hits too many people."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts import service as accounts
from portal.accounts.models import Proposal, User
from portal.accounts.rules import Permission
from portal.audit import service as audit
from portal.core.actor import SYSTEM, Actor
from portal.core.db import hold
from portal.core.errors import Conflict, Invalid, NotFound
from portal.detection import rules
from portal.detection.models import CaseFinding, DetectionRule, Hit, RuleMove
from portal.detection.rules import (
    ACTING,
    DAY,
    HOUR,
    LOOKING,
    RULE,
    Found,
    Mode,
    Move,
    Reach,
    RuleFact,
    RuleMoved,
    RuleOutcome,
    RuleSet,
    Use,
)  # fmt: skip
from portal.exemptions import service as exemptions
from portal.expressions.rules import parse
from portal.features.rules import FEATURES, Value
from portal.notices import service as notices
from portal.usage.models import UsageRecord

log = logging.getLogger("portal.detection")
WEEK = timedelta(days=7)
QUIET = frozenset({RuleOutcome.ALLOW, RuleOutcome.TAG})
PART = 500


def rule_set_version(session: Session) -> int:
    """Return the number that `RuleSet.version` has now; it moves whenever `facts_version` moved for a rule's sake."""
    newest = sa.select(sa.func.coalesce(sa.func.max(RuleMove.id), 0))
    return (session.scalar(newest) or 0) + exemptions.version(session)


def rule_set(session: Session, *, now: datetime) -> RuleSet:
    """Return all rules that are looked at, with the exemptions, ready to run; ask again once the version moved."""
    version = rule_set_version(session)
    query = sa.select(DetectionRule).where(DetectionRule.mode.in_(LOOKING)).order_by(DetectionRule.id)
    found = []
    for row in session.scalars(query).unique():
        try:
            found.append(fact_of(row))
        except Invalid:
            log.exception("rule %s %s asks about what is measured no more, and is passed over", row.slug, row.version)
    return RuleSet.of(version, found, exemptions.in_force(session, now=now))


def fact_of(row: DetectionRule) -> RuleFact:
    """Return a version of a rule as looking at use reads it."""
    return RuleFact(
        id=row.id, slug=row.slug, version=row.version, when=parse(row.condition, FEATURES), outcome=row.outcome,
        mode=row.mode, license=row.license, clauses=frozenset(one.clause.stable_key for one in row.cited),
        expires_at=row.expires_at, on_missing=row.on_missing, weight=row.weight, model_id=row.model_id,
        route=row.route, per_hour=row.per_hour, exempt=frozenset(one.purpose for one in row.purposes),
        reason=row.reason_text,
    )  # fmt: skip


def find(session: Session, *, ref: str) -> DetectionRule:
    """Find a version of a rule by its public id."""
    found = session.scalars(sa.select(DetectionRule).where(DetectionRule.public_id == ref)).unique().one_or_none()
    if found is None:
        raise NotFound("rule_not_found", "There is no such detection rule.")
    return found


def move(
    session: Session,
    *,
    rule: DetectionRule,
    action: Move,
    reason: str = "",
    proposal: Proposal | None = None,
    by: Actor,
    now: datetime,
) -> None:
    """Bring a version of a rule into another mode; whether it may is for the caller to know.

    Older versions that are no further retire.

    Raises:
        Conflict: the lifecycle has no such move, or somebody moved it at the same moment.
    """
    mode = RULE.next(rule.mode, action)
    if mode in LOOKING:
        steps = list(LOOKING)[: list(LOOKING).index(mode) + 1]
        earlier = sa.select(DetectionRule).where(
            DetectionRule.slug == rule.slug, DetectionRule.version < rule.version, DetectionRule.mode.in_(steps)
        )
        for row in session.scalars(earlier.order_by(DetectionRule.version)).unique().all():
            why = f"Version {rule.version} replaces it."
            _move(session, row, Move.RETIRE, mode=Mode.RETIRED, reason=why, proposal=None, by=by, now=now)
    _move(session, rule, action, mode=mode, reason=reason, proposal=proposal, by=by, now=now)


def _move(
    session: Session,
    rule: DetectionRule,
    action: Move,
    *,
    mode: Mode,
    reason: str,
    proposal: Proposal | None,
    by: Actor,
    now: datetime,
) -> None:
    moved = session.execute(
        sa.update(DetectionRule)
        .where(DetectionRule.id == rule.id, DetectionRule.mode == rule.mode)
        .values(mode=mode, mode_since=now)
        .execution_options(synchronize_session=False)
        .returning(DetectionRule.id)
    ).all()
    session.refresh(rule)
    if not moved:
        raise Conflict("changed_meanwhile", "Somebody moved this rule at the same moment. Look again.")
    session.add(
        RuleMove(
            rule_id=rule.id, move=action, mode=mode, by=by.public_id, at=now, reason=reason,
            proposal_id=proposal.id if proposal else None,
        )
    )  # fmt: skip
    session.flush()
    event = RuleMoved(subject=rule.public_id, slug=rule.slug, version=rule.version, move=action.value, mode=mode.value)
    audit.record(session, event, by=by, now=now)


def moves(session: Session, *, rule: DetectionRule) -> Sequence[RuleMove]:
    """Return how a version of a rule came to where it is, newest first."""
    return session.scalars(sa.select(RuleMove).where(RuleMove.rule_id == rule.id).order_by(RuleMove.id.desc())).all()


def braked(session: Session, *, rule: DetectionRule) -> RuleMove | None:
    """Return the brake that keeps a version of a rule from enforcing, if one does."""
    newest = session.scalar(
        sa.select(RuleMove).where(RuleMove.rule_id == rule.id).order_by(RuleMove.id.desc()).limit(1)
    )
    return newest if newest is not None and newest.move is Move.BRAKE else None


def record_hits(
    session: Session,
    *,
    ruleset: RuleSet,
    usage_record_id: int,
    vector: Mapping[str, Value],
    use: Use,
    applied: Mapping[int, RuleOutcome] | None = None,
    base_url: str,
) -> list[Found]:
    """Keep what the rules find in a use once all is measured that will be; keeping it again changes nothing.

    A rule that fails on the vector, which its types rule out, is taken out of force, and the others are looked at.

    Args:
        applied: what the data plane already did, by the id of the rule; of those rules that counts.

    Returns:
        All that matched, the strongest first.
    """
    try:
        found = ruleset.whole(vector, use, acted=acted_within(session, use.at))
    except Exception:  # noqa: BLE001 - whatever a rule does, the others are looked at
        bad = rules.broken(ruleset.rules, vector)
        _take_out(session, bad, now=use.at, base_url=base_url)
        left = [rule for rule in ruleset.rules if rule not in bad]
        ruleset = RuleSet.of(ruleset.version, left, [fact for facts in ruleset.exemptions.values() for fact in facts])
        found = ruleset.whole(vector, use, acted=acted_within(session, use.at))
    hits = {hit.rule.id: (hit.outcome, hit.applied, hit.exemption_id) for hit in found}
    for rule_id, done in (applied or {}).items():
        outcome, _, exemption_id = hits.get(rule_id) or (session.get_one(DetectionRule, rule_id).outcome, None, None)
        hits[rule_id] = (outcome, done, exemption_id)
    known = set(session.scalars(sa.select(Hit.rule_id).where(Hit.usage_record_id == usage_record_id)))
    session.add_all(
        Hit(
            rule_id=rule_id, usage_record_id=usage_record_id, user_id=use.user_id, at=use.at, outcome=outcome,
            applied=came, exemption_id=exemption_id,
        )
        for rule_id, (outcome, came, exemption_id) in sorted(hits.items()) if rule_id not in known
    )  # fmt: skip
    session.flush()
    return found


def acted_within(session: Session, at: datetime) -> Callable[[int], int]:
    """Return the counter of how often a rule acted within the hour before an instant."""

    def acted(rule_id: int) -> int:
        recent = sa.and_(Hit.rule_id == rule_id, Hit.at > at - HOUR, Hit.at <= at, Hit.applied.in_(ACTING))
        return session.scalar(sa.select(sa.func.count()).select_from(Hit).where(recent)) or 0

    return acted


def _take_out(session: Session, bad: Sequence[RuleFact], *, now: datetime, base_url: str) -> None:
    for fact in bad:
        row = session.get_one(DetectionRule, fact.id)
        if row.mode is Mode.ENFORCING:
            apply_brake(session, rule=row, why="It failed on what was measured.", now=now, base_url=base_url)


@dataclass(frozen=True)
class HitFact:
    """A hit, with what a case needs to know of it; `of_many` says that its rule is about several people together."""

    id: int
    rule: str
    version: int
    title: str
    outcome: RuleOutcome
    applied: RuleOutcome
    weight: int
    license: str
    clauses: tuple[str, ...]
    reason: str
    user_id: int | None
    usage_record_id: int
    request_id: str
    model_name: str
    at: datetime
    rule_ref: str = ""
    of_many: bool = False


def hits_without_case(session: Session, *, limit: int) -> list[HitFact]:
    """Return hits that somebody has to look at and that are in no case yet, oldest first.

    What is in shadow, only noted, or within declared research is not among them.
    """
    waiting = sa.and_(Hit.case_id.is_(None), Hit.applied.not_in(QUIET))
    return _facts(session, sa.select(Hit.id).where(waiting).order_by(Hit.id).limit(limit))


def hits_of(session: Session, *, case_id: int) -> list[HitFact]:
    """Return the hits that went into a case, oldest first."""
    return _facts(session, sa.select(Hit.id).where(Hit.case_id == case_id))


def _facts(session: Session, ids: sa.Select[Any]) -> list[HitFact]:
    query = (
        sa.select(Hit, UsageRecord.request_id, UsageRecord.model_name)
        .join(UsageRecord, UsageRecord.id == Hit.usage_record_id)
        .where(Hit.id.in_(session.scalars(ids).all()))
        .order_by(Hit.id)
    )
    return [
        HitFact(
            id=hit.id, rule=hit.rule.slug, version=hit.rule.version, title=hit.rule.title, outcome=hit.outcome,
            applied=hit.applied, weight=hit.rule.weight, license=hit.rule.license,
            clauses=tuple(one.clause.stable_key for one in hit.rule.cited), reason=hit.rule.reason_text,
            user_id=hit.user_id, usage_record_id=hit.usage_record_id, request_id=request_id, model_name=model_name,
            at=hit.at, rule_ref=hit.rule.public_id, of_many=of_many(hit.rule.condition),
        )
        for hit, request_id, model_name in session.execute(query)
    ]  # fmt: skip


@lru_cache(maxsize=PART)
def of_many(condition: str) -> bool:
    """Say whether a rule asks what others do, so that what it finds is about several people together."""
    try:
        return any(feature.of_others for feature in parse(condition, FEATURES).features.values())
    except Invalid:  # it asks about what is measured no more
        return False


def mark_in_case(session: Session, *, hit_ids: Collection[int], case_id: int) -> None:
    """Note which case hits went into; a hit goes into one case for good."""
    ids = sorted(hit_ids)
    for start in range(0, len(ids), PART):
        mine = sa.and_(Hit.id.in_(ids[start : start + PART]), Hit.case_id.is_(None))
        session.execute(sa.update(Hit).where(mine).values(case_id=case_id).execution_options(synchronize_session=False))
    session.expire_all()


def note_finding(session: Session, *, case_id: int, breach: bool, now: datetime) -> None:
    """Note whether people found a breach in a case, so that it is known how right rules were; the newest counts."""
    session.add(CaseFinding(case_id=case_id, breach=breach, at=now))
    session.flush()


def watch_reach(session: Session, *, now: datetime, base_url: str) -> list[DetectionRule]:
    """Take rules out of force that act on too many people, and return them; done every few seconds."""
    enforcing = sa.select(DetectionRule).where(DetectionRule.mode == Mode.ENFORCING).order_by(DetectionRule.id)
    stopped = []
    for row in session.scalars(enforcing).unique().all():
        if why := rules.brake(reach(session, rule=row, now=now), now):
            apply_brake(session, rule=row, why=why, now=now, base_url=base_url)
            stopped.append(row)
    return stopped


def reach(session: Session, *, rule: DetectionRule, now: datetime) -> Reach:
    """Return on how many people a rule acted lately, since it enforces."""

    def people(span: timedelta) -> int:
        since = max(now - span, rule.mode_since)
        acted = sa.and_(Hit.rule_id == rule.id, Hit.at >= since, Hit.at <= now, Hit.applied.in_(ACTING))
        return session.scalar(sa.select(sa.func.count(Hit.user_id.distinct())).where(acted)) or 0

    hour, active = people(HOUR), 0
    if hour > rules.BRAKE_PEOPLE:
        week = sa.and_(UsageRecord.started_at > now - WEEK, UsageRecord.started_at <= now)
        active = session.scalar(sa.select(sa.func.count(UsageRecord.user_id.distinct())).where(week)) or 0
    return Reach(hour, people(DAY), active, rule.mode_since, rule.accounts_per_day)


def apply_brake(session: Session, *, rule: DetectionRule, why: str, now: datetime, base_url: str) -> None:
    """Let a rule only flag from now on, and tell its owner and its reviewer."""
    hold(session, DetectionRule.id, rule.id)
    move(session, rule=rule, action=Move.BRAKE, reason=why, by=SYSTEM, now=now)
    name, page = f"{rule.slug} {rule.version}", f"{base_url}/staff/rules/{rule.public_id}"
    tell_owners(
        session, rule=rule, kind="rule_braked", subject=f"Detection rule {name} no longer enforces",
        body=rules.compose_braked(name=name, why=why, page=page), now=now,
    )  # fmt: skip


def tell_owners(session: Session, *, rule: DetectionRule, kind: str, subject: str, body: str, now: datetime) -> None:
    """Leave a message for the owner and the reviewer of a rule; for everybody who may edit rules if neither is left."""
    wanted = sa.select(User).where(User.public_id.in_([rule.owner, rule.reviewer])).order_by(User.id)
    people = session.scalars(wanted).unique().all() or accounts.able(session, permission=Permission.RULES_EDIT, now=now)
    for user in people:
        if user.profile is not None:
            notices.queue(
                session, recipient_id=user.id, address=user.profile.email, kind=kind,
                subject_ref=f"detection_rule:{rule.public_id}", subject=subject, body=body, now=now,
            )  # fmt: skip
