"""What a person may order about whom, how a decision stands by the clock, and how a reversal reads."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.appeals import rules as appeals
from portal.appeals.rules import AppealAction, AppealState
from portal.core.errors import Conflict, Invalid, Refused
from portal.moderation import rules
from portal.moderation.rules import DecisionAction, DecisionState, Finding, Order, Phase
from portal.sanctions.rules import Effects, Measure, SanctionFact, SanctionKind
from portal.strikes.rules import Intent

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
SUSPEND = Measure(SanctionKind.SUSPEND, NOW + DAY)
CLOSE = Measure(SanctionKind.CLOSE, None)


def test_an_overturned_decision_and_an_answered_appeal_stay_so() -> None:
    assert rules.DECISION.next(DecisionState.IN_FORCE, DecisionAction.OVERTURN) is DecisionState.OVERTURNED
    with pytest.raises(Conflict):
        rules.DECISION.next(DecisionState.OVERTURNED, DecisionAction.OVERTURN)
    for action in AppealAction:
        with pytest.raises(Conflict):
            appeals.APPEAL.next(AppealState.DECIDED, action)
    asked = appeals.APPEAL.next(AppealState.FILED, AppealAction.ASK)
    assert appeals.APPEAL.next(asked, AppealAction.REPLY) is AppealState.FILED


def order(**changed: Any) -> Order:
    given = {"finding": Finding.VIOLATION, "clause_keys": ("a.b",), "facts": "x", "measures": (SUSPEND,)}
    return Order(**{**given, **changed})


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"clause_keys": ()}, "clause"), ({"facts": " \n"}, "facts"), ({"facts": "x" * 5_001}, "facts"),
        ({"facts": "x\0"}, "facts"), ({"facts": "\ud800"}, "facts"),
        ({"measures": (Measure(SanctionKind.SUSPEND, NOW),)}, "until"),
        ({"measures": (Measure(SanctionKind.SUSPEND, None),)}, "until"),
        ({"measures": (Measure(SanctionKind.CLOSE, NOW + DAY),)}, "until"),
        ({"measures": (SUSPEND,) * 9}, "kind"), ({"strike": True}, "intent"),
        ({"finding": Finding.NONE}, "finding"), ({"finding": Finding.INCONCLUSIVE, "measures": ()}, None),
        ({"measures": (Measure(SanctionKind.LIMIT_ACTION, NOW + DAY),)}, "action"),
        ({"measures": (Measure(SanctionKind.SUSPEND_ENTITLEMENT, NOW + DAY),)}, "target"),
        ({"measures": (Measure(SanctionKind.FREEZE_ACCESS_TOKEN, NOW + DAY, "mod_x"),)}, "target"),
        ({"measures": (Measure(SanctionKind.THROTTLE, NOW + DAY),)}, "calls"),
        ({"measures": (Measure(SanctionKind.THROTTLE, NOW + DAY, calls=-1, text_tokens=1),)}, "calls"),
    ],
)  # fmt: skip
def test_an_order_names_the_field_at_fault(changed: dict[str, object], field: str | None) -> None:
    rules.check_order(order(), now=NOW)
    if field is None:
        rules.check_order(order(**changed), now=NOW)
        return
    with pytest.raises(Invalid) as caught:
        rules.check_order(order(**changed), now=NOW)
    assert caught.value.field == field


@pytest.mark.invariant("INV-17")
@pytest.mark.parametrize("kind", [SanctionKind.CLOSE, SanctionKind.REVOKE_ENTITLEMENT])
def test_no_program_orders_what_has_no_end_and_no_person_alone(kind: SanctionKind) -> None:
    target = "mod_x" if kind is SanctionKind.REVOKE_ENTITLEMENT else ""
    permanent = order(measures=(Measure(kind, None, target),))
    rules.check_order(permanent, now=NOW)
    assert permanent.needs_two
    assert not order().needs_two
    with pytest.raises(Invalid) as caught:
        rules.check_order(permanent, now=NOW, interim=True)
    assert caught.value.code == "never_interim"


def test_what_two_people_agree_on_reads_back_and_covers_everything() -> None:
    given = order(measures=(CLOSE, SUSPEND), intent=Intent.KNOWING, strike=True)
    body = rules.payload(given, person="usr_x", state=["active"])
    assert rules.order_of(body) == given
    for other in (
        order(measures=(CLOSE,)),
        order(facts="y"),
        order(clause_keys=("a.c",)),
        order(intent=Intent.KNOWING),
    ):
        assert rules.payload(other, person="usr_x", state=["active"]) != body
    assert rules.payload(given, person="usr_y", state=["active"]) != body
    assert rules.payload(given, person="usr_x", state=["suspended"]) != body


@given(st.integers(-5, 5), st.integers(1, 5), st.one_of(st.none(), st.integers(-5, 5)), st.booleans())
def test_how_a_decision_stands_follows_from_its_times(start: int, length: int, lapses: int | None, over: bool) -> None:
    begins = NOW + start * DAY
    fact = SanctionFact("san_x", SanctionKind.SUSPEND, begins, begins + length * DAY)
    state = DecisionState.OVERTURNED if over else DecisionState.IN_FORCE
    lapses_at = None if lapses is None else NOW + lapses * DAY
    found = rules.phase_at(state, [fact], lapses_at, NOW)
    if over:
        assert found is Phase.OVERTURNED
    elif lapses_at is not None:
        assert found is (Phase.INTERIM if lapses_at > NOW else Phase.LAPSED)
    else:
        assert found is (Phase.IN_FORCE if fact.holds(NOW) else Phase.SERVED)


def test_an_appeal_needs_words_time_and_a_standing_decision() -> None:
    late = NOW + DAY
    appeals.check_appeal("x" * 2_000, stands=True, appeal_by=late, now=NOW)
    for text in ("", " ", "x" * 2_001):
        with pytest.raises(Invalid) as caught:
            appeals.check_appeal(text, stands=True, appeal_by=late, now=NOW)
        assert caught.value.field == "text"
    with pytest.raises(Conflict, match="ended on 1 November 2026"):
        appeals.check_appeal("x", stands=True, appeal_by=datetime(2026, 11, 2, tzinfo=UTC), now=NOW)
    with pytest.raises(Conflict):
        appeals.check_appeal("x", stands=False, appeal_by=late, now=NOW)


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


def test_what_is_made_milder_ends_and_never_later_than_before() -> None:
    assert rules.milder(CLOSE, NOW + DAY) == Measure(SanctionKind.SUSPEND, NOW + DAY)
    revoked = Measure(SanctionKind.REVOKE_ENTITLEMENT, None, "mod_x")
    assert rules.milder(revoked, NOW + DAY) == Measure(SanctionKind.SUSPEND_ENTITLEMENT, NOW + DAY, "mod_x")
    assert rules.milder(SUSPEND, NOW + 9 * DAY) == SUSPEND


def test_a_correction_says_what_is_left() -> None:
    def left(effects: Effects, others: int = 0) -> str:
        return rules.compose_correction(
            ref="dec_x", base_url="https://p.example", reason="Wrong.", left=effects, others=others
        )

    assert "work as before" in left(Effects())
    assert "still restrict something" in left(Effects(), 1)
    assert "stays suspended until 2 November 2026" in left(Effects(None, NOW, "san_x"), 1)
    assert "stays closed" in left(Effects("san_x"), 1)
