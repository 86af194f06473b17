"""Effects of overlapping sanctions, who may decide, and what every notice says."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.core.errors import Conflict, Invalid, Refused
from portal.moderation import rules
from portal.moderation.rules import (
    AppealAction,
    AppealState,
    Citation,
    DecisionAction,
    DecisionState,
    Effects,
    NoticePreview,
    SanctionFact,
    SanctionKind,
)

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
HOURS = st.integers(-100, 100)


@st.composite
def sanctions(draw: st.DrawFn) -> list[SanctionFact]:
    spans = draw(st.lists(st.tuples(HOURS, st.integers(1, 100), st.booleans()), max_size=8))
    return [
        SanctionFact(
            f"san_{n}", SanctionKind.SUSPEND, NOW + timedelta(hours=start), NOW + timedelta(hours=start + length), gone
        )
        for n, (start, length, gone) in enumerate(spans)
    ]


@given(sanctions())
def test_effects_are_those_of_the_sanctions_in_force_alone(given: list[SanctionFact]) -> None:
    in_force = [s for s in given if not s.overturned and s.starts_at <= NOW < s.until]
    found = rules.effects(given, NOW)
    assert found == rules.effects(in_force, NOW)
    assert found.suspended_until == max((s.until for s in in_force), default=None)
    assert (found.sanction_ref is None) == (not in_force)
    if in_force:
        assert found.suspended_until is not None
        assert found.sanction_ref in {s.public_id for s in in_force if s.until == found.suspended_until}


@given(sanctions(), st.randoms(use_true_random=False))
def test_the_order_of_sanctions_and_of_reversals_does_not_matter(given: list[SanctionFact], random: object) -> None:
    shuffled = list(given)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert rules.effects(shuffled, NOW) == rules.effects(given, NOW)


@given(sanctions(), st.integers(0, 7))
def test_reversing_one_sanction_leaves_exactly_what_the_others_amount_to(given: list[SanctionFact], which: int) -> None:
    if which >= len(given):
        return
    one = given[which]
    reversed_ = SanctionFact(one.public_id, one.kind, one.starts_at, one.until, overturned=True)
    others = given[:which] + given[which + 1 :]
    assert rules.effects([*given[:which], reversed_, *given[which + 1 :]], NOW) == rules.effects(others, NOW)


@given(sanctions())
def test_no_suspension_outlasts_its_end_by_an_instant(given: list[SanctionFact]) -> None:
    until = rules.effects(given, NOW).suspended_until
    if until is not None:
        assert rules.effects([s for s in given if s.starts_at <= NOW], until) == Effects()
        assert rules.effects(given, until - timedelta(microseconds=1)).suspended_until is not None


def test_an_overturned_decision_and_an_answered_appeal_stay_so() -> None:
    assert rules.DECISION.next(DecisionState.IN_FORCE, DecisionAction.OVERTURN) is DecisionState.OVERTURNED
    with pytest.raises(Conflict):
        rules.DECISION.next(DecisionState.OVERTURNED, DecisionAction.OVERTURN)
    assert rules.APPEAL.next(AppealState.FILED, AppealAction.DECIDE) is AppealState.DECIDED
    with pytest.raises(Conflict):
        rules.APPEAL.next(AppealState.DECIDED, AppealAction.DECIDE)


@given(st.datetimes(datetime(2020, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)))
def test_the_window_to_appeal_is_183_days_and_ends_with_a_day(at: datetime) -> None:
    deadline = rules.appeal_deadline(at)
    assert timedelta(days=183) < deadline - at <= timedelta(days=184)
    assert (deadline.hour, deadline.minute, deadline.second, deadline.microsecond) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"clause_keys": []}, "clause"),
        ({"facts": " \n"}, "facts"),
        ({"facts": "x" * 5_001}, "facts"),
        ({"until": NOW}, "until"),
        ({"until": NOW - timedelta(days=1)}, "until"),
    ],
)
def test_an_order_names_the_field_at_fault(changed: dict[str, object], field: str) -> None:
    order = {"clause_keys": ["a.b"], "facts": "x", "until": NOW + timedelta(days=1), "now": NOW}
    rules.check_order(**order)  # type: ignore[arg-type]
    with pytest.raises(Invalid) as caught:
        rules.check_order(**{**order, **changed})  # type: ignore[arg-type]
    assert caught.value.field == field


def test_an_appeal_needs_words_time_and_a_standing_decision() -> None:
    late = NOW + timedelta(days=1)
    rules.check_appeal("x" * 2_000, state=DecisionState.IN_FORCE, appeal_by=late, now=NOW)
    for text in ("", " ", "x" * 2_001):
        with pytest.raises(Invalid) as caught:
            rules.check_appeal(text, state=DecisionState.IN_FORCE, appeal_by=late, now=NOW)
        assert caught.value.field == "text"
    with pytest.raises(Conflict, match="ended on 1 November 2026"):
        rules.check_appeal("x", state=DecisionState.IN_FORCE, appeal_by=datetime(2026, 11, 2, tzinfo=UTC), now=NOW)
    with pytest.raises(Conflict):
        rules.check_appeal("x", state=DecisionState.OVERTURNED, appeal_by=late, now=NOW)


def test_nobody_decides_about_themselves_and_admins_decide_about_staff() -> None:
    rules.check_may_order(by_user=1, user_id=2, concerns_staff=False, manages_staff=False)
    rules.check_may_order(by_user=1, user_id=2, concerns_staff=True, manages_staff=True)
    rules.check_may_order(by_user=None, user_id=2, concerns_staff=True, manages_staff=False)
    with pytest.raises(Refused) as caught:
        rules.check_may_order(by_user=2, user_id=2, concerns_staff=True, manages_staff=True)
    assert caught.value.code == "own_case"
    with pytest.raises(Refused) as caught:
        rules.check_may_order(by_user=1, user_id=2, concerns_staff=True, manages_staff=False)
    assert caught.value.code == "staff_case"


@pytest.mark.parametrize("reviewer", ["usr_decider", "usr_concerned"])
def test_an_involved_person_answers_no_appeal(reviewer: str) -> None:
    rules.check_reviewer(reviewer="usr_other", decided_by="usr_decider", concerned="usr_concerned")
    with pytest.raises(Refused) as caught:
        rules.check_reviewer(reviewer=reviewer, decided_by="usr_decider", concerned="usr_concerned")
    assert caught.value.code == "not_uninvolved"


def notice() -> str:
    clause = Citation(
        1, "restriction.malware", "A.13", "Malicious software", "You do not write it.\n\nNot even once.",
        "https://p.example/licenses/l/1.0.0#restriction.malware",
    )  # fmt: skip
    return rules.compose_notice(
        ref="san_x", base_url="https://p.example", signed="The License, version 1.0.0, on 1 October 2026",
        citations=[clause], facts="Line one.\r\nLine two.\n", until=datetime(2026, 12, 1, tzinfo=UTC),
        appeal_by=datetime(2027, 5, 5, tzinfo=UTC),
    )  # fmt: skip


def test_a_notice_says_what_until_when_why_who_and_how_to_contest() -> None:
    text = notice()
    for part in (
        "suspended until 1 December 2026, 00:00 UTC",
        "The License, version 1.0.0, on 1 October 2026",
        "A.13 Malicious software\n> You do not write it.\n>\n> Not even once.\n",
        "https://p.example/licenses/l/1.0.0#restriction.malware",
        "Line one.\nLine two.",
        "A person decided this. No part of the decision was automated.",
        "You can sign in",
        "https://p.example/appeal/san_x until the end of 4 May 2027 (UTC)",
    ):
        assert part in text
    assert "\r" not in text


def test_the_digest_of_a_notice_covers_every_word() -> None:
    preview = NoticePreview("san_x", notice(), NOW, NOW, 1, 1, ())
    assert preview.sha256 == sha256(notice().encode()).hexdigest()


def test_a_correction_says_what_is_left() -> None:
    free = rules.compose_correction(
        ref="san_x", base_url="https://p.example", reason="Wrong person.", suspended_until=None
    )
    assert "Wrong person." in free
    assert "active again" in free
    held = rules.compose_correction(ref="san_x", base_url="https://p.example", reason="Wrong.", suspended_until=NOW)
    assert "stays suspended until 2 November 2026" in held


def test_the_next_reference_moves_with_each_decision_and_person() -> None:
    refs = {rules.sanction_ref(signature, n) for signature in ("sig_a", "sig_b") for n in range(50)}
    assert len(refs) == 100
    assert all(ref.startswith("san_") and len(ref) == 20 for ref in refs)
    assert rules.sanction_ref("sig_a", 3) == rules.sanction_ref("sig_a", 3)
