"""Published figures: counted right, small ones kept back."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from portal.licensing.rules import ReviewFinding
from portal.moderation.rules import AppealOutcome
from portal.transparency.rules import SecondLooks, figures, second_looks, suppressed

NOW = datetime(2026, 11, 20, tzinfo=UTC)


@given(st.integers(0, 1000))
def test_a_figure_from_one_to_four_is_kept_back(count: int) -> None:
    assert suppressed(count) == (None if 0 < count < 5 else count)


def test_sanctions_are_counted_by_clause_and_month() -> None:
    october, november = datetime(2026, 10, 31, 23, 59, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
    found = figures([("a", october)] * 5 + [("a", november)] * 2 + [("b", november)] * 7, [], NOW)
    assert found.months == ("2026-10", "2026-11")
    assert found.by_clause == (("a", (5, None)), ("b", (0, 7)))
    assert (found.filed, found.overturned, found.median_hours, found.late) == (0, 0, None, 0)


def test_appeals_are_counted_with_their_median_and_lateness() -> None:
    def appeal(hours: int | None, outcome: AppealOutcome | None, days: int = 10) -> tuple:  # type: ignore[type-arg]
        filed = NOW - timedelta(days=days)
        answered = filed + timedelta(hours=hours) if hours is not None else None
        return filed, filed + timedelta(days=7), answered, outcome

    rows = [appeal(h, AppealOutcome.OVERTURNED) for h in (1, 2, 3, 4, 200)] + [appeal(None, None)] * 4
    rows += [appeal(None, None, days=1)]
    found = figures([], rows, NOW)
    assert (found.filed, found.overturned, found.median_hours, found.late) == (10, 5, 3.0, 5)
    assert figures([], rows[:4], NOW).median_hours is None


def test_second_looks_are_counted_by_when_they_were_taken_and_by_what_they_found() -> None:
    early, instant = NOW - timedelta(days=1), timedelta(microseconds=1)
    rows = [
        (NOW, NOW, ReviewFinding.STANDS), (early, NOW, ReviewFinding.REPLACE), (NOW, early, ReviewFinding.STANDS),
        (NOW, None, None), (NOW + instant, None, None),
    ]  # fmt: skip
    assert second_looks(rows, NOW) == SecondLooks(5, 2, 1, 1, 1, 2, 1)
    assert second_looks([], NOW) == SecondLooks(0, 0, 0, 0, 0, 0, 0)
