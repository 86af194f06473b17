"""Versions of a license moved about at random: what always holds, whatever happens in which order."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from portal.accounts.rules import PROPOSAL_LIFE, ProposalFact, check_confirm
from portal.core.errors import Conflict, PortalError, Refused
from portal.licensing.rules import (
    MADE,
    VERSION,
    WEIGHT,
    Materiality,
    VersionAction,
    VersionFact,
    VersionState,
    in_force,
    state_at,
)
from portal.publishing import rules
from portal.publishing.rules import Plan

START = datetime(2026, 11, 2, 12, tzinfo=UTC)
PEOPLE = ("ed", "flo", "gus")
WEIGHTS = st.sampled_from(list(Materiality))
TERMINAL = {VersionState.RETIRED}


@dataclass
class Version:
    """A version as the records keep it."""

    ordinal: int
    weight: Materiality
    floor: Materiality
    authors: set[str]
    state: VersionState = VersionState.DRAFT
    effective_at: datetime | None = None
    required_by: datetime | None = None
    approved_by: str = ""
    agreed: bool = False
    words: int = 0
    history: list[VersionState] = field(default_factory=list)

    @property
    def fact(self) -> VersionFact:
        assert self.effective_at is not None
        assert self.required_by is not None
        retired = self.state is VersionState.RETIRED
        number = f"{self.ordinal}.0"
        return VersionFact(
            self.ordinal, number, self.ordinal, self.weight, self.effective_at, self.required_by, retired
        )


class VersionLife(RuleBasedStateMachine):
    """One license whose versions are drafted, reviewed, approved, dated, called off and retired."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.versions: list[Version] = []
        self.proposal: tuple[ProposalFact, Version] | None = None
        self.pinned: set[int] = set()

    def last(self, *states: VersionState) -> Version | None:
        return next((v for v in reversed(self.versions) if v.state in states), None)

    def move(self, version: Version, action: VersionAction) -> None:
        version.history.append(version.state)
        version.state = VERSION.next(version.state, action)
        if version.state is VersionState.IN_FORCE:
            for earlier in self.versions:
                if earlier.ordinal < version.ordinal and earlier.state is VersionState.IN_FORCE:
                    self.move(earlier, VersionAction.SUPERSEDE)

    def plan(self, version: Version, at: datetime, by: datetime) -> Plan:
        before = [v for v in self.versions if v.effective_at and v.ordinal < version.ordinal]
        by = at if version.weight is Materiality.MATERIAL_IMMEDIATE else by
        return Plan(version.weight, at, by, before[-1].effective_at if before else None)

    def published(self) -> list[VersionFact]:
        return [v.fact for v in self.versions if v.effective_at is not None]

    @rule(hours=st.integers(0, 24 * 30), worker=st.booleans())
    def time_passes(self, hours: int, worker: bool) -> None:
        self.now += timedelta(hours=hours)
        if worker:
            self.arrive()

    def arrive(self) -> None:
        """What every step does first, and the background work does when it runs."""
        for version in self.versions:
            due = version.effective_at is not None and version.effective_at <= self.now
            if version.state is VersionState.SCHEDULED and due:
                self.move(version, VersionAction.ARRIVE)

    @precondition(lambda self: not any(v.state in MADE for v in self.versions))
    @rule(weight=WEIGHTS, floor=WEIGHTS, by=st.sampled_from(PEOPLE))
    def draft(self, weight: Materiality, floor: Materiality, by: str) -> None:
        floor = min(floor, Materiality.MATERIAL, key=WEIGHT.__getitem__)
        self.versions.append(Version(len(self.versions) + 1, weight, floor, {by}))

    @precondition(lambda self: self.last(VersionState.DRAFT))
    @rule(by=st.sampled_from(PEOPLE))
    def edit(self, by: str) -> None:
        if version := self.last(VersionState.DRAFT):
            version.words += 1
            version.authors.add(by)

    @precondition(lambda self: self.last(VersionState.DRAFT))
    @rule(by=st.sampled_from(PEOPLE))
    def submit(self, by: str) -> None:
        if version := self.last(VersionState.DRAFT):
            version.authors.add(by)
            self.move(version, VersionAction.SUBMIT)

    @precondition(lambda self: self.last(VersionState.IN_REVIEW))
    @rule()
    def request_changes(self) -> None:
        if version := self.last(VersionState.IN_REVIEW):
            self.move(version, VersionAction.REQUEST_CHANGES)

    @precondition(lambda self: self.last(VersionState.IN_REVIEW))
    @rule(by=st.sampled_from(PEOPLE), agreed=st.booleans())
    def approve(self, by: str, agreed: bool) -> None:
        version = self.last(VersionState.IN_REVIEW)
        if version is None:
            return
        try:
            rules.check_approver(by, version.authors)
            rules.check_weight(version.weight, version.floor, agreed=agreed)
        except PortalError:
            return
        version.approved_by, version.agreed, version.words = by, agreed, version.words
        self.move(version, VersionAction.APPROVE)

    @precondition(lambda self: self.last(VersionState.APPROVED))
    @rule(days=st.integers(-5, 60), more=st.integers(-5, 60))
    def schedule(self, days: int, more: int) -> None:
        self.arrive()
        version = self.last(VersionState.APPROVED)
        if version is None:
            return
        at = self.now + timedelta(days=days)
        plan = self.plan(version, at, at + timedelta(days=more))
        try:
            rules.check_schedule(plan, self.now, rules.Previewed(self.now, "", ""))
        except PortalError:
            return
        self.move(version, VersionAction.SCHEDULE)
        version.effective_at, version.required_by = plan.effective_at, plan.required_by

    def digest(self, version: Version) -> str:
        return f"{version.ordinal} {version.state} {version.words}"

    @precondition(lambda self: self.last(VersionState.APPROVED))
    @rule(by=st.sampled_from(PEOPLE))
    def propose_now(self, by: str) -> None:
        if version := self.last(VersionState.APPROVED):
            fact = ProposalFact(self.digest(version), by, None, self.now + PROPOSAL_LIFE)
            self.proposal = (fact, version)

    @precondition(lambda self: self.proposal is not None)
    @rule(by=st.sampled_from(PEOPLE))
    def publish_now(self, by: str) -> None:
        self.arrive()
        if self.proposal is None:
            return
        fact, version = self.proposal
        plan = self.plan(version, self.now, self.now)
        try:
            shown, current = fact.payload_sha256, self.digest(version)
            check_confirm(fact, by=by, shown_sha256=shown, current_sha256=current, now=self.now)
            rules.check_publish_now(plan, "Because.", self.now)
        except PortalError:
            return
        assert fact.proposed_by != by
        assert version.state is VersionState.APPROVED
        self.proposal = (replace(fact, confirmed_by=by), version)
        self.move(version, VersionAction.PUBLISH_NOW)
        version.effective_at = version.required_by = self.now

    @precondition(lambda self: self.last(VersionState.SCHEDULED))
    @rule()
    def cancel(self) -> None:
        self.arrive()
        version = self.last(VersionState.SCHEDULED)
        if version is not None and version is self.versions[-1]:
            self.move(version, VersionAction.CANCEL)
            version.effective_at = version.required_by = None

    @precondition(lambda self: self.published())
    @rule(which=st.integers(0, 20))
    def pin(self, which: int) -> None:
        """A release pins the version in force."""
        current = in_force(self.published(), self.now)
        if current is not None and which % 2:
            self.pinned.add(current.ordinal)

    @precondition(lambda self: self.last(VersionState.SUPERSEDED, VersionState.APPROVED))
    @rule(which=st.integers(0, 20))
    def retire(self, which: int) -> None:
        self.arrive()
        if not self.versions:
            return
        version = self.versions[which % len(self.versions)]
        try:
            rules.check_retire(version.state, ["lab/model"] if version.ordinal in self.pinned else [])
        except Conflict:
            return
        self.move(version, VersionAction.RETIRE)

    @invariant()
    def exactly_one_is_in_force_after_the_first_date(self) -> None:
        facts = self.published()
        for at in {self.now, *(f.effective_at for f in facts)}:
            states = [state_at([replace(f, retired=False) for f in facts], f.id, at) for f in facts]
            first = min((f.effective_at for f in facts), default=None)
            assert states.count(VersionState.IN_FORCE) == (first is not None and first <= at)

    @invariant()
    def the_records_never_run_ahead_of_the_clock(self) -> None:
        facts = self.published()
        for version in self.versions:
            if version.state in {VersionState.IN_FORCE, VersionState.SUPERSEDED}:
                assert version.effective_at is not None
                assert version.effective_at <= self.now
            if version.effective_at and version.state is not VersionState.RETIRED:
                by_clock = state_at(facts, version.ordinal, self.now)
                assert by_clock is version.state or version.state in {VersionState.SCHEDULED, VersionState.IN_FORCE}

    @invariant()
    def dates_rise_and_nobody_signs_before_the_date(self) -> None:
        facts = self.published()
        assert [f.effective_at for f in facts] == sorted({f.effective_at for f in facts})
        assert all(f.required_by >= f.effective_at for f in facts)

    @invariant()
    def what_is_settled_was_seen_by_two_and_weighs_enough(self) -> None:
        for version in self.versions:
            assert (version.effective_at is None) == (
                version.state in MADE or (version.state is VersionState.RETIRED and version.effective_at is None)
            )
            if version.state not in {VersionState.DRAFT, VersionState.IN_REVIEW}:
                assert version.approved_by not in version.authors
                assert version.agreed or WEIGHT[version.weight] >= WEIGHT[version.floor]

    @invariant()
    def one_is_made_at_a_time_and_the_retired_stay_so(self) -> None:
        assert sum(v.state in MADE for v in self.versions) <= 1
        assert all(not TERMINAL & set(v.history) for v in self.versions)
        for version in self.versions:
            assert not (version.state is VersionState.RETIRED and version.ordinal in self.pinned)


QUICK = settings(max_examples=100, stateful_step_count=25, deadline=None)
TestVersions = VersionLife.TestCase
TestVersions.settings = QUICK


def test_a_second_person_confirms_in_time_exactly_what_was_proposed() -> None:
    fact = ProposalFact("a", "ed", None, START + PROPOSAL_LIFE)
    given: dict[str, Any] = {"by": "flo", "shown_sha256": "a", "current_sha256": "a", "now": START}
    check_confirm(fact, **given)
    for changed, error in (({"by": "ed"}, Refused), ({"shown_sha256": "b"}, Conflict),
                           ({"current_sha256": "b"}, Conflict),
                           ({"now": START + PROPOSAL_LIFE}, Conflict)):  # fmt: skip
        with pytest.raises(error):
            check_confirm(fact, **{**given, **changed})
    with pytest.raises(Conflict):
        check_confirm(replace(fact, confirmed_by="gus"), **given)
