"""Bytes under their digest: taken in whole or not at all, looked through, cleared away when nobody needs them."""

import errno
import os
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from portal.core.errors import Full, Invalid
from portal.files import service as files
from portal.storage import service
from portal.storage.rules import GRACE, RESERVE, Flaw, pause
from portal.storage.service import Reading, Store
from tests.factories import Make

BODY = b"weights " * 1000
DIGEST = sha256(BODY).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "blobs")


def kept(store: Store, body: bytes, age: timedelta, now: datetime) -> str:
    """Store bytes that were last needed some time ago."""
    with store.draft(len(body)) as draft:
        draft.write(body)
        digest = draft.keep().sha256
    moment = (now - age).timestamp()
    os.utime(store.path(digest), (moment, moment))
    return digest


def everything(store: Store) -> list[str]:
    return sorted(p.relative_to(store.root).as_posix() for p in store.root.rglob("*") if p.is_file())


def test_bytes_are_taken_in_whole_and_under_their_digest(store: Store) -> None:
    with store.draft(len(BODY)) as draft:
        for start in range(0, len(BODY), 999):
            draft.write(BODY[start : start + 999])
        got = draft.keep(DIGEST)
    assert (got.sha256, got.size) == (DIGEST, len(BODY))
    assert store.path(DIGEST).read_bytes() == BODY
    assert everything(store) == [f"sha256/{DIGEST[:2]}/{DIGEST}"]


@pytest.mark.parametrize(("promised", "sent", "expected"), [(9, b"short", ""), (5, b"short", "0" * 64)])
def test_other_bytes_than_announced_leave_nothing(store: Store, promised: int, sent: bytes, expected: str) -> None:
    with store.draft(promised) as draft:
        draft.write(sent)
        with pytest.raises(Invalid, match="not those that were announced"):
            draft.keep(expected)
    assert everything(store) == []


def break_off(store: Store, error: Exception) -> None:
    with store.draft(10) as draft:
        draft.write(b"half")
        raise error


def test_an_upload_that_breaks_off_leaves_nothing(store: Store) -> None:
    with pytest.raises(ConnectionResetError):
        break_off(store, ConnectionResetError())
    assert everything(store) == []


