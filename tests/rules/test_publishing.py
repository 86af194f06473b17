"""What a version needs before it is approved, dated, put in force and retired."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from portal.core.errors import Conflict, Invalid, PortalError, Refused
from portal.licensing.rules import NOTICE_MINIMUM, Materiality, VersionState
from portal.publishing import rules
from portal.publishing.rules import PREVIEW_LIFE, Plan, Previewed

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
DAY = timedelta(days=1)
PLAN = Plan(Materiality.MATERIAL, NOW, NOW + DAY, NOW - DAY)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"after": NOW}, "effective_at"),
        ({"effective_at": NOW - timedelta(hours=1)}, "effective_at"),
        ({"required_by": NOW - timedelta(seconds=1)}, "required_by"),
        ({}, None),
        ({"effective_at": NOW - timedelta(hours=1), "declared": True}, None),
        ({"after": None}, None),
    ],
)
def test_the_dates_of_a_version_have_to_fit(changed: dict[str, Any], field: str | None) -> None:
    if field is None:
        rules.check_plan(replace(PLAN, **changed), NOW)
        return
    with pytest.raises(Invalid) as caught:
        rules.check_plan(replace(PLAN, **changed), NOW)
    assert caught.value.field == field


def test_signers_hear_of_a_version_a_while_before_it_is_in_force() -> None:
    at = NOW + NOTICE_MINIMUM
    rules.check_dates(replace(PLAN, effective_at=at, required_by=at), NOW)
    soon = replace(PLAN, effective_at=at - timedelta(seconds=1), required_by=at)
    with pytest.raises(Invalid) as caught:
        rules.check_dates(soon, NOW)
    assert caught.value.code == "effective_soon"


def test_a_date_rests_on_a_preview_of_the_same_day_over_the_same() -> None:
    at = NOW + NOTICE_MINIMUM
    plan, seen = replace(PLAN, effective_at=at, required_by=at), Previewed(NOW - PREVIEW_LIFE, "a", "a")
    rules.check_schedule(plan, NOW, seen)
    second = timedelta(seconds=1)
    wrong_ones = {"preview_old": replace(seen, at=seen.at - second), "preview_other": replace(seen, now_sha256="b")}
    for error, wrong in wrong_ones.items():
        with pytest.raises(Conflict) as caught:
            rules.check_schedule(plan, NOW, wrong)
        assert caught.value.code == error
    with pytest.raises(Invalid):
        rules.check_schedule(replace(plan, effective_at=at - second), NOW, seen)


def test_only_a_first_or_immediate_version_comes_into_force_at_once_and_for_a_reason() -> None:
    immediate = replace(PLAN, materiality=Materiality.MATERIAL_IMMEDIATE, required_by=NOW)
    rules.check_publish_now(immediate, "A flaw is used right now.", NOW)
    rules.check_publish_now(replace(PLAN, after=None), "The first.", NOW)
    with pytest.raises(Conflict, match="Schedule this one"):
        rules.check_publish_now(PLAN, "I am in a hurry.", NOW)
    for reason in (" ", "x" * 4_001, "a\0b"):
        with pytest.raises(Invalid) as caught:
            rules.check_publish_now(immediate, reason, NOW)
        assert caught.value.field == "reason"


def test_whoever_had_a_hand_in_a_version_does_not_approve_it() -> None:
    rules.check_approver("usr_b", {"usr_a"})
    with pytest.raises(Refused):
        rules.check_approver("usr_a", {"usr_a", "system"})


def test_the_weight_is_at_least_the_floor_unless_two_people_agreed() -> None:
    rules.check_weight(Materiality.MATERIAL, Materiality.CLARIFYING, agreed=False)
    rules.check_weight(Materiality.EDITORIAL, Materiality.MATERIAL, agreed=True)
    with pytest.raises(Invalid) as caught:
        rules.check_weight(Materiality.EDITORIAL, Materiality.CLARIFYING, agreed=False)
    assert caught.value.code == "materiality_low"


def test_a_version_that_is_asked_for_is_not_retired() -> None:
    rules.check_retire(VersionState.SUPERSEDED, [])
    rules.check_retire(VersionState.APPROVED, [])
    for state, asked in ((VersionState.SUPERSEDED, ["lab/model"]), (VersionState.IN_FORCE, []),
                         (VersionState.SCHEDULED, [])):  # fmt: skip
        with pytest.raises(PortalError):
            rules.check_retire(state, asked)


def test_a_notice_says_what_is_asked() -> None:
    words: dict[str, str] = {
        "title": "License", "number": "2.0", "effective_on": "2026-12-01", "required_on": "2027-01-01",
        "summary": "New.", "page": "https://x/licenses/l/2.0",
    }  # fmt: skip
    material = rules.compose_notice(materiality=Materiality.MATERIAL, **words)
    assert "sign before 2027-01-01" in material
    assert material.endswith("https://x/licenses/l/2.0/sign\n")
    light = rules.compose_notice(materiality=Materiality.CLARIFYING, **words)
    assert "nothing you have to do" in light
    assert "/sign" not in light


def test_who_was_told_of_a_version_hears_that_it_is_called_off() -> None:
    words = rules.compose_cancelled(title="License", number="2.0", page="https://x/licenses/l")
    assert "version 2.0 of the License" in words
    assert "called off" in words
