"""Versions moved about through the services on a real database: each state with each step, and any order of them."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from portal.accounts.models import Proposal
from portal.audit.models import AuditEvent
from portal.clauses.rules import Relation
from portal.core.errors import PortalError
from portal.drafting import service as drafting
from portal.licensing import service as licensing
from portal.licensing.models import LicenseVersion
from portal.licensing.rules import (
    MADE,
    VERSION,
    WEIGHT,
    Materiality,
    ReviewFinding,
    VersionAction,
    VersionState,
    in_force,
    state_at,
)
from portal.publishing import service
from portal.reviews import service as reviews
from tests.editing import BASE
from tests.small import DAY, NAMES, SLUG, Desk, opened

by = st.sampled_from(NAMES)
OPEN = {VersionState.DRAFT, VersionState.IN_REVIEW}


@pytest.fixture
def desk() -> Iterator[Desk]:
    found, close = opened()
    yield found
    close()


ROAD = {
    VersionState.DRAFT: (), VersionState.IN_REVIEW: (VersionAction.SUBMIT,),
    VersionState.APPROVED: (VersionAction.SUBMIT, VersionAction.APPROVE),
    VersionState.SCHEDULED: (VersionAction.SUBMIT, VersionAction.APPROVE, VersionAction.SCHEDULE),
    VersionState.IN_FORCE: (VersionAction.SUBMIT, VersionAction.APPROVE, VersionAction.PUBLISH_NOW),
    VersionState.SUPERSEDED: (VersionAction.SUBMIT, VersionAction.APPROVE, VersionAction.PUBLISH_NOW),
    VersionState.RETIRED: (VersionAction.SUBMIT, VersionAction.APPROVE, VersionAction.RETIRE),
}  # fmt: skip
STEPS = [a for a in VersionAction if a not in {VersionAction.ARRIVE, VersionAction.SUPERSEDE}]


def brought(desk: Desk, state: VersionState) -> LicenseVersion:
    """Return a version in a state, having come there step by step."""
    version = desk.draft()
    desk.edit(version, weight=Materiality.MATERIAL_IMMEDIATE)
    desk.vote(version)
    for action in ROAD[state]:
        desk.do(action, version)
    if state is VersionState.SUPERSEDED:
        desk.now += DAY
        brought(desk, VersionState.IN_FORCE)
    assert version.state is state
    return version


@pytest.mark.parametrize("state", VersionState)
def test_each_step_is_taken_from_where_the_table_says_and_from_nowhere_else(desk: Desk, state: VersionState) -> None:
    version = brought(desk, state)
    desk.vote(version) if state in OPEN and not licensing.resolution_of(desk.session, version=version) else None
    for action in STEPS:
        with desk.session.begin_nested() as attempt:
            error = None
            try:
                desk.do(action, version)
            except PortalError as caught:
                error = caught
            assert (error is None) == VERSION.can(state, action), (state, action, error)
            assert error is not None or version.state is VERSION.next(state, action)
            attempt.rollback()
        desk.session.refresh(version)
        assert version.state is state


class VersionLife(RuleBasedStateMachine):
    """One license whose versions are written, reviewed, voted on, approved, dated, looked at again and retired."""

    def __init__(self) -> None:
        super().__init__()
        self.desk, self.close = opened()
        self.said: dict[str, str] = {}
        self.gone: set[str] = set()

    def teardown(self) -> None:
        self.close()

    def attempt(self, act: Callable[[], Any]) -> None:
        """Do something; refused, it leaves everything as it was."""
        before = self.count()
        with self.desk.session.begin_nested() as step:
            try:
                act()
            except PortalError:
                step.rollback()
        assert self.count() >= before

    def count(self) -> int:
        query = sa.select(sa.func.count()).select_from(AuditEvent).where(AuditEvent.subject == SLUG)
        return self.desk.session.scalar(query) or 0

    @property
    def last(self) -> LicenseVersion:
        return self.desk.versions()[-1]

    @rule(hours=st.integers(0, 24 * 25), worker=st.booleans())
    def time_passes(self, hours: int, worker: bool) -> None:
        self.desk.now += timedelta(hours=hours)
        if worker:
            licensing.arrive(self.desk.session, now=self.desk.now)
            reviews.remind(self.desk.session, now=self.desk.now, base_url=BASE)

    @rule(
        name=by, word=st.sampled_from(["a", "b", "c"]), weight=st.sampled_from(Materiality),
        relation=st.sampled_from([Relation.WIDENED, Relation.NARROWED, Relation.REWORDED]),
    )  # fmt: skip
    def write(self, name: str, word: str, weight: Materiality, relation: Relation) -> None:
        desk = self.desk
        self.attempt(lambda: desk.draft(name) if self.last.state not in MADE else None)
        self.attempt(lambda: desk.edit(self.last, name, words=f"No {word}.", weight=weight, relation=relation))

    @rule(action=st.sampled_from([VersionAction.SUBMIT, VersionAction.REQUEST_CHANGES, VersionAction.CANCEL]))
    def step(self, action: VersionAction) -> None:
        self.attempt(lambda: self.desk.do(action, self.last))

    @rule(name=by)
    def vote(self, name: str) -> None:
        self.attempt(lambda: self.desk.vote(self.last, name))

    @rule(name=by, other=by)
    def approve(self, name: str, other: str) -> None:
        desk, version = self.desk, self.last
        self.attempt(lambda: service.approve(desk.session, **desk.given(version, name)))
        self.attempt(lambda: service.propose_lower(desk.session, **desk.given(version, name), reason="Small."))
        digest = desk.proposed(version, service.LOWER)
        self.attempt(lambda: service.approve_lower(desk.session, **desk.given(version, other), payload_sha256=digest))

    @rule(name=by, days=st.integers(-5, 40), more=st.integers(-5, 40))
    def schedule(self, name: str, days: int, more: int) -> None:
        self.attempt(lambda: self.desk.schedule(self.last, name, days, more))

    @rule(name=by, other=by)
    def publish_now(self, name: str, other: str) -> None:
        desk, version = self.desk, self.last
        self.attempt(lambda: service.propose_now(desk.session, **desk.given(version, name), reason="Now."))
        self.attempt(lambda: desk.publish_now(version, other))

    @rule(which=st.integers(0, 9), asked=st.booleans())
    def retire(self, which: int, asked: bool) -> None:
        versions = self.desk.versions()
        version = versions[which % len(versions)]
        given = self.desk.given(version, "gus")
        self.attempt(lambda: service.retire(self.desk.session, **given, still_asked=["lab/model"] if asked else []))

    @rule(which=st.integers(0, 9), name=by, finding=st.sampled_from(ReviewFinding))
    def look_again(self, which: int, name: str, finding: ReviewFinding) -> None:
        versions = self.desk.versions()
        given = self.desk.given(versions[which % len(versions)], name)
        self.attempt(lambda: reviews.review(self.desk.session, **given, finding=finding, words="Read."))

    @invariant()
    def one_is_in_force_and_the_records_follow_the_clock(self) -> None:
        versions, now = self.desk.versions(), self.desk.now
        license_id = versions[0].license_id
        facts = licensing.versions_for(self.desk.session, license_ids=[license_id])[license_id]
        current = in_force(facts, now)
        assert current is not None
        assert [f.effective_at for f in facts] == sorted({f.effective_at for f in facts})
        assert sum(v.state is VersionState.IN_FORCE for v in versions) <= 1
        assert sum(v.state in MADE for v in versions) <= 1
        for version in versions:
            if version.state in {VersionState.IN_FORCE, VersionState.SUPERSEDED}:
                assert version.effective_at is not None
                assert version.effective_at <= now
                by_clock = state_at(facts, version.id, now)
                assert by_clock is version.state or by_clock is VersionState.SUPERSEDED, "a late worker runs behind"

    @invariant()
    def what_is_settled_was_seen_by_two_voted_on_described_and_stays(self) -> None:
        session = self.desk.session
        for version in self.desk.versions()[1:]:
            if version.state in OPEN:
                continue
            shown = licensing.shown(session, version=version)
            assert self.said.setdefault(version.number, shown) == shown
            assert version.approved_by not in drafting.authors_of(session, version=version)
            weight, floor = version.materiality, drafting.floor(session, version=version)
            assert weight is not None
            assert version.floor_proposal_id or WEIGHT[weight] >= WEIGHT[floor]
            if WEIGHT[weight] >= WEIGHT[Materiality.MATERIAL]:
                assert licensing.resolution_of(session, version=version)
            for old, new in licensing.pairs(session, version=version):
                told = [d for d in licensing.difference(
                    session, old=old.version, new=version, language=new.language) if d.relation is not Relation.SAME
                ]  # fmt: skip
                assert all(d.explanation for d in told)

    @invariant()
    def what_came_at_once_is_looked_at_by_somebody_else(self) -> None:
        session = self.desk.session
        for version in self.desk.versions()[1:]:
            look = licensing.second_look(session, version=version)
            if look is None:
                continue
            assert version.effective_at is not None
            assert look.due_at == version.effective_at + timedelta(days=7)
            proposal = session.get_one(Proposal, look.proposal_id)
            assert proposal.proposed_by != proposal.confirmed_by
            assert look.reviewed_by not in reviews.involved(session, review=look)

    @invariant()
    def the_retired_stay_so(self) -> None:
        retired = {v.number for v in self.desk.versions() if v.state is VersionState.RETIRED}
        assert retired >= self.gone
        self.gone = retired


VersionLife.TestCase.settings = settings(max_examples=10, stateful_step_count=20, deadline=None)
TestVersionLife = pytest.mark.invariant("INV-03", "INV-04", "INV-05")(VersionLife.TestCase)
