"""The life of a case, who may work on it and for how long, and which one comes first."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.cases import rules
from portal.cases.rules import CASE, LEASE, CaseAction, CaseState, Lease, Severity
from portal.core.errors import Conflict, Invalid, Refused

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)


def test_only_new_evidence_opens_a_decided_case_and_nothing_leaves_the_table() -> None:
    for state in (CaseState.DECIDED, CaseState.CLOSED):
        assert CASE.next(state, CaseAction.REOPEN) is CaseState.OPEN
        for action in set(CaseAction) - {CaseAction.REOPEN, CaseAction.CLOSE}:
            with pytest.raises(Conflict):
                CASE.next(state, action)
    for state in rules.WAITING:
        with pytest.raises(Conflict):
            CASE.next(state, CaseAction.CLOSE)
    with pytest.raises(Conflict):
        CASE.next(CaseState.OPEN, CaseAction.DECIDE)


def test_a_lease_is_compared_with_the_clock() -> None:
    lease = Lease(1, NOW + LEASE)
    rules.check_lease(lease, by_user=1, now=NOW + LEASE - timedelta(microseconds=1))
    rules.check_claim(lease, by_user=2, now=NOW + LEASE)
    with pytest.raises(Conflict) as caught:
        rules.check_claim(lease, by_user=2, now=NOW)
    assert caught.value.code == "case_held"
    for holder, at in ((1, NOW + LEASE), (2, NOW)):
        with pytest.raises(Conflict) as caught:
            rules.check_lease(lease, by_user=holder, now=at)
        assert caught.value.code == "lease_lost"
    with pytest.raises(Conflict):
        rules.check_lease(Lease(None, None), by_user=1, now=NOW)


@pytest.mark.threat("TM-34")
@pytest.mark.parametrize(
    ("involved", "mine", "theirs", "code"),
    [
        ({"usr_a"}, "", "", "not_uninvolved"),
        (set(), "University of X", "university  of x ", "own_institution"),
        (set(), "", "", ""), (set(), "X", "Y", ""), ({"usr_b"}, "X", "", ""),
    ],
)  # fmt: skip
def test_nobody_looks_into_what_they_took_part_in_or_their_own_institution(
    involved: set[str], mine: str, theirs: str, code: str
) -> None:
    given = {"by": "usr_a", "involved": involved, "by_institution": mine, "institution": theirs}
    if not code:
        rules.check_uninvolved(**given)  # type: ignore[arg-type]
        return
    with pytest.raises(Refused) as caught:
        rules.check_uninvolved(**given)  # type: ignore[arg-type]
    assert caught.value.code == code


@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 10_000))
def test_more_of_anything_never_comes_later(severity: int, confidence: int, reach: int) -> None:
    here = rules.rank(severity, confidence, reach)
    assert here >= 1
    assert rules.rank(severity + 1, confidence, reach) > here
    assert rules.rank(severity, confidence + 1, reach) > here
    assert rules.rank(severity, confidence, reach + 1) >= here


def test_the_gravest_is_due_first() -> None:
    due = [rules.due_at(level, NOW) for level in sorted(Severity, reverse=True)]
    assert due == sorted(due)
    assert len(set(due)) == len(due)


@pytest.mark.parametrize("words", ["", " \n", "x" * 5_001, "a\0b", "\ud800"])
def test_a_note_is_words_that_can_be_kept(words: str) -> None:
    with pytest.raises(Invalid) as caught:
        rules.check_note(words)
    assert caught.value.field == "words"
    assert rules.check_note(" one\r\ntwo ") == "one\ntwo"
