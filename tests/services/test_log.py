"""The log: every event gets its place, every checkpoint extends the one before, and whoever changes either is found."""

from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.adapters.signing_key import SigningKey, open_key
from portal.audit import service as audit
from portal.audit.models import Salt
from portal.audit.rules import CardDrafted
from portal.core.actor import SYSTEM
from portal.core.config import SettingError
from portal.core.db import transaction
from portal.core.errors import Conflict
from portal.proofs import rules, service
from portal.proofs.models import Checkpoint, Node
from tests.logged import ORIGIN, advance, behind_the_back, entries, index_of, record
from tests.rules.test_proofs_tree import path, root, subproof


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    """The key of a log."""
    return open_key(tmp_path)


# Writing.


@pytest.mark.invariant("INV-24")
def test_an_event_and_its_leaf_are_there_or_absent_together(session: Session, now: datetime) -> None:
    (row,) = record(session, now, "a")
    leaf, salt = service.leaf_of(session, event_ref=row.public_id), session.get(Salt, row.public_id)
    assert leaf is not None
    assert salt is not None
    assert len(salt.salt) == 32
    body = (
        f'{{"actor":"system","at":"2026-11-02T12:00:00.000000Z","data":{{}},"id":"{row.public_id}",'
        '"name":"account:user:created","subject":"usr_a"}'
    )
    assert leaf.commitment == sha256(salt.salt + body.encode()).digest()
    cause = session.begin_nested()
    (gone,) = record(session, now, "b")
    cause.rollback()
    assert service.leaf_of(session, event_ref=gone.public_id) is None


def test_an_event_is_read_back_as_it_was_committed_to(session: Session, now: datetime) -> None:
    event = CardDrafted(subject="mod_a", number=2**40)
    row = audit.record(session, event, by=SYSTEM, now=now.replace(microsecond=123456))
    session.flush()
    session.expire_all()
    found = audit.logged(session, event)
    assert found is not None
    assert found.salt is not None
    leaf = service.leaf_of(session, event_ref=found.ref)
    assert leaf is not None
    assert leaf.commitment == sha256(found.salt + found.body).digest()
    assert found.ref == row.public_id
    for other in (CardDrafted(subject="mod_b", number=2**40), CardDrafted(subject="mod_a", number=1)):
        assert audit.logged(session, other) is None


def test_pending_leaves_get_places_and_the_first_checkpoint_comes_at_once(
    session: Session, now: datetime, key: SigningKey
) -> None:
    rows = record(session, now, "a", "b", "c")
    assert service.newest(session) is None
    assert service.is_due(session, kept=None, now=now)
    step = advance(session, key, now)
    assert not step.more
    assert [index_of(session, row) for row in rows] == list(range(service.size(session) - 3, service.size(session)))
    head = rules.read_checkpoint(step.note or b"")
    assert (head.origin, head.size, head.root) == (ORIGIN, len(entries(session)), root(entries(session)))
    assert rules.is_signed(head, key)
    assert not service.is_due(session, kept=step.note, now=now + timedelta(hours=1))


def test_a_checkpoint_is_signed_each_minute_in_which_something_changed_and_at_once_for_many(
    session: Session, now: datetime, key: SigningKey
) -> None:
    first = advance(session, key, now).note
    record(session, now, "a")
    assert advance(session, key, now + timedelta(seconds=59)).note == first
    assert not service.is_due(session, kept=first, now=now + timedelta(seconds=59))
    assert service.is_due(session, kept=first, now=now + timedelta(seconds=60))
    second = advance(session, key, now + timedelta(seconds=60)).note
    assert second != first
    assert advance(session, key, now + timedelta(hours=1)).note == second
    record(session, now, *map(str, range(service.MANY - 1)))
    assert advance(session, key, now + timedelta(seconds=61)).note == second
    record(session, now, "last")
    assert advance(session, key, now + timedelta(seconds=61)).note != second
    record(session, now, "clock")
    assert service.is_due(session, kept=key.kept(), now=now), "a clock that went back holds nothing up"
    assert rules.read_checkpoint(advance(session, key, now).note or b"").size == service.size(session)


def test_many_pending_leaves_are_taken_in_turns(session: Session, now: datetime, key: SigningKey) -> None:
    advance(session, key, now)
    before = service.size(session)
    record(session, now, *map(str, range(5)))
    assert service.number_pending(session, limit=3)
    assert service.size(session) == before + 3
    assert not service.number_pending(session, limit=3)
    assert not service.number_pending(session, limit=3)
    assert service.root(session, at=before + 5) == root(entries(session))


