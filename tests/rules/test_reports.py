"""What a report has to say, whose word weighs how much, and what its reporter is told."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.adapters.puzzles import LIFE, MOST, Puzzles
from portal.cases.rules import Severity
from portal.core.clock import utcnow
from portal.core.errors import Conflict, Invalid, TooMany
from portal.reports import rules
from portal.reports.rules import REPORT, ReportAction, ReportOutcome, ReportState, check_told
from tests.solving import solve

GOOD: dict[str, Any] = {
    "locator": " https://news.example/1 ", "explanation": "It says\r\nthat the vote was moved.", "clause": "a.b",
    "name": "", "email": "Reader@Example.org", "good_faith": True, "clauses": ["a.b"],
}  # fmt: skip


def test_a_report_is_kept_in_the_shape_of_all_others() -> None:
    told = check_told(**GOOD)
    assert (told.locator, told.explanation) == ("https://news.example/1", "It says\nthat the vote was moved.")
    assert told.email == "reader@example.org"


@pytest.mark.parametrize(("field", "value"), [
    ("locator", " "), ("locator", "x" * 1001), ("locator", "x\0"), ("explanation", "too short"),
    ("explanation", "x" * 5001), ("explanation", "x" * 30 + "\ud800"), ("clause", "no.such"), ("good_faith", False),
    ("email", ""), ("email", "nobody"), ("name", "x" * 201),
])  # fmt: skip
def test_what_is_wrong_names_its_field(field: str, value: Any) -> None:
    with pytest.raises(Invalid) as caught:
        check_told(**{**GOOD, field: value})
    assert caught.value.field == field


def test_a_report_moves_as_its_table_says() -> None:
    attached = REPORT.next(REPORT.start, ReportAction.ATTACH)
    assert REPORT.next(attached, ReportAction.ANSWER) is ReportState.ANSWERED
    with pytest.raises(Conflict):
        REPORT.next(ReportState.ANSWERED, ReportAction.ATTACH)


@pytest.mark.threat("TM-36")
@given(st.integers(0, 10_000), st.integers(0, 10_000), st.booleans())
@settings(deadline=None, max_examples=100)
def test_weight_rises_with_what_was_borne_out_and_falls_with_what_was_not(yes: int, no: int, proved: bool) -> None:
    now = rules.weight(borne_out=yes, unfounded=no, proved=proved)
    assert 0 <= now <= 100
    assert rules.weight(borne_out=yes + 1, unfounded=no, proved=proved) >= now
    assert rules.weight(borne_out=yes, unfounded=no + 1, proved=proved) <= now
    assert rules.weight(borne_out=yes, unfounded=no, proved=False) <= rules.NEUTRAL


@pytest.mark.threat("TM-36")
def test_only_somebody_often_right_makes_a_case_severe() -> None:
    assert rules.severity(rules.weight(borne_out=0, unfounded=0, proved=True)) is Severity.MEDIUM
    assert rules.severity(rules.weight(borne_out=3, unfounded=0, proved=True)) is Severity.HIGH
    assert rules.severity(rules.weight(borne_out=3, unfounded=0, proved=False)) is Severity.MEDIUM
    assert rules.severity(rules.weight(borne_out=0, unfounded=3, proved=True)) is Severity.LOW


def test_the_same_place_outside_is_one_however_it_is_written() -> None:
    one = rules.elsewhere("https://www.News.example/Story/1/")
    assert one == rules.elsewhere("news.example/story/1") == rules.elsewhere(" HTTP://news.example/story/ 1 ")
    assert one != rules.elsewhere("news.example/story/2")


def test_a_network_reports_so_often_an_hour() -> None:
    rules.check_pace(rules.PER_NETWORK - 1)
    with pytest.raises(TooMany):
        rules.check_pace(rules.PER_NETWORK)


def test_mails_say_what_came_of_it_and_repeat_nothing_that_was_written() -> None:
    for outcome in ReportOutcome:
        assert "rep_1" in rules.compose_answer(base_url="https://p.example", ref="rep_1", outcome=outcome)
    assert "/report/confirm/s3" in rules.compose_confirm(base_url="https://p.example", secret="s3")
    assert "rep_1" in rules.compose_received(base_url="https://p.example", ref="rep_1")


def test_a_piece_of_work_is_solved_once_done_and_only_by_its_own_answer() -> None:
    now, puzzles = utcnow(), Puzzles(b"p" * 32)
    work, other = puzzles.make(now), puzzles.make(now)
    answer = solve(work)
    name = puzzles.solved(answer)
    assert name is not None
    assert name in work
    assert name not in other
    assert Puzzles(b"q" * 32).solved(answer) is None
    assert puzzles.solved(solve(puzzles.make(now - LIFE - timedelta(seconds=2)))) is None


@pytest.mark.parametrize("change", [
    {"number": -1}, {"number": MOST + 1}, {"number": "1"}, {"number": True}, {"number": None}, {"salt": "x"},
    {"salt": 1}, {"signature": "\u00e9"}, {"signature": ""}, {"challenge": "0" * 64}, {"algorithm": "SHA-1"},
    {"algorithm": []},
])  # fmt: skip
def test_an_answer_changed_in_any_field_solves_nothing(change: dict[str, Any]) -> None:
    puzzles = Puzzles(b"p" * 32)
    work = puzzles.make(utcnow())
    assert puzzles.solved(solve(work, **change)) is None


@pytest.mark.parametrize("answer", ["", "x", "é", "bnVsbA==", "W10=", "e30=", "MQ==", "/w==", "W1tb" * 50_000])
def test_what_is_no_answer_solves_nothing(answer: str) -> None:
    assert Puzzles(b"p" * 32).solved(answer) is None
