"""What is written about a request, and when: before its last bytes, and soon of all that runs."""

import json
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from gated_inference import meter
from gated_inference.servers import Server
from portal.core.clock import utcnow
from portal.core.errors import Unavailable
from portal.edge.address import Address
from portal.edge.journal import FRAME, unread
from portal.usage import service as usage
from portal.usage.rules import Outcome, Used
from tests.edge.desk import GOOD, MODEL, STREAM, Desk, error, events, replay, settled, suspend, used, words


def records_in(data: bytes) -> Iterator[dict[str, Any]]:
    """Read what goes into the journal by one write."""
    at = 0
    while at < len(data):
        length, _ = FRAME.unpack_from(data, at)
        at += FRAME.size + length
        yield json.loads(data[at - length : at])


def test_the_record_is_written_before_the_last_bytes_leave(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.fake.behave = "stall"
    stream = desk.stream(words=2)
    desk.fake.behave = "answer"
    seen, append = [], desk.written.put

    def put(data: bytes) -> int:
        for record in records_in(data):
            if record["kind"] == "use_finished":
                exchange = stream if record["id"] == stream.request.request_id else whole
                seen.append((exchange.ended, b"[DONE]" in exchange.body, exchange.answer))
        return append(data)

    monkeypatch.setattr(desk.written, "put", put)
    whole = desk.send()
    desk.fake.go_on.set()
    desk.looping.until(lambda: whole.ended and stream.ended)
    assert seen == [(False, False, None)] * 2
    assert whole.answer is not None
    assert events(stream)[-1] == "[DONE]"
    settled(desk)


def test_what_runs_is_written_down_soon_and_how_far_it_is(desk: Desk) -> None:
    desk.fake.behave = "stall"
    exchange = desk.stream(words=2)
    opened = desk.looping.until(lambda: desk.lines("use_opened"))[0]
    assert (opened["user_id"], opened["reserved"]) == (desk.caller.user.id, 10)
    running = desk.looping.until(lambda: desk.lines("uses_running"))[0]
    assert running["written"] == {exchange.request.request_id: 2}
    assert used(desk) == Used(1, 10)
    assert desk.lines() == []
    assert len(desk.inference.gate.running) == 1
    desk.fake.go_on.set()
    assert desk.rest(exchange)[-1] == "[DONE]"
    assert used(desk) == Used(1, 11)
    assert len(desk.lines("use_opened")) == 1
    settled(desk)


def test_what_is_quick_leaves_one_line(desk: Desk) -> None:
    desk.ask()
    desk.looping.turn(0.12)
    assert [line["kind"] for line in unread(desk.home / "journal")] == ["use_finished"]


def full(*_records: Any) -> None:
    raise Unavailable("journal_unwritable", "The portal cannot record this just now.")


@pytest.mark.parametrize("body", [GOOD, STREAM], ids=["whole", "stream"])
def test_what_cannot_be_recorded_is_not_finished(desk: Desk, monkeypatch: pytest.MonkeyPatch, body: Any) -> None:
    monkeypatch.setattr(desk.written, "put", full)
    exchange = desk.send(body)
    desk.looping.until(lambda: exchange.ended)
    if body is GOOD:
        assert exchange.answer is not None
        assert (exchange.status, error(exchange.answer)["code"]) == (503, "journal_unwritable")
    else:
        *_, last = events(exchange)
        assert last["error"]["code"] == "journal_unwritable"
    assert desk.inference.gate.running == set()
    assert [engine.running for engine in desk.pool.engines] == [0]


def test_while_nothing_can_be_recorded_no_engine_works_for_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda _fd, _data: 0)
        assert desk.ask().status == 503
        assert len(desk.fake.calls) == 1
        answer = desk.ask()
        assert (answer.status, error(answer)["code"]) == (503, "journal_unwritable")
        assert len(desk.fake.calls) == 1
        assert used(desk) == Used(1, 11)
        assert "cannot be written" in desk.journal.problem
    assert desk.ask().status == 200
    assert desk.journal.problem == ""


