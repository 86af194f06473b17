"""What each sanction does to the one decision, until when, and what two people and programs may order."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.orm import Session

from portal.access import service as access
from portal.access.rules import Action
from portal.accounts.models import User
from portal.accounts.rules import Role, Standing
from portal.batches import service as batches
from portal.batches.rules import body_of, people_of, seal
from portal.cases.models import Case
from portal.cases.rules import CaseState
from portal.catalog.models import GatedModel
from portal.core.actor import SYSTEM, Actor
from portal.core.errors import Conflict, Invalid, Refused
from portal.identity import service as identity
from portal.interims import service as interims
from portal.moderation import service
from portal.moderation.models import CaseDecision
from portal.moderation.rules import Finding, Order, Phase, payload
from portal.notices.models import Notice
from portal.sanctions import service as sanctions
from portal.sanctions.rules import INTERIM, Measure, SanctionKind
from portal.seconding import service as seconding
from portal.statements.rules import Automation
from portal.strikes import service as strikes
from portal.strikes.rules import Intent
from portal.tokens.models import AccessToken
from portal.usage import service as usage
from tests import conduct
from tests.factories import BASE, Make

DAY = timedelta(days=1)
K = SanctionKind


@dataclass
class Bench:
    """A signer with an access token and two models, and staff."""

    session: Session
    make: Make
    ann: User
    token: AccessToken
    models: tuple[GatedModel, GatedModel]
    mo: Actor
    co: Actor
    count: int = 0

    @property
    def now(self) -> datetime:
        return self.make.now

    def codes(self, action: Action = Action.INFER, at: datetime | None = None, which: int = 0) -> dict[str, bool]:
        """What the one decision says of the signer, with the access token: code → blocks."""
        actor = Actor(
            user_id=self.ann.id, public_id=self.ann.public_id, access_token_id=self.token.id,
            scopes=frozenset({"weights:read", "inference"}),
        )  # fmt: skip
        name, at = self.models[which].full_name, at or self.now
        found = access.check(self.session, actor=actor, model=name, action=action, now=at, base_url=BASE)
        return {reason.code: reason.blocks for reason in found.reasons}

    def measure(self, kind: SanctionKind) -> Measure:
        target = self.models[0].public_id if kind in {K.SUSPEND_ENTITLEMENT, K.REVOKE_ENTITLEMENT} else ""
        target = self.token.public_id if kind is K.FREEZE_ACCESS_TOKEN else target
        until = None if kind in {K.REVOKE_ENTITLEMENT, K.CLOSE} else self.now + DAY
        few = (3, 70) if kind is K.THROTTLE else (None, None)
        return Measure(kind, until, target, "infer" if kind is K.LIMIT_ACTION else "", *few)

    def order(self, *kinds: SanctionKind, **changed: Any) -> Order:
        self.count += 1
        given = {
            "finding": Finding.VIOLATION, "clause_keys": ("restriction.spam",), "facts": f"Letter {self.count}.",
            "measures": tuple(map(self.measure, kinds)),
        }  # fmt: skip
        return Order(**{**given, **changed})

    def case(self, by: Actor | None = None) -> Case:
        return service.open_on(self.session, user=self.ann, by=by or self.mo, now=self.now)

    def decide(self, order: Order) -> CaseDecision:
        about: dict[str, Any] = {"order": order, "base_url": BASE, "now": self.now}
        if order.needs_two:
            case = self.case()
            proposal = seconding.propose(self.session, by=self.mo, case_ref=case.public_id, **about)
            return self.confirm(case, order, proposal.payload_sha256)
        digest = service.preview(self.session, user_id=self.ann.id, **about).sha256
        return service.decide(
            self.session, by=self.mo, case_ref=self.case().public_id, notice_sha256=digest, **about
        )  # fmt: skip

    def confirm(self, case: Case, order: Order, shown: str, by: Actor | None = None, **at: Any) -> CaseDecision:
        now = at.get("now", self.now)
        notice = service.preview(self.session, user_id=self.ann.id, order=order, base_url=BASE, now=now).sha256
        return seconding.confirm(
            self.session, by=by or self.co, case_ref=case.public_id, shown_sha256=shown, notice_sha256=notice,
            base_url=BASE, now=now,
        )  # fmt: skip

    def undo(self, decision: CaseDecision) -> None:
        service.overturn(
            self.session, user=self.ann, decisions=[decision], by=self.co, reason="Wrong.", base_url=BASE, now=self.now
        )

    def told(self) -> list[str]:
        rows = self.session.query(Notice).filter(Notice.recipient_id == self.ann.id).order_by(Notice.id)
        return [row.kind for row in rows]


@pytest.fixture
def bench(session: Session, make: Make) -> Bench:
    models = (make.model("lab/one"), make.model("lab/two"))
    for model in models:
        make.release(model)
    ann = make.person("ann")
    make.sign(ann)
    token, _ = make.token(ann)
    staff = [conduct.acting(make.person(name, Role.MODERATOR), Role.MODERATOR) for name in ("mo", "co")]
    made = Bench(session, make, ann, token, models, *staff)
    other = make.person("other")
    make.sign(other)
    Bench(session, make, other, token, models, *staff).decide(made.order(K.SUSPEND))
    assert made.codes() == {}
    return made


REFUSES = {
    K.RECONFIRM: {"reconfirmation_ordered": True}, K.FREEZE_ACCESS_TOKEN: {"access_token_frozen": True},
    K.LIMIT_ACTION: {"use_limited": True}, K.SUSPEND_ENTITLEMENT: {"use_limited": True},
    K.REVOKE_ENTITLEMENT: {"entitlement_revoked": True}, K.SUSPEND: {"standing_suspended": True},
    K.CLOSE: {"standing_closed": True}, K.THROTTLE: {"use_throttled": False},
}  # fmt: skip


@pytest.mark.threat("TM-35")
@pytest.mark.invariant("INV-20")
@pytest.mark.parametrize("kind", SanctionKind)
def test_each_kind_is_what_the_one_decision_says_and_reversal_leaves_nothing(bench: Bench, kind: SanctionKind) -> None:
    before = [(bench.codes(action, which=n)) for action in Action for n in (0, 1)]
    limits = usage.limits_for(bench.session, user_id=bench.ann.id, now=bench.now)
    decision = bench.decide(bench.order(kind, strike=True, intent=Intent.KNOWING))
    assert bench.codes() == REFUSES[kind]
    assert strikes.score(bench.session, user_id=bench.ann.id, now=bench.now) == 4
    if kind in {K.SUSPEND_ENTITLEMENT, K.REVOKE_ENTITLEMENT}:
        assert bench.codes(which=1) == {}
    if kind is K.LIMIT_ACTION:
        assert bench.codes(Action.DOWNLOAD) == {}
    if kind not in {K.CLOSE, K.REVOKE_ENTITLEMENT}:
        assert bench.codes(at=bench.now + DAY) == {}
    bench.undo(decision)
    assert [(bench.codes(action, which=n)) for action in Action for n in (0, 1)] == before
    assert usage.limits_for(bench.session, user_id=bench.ann.id, now=bench.now) == limits
    assert strikes.score(bench.session, user_id=bench.ann.id, now=bench.now) == 0
    assert (bench.ann.standing, bench.ann.standing_ref) == (Standing.ACTIVE, None)
    assert bench.told() == ["decision", "correction"]


def test_a_throttle_lowers_the_limits_and_never_raises_them(bench: Bench) -> None:
    bench.decide(bench.order(K.THROTTLE))

    def left(at: datetime) -> tuple[int, int]:
        limits = usage.limits_for(bench.session, user_id=bench.ann.id, now=at)
        return limits.calls, limits.text_tokens

    assert left(bench.now) == (3, 70)
    usage.set_quota(bench.session, user_id=bench.ann.id, calls=1, text_tokens=100, by=SYSTEM, now=bench.now)
    assert left(bench.now) == (1, 70)
    assert left(bench.now + DAY) == (1, 100)


def test_signing_again_meets_a_demand_to_sign_again(bench: Bench) -> None:
    bench.decide(bench.order(K.RECONFIRM))
    later = bench.now + timedelta(minutes=1)
    conduct.sign(bench.session, bench.ann, later + timedelta(days=30), "2.0.0")
    assert bench.codes(at=later) == {}


@pytest.mark.threat("TM-34")
@pytest.mark.invariant("INV-18")
def test_what_has_no_end_takes_two_people_who_agree_on_exactly_that(bench: Bench) -> None:
    order, case = bench.order(K.CLOSE), bench.case()
    given: dict[str, Any] = {"by": bench.mo, "case_ref": case.public_id, "order": order, "base_url": BASE}
    with pytest.raises(Refused) as refused:
        service.decide(bench.session, **given, notice_sha256="x", now=bench.now)
    assert refused.value.code == "two_people_needed"
    shown = seconding.propose(bench.session, **given, now=bench.now).payload_sha256
    with pytest.raises(Refused) as refused:
        bench.confirm(case, order, shown, by=bench.mo)
    assert refused.value.code == "second_person_needed"
    with pytest.raises(Conflict) as caught:
        bench.confirm(case, order, shown, now=bench.now + DAY)
    assert caught.value.code == "proposal_missing"
    with pytest.raises(Conflict) as caught:
        bench.confirm(case, order, "0" * 64)
    assert caught.value.code == "proposal_changed"
    sanctions.order(
        bench.session, user_id=bench.ann.id, decision_ref="dec_else", measures=[bench.measure(K.THROTTLE)],
        lapses_at=None, now=bench.now,
    )  # fmt: skip
    with pytest.raises(Conflict) as caught:
        bench.confirm(case, order, shown)
    assert caught.value.code == "proposal_changed"
    assert bench.ann.standing is Standing.ACTIVE
    shown = seconding.propose(bench.session, **given, now=bench.now).payload_sha256
    decision = bench.confirm(case, order, shown)
    assert (decision.decided_by, decision.confirmed_by) == (bench.mo.public_id, bench.co.public_id)
    assert bench.ann.standing is Standing.CLOSED


def test_a_closed_account_still_opens_to_contest_that(bench: Bench) -> None:
    bench.decide(bench.order(K.CLOSE))
    assert not identity._closed(bench.ann)
    bench.ann.standing_ref = "own_wish"
    assert identity._closed(bench.ann)
    assert sanctions.recompute(bench.session, user_id=bench.ann.id, by=SYSTEM, now=bench.now).closed_by
    assert bench.ann.standing_ref == "own_wish"


def interim(bench: Bench, *keys: str) -> CaseDecision | None:
    return interims.interim(
        bench.session, case=bench.case(SYSTEM), clause_keys=keys or ("restriction.spam",), facts="300 letters.",
        measures=[Measure(K.SUSPEND, bench.now + 9 * DAY)], rule_ref="spam/1", base_url=BASE, now=bench.now,
    )  # fmt: skip


@pytest.mark.invariant("INV-17", "INV-13")
def test_what_a_program_decides_lapses_by_itself_unless_a_person_confirms(bench: Bench) -> None:
    decision = interim(bench)
    assert decision is not None
    assert (decision.decided_by, decision.statement.automation) == ("program", Automation.DECIDED)
    assert interim(bench) is decision
    end = bench.now + INTERIM
    assert "standing_suspended" in bench.codes(at=end - timedelta(microseconds=1))
    assert bench.codes(at=end) == {}
    assert interims.lapse(bench.session, base_url=BASE, now=end - DAY) == 0
    assert interims.lapse(bench.session, base_url=BASE, now=end) == 1
    assert interims.lapse(bench.session, base_url=BASE, now=end) == 0
    assert service.phase(decision, now=end) is Phase.LAPSED
    assert bench.told() == ["decision", "decision_lapsed"]


def test_a_person_who_confirms_lets_it_last_and_the_holder_is_told(bench: Bench) -> None:
    decision = interim(bench)
    assert decision is not None
    case = bench.case()
    assert case.id == decision.case_id
    interims.confirm(bench.session, by=bench.mo, case_ref=case.public_id, base_url=BASE, now=bench.now)
    assert decision.confirmed_by == bench.mo.public_id
    assert case.state is CaseState.DECIDED
    assert "standing_suspended" in bench.codes(at=bench.now + INTERIM)
    assert bench.codes(at=bench.now + 9 * DAY) == {}
    assert bench.told() == ["decision", "decision_confirmed"]
    assert interims.lapse(bench.session, base_url=BASE, now=bench.now + 4 * DAY) == 0


@pytest.mark.parametrize("finding", [Finding.NONE, Finding.VIOLATION])
def test_what_a_person_decides_takes_the_place_of_what_a_program_did(bench: Bench, finding: Finding) -> None:
    decision = interim(bench)
    assert decision is not None
    case = bench.case()
    assert case.id == decision.case_id
    until = bench.now + 2 * DAY
    tells = finding is Finding.VIOLATION
    order = Order(
        finding, clause_keys=("restriction.spam",) if tells else (), facts="They say so." if tells else "",
        measures=(Measure(K.THROTTLE, until, calls=5, text_tokens=50),) if tells else (),
    )  # fmt: skip
    about = {"base_url": BASE, "now": bench.now}
    seen = service.preview(bench.session, user_id=bench.ann.id, order=order, **about).sha256 if tells else ""
    service.decide(
        bench.session, by=bench.mo, case_ref=case.public_id, order=order, notice_sha256=seen, **about
    )  # fmt: skip
    assert set(bench.codes(at=bench.now)) == ({"use_throttled"} if tells else set())
    assert service.phase(decision, now=bench.now) is Phase.LAPSED
    assert interims.waiting(bench.session, case=case, now=bench.now) is None
    assert interims.lapse(bench.session, base_url=BASE, now=bench.now + INTERIM) == 0
    assert bench.told() == ["decision", "decision_replaced", *(["decision"] if tells else [])]


def test_a_program_that_decides_in_a_case_that_was_over_puts_it_back_into_the_queue(bench: Bench) -> None:
    first = interim(bench)
    assert first is not None
    case = bench.case()
    interims.confirm(bench.session, by=bench.mo, case_ref=case.public_id, base_url=BASE, now=bench.now)
    service.overturn(
        bench.session, user=bench.ann, decisions=[first], by=bench.mo, reason="Wrong.", base_url=BASE, now=bench.now
    )
    again = interims.interim(
        bench.session, case=case, clause_keys=("restriction.spam",), facts="300 letters.",
        measures=[Measure(K.SUSPEND, bench.now + 9 * DAY)], rule_ref="spam/1", base_url=BASE, now=bench.now,
    )  # fmt: skip
    assert again is not None
    assert (again.case_id, case.state) == (case.id, CaseState.OPEN)


@pytest.mark.invariant("INV-17")
def test_a_program_decides_nothing_about_intent_or_about_strangers(bench: Bench) -> None:
    assert interim(bench, "restriction.harm") is None
    assert interim(bench, "nothing.such") is None
    stranger = bench.make.person("stranger")
    bench.ann = stranger
    assert interim(bench) is None


def crowd(bench: Bench, size: int) -> list[str]:
    people = [bench.make.person() for _ in range(size)]
    for person in people:
        bench.make.sign(person)
    return [person.public_id for person in people]


def shown_of(bench: Bench, refs: list[str], order: Order) -> str:
    outcomes = batches.look(bench.session, by=bench.mo, refs=refs, order=order, base_url=BASE, now=bench.now)
    return seal(body_of(payload(order, person="", state=()), outcomes))


def suspended(bench: Bench, refs: list[str]) -> int:
    bench.session.expire_all()
    query = bench.session.query(User).filter(User.public_id.in_(refs), User.standing == Standing.SUSPENDED)
    return query.count()


def test_looking_at_several_people_changes_nothing_and_undo_takes_all_of_it_back(bench: Bench) -> None:
    refs, order = [*crowd(bench, 3), bench.mo.public_id, "usr_nobody"], bench.order(K.SUSPEND)
    shown = shown_of(bench, refs, order)
    assert suspended(bench, refs) == 0
    about: dict[str, Any] = {"by": bench.mo, "base_url": BASE, "now": bench.now}
    with pytest.raises(Conflict) as caught:
        batches.make(bench.session, refs=refs, order=bench.order(K.THROTTLE), shown_sha256=shown, **about)
    assert caught.value.code == "batch_changed"
    batch = batches.make(bench.session, refs=refs, order=order, shown_sha256=shown, **about)
    assert (batch.size, suspended(bench, refs)) == (3, 3)
    assert len({d.case_id for d in batches.decisions(bench.session, batch=batch)}) == 3
    problems = [problem for _, _, problem in batches.people(bench.session, batch=batch)]
    assert [bool(problem) for problem in problems] == [False, False, False, True, True]
    undone = batches.undo(bench.session, ref=batch.public_id, reason="All wrong.", **about)
    assert (len(undone), suspended(bench, refs)) == (3, 0)
    assert batches.undo(bench.session, ref=batch.public_id, reason="All wrong.", **about) == []


@pytest.mark.threat("TM-34")
def test_more_than_ten_people_take_a_second_person(bench: Bench) -> None:
    refs, order = crowd(bench, 11), bench.order(K.SUSPEND)
    about: dict[str, Any] = {"base_url": BASE, "now": bench.now}
    shown = shown_of(bench, refs, order)
    batch = batches.make(bench.session, by=bench.mo, refs=refs, order=order, shown_sha256=shown, **about)
    assert suspended(bench, refs) == 0
    waiting = batches.waiting(bench.session, batch=batch, now=bench.now)
    assert waiting is not None
    given: dict[str, Any] = {"ref": batch.public_id, "shown_sha256": waiting.payload_sha256, **about}
    with pytest.raises(Refused):
        batches.confirm(bench.session, by=bench.mo, **given)
    batches.confirm(bench.session, by=bench.co, **given)
    assert suspended(bench, refs) == 11
    [first, *_] = batches.decisions(bench.session, batch=batch)
    assert (first.decided_by, first.confirmed_by) == (bench.mo.public_id, bench.co.public_id)
    with pytest.raises(Conflict):
        batches.confirm(bench.session, by=bench.co, **given)


def test_what_has_no_end_or_is_no_violation_is_decided_one_by_one(bench: Bench) -> None:
    for order in (bench.order(K.CLOSE), bench.order(finding=Finding.NONE, measures=())):
        with pytest.raises(Invalid):
            batches.look(bench.session, by=bench.mo, refs=["usr_x"], order=order, base_url=BASE, now=bench.now)
    for words in ("", "\n", "usr_a b", "x\nusr_a", "\n".join(f"usr_{n}" for n in range(501))):
        with pytest.raises(Invalid) as caught:
            people_of(words)
        assert caught.value.field == "people"
    assert people_of(" usr_a\r\n\nusr_b\nusr_a ") == ["usr_a", "usr_b"]
