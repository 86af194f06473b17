"""Deciding about a person's conduct: what is found and ordered, by one or by two, and how it is undone."""

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts import service as accounts
from portal.accounts.models import RoleHolding, User
from portal.accounts.rules import Permission
from portal.appeals import service as appeals
from portal.appeals.rules import WAITING, AppealOutcome
from portal.audit import service as audit
from portal.audit.rules import DecisionOverturned, SanctionOrdered
from portal.cases import service as cases
from portal.cases.models import Case
from portal.cases.rules import LinkKind, Origin, Severity
from portal.core.actor import Actor
from portal.core.db import hold
from portal.core.errors import Conflict, NotFound, Refused
from portal.detection import service as detection
from portal.logins import service as logins
from portal.moderation import rules
from portal.moderation.models import CaseDecision
from portal.moderation.rules import DecisionState, Finding, Order
from portal.notices import service as notices
from portal.sanctions import rules as sanction_rules
from portal.sanctions import service as sanctions
from portal.sanctions.models import Sanction
from portal.sanctions.rules import Effects, Measure, SanctionKind
from portal.statements import rules as statement_rules
from portal.statements import service as statements
from portal.statements.models import StatementOfReasons
from portal.statements.rules import Automation, Citation, NoticePreview, Source
from portal.strikes import rules as strike_rules
from portal.strikes import service as strikes

SHUT_OUT = frozenset({SanctionKind.SUSPEND, SanctionKind.CLOSE})
SOURCES = {Origin.REPORT: Source.REPORT, Origin.LEAK: Source.OTHER}


def person_to_judge(session: Session, *, by: Actor, ref: str, now: datetime) -> User:
    """Find a person about whom the actor may decide."""
    user = accounts.find(session, ref=ref)
    check_may_order(session, by=by, user=user, now=now)
    return user


def check_may_order(session: Session, *, by: Actor, user: User, now: datetime) -> None:
    """Raise `Refused` where the actor may not decide about a person."""
    roles = sa.select(RoleHolding.id).where(
        RoleHolding.user_id == user.id, sa.or_(RoleHolding.ended_at.is_(None), RoleHolding.ended_at > now)
    )
    rules.check_may_order(
        by_user=by.user_id, user_id=user.id, concerns_staff=session.scalar(roles.limit(1)) is not None,
        manages_staff=Permission.STAFF_MANAGE.value in by.permissions,
    )  # fmt: skip


def preview(
    session: Session,
    *,
    user_id: int,
    order: Order,
    base_url: str,
    now: datetime,
    automation: Automation = Automation.NONE,
    lapses_at: datetime | None = None,
) -> NoticePreview:
    """Return the notice of a decision exactly as it would be sent now; nothing is decided yet.

    Raises:
        Conflict: the person signed nothing, so no clause binds them.
        Invalid: no clause, one outside the text they signed, no facts, or a sanction that cannot be ordered so.
    """
    rules.check_order(order, now=now, interim=lapses_at is not None)
    signature, cited = statements.grounds(session, user_id=user_id, clause_keys=order.clause_keys, base_url=base_url)
    version = signature.version
    ref, appeal_by = _next_ref(session, user_id, signature.public_id), statement_rules.appeal_deadline(now)
    text = statement_rules.compose_notice(
        ref=ref, base_url=base_url, citations=cited, facts=order.facts, automation=automation, lapses_at=lapses_at,
        signed=f"{version.license.title}, version {version.number}, on {statement_rules.day(signature.signed_at)}",
        restricted=statements.restricted(session, user_id=user_id, measures=order.measures, base_url=base_url),
        strike=strike_rules.weight(order.clause_keys, order.intent) if order.strike else 0, appeal_by=appeal_by,
    )  # fmt: skip
    return NoticePreview(ref, text, appeal_by, signature.id, version.id, tuple(cited))


def _next_ref(session: Session, user_id: int | None, signature_ref: str) -> str:
    """Return the public id that the next decision about a person, or about nobody, will have.

    The notice names the page of the appeal and is previewed word for word, so the id is known before the row is;
    it moves on with each decision, so a preview that somebody overtook no longer fits.
    """
    query = sa.select(sa.func.count()).select_from(CaseDecision).where(CaseDecision.user_id == user_id)
    return statement_rules.decision_ref(signature_ref, session.scalar(query) or 0)


def automation_of(case: Case) -> Automation:
    """Return how much a program did towards a decision that a person takes about a case."""
    return Automation.DETECTED if case.origin is Origin.RULE else Automation.NONE


