"""Writing detection rules, and bringing their versions into force: tried, watched, and by two where it is grave."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts import service as accounts
from portal.accounts.models import Proposal, User
from portal.accounts.rules import Permission, reason_of
from portal.audit import service as audit
from portal.backtests import service as backtests
from portal.banks import service as banking
from portal.catalog import service as catalog
from portal.core.actor import Actor
from portal.core.clock import stamp
from portal.core.db import hold
from portal.core.errors import Conflict, Invalid
from portal.core.ids import public_id
from portal.detection import rules as detecting
from portal.detection import service as detection
from portal.detection.models import DetectionRule, RuleClause, RuleExample, RuleMove, RulePurpose
from portal.detection.rules import LOOKING, REFUSING, RULE_LIFE, Mode, Move, RuleWritten, check_shadowed
from portal.exemptions import service as exemptions
from portal.exemptions.rules import check_words
from portal.expressions.rules import Expression, parse
from portal.features import service as features
from portal.features.rules import FEATURES
from portal.notices.models import Notice
from portal.notices.rules import moment
from portal.proofs.rules import canonical, digest
from portal.rulebook import rules
from portal.rulebook.rules import Measure, RuleDraft

ENFORCE = "detection:rule:enforce"
SHIPPED = Path(__file__).parent.parent / "detection" / "shipped"
SOON = timedelta(days=14)


def write(
    session: Session,
    *,
    draft: RuleDraft,
    banks: Collection[str] | None,
    measure: Measure,
    by: Actor,
    now: datetime,
) -> DetectionRule:
    """Keep the next version of a rule as a draft.

    The same words as the newest version, unless that has expired or is retired, return that one.

    Args:
        banks: names of the banks that there are; None where any name will do.
        measure: what is measured of a prompt before an engine is asked.

    Raises:
        Invalid: names the field that cannot be taken, and for a condition where it goes wrong.
    """
    draft = replace(draft, owner=draft.owner or by.public_id)
    cited = exemptions.cite(session, license_slug=draft.license, keys=draft.clauses)
    rules.check_draft(draft, elements={one.stable_key: one.element for one in cited}, banks=banks, measure=measure)
    _check_people(session, draft, by, now)
    model = catalog.called(session, full_name=draft.model) if draft.model else None
    if draft.model and model is None:
        raise Invalid("model_unknown", "There is no such model.", field="model")
    newest = versions(session, slug=draft.slug)
    said = _digest(draft)
    if newest and newest[0].sha256 == said and newest[0].mode is not Mode.RETIRED and now < newest[0].expires_at:
        return newest[0]
    row = DetectionRule(
        public_id=public_id("rul"), slug=draft.slug, version=newest[0].version + 1 if newest else 1,
        title=draft.title, license=draft.license, model_id=model.id if model else None, route=draft.route,
        condition=draft.when.strip(), on_missing=draft.on_missing, outcome=draft.outcome, weight=draft.weight,
        per_hour=draft.per_hour, accounts_per_day=draft.accounts_per_day, owner=draft.owner, reviewer=draft.reviewer,
        reason_text=draft.reason_text.strip(), expires_at=now + RULE_LIFE, sha256=said, written_by=by.public_id,
        written_at=now, mode=Mode.DRAFT, mode_since=now, cited=[RuleClause(clause_id=one.id) for one in cited],
        purposes=[RulePurpose(purpose=one) for one in sorted(set(draft.exempt))], examples=_examples(draft),
    )  # fmt: skip
    session.add(row)
    session.flush()
    event = RuleWritten(subject=row.public_id, slug=row.slug, version=row.version, sha256=said)
    audit.record(session, event, by=by, now=now)
    return row


def measuring(session: Session) -> tuple[set[str], Measure]:
    """Return the names of the banks that there are, and what measures a prompt by them, as `write` takes them."""
    scanner = banking.Scanner(banking.load(session))
    return set(banking.names(session)), lambda prompt: features.vector(scanner, prompt)


def _digest(draft: RuleDraft) -> str:
    said = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(draft).items()}
    return digest(canonical(said))


def _examples(draft: RuleDraft) -> list[RuleExample]:
    prompts = [*((True, prompt) for prompt in draft.match), *((False, prompt) for prompt in draft.passes)]
    return [RuleExample(number=n, matches=matches, prompt=prompt) for n, (matches, prompt) in enumerate(prompts)]


def _check_people(session: Session, draft: RuleDraft, by: Actor, now: datetime) -> None:
    able = {user.public_id for user in accounts.able(session, permission=Permission.RULES_EDIT, now=now)}
    for field, ref in (("owner", draft.owner), ("reviewer", draft.reviewer)):
        if ref and ref != by.public_id and ref not in able:
            raise Invalid(f"{field}_unable", "This person may not edit rules.", field=field)


def draft_of(rule: DetectionRule) -> RuleDraft:
    """Return what a version of a rule says, for writing its next one."""
    return RuleDraft(
        slug=rule.slug, title=rule.title, license=rule.license, when=rule.condition, outcome=rule.outcome,
        clauses=tuple(one.clause.stable_key for one in rule.cited), reason_text=rule.reason_text,
        match=tuple(one.prompt for one in rule.examples if one.matches),
        passes=tuple(one.prompt for one in rule.examples if not one.matches),
        model=rule.model.full_name if rule.model else "", route=rule.route, on_missing=rule.on_missing,
        weight=rule.weight, per_hour=rule.per_hour, accounts_per_day=rule.accounts_per_day,
        exempt=tuple(one.purpose for one in rule.purposes), owner=rule.owner, reviewer=rule.reviewer,
    )  # fmt: skip


def versions(session: Session, *, slug: str) -> Sequence[DetectionRule]:
    """Return the versions of a rule, newest first."""
    query = sa.select(DetectionRule).where(DetectionRule.slug == slug).order_by(DetectionRule.version.desc())
    return session.scalars(query).unique().all()


def listed(session: Session) -> list[DetectionRule]:
    """Return the versions that are not retired, by name; of a rule that has none, the newest."""
    newest = sa.select(sa.func.max(DetectionRule.id)).group_by(DetectionRule.slug)
    wanted = sa.or_(DetectionRule.mode != Mode.RETIRED, DetectionRule.id.in_(newest))
    query = sa.select(DetectionRule).where(wanted).order_by(DetectionRule.slug, DetectionRule.version.desc())
    return list(session.scalars(query).unique())


def sync_shipped(
    session: Session, *, measure: Measure, banks: Collection[str] | None, by: Actor, now: datetime,
    folder: Path = SHIPPED,
) -> list[str]:  # fmt: skip
    """Bring the rules that come with the portal in, as flagging, where they are new or say something else.

    A rule whose newest version staff wrote is theirs, and left alone; so is one whose license is not published here.

    Returns:
        A line for each that came in.

    Raises:
        Invalid: names the file at fault.
    """
    lines = []
    for path in sorted(folder.glob("*.toml")):
        draft = rules.read_shipped(path.read_text(encoding="utf-8"), path.name)
        newest = versions(session, slug=draft.slug)
        theirs = bool(newest) and newest[0].written_by != by.public_id
        if theirs or not exemptions.citable(session, license_slug=draft.license):
            continue
        try:
            row = write(session, draft=draft, banks=banks, measure=measure, by=by, now=now)
        except Invalid as error:
            raise Invalid(error.code, f"{path.name}: {error.message}", field=error.field) from None
        if row.mode is Mode.DRAFT:
            reason = "It comes with the portal, reviewed with it."
            detection.move(session, rule=row, action=Move.SHIP, reason=reason, by=by, now=now)
            lines.append(f"Detection rule {row.slug} {row.version} flags.")
    return lines


def step(session: Session, *, ref: str, action: Move, reason: str, by: Actor, now: datetime) -> DetectionRule:
    """Bring a version of a rule into shadow, let it flag, let it enforce, or retire it.

    Raises:
        Conflict: it was not tried on past use, was not in shadow long enough, has expired, or cannot make this move.
        Refused: it refuses requests or worse, so a second person has to confirm it (`propose`, `confirm`).
    """
    rule = _held(session, ref)
    if action in {Move.SHIP, Move.BRAKE}:
        raise Conflict("move_refused", "This move is not made by people.")
    if action is Move.ENFORCE and needs_two(rule):
        raise Conflict(
            "two_people", f"It leads to {rule.outcome}, so one person proposes this and another confirms it."
        )
    _check_step(session, rule, action, reason, now)
    detection.move(session, rule=rule, action=action, reason=reason.strip(), by=by, now=now)
    return rule


def needs_two(rule: DetectionRule) -> bool:
    """Say whether it takes two people to let a rule enforce."""
    return rule.outcome in REFUSING


def _held(session: Session, ref: str) -> DetectionRule:
    rule = detection.find(session, ref=ref)
    hold(session, DetectionRule.id, rule.id)
    return rule


def _check_step(session: Session, rule: DetectionRule, action: Move, reason: str, now: datetime) -> None:
    detecting.RULE.next(rule.mode, action)
    if action in {Move.SHADOW, Move.FLAG, Move.ENFORCE} and now >= rule.expires_at:
        raise Conflict("rule_expired", "This version has expired. Write it anew as the next one.")
    if action is Move.SHADOW and not any(test.done_at for test in backtests.of_rule(session, rule=rule)):
        raise Conflict("backtest_missing", "Try it on past use first; what it would have done is on its page then.")
    if action is Move.FLAG and rule.mode is Mode.SHADOW:
        check_shadowed(rule.mode_since, now)
    if action is Move.ENFORCE:
        rules.check_cost([*_enforcing(session, but=rule.slug), parse(rule.condition, FEATURES)])
        if detection.braked(session, rule=rule) is not None:
            check_words(reason, field="reason", ask="The brake stopped it. Say why it may enforce again.")


def _enforcing(session: Session, *, but: str) -> list[Expression]:
    query = sa.select(DetectionRule.condition).where(DetectionRule.mode == Mode.ENFORCING, DetectionRule.slug != but)
    return [parse(condition, FEATURES) for condition in session.scalars(query)]


def open_proposal(session: Session, *, rule: DetectionRule, now: datetime) -> Proposal | None:
    """Return the proposal to let a rule enforce that waits for a second person."""
    return accounts.open_proposal(session, action=ENFORCE, subject_ref=rule.public_id, now=now)


def propose(session: Session, *, ref: str, reason: str, by: Actor, now: datetime) -> Proposal:
    """Propose to let a version of a rule enforce; somebody else confirms it within a day."""
    rule = _held(session, ref)
    reason = check_words(reason, field="reason", ask="Say why it should enforce.")
    _check_step(session, rule, Move.ENFORCE, reason, now)
    return accounts.propose(
        session, action=ENFORCE, subject_ref=ref, payload=_payload(rule, reason), page=f"/staff/rules/{ref}",
        permission=Permission.RULES_EDIT, by=by, now=now,
    )  # fmt: skip


def confirm(session: Session, *, ref: str, payload_sha256: str, by: Actor, now: datetime) -> DetectionRule:
    """Let a version of a rule enforce, as the second of two people.

    Args:
        payload_sha256: digest of what the confirming person was shown.
    """
    rule = _held(session, ref)
    proposal = open_proposal(session, rule=rule, now=now)
    reason = reason_of(proposal.payload) if proposal else ""
    agreed = accounts.confirm(
        session, action=ENFORCE, subject_ref=ref, shown_sha256=payload_sha256, payload=_payload(rule, reason), by=by,
        now=now,
    )  # fmt: skip
    _check_step(session, rule, Move.ENFORCE, reason, now)
    detection.move(session, rule=rule, action=Move.ENFORCE, reason=reason, proposal=agreed, by=by, now=now)
    return rule


def _payload(rule: DetectionRule, reason: str) -> Mapping[str, Any]:
    return {
        "action": ENFORCE, "rule": rule.public_id, "slug": rule.slug, "version": rule.version, "sha256": rule.sha256,
        "outcome": rule.outcome.value, "mode": rule.mode.value, "since": stamp(rule.mode_since),
        "expires_at": stamp(rule.expires_at), "reason": reason,
    }  # fmt: skip


def twins(session: Session, *, rule: DetectionRule) -> list[str]:
    """Return the other rules that are looked at and ask exactly the same."""
    query = sa.select(DetectionRule).where(DetectionRule.mode.in_(LOOKING), DetectionRule.slug != rule.slug)
    others = {row.slug: parse(row.condition, FEATURES) for row in session.scalars(query).unique()}
    return rules.alike(parse(rule.condition, FEATURES), others)


@dataclass(frozen=True)
class Step:
    """One entry of the history of a rule: which version came into which mode, by whom and why."""

    version: int
    move: RuleMove


def history(session: Session, *, slug: str, limit: int = 200) -> list[Step]:
    """Return how the versions of a rule came to where they are, newest first."""
    query = (
        sa.select(DetectionRule.version, RuleMove)
        .join(DetectionRule, DetectionRule.id == RuleMove.rule_id)
        .where(DetectionRule.slug == slug)
        .order_by(RuleMove.id.desc())
        .limit(limit)
    )
    return [Step(version, row) for version, row in session.execute(query)]


def remind(session: Session, *, now: datetime, base_url: str) -> int:
    """Tell the owners, once, of rules that are looked at and expire soon; returns of how many."""
    told = sa.select(Notice.subject_ref).where(Notice.kind == "rule_expiring")
    soon = sa.and_(DetectionRule.expires_at <= now + SOON, DetectionRule.expires_at > now)
    query = sa.select(DetectionRule).where(
        DetectionRule.mode.in_(LOOKING), soon, ("detection_rule:" + DetectionRule.public_id).not_in(told)
    )
    rows = session.scalars(query.order_by(DetectionRule.id)).unique().all()
    for row in rows:
        name, page = f"{row.slug} {row.version}", f"{base_url}/staff/rules/{row.public_id}"
        detection.tell_owners(
            session, rule=row, kind="rule_expiring", subject=f"Detection rule {name} expires soon",
            body=detecting.compose_expiring(name=name, day=moment(row.expires_at), page=page), now=now,
        )  # fmt: skip
    return len(rows)


def editors(session: Session, *, now: datetime) -> Sequence[User]:
    """Return who may edit rules, to be chosen as a reviewer."""
    return accounts.able(session, permission=Permission.RULES_EDIT, now=now)
