"""Any sequence of decisions, confirmations, lapses, appeals and reversals, against a model that keeps a plain list."""

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy.orm import Session

from portal.access import service as access
from portal.access.rules import Action
from portal.accounts.rules import Role, Standing, held
from portal.appeals import service as appeals
from portal.appeals.rules import AppealOutcome
from portal.cases import service as cases
from portal.cases.models import Case, EvidenceHold
from portal.cases.rules import WAITING, CaseState, LinkKind
from portal.core.actor import SYSTEM, Actor
from portal.core.db import make_engine
from portal.core.errors import Conflict
from portal.interims import service as interims
from portal.moderation import service
from portal.moderation.models import CaseDecision
from portal.moderation.rules import DecisionState, Finding, Order
from portal.redress import service as redress
from portal.sanctions import service as sanctions
from portal.sanctions.rules import Measure, SanctionKind
from portal.seconding import service as seconding
from portal.strikes import service as strikes
from portal.strikes.rules import Intent
from tests import conduct
from tests.factories import BASE, Make
from tests.site import migrated

K = SanctionKind
KINDS = st.lists(st.sampled_from([K.THROTTLE, K.RECONFIRM, K.LIMIT_ACTION, K.SUSPEND_ENTITLEMENT, K.SUSPEND, K.CLOSE]),
                 min_size=1, max_size=3, unique=True)  # fmt: skip
CODES = {
    K.THROTTLE: "use_throttled", K.RECONFIRM: "reconfirmation_ordered", K.LIMIT_ACTION: "use_limited",
    K.SUSPEND_ENTITLEMENT: "use_limited", K.CLOSE: "standing_closed", K.SUSPEND: "standing_suspended",
}  # fmt: skip


@dataclass
class Entry:
    """A decision as the model keeps it: what it restricts until when (None: for good), and what it counts."""

    decision: CaseDecision
    parts: list[tuple[SanctionKind, datetime | None]]
    lapses_at: datetime | None
    weight: int
    gone: bool = False

    def live(self, now: datetime) -> list[tuple[SanctionKind, datetime | None]]:
        if self.gone or (self.lapses_at is not None and self.lapses_at <= now):
            return []
        return [(kind, until) for kind, until in self.parts if until is None or now < until]


