"""Campaigns moved about at random, how far people have come, and what a cut-over waits for."""

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from portal.campaigns import rules
from portal.campaigns.rules import (
    CAMPAIGN,
    ENDED,
    QUIET,
    UNREACHED,
    WAVES,
    CampaignAction,
    CampaignKind,
    CampaignState,
    CutOver,
    TargetFact,
    TargetState,
    life,
)  # fmt: skip
from portal.core.errors import Conflict, Invalid

START = datetime(2026, 11, 2, 12, tzinfo=UTC)
DAY = timedelta(days=1)
REQUIRED = START + 50 * DAY
LIMIT = 0.05
SIGNING = life(CampaignKind.RE_SIGN)
GOOD = CutOver(True, REQUIRED, REQUIRED - QUIET, 0, {TargetState.SIGNED: 19, TargetState.NOTIFIED: 1}, LIMIT)


@dataclass
class Person:
    """What is known of somebody who is asked."""

    fact: TargetFact = field(default_factory=TargetFact)


class CampaignLife(RuleBasedStateMachine):
    """One campaign whose people are told, reached, sign and decline, while staff move it."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.state = START, CAMPAIGN.start
        self.history: list[CampaignState] = []
        self.people = [Person() for _ in range(8)]
        self.started: datetime | None = None
        self.reminded: datetime | None = None
        self.at_cut: CutOver | None = None

    def facts(self) -> CutOver:
        states = Counter(rules.target_state(person.fact) for person in self.people)
        return CutOver(self.now >= START + 20 * DAY, REQUIRED, self.reminded, 0, states, LIMIT)

    def move(self, action: CampaignAction) -> None:
        try:
            state = SIGNING.next(self.state, action)
            if action is CampaignAction.CUT_OVER:
                rules.check_cut_over(self.facts(), self.now)
                self.at_cut = self.facts()
        except Conflict:
            return
        self.history.append(self.state)
        self.state = state
        if action is CampaignAction.START:
            self.started = self.now

    @rule(action=st.sampled_from([*CampaignAction, CampaignAction.PREVIEW, CampaignAction.START]))
    def staff(self, action: CampaignAction) -> None:
        self.move(action)

    @rule()
    def begin(self) -> None:
        self.move(CampaignAction.PREVIEW)
        self.move(CampaignAction.START)

    @rule(days=st.integers(1, 40))
    def time_passes(self, days: int) -> None:
        self.now += days * DAY

    @rule()
    def remind(self) -> None:
        """What the background work does while a campaign runs."""
        if self.state is not CampaignState.RUNNING or self.started is None:
            return
        due = rules.wave(self.started, REQUIRED, self.now)
        for person in self.people:
            person.fact = replace(person.fact, waves=max(person.fact.waves, due))
        if due == WAVES and self.reminded is None:
            self.reminded = self.now

    @rule(who=st.integers(0, 7), what=st.sampled_from(["signed", "declined", "exempt", "reached", "bounced"]))
    def happens(self, who: int, what: str) -> None:
        self.people[who].fact = replace(self.people[who].fact, **{what: True})

    @rule()
    def all_are_reached(self) -> None:
        for person in self.people:
            person.fact = replace(person.fact, reached=True)

    @rule(cut=st.booleans())
    def all_goes_well(self, cut: bool) -> None:
        """Chance alone seldom gets this far."""
        self.begin()
        self.all_are_reached()
        self.now = max(self.now, REQUIRED - QUIET)
        self.remind()
        self.now += QUIET
        if cut:
            self.move(CampaignAction.CUT_OVER)

    @rule()
    def cut_over(self) -> None:
        self.move(CampaignAction.CUT_OVER)

    @invariant()
    def the_ended_stay_so(self) -> None:
        assert not ENDED & set(self.history)

    @invariant()
    def it_runs_only_after_a_preview(self) -> None:
        if self.started is not None:
            assert CampaignState.PREVIEWED in self.history

    @invariant()
    def it_is_cut_over_only_when_nearly_all_were_reached(self) -> None:
        """INV-32: it came there with no more unreached than the limit, and nobody becomes unreached again."""
        if self.state is not CampaignState.CUT_OVER:
            return
        assert self.at_cut is not None
        unreached = sum(self.at_cut.states.get(state, 0) for state in UNREACHED)
        counted = sum(n for state, n in self.at_cut.states.items() if state is not TargetState.EXEMPT)
        assert unreached <= LIMIT * counted
        assert self.now >= REQUIRED
        assert self.reminded is not None
        assert self.now - self.reminded >= QUIET
        assert rules.unreached_share(self.facts().states) <= LIMIT

    @invariant()
    def a_signature_always_counts_and_silence_never_does(self) -> None:
        for person in self.people:
            state = rules.target_state(person.fact)
            assert (state is TargetState.SIGNED) == person.fact.signed
            if not (person.fact.signed or person.fact.declined or person.fact.exempt or person.fact.reached):
                assert state in UNREACHED


TestCampaigns = CampaignLife.TestCase
TestCampaigns.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


def test_each_kind_of_campaign_has_its_own_moves() -> None:
    moves = {kind: {action for _, action in life(kind).table} for kind in CampaignKind}
    assert moves[CampaignKind.RE_SIGN] == set(CampaignAction)
    for kind in (CampaignKind.LIMITATION, CampaignKind.CORRECTION):
        assert moves[kind] == set(CampaignAction) - {CampaignAction.PREVIEW, CampaignAction.CUT_OVER}
    assert not SIGNING.can(CampaignState.PLANNED, CampaignAction.START)
    assert not SIGNING.can(CampaignState.RUNNING, CampaignAction.FINISH)
    assert {move for kind in CampaignKind for move in life(kind).table} == set(CAMPAIGN.table)


def test_nothing_leads_out_of_an_end() -> None:
    for kind in CampaignKind:
        assert not {state for state, _ in life(kind).table} & ENDED


@pytest.mark.parametrize(
    ("changed", "lacking"),
    [
        ({}, None),
        ({"in_force": False}, "in_force"),
        ({"required_by": REQUIRED + timedelta(seconds=1)}, "required"),
        ({"reminded_at": None}, "reminded"),
        ({"reminded_at": REQUIRED - QUIET + timedelta(seconds=1)}, "reminded"),
        ({"under_way": 1}, "reminded"),
        ({"states": {TargetState.SIGNED: 18, TargetState.NOTIFIED: 1}}, "reached"),
        ({"states": {TargetState.SIGNED: 18, TargetState.WAITING: 1}}, "reached"),
        ({"states": {TargetState.SIGNED: 18, TargetState.UNREACHABLE: 1}}, "reached"),
        ({"states": {TargetState.EXEMPT: 100, TargetState.SIGNED: 18, TargetState.UNREACHABLE: 1}}, "reached"),
        ({"states": {}}, None),
        ({"limit": 0.0}, "reached"),
    ],
)
def test_each_condition_alone_holds_a_cut_over_back(changed: dict[str, Any], lacking: str | None) -> None:
    facts = replace(GOOD, **changed)
    unmet = [c.code for c in rules.conditions(facts, REQUIRED) if c.state == "unmet"]
    assert unmet == ([lacking] if lacking else [])
    if lacking is None:
        rules.check_cut_over(facts, REQUIRED)
        return
    with pytest.raises(Conflict) as caught:
        rules.check_cut_over(facts, REQUIRED)
    assert caught.value.code == "cut_over_early"


@given(started=st.integers(0, 60), later=st.integers(0, 90))
def test_the_second_reminder_leaves_a_quiet_week_after_the_first(started: int, later: int) -> None:
    at, now = START + started * DAY, START + (started + later) * DAY
    second = rules.second_at(at, REQUIRED)
    assert second - at >= QUIET
    assert rules.wave(at, REQUIRED, now) == (WAVES if now >= second else 1)


def test_a_reason_is_one_line() -> None:
    assert rules.check_reason(" Left. ") == "Left."
    for wrong in ("", " ", "a\nb", "x" * 501):
        with pytest.raises(Invalid):
            rules.check_reason(wrong)


def test_a_reminder_says_what_happens_and_that_one_may_say_no() -> None:
    words = rules.compose_reminder(title="RAIL", number="2.0", required_on="1 May", page="https://x/sign")
    assert "before 1 May" in words
    assert "If you do not want to sign" in words
    assert words.endswith("https://x/sign\n")
