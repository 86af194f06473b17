"""What somebody who may upload, or only knows a digest, could try; and what two could do to each other."""

import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.catalog import service as catalog
from portal.core.actor import SYSTEM, Actor
from portal.core.db import transaction
from portal.core.errors import Full, PortalError
from portal.files import service as files
from portal.files.models import Commit
from portal.files.service import Staged
from portal.storage import service as storage
from portal.storage.models import Blob
from portal.storage.rules import GRACE
from portal.storage.service import Store
from portal.tokens import service as tokens
from portal.uploads import service
from portal.uploads.rules import Header, exactly
from tests import conduct
from tests.factories import PEPPER, Make
from tests.services.test_uploads import BODY, DIGEST, disk_of, entry, writer

HALF = len(BODY) // 2


@pytest.fixture
def receiver(tmp_path: Path) -> service.Receiver:
    return service.Receiver(Store(tmp_path / "blobs"))


class Slow:
    """A body that stops after its first piece until somebody lets it go on."""

    def __init__(self, first: bytes, rest: bytes) -> None:
        self.pieces = [first, rest]
        self.waits, self.go = threading.Event(), threading.Event()

    def read(self, _size: int = -1) -> bytes:
        if len(self.pieces) == 1:
            self.waits.set()
            assert self.go.wait(30)
        return self.pieces.pop(0) if self.pieces else b""


