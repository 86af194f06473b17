"""Taking reports from outside, making one case of those that say the same, and telling reporters what came of them."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import Profile, User
from portal.audit import service as audit
from portal.cases import service as cases
from portal.cases.models import Case
from portal.cases.rules import WAITING, LinkKind, Origin
from portal.catalog import service as catalog
from portal.clauses.rules import Part
from portal.core.actor import ANONYMOUS, SYSTEM, Actor
from portal.core.errors import NotFound
from portal.core.ids import public_id
from portal.licensing import rules as licensing_rules
from portal.licensing import service as licensing
from portal.logins.rules import Secret, new_secret, sealed
from portal.moderation.models import CaseDecision
from portal.moderation.rules import DecisionState, Finding
from portal.notices import service as notices
from portal.notices.models import Notice
from portal.reports import rules
from portal.reports.models import Report
from portal.reports.rules import REPORT, ReportAction, ReportOutcome, ReportState, Told
from portal.signing import service as signing
from portal.usage.models import UsageRecord

KIND = "report"
OUTCOMES = {Finding.VIOLATION: ReportOutcome.BREACH, Finding.NONE: ReportOutcome.NO_BREACH}
BATCH = 50
NEWEST = 200


def restrictions(session: Session, *, now: datetime) -> list[Part]:
    """Return the use restrictions of the licenses in force, in the order of their texts, each key once."""
    found: dict[str, Part] = {}
    for license_, _versions in licensing.licenses(session):
        facts = licensing.versions_for(session, license_ids=[license_.id]).get(license_.id, [])
        current = licensing_rules.in_force(facts, now)
        if current is not None:
            version = licensing.find_version(session, slug=license_.slug, number=current.number)
            shown = licensing.rendition(version)
            for _, part in signing.restrictions(session, sha256=shown.text_sha256):
                found.setdefault(part.key, part)
    return list(found.values())


def address_of(session: Session, *, user_id: int | None) -> str:
    """Return the address at which somebody who is signed in is told what came of a report."""
    profile = session.get(Profile, user_id) if user_id is not None else None
    return profile.email if profile else ""


def file(
    session: Session,
    *,
    by: Actor,
    told: Told,
    network: str,
    puzzle: str | None,
    pepper: bytes,
    base_url: str,
    now: datetime,
) -> Report:
    """Take a report; without a name or a piece of work behind it, it waits until its reporter confirms it by mail.

    Sending the same again takes it once.

    Args:
        network: the neighborhood that it came from; limits hold for each.
        puzzle: names the piece of work that a browser did for this report, if it did.

    Raises:
        TooMany: this network reported too often within the hour.
    """
    if (earlier := _same(session, by, told, puzzle)) is not None:
        return earlier
    where = sealed(Secret.ATTEMPT, network, pepper)
    recent = sa.select(sa.func.count()).select_from(Report)
    rules.check_pace(session.scalar(recent.where(Report.network == where, Report.filed_at > now - rules.WINDOW)) or 0)
    report = Report(
        public_id=public_id("rep"), state=REPORT.start, subject_ref=subject_of(session, told.locator, base_url),
        clause_key=told.clause, locator=told.locator, explanation=told.explanation, name=told.name, email=told.email,
        reporter_id=by.user_id, network=where, puzzle=puzzle, weight=rules.NEUTRAL, filed_at=now,
        proved_at=now if by.is_signed_in else None,
    )  # fmt: skip
    session.add(report)
    session.flush()
    event = rules.ReportFiled(subject=report.public_id, about=report.subject_ref, clause=report.clause_key)
    audit.record(session, event, by=by, now=now)
    if by.is_signed_in or puzzle is not None:
        _attach(session, report, by, now)
        _received(session, report, base_url, now)
    else:
        secret = new_secret()
        report.secret_hmac = sealed(Secret.LINK, secret, pepper)
        body = rules.compose_confirm(base_url=base_url, secret=secret)
        _queue(session, report, "Confirm your report", body, now, secret=True)
    session.flush()
    return report


def _same(session: Session, by: Actor, told: Told, puzzle: str | None) -> Report | None:
    """Return the report that somebody sends a second time."""
    if puzzle is not None and (found := session.scalar(sa.select(Report).where(Report.puzzle == puzzle))):
        return found
    if not by.is_signed_in:
        return None
    query = sa.select(Report).where(
        Report.reporter_id == by.user_id, Report.locator == told.locator, Report.clause_key == told.clause,
        Report.explanation == told.explanation, Report.state == ReportState.ATTACHED,
    )  # fmt: skip
    return session.scalar(query.limit(1))


def subject_of(session: Session, locator: str, base_url: str) -> str:
    """Return what a report is about, by public id: who used a model, a model, or a place outside."""
    if named := rules.USE.search(locator):
        user = sa.select(User.public_id).join(UsageRecord, UsageRecord.user_id == User.id)
        if (found := session.scalar(user.where(UsageRecord.request_id == named.group()))) is not None:
            return found
    path = locator.removeprefix(base_url).partition("?")[0].strip("/").split("/")
    if locator.startswith(f"{base_url}/") and len(path) > 1:
        name = "/".join(path[:3] if path[0] == "datasets" else path[:2])
        model = catalog.called(session, full_name=name) or catalog.once_called(session, full_name=name)
        if model is not None:
            return model.public_id
    return rules.elsewhere(locator)


def confirm(session: Session, *, secret: str, pepper: bytes, base_url: str, now: datetime) -> Report:
    """Take up a report whose reporter has followed the link in their mail; following it again changes nothing."""
    report = waiting(session, secret=secret, pepper=pepper, now=now)
    if report.state is ReportState.UNCONFIRMED:
        report.proved_at = now
        _attach(session, report, ANONYMOUS, now)
        _received(session, report, base_url, now)
    return report


def waiting(session: Session, *, secret: str, pepper: bytes, now: datetime) -> Report:
    """Find the report that a link confirms."""
    digest = sealed(Secret.LINK, secret, pepper)
    report = session.scalar(sa.select(Report).where(Report.secret_hmac == digest).with_for_update())
    if report is None or now >= report.filed_at + rules.LINK_LIFE:
        raise NotFound("link_dead", "This link is too old or mistyped. Write the report again.", url="/report")
    return report


def _attach(session: Session, report: Report, by: Actor, now: datetime) -> None:
    """Make a report part of the case about the same target and clause, or the beginning of one.

    The first report and any from a more reliable reporter are evidence; the others are only linked, so that a crowd
    neither raises a case in the queue nor opens a decided one again.
    """
    report.weight = weight_of(session, report=report)
    key = rules.dedupe_key(report.subject_ref, report.clause_key)
    known = session.scalar(sa.select(Case).where(Case.dedupe_key == key))
    link = (LinkKind.REPORT, report.public_id)
    if known is None or report.weight > heaviest(session, case_ref=known.public_id, decided=known.state not in WAITING):
        case = cases.open_case(
            session, subject_ref=report.subject_ref, origin=Origin.REPORT,
            clause_refs=[report.clause_key] if report.clause_key else [], severity=rules.severity(report.weight),
            evidence={"kind": KIND, "report": report.public_id, "clause": report.clause_key, "weight": report.weight},
            dedupe_key=key, now=now, by=by, links=[link],
        )  # fmt: skip
    else:
        case = known
        cases.link(session, case=case, links=[link])
    report.state, report.case_ref = REPORT.next(report.state, ReportAction.ATTACH), case.public_id
    session.flush()
    audit.record(session, rules.ReportAttached(subject=report.public_id, case=case.public_id), by=by, now=now)


def weight_of(session: Session, *, report: Report) -> int:
    """Return how reliable whoever made a report has been so far."""
    same = Report.email == report.email if report.reporter_id is None else Report.reporter_id == report.reporter_id
    query = sa.select(Report.outcome, sa.func.count()).where(same, Report.outcome.is_not(None)).group_by(Report.outcome)
    counts = {row[0]: row[1] for row in session.execute(query)}
    return rules.weight(
        borne_out=counts.get(ReportOutcome.BREACH, 0), unfounded=counts.get(ReportOutcome.NO_BREACH, 0),
        proved=report.proved_at is not None,
    )  # fmt: skip


def heaviest(session: Session, *, case_ref: str, decided: bool) -> int:
    """Return the weight of the most reliable report in a case; a decided one is opened again by trusted ones alone."""
    most = session.scalar(sa.select(sa.func.max(Report.weight)).where(Report.case_ref == case_ref)) or 0
    return max(most, rules.TRUSTED - 1) if decided else most


def _received(session: Session, report: Report, base_url: str, now: datetime) -> None:
    body = rules.compose_received(base_url=base_url, ref=report.public_id)
    _queue(session, report, "We received your report", body, now)


def _queue(session: Session, report: Report, subject: str, body: str, now: datetime, *, secret: bool = False) -> None:
    """Leave a mail to whoever made a report; an address is written to a few times an hour and no more."""
    recent = sa.select(sa.func.count()).select_from(Notice).where(
        Notice.kind == KIND, Notice.address == report.email, Notice.queued_at > now - rules.WINDOW
    )  # fmt: skip
    if (session.scalar(recent) or 0) < rules.MAILS_PER_ADDRESS:
        notices.queue(
            session, recipient_id=report.reporter_id, address=report.email, kind=KIND, subject_ref=report.public_id,
            subject=subject, body=body, now=now, secret=secret,
        )  # fmt: skip


def tell(session: Session, *, base_url: str, now: datetime) -> bool:
    """Tell reporters what came of their reports once their cases are decided; says whether more wait."""
    query = (
        sa.select(Report, Case)
        .join(Case, Case.public_id == Report.case_ref)
        .where(Report.state == ReportState.ATTACHED, Case.state.not_in(WAITING))
        .order_by(Report.id)
        .limit(BATCH)
    )
    rows = session.execute(query.with_for_update(of=Report, skip_locked=True)).all()
    for report, case in rows:
        outcome = _outcome(session, case)
        report.state = REPORT.next(report.state, ReportAction.ANSWER)
        report.outcome, report.answered_at = outcome, now
        session.flush()
        audit.record(session, rules.ReportAnswered(subject=report.public_id, outcome=outcome), by=SYSTEM, now=now)
        body = rules.compose_answer(base_url=base_url, ref=report.public_id, outcome=outcome)
        _queue(session, report, "What came of your report", body, now)
    late = sa.and_(Report.state == ReportState.UNCONFIRMED, Report.filed_at < now - rules.LINK_LIFE)
    session.execute(sa.delete(Report).where(late))
    return len(rows) == BATCH


def _outcome(session: Session, case: Case) -> ReportOutcome:
    """Return what the newest decision that stands says of a case; a case that is closed without one stays open."""
    query = sa.select(CaseDecision.finding).where(
        CaseDecision.case_id == case.id, CaseDecision.state == DecisionState.IN_FORCE
    )
    finding = session.scalar(query.order_by(CaseDecision.id.desc()).limit(1))
    return OUTCOMES.get(finding, ReportOutcome.OPEN) if finding else ReportOutcome.OPEN


def listed(session: Session, *, case_ref: str = "") -> Sequence[Report]:
    """Return reports for staff, newest first; of one case, or of all."""
    query = sa.select(Report).order_by(Report.id.desc()).limit(NEWEST)
    return session.scalars(query.where(Report.case_ref == case_ref) if case_ref else query).all()


def find(session: Session, *, ref: str) -> Report:
    """Find a report by public id, or raise `NotFound`."""
    report = session.scalar(sa.select(Report).where(Report.public_id == ref))
    if report is None:
        raise NotFound("report_not_found", "There is no such report.")
    return report