@pytest.mark.parametrize("own", ["postgresql"], indirect=True)
def test_what_is_committed_out_of_order_gets_in(own: sa.Engine, now: datetime, key: SigningKey) -> None:
    with transaction(own) as slow:
        (early,) = record(slow, now, "early")
        with transaction(own) as quick:
            (late,) = record(quick, now, "late")
        with transaction(own) as worker:
            advance(worker, key, now)
            with transaction(own) as other:
                other.execute(sa.text("SET LOCAL lock_timeout = '2s'"))
                assert service.advance(other, key=key, origin=ORIGIN, kept=None, now=now).note is None, "one at a time"
        assert early.id < late.id
    with transaction(own) as worker:
        advance(worker, key, now + timedelta(minutes=1))
    with transaction(own, write=False) as session:
        assert [index_of(session, late), index_of(session, early)] == [0, 1]
        assert audit.verify(session, key=key, kept=key.kept()).entries == 2


# Proofs.


def test_an_event_is_proved_under_a_checkpoint_that_covers_it(session: Session, now: datetime, key: SigningKey) -> None:
    first, *_ = record(session, now, *map(str, range(20)))
    assert service.proof_of(session, event_ref=first.public_id, size=10**6, note=b"") is None, "it has no place yet"
    note = advance(session, key, now).note or b""
    covered = rules.read_checkpoint(note).size
    (second,) = record(session, now, "second")
    advance(session, key, now)
    assert index_of(session, second) == service.size(session) - 1 == covered
    for ref in (second.public_id, "evt_none"):
        assert service.proof_of(session, event_ref=ref, size=covered, note=note) is None
    at, all_ = index_of(session, first), entries(session)[:-1]
    found = service.proof_of(session, event_ref=first.public_id, size=covered, note=note)
    assert found == rules.proof(at, all_[at], path(at, all_), note)


@pytest.mark.invariant("INV-24")
def test_checkpoints_are_consistent(session: Session, now: datetime, key: SigningKey) -> None:
    for minute in range(8):
        record(session, now, *map(str, range(minute + 1)))
        advance(session, key, now + timedelta(minutes=minute))
    rows = session.scalars(sa.select(Checkpoint).order_by(Checkpoint.size)).all()
    assert len(rows) == 8
    for old in rows:
        for new in rows:
            if old.size <= new.size:
                proof = service.consistency(session, old=old.size, new=new.size)
                assert proof == subproof(old.size, entries(session)[: new.size])
                assert rules.is_consistent(old.size, new.size, old.root, new.root, proof)
    assert service.consistency(session, old=0, new=5) == []


def test_tiles_hold_what_a_checkpoint_covers(session: Session, now: datetime, key: SigningKey) -> None:
    assert service.tile(session, level=0, number=0, width=1) is None
    assert service.entries(session, number=0, width=1) is None
    record(session, now, *map(str, range(600)))
    advance(session, key, now)
    record(session, now, "later")
    advance(session, key, now)
    all_ = entries(session)[:-1]
    hashes = [rules.leaf_hash(entry) for entry in all_]
    assert service.tile(session, level=0, number=1, width=256) == b"".join(hashes[256:512])
    assert service.tile(session, level=1, number=0, width=2) == root(all_[:256]) + root(all_[256:512])
    last = len(all_) - 512
    assert service.tile(session, level=0, number=2, width=last) == b"".join(hashes[512:])
    assert service.tile(session, level=0, number=2, width=last + 1) is None
    assert service.tile(session, level=1, number=0, width=3) is None
    assert service.entries(session, number=2, width=last) == b"".join(b"\0\x20" + entry for entry in all_[512:])
    assert service.entries(session, number=2, width=last + 1) is None


# Refusing to sign.


def refused(session: Session, key: SigningKey, now: datetime, why: str) -> None:
    """Nothing is numbered or signed, and the reason is said."""
    record(session, now, "waits")
    before = service.size(session), session.scalar(sa.select(sa.func.count()).select_from(Checkpoint))
    with pytest.raises(Conflict, match=why):
        advance(session, key, now + timedelta(hours=1))
    assert (service.size(session), session.scalar(sa.select(sa.func.count()).select_from(Checkpoint))) == before
    assert why in service.trouble(session, key=key, kept=key.kept())


