"""Effects of overlapping sanctions: those of the ones in force alone, in every order, and gone with them."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.sanctions import rules
from portal.sanctions.rules import PERMANENT, Effects, SanctionFact, SanctionKind

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
HOURS = st.integers(-100, 100)
K = SanctionKind


@st.composite
def sanctions(draw: st.DrawFn) -> list[SanctionFact]:
    kinds, targets = st.sampled_from(SanctionKind), st.sampled_from(["", "mod_a", "mod_b"])
    rows = st.tuples(kinds, HOURS, st.integers(1, 100), st.booleans(), st.booleans(), targets, st.integers(0, 9))
    found = []
    for n, (kind, start, length, gone, interim, target, amount) in enumerate(draw(st.lists(rows, max_size=8))):
        at = NOW + timedelta(hours=start)
        found.append(
            SanctionFact(
                f"san_{n}", kind, at, None if kind in PERMANENT else at + timedelta(hours=length),
                target if kind in rules.ABOUT_MODEL else "", "infer" if kind is K.LIMIT_ACTION else "",
                amount if kind is K.THROTTLE else None, amount * 100 if kind is K.THROTTLE else None,
                at + rules.INTERIM if interim and kind not in PERMANENT else None, NOW if gone else None,
            )
        )  # fmt: skip
    return found


def amount_to(given: list[SanctionFact], at: datetime) -> tuple[object, ...]:
    """Everything that decisions about a person take from their sanctions."""
    bars = [
        rules.bars(rules.concerning(given, model_ref=model, token_ref=token), action=action, model="m", signed_at=None,
                   now=at)
        for model in ("mod_a", "mod_b") for token in (None, "tok_a") for action in ("ask", "download", "infer", "read")
    ]  # fmt: skip
    return rules.effects(given, at), rules.throttled(given, 50, 5_000, at), bars, rules.reconfirm_since(given, at)


@pytest.mark.invariant("INV-20")
@given(sanctions())
def test_effects_are_those_of_the_sanctions_in_force_alone(given: list[SanctionFact]) -> None:
    in_force = [s for s in given if s.holds(NOW)]
    assert amount_to(given, NOW) == amount_to(in_force, NOW)
    found = rules.effects(given, NOW)
    ends = [s.ends_at for s in in_force if s.kind is K.SUSPEND and s.ends_at]
    assert found.suspended_until == max(ends, default=None)
    assert (found.closed_by is None) == all(s.kind is not K.CLOSE for s in in_force)


@given(sanctions(), st.integers())
def test_the_order_of_sanctions_does_not_matter(given: list[SanctionFact], seed: int) -> None:
    shuffled = list(given)
    random.Random(seed).shuffle(shuffled)
    assert rules.effects(shuffled, NOW) == rules.effects(given, NOW)
    assert rules.throttled(shuffled, 50, 5_000, NOW) == rules.throttled(given, 50, 5_000, NOW)


@pytest.mark.threat("TM-35")
@pytest.mark.invariant("INV-20")
@given(sanctions(), st.integers(0, 7))
def test_ending_one_leaves_exactly_what_the_others_amount_to(given: list[SanctionFact], which: int) -> None:
    if which >= len(given):
        return
    others = given[:which] + given[which + 1 :]
    ended = [*given[:which], replace(given[which], ended_at=NOW), *given[which + 1 :]]
    assert amount_to(ended, NOW) == amount_to(others, NOW)


@pytest.mark.invariant("INV-13")
@given(sanctions())
def test_no_suspension_outlasts_its_end_by_an_instant(given: list[SanctionFact]) -> None:
    until = rules.effects(given, NOW).suspended_until
    if until is not None:
        begun = [s for s in given if s.starts_at <= NOW and s.kind is K.SUSPEND]
        assert rules.effects(begun, until) == Effects()
        assert rules.effects(begun, until - timedelta(microseconds=1)).suspended_until is not None


@given(sanctions())
def test_what_nobody_confirmed_is_over_after_72_hours(given: list[SanctionFact]) -> None:
    for s in given:
        if s.lapses_at is not None:
            assert not s.holds(s.starts_at + rules.INTERIM)


def test_each_kind_says_what_it_does_and_leaves_behind() -> None:
    assert set(rules.LEFT_BEHIND) == set(SanctionKind)
    for kind in SanctionKind:
        measure = rules.Measure(
            kind, None if kind in PERMANENT else NOW, "mod_a" if kind in rules.ABOUT_MODEL else "", "infer", 1, 2
        )
        words = rules.sentence(measure, target="lab/model", base_url="https://p.example")
        assert words.endswith(".")
        assert ("2 November 2026" in words) == (kind not in PERMANENT)


def test_a_demand_to_sign_again_is_met_by_a_later_signature_alone() -> None:
    demand = SanctionFact("san_x", K.RECONFIRM, NOW, NOW + timedelta(days=1))
    for signed_at, barred in ((None, True), (NOW, True), (NOW + timedelta(seconds=1), False)):
        found = rules.bars([demand], action="infer", model="m", signed_at=signed_at, now=NOW + timedelta(hours=1))
        assert bool(found) is barred


def test_a_frozen_access_token_is_that_one_or_all() -> None:
    one = SanctionFact("san_x", K.FREEZE_ACCESS_TOKEN, NOW, NOW + timedelta(days=1), "tok_a")
    every = replace(one, target="")
    assert rules.concerning([one, every], model_ref="mod_a", token_ref="tok_a") == (one, every)
    assert rules.concerning([one, every], model_ref="mod_a", token_ref="tok_b") == (every,)
    assert rules.concerning([one, every], model_ref="mod_a", token_ref=None) == ()
