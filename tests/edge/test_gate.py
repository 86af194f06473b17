"""What becomes of a request while an engine works on it: exactly one ending, whoever leaves, dies or is cut off."""

import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gated_inference import gate
from gated_inference.pool import Server
from portal.accounts.models import User
from portal.accounts.rules import Standing
from portal.core.clock import utcnow
from portal.core.errors import Unavailable
from portal.edge.upstream import Address
from portal.tokens import service as tokens
from portal.usage import service as usage
from portal.usage.rules import Limits, Outcome, Used
from tests.conduct import acting
from tests.edge.desk import MODEL, Desk, error, events, replay, value
from tests.fakes import FakeEngine

GOOD = {"model": MODEL, "prompt": "Once", "max_tokens": 8}
STREAM = {**GOOD, "stream": True}


def suspend(desk: Desk) -> None:
    def work(session: Any) -> None:
        user = session.get_one(User, desk.caller.user.id)
        user.standing, user.standing_until, user.standing_ref = (
            Standing.SUSPENDED,
            utcnow() + timedelta(days=1),
            "dec_1",
        )

    desk.write(work)


def used(desk: Desk) -> Used:
    return desk.counters.used(desk.caller.user.id, utcnow())


def settled(desk: Desk) -> None:
    """Nothing is left running, and every opened line has its one end."""
    assert [engine.running for engine in desk.pool.engines] == [0] * len(desk.pool.engines)
    assert desk.inference.figures.value("portal_in_flight") == 0
    opened = [line["id"] for line in desk.lines("use_opened")]
    finished = [line["id"] for line in desk.lines()]
    assert len(finished) == len(set(finished))
    assert set(opened) <= set(finished)


class After:
    """A client that is gone after a while."""

    def __init__(self, seconds: float) -> None:
        self.at = time.monotonic() + seconds

    def __call__(self) -> bool:
        return time.monotonic() >= self.at


def test_the_record_is_written_before_the_last_event_leaves(desk: Desk) -> None:
    body = desk.stream()
    for data in body:
        assert (data == b"data: [DONE]\n\n") == bool(desk.lines())
    body.close()
    settled(desk)


def test_the_opening_line_is_written_before_an_engine_is_asked(desk: Desk) -> None:
    desk.fake.behave = "stall"
    body = desk.stream()
    assert b"once" in next(body)
    (opened,) = desk.lines("use_opened")
    assert (opened["user_id"], opened["reserved"]) == (desk.caller.user.id, 10)
    assert used(desk) == Used(1, 10)
    assert desk.lines() == []
    assert desk.inference.figures.value("portal_in_flight") == 1
    desk.fake.go_on.set()
    assert events(body)[-1] == "[DONE]"
    assert used(desk) == Used(1, 11)
    settled(desk)


def test_a_reader_that_stops_ends_the_work(desk: Desk) -> None:
    desk.fake.behave = "stall"
    body = desk.stream()
    next(body)
    next(body)
    body.close()
    body.close()
    assert desk.fake.left.wait(2)
    line = desk.only()
    assert (line["outcome"], line["completion_tokens"]) == ("canceled", 2)
    assert used(desk) == Used(1, 4)
    settled(desk)


def test_a_stream_that_nobody_begins_to_read_is_ended_too(desk: Desk) -> None:
    desk.fake.behave = "stall"
    desk.stream().close()
    assert desk.fake.left.wait(2)
    assert desk.only()["outcome"] == "canceled"
    settled(desk)


def test_a_client_that_leaves_during_silence_is_noticed(desk: Desk) -> None:
    desk.fake.behave = "stall"
    began = time.monotonic()
    assert len(events(desk.stream(hung_up=After(0.3)))) == 2
    assert time.monotonic() - began < 2
    assert desk.fake.left.wait(2)
    assert desk.only()["outcome"] == "canceled"
    settled(desk)


@pytest.mark.parametrize("behave", ["silent", "sleep"])
@pytest.mark.parametrize("body", [GOOD, STREAM], ids=["whole", "stream"])
def test_a_client_that_leaves_before_the_first_byte_ends_the_work(desk: Desk, behave: str, body: Any) -> None:
    desk.fake.behave = behave
    assert desk.ask(body, hung_up=After(0.2)).status == 499
    assert desk.fake.left.wait(2)
    assert (desk.only()["outcome"], desk.only()["completion_tokens"]) == ("canceled", 0)
    settled(desk)


