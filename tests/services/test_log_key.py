"""Handing the log over to another key: the old one says so, the log holds, and only who was named signs on."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.adapters.signing_key import SigningKey, open_key
from portal.audit import service as audit
from portal.audit.models import AuditEvent
from portal.audit.rules import LogKeyChanged
from portal.core.actor import SYSTEM
from portal.core.errors import Conflict
from portal.proofs import rules, service
from portal.proofs.models import Checkpoint
from tests.logged import ORIGIN, advance, behind_the_back, index_of, record


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    """The key of a log."""
    return open_key(tmp_path)


def rotate(session: Session, key: SigningKey, now: datetime, *, give_way: bool = True) -> bytes:
    """What the command does."""
    note = audit.rotate_key(
        session, key=key, successor=key.successor(), origin=ORIGIN, kept=key.kept(), by=SYSTEM, now=now
    )
    key.keep(note)
    if give_way:
        key.give_way()
    return note


def differs(session: Session, key: SigningKey, why: str) -> None:
    with pytest.raises(Conflict, match=why):
        audit.verify(session, key=key, kept=key.kept())


@pytest.fixture
def before(session: Session, now: datetime, key: SigningKey) -> bytes:
    """The public key that signed the first checkpoint."""
    record(session, now, "a", "b")
    advance(session, key, now)
    return key.public


def test_the_old_key_names_the_new_one_and_both_sign(
    session: Session, now: datetime, key: SigningKey, before: bytes
) -> None:
    record(session, now, "pending")
    note = rotate(session, key, now)
    head = rules.read_checkpoint(note)
    assert key.public != before
    assert head.successor == rules.vkey(ORIGIN, key.public)
    assert rules.is_signed(head, key)
    assert rules.is_signed(head, key, before)
    (event,) = session.scalars(sa.select(AuditEvent).where(AuditEvent.name == LogKeyChanged.name)).all()
    assert event.subject == rules.key_id(ORIGIN, key.public).hex()
    assert event.data == {"before": rules.key_id(ORIGIN, before).hex()}
    assert index_of(session, event) == head.size - 1, "the change itself is in the log, under the old key's word"
    found = service.handover(session, by=rules.key_id(ORIGIN, before).hex())
    assert found is not None
    assert found.note == note
    assert service.handover(session, by=rules.key_id(ORIGIN, key.public).hex()) is None


def test_the_log_holds_over_several_keys(session: Session, now: datetime, key: SigningKey, before: bytes) -> None:
    for number in range(1, 4):
        rotate(session, key, now + timedelta(minutes=number))
        assert service.trouble(session, key=key, kept=key.kept()) == ""
        audit.verify(session, key=key, kept=key.kept())
        record(session, now, str(number))
        note = advance(session, key, now + timedelta(minutes=number + 1)).note or b""
        assert rules.is_signed(rules.read_checkpoint(note), key)
        audit.verify(session, key=key, kept=key.kept())
    assert len(service.handovers(session)) == 3
    first = session.scalars(sa.select(Checkpoint).order_by(Checkpoint.size).limit(1)).one()
    assert rules.is_signed(rules.read_checkpoint(first.note), key, before), "an old checkpoint, with the old key"


def test_what_was_cut_off_in_the_middle_is_finished_by_doing_it_again(
    session: Session, now: datetime, key: SigningKey, before: bytes
) -> None:
    note = rotate(session, key, now, give_way=False)
    assert key.public == before
    record(session, now, "waits")
    with pytest.raises(Conflict, match="`portal log rotate-key` finishes that"):
        advance(session, key, now + timedelta(hours=1))
    assert rotate(session, key, now) == note
    assert key.public != before
    assert advance(session, key, now + timedelta(hours=1)).note != note
    audit.verify(session, key=key, kept=key.kept())


@pytest.mark.threat("TM-21")
def test_a_key_that_handed_the_log_over_signs_no_more(
    session: Session, now: datetime, key: SigningKey, before: bytes, tmp_path: Path
) -> None:
    stolen = tmp_path / "stolen"
    (stolen / "keys").mkdir(parents=True)
    (stolen / "keys" / "log").write_bytes(key.path.read_bytes())
    old = open_key(stolen)
    rotate(session, key, now)
    record(session, now, "later")
    advance(session, key, now + timedelta(minutes=1))
    last = service.newest(session)
    assert last is not None
    forged = rules.checkpoint(ORIGIN, last.size, last.root, old)
    change = sa.update(Checkpoint).where(Checkpoint.size == last.size)
    behind_the_back(session, change.values(note=forged, signer=before))
    differs(session, key, "by a key that nobody handed the log over to")
    behind_the_back(session, change.values(note=forged, signer=key.public))
    differs(session, key, "is not signed by the key of this log")


@pytest.mark.threat("TM-21")
def test_a_handover_that_was_changed_is_found(
    session: Session, now: datetime, key: SigningKey, before: bytes, tmp_path: Path
) -> None:
    note = rotate(session, key, now)
    change = sa.update(Checkpoint).where(Checkpoint.note == note)
    other = open_key(tmp_path / "other")
    behind_the_back(session, change.values(successor=other.public))
    differs(session, key, "do not lead to the key that it has now")
    head = rules.read_checkpoint(note)
    behind_the_back(session, sa.update(Checkpoint).values(successor=None))
    differs(session, key, "do not lead to the key that it has now")
    mixed = rules.checkpoint(ORIGIN, head.size, head.root, key)
    behind_the_back(session, sa.update(Checkpoint).where(Checkpoint.size == head.size)
                    .values(note=mixed, successor=key.public))  # fmt: skip
    differs(session, key, "is not signed by the key of this log")


def test_a_successor_is_made_once_and_takes_the_place(key: SigningKey) -> None:
    one, other = key.successor(), key.successor()
    assert one.public == other.public != key.public
    assert one.path.stat().st_mode & 0o777 == 0o600
    key.give_way()
    assert key.public == one.public
    assert not one.path.exists()
    key.path.unlink()
    assert key.public == one.public, "what runs goes on with what it read"
