"""What strikes weigh, how long, and what they suggest."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from portal.strikes import rules
from portal.strikes.rules import LADDER, WINDOW, Intent, StrikeFact

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
FACTS = st.builds(
    StrikeFact, st.integers(1, 40), st.integers(-400, 1).map(lambda days: NOW + timedelta(days=days)), st.booleans()
)


@given(st.lists(FACTS, max_size=8))
def test_the_score_is_that_of_the_strikes_of_a_year_that_were_not_overruled(given: list[StrikeFact]) -> None:
    counted = [s.weight for s in given if not s.overruled and s.at <= NOW < s.at + WINDOW]
    assert rules.score(given, NOW) == sum(counted)


def test_a_strike_weighs_its_gravest_clause_times_the_intent() -> None:
    keys = ["restriction.undisclosed_machine_text", "restriction.exploiting_minors"]
    assert [rules.weight(keys, intent) for intent in Intent] == [0, 10, 20, 40]
    assert rules.weight(["duty.mark_changes"], Intent.NEGLIGENT) == 1
    assert rules.weight([], Intent.ORGANIZED) == 0
    assert all(1 <= weight <= 10 for weight in rules.WEIGHTS.values())


def test_each_rung_is_suggested_from_its_score_on() -> None:
    assert rules.suggested(0) is None
    for rung in LADDER:
        assert rules.suggested(rung.score) == rung
    assert [rung.score for rung in LADDER] == [1, 5, 10, 20, 40]