@pytest.mark.threat("TM-21")
def test_an_older_copy_of_the_database_is_not_signed(session: Session, now: datetime, key: SigningKey) -> None:
    record(session, now, "a")
    advance(session, key, now)
    older = session.begin_nested()
    record(session, now, "b")
    advance(session, key, now + timedelta(minutes=1))
    assert service.trouble(session, key=key, kept=key.kept()) == ""
    older.rollback()
    refused(session, key, now, "an older copy was put back")


@pytest.mark.threat("TM-21")
def test_an_older_copy_that_has_grown_since_is_not_signed(session: Session, now: datetime, key: SigningKey) -> None:
    advance(session, key, now)
    older = session.begin_nested()
    record(session, now, "b")
    advance(session, key, now + timedelta(minutes=1))
    older.rollback()
    record(session, now, "c", "d")
    service.number_pending(session)
    refused(session, key, now, "has another root")


@pytest.mark.threat("TM-21")
def test_lost_checkpoints_are_noticed(session: Session, now: datetime, key: SigningKey) -> None:
    record(session, now, "a")
    advance(session, key, now)
    behind_the_back(session, sa.delete(Checkpoint))
    refused(session, key, now, "is missing in it")


@pytest.mark.threat("TM-21")
def test_a_tree_that_was_built_anew_is_not_signed(session: Session, now: datetime, key: SigningKey) -> None:
    (row,) = record(session, now, "a")
    advance(session, key, now)
    at = index_of(session, row)
    forged = sa.update(Node).where(Node.level == 0, Node.index == at).values(hash=b"f" * 32)
    behind_the_back(session, forged)
    if at & 1 == 0:
        refused(session, key, now, "has another root")
    else:
        behind_the_back(session, sa.update(Node).values(hash=b"f" * 32))
        refused(session, key, now, "has another root")


def test_a_tree_with_holes_is_not_signed(session: Session, now: datetime, key: SigningKey) -> None:
    record(session, now, "a")
    advance(session, key, now)
    behind_the_back(session, sa.delete(Node).where(Node.level > 0))
    refused(session, key, now, "the tree lacks its node")


def test_a_kept_checkpoint_must_be_readable(session: Session, now: datetime, key: SigningKey) -> None:
    advance(session, key, now)
    key.keep(b"scribble")
    refused(session, key, now, "is not written as")


def test_a_kept_checkpoint_must_be_signed_by_the_key(
    session: Session, now: datetime, key: SigningKey, tmp_path: Path
) -> None:
    advance(session, key, now)
    key.keep(rules.checkpoint(ORIGIN, 0, rules.EMPTY_ROOT, open_key(tmp_path / "other")))
    refused(session, key, now, "is not signed by the key")


def test_a_kept_checkpoint_may_be_late_but_not_lost(session: Session, now: datetime, key: SigningKey) -> None:
    first = advance(session, key, now).note
    key.kept_at.unlink()
    assert service.is_due(session, kept=None, now=now)
    assert advance(session, key, now).note == first == key.kept()
    record(session, now, "a")
    second = advance(session, key, now + timedelta(minutes=1)).note
    key.keep(first or b"")
    assert advance(session, key, now).note == second == key.kept(), "the last step may have ended before it was kept"
    key.kept_at.unlink()
    refused(session, key, now, "no checkpoint is kept")


def test_a_key_is_made_once_and_is_for_the_portal_alone(tmp_path: Path) -> None:
    one, other = open_key(tmp_path), open_key(tmp_path)
    assert one.public == other.public
    file = tmp_path / "keys" / "log"
    assert file.stat().st_mode & 0o777 == 0o600
    assert other.holds(one.sign(b"x"), b"x")
    assert not other.holds(one.sign(b"x"), b"y")
    file.write_text("no key")
    with pytest.raises(SettingError, match="holds no Ed25519 key"):
        open_key(tmp_path)


def test_an_empty_log_holds(own: sa.Engine, key: SigningKey, now: datetime) -> None:
    with transaction(own) as session:
        assert audit.verify(session, key=key, kept=None).root == rules.EMPTY_ROOT.hex()
        assert not service.is_due(session, kept=None, now=now)
        assert advance(session, key, now) == service.Step(None, more=False)