@pytest.mark.parametrize("behave", ["slow", "stall"])
def test_suspension_cuts_a_stream_within_two_seconds(desk: Desk, behave: str) -> None:
    desk.fake.behave = behave
    body = desk.stream()
    next(body)
    suspend(desk)
    began = time.monotonic()
    *_, choice, last = events(body)
    assert time.monotonic() - began < 2
    assert choice["choices"][0]["finish_reason"] == "content_filter"
    assert last["error"]["code"] == "standing_suspended"
    assert last["error"]["reasons"][0]["url"].endswith("/appeal/dec_1")
    assert desk.fake.left.wait(2)
    line = desk.only()
    assert (line["outcome"], line["reason_code"]) == ("cut", "standing_suspended")
    assert line["completion_tokens"] >= 1
    settled(desk)


def test_revoking_the_access_token_cuts_as_well(desk: Desk) -> None:
    desk.fake.behave = "slow"
    body = desk.stream()
    next(body)
    caller = desk.caller
    desk.write(lambda s: tokens.revoke(s, by=acting(caller.user), ref=caller.token.public_id, now=utcnow()))
    assert events(body)[-1]["error"]["code"] == "access_token_revoked"
    assert desk.only()["outcome"] == "cut"


@pytest.mark.parametrize("body", [GOOD, STREAM], ids=["whole", "stream"])
def test_suspension_ends_work_that_has_not_answered_yet(desk: Desk, body: Any) -> None:
    desk.fake.behave = "silent"
    threading.Timer(0.2, suspend, (desk,)).start()
    answer = desk.ask(body)
    assert (answer.status, error(answer)["code"]) == (403, "standing_suspended")
    assert desk.fake.left.wait(2)
    assert desk.only()["outcome"] == "cut"
    settled(desk)


@pytest.mark.parametrize(("behave", "words"), [("die", 2), ("die_late", 4), ("garbage", 0), ("report", 0)], ids=str)
def test_an_engine_lost_in_a_stream_is_said_and_counted_as_far_as_it_came(desk: Desk, behave: str, words: int) -> None:
    desk.fake.behave = behave
    *parts, last = events(desk.stream())
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
    assert desk.ask().status == 200


def test_another_engine_takes_over_before_the_first_byte(desk: Desk, tmp_path: Path) -> None:
    second = FakeEngine(tmp_path / "second.sock", (MODEL,)).start()
    near = [Server(Address(uds=path), model=MODEL) for path in (desk.fake.path, second.path)]
    desk.compose(*near)
    for behave in ("die_first", 500):
        desk.fake.behave = behave
        desk.pool.engines[0].worked()
        for _ in range(2):
            assert events(desk.stream())[-1] == "[DONE]"
    assert len(second.calls) == 4
    assert len(desk.fake.calls) >= 2
    assert {line["outcome"] for line in desk.lines()} == {"finished"}
    desk.fake.behave, second.behave = "die", "die"
    desk.pool.engines[0].worked()
    before = len(desk.fake.calls) + len(second.calls)
    assert events(desk.stream())[-1]["error"]["code"] == "engine_lost"
    assert len(desk.fake.calls) + len(second.calls) == before + 1  # a half answer is never tried again
    second.stop()
    settled(desk)


def test_racing_for_the_last_units_gives_exactly_those(desk: Desk) -> None:
    person = desk.caller.user
    desk.write(
        lambda s: usage.set_quota(s, user_id=person.id, calls=7, text_tokens=10_000, by=acting(person), now=utcnow())
    )
    barrier, statuses = threading.Barrier(20), []

    def ask() -> None:
        barrier.wait()
        statuses.append(desk.ask().status)

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] * 7 + [429] * 13
    assert len(desk.fake.calls) == 7
    assert used(desk) == Used(7, 77)
    settled(desk)


def full(_record: Any) -> None:
    raise Unavailable("journal_unwritable", "The portal cannot record this just now.")


