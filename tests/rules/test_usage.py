"""What a use costs, what a person may use in a day, and the lines that say so."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from portal.core.errors import Invalid
from portal.usage.rules import (
    HIGHEST_LIMIT,
    Counters,
    Limits,
    Outcome,
    Used,
    check_limits,
    counts_as_call,
    day_of,
    exceeded,
    plain,
    seconds_to_midnight,
    use_finished,
    use_opened,
)  # fmt: skip

NOON = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
TODAY = "2026-11-02"


def test_a_day_is_a_day_in_utc() -> None:
    assert day_of(datetime.fromisoformat("2026-11-03T00:30:00+02:00")) == TODAY
    assert seconds_to_midnight(NOON) == 12 * 3600 + 1


@pytest.mark.parametrize(
    ("used", "tokens", "code"),
    [
        (Used(), 10, None),
        (Used(1, 0), 10, None),
        (Used(2, 0), 1, "quota_calls"),
        (Used(0, 91), 10, "quota_text_tokens"),
        (Used(0, 90), 10, None),
        (Used(2, 100), 1, "quota_calls"),
    ],
)
def test_a_limit_is_what_may_still_be_used(used: Used, tokens: int, code: str | None) -> None:
    assert exceeded(used, Limits(2, 100), text_tokens=tokens) == code


@pytest.mark.parametrize(("calls", "tokens", "field"), [(-1, 0, "calls"), (0, HIGHEST_LIMIT + 1, "text_tokens")])
def test_limits_are_in_a_range(calls: int, tokens: int, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_limits(calls, tokens)
    assert caught.value.field == field


def test_limits_may_be_nothing_and_much() -> None:
    check_limits(0, HIGHEST_LIMIT)


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("tokens", [0, 5])
def test_what_no_engine_worked_for_costs_nothing(outcome: Outcome, tokens: int) -> None:
    free = {Outcome.REFUSED, Outcome.INVALID, Outcome.OVERLOADED}
    expected = outcome not in free and not (outcome is Outcome.ENGINE_LOST and tokens == 0)
    assert counts_as_call(outcome, tokens) is expected


@pytest.mark.parametrize(
    ("asked", "kept"),
    [("lab/model", "lab/model"), ("a\0b\nc", "a?b?c"), ("x" * 300, "x" * 200), ("\ud800", "?"), ("模型/é", "模型/é")],
)
def test_a_name_as_asked_becomes_one_that_can_be_kept(asked: str, kept: str) -> None:
    assert plain(asked) == kept


def test_the_line_that_ends_a_use_says_all_that_began_it() -> None:
    opened = use_opened(
        request_id="req_1", at=NOON, action="infer", channel="inference", model_name="lab/model", user_id=3,
        access_token_id=4, release_id=5, signature_ids=(9, 7), card_revision_id=6, reserved=40,
    )  # fmt: skip
    assert (opened["kind"], opened["signature_ids"], opened["reserved"]) == ("use_opened", [7, 9], 40)
    later = NOON + timedelta(seconds=2)
    finished = use_finished(
        opened, at=later, outcome=Outcome.FINISHED, reason_code="x", prompt_tokens=1, completion_tokens=2, bytes_sent=3,
        ms=4,
    )  # fmt: skip
    assert finished["kind"] == "use_finished"
    assert finished["at"] == later.isoformat()
    assert finished["started_at"] == NOON.isoformat()
    assert {k: v for k, v in finished.items() if k in opened} == {
        **opened,
        "kind": "use_finished",
        "at": finished["at"],
    }
    assert (finished["outcome"], finished["prompt_tokens"], finished["bytes_sent"]) == ("finished", 1, 3)


def test_counting_starts_with_what_was_recorded() -> None:
    counters = Counters()
    counters.load([(1, TODAY, 3, 100), (2, TODAY, 9, 9), (1, "2026-11-01", 50, 50)])
    assert counters.used(1, NOON) == Used(3, 100)
    assert counters.used(3, NOON) == Used()
    assert counters.used(1, NOON - timedelta(days=1)) == Used(50, 50)


def test_a_reservation_counts_until_it_is_settled() -> None:
    counters = Counters()
    assert counters.reserve(1, 60, Limits(5, 100), day_of(NOON)) is None
    assert counters.reserve(1, 60, Limits(5, 100), day_of(NOON)) == "quota_text_tokens"
    counters.settle(1, TODAY, 60, 10)
    assert counters.used(1, NOON) == Used(1, 10)
    assert counters.reserve(1, 60, Limits(5, 100), day_of(NOON)) is None
    counters.settle(1, TODAY, 60, 0, counts_as_call=False)
    assert counters.used(1, NOON) == Used(1, 10)
    assert counters.reserve(1, 1, Limits(1, 100), day_of(NOON)) == "quota_calls"


@pytest.mark.threat("TM-17")
def test_many_who_race_for_the_last_units_get_exactly_those() -> None:
    counters = Counters()
    barrier, got = threading.Barrier(50), []

    def take() -> None:
        barrier.wait()
        got.append(counters.reserve(1, 10, Limits(1000, 70), day_of(NOON)))

    threads = [threading.Thread(target=take) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got.count(None) == 7
    assert counters.used(1, NOON) == Used(7, 70)


def test_days_that_are_over_are_forgotten() -> None:
    counters = Counters()
    for back in (3, 2, 1, 0):
        assert counters.reserve(1, 5, Limits(), day_of(NOON - timedelta(days=back))) is None
    assert counters.used(1, NOON - timedelta(days=2)) == Used()
    assert counters.used(1, NOON - timedelta(days=1)) == Used(1, 5)
    counters.settle(1, "2026-11-01", 5, 2)
    assert counters.used(1, NOON - timedelta(days=1)) == Used(1, 2)
