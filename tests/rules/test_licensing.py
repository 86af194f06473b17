"""Which version is in force, whether a signature suffices, and what makes a signature or a version possible."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.clauses.rules import ClauseKind, Relation
from portal.core.errors import Conflict, Invalid, PortalError
from portal.licensing import rules
from portal.licensing.rules import (
    CeremonyFact,
    CeremonyState,
    Materiality,
    Plan,
    SignatureFact,
    Sitting,
    Sufficiency,
    VersionFact,
    VersionState,
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


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=6, unique=True), st.integers(-60, 60))
def test_exactly_one_version_is_in_force_from_the_first_on(days: list[int], at: int) -> None:
    versions = [version(n, effective=day) for n, day in enumerate(sorted(days))]
    states = [rules.state_at(versions, v.id, NOW + at * DAY) for v in versions]
    assert states.count(VersionState.IN_FORCE) == (min(days) <= at)


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
    found = rules.satisfies(
        [signature(n) for n in signed], versions, versions[1], None if reached is None else NOW + reached * DAY, NOW
    )
    assert found.sufficiency is sufficiency


def test_nobody_lapses_sooner_than_two_weeks_after_the_news_reached_them() -> None:
    versions = [version(1, effective=-200), version(2, effective=-90, by=30)]
    found = rules.satisfies([signature(1)], versions, versions[1], NOW - 10 * DAY, NOW)
    assert found.sufficiency is Sufficiency.DUE
    assert found.binds_at == NOW + 4 * DAY
    later = rules.satisfies([signature(1)], versions, versions[1], NOW - 10 * DAY, NOW + 4 * DAY)
    assert later.sufficiency is Sufficiency.LAPSED


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


CEREMONY = CeremonyFact(
    nonce="n", state=CeremonyState.OPEN, expires_at=NOW + timedelta(hours=1), shown_digest="d",
    restrictions=("a", "b"), version_state=VersionState.IN_FORCE, is_newest=True,
)  # fmt: skip
SITTING = Sitting("n", "d", frozenset({"a", "b"}), consent_electronic=True, typed_name="Ann")


def test_a_sitting_in_which_all_is_there_may_be_signed() -> None:
    rules.check_signable(CEREMONY, SITTING, NOW)
    rules.check_signable(replace(CEREMONY, version_state=VersionState.SCHEDULED), SITTING, NOW)


@pytest.mark.parametrize(
    ("ceremony", "sitting", "code"),
    [
        ({"state": CeremonyState.SIGNED}, {}, "ceremony_used"),
        ({}, {"nonce": "m"}, "ceremony_used"),
        ({"expires_at": NOW}, {}, "ceremony_expired"),
        ({"is_newest": False}, {}, "version_not_signable"),
        ({"version_state": VersionState.DRAFT}, {}, "version_not_signable"),
        ({}, {"shown_digest": "e"}, "text_changed"),
        ({}, {"acknowledged": frozenset({"a"})}, "restriction_unticked"),
        ({}, {"acknowledged": frozenset({"a", "c"})}, "restriction_unticked"),
        ({}, {"consent_electronic": False}, "consent_missing"),
        ({}, {"typed_name": "  "}, "name_missing"),
        ({}, {"typed_name": "\u200b…"}, "name_missing"),
        ({}, {"typed_name": "x" * 201}, "name_long"),
    ],
)
def test_each_thing_that_is_missing_is_refused(ceremony: dict[str, Any], sitting: dict[str, Any], code: str) -> None:
    with pytest.raises(PortalError) as caught:
        rules.check_signable(replace(CEREMONY, **ceremony), replace(SITTING, **sitting), NOW)
    assert caught.value.code == code
    assert isinstance(caught.value, Invalid if caught.value.field else Conflict)


PLAN = Plan(Materiality.MATERIAL, NOW, NOW + DAY, Materiality.CLARIFYING, NOW - DAY, declared=False)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"materiality": Materiality.EDITORIAL}, "materiality"),
        ({"after": NOW}, "effective_at"),
        ({"effective_at": NOW - timedelta(hours=1)}, "effective_at"),
        ({"required_by": NOW - timedelta(seconds=1)}, "required_by"),
        ({}, None),
        ({"effective_at": NOW - timedelta(hours=1), "declared": True}, None),
        ({"after": None}, None),
    ],
)
def test_weight_and_dates_of_a_version_have_to_fit(changed: dict[str, Any], field: str | None) -> None:
    if field is None:
        rules.check_plan(replace(PLAN, **changed), NOW)
        return
    with pytest.raises(Invalid) as caught:
        rules.check_plan(replace(PLAN, **changed), NOW)
    assert caught.value.field == field


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


def test_a_notice_says_what_is_asked() -> None:
    words: dict[str, str] = {
        "title": "License", "number": "2.0", "effective_on": "2026-12-01", "required_on": "2027-01-01",
        "summary": "New.", "page": "https://x/licenses/l/2.0",
    }  # fmt: skip
    material = rules.compose_notice(materiality=Materiality.MATERIAL, **words)
    assert "sign by 2027-01-01" in material
    assert material.endswith("https://x/licenses/l/2.0/sign\n")
    light = rules.compose_notice(materiality=Materiality.CLARIFYING, **words)
    assert "nothing you have to do" in light
    assert "/sign" not in light


def test_languages_have_names() -> None:
    assert rules.language_name("zh") == "Chinese"
    assert rules.language_name("xx") == "xx"
