"""What becomes of a request while an engine works on it: exactly one ending, whoever leaves, dies or is cut off."""

from pathlib import Path
from typing import Any

import pytest

from gated_inference import gate, work
from gated_inference.servers import Server
from portal.access import edge
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.edge.address import Address
from portal.tokens import service as tokens
from portal.usage import service as usage
from portal.usage.rules import Limits, Outcome, Used
from tests.conduct import acting
from tests.edge.desk import GOOD, MODEL, STREAM, Desk, error, events, replay, settled, suspend, text, used, value, words
from tests.factories import Make
from tests.fakes import FakeEngine


def test_a_reader_that_leaves_ends_the_work(desk: Desk) -> None:
    desk.fake.behave = "stall"
    exchange = desk.stream(words=2)
    exchange.leave()
    assert desk.looping.until(desk.fake.left.is_set)
    line = desk.only()
    assert (line["outcome"], line["completion_tokens"]) == ("canceled", 2)
    assert used(desk) == Used(1, 4)
    settled(desk)


@pytest.mark.parametrize("behave", ["silent", "sleep"])
@pytest.mark.parametrize("body", [GOOD, STREAM], ids=["whole", "stream"])
def test_a_client_that_leaves_before_the_first_byte_ends_the_work(desk: Desk, behave: str, body: Any) -> None:
    desk.fake.behave = behave
    exchange = desk.send(body)
    desk.looping.until(lambda: desk.fake.calls)
    exchange.leave()
    assert desk.looping.until(desk.fake.left.is_set)
    assert (desk.only()["outcome"], desk.only()["completion_tokens"]) == ("canceled", 0)
    assert exchange.status == 0
    settled(desk)


def test_a_client_that_leaves_while_it_is_decided_about_asks_no_engine(desk: Desk) -> None:
    desk.send().leave()
    desk.looping.turn(0.1)
    assert (desk.fake.calls, desk.lines()) == ([], [])
    settled(desk)