def test_what_cannot_be_recorded_does_not_begin(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk.journal, "append", full)
    answer = desk.ask(STREAM)
    assert (answer.status, error(answer)["code"]) == (503, "journal_unwritable")
    assert desk.fake.calls == []
    assert used(desk) == Used()
    assert desk.inference.figures.value("portal_in_flight") == 0


def test_what_cannot_be_recorded_is_not_finished(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    body = desk.stream()
    monkeypatch.setattr(desk.journal, "append", full)
    found = events(body)
    assert found[-1]["error"]["code"] == "journal_unwritable"
    body.close()
    real = desk.journal.append

    def only_the_first(record: Any) -> None:
        if record["kind"] == "use_finished":
            real(record)

    monkeypatch.setattr(desk.journal, "append", only_the_first)
    assert desk.ask().status == 503
    assert desk.inference.figures.value("portal_in_flight") == 0


@pytest.mark.parametrize("body", [GOOD, STREAM], ids=["whole", "stream"])
def test_a_bug_in_the_middle_still_leaves_one_record(desk: Desk, monkeypatch: pytest.MonkeyPatch, body: Any) -> None:
    desk.fake.behave = "stall" if body is STREAM else "silent"

    def broken(_admission: Any) -> None:
        raise RuntimeError("the database is away")

    monkeypatch.setattr(desk.door, "again", broken)
    answer = desk.ask(body)
    if body is STREAM:
        assert events(answer.body)[-1]["error"]["code"] == "internal_error"
    else:
        assert answer.status == 500
    assert desk.only()["outcome"] == "crashed"
    settled(desk)


def test_long_silence_is_filled_with_comments(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "COMMENT_S", 0.1)
    desk.fake.behave = "stall"
    body = desk.stream()
    pieces = [next(body) for _ in range(4)]
    assert pieces[2:] == [b": the engine is at work\n\n"] * 2
    desk.fake.go_on.set()
    assert events(body)[-1] == "[DONE]"


@pytest.mark.parametrize(("behave", "times"), [("silent", "first_byte_s"), ("sleep", "silence_s")])
def test_an_engine_that_stays_silent_is_given_up(desk: Desk, behave: str, times: str) -> None:
    desk.compose(**{times: 0.3})
    desk.fake.behave = behave
    assert desk.ask(STREAM).status == 503
    assert desk.fake.left.wait(2)
    assert desk.only()["outcome"] == "engine_lost"


def test_an_answer_without_end_is_given_up(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from gated_inference import meter, pool

    monkeypatch.setattr(meter, "EVENT_MAX", 10)
    monkeypatch.setattr(pool, "WHOLE_MAX", 10)
    assert desk.ask().status == 502
    with pytest.raises(meter.Lost):
        list(meter.events(iter([b"data: " + b"x" * 20])))


def test_an_event_in_several_lines_is_written_in_one(desk: Desk) -> None:
    from gated_inference import meter

    assert list(meter.events(iter([b'data: {"a":\nid: 1\ndata: 1}\n\ndata', b": x\n\n", b""]))) == [
        b'{"a":\n1}',
        b"x",
        b"",
    ]
    desk.fake.words = []
    desk.fake.usage = None
    monkey = 'data: {"choices":\ndata: []}'
    desk.fake.behave = "lines"
    from tests import fakes

    fakes.EVENTS["lines"] = monkey
    try:
        assert events(desk.stream())[0] == {"choices": [], "model": MODEL}
    finally:
        del fakes.EVENTS["lines"]


def test_work_that_a_dead_process_left_open_is_recorded_as_crashed(desk: Desk) -> None:
    desk.ask()
    desk.fake.behave = "stall"
    body = desk.stream()
    next(body)
    assert [row.outcome for row in replay(desk)] == [Outcome.OPEN, Outcome.FINISHED]
    desk.journal.close()  # what the kernel does for a process that is killed
    assert [row.outcome for row in replay(desk)] == [Outcome.CRASHED, Outcome.FINISHED]
    assert list((desk.home / "journal").iterdir()) == []
    counted = desk.write(lambda s: usage.used_today(s, user_id=desk.caller.user.id, now=utcnow()))
    assert counted.calls == 2
    body.close()


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