def concerned(session: Session, *, case: Case) -> User:
    """Return the person whom a decision about a case would be about."""
    if case.user_id is None:
        message = "No one account is known behind this case, so nothing can follow for anybody. Say that nothing was "
        raise Conflict("case_without_person", f"{message}found, or that it cannot be said.")
    return session.get_one(User, case.user_id)


def decide(
    session: Session,
    *,
    by: Actor,
    case_ref: str,
    order: Order,
    notice_sha256: str,
    base_url: str,
    now: datetime,
    batch_ref: str = "",
) -> CaseDecision:
    """Decide a case that one holds; the notice is the one previewed, named by its digest.

    Sending the same order again while it stands decides nothing anew and returns the same case decision.

    Raises:
        Conflict: the case is not held any more, or the notice would now read differently from what was previewed.
        Refused: this takes a second person, or the actor may not decide about this person.
    """
    case = cases.find(session, ref=case_ref)
    user = lock(session, concerned(session, case=case).id) if order.tells or case.user_id is not None else None
    if user is not None and notice_sha256 and (earlier := _told(session, user.id, notice_sha256)):
        return earlier
    case = cases.held(session, ref=case_ref, by=by, now=now)
    if user is not None:
        check_may_order(session, by=by, user=user, now=now)
    if order.needs_two:
        raise Refused("two_people_needed", "This has no end, so a second person confirms it. Propose it.")
    notice = shown(session, case, user, order, notice_sha256, base_url=base_url, now=now)
    return take(session, case=case, user=user, order=order, notice=notice, by=by, now=now, batch_ref=batch_ref)


def shown(
    session: Session, case: Case, user: User | None, order: Order, notice_sha256: str, *, base_url: str, now: datetime
) -> NoticePreview | None:
    """Return the notice that was previewed, which is none where nothing was found.

    Raises:
        Conflict: it would now read differently.
    """
    rules.check_order(order, now=now)
    if not order.tells or user is None:
        return None
    notice = preview(
        session, user_id=user.id, order=order, base_url=base_url, now=now, automation=automation_of(case)
    )  # fmt: skip
    if notice.sha256 != notice_sha256:
        raise Conflict("notice_changed", "The notice would read differently now. Look at it again and confirm.")
    return notice


def take(
    session: Session,
    *,
    case: Case,
    user: User | None,
    order: Order,
    notice: NoticePreview | None,
    by: Actor,
    now: datetime,
    decided_by: str = "",
    lapses_at: datetime | None = None,
    **about: str,
) -> CaseDecision:
    """Take a decision whose grounds and notice were checked: everything of it in this transaction, or nothing.

    Args:
        decided_by: the public id of who proposed it, where `by` is the second person.
        lapses_at: when it ends unless a person confirms it, for a program's.
    """
    automation = Automation.DECIDED if lapses_at else automation_of(case)
    user_id = user.id if user else None
    statement = notice and statements.keep(
        session, notice=notice, facts=order.facts, until=order.until, automation=automation,
        restricted=statements.restricted(session, user_id=user_id or 0, measures=order.measures, base_url=""),
        source=SOURCES.get(case.origin, Source.OWN),
    )  # fmt: skip
    ref = notice.ref if notice else _next_ref(session, user_id, case.public_id)
    second = by.public_id if decided_by else None
    decision = CaseDecision(
        public_id=ref, case_id=case.id, user_id=user_id, finding=order.finding, intent=order.intent,
        statement_id=statement.id if statement else None, decided_by=decided_by or by.public_id, decided_at=now,
        confirmed_by=second, confirmed_at=now if second else None, lapses_at=lapses_at, **about,
    )  # fmt: skip
    session.add(decision)
    session.flush()
    keys = " ".join(c.key for c in notice.citations) if notice else ""
    event = rules.DecisionTaken(
        ref, case.public_id, user.public_id if user else "", order.finding.value, keys, second or ""
    )
    audit.record(session, event, by=by, now=now)
    if user is not None:
        if lapses_at is None:
            _replace_interims(session, case, user, by, now)
        _impose(session, decision, user, order, keys, by, now)
    cases.link(session, case=case, links=[(LinkKind.DECISION, ref)])
    if lapses_at is None:
        cases.decided(session, case=case, by=by, now=now)
        detection.note_finding(session, case_id=case.id, breach=order.tells, now=now)
    if notice is not None and user is not None:
        subject = "A decision about your account"
        tell(session, user, kind="decision", ref=ref, subject=subject, body=notice.text, now=now)
    session.expire(decision, ["sanctions", "statement"])
    return decision


