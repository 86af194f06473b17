"""The journal: nothing acknowledged is lost, whoever dies, and damage is never passed over in silence."""

import os
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from portal.core.clock import utcnow
from portal.core.errors import Unavailable
from portal.edge.journal import (
    EARLIEST,
    Journal,
    frame,
    is_growing,
    segments,
    unread,
)
from tests.edge.reading import Taken, reader


@pytest.fixture
def taken() -> Taken:
    return Taken()


def test_records_come_back_in_order_while_the_segment_grows(tmp_path: Path, taken: Taken) -> None:
    journal, read = Journal(tmp_path), reader(tmp_path, taken)
    assert read.turn(taken) == 0
    journal.append({"kind": "x", "id": 1, "text": "žluťoučký \ud800"})
    assert read.turn(taken) == 1
    journal.append({"kind": "x", "id": 2})
    journal.append({"kind": "x", "id": 3})
    assert [read.turn(taken), read.turn(taken)] == [2, 0]
    assert taken.ids == [1, 2, 3]
    assert taken.lines[0]["text"] == "žluťoučký \ud800"
    assert len(segments(tmp_path)) == 1
    assert is_growing(segments(tmp_path)[0])


def test_a_segment_is_deleted_once_it_is_read_and_its_writer_is_gone(tmp_path: Path, taken: Taken) -> None:
    journal = Journal(tmp_path)
    journal.append({"id": 1})
    reader(tmp_path, Taken()).turn(taken)
    journal.close()
    journal.close()
    read = reader(tmp_path, taken)  # after a restart everything comes again
    while read.turn(taken, limit=1):
        pass
    assert taken.ids == [1, 1]
    assert segments(tmp_path) == []
    assert taken.reports == []


def test_what_could_not_be_entered_comes_again(tmp_path: Path, taken: Taken) -> None:
    journal, read = Journal(tmp_path), reader(tmp_path, taken)
    journal.append({"id": 1})

    def busy(_records: object) -> None:
        raise RuntimeError("the database is away")

    with pytest.raises(RuntimeError):
        read.turn(busy)
    assert read.turn(taken) == 1
    assert taken.ids == [1]


def test_a_record_that_cannot_be_entered_is_kept(tmp_path: Path, taken: Taken) -> None:
    Journal(tmp_path).append({"id": 1})
    read = reader(tmp_path, taken)
    for record in read.read().records:
        read.set_aside(record, KeyError("user"))
    assert "1" in taken.reports[0]
    assert (tmp_path / "rejected.jsonl").read_text() == '{"id": 1}\n'
    assert list(unread(tmp_path)) == [{"id": 1}]


def test_segments_rotate_and_are_read_across(tmp_path: Path, taken: Taken) -> None:
    journal = Journal(tmp_path, segment_bytes=180)
    for number in range(20):
        journal.append({"id": number})
    assert len(segments(tmp_path)) > 2
    assert [is_growing(path) for path in segments(tmp_path)] == [False] * (len(segments(tmp_path)) - 1) + [True]
    assert journal.size() == sum(path.stat().st_size for path in segments(tmp_path))
    read = reader(tmp_path, taken)
    while read.turn(taken, limit=3):
        pass
    assert taken.ids == list(range(20))
    assert len(segments(tmp_path)) == 1


def test_each_start_begins_a_segment_of_its_own(tmp_path: Path) -> None:
    first, second = Journal(tmp_path), Journal(tmp_path)
    first.append({"id": 1})
    second.append({"id": 2})
    assert len(segments(tmp_path)) == 2
    assert sorted(record["id"] for record in unread(tmp_path)) == [1, 2]
    assert list(unread(tmp_path / "absent")) == []


@pytest.mark.parametrize("durability", ["process", "power-loss"])
def test_many_threads_write_whole_records(tmp_path: Path, taken: Taken, durability: str) -> None:
    journal = Journal(tmp_path, durability=durability, segment_bytes=20_000)

    def write(thread: int) -> None:
        for number in range(20):
            journal.append({"id": f"{thread}/{number}", "pad": "x" * (number * 7)})

    threads = [threading.Thread(target=write, args=(n,)) for n in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    read = reader(tmp_path, taken)
    while read.turn(taken):
        pass
    assert len(taken.ids) == len(set(taken.ids)) == 64 * 20
    assert taken.reports == []


def test_threads_that_wait_together_share_a_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path, durability="power-loss")
    journal.append({"id": 0})
    synced = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    with journal._sync_lock:
        threads = [threading.Thread(target=journal.append, args=({"id": n},)) for n in range(1, 9)]
        for thread in threads:
            thread.start()
        while journal._written < 8 * len(frame({"id": 1})) + len(frame({"id": 0})):
            pass
    for thread in threads:
        thread.join()
    assert len(synced) == 1


