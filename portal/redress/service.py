"""Contesting a decision: filing, questions back, and the answer of somebody who took no part in it."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.appeals import rules
from portal.appeals import service as appeals
from portal.appeals.models import Appeal
from portal.appeals.rules import AppealAction, AppealOutcome, AppealState, check_reason
from portal.cases import service as cases
from portal.cases.models import Case
from portal.cases.rules import Confidence, LinkKind, Origin, Severity
from portal.core.actor import Actor
from portal.core.errors import Conflict, Invalid, NotFound
from portal.moderation import service as moderation
from portal.moderation.models import CaseDecision
from portal.moderation.rules import DecisionState, milder
from portal.sanctions import service as sanctions
from portal.statements.rules import plain


def own_decision(session: Session, *, by: Actor, ref: str) -> CaseDecision:
    """Find a case decision for the person concerned; to anybody else, and without a notice, it does not exist."""
    decision = moderation.find(session, ref=ref)
    if decision.user_id != by.user_id or decision.statement is None:
        raise NotFound("decision_not_found", "There is no such decision.")
    return decision


def file_appeal(session: Session, *, by: Actor, ref: str, text: str, base_url: str, now: datetime) -> Appeal:
    """Contest a case decision about oneself, once; it waits in the queue of cases for somebody uninvolved.

    Sending it twice files it once. What the decision rests on is kept until the appeal is answered.
    """
    decision = own_decision(session, by=by, ref=ref)
    user = moderation.lock(session, decision.person_id)
    if earlier := appeals.of_decision(session, ref=decision.public_id):
        if earlier.text == plain(text):
            return earlier
        raise Conflict("appeal_exists", "You have appealed this decision already; its state is on this page.")
    stands = decision.state is DecisionState.IN_FORCE
    rules.check_appeal(plain(text), stands=stands, appeal_by=decision.statement.appeal_by, now=now)
    appeal = appeals.file(session, by=by, decision_ref=decision.public_id, text=text, now=now)
    _into_queue(session, appeal, decision, user, by, now)
    body = rules.compose_received(ref=decision.public_id, base_url=base_url, due_at=appeal.due_at)
    subject = "Your appeal was received"
    moderation.tell(
        session, user, kind="appeal_received", ref=decision.public_id, subject=subject, body=body, now=now
    )  # fmt: skip
    return appeal


def _into_queue(  # noqa: PLR0917 - what filing consists of
    session: Session, appeal: Appeal, decision: CaseDecision, user: User, by: Actor, now: datetime
) -> None:  # fmt: skip
    original = session.get_one(Case, decision.case_id)
    cases.set_hold(session, case=original, because=appeal.public_id, by=by, now=now)
    involved = {decision.decided_by, decision.confirmed_by or "", *cases.took_part(session, case=original)}
    involved = {ref for ref in involved if ref.startswith("usr_")} - {user.public_id}
    evidence = {
        "kind": "appeal", "appeal": appeal.public_id, "decision": decision.public_id,
        "notice_sha256": decision.statement.notice_sha256, "case": original.public_id,
    }  # fmt: skip
    case = cases.open_case(
        session, subject_ref=user.public_id, origin=Origin.APPEAL, severity=Severity.MEDIUM,
        confidence=Confidence.SURE, clause_refs=cases.refs(session, case=original, kind=LinkKind.CLAUSE),
        evidence=evidence, dedupe_key=f"appeal:{appeal.public_id}", now=now, by=by,
        links={
            (LinkKind.APPEAL, appeal.public_id), (LinkKind.DECISION, decision.public_id),
            (LinkKind.CASE, original.public_id), *((LinkKind.INVOLVED, ref) for ref in involved),
        },
    )  # fmt: skip
    cases.link(session, case=original, links=[(LinkKind.CASE, case.public_id)])


def listed(session: Session, *, state: AppealState) -> Sequence[Appeal]:
    """Return appeals in a state: waiting ones by due date, answered ones newest first."""
    return appeals.listed(session, state=state)


def find_appeal(session: Session, *, ref: str) -> tuple[Appeal, CaseDecision, User]:
    """Find an appeal with what it contests and whom it concerns."""
    appeal = appeals.find(session, ref=ref)
    decision = moderation.find(session, ref=appeal.decision_ref)
    return appeal, decision, session.get_one(User, appeal.user_id)


def of_case(session: Session, *, case: Case) -> tuple[Appeal, CaseDecision, User] | None:
    """Return the appeal that a case is about, if it is about one."""
    found = cases.refs(session, case=case, kind=LinkKind.APPEAL) if case.origin is Origin.APPEAL else []
    return find_appeal(session, ref=found[0]) if found else None


def _case_of(session: Session, appeal: Appeal, by: Actor, now: datetime) -> Case:
    case = cases.linked(session, kind=LinkKind.APPEAL, ref=appeal.public_id)
    if case is None:
        raise NotFound("case_not_found", "There is no such case.")
    cases.check_may_work(session, case=case, by=by)
    return cases.held(session, ref=case.public_id, by=by, now=now)


def ask(session: Session, *, by: Actor, ref: str, words: str, base_url: str, now: datetime) -> None:
    """Ask the person something about their appeal, in its case, which one holds; it then waits for the answer."""
    appeal, decision, user = find_appeal(session, ref=ref)
    case = _case_of(session, appeal, by, now)
    appeals.message(session, appeal=appeal, action=AppealAction.ASK, words=words, by=by, now=now)
    cases.ask(session, ref=case.public_id, by=by, now=now)
    body = rules.compose_question(ref=decision.public_id, base_url=base_url, words=words)
    subject = "A question about your appeal"
    moderation.tell(
        session, user, kind="appeal_question", ref=decision.public_id, subject=subject, body=body, now=now
    )  # fmt: skip


def reply(session: Session, *, by: Actor, ref: str, words: str, now: datetime) -> None:
    """Answer, as the person concerned, what was asked about one's appeal."""
    decision = own_decision(session, by=by, ref=ref)
    appeal = appeals.of_decision(session, ref=decision.public_id)
    if appeal is None:
        raise Conflict("appeal_missing", "You have not appealed this decision.")
    appeals.message(session, appeal=appeal, action=AppealAction.REPLY, words=words, by=by, now=now)