class Redress(RuleBasedStateMachine):
    """One signer, a program, two moderators, somebody new for each appeal, and a clock."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        engine = make_engine(f"sqlite:///{migrated()}")
        self.stack.callback(engine.dispose)
        connection = self.stack.enter_context(engine.connect())
        self.stack.callback(connection.begin().rollback)
        self.session = self.stack.enter_context(
            Session(connection, expire_on_commit=False, join_transaction_mode="create_savepoint")
        )
        self.now = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
        self.make = make = Make(self.session, self.now)
        self.model = make.model("lab/one")
        make.release(self.model)
        self.ann = make.person("ann")
        make.sign(self.ann)
        role = Role.MODERATOR
        self.staff = [conduct.acting(make.person(name, role), role) for name in ("mo", "co")]
        self.entries: list[Entry] = []
        self.count = 0

    def teardown(self) -> None:
        self.stack.close()

    @property
    def about(self) -> dict[str, Any]:
        return {"base_url": BASE, "now": self.now}

    def order(self, kinds: list[SanctionKind], days: int, intent: Intent) -> Order:
        self.count += 1
        until = self.now + timedelta(days=days)
        measures = tuple(
            Measure(
                kind, None if kind is K.CLOSE else until, self.model.public_id if kind is K.SUSPEND_ENTITLEMENT else "",
                "infer" if kind is K.LIMIT_ACTION else "", *((5, 50) if kind is K.THROTTLE else (None, None)),
            )
            for kind in kinds
        )  # fmt: skip
        strike = intent is not Intent.NONE
        return Order(Finding.VIOLATION, intent, ("restriction.spam",), f"Letter {self.count}.", measures, strike)

    def keep(self, decision: CaseDecision, order: Order, days: int) -> None:
        weight = {Intent.NONE: 0, Intent.NEGLIGENT: 2, Intent.KNOWING: 4, Intent.ORGANIZED: 8}[order.intent]
        until = self.now + timedelta(days=days)
        parts = [(measure.kind, None if measure.kind is K.CLOSE else until) for measure in order.measures]
        self.entries.append(Entry(decision, parts, decision.lapses_at, weight))

    @rule(kinds=KINDS, days=st.integers(1, 9), intent=st.sampled_from(Intent))
    def decide(self, kinds: list[SanctionKind], days: int, intent: Intent) -> None:
        order = self.order(kinds, days, intent)
        digest = service.preview(self.session, user_id=self.ann.id, order=order, **self.about).sha256
        case = service.open_on(self.session, user=self.ann, by=self.staff[0], now=self.now)
        given = {"case_ref": case.public_id, **self.about}
        if order.needs_two:
            shown = seconding.propose(self.session, by=self.staff[0], order=order, **given).payload_sha256
            decision = seconding.confirm(
                self.session, by=self.staff[1], shown_sha256=shown, notice_sha256=digest, **given
            )  # fmt: skip
        else:
            decision = service.decide(self.session, by=self.staff[0], order=order, notice_sha256=digest, **given)
        for entry in self.entries:  # a person's decision takes the place of what a program did in the same case
            if entry.decision.case_id == case.id and entry.lapses_at is not None:
                entry.lapses_at = min(entry.lapses_at, self.now)
        self.keep(decision, order, days)

    @rule(days=st.integers(1, 9))
    def a_program_decides(self, days: int) -> None:
        order = self.order([K.SUSPEND], days, Intent.NONE)
        case = service.open_on(self.session, user=self.ann, by=SYSTEM, now=self.now)
        decision = interims.interim(
            self.session, case=case, clause_keys=order.clause_keys, facts=order.facts, measures=order.measures,
            rule_ref="spam/1", **self.about,
        )  # fmt: skip
        assert decision is not None
        if all(entry.decision is not decision for entry in self.entries):
            self.keep(decision, order, days)

    @rule()
    def a_person_confirms_it(self) -> None:
        waiting = [e for e in self.entries if not e.gone and e.lapses_at is not None and self.now < e.lapses_at]
        if waiting:
            case = session_case(self.session, waiting[0].decision)
            cases.claim(self.session, ref=case.public_id, by=self.staff[0], now=self.now)
            done = interims.confirm(self.session, by=self.staff[0], case_ref=case.public_id, **self.about)
            next(e for e in waiting if e.decision is done).lapses_at = None

    @rule(which=st.integers(0, 9))
    @precondition(lambda self: self.entries)
    def overturn(self, which: int) -> None:
        entry = self.entries[which % len(self.entries)]
        if not entry.gone:
            service.overturn(
                self.session, user=self.ann, decisions=[entry.decision], by=self.staff[1], reason="Wrong.", **self.about
            )
            entry.gone = True

    @rule(which=st.integers(0, 9), outcome=st.sampled_from(AppealOutcome), days=st.integers(1, 9))
    @precondition(lambda self: self.entries)
    def appeal(self, which: int, outcome: AppealOutcome, days: int) -> None:
        entry = self.entries[which % len(self.entries)]
        filed = appeals.of_decision(self.session, ref=entry.decision.public_id)
        if entry.gone or filed is not None:
            return
        me = conduct.acting(self.ann)
        appeal = redress.file_appeal(self.session, by=me, ref=entry.decision.public_id, text="No.", **self.about)
        if outcome is AppealOutcome.VARIED and not entry.live(self.now):
            return  # nothing can be made milder; the appeal stays open
        case = cases.linked(self.session, kind=LinkKind.APPEAL, ref=appeal.public_id)
        assert case is not None
        judge = conduct.acting(self.make.person("", Role.MODERATOR), Role.MODERATOR)
        cases.claim(self.session, ref=case.public_id, by=judge, now=self.now)
        until = self.now + timedelta(days=days)
        redress.decide_appeal(
            self.session, by=judge, ref=appeal.public_id, outcome=outcome, reasons="So.", until=until,
            **self.about,
        )  # fmt: skip
        if outcome is AppealOutcome.OVERTURNED:
            entry.gone = True
        elif outcome is AppealOutcome.VARIED:
            # Nothing comes to last longer than it would have.
            entry.parts = [
                (K.SUSPEND, until) if end is None else (kind, min(end, until)) for kind, end in entry.live(self.now)
            ]
            entry.lapses_at = None

    @rule(hours=st.integers(1, 100), worker=st.booleans())
    def time_passes(self, hours: int, worker: bool) -> None:
        self.now += timedelta(hours=hours)
        if worker:
            sanctions.lapse(self.session, now=self.now)
            interims.lapse(self.session, **self.about)

    @rule(which=st.integers(0, 9))
    @precondition(lambda self: self.entries)
    def nothing_stale_is_overturned_twice(self, which: int) -> None:
        entry = self.entries[which % len(self.entries)]
        if entry.gone:
            with pytest.raises(Conflict):
                service.overturn(
                    self.session, user=self.ann, decisions=[entry.decision], by=self.staff[1], reason="Again.",
                    **self.about,
                )  # fmt: skip

    @invariant()
    def rights_are_those_of_what_is_in_force(self) -> None:
        live = [kind for entry in self.entries for kind, _ in entry.live(self.now)]
        actor = Actor(user_id=self.ann.id, public_id=self.ann.public_id)
        found = access.check(
            self.session, actor=actor, model="lab/one", action=Action.INFER, now=self.now, base_url=BASE
        )
        expected = {CODES[kind] for kind in live}
        if K.CLOSE in live:
            expected.discard("standing_suspended")
        assert {reason.code for reason in found.reasons} == expected
        score = sum(entry.weight for entry in self.entries if not entry.gone)
        assert strikes.score(self.session, user_id=self.ann.id, now=self.now) == score
        standing = held(self.ann.standing, self.ann.standing_until, self.now)
        wanted = Standing.CLOSED if K.CLOSE in live else Standing.SUSPENDED if K.SUSPEND in live else Standing.ACTIVE
        assert standing is wanted

    @invariant()
    def an_overturned_decision_leaves_no_appeal_no_hold_and_no_case_behind(self) -> None:
        for entry in self.entries:
            appeal = appeals.of_decision(self.session, ref=entry.decision.public_id)
            if entry.decision.state is DecisionState.OVERTURNED and appeal is not None:
                case = cases.linked(self.session, kind=LinkKind.APPEAL, ref=appeal.public_id)
                assert appeal.outcome is not None
                assert case is not None
                assert case.state is CaseState.DECIDED
            if appeal is not None:
                open_ = self.session.query(EvidenceHold).filter_by(because=appeal.public_id, released_at=None).count()
                assert open_ == (1 if appeal.outcome is None else 0)
        for case in cases.queue(self.session):
            assert case.state in WAITING


def session_case(session: Session, decision: CaseDecision) -> Case:
    """The case that was decided; an appeal against the decision is a case of its own."""
    return session.get_one(Case, decision.case_id)


TestRedress = pytest.mark.threat("TM-35")(pytest.mark.invariant("INV-20", "INV-18")(Redress.TestCase))
TestRedress.settings = settings(
    max_examples=5, stateful_step_count=12, deadline=None, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
