"""Damage in the journal: torn tails are normal, anything else is reported, kept and read around."""

import fcntl
from pathlib import Path

import pytest

from portal.edge.journal import (
    FRAME,
    Journal,
    frame,
    read_from,
    segments,
    unread,
)
from tests.edge.reading import Taken, reader, segment


@pytest.fixture
def taken() -> Taken:
    return Taken()


@pytest.mark.parametrize("kept", [3, 10])
def test_a_torn_tail_is_normal(tmp_path: Path, taken: Taken, kept: int) -> None:
    path = segment(tmp_path, frame({"id": 1}), frame({"id": 2})[:kept])
    with path.open("rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        read = reader(tmp_path, taken)
        assert [read.turn(taken), read.turn(taken)] == [1, 0]
        assert path.exists()
    assert read.turn(taken) == 0
    assert segments(tmp_path) == []
    assert taken.ids == [1]
    assert taken.reports == []


def test_damage_in_the_middle_is_reported_and_what_lies_behind_is_read(tmp_path: Path, taken: Taken) -> None:
    bad = bytearray(frame({"id": 2, "in": {"it": 1}, "text": "x" * 40}))
    bad[20] ^= 1
    segment(tmp_path, frame({"id": 1}), bytes(bad), frame({"id": 3}), frame({"id": 4})[:-3])
    reader(tmp_path, taken).turn(taken)
    assert taken.ids == [1, 3]
    assert len(taken.reports) == 1
    assert segments(tmp_path) == []
    (kept,) = tmp_path.glob("*.damaged")
    assert bytes(bad) in kept.read_bytes()


def test_a_segment_that_is_deleted_meanwhile_was_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from portal.edge import journal

    monkeypatch.setattr(journal, "segments", lambda folder: [folder / "gone.log"])
    assert list(unread(tmp_path)) == []
    assert Journal(tmp_path).size() == 0


def test_a_length_that_was_damaged_hides_nothing(tmp_path: Path, taken: Taken) -> None:
    bad = FRAME.pack(900_000, 1) + frame({"id": 2})[FRAME.size :]
    segment(tmp_path, bad, frame({"id": 3}))
    reader(tmp_path, taken).turn(taken)
    assert taken.ids == [3]
    assert len(taken.reports) == 1


def test_a_spoiled_last_record_of_whole_length_is_damage(tmp_path: Path, taken: Taken) -> None:
    bad = bytearray(frame({"id": 2}))
    bad[-1] ^= 1
    path = segment(tmp_path, frame({"id": 1}), bytes(bad))
    read = reader(tmp_path, taken)
    with path.open("rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        read.turn(taken)
        assert taken.reports == []
    read.turn(taken)
    assert len(taken.reports) == 1
    assert len(list(tmp_path.glob("*.damaged"))) == 1


@pytest.mark.parametrize("damaged", [False, True])
def test_large_segments_are_read_in_pieces(
    tmp_path: Path, taken: Taken, monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    from portal.edge import journal

    monkeypatch.setattr(journal, "CHUNK", 1000)
    monkeypatch.setattr(journal, "LINE_MAX", 300)
    frames = [frame({"id": n, "pad": "y" * (n % 97)}) for n in range(200)]
    if damaged:
        frames[100] = b"\0" * 5000
    segment(tmp_path, *frames)
    assert len(list(unread(tmp_path))) == 200 - damaged
    read = reader(tmp_path, taken)
    while read.turn(taken):
        pass
    assert taken.ids == [n for n in range(200) if n != 100 or not damaged]
    assert len(taken.reports) == damaged


def test_reading_on_needs_only_the_position(tmp_path: Path) -> None:
    path = segment(tmp_path, frame({"id": 1}), frame({"id": 2}))
    first = read_from(path, limit=2)
    assert first.more
    assert [record["id"] for record in read_from(path, first.end).records] == [2]