def _impose(  # noqa: PLR0917 - what a decision consists of
    session: Session, decision: CaseDecision, user: User, order: Order, keys: str, by: Actor, now: datetime
) -> None:
    rows = sanctions.order(
        session, user_id=user.id, decision_ref=decision.public_id, measures=order.measures,
        lapses_at=decision.lapses_at, now=now,
    )  # fmt: skip
    for row in rows:
        event = SanctionOrdered(
            subject=row.public_id, case_decision=decision.public_id, user=user.public_id, kind=row.kind.value,
            clauses=keys,
        )  # fmt: skip
        audit.record(session, event, by=by, now=now)
    if order.strike:
        strikes.strike(
            session, user_id=user.id, decision_ref=decision.public_id, clause_keys=order.clause_keys,
            intent=order.intent, by=by, now=now,
        )  # fmt: skip
    sanctions.recompute(session, user_id=user.id, by=by, now=now)
    if any(row.kind in SHUT_OUT for row in rows):
        logins.end_sessions(session, user_id=user.id, reason="suspended", by=by, now=now)


def _replace_interims(session: Session, case: Case, user: User, by: Actor, now: datetime) -> None:
    """End what a program decided for the time being in a case that a person decides now."""
    for decision in session.scalars(interims_of(case)).unique().all():
        decision.lapsed_at = now
        session.flush()
        audit.record(session, rules.DecisionLapsed(decision.public_id, case=case.public_id), by=by, now=now)
        sanctions.end(session, decision_ref=decision.public_id, because="replaced", by=by, now=now)
        session.expire(decision, ["sanctions"])
        subject, body = "A person decided in place of a detection rule", rules.compose_replaced(ref=decision.public_id)
        tell(session, user, kind="decision_replaced", ref=decision.public_id, subject=subject, body=body, now=now)
    sanctions.recompute(session, user_id=user.id, by=by, now=now)


def interims_of(case: Case) -> sa.Select[CaseDecision]:
    """Select what programs decided in a case for the time being, as far as nothing has become of it yet."""
    row = CaseDecision
    waits = sa.and_(row.lapses_at.is_not(None), row.confirmed_at.is_(None), row.lapsed_at.is_(None))
    here = sa.and_(row.case_id == case.id, row.state == DecisionState.IN_FORCE)
    return sa.select(row).where(here, waits).order_by(row.id)


def suspend(
    session: Session, *, by: Actor, user_id: int, clause_keys: Sequence[str], facts: str, until: datetime,
    notice_sha256: str, base_url: str, now: datetime,
) -> CaseDecision:  # fmt: skip
    """Suspend a person in a case opened for it, as the command line does; the notice is named by its digest."""
    user = lock(session, user_id)
    if earlier := _told(session, user_id, notice_sha256):
        return earlier
    check_may_order(session, by=by, user=user, now=now)
    order = suspension(clause_keys=clause_keys, facts=facts, until=until)
    rules.check_order(order, now=now)
    case = open_on(session, user=user, by=by, now=now)
    return decide(
        session, by=by, case_ref=case.public_id, order=order, notice_sha256=notice_sha256, base_url=base_url, now=now
    )


def suspension(*, clause_keys: Sequence[str], facts: str, until: datetime) -> Order:
    """Return the order that suspends an account."""
    measure = Measure(SanctionKind.SUSPEND, until)
    return Order(Finding.VIOLATION, clause_keys=tuple(clause_keys), facts=facts, measures=(measure,))


def open_on(session: Session, *, user: User, by: Actor, now: datetime) -> Case:
    """Open a case on a person because a member of staff looked at them; they hold it, unless a colleague does."""
    count = len(decisions_about(session, user_id=user.id))
    evidence = {
        "kind": "staff", "by": by.public_id, "person": user.public_id, "decisions": count, "at": now.isoformat()
    }  # fmt: skip
    case = cases.open_case(
        session, subject_ref=user.public_id, origin=Origin.STAFF, clause_refs=(), severity=Severity.MEDIUM,
        evidence=evidence, dedupe_key=f"staff:{user.public_id}:{now.date().isoformat()}", now=now, by=by,
    )  # fmt: skip
    holder = cases.holder_at(session, case=case, now=now)
    free = by.user_id is not None and (holder is None or holder.id == by.user_id)
    return cases.claim(session, ref=case.public_id, by=by, now=now) if free else case