def test_leaving_or_being_cut_while_nothing_can_be_recorded_ends_all_the_same(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    desk.fake.behave = "stall"
    leaves, cut = desk.stream(words=1), desk.stream(words=1)
    monkeypatch.setattr(desk.written, "put", full)
    leaves.leave()
    suspend(desk)
    assert desk.rest(cut)[-1]["error"]["code"] == "journal_unwritable"
    assert desk.inference.gate.running == set()


def test_one_that_breaks_after_a_sync_leaves_nobody_waiting(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk.written, "power_loss", True)
    told: list[str] = []

    def broken(*_: Any) -> None:
        told.append("broken")
        raise OSError("no room")

    def wait() -> None:
        desk.journal.sure(lambda: None, broken)
        desk.journal.sure(broken, broken)
        desk.journal.sure(lambda: told.append("other"), broken)

    desk.looping.do(wait)
    desk.looping.until(lambda: "other" in told)
    assert told == ["broken", "broken", "other"]
    desk.looping.do(desk.journal.sure, lambda: told.append("later"), broken)
    desk.looping.until(lambda: "later" in told)


def test_the_last_bytes_wait_for_the_disk_where_power_may_be_lost(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk.written, "power_loss", True)
    synced, reached = threading.Event(), []

    def sync(position: int) -> None:
        reached.append(position)
        assert synced.wait(10)

    monkeypatch.setattr(desk.written, "sync", sync)
    whole, stream = desk.send(GOOD), desk.send(STREAM)
    desk.looping.until(lambda: len(desk.lines()) == 2 and reached)
    desk.looping.turn(0.05)
    assert not whole.ended
    assert not stream.ended
    assert words(events(stream)) == "once upon a time"
    synced.set()
    desk.looping.until(lambda: whole.ended and stream.ended)
    assert events(stream)[-1] == "[DONE]"
    assert len(reached) <= 2  # who waits together shares a sync


@pytest.mark.parametrize("body", [GOOD, STREAM], ids=["whole", "stream"])
def test_what_the_disk_did_not_take_is_not_finished(desk: Desk, monkeypatch: pytest.MonkeyPatch, body: Any) -> None:
    monkeypatch.setattr(desk.written, "power_loss", True)

    def broken(_fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    exchange = desk.send(body)
    desk.looping.until(lambda: exchange.ended)
    last = error(exchange.answer) if exchange.answer is not None else events(exchange)[-1]["error"]
    assert last["code"] == "journal_unwritable"
    assert "[DONE]" not in events(exchange)


@pytest.mark.parametrize("body", [GOOD, STREAM], ids=["whole", "stream"])
def test_a_bug_in_the_middle_still_leaves_one_record(desk: Desk, monkeypatch: pytest.MonkeyPatch, body: Any) -> None:
    def broken(*_args: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(meter.Meter, "see", broken)
    desk.fake.words = ["} odd"]  # not of the common sort, and so read closely
    desk.fake.line_end = "\r\n"
    exchange = desk.send(body)
    desk.looping.until(lambda: exchange.ended)
    if body is STREAM:
        assert events(exchange)[-1]["error"]["code"] == "internal_error"
    else:
        assert exchange.status == 500
    assert desk.only()["outcome"] == "crashed"
    settled(desk)


def test_work_that_a_dead_process_left_open_is_recorded_as_crashed(desk: Desk) -> None:
    desk.ask()
    desk.fake.behave = "stall"
    desk.stream(words=1)
    desk.looping.until(lambda: desk.lines("use_opened"))
    assert [row.outcome for row in replay(desk)] == [Outcome.OPEN, Outcome.FINISHED]
    desk.written.close()  # what the kernel does for a process that is killed
    assert [row.outcome for row in replay(desk)] == [Outcome.CRASHED, Outcome.FINISHED]
    assert list((desk.home / "journal").iterdir()) == []
    counted = desk.write(lambda s: usage.used_today(s, user_id=desk.caller.user.id, now=utcnow()))
    assert counted.calls == 2


def test_a_record_says_whose_engine_did_the_work(desk: Desk) -> None:
    desk.compose(Server(Address(uds=desk.fake.path), model=MODEL, lab="north"))
    desk.ask()
    assert (desk.only()["server"], desk.only()["lab"]) == ("embedded", "north")
    (row,) = replay(desk)
    assert (row.server, row.lab) == ("embedded", "north")


def test_what_ends_in_one_turn_is_written_by_one_write_before_any_of_it_goes_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[Any] = []
    put = desk.written.put

    def watched(data: bytes) -> int:
        happened.append([record["id"] for record in records_in(data)])
        return put(data)

    def broken(_data: bytes) -> int:
        raise Unavailable("journal_unwritable", "full")

    def end(*names: str) -> None:
        for name in names:
            line = b'{"kind":"use_finished","id":"%b"}' % name.encode()
            desk.journal.put_soon(line, lambda name=name: happened.append(name), happened.append)

    monkeypatch.setattr(desk.written, "put", watched)
    desk.looping.do(end, "a", "b", "c")
    desk.looping.until(lambda: "c" in happened)
    assert happened == [["a", "b", "c"], "a", "b", "c"]
    assert [line["id"] for line in desk.lines()] == ["a", "b", "c"]
    happened.clear()
    monkeypatch.setattr(desk.written, "put", broken)
    desk.looping.do(end, "d", "e")
    desk.looping.until(lambda: len(happened) == 2)
    assert [type(error) for error in happened] == [Unavailable, Unavailable]
