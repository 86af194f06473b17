"""A person signs, declines and withdraws at random while versions come: what is asked of them, and what never is."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from portal.licensing.rules import (
    CEREMONY,
    NOTICE_MINIMUM,
    WEIGHT,
    AnnulmentKind,
    CeremonyAction,
    CeremonyState,
    Materiality,
    SignatureFact,
    Sufficiency,
    VersionFact,
    VersionState,
    in_force,
    live,
    satisfies,
)

START = datetime(2026, 11, 2, 12, tzinfo=UTC)
PEOPLE = ("ed", "flo", "gus")
WEIGHTS = st.sampled_from(list(Materiality))
TERMINAL = {VersionState.RETIRED}


class SignatureLife(RuleBasedStateMachine):
    """One person who signs, declines and withdraws while versions come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        first = VersionFact(1, "1.0", 1, Materiality.MATERIAL, START, START)
        self.versions = [first]
        self.signatures: list[SignatureFact] = []
        self.kinds: list[AnnulmentKind] = []
        self.ceremony: tuple[int, CeremonyState] | None = None
        self.ended: list[CeremonyState] = []
        self.words: dict[int, CeremonyState] = {}
        self.reached: dict[int, datetime] = {}

    @property
    def required(self) -> VersionFact:
        current = in_force(self.versions, self.now)
        assert current is not None
        return current

    def ask(self, at: datetime | None = None) -> Any:
        required = self.required
        declined = {n for n, word in self.words.items() if word is CeremonyState.DECLINED}
        news = {v.number: self.reached[v.ordinal] for v in self.versions if v.ordinal in self.reached}
        return satisfies(self.signatures, self.versions, required, news, at or self.now, declined)

    @initialize(signed=st.booleans())
    def begins(self, signed: bool) -> None:
        """Somebody new, or somebody who signed the first version."""
        if signed:
            self.opens()
            self.signs()

    @rule(days=st.sampled_from([45, 14, 5, 90, 1]))
    def time_passes(self, days: int) -> None:
        self.now += timedelta(days=days)

    @precondition(lambda self: len(self.versions) < 4)
    @rule(weight=st.sampled_from([Materiality.MATERIAL, *Materiality]),
          days=st.integers(15, 40), more=st.integers(0, 60))  # fmt: skip
    def a_version_is_scheduled(self, weight: Materiality, days: int, more: int) -> None:
        at = max(self.now, self.versions[-1].effective_at) + timedelta(days=days)
        by = at if weight is Materiality.MATERIAL_IMMEDIATE else at + timedelta(days=more)
        n = len(self.versions) + 1
        self.versions.append(VersionFact(n, f"{n}.0", n, weight, at, by))

    @precondition(lambda self: self.versions[-1].ordinal not in self.reached)
    @rule()
    def news_reaches(self) -> None:
        self.reached.setdefault(self.versions[-1].ordinal, self.now)

    @precondition(lambda self: not self.ceremony or self.ceremony[1] is not CeremonyState.OPEN)
    @rule()
    def opens(self) -> None:
        self.ceremony = (self.versions[-1].ordinal, CeremonyState.OPEN)

    def end(self, action: CeremonyAction) -> int | None:
        if self.ceremony is None or not CEREMONY.can(self.ceremony[1], action):
            return None
        ordinal, state = self.ceremony
        ended = CEREMONY.next(state, action)
        self.ceremony = (ordinal, ended)
        self.ended.append(ended)
        self.words[ordinal] = ended
        return ordinal

    @precondition(lambda self: self.ceremony and self.ceremony[1] is CeremonyState.OPEN)
    @rule()
    def signs(self) -> None:
        ordinal = self.end(CeremonyAction.SIGN)
        if ordinal is not None:
            n = len(self.signatures) + 1
            self.signatures.append(SignatureFact(n, f"sig_{n}", ordinal, ordinal, f"{ordinal}.0"))

    @precondition(lambda self: self.ceremony and self.ceremony[1] is CeremonyState.OPEN)
    @rule()
    def declines(self) -> None:
        before = self.ask().sufficiency
        if self.end(CeremonyAction.DECLINE) is not None and before in {Sufficiency.SUFFICIENT, Sufficiency.DUE}:
            assert self.ask().sufficiency is before, "declining early costs nothing"

    @precondition(lambda self: live(self.signatures, self.now))
    @rule(which=st.integers(0, 30))
    def withdraws(self, which: int) -> None:
        if not self.signatures:
            return
        index = which % len(self.signatures)
        if self.signatures[index].ended_at is None:
            self.signatures[index] = replace(self.signatures[index], ended_at=self.now)

    @invariant()
    def a_ceremony_ends_once(self) -> None:
        if self.ceremony and self.ceremony[1] is not CeremonyState.OPEN:
            for action in CeremonyAction:
                assert not CEREMONY.can(self.ceremony[1], action)
        assert self.ended.count(CeremonyState.SIGNED) == len(self.signatures)

    @invariant()
    def the_answer_is_the_one_of_the_table(self) -> None:
        found, required, binding = self.ask(), self.required, live(self.signatures, self.now)
        newest = max((s.ordinal for s in binding), default=0)
        heavy = [v for v in self.versions if newest < v.ordinal <= required.ordinal
                 and WEIGHT[v.materiality] >= WEIGHT[Materiality.MATERIAL]]  # fmt: skip
        last = self.words.get(required.ordinal)
        if newest and not heavy:
            assert found.sufficiency is Sufficiency.SUFFICIENT
        elif newest and (found.binds_at is None or self.now < found.binds_at):
            assert found.sufficiency is Sufficiency.DUE
        elif last is CeremonyState.DECLINED:
            assert found.sufficiency is Sufficiency.DECLINED
        else:
            assert found.sufficiency is (Sufficiency.LAPSED if newest else Sufficiency.MISSING)
        if found.sufficiency in {Sufficiency.SUFFICIENT, Sufficiency.DUE, Sufficiency.LAPSED}:
            assert found.signature in binding

    @invariant()
    def nobody_lapses_before_the_news_had_time_to_reach_them(self) -> None:
        found = self.ask()
        newest = max((s.ordinal for s in live(self.signatures, self.now)), default=0)
        between = [v for v in self.versions if newest < v.ordinal <= self.required.ordinal]
        if not newest or any(v.materiality is Materiality.MATERIAL_IMMEDIATE for v in between):
            return
        told = [self.reached[v.ordinal] for v in between if v.ordinal in self.reached]
        if not told or self.now < min(told) + NOTICE_MINIMUM:
            assert found.sufficiency in {Sufficiency.SUFFICIENT, Sufficiency.DUE}

    @invariant()
    def an_answer_about_the_past_does_not_change(self) -> None:
        for signature in self.signatures:
            if signature.ended_at is not None:
                assert signature in live(self.signatures, signature.ended_at - timedelta(seconds=1))
                assert signature not in live(self.signatures, signature.ended_at)


TestSignatures = SignatureLife.TestCase
TestSignatures.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
