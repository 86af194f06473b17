"""Published figures: counted right, small ones kept back, and nothing from which those could be told."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.core import sheets
from portal.licensing.rules import ReviewFinding
from portal.transparency import rules
from portal.transparency.rules import Answered, Counted, Happened, SecondLooks, compose, second_looks, shown

NOW = datetime(2026, 11, 20, tzinfo=UTC)
SPAM = Counted("restriction.spam", "suspend", "rule", "detected")


def answers(*outcomes: str, hours: int = 10, late: bool = False) -> list[Answered]:
    due = NOW + timedelta(hours=hours - 1 if late else hours + 1)
    return [Answered(NOW, due, NOW + timedelta(hours=hours), outcome) for outcome in outcomes]


@given(st.integers(0, 1000))
def test_a_figure_from_one_to_four_is_kept_back(count: int) -> None:
    assert shown(count) == (None if 0 < count < 5 else count)


def test_sanctions_are_counted_by_clause_kind_origin_and_how_automated_they_were() -> None:
    other = Counted("restriction.harm", "throttle", "report", "none")
    report = compose("2026-11", Happened(sanctions=[SPAM] * 6 + [other] * 2))
    assert report["sanctions"] == [
        {"clause": "restriction.harm", "sanction": "throttle", "origin": "report", "automated": "none", "count": None},
        {"clause": "restriction.spam", "sanction": "suspend", "origin": "rule", "automated": "detected", "count": 6},
    ]


def test_appeals_are_counted_with_how_long_they_took() -> None:
    found = answers("overturned", hours=1) * 5 + answers("upheld", hours=20) * 4 + answers("varied", hours=9, late=True)
    appeals = compose("2026-11", Happened(appeals_filed=12, answered=found))["appeals"]
    assert (appeals["filed"], appeals["answered"], appeals["overturned"], appeals["varied"]) == (12, 10, 5, None)
    assert (appeals["median_minutes"], appeals["p95_minutes"], appeals["late"]) == (60, 1200, None)
    assert appeals["overturned_percent"] == 50


@pytest.mark.parametrize(("outcomes", "percent"), [
    (["overturned"] + ["upheld"] * 9, None), (["upheld"] * 9, 0), (["upheld"] * 4, None), ([], None),
])  # fmt: skip
def test_a_share_does_not_tell_a_figure_that_is_kept_back(outcomes: list[str], percent: int | None) -> None:
    appeals = compose("2026-11", Happened(answered=answers(*outcomes)))["appeals"]
    assert appeals["overturned_percent"] == percent


def test_the_quantile_is_one_of_the_waits_and_too_few_have_none() -> None:
    waits = [timedelta(minutes=n) for n in range(1, 101)]
    assert [rules.quantile(waits, p) for p in (50, 95, 100, 0)] == [50, 95, 100, 1]
    assert rules.quantile(waits[:4], 50) is None
    first = compose("2026-11", Happened(first_actions=waits))["first_action"]
    assert first == {"cases": 100, "median_minutes": 50, "p95_minutes": 95}


def _numbers(value: Any) -> list[int]:
    if isinstance(value, dict):
        return [n for name, one in value.items() if not name.endswith(("minutes", "percent")) for n in _numbers(one)]
    if isinstance(value, list):
        return [n for one in value for n in _numbers(one)]
    return [value] if isinstance(value, int) else []


@given(
    st.lists(st.sampled_from(["upheld", "varied", "overturned"]), max_size=12),
    st.lists(st.integers(0, 9), min_size=6, max_size=6),
)
@settings(deadline=None, max_examples=100)
def test_no_small_figure_ever_stands_in_a_report(outcomes: list[str], counts: list[int]) -> None:
    sanctions, reports, answered, right, public, github = counts
    report = compose("2026-11", Happened(
        [SPAM] * sanctions, [timedelta(hours=1)] * sanctions, len(outcomes), answers(*outcomes), reports, answered,
        right, [("public", public), ("github", github)],
    ))  # fmt: skip
    assert not [n for n in _numbers(report) if 0 < n < 5]


@pytest.mark.threat("TM-31")
def test_rows_for_spreadsheets_are_shown_and_never_computed() -> None:
    report = compose(
        "2026-11", Happened([Counted("=1+1", "@x", "-y", "+z")] * 5, leaked=[("public", 0), ("github", 7)])
    )
    text = "".join(sheets.lines(rules.rows(report)))
    head, first, *rest = text.splitlines()
    assert head == "month,figure,clause,sanction,origin,automated,value"
    assert first == "2026-11,Sanctions,'=1+1,'@x,'-y,'+z,5"
    assert rest[-1] == "2026-11,Access tokens ended because secret scanning found them,,,,,7"
    assert len(rest) == len(rules.figures(report)) == 16


def test_months_follow_each_other() -> None:
    assert rules.bounds("2026-12") == (datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    assert (rules.following("2026-12"), rules.following("2027-01")) == ("2027-01", "2027-02")
    assert rules.month_of(datetime(2027, 1, 1, tzinfo=UTC) - timedelta(microseconds=1)) == "2026-12"


def test_second_looks_are_counted_by_when_they_were_taken_and_by_what_they_found() -> None:
    early, instant = NOW - timedelta(days=1), timedelta(microseconds=1)
    rows = [
        (NOW, NOW, ReviewFinding.STANDS), (early, NOW, ReviewFinding.REPLACE), (NOW, early, ReviewFinding.STANDS),
        (NOW, None, None), (NOW + instant, None, None),
    ]  # fmt: skip
    assert second_looks(rows, NOW) == SecondLooks(5, 2, 1, 1, 1, 2, 1)
    assert second_looks([], NOW) == SecondLooks(0, 0, 0, 0, 0, 0, 0)
