"""Which version is in force, whether a signature suffices, and what makes a signature or a version possible."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.clauses.rules import ClauseKind, Relation
from portal.core.errors import Conflict, Invalid
from portal.licensing import rules
from portal.licensing.rules import (
    VERSION,
    Materiality,
    SignatureFact,
    Sufficiency,
    VersionAction,
    VersionFact,
    VersionState,
    Vote,
)  # fmt: skip

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def version(
    ordinal: int, materiality: Materiality = Materiality.MATERIAL, effective: int = 0, by: int = 30
) -> VersionFact:
    at = NOW + effective * DAY
    return VersionFact(ordinal, f"{ordinal}.0", ordinal, materiality, at, at + by * DAY)


def signature(ordinal: int) -> SignatureFact:
    return SignatureFact(ordinal * 10, f"sig_{ordinal}", ordinal, ordinal)


VERSIONS = [version(1, effective=-100), version(2, effective=-1), version(3, effective=10)]


def test_the_highest_version_whose_date_has_come_is_in_force() -> None:
    assert rules.in_force([], NOW) is None
    assert rules.in_force(VERSIONS, NOW) == VERSIONS[1]
    assert rules.in_force(VERSIONS, NOW - 2 * DAY) == VERSIONS[0]
    assert rules.in_force(VERSIONS, NOW - 101 * DAY) is None
    assert rules.in_force(VERSIONS, VERSIONS[2].effective_at) == VERSIONS[2]


def test_the_state_of_a_version_follows_the_clock() -> None:
    states = [rules.state_at(VERSIONS, n, NOW) for n in (1, 2, 3)]
    assert states == [VersionState.SUPERSEDED, VersionState.IN_FORCE, VersionState.SCHEDULED]


@pytest.mark.invariant("INV-04")
@given(st.lists(st.integers(-50, 50), min_size=1, max_size=6, unique=True), st.integers(-60, 60))
def test_exactly_one_version_is_in_force_from_the_first_on(days: list[int], at: int) -> None:
    versions = [version(n, effective=day) for n, day in enumerate(sorted(days))]
    states = [rules.state_at(versions, v.id, NOW + at * DAY) for v in versions]
    assert states.count(VersionState.IN_FORCE) == (min(days) <= at)


def news(of: VersionFact, day: int | None) -> dict[str, datetime]:
    """When news of a version reached somebody, if it did."""
    return {} if day is None else {of.number: NOW + day * DAY}


@pytest.mark.parametrize(
    ("signed", "between", "reached", "sufficiency"),
    [
        ([], Materiality.MATERIAL, None, Sufficiency.MISSING),
        ([1], Materiality.MATERIAL, None, Sufficiency.DUE),
        ([1], Materiality.MATERIAL, -1, Sufficiency.DUE),
        ([1], Materiality.MATERIAL, -100, Sufficiency.LAPSED),
        ([1], Materiality.MATERIAL_IMMEDIATE, None, Sufficiency.LAPSED),
        ([1], Materiality.CLARIFYING, -100, Sufficiency.SUFFICIENT),
        ([1], Materiality.EDITORIAL, -100, Sufficiency.SUFFICIENT),
        ([2], Materiality.MATERIAL, -100, Sufficiency.SUFFICIENT),
        ([1, 2], Materiality.MATERIAL, -100, Sufficiency.SUFFICIENT),
        ([3], Materiality.MATERIAL, -100, Sufficiency.SUFFICIENT),
    ],
)
def test_whether_a_signature_suffices(
    signed: list[int], between: Materiality, reached: int | None, sufficiency: Sufficiency
) -> None:
    versions = [version(1, effective=-200), version(2, between, effective=-90, by=30), version(3, effective=5)]
    found = rules.satisfies([signature(n) for n in signed], versions, versions[1], news(versions[1], reached), NOW)
    assert found.sufficiency is sufficiency


@pytest.mark.invariant("INV-14")
def test_nobody_lapses_sooner_than_two_weeks_after_the_news_reached_them() -> None:
    versions = [version(1, effective=-200), version(2, effective=-90, by=30)]
    found = rules.satisfies([signature(1)], versions, versions[1], news(versions[1], -10), NOW)
    assert found.sufficiency is Sufficiency.DUE
    assert found.binds_at == NOW + 4 * DAY
    later = rules.satisfies([signature(1)], versions, versions[1], news(versions[1], -10), NOW + 4 * DAY)
    assert later.sufficiency is Sufficiency.LAPSED


@pytest.mark.invariant("INV-14")
def test_a_newer_version_that_reached_nobody_does_not_give_back_what_an_older_one_ended() -> None:
    versions = [version(1, effective=-200), version(2, effective=-90, by=30), version(3, effective=-1, by=30)]
    lapsed = rules.satisfies([signature(1)], versions, versions[2], news(versions[1], -80), NOW)
    assert lapsed.sufficiency is Sufficiency.LAPSED
    unaware = rules.satisfies([signature(1)], versions, versions[2], {}, NOW)
    assert unaware.sufficiency is Sufficiency.DUE


@pytest.mark.parametrize(
    ("changes", "floor"),
    [
        ([], Materiality.EDITORIAL),
        ([(ClauseKind.DUTY, Relation.WIDENED)], Materiality.EDITORIAL),
        ([(ClauseKind.RESTRICTION, Relation.SAME), (ClauseKind.RESTRICTION, Relation.MOVED)], Materiality.EDITORIAL),
        ([(ClauseKind.RESTRICTION, Relation.REWORDED)], Materiality.CLARIFYING),
        ([(ClauseKind.RESTRICTION, Relation.REMOVED)], Materiality.CLARIFYING),
        (
            [(ClauseKind.RESTRICTION, Relation.REWORDED), (ClauseKind.RESTRICTION, Relation.WIDENED)],
            Materiality.MATERIAL,
        ),
        ([(ClauseKind.RESTRICTION, Relation.ADDED)], Materiality.MATERIAL),
    ],
)
def test_changed_restrictions_set_the_least_weight(
    changes: list[tuple[ClauseKind, Relation]], floor: Materiality
) -> None:
    assert rules.materiality_floor(changes) is floor


@pytest.mark.parametrize(
    ("number", "code"),
    [("1.1", ""), ("1.0.1", ""), ("10.0", ""), ("1.0", "number_low"), ("0.9.9", "number_low"),
     ("1.0.0.0", "number_low"), ("1", "number_wrong"), ("v2.0", "number_wrong"),
     ("2.0.", "number_wrong"), ("", "number_wrong")],
)  # fmt: skip
def test_numbers_rise(number: str, code: str) -> None:
    if not code:
        rules.check_number(number, "1.0.0")
        return
    with pytest.raises(Invalid) as caught:
        rules.check_number(number, "1.0.0")
    assert caught.value.code == code


def test_every_language_needs_a_summary() -> None:
    rules.check_summary({"en": "New.", "fr": "Nouveau."}, ["en", "fr"])
    for summary in ({"en": "New."}, {"en": "New.", "fr": " "}, {"en": "New.", "fr": "x" * 4_001}):
        with pytest.raises(Invalid) as caught:
            rules.check_summary(summary, ["en", "fr"])
        assert caught.value.field == "summary-fr"


def test_languages_have_names() -> None:
    assert rules.language_name("zh") == "Chinese"
    assert rules.language_name("xx") == "xx"


def test_a_signature_binds_until_the_instant_of_its_annulment() -> None:
    ended = replace(signature(2), ended_at=NOW)
    versions = [version(1, effective=-200), version(2, effective=-90)]
    for at, found in ((NOW - timedelta(seconds=1), Sufficiency.SUFFICIENT), (NOW, Sufficiency.MISSING)):
        assert rules.satisfies([ended], versions, versions[1], {}, at).sufficiency is found
    left = rules.satisfies([signature(1), ended], versions, versions[1], {}, NOW)
    assert (left.sufficiency, left.signature) == (Sufficiency.DUE, signature(1))


@pytest.mark.parametrize(
    ("signed", "reached", "sufficiency"),
    [
        ([], None, Sufficiency.DECLINED),
        ([1], None, Sufficiency.DUE),
        ([1], -5, Sufficiency.DUE),
        ([1], -100, Sufficiency.DECLINED),
        ([2], -100, Sufficiency.SUFFICIENT),
    ],
)
def test_declining_costs_nothing_before_the_day_and_is_said_after_it(
    signed: list[int], reached: int | None, sufficiency: Sufficiency
) -> None:
    versions = [version(1, effective=-200), version(2, effective=-90, by=30)]
    told = news(versions[1], reached)
    found = rules.satisfies([signature(n) for n in signed], versions, versions[1], told, NOW, {2})
    assert found.sufficiency is sufficiency
    other = rules.satisfies([signature(n) for n in signed], versions, versions[1], told, NOW, {1})
    assert other.sufficiency is not Sufficiency.DECLINED


def test_a_retired_version_stays_retired_whatever_the_clock_says() -> None:
    versions = [replace(VERSIONS[0], retired=True), *VERSIONS[1:]]
    assert rules.state_at(versions, 1, NOW) is VersionState.RETIRED
    assert rules.in_force(versions, NOW - 2 * DAY) == versions[0]


def test_only_the_last_state_of_a_version_is_the_end() -> None:
    moves = {state for state, _ in VERSION.table}
    assert set(VersionState) - moves == {VersionState.RETIRED}
    for action in VersionAction:
        with pytest.raises(Conflict):
            VERSION.next(VersionState.RETIRED, action)


VOTE = Vote("Steering committee", "a" * 64, 12, 1, 2, NOW - DAY)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({}, None),
        ({"body": " "}, "body"),
        ({"body": "x" * 201}, "body"),
        ({"body": "a\0b"}, "body"),
        ({"minutes_sha256": "A" * 64}, "minutes_sha256"),
        ({"minutes_sha256": ""}, "minutes_sha256"),
        ({"votes_for": -1}, "votes_for"),
        ({"votes_abstain": 10**7}, "votes_abstain"),
        ({"votes_against": 12}, "votes_for"),
        ({"decided_at": NOW + DAY}, "decided_at"),
    ],
)
def test_a_vote_carried_and_can_be_traced(changed: dict[str, Any], field: str | None) -> None:
    if field is None:
        rules.check_vote(VOTE, NOW)
        return
    with pytest.raises(Invalid) as caught:
        rules.check_vote(replace(VOTE, **changed), NOW)
    assert caught.value.field == field


def test_a_remark_is_kept_as_written_and_bounded() -> None:
    assert rules.check_comment(" One.\r\nTwo.\t ") == "One.\nTwo."
    for words in ("", " \n ", "x" * 4_001, "a\0b", "a\x1bb"):
        with pytest.raises(Invalid) as caught:
            rules.check_comment(words)
        assert caught.value.field == "words"