def test_work_that_cannot_even_begin_gives_back_what_was_set_aside(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise OSError("no room")

    monkeypatch.setattr(desk.pool, "ask", broken)
    assert desk.ask().status == 500
    assert desk.only()["outcome"] == "crashed"
    settled(desk)


def test_a_client_that_takes_no_more_lets_the_engine_wait(desk: Desk) -> None:
    desk.fake.behave = "flood"
    exchange = desk.stream(words=1)
    exchange.pause()
    desk.looping.turn(0.05)
    before = len(exchange.pieces)
    desk.looping.turn(0.1)
    assert len(exchange.pieces) == before
    exchange.resume()
    desk.looping.until(lambda: len(exchange.pieces) > before)
    exchange.leave()
    assert desk.looping.until(desk.fake.left.is_set)
    settled(desk)


@pytest.mark.threat("TM-14")
@pytest.mark.parametrize("behave", ["slow", "stall"])
def test_suspension_cuts_a_running_stream(desk: Desk, behave: str) -> None:
    desk.fake.behave = behave
    exchange = desk.stream(words=1)
    suspend(desk)
    *_, choice, last = desk.rest(exchange)
    assert choice["choices"][0]["finish_reason"] == "content_filter"
    assert last["error"]["code"] == "standing_suspended"
    assert last["error"]["reasons"][0]["url"].endswith("/appeal/dec_1")
    assert desk.looping.until(desk.fake.left.is_set)
    line = desk.only()
    assert (line["outcome"], line["reason_code"]) == ("cut", "standing_suspended")
    assert line["completion_tokens"] >= 1
    settled(desk)


@pytest.mark.threat("TM-14")
def test_revoking_the_access_token_cuts_as_well(desk: Desk) -> None:
    desk.fake.behave = "slow"
    exchange = desk.stream(words=1)
    caller = desk.caller
    desk.write(lambda s: tokens.revoke(s, by=acting(caller.user), ref=caller.token.public_id, now=utcnow()))
    assert desk.rest(exchange)[-1]["error"]["code"] == "access_token_revoked"
    assert desk.only()["outcome"] == "cut"


@pytest.mark.threat("TM-14")
@pytest.mark.parametrize("body", [GOOD, STREAM], ids=["whole", "stream"])
def test_suspension_ends_work_that_has_not_answered_yet(desk: Desk, body: Any) -> None:
    desk.fake.behave = "silent"
    exchange = desk.send(body)
    desk.looping.until(lambda: desk.fake.calls)
    suspend(desk)
    desk.looping.until(lambda: exchange.ended)
    assert exchange.answer is not None
    assert (exchange.status, error(exchange.answer)["code"]) == (403, "standing_suspended")
    assert desk.looping.until(desk.fake.left.is_set)
    assert desk.only()["outcome"] == "cut"
    settled(desk)


def test_work_goes_on_while_nothing_about_its_caller_changes(desk: Desk) -> None:
    desk.fake.behave = "stall"
    exchange = desk.stream(words=2)
    with transaction(desk.engine) as session:
        Make(session, utcnow()).person()
    desk.looping.turn(0.8)
    assert not exchange.ended
    desk.fake.go_on.set()
    assert desk.rest(exchange)[-1] == "[DONE]"


def test_work_about_which_nobody_can_tell_ends_in_time(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.fake.behave = "stall"
    exchange = desk.stream(words=1)
    monkeypatch.setattr(edge, "UNSURE_S", 0.5)

    def away(*_args: Any, **_kept: Any) -> None:
        raise RuntimeError("the database is away")

    monkeypatch.setattr(desk.door, "_decide", away)
    with transaction(desk.engine) as session:
        Make(session, utcnow()).person()
    assert desk.rest(exchange)[-1]["error"]["code"] == "internal_error"
    assert desk.only()["outcome"] == "crashed"
    settled(desk)


@pytest.mark.parametrize(("behave", "words"), [("die", 2), ("die_late", 4), ("garbage", 0), ("report", 0)], ids=str)
def test_an_engine_lost_in_a_stream_is_said_and_counted_as_far_as_it_came(desk: Desk, behave: str, words: int) -> None:
    desk.fake.behave = behave
    *parts, last = desk.whole()
    assert last["error"]["code"] == "engine_lost"
    assert len([part for part in parts if part["choices"]]) == words
    line = desk.only()
    assert (line["outcome"], line["reason_code"], line["completion_tokens"]) == ("engine_lost", "engine_lost", words)
    assert used(desk).calls == (1 if words else 0)
    settled(desk)


@pytest.mark.parametrize(
    ("behave", "status"),
    [("die_first", 503), ("garbage", 502), ("die", 502), (500, 503), (401, 503), (404, 503), (302, 503)],
)
def test_an_engine_lost_before_it_answers_costs_nothing(desk: Desk, behave: Any, status: int) -> None:
    desk.fake.behave = behave
    answer = desk.ask()
    assert answer.status == status
    assert error(answer)["type"] == "server_error"
    assert "Retry-After" in dict(answer.headers)
    line = desk.only()
    assert (line["outcome"], line["prompt_tokens"], line["completion_tokens"]) == ("engine_lost", 0, 0)
    assert used(desk) == Used()
    settled(desk)


@pytest.mark.parametrize("status", [429, 503])
def test_engines_with_too_much_to_do_say_so(desk: Desk, status: int) -> None:
    desk.fake.behave = status
    answer = desk.ask(STREAM)
    assert (answer.status, error(answer)["code"]) == (status, "engine_overloaded")
    assert "Retry-After" in dict(answer.headers)
    assert desk.only()["outcome"] == "overloaded"
    assert used(desk) == Used()
    assert desk.pool.engines[0].healthy
    settled(desk)


def test_no_engine_at_all_is_a_clear_answer_and_the_next_one_is_found(desk: Desk) -> None:
    desk.fake.stop()
    answer = desk.ask()
    assert (answer.status, error(answer)["code"]) == (503, "engine_unavailable")
    assert desk.only()["outcome"] == "engine_lost"
    desk.fake.start()
    desk.looping.until(lambda: not desk.pool.engines[0].problem)
    assert desk.ask().status == 200


def test_another_engine_takes_over_before_the_first_byte(desk: Desk, tmp_path: Path) -> None:
    second = FakeEngine(tmp_path / "second.sock", (MODEL,)).start()
    near = [Server(Address(uds=path), model=MODEL) for path in (desk.fake.path, second.path)]
    desk.compose(*near)
    desk.look_away()
    for behave in ("die_first", 500):
        desk.fake.behave = behave
        desk.pool.engines[0].worked()
        for _ in range(2):
            assert desk.whole()[-1] == "[DONE]"
    assert len(second.calls) == 4
    assert len(desk.fake.calls) >= 2
    assert {line["outcome"] for line in desk.lines()} == {"finished"}
    desk.fake.behave, second.behave = "die", "die"
    desk.pool.engines[0].worked()
    before = len(desk.fake.calls) + len(second.calls)
    assert desk.whole()[-1]["error"]["code"] == "engine_lost"
    assert len(desk.fake.calls) + len(second.calls) == before + 1  # a half answer is never tried again
    second.stop()
    settled(desk)


@pytest.mark.threat("TM-17")
def test_racing_for_the_last_units_gives_exactly_those(desk: Desk) -> None:
    person = desk.caller.user
    desk.write(
        lambda s: usage.set_quota(s, user_id=person.id, calls=7, text_tokens=10_000, by=acting(person), now=utcnow())
    )
    exchanges = [desk.send() for _ in range(50)]
    desk.looping.until(lambda: all(exchange.ended for exchange in exchanges))
    statuses = [exchange.status for exchange in exchanges]
    assert sorted(statuses) == [200] * 7 + [429] * 43
    assert len(desk.fake.calls) == 7
    assert used(desk) == Used(7, 77)
    settled(desk)
    served = [record for record in replay(desk) if record.outcome is Outcome.FINISHED]
    assert len(served) == 7  # what was counted in memory is what the records add up to
    assert sum(record.prompt_tokens + record.completion_tokens for record in served) == 77


def test_long_silence_is_filled_with_comments(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "COMMENT_S", 0.1)
    desk.fake.behave = "stall"
    exchange = desk.stream(words=2)
    desk.looping.until(lambda: text(exchange).count(b": the engine is at work\n\n") >= 2)
    desk.fake.go_on.set()
    assert words(desk.rest(exchange)) == "once upon a time"
    assert events(exchange)[-1] == "[DONE]"


@pytest.mark.parametrize(("behave", "times"), [("silent", "first_byte_s"), ("sleep", "silence_s")])
def test_an_engine_that_stays_silent_is_given_up(desk: Desk, behave: str, times: str) -> None:
    desk.compose(**{times: 0.3})
    desk.fake.behave = behave
    assert desk.ask(STREAM).status == 503
    assert desk.looping.until(desk.fake.left.is_set)
    assert desk.only()["outcome"] == "engine_lost"


def test_an_answer_without_end_is_given_up(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "WHOLE_MAX", 10)
    assert desk.ask().status == 502
    settled(desk)


def test_an_allowance_is_new_each_minute() -> None:
    now = [0.0]
    allowance = gate.Allowance(2, lambda: now[0])
    assert [allowance.take() for _ in range(3)] == [True, True, False]
    now[0] = 60
    assert allowance.take()


def test_limits_of_the_portal_hold_for_the_reservation(desk: Desk) -> None:
    desk.counters.load([(desk.caller.user.id, utcnow().strftime("%Y-%m-%d"), 0, Limits().text_tokens - 5)])
    answer = desk.ask()
    assert (answer.status, error(answer)["code"]) == (429, "quota_text_tokens")
    assert value(desk.ask({**GOOD, "prompt": "x", "max_tokens": 4}))["choices"]
