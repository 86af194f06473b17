"""Taking in files from staff: what fits, what is kept, who comes first, on both databases."""

import io
import os
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.accounts.rules import Role
from portal.catalog import service as catalog
from portal.catalog.rules import ModelState
from portal.core.actor import Actor
from portal.core.db import transaction
from portal.core.errors import Full, Invalid, NotFound, PortalError, Refused
from portal.files import service as files
from portal.files.models import Commit, Ref, Upload
from portal.files.rules import Entry, RefKind, git_oid
from portal.storage.service import Store
from portal.tokens import service as tokens
from portal.tokens.models import AccessToken
from portal.uploads import service
from portal.uploads.rules import KEPT, Add, Header
from tests import conduct
from tests.factories import PEPPER, Make

BODY = b"weights " * 100_000
DIGEST = sha256(BODY).hexdigest()


@pytest.fixture
def receiver(tmp_path: Path) -> service.Receiver:
    return service.Receiver(Store(tmp_path / "blobs"))


def entry(path: str, content: bytes = b"x") -> Entry:
    return Entry(path, len(content), git_oid(content), sha256(content).hexdigest())


def writer(session: Session, now: datetime) -> tuple[User, Actor, AccessToken]:
    user = Make(session, now).person("writer", Role.CARD_EDITOR)
    token, _ = tokens.issue(
        session, by=conduct.acting(user), owner_id=user.id, name="t", scopes=["weights:write"], model_ids=[], days=9,
        pepper=PEPPER, now=now,
    )  # fmt: skip
    return user, Actor(user_id=user.id, public_id=user.public_id, access_token_id=token.id), token


def begin(session: Session, now: datetime, **kept: Any) -> tuple[Upload, AccessToken]:
    _, by, token = writer(session, now)
    model, _ = service.create(session, full_name="lab/up", by=by, now=now)
    values = {"digest": DIGEST, "size": len(BODY), "part_size": 0, "stored": False, **kept}
    return service.open_upload(session, model=model, by=by, now=now, **values), token


def test_what_is_stored_stays_for_whoever_is_about_to_name_it(session: Session, now: datetime) -> None:
    row, _ = begin(session, now)
    assert files.awaited(session, now=now) == {DIGEST}
    assert service.promised(session, now=now) == len(BODY)
    service.stored(session, ref=row.public_id, now=now)
    assert service.promised(session, now=now) == 0
    assert service.sweep(session, now=now + KEPT - timedelta(seconds=1)) == []
    assert service.sweep(session, now=now + KEPT) == [row.public_id]
    assert files.awaited(session, now=now) == frozenset()
    with pytest.raises(PortalError, match="no such upload"):
        service.find_upload(session, ref=row.public_id, now=now)


def test_an_upload_goes_on_only_while_its_person_may(session: Session, now: datetime) -> None:
    row, token = begin(session, now)
    found, user = service.find_upload(session, ref=row.public_id, now=now)
    assert (found.id, user.id) == (row.id, row.user_id)
    with pytest.raises(PortalError, match="no such upload"):
        service.find_upload(session, ref=row.public_id, now=now + KEPT)
    tokens.revoke(session, by=conduct.acting(user), ref=token.public_id, now=now)
    with pytest.raises(Refused, match="has ended"):
        service.find_upload(session, ref=row.public_id, now=now)


def test_a_withdrawn_model_takes_nothing_more(session: Session, now: datetime) -> None:
    _, by, _ = writer(session, now)
    model, new = service.create(session, full_name="lab/gone", by=by, now=now)
    again, second = service.create(session, full_name="lab/gone", by=by, now=now)
    assert (new, second, again.id) == (True, False, model.id)
    model.state = ModelState.WITHDRAWN
    session.flush()
    with pytest.raises(Refused, match="withdrawn"):
        service.find(session, actor=by, full_name="lab/gone")
    with pytest.raises(NotFound):
        service.find(session, actor=by, full_name="lab/never")


def test_a_model_that_has_a_card_only_gets_its_first_commit(make: Make, session: Session, now: datetime) -> None:
    model = make.model("lab/carded")
    _, by, _ = writer(session, now)
    assert service.create(session, full_name="lab/carded", by=by, now=now) == (model, False)
    commit = service.tip(session, model=model, revision="main")
    assert files.listed(session, commit_id=commit.id) == []
    assert catalog.released(session, model=model) == frozenset()


def test_a_tag_of_a_release_stays(make: Make, session: Session, now: datetime) -> None:
    release = make.release()
    by = writer(session, now)[1]
    kept: dict[str, Any] = {"model": release.model, "kind": RefKind.TAG, "name": "v1", "by": by, "now": now}
    service.make_ref(session, at=release.revision, **kept)
    with pytest.raises(Refused, match="stays"):
        service.drop_ref(session, **kept)