def decide_appeal(
    session: Session,
    *,
    by: Actor,
    ref: str,
    outcome: AppealOutcome,
    reasons: str,
    base_url: str,
    now: datetime,
    until: datetime | None = None,
) -> Appeal:
    """Answer an appeal, as somebody uninvolved who holds its case; what is left is computed anew at once.

    Args:
        until: when the decision ends that is made milder.
    """
    appeal, decision, user = find_appeal(session, ref=ref)
    moderation.lock(session, user.id)
    rules.check_reason(reasons, field="reasons")
    if appeal.state is AppealState.DECIDED and (appeal.outcome, appeal.reasons) == (outcome, plain(reasons)):
        return appeal
    rules.APPEAL.next(appeal.state, AppealAction.DECIDE)
    _case_of(session, appeal, by, now)
    if outcome is AppealOutcome.OVERTURNED:
        moderation.overturn(
            session, user=user, decisions=[decision], by=by, reason=reasons, base_url=base_url, now=now
        )  # fmt: skip
        return appeal
    if outcome is AppealOutcome.VARIED:
        _vary(session, decision, until, by, now)
    moderation.settle_appeal(session, decision=decision, outcome=outcome, reasons=reasons, by=by, now=now)
    body = rules.compose_answer(ref=decision.public_id, base_url=base_url, outcome=outcome, reasons=reasons)
    moderation.tell(
        session, user, kind="appeal_answer", ref=decision.public_id, subject="Your appeal is answered", body=body,
        now=now,
    )  # fmt: skip
    return appeal


def _vary(session: Session, decision: CaseDecision, until: datetime | None, by: Actor, now: datetime) -> None:
    if until is None or until <= now:
        raise Invalid("until_past", "Name the day, in the future, on which the milder decision ends.", field="until")
    ended = sanctions.end(session, decision_ref=decision.public_id, because="varied", by=by, now=now)
    if not ended:
        raise Conflict("nothing_restricts", "Nothing of this decision is in force, so it cannot be made milder.")
    measures = [milder(sanctions.measure_of(row), until) for row in ended]
    sanctions.order(
        session, user_id=decision.person_id, decision_ref=decision.public_id, measures=measures, lapses_at=None, now=now
    )
    sanctions.recompute(session, user_id=decision.person_id, by=by, now=now)
    session.expire(decision, ["sanctions"])


def reinstate(
    session: Session, *, by: Actor, user_id: int, reason: str, base_url: str, now: datetime
) -> list[CaseDecision]:
    """Overturn every case decision that suspends a person or closes their account now, and tell them."""
    check_reason(reason)
    user = moderation.lock(session, user_id)
    moderation.check_may_order(session, by=by, user=user, now=now)
    found = [d for d in moderation.decisions_about(session, user_id=user_id) if _shuts_out(d, now)]
    moderation.overturn(session, user=user, decisions=found, by=by, reason=reason, base_url=base_url, now=now)
    return found


def _shuts_out(decision: CaseDecision, now: datetime) -> bool:
    return any(row.kind in moderation.SHUT_OUT and sanctions.fact(row).holds(now) for row in decision.sanctions)
