"""Reports from outside: one case of those that say the same, no crowd raises it, and reporters are told."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.audit.models import AuditEvent
from portal.cases import service as cases
from portal.cases.models import Case, Evidence
from portal.cases.rules import CaseState, LinkKind, Severity
from portal.core.actor import ANONYMOUS
from portal.core.errors import NotFound, TooMany
from portal.core.ids import public_id
from portal.moderation.models import CaseDecision
from portal.moderation.rules import Finding
from portal.notices.models import Notice
from portal.reports import rules, service
from portal.reports.models import Report
from portal.reports.rules import ReportOutcome, ReportState, Told
from portal.sanctions.models import Sanction
from portal.statements.models import StatementOfReasons
from portal.statements.rules import Automation, Source
from portal.strikes.rules import Intent
from portal.usage.models import UsageRecord
from portal.usage.rules import Outcome
from tests import conduct
from tests.factories import BASE, PEPPER, Make

TOLD = Told("https://news.example/1", "They flood the comments with it.", "restriction.spam", "", "reader@out.example")
pytestmark = pytest.mark.threat("TM-36")


def file(session: Session, now: datetime, told: Told = TOLD, **changed: Any) -> Report:
    kept: dict[str, Any] = {
        "by": ANONYMOUS, "network": "192.0.2.0/24", "puzzle": None, "pepper": PEPPER, "base_url": BASE, "now": now,
    }  # fmt: skip
    return service.file(session, told=told, **kept | changed)


def signed(session: Session, now: datetime, user: User, told: Told = TOLD, network: str = "") -> Report:
    return file(
        session, now, replace(told, email=f"{user.public_id}@out.example"), by=conduct.acting(user),
        network=network or user.public_id,
    )  # fmt: skip


def found(session: Session, case: Case, finding: Finding, now: datetime) -> None:
    """Decide a case as its rows would be, since what is told depends on the finding alone."""
    user = Make(session, now).person(f"p{case.id}")
    case.state = CaseState.DECIDED
    reasons = None
    if finding is Finding.VIOLATION:
        signature = conduct.sign(session, user, now)
        reasons = StatementOfReasons(
            version_id=signature.version_id, signature_id=signature.id, facts="x", automation=Automation.NONE,
            source=Source.REPORT, restricted="", notice="x", notice_sha256="0" * 64, appeal_by=now,
        )  # fmt: skip
        session.add(reasons)
        session.flush()
    ref = public_id("dec")
    session.add(
        CaseDecision(
            public_id=ref, case_id=case.id, user_id=user.id, finding=finding, intent=Intent.NONE,
            statement_id=reasons.id if reasons else None, decided_by="usr_moderator", decided_at=now,
        )
    )  # fmt: skip
    session.flush()


def mails(session: Session, ref: str) -> list[str]:
    query = sa.select(Notice.subject).where(Notice.subject_ref == ref).order_by(Notice.id)
    return list(session.scalars(query))


def secret_of(session: Session, report: Report) -> str:
    body = session.scalars(sa.select(Notice.body).where(Notice.subject_ref == report.public_id)).one() or ""
    return body.split("/report/confirm/")[1].split()[0]


def test_two_hundred_reports_by_a_crowd_are_one_case_and_nothing_happens_by_itself(
    session: Session, make: Make, now: datetime
) -> None:
    target, crowd = make.person("target"), [make.person(f"c{n}") for n in range(150)]
    where = used(session, target, now)
    for n in range(200):
        told = replace(TOLD, locator=f"{where} seen by {n}", explanation=f"{TOLD.explanation} {n}")
        signed(session, now + timedelta(seconds=n), crowd[n % 150], told)
    case = session.scalars(sa.select(Case)).one()
    assert (case.user_id, case.severity, case.reach, case.state) == (target.id, Severity.MEDIUM, 1, CaseState.OPEN)
    assert len(cases.refs(session, case=case, kind=LinkKind.REPORT)) == 200
    assert cases.refs(session, case=case, kind=LinkKind.CLAUSE) == ["restriction.spam"]
    assert session.scalar(sa.select(sa.func.count()).select_from(Evidence)) == 1
    assert session.scalar(sa.select(sa.func.count()).select_from(Sanction)) == 0
    found(session, case, Finding.NONE, now)
    while service.tell(session, base_url=BASE, now=now):
        pass
    assert set(session.scalars(sa.select(Report.outcome))) == {ReportOutcome.NO_BREACH}
    again = signed(session, now + timedelta(hours=2), crowd[0], replace(TOLD, locator=where))
    assert again.weight < rules.NEUTRAL
    session.refresh(case)
    assert case.state is CaseState.DECIDED  # a crowd that was wrong does not open it again
    elsewhere = signed(session, now + timedelta(hours=2), crowd[0], replace(TOLD, locator="https://news.example/2"))
    assert (elsewhere.weight, elsewhere.case_ref) != (rules.NEUTRAL, case.public_id)
    assert cases.find(session, ref=elsewhere.case_ref or "").severity == rules.severity(elsewhere.weight)


def used(session: Session, user: User, now: datetime) -> str:
    """A use of a model by somebody, by its request id."""
    ref = "req_" + "abcdefgh" * 2
    session.add(
        UsageRecord(
            request_id=ref, user_id=user.id, model_name="lab/x", action="infer", channel="api",
            outcome=next(iter(Outcome)), day="2026-01-01", started_at=now,
        )
    )  # fmt: skip
    session.flush()
    return ref


def test_somebody_reliable_raises_the_case_and_opens_a_decided_one_again(
    session: Session, make: Make, now: datetime
) -> None:
    watch, other = make.person("watch"), make.person("other")
    for n in range(4):
        report = signed(session, now, watch, replace(TOLD, locator=f"https://a.example/{n}"))
        case = cases.find(session, ref=report.case_ref or "")
        found(session, case, Finding.VIOLATION, now)
        service.tell(session, base_url=BASE, now=now)
    first = signed(session, now, other)
    case = cases.find(session, ref=first.case_ref or "")
    assert case.severity == Severity.MEDIUM
    heard = signed(session, now, watch)
    session.refresh(case)
    assert (heard.case_ref, case.severity) == (case.public_id, Severity.HIGH)
    found(session, case, Finding.NONE, now)
    signed(session, now, watch, replace(TOLD, explanation="Here is what I missed to show you."))
    session.refresh(case)
    assert case.state is CaseState.DECIDED  # no heavier than the report that was looked at already


def test_another_clause_or_another_target_is_another_case(session: Session, make: Make, now: datetime) -> None:
    user = make.person()
    refs = {
        signed(session, now, user, told).case_ref
        for told in (
            TOLD, replace(TOLD, clause="restriction.harm"), replace(TOLD, clause=""),
            replace(TOLD, locator="https://news.example/2"),
        )
    }  # fmt: skip
    assert len(refs) == 4


def test_whoever_is_not_known_confirms_by_mail_and_is_then_heard(session: Session, now: datetime) -> None:
    report = file(session, now)
    assert (report.state, report.case_ref) == (ReportState.UNCONFIRMED, None)
    assert session.scalars(sa.select(Case)).all() == []
    secret = secret_of(session, report)
    for _ in range(2):
        row = service.confirm(session, secret=secret, pepper=PEPPER, base_url=BASE, now=now + timedelta(hours=1))
    assert (row.state, row.proved_at) == (ReportState.ATTACHED, now + timedelta(hours=1))
    assert mails(session, report.public_id) == ["Confirm your report", "We received your report"]
    for bad in ("", "x", secret + "x", "\ud800"):
        with pytest.raises(NotFound):
            service.confirm(session, secret=bad, pepper=PEPPER, base_url=BASE, now=now)


def test_what_nobody_confirms_in_a_day_is_deleted(session: Session, now: datetime) -> None:
    report = file(session, now)
    secret, late = secret_of(session, report), now + rules.LINK_LIFE
    with pytest.raises(NotFound):
        service.confirm(session, secret=secret, pepper=PEPPER, base_url=BASE, now=late)
    service.tell(session, base_url=BASE, now=late)
    assert session.scalar(sa.select(sa.func.count()).select_from(Report)) == 1
    service.tell(session, base_url=BASE, now=late + timedelta(seconds=1))
    assert session.scalar(sa.select(sa.func.count()).select_from(Report)) == 0


def test_a_piece_of_work_is_good_for_one_report(session: Session, now: datetime) -> None:
    first = file(session, now, puzzle="a" * 64)
    assert first.state is ReportState.ATTACHED
    assert file(session, now, replace(TOLD, locator="https://other.example"), puzzle="a" * 64) is first
    assert file(session, now, puzzle="b" * 64) is not first


def test_sending_the_same_twice_reports_it_once(session: Session, make: Make, now: datetime) -> None:
    user = make.person()
    assert signed(session, now, user) is signed(session, now, user)


def test_an_address_gets_a_few_mails_an_hour_and_a_network_makes_a_few_reports(session: Session, now: datetime) -> None:
    for n in range(rules.PER_NETWORK):
        file(session, now, puzzle=f"{n:064}")
    assert session.scalar(sa.select(sa.func.count()).select_from(Notice)) == rules.MAILS_PER_ADDRESS
    with pytest.raises(TooMany):
        file(session, now)
    file(session, now, network="198.51.100.0/24")
    file(session, now + rules.WINDOW)


@pytest.mark.parametrize(
    ("finding", "outcome"),
    [
        (Finding.VIOLATION, ReportOutcome.BREACH), (Finding.NONE, ReportOutcome.NO_BREACH),
        (Finding.INCONCLUSIVE, ReportOutcome.OPEN),
    ],
)  # fmt: skip
def test_reporters_are_told_once_what_came_of_it(
    session: Session, make: Make, now: datetime, finding: Finding, outcome: ReportOutcome
) -> None:
    report = file(session, now, puzzle="a" * 64)
    assert not service.tell(session, base_url=BASE, now=now)
    assert report.state is ReportState.ATTACHED
    case = cases.find(session, ref=report.case_ref or "")
    found(session, case, finding, now)
    for _ in range(2):
        service.tell(session, base_url=BASE, now=now)
    assert (report.state, report.outcome) == (ReportState.ANSWERED, outcome)
    assert mails(session, report.public_id) == ["We received your report", "What came of your report"]
    events = session.scalars(sa.select(AuditEvent.name).where(AuditEvent.subject == report.public_id)).all()
    assert sorted(events) == ["reports:report:answered", "reports:report:attached", "reports:report:filed"]
    texts = "".join(str(e) for e in session.scalars(sa.select(AuditEvent.data)))
    assert TOLD.explanation not in texts
    assert TOLD.email not in texts


def test_what_is_reported_is_found_by_request_by_model_or_as_a_place(
    session: Session, make: Make, now: datetime
) -> None:
    user, model = make.person(), make.model("lab/model")
    dataset = make.model("datasets/lab/set")
    request = used(session, user, now)

    def about(locator: str) -> str:
        return service.subject_of(session, locator, BASE)

    assert about(f"It was {request}.") == user.public_id
    assert about(f"{BASE}/lab/model") == about(f"{BASE}/lab/model/tree/main?x=1") == model.public_id
    assert about(f"{BASE}/datasets/lab/set") == dataset.public_id
    for other in (f"{BASE}/", f"{BASE}/lab", "https://else.example/lab/model", "req_" + "z" * 16, "x" * 1000):
        assert about(other).startswith("loc_")


def test_the_restrictions_in_force_can_be_named(session: Session, make: Make, now: datetime) -> None:
    make.license()
    keys = [part.key for part in service.restrictions(session, now=now)]
    assert keys == ["restriction.harm", "restriction.spam", "restriction.later"]


def test_staff_find_reports_by_case(session: Session, make: Make, now: datetime) -> None:
    one, other = file(session, now, puzzle="a"), file(session, now, replace(TOLD, clause=""), puzzle="b")
    assert [r.id for r in service.listed(session)] == [other.id, one.id]
    assert [r.id for r in service.listed(session, case_ref=one.case_ref or "")] == [one.id]
    assert service.find(session, ref=one.public_id) is one
    with pytest.raises(NotFound):
        service.find(session, ref="rep_none")
    user = make.person("ann")
    assert service.address_of(session, user_id=user.id) == "ann@conduct.example"
    assert service.address_of(session, user_id=None) == ""