@pytest.mark.parametrize("same_parent", [True, False], ids=["same parent", "no parent named"])
def test_of_two_commits_at_once_on_one_parent_exactly_one_wins(
    own: sa.Engine, now: datetime, same_parent: bool
) -> None:
    with transaction(own) as session:
        _, by, _ = writer(session, now)
        model, _ = service.create(session, full_name="lab/race", by=by, now=now)
        first = service.tip(session, model=model, revision="main").revision
    gate, ended = threading.Barrier(2), []

    def race(number: int) -> None:
        gate.wait()
        try:
            with transaction(own) as session:
                service.add_commit(
                    session, model=catalog.find_any_model(session, full_name="lab/race"), branch="main",
                    header=Header(f"Number {number}", parent=first if same_parent else ""), counted={}, by=by, now=now,
                    make=lambda before: {e.path: e for e in [*before, entry(f"{number}.txt", b"%d" % number)]},
                )  # fmt: skip
            ended.append("won")
        except PortalError as error:
            ended.append(error.code)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    with transaction(own, write=False) as session:
        ref = session.scalars(sa.select(Ref).where(Ref.model_id == model.id)).one()
        names = [e.path for e in files.listed(session, commit_id=ref.commit_id)]
        count = session.scalar(sa.select(sa.func.count()).select_from(Commit).where(Commit.model_id == model.id))
    if same_parent:
        assert (sorted(ended), len(names), count) == (["parent_stale", "won"], 1, 2)
    else:
        assert (ended, names, count) == (["won", "won"], ["0.txt", "1.txt"], 3)


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """Let this process write no file beyond a size, as a disk that fills up does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_disk_that_fills_up_while_bytes_come_keeps_nothing_of_them(receiver: service.Receiver) -> None:
    tmp = receiver.store.root / "tmp"
    with disk_of(100_000):
        with pytest.raises(Full, match="disk is full"):
            receiver.whole(io.BytesIO(BODY), digest=DIGEST, size=len(BODY))
        with pytest.raises(Full, match="disk is full"):
            receiver.parts("upl_x").write([BODY], start=0, length=len(BODY))
        with pytest.raises(Full, match="disk is full"):
            receiver.entry(Add("big.txt", content=BODY))
    receiver.parts("upl_x").forget()
    assert list(tmp.iterdir()) == []
    assert not receiver.store.path(DIGEST).exists()
    receiver.whole(io.BytesIO(BODY), digest=DIGEST, size=len(BODY))
    assert receiver.holds(DIGEST, len(BODY)) == len(BODY)


@pytest.mark.parametrize(
    ("sent", "size", "digest", "error"),
    [(BODY[:-1], len(BODY), DIGEST, PortalError), (BODY + b"x", len(BODY), DIGEST, PortalError),
     (BODY, len(BODY), "0" * 64, Invalid), (b"", len(BODY), DIGEST, PortalError)],
    ids=["too few", "too many", "others", "none"],
)  # fmt: skip
def test_only_what_was_announced_is_kept(
    receiver: service.Receiver, sent: bytes, size: int, digest: str, error: type[PortalError]
) -> None:
    with pytest.raises(error):
        receiver.whole(io.BytesIO(sent), digest=digest, size=size)
    assert [p for p in receiver.store.root.rglob("*") if p.is_file()] == []


def test_parts_are_joined_once_all_of_them_are_right(receiver: service.Receiver) -> None:
    half = len(BODY) // 2
    tags = {start: receiver.parts("upl_x").write([BODY[start : start + half]], start=start, length=half)
            for start in (half, 0)}  # fmt: skip
    with pytest.raises(PortalError, match="begins at byte 0"):
        receiver.parts("upl_x").join(digest=DIGEST, size=len(BODY), tags={**tags, 0: "other"})
    with pytest.raises(PortalError, match="not the file"):
        receiver.parts("upl_x").join(digest="0" * 64, size=len(BODY), tags=tags)
    receiver.parts("upl_x").join(digest=DIGEST, size=len(BODY), tags=tags)
    assert receiver.store.path(DIGEST).read_bytes() == BODY
    assert list((receiver.store.root / "tmp").iterdir()) == []


def test_what_nobody_finished_is_swept_after_a_day(receiver: service.Receiver, now: datetime) -> None:
    assert receiver.sweep(now.timestamp()) == 0
    half = len(BODY) // 2
    receiver.parts("upl_old").write([BODY[:half]], start=0, length=half)
    receiver.parts("upl_new").write([BODY[:half]], start=0, length=half)
    for path in (receiver.store.root / "tmp").glob("upl_old.*"):
        os.utime(path, (now.timestamp() - 90_000,) * 2)
    for path in (receiver.store.root / "tmp").glob("upl_new.*"):
        os.utime(path, (now.timestamp() - 80_000,) * 2)
    assert receiver.sweep(now.timestamp()) == 2
    assert {p.name for p in (receiver.store.root / "tmp").iterdir()} == {"upl_new.parts", "upl_new.0"}
    receiver.parts("upl_new").forget()
    assert list((receiver.store.root / "tmp").iterdir()) == []