def test_each_record_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)
    journal.append({"id": 0})
    writes = []
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: writes.append(data) or real(fd, data))
    journal.append({"id": 1})
    assert writes == [frame({"id": 1})]


KILLED = """
import sys
from pathlib import Path
from portal.edge.journal import Journal
journal = Journal(Path(sys.argv[1]), segment_bytes=4000)
number = 0
while True:
    journal.append({"id": f"{sys.argv[2]}/{number}"})
    sys.stdout.write(f"{sys.argv[2]}/{number}\\n")
    sys.stdout.flush()
    number += 1
"""


def test_killing_writers_loses_no_acknowledged_record(tmp_path: Path, taken: Taken) -> None:
    acknowledged = []
    for run in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path), str(run)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        acknowledged += [writer.stdout.readline().strip() for _ in range(200 + run)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += [line.strip() for line in writer.stdout if line.endswith("\n")]
        writer.stdout.close()
        writer.wait()
    read = reader(tmp_path, taken)
    while read.turn(taken):
        pass
    assert set(acknowledged) <= set(taken.ids)
    assert len(taken.ids) == len(set(taken.ids)) <= len(acknowledged) + 3
    assert segments(tmp_path) == []
    assert taken.reports == []


def test_a_fork_writes_segments_of_its_own(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append({"id": "parent"})
    child = os.fork()
    if child == 0:
        journal.append({"id": "child"})
        os._exit(0)
    os.waitpid(child, 0)
    journal.append({"id": "parent again"})
    assert len(segments(tmp_path)) == 2
    assert {record["id"] for record in unread(tmp_path)} == {"parent", "child", "parent again"}


def test_a_failed_write_is_refused_and_leaves_nothing_behind(
    tmp_path: Path, taken: Taken, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    journal.append({"id": 1})
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:5]))
    with pytest.raises(Unavailable) as caught:
        journal.append({"id": 2})
    assert caught.value.status == 503
    assert "No space" in journal.problem
    monkeypatch.setattr(os, "write", real)
    journal.append({"id": 3})
    assert journal.problem == ""
    reader(tmp_path, taken).turn(taken)
    assert taken.ids == [1, 3]


def test_a_segment_that_cannot_be_repaired_is_left(
    tmp_path: Path, taken: Taken, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    journal.append({"id": 1})

    def broken(*_args: object) -> int:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", broken)
        patch.setattr(os, "ftruncate", broken)
        with pytest.raises(Unavailable):
            journal.append({"id": 2})
    journal.append({"id": 3})
    reader(tmp_path, taken).turn(taken)
    assert taken.ids == [1, 3]
    assert len(segments(tmp_path)) == 1


def test_a_record_that_did_not_reach_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path, durability="power-loss")
    journal.append({"id": 1})

    def broken(_fd: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        with pytest.raises(Unavailable):
            journal.append({"id": 2})
        with pytest.raises(Unavailable):
            journal.append({"id": 3})
    journal.append({"id": 4})
    assert len(segments(tmp_path)) >= 2


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file")
    with pytest.raises(Unavailable):
        Journal(tmp_path / "journal").append({"id": 1})


def test_a_full_disk_at_the_start_leaves_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", lambda _fd, _data: 0)
    with pytest.raises(Unavailable):
        Journal(tmp_path).append({"id": 1})
    assert list(tmp_path.iterdir()) == []


def test_an_oversize_record_is_a_bug_and_not_a_hole(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bytes"):
        Journal(tmp_path).append({"id": "x" * (1 << 20)})


def test_the_reader_tells_which_runs_ended_and_what_they_can_have_left_open(tmp_path: Path, taken: Taken) -> None:
    read = reader(tmp_path, taken)
    old, new = Journal(tmp_path), Journal(tmp_path, segment_bytes=100)
    old._began -= timedelta(days=1)
    old.append({"id": 1})
    new.append({"id": 2})
    new.append({"id": 3, "pad": "x" * 90})
    before = utcnow()
    read.turn(taken)
    assert read.ended == []
    old.close()
    read.turn(taken)
    assert [run.before for run in read.ended] == [new._began]
    new.close()
    read.turn(taken)
    assert len(read.ended) == 2
    assert read.ended[1].id != read.ended[0].id
    assert read.ended[1].before >= before


def test_what_an_unread_run_left_open_is_not_given_up(tmp_path: Path, taken: Taken) -> None:
    first, second = Journal(tmp_path), Journal(tmp_path)
    first.append({"id": 1})
    second.append({"id": 2})
    first.close()
    read = reader(tmp_path, taken)
    assert read.turn(taken, limit=1)
    assert read.turn(taken, limit=1)
    (run,) = read.ended
    assert run.before == EARLIEST
