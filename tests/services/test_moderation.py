"""Suspending under signed clauses, reversing by recomputing, and appeals, on both databases."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.access.rules import Action, Facts, decide
from portal.accounts.models import User
from portal.accounts.rules import Role, Standing
from portal.appeals.models import Appeal
from portal.appeals.rules import AppealOutcome, AppealState
from portal.audit.models import AuditEvent
from portal.cases import service as cases
from portal.cases.rules import LinkKind
from portal.core.actor import SYSTEM, Actor
from portal.core.errors import Conflict, Invalid, NotFound, Refused
from portal.logins.models import LoginSession
from portal.moderation import service
from portal.moderation.models import CaseDecision
from portal.moderation.rules import DecisionState
from portal.notices.models import Notice
from portal.redress import service as redress
from portal.sanctions import service as sanctions
from portal.sanctions.models import Sanction
from portal.statements import service as statements
from portal.statements.models import StatementOfReasons
from tests import conduct

BASE = "https://portal.example"


@dataclass
class World:
    """A suspendable person, staff, and how to suspend in one step."""

    session: Session
    now: datetime
    ann: User
    moderator: Actor
    colleague: Actor
    admin: Actor

    @property
    def me(self) -> Actor:
        return conduct.acting(self.ann)

    def order(self, **changed: Any) -> dict[str, Any]:
        given = {
            "user_id": self.ann.id, "clause_keys": ["restriction.spam"], "facts": "Sent 1,000 letters.",
            "until": self.now + timedelta(days=30), "base_url": BASE, "now": self.now,
        }  # fmt: skip
        return {**given, **changed}

    def suspend(self, by: Actor | None = None, **changed: Any) -> CaseDecision:
        order = self.order(**changed)
        digest = conduct.preview(self.session, **order).sha256
        return service.suspend(self.session, by=by or self.moderator, notice_sha256=digest, **order)

    def file(self, decision: CaseDecision, text: str = "It was not me.", **changed: Any) -> Appeal:
        given = {"by": self.me, "ref": ref_of(decision), "text": text, "base_url": BASE, "now": self.now}
        return redress.file_appeal(self.session, **{**given, **changed})

    def answer(self, appeal: Appeal, **changed: Any) -> Appeal:
        given = {
            "by": self.colleague, "ref": appeal.public_id, "outcome": AppealOutcome.OVERTURNED,
            "reasons": "Wrong person.", "base_url": BASE, "now": self.now,
        }  # fmt: skip
        given |= changed
        if appeal.state is AppealState.FILED:
            case = cases.linked(self.session, kind=LinkKind.APPEAL, ref=appeal.public_id)
            assert case is not None
            cases.claim(self.session, ref=case.public_id, by=given["by"], now=given["now"])
        return redress.decide_appeal(self.session, **given)

    def notices(self) -> Sequence[Notice]:
        query = sa.select(Notice).where(Notice.recipient_id == self.ann.id).order_by(Notice.id)
        return self.session.scalars(query).all()

    def events(self, name: str) -> Sequence[AuditEvent]:
        return self.session.scalars(sa.select(AuditEvent).where(AuditEvent.name == name)).all()

    def standing(self) -> tuple[Standing, datetime | None, str | None]:
        self.session.refresh(self.ann)
        return self.ann.standing, self.ann.standing_until, self.ann.standing_ref


def ref_of(decision: CaseDecision) -> str:
    return decision.sanctions[0].public_id


@pytest.fixture
def world(session: Session, now: datetime) -> World:
    ann = conduct.person(session, "ann", now)
    staff = {
        name: conduct.acting(conduct.person(session, name, now, role), role)
        for name, role in (("mo", Role.MODERATOR), ("co", Role.MODERATOR), ("ad", Role.ADMIN))
    }
    conduct.sign(session, ann, now)
    other = conduct.person(session, "other", now)
    conduct.sign(session, other, now, "2.0.0")
    noise = World(session, now, other, staff["mo"], staff["co"], staff["ad"]).suspend()
    assert noise.user_id == other.id
    return World(session, now, ann, staff["mo"], staff["co"], staff["ad"])


def test_a_suspension_leaves_a_statement_a_notice_events_and_a_standing(world: World) -> None:
    session, now = world.session, world.now
    before = len(world.events("moderation:sanction:ordered"))
    session.add(
        LoginSession(
            user_id=world.ann.id, reference_hmac="h", means="password", created_at=now, proved_at=now, last_used_at=now
        )
    )  # fmt: skip
    decision = world.suspend(clause_keys=["restriction.harm", "restriction.spam"])
    statement = decision.statement
    assert world.standing() == (Standing.SUSPENDED, now + timedelta(days=30), ref_of(decision))
    assert decision.decided_by == world.moderator.public_id
    assert statement.facts == "Sent 1,000 letters."
    assert statement.automation == "none"
    assert statement.appeal_by == datetime(2027, 5, 5, tzinfo=UTC)
    cited = service.cited(session, decision=decision, base_url=BASE)
    assert [(c.key, c.label) for c in cited] == [("restriction.spam", "A.1"), ("restriction.harm", "A.2")]
    [notice] = world.notices()
    assert notice.body == statement.notice
    assert notice.address == "ann@conduct.example"
    assert len(world.events("moderation:sanction:ordered")) == before + 1
    ended = session.scalars(sa.select(LoginSession).where(LoginSession.user_id == world.ann.id)).all()
    assert [row.ended_at for row in ended] == [now]


def test_the_notice_quotes_the_clause_as_the_person_signed_it(world: World) -> None:
    text = conduct.preview(world.session, **world.order()).text
    assert "Conduct License, version 1.0.0" in text
    assert "A.1 Spam\n> You do not send spam.\n>\n> Not even a little." in text
    assert f"{BASE}/licenses/conduct-license/1.0.0#restriction.spam" in text
    conduct.sign(world.session, world.ann, world.now, "2.0.0", "fr")
    text = conduct.preview(world.session, **world.order()).text
    assert "A.2 Spam\n> Vous send no spam at all." in text
    assert f"{BASE}/licenses/conduct-license/2.0.0?lang=fr#restriction.spam" in text


def test_what_is_offered_to_cite_are_the_restrictions_of_the_newest_signed_text(world: World) -> None:
    def keys() -> list[str]:
        return [c.key for c in statements.citable(world.session, user_id=world.ann.id, base_url=BASE)]

    assert keys() == ["restriction.spam", "restriction.harm"]
    conduct.sign(world.session, world.ann, world.now, "2.0.0")
    assert keys() == ["restriction.harm", "restriction.spam", "restriction.later"]


@pytest.mark.parametrize("key", ["restriction.later", "definition.model", "nonsense", ""])
def test_only_a_restriction_or_duty_of_the_signed_text_is_cited(world: World, key: str) -> None:
    with pytest.raises(Invalid) as caught:
        conduct.preview(world.session, **world.order(clause_keys=["restriction.spam", key]))
    assert (caught.value.code, caught.value.field) == ("clause_unknown", "clause")


def test_a_clause_about_intent_and_a_duty_are_enough_for_a_person(world: World) -> None:
    assert world.suspend(clause_keys=["restriction.harm"]).state is DecisionState.IN_FORCE
    assert world.suspend(clause_keys=["duty.disclose"], facts="Again.").state is DecisionState.IN_FORCE


def test_nobody_is_suspended_who_signed_nothing(world: World) -> None:
    unsigned = conduct.person(world.session, "un", world.now)
    with pytest.raises(Conflict) as caught:
        world.suspend(user_id=unsigned.id)
    assert caught.value.code == "signature_missing"


def test_a_notice_that_was_not_previewed_is_refused_and_nothing_is_left(world: World) -> None:
    seen = conduct.preview(world.session, **world.order()).sha256
    changes = [{"facts": "Else."}, {"clause_keys": ["restriction.harm"]}, {"until": world.now + timedelta(days=31)}]
    for changed in changes:
        with pytest.raises(Conflict) as caught:
            service.suspend(world.session, by=world.moderator, notice_sha256=seen, **world.order(**changed))
        assert caught.value.code == "notice_changed"
    assert service.decisions_about(world.session, user_id=world.ann.id) == []
    assert world.standing()[0] is Standing.ACTIVE


def test_a_preview_that_a_colleague_overtook_is_refused(world: World) -> None:
    seen = conduct.preview(world.session, **world.order(facts="Mine.")).sha256
    world.suspend(by=world.colleague)
    with pytest.raises(Conflict):
        service.suspend(world.session, by=world.moderator, notice_sha256=seen, **world.order(facts="Mine."))


def test_confirming_twice_decides_once(world: World) -> None:
    order = world.order()
    digest = conduct.preview(world.session, **order).sha256
    first = service.suspend(world.session, by=world.moderator, notice_sha256=digest, **order)
    later = {**order, "now": world.now + timedelta(seconds=2)}
    assert service.suspend(world.session, by=world.moderator, notice_sha256=digest, **later) is first
    assert len(world.notices()) == 1


def test_staff_are_suspended_by_an_admin_and_nobody_by_themselves(world: World) -> None:
    colleague = world.session.get_one(User, world.colleague.id)
    conduct.sign(world.session, colleague, world.now)
    with pytest.raises(Refused) as caught:
        world.suspend(user_id=colleague.id)
    assert caught.value.code == "staff_case"
    for actor in (world.colleague, world.admin):
        user = world.session.get_one(User, actor.id)
        conduct.sign(world.session, user, world.now)
        with pytest.raises(Refused) as caught:
            world.suspend(by=actor, user_id=user.id)
        assert caught.value.code == "own_case"
        with pytest.raises(Refused):
            service.person_to_judge(world.session, by=actor, ref=user.public_id, now=world.now)
    assert world.suspend(by=world.admin, user_id=colleague.id).user_id == colleague.id


def test_a_reversal_leaves_what_the_other_decisions_amount_to(world: World) -> None:
    long = world.suspend(until=world.now + timedelta(days=60))
    short = world.suspend(until=world.now + timedelta(days=10), facts="Again.")
    assert world.standing() == (Standing.SUSPENDED, world.now + timedelta(days=60), ref_of(long))
    world.answer(world.file(long))
    assert world.standing() == (Standing.SUSPENDED, world.now + timedelta(days=10), ref_of(short))
    assert "stays suspended until 12 November 2026" in (world.notices()[-1].body or "")
    overturned = redress.reinstate(
        world.session, by=world.moderator, user_id=world.ann.id, reason="Both wrong.", base_url=BASE, now=world.now
    )
    assert overturned == [short]
    assert world.standing() == (Standing.ACTIVE, None, None)


def test_reinstating_tells_the_person_and_again_changes_nothing(world: World) -> None:
    decision = world.suspend()
    appeal = world.file(decision)
    given = {"by": world.colleague, "user_id": world.ann.id, "reason": "New facts.", "base_url": BASE, "now": world.now}
    assert redress.reinstate(world.session, **given) == [decision]
    assert (decision.state, decision.overturn_reason) == (DecisionState.OVERTURNED, "New facts.")
    assert (appeal.state, appeal.outcome, appeal.reasons) == (
        AppealState.DECIDED,
        AppealOutcome.OVERTURNED,
        "New facts.",
    )
    kinds = [notice.kind for notice in world.notices()]
    assert kinds == ["decision", "appeal_received", "correction"]
    assert redress.reinstate(world.session, **given) == []
    assert len(world.notices()) == 3
    with pytest.raises(Invalid) as caught:
        redress.reinstate(world.session, **{**given, "reason": " "})
    assert caught.value.field == "reason"
    with pytest.raises(Refused):
        redress.reinstate(world.session, **{**given, "by": world.me})


def test_after_a_reversal_the_same_order_is_a_new_decision(world: World) -> None:
    first = world.suspend()
    redress.reinstate(world.session, by=SYSTEM, user_id=world.ann.id, reason="No.", base_url=BASE, now=world.now)
    second = world.suspend()
    assert second is not first
    assert ref_of(second) != ref_of(first)
    assert world.standing()[2] == ref_of(second)


def test_a_served_decision_is_history_and_not_overturned_by_reinstating(world: World) -> None:
    served = world.suspend(until=world.now + timedelta(days=1))
    later = world.now + timedelta(days=2)
    world.suspend(now=later, until=later + timedelta(days=5), facts="Again.")
    redress.reinstate(world.session, by=SYSTEM, user_id=world.ann.id, reason="No.", base_url=BASE, now=later)
    assert served.state is DecisionState.IN_FORCE


def test_the_clock_ends_a_suspension_and_lapsing_only_records_it(world: World) -> None:
    decision = world.suspend(until=world.now + timedelta(days=1))
    facts = Facts(
        base_url=BASE, model_name="a/b", signed_in=True, verified=True, standing=world.ann.standing,
        standing_until=world.ann.standing_until, standing_ref=world.ann.standing_ref,
    )  # fmt: skip

    def codes(at: datetime) -> dict[str, str]:
        return {reason.code: reason.url for reason in decide(facts, Action.DOWNLOAD, at).reasons}

    end = world.now + timedelta(days=1)
    assert codes(end - timedelta(microseconds=1))["standing_suspended"] == f"{BASE}/appeal/{ref_of(decision)}"
    assert "standing_suspended" not in codes(end)
    assert sanctions.lapse(world.session, now=end - timedelta(seconds=1)) == 0
    assert sanctions.lapse(world.session, now=end) == 1
    assert world.standing() == (Standing.ACTIVE, None, None)
    assert sanctions.lapse(world.session, now=end) == 0
    assert decision.state is DecisionState.IN_FORCE


def test_lapsing_moves_on_to_a_sanction_that_still_runs(world: World) -> None:
    world.suspend(until=world.now + timedelta(days=9))
    world.session.execute(sa.update(User).where(User.id == world.ann.id).values(standing_until=world.now))
    world.session.expire_all()
    assert sanctions.lapse(world.session, now=world.now) == 1
    assert world.standing()[:2] == (Standing.SUSPENDED, world.now + timedelta(days=9))


def test_only_the_person_concerned_sees_and_contests_a_decision(world: World) -> None:
    decision = world.suspend()
    assert redress.own_decision(world.session, by=world.me, ref=ref_of(decision)) is decision
    for outsider in (world.moderator, world.admin, Actor()):
        with pytest.raises(NotFound):
            redress.own_decision(world.session, by=outsider, ref=ref_of(decision))
        with pytest.raises(NotFound):
            world.file(decision, by=outsider)
    with pytest.raises(NotFound):
        redress.own_decision(world.session, by=world.me, ref="san_nothing")


def test_one_appeal_for_each_decision_within_183_days(world: World) -> None:
    decision = world.suspend()
    with pytest.raises(Conflict) as caught:
        world.file(decision, now=world.now + timedelta(days=184))
    assert caught.value.code == "appeal_late"
    for text in ("", "x" * 2_001):
        with pytest.raises(Invalid) as invalid:
            world.file(decision, text=text)
        assert invalid.value.field == "text"
    late = world.now + timedelta(days=183)
    appeal = world.file(decision, now=late)
    assert appeal.due_at == late + timedelta(days=7)
    assert world.file(decision, now=late) is appeal
    with pytest.raises(Conflict) as caught:
        world.file(decision, text="Something else.", now=late)
    assert caught.value.code == "appeal_exists"
    assert len(world.events("moderation:appeal:filed")) == 1


def test_an_overturned_decision_cannot_be_contested(world: World) -> None:
    decision = world.suspend()
    redress.reinstate(world.session, by=SYSTEM, user_id=world.ann.id, reason="No.", base_url=BASE, now=world.now)
    with pytest.raises(Conflict) as caught:
        world.file(decision)
    assert caught.value.code == "decision_overturned"


def test_whoever_decided_does_not_answer_the_appeal(world: World) -> None:
    appeal = world.file(world.suspend())
    for involved in (world.moderator, world.me):
        with pytest.raises(Refused) as caught:
            world.answer(appeal, by=involved)
        assert caught.value.code == "not_uninvolved"
    assert appeal.state is AppealState.FILED


def test_an_upheld_appeal_leaves_the_suspension_and_tells_why(world: World) -> None:
    decision = world.suspend()
    appeal = world.answer(world.file(decision), outcome=AppealOutcome.UPHELD, reasons="The logs show it.")
    assert world.standing()[0] is Standing.SUSPENDED
    assert decision.state is DecisionState.IN_FORCE
    assert appeal.reviewer == world.colleague.public_id
    notice = world.notices()[-1]
    assert notice.kind == "appeal_answer"
    assert "The logs show it." in (notice.body or "")
    count = len(world.notices())
    assert world.answer(appeal, outcome=AppealOutcome.UPHELD, reasons="The logs show it.") is appeal
    assert len(world.notices()) == count
    with pytest.raises(Conflict):
        world.answer(appeal, outcome=AppealOutcome.OVERTURNED)
    with pytest.raises(Invalid) as caught:
        world.answer(appeal, reasons="")
    assert caught.value.field == "reasons"


def test_waiting_appeals_come_by_due_date(world: World) -> None:
    second = world.file(world.suspend(), now=world.now + timedelta(hours=1))
    first = world.file(world.suspend(facts="Again."), now=world.now)
    mine = {first.id, second.id}
    waiting = [a.id for a in redress.listed(world.session, state=AppealState.FILED) if a.id in mine]
    assert waiting == [first.id, second.id]
    world.answer(first)
    waiting = [a.id for a in redress.listed(world.session, state=AppealState.FILED) if a.id in mine]
    assert waiting == [second.id]
    assert first.id in [a.id for a in redress.listed(world.session, state=AppealState.DECIDED)]
    with pytest.raises(NotFound):
        redress.find_appeal(world.session, ref="apl_nothing")


def test_statements_and_sanctions_are_never_changed(world: World) -> None:
    decision = world.suspend()
    sanction = world.session.scalar(sa.select(Sanction).where(Sanction.decision_ref == decision.public_id))
    assert sanction is not None
    sanction.until = world.now + timedelta(days=400)
    with pytest.raises(Conflict):
        world.session.flush()
    world.session.refresh(sanction)
    statement = world.session.get_one(StatementOfReasons, decision.statement.id)
    statement.facts = "Else."
    with pytest.raises(Conflict):
        world.session.flush()