def overturn(
    session: Session, *, user: User, decisions: Sequence[CaseDecision], by: Actor, reason: str, base_url: str,
    now: datetime,
) -> None:  # fmt: skip
    """Let decisions about a person count no more; what is left is computed anew, and the person is told."""
    for decision in decisions:
        decision.state = rules.DECISION.next(decision.state, rules.DecisionAction.OVERTURN)
        decision.overturned_by, decision.overturned_at = by.public_id, now
        decision.overturn_reason = statement_rules.plain(reason)
        session.flush()
        digest = sha256(decision.overturn_reason.encode()).hexdigest()
        audit.record(session, DecisionOverturned(decision.public_id, user.public_id, digest), by=by, now=now)
        sanctions.end(session, decision_ref=decision.public_id, because="overturned", by=by, now=now)
        strikes.overrule(session, decision_ref=decision.public_id, by=by, now=now)
        settle_appeal(session, decision=decision, outcome=AppealOutcome.OVERTURNED, reasons=reason, by=by, now=now)
        session.expire(decision, ["sanctions"])
    left = sanctions.recompute(session, user_id=user.id, by=by, now=now)
    for decision in decisions:
        _correct(session, user, decision, reason=reason, left=left, base_url=base_url, now=now)


def settle_appeal(
    session: Session, *, decision: CaseDecision, outcome: AppealOutcome, reasons: str, by: Actor, now: datetime
) -> None:
    """Answer the appeal that waits against a decision, if one does, and let go of what it kept."""
    if (appeal := appeals.of_decision(session, ref=decision.public_id)) is None or appeal.state not in WAITING:
        return
    appeals.answer(session, appeal=appeal, outcome=outcome, reasons=reasons, by=by, now=now)
    if (case := cases.linked(session, kind=LinkKind.APPEAL, ref=appeal.public_id)) is not None:
        cases.decided(session, case=case, by=by, now=now)
    original = session.get_one(Case, decision.case_id)
    cases.release_hold(session, case=original, because=appeal.public_id, by=by, now=now)


def _correct(
    session: Session, user: User, decision: CaseDecision, *, reason: str, left: Effects, base_url: str, now: datetime
) -> None:
    live = sanction_rules.in_force(sanctions.of_person(session, user_id=user.id), now)
    body = rules.compose_correction(
        ref=decision.public_id, base_url=base_url, reason=reason, left=left, others=len(live)
    )
    subject = "Correction: a decision about your account is overturned"
    tell(session, user, kind="correction", ref=decision.public_id, subject=subject, body=body, now=now)


def decisions_about(session: Session, *, user_id: int) -> Sequence[CaseDecision]:
    """Return the case decisions about a person, newest first."""
    query = sa.select(CaseDecision).where(CaseDecision.user_id == user_id).order_by(CaseDecision.id.desc())
    return session.scalars(query).unique().all()


def find(session: Session, *, ref: str) -> CaseDecision:
    """Find a case decision by its public id, or by that of one of its sanctions, or raise `NotFound`."""
    by_sanction = sa.select(Sanction.decision_ref).where(Sanction.public_id == ref)
    query = sa.select(CaseDecision).where((CaseDecision.public_id == ref) | CaseDecision.public_id.in_(by_sanction))
    decision = session.scalars(query).unique().one_or_none()
    if decision is None:
        raise NotFound("decision_not_found", "There is no such decision.")
    return decision


def phase(decision: CaseDecision, *, now: datetime) -> rules.Phase:
    """Return how a case decision stands at an instant."""
    facts, waits_until = [sanctions.fact(row) for row in decision.sanctions], decision.lapsed_at or decision.lapses_at
    return rules.phase_at(decision.state, facts, None if decision.confirmed_at else waits_until, now)


def cited(session: Session, *, decision: CaseDecision, base_url: str) -> list[Citation]:
    """Return the clauses that a case decision rests on, in the words that the person signed."""
    return statements.cited(session, statement=decision.statement, base_url=base_url) if decision.statement else []


def lock(session: Session, user_id: int) -> User:
    """Return a person and keep others from deciding about them until this is done."""
    hold(session, User.id, user_id)
    return session.get_one(User, user_id)


def _told(session: Session, user_id: int, notice_sha256: str) -> CaseDecision | None:
    """Return the case decision that was taken under exactly this notice and stands."""
    query = (
        sa.select(CaseDecision)
        .join(StatementOfReasons, StatementOfReasons.id == CaseDecision.statement_id)
        .where(
            CaseDecision.user_id == user_id, CaseDecision.state == DecisionState.IN_FORCE,
            StatementOfReasons.notice_sha256 == notice_sha256,
        )
    )  # fmt: skip
    return session.scalars(query).unique().one_or_none()


def tell(session: Session, user: User, *, kind: str, ref: str, subject: str, body: str, now: datetime) -> None:
    """Leave a message for a person about what was decided."""
    if user.profile:  # an erased account has no address any more
        notices.queue(
            session, recipient_id=user.id, address=user.profile.email, kind=kind, subject_ref=ref, subject=subject,
            body=body, now=now,
        )  # fmt: skip