def test_what_does_not_fit_is_refused_before_a_byte_is_taken(store: Store) -> None:
    with pytest.raises(Full, match="do not fit") as caught, store.draft(1 << 60):
        pytest.fail("nothing is taken")
    assert (caught.value.status, caught.value.code) == (507, "disk_full")
    assert not store.root.exists()
    store.require_room(0)
    free = os.statvfs(store.root.parent).f_bavail * os.statvfs(store.root.parent).f_frsize
    with pytest.raises(Full):
        store.require_room(free - RESERVE // 2)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_disk_that_fills_up_meanwhile_is_said_to_be_full(store: Store, code: int) -> None:
    with pytest.raises(Full, match="disk is full"):
        break_off(store, OSError(code, os.strerror(code)))
    assert everything(store) == []
    with pytest.raises(OSError, match="Input/output"):
        break_off(store, OSError(errno.EIO, os.strerror(errno.EIO)))


def test_bytes_can_be_kept_from_being_cleared_away(store: Store, now: datetime) -> None:
    digest = kept(store, BODY, 2 * GRACE, now)
    assert store.keep(digest)
    assert store.path(digest).stat().st_mtime > now.timestamp() - GRACE.total_seconds()
    assert not store.keep("0" * 64)


def test_every_flaw_of_stored_bytes_is_found(store: Store, now: datetime) -> None:
    told: list[int] = []
    reading = Reading(store, told=told.append)
    kept(store, BODY, GRACE, now)
    assert reading.flaw(DIGEST, len(BODY)) is None
    assert (sum(told), reading.done) == (len(BODY), len(BODY))
    assert reading.flaw("0" * 64, 1) is Flaw.MISSING
    assert reading.flaw(DIGEST, 7) is Flaw.LENGTH
    store.path(DIGEST).write_bytes(BODY[:-1] + b"?")
    assert reading.flaw(DIGEST, len(BODY), contents=False) is None
    assert reading.flaw(DIGEST, len(BODY)) is Flaw.CORRUPT
    store.set_aside(DIGEST)
    assert reading.flaw(DIGEST, len(BODY)) is Flaw.MISSING
    assert everything(store) == [f"corrupt/{DIGEST}"]


def test_what_cannot_be_read_is_told_from_what_is_wrong(
    store: Store, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(store, BODY, GRACE, now)

    def broken(_self: Path, *_args: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "open", broken)
    assert Reading(store).flaw(DIGEST, len(BODY)) is Flaw.UNREADABLE


def test_reading_keeps_to_its_pace(store: Store, now: datetime) -> None:
    waited: list[float] = []
    kept(store, BODY, GRACE, now)
    reading = Reading(store, rate=1000, wait=waited.append, clock=lambda: sum(waited))
    reading.flaw(DIGEST, len(BODY))
    reading.flaw(DIGEST, len(BODY))
    assert waited == [8.0, 8.0]
    assert pause(100, 5, 0) == pause(100, 5, 20) == pause(100, 9, 20) == 0


def test_only_bytes_that_nobody_needs_are_cleared_away(
    session: Session, make: Make, now: datetime, store: Store
) -> None:
    make.commit(make.model(), {"named.safetensors": b"named"})
    old = 2 * GRACE
    named, unused = kept(store, b"named", old, now), kept(store, b"unused", old, now)
    awaited, fresh = kept(store, b"awaited", old, now), kept(store, b"fresh", GRACE / 2, now)
    drafts = [store.root / "tmp" / name for name in ("old", "new")]
    for draft, age in zip(drafts, (old, GRACE / 2), strict=True):
        draft.write_bytes(b"half")
        os.utime(draft, ((now - age).timestamp(),) * 2)
    expected = [(unused, 6)]

    def collect(*, remove: bool) -> list[tuple[str, int]]:
        return service.collect(session, store=store, awaited=frozenset({awaited}), now=now, remove=remove)

    before = everything(store)
    assert collect(remove=False) == expected
    assert everything(store) == before
    assert collect(remove=True) == expected
    assert {Path(p).name for p in everything(store)} == {named, awaited, fresh, "new"}
    assert collect(remove=True) == []


@pytest.mark.parametrize("again", [False, True])
def test_bytes_that_somebody_comes_to_rely_on_at_the_last_moment_stay(
    session: Session, now: datetime, store: Store, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    digest = kept(store, b"unused", 2 * GRACE, now)
    rename, path = Path.rename, store.path(digest)

    def late(self: Path, target: Path) -> Path:
        if self == path:
            assert store.keep(digest), "an upload names what is here already"
        moved = rename(self, target)
        if self == path and again:
            path.write_bytes(b"unused")  # and another one sends the same bytes anew
        return moved

    monkeypatch.setattr(Path, "rename", late)
    assert service.collect(session, store=store, awaited=frozenset(), now=now) == []
    assert path.read_bytes() == b"unused"


def test_an_upload_that_is_open_keeps_what_it_waits_for(session: Session, now: datetime, store: Store) -> None:
    digest = kept(store, b"unused", 2 * GRACE, now)
    assert files.collect(session, store=store, now=now, remove=False) == [(digest, 6)]


def test_totals_count_every_file_once(session: Session, make: Make) -> None:
    number, size = service.totals(session)
    make.commit(make.model(), {"a": b"once only, in this test", "b": b"once only, in this test"})
    assert service.totals(session) == (number + 1, size + 23)
    digests = [digest for digest, _ in service.next_blobs(session, after="")]
    assert digests == sorted(digests)
    assert [d for d, _ in service.next_blobs(session, after=digests[0], limit=1)] == digests[1:2]


def test_a_file_that_is_gone_already_counts_as_young(store: Store, now: datetime) -> None:
    digest = kept(store, BODY, timedelta(0), now)
    assert service._time(store.path(digest)) == now.timestamp() < service._time(store.root / "none")