@contextmanager
def beside(work: Callable[[], object]) -> Iterator[list[BaseException]]:
    """Do something in another thread meanwhile; what it raised is told."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except PortalError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield raised
    thread.join(30)


def test_a_part_that_is_still_coming_in_cannot_change_bytes_that_are_stored(receiver: service.Receiver) -> None:
    late = Slow(b"o", b"ther bytes" + b"other bytes" * 9)
    with beside(lambda: receiver.parts("upl_x").write(exactly(late, 110), start=0, length=110)) as raised:
        assert late.waits.wait(30)
        tags = {}
        for start in (0, HALF):
            tags[start] = receiver.parts("upl_x").write([BODY[start : start + HALF]], start=start, length=HALF)
        with pytest.raises(PortalError, match="still coming in"):
            receiver.parts("upl_x").join(digest=DIGEST, size=len(BODY), tags=tags)
        late.go.set()
    assert raised == []
    tags[0] = receiver.parts("upl_x").write([BODY[:HALF]], start=0, length=HALF)
    receiver.parts("upl_x").join(digest=DIGEST, size=len(BODY), tags=tags)
    assert receiver.store.path(DIGEST).read_bytes() == BODY
    assert list((receiver.store.root / "tmp").iterdir()) == []


def test_a_part_that_comes_while_parts_are_joined_does_not_reach_stored_bytes(
    receiver: service.Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    tags = {start: receiver.parts("upl_x").write([BODY[start : start + HALF]], start=start, length=HALF)
            for start in (0, HALF)}  # fmt: skip
    adopt = receiver.store.adopt

    def slowly(path: Path, digest: str) -> None:
        with pytest.raises(PortalError, match="put together"):
            receiver.parts("upl_x").write([b"other"], start=0, length=5)
        adopt(path, digest)

    monkeypatch.setattr(receiver.store, "adopt", slowly)
    receiver.parts("upl_x").join(digest=DIGEST, size=len(BODY), tags=tags)
    assert receiver.store.path(DIGEST).read_bytes() == BODY


def test_a_disk_that_fills_up_leaves_nothing_of_the_parts_that_came(receiver: service.Receiver) -> None:
    receiver.parts("upl_x").write([BODY[:1000]], start=0, length=1000)
    with disk_of(100_000), pytest.raises(Full, match="nothing was kept"):
        receiver.parts("upl_x").write([BODY[1000:]], start=1000, length=len(BODY) - 1000)
    assert list((receiver.store.root / "tmp").iterdir()) == []


def test_a_digest_alone_gives_nobody_the_bytes_of_a_model_that_their_token_is_not_for(
    make: Make, session: Session, now: datetime, receiver: service.Receiver
) -> None:
    user, free, _ = writer(session, now)
    mine, _ = service.create(session, full_name="lab/mine", by=free, now=now)
    other = make.model("lab/other")
    secret = b"weights of another model, in this test alone"
    digest = sha256(secret).hexdigest()
    receiver.whole(io.BytesIO(secret), digest=digest, size=len(secret))
    commit = make.commit(other, {"model.safetensors": secret})
    bound, _ = tokens.issue(
        session, by=SYSTEM, owner_id=user.id, name="b", scopes=["weights:write"], model_ids=[mine.id], days=9,
        pepper=PEPPER, now=now,
    )  # fmt: skip
    robot = Actor(user_id=user.id, public_id=user.public_id, access_token_id=bound.id)

    def named(by: Actor) -> frozenset[str]:
        return service.within_reach(session, actor=by, digests=[digest], now=now)

    assert (named(free), named(robot)) == ({digest}, frozenset())
    row = service.open_upload(
        session, model=mine, digest=digest, size=len(secret), part_size=0, stored=False, by=robot, now=now
    )
    assert named(robot) == frozenset(), "announced is not sent"
    service.stored(session, ref=row.public_id, now=now)
    assert named(robot) == {digest}
    assert files.listed(session, commit_id=commit.id)


def test_the_same_new_bytes_in_two_models_at_once_are_no_conflict(own: sa.Engine, now: datetime) -> None:
    with transaction(own) as session:
        _, by, _ = writer(session, now)
        for name in ("lab/one", "lab/two"):
            service.create(session, full_name=name, by=by, now=now)
    begun, ended = threading.Event(), []

    def commit(name: str, then: Callable[[], object]) -> None:
        with transaction(own) as session:
            begun.set() if name == "lab/two" else None
            service.add_commit(
                session, model=catalog.find_any_model(session, full_name=name), branch="main", header=Header("New"),
                counted={}, by=by, now=now, make=lambda before: {e.path: e for e in [*before, entry("same.txt", b"s")]},
            )  # fmt: skip
            then()
        ended.append(name)

    second = threading.Thread(target=commit, args=("lab/two", lambda: None))

    def overlap() -> None:
        second.start()  # waits for the first one: on SQLite from its start, on PostgreSQL at the bytes
        if own.dialect.name == "postgresql":
            assert begun.wait(30)
            _wait_for_a_lock(own)

    commit("lab/one", overlap)
    second.join(30)
    assert sorted(ended) == ["lab/one", "lab/two"]
    with transaction(own, write=False) as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Blob)) == 1


def _wait_for_a_lock(engine: sa.Engine) -> None:
    from tests.running import wait_until

    def waits() -> bool:
        with engine.connect() as connection:
            query = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
            return bool(connection.execute(query).scalar())

    wait_until(waits, seconds=30)


def test_clearing_away_that_was_killed_gives_back_what_somebody_relied_on(
    session: Session, now: datetime, tmp_path: Path
) -> None:
    store = Store(tmp_path / "blobs")
    with store.draft(4) as draft:
        draft.write(b"kept")
        digest = draft.keep().sha256
    (store.root / "tmp").mkdir(exist_ok=True)
    store.path(digest).rename(store.root / "tmp" / f"unused-{digest}")
    os.utime(store.root / "tmp" / f"unused-{digest}", (now.timestamp(),) * 2)
    assert storage.collect(session, store=store, awaited=frozenset(), now=now) == []
    assert store.path(digest).read_bytes() == b"kept"


def test_two_that_clear_away_at_once_do_not_trip_over_each_other(
    session: Session, now: datetime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "blobs")
    with store.draft(6) as draft:
        draft.write(b"unused")
        digest = draft.keep().sha256
    moment = (now - 2 * GRACE).timestamp()
    os.utime(store.path(digest), (moment, moment))
    rename = Path.rename

    def first(self: Path, target: Path) -> Path:
        self.unlink()
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", first)
    assert storage.collect(session, store=store, awaited=frozenset(), now=now) == []


def staged(path: str, body: bytes, **parameters: int) -> Staged:
    return Staged(path, sha256(body).hexdigest(), len(body), "0" * 40, True, parameters)


@pytest.mark.threat("TM-33")
def test_an_empty_file_with_the_name_of_safe_weights_lets_no_pickle_in(
    make: Make, session: Session, now: datetime
) -> None:
    from portal.core.errors import Invalid
    from portal.releases import service as releases

    make.license()
    model = make.model("lab/sly")

    def commit(*files_: Staged) -> Commit:
        return files.commit_files(session, model_id=model.id, staged=files_, message="x", by=SYSTEM, now=now)

    def release(commit: Commit) -> Any:
        return releases.release(
            session, model=model, commit=commit, license_slug=conduct.SLUG, allowed_pickles=(), by=SYSTEM, now=now
        )

    pickle = staged("pytorch_model.bin", b"runs code")
    with pytest.raises(Invalid, match="can run code"):
        release(commit(pickle, staged("a.safetensors", b"nothing")))
    assert release(commit(pickle, staged("b.safetensors", b"weights", F32=5))).id
