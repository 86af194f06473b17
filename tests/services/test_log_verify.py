"""Recomputing the log from the records: whoever changed either is found, and the first thing that differs is named."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.adapters.signing_key import SigningKey, open_key
from portal.audit import service as audit
from portal.audit.models import AuditEvent, Salt
from portal.audit.rules import SaltErased, SignedUp
from portal.core.actor import SYSTEM
from portal.core.errors import Conflict, NotFound
from portal.proofs import rules, service
from portal.proofs.models import Checkpoint, Leaf, Node
from tests import licensed
from tests.factories import Make
from tests.logged import ORIGIN, advance, behind_the_back, entries, index_of, record
from tests.rules.test_proofs_tree import root


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    """The key of a log."""
    return open_key(tmp_path)


@pytest.fixture
def log(session: Session, now: datetime, key: SigningKey) -> list[AuditEvent]:
    """Ten events on ten days, half of them under a first checkpoint, and one that is pending."""
    rows = []
    for day in range(10):
        rows += record(session, now + timedelta(days=day), str(day))
        if day in {4, 9}:
            advance(session, key, now + timedelta(days=day))
    record(session, now + timedelta(days=11), "pending")
    return rows


def differs(session: Session, key: SigningKey, why: str) -> None:
    with pytest.raises(Conflict, match=why):
        audit.verify(session, key=key, kept=key.kept())


@pytest.mark.threat("TM-24")
def test_an_honest_log_holds(session: Session, key: SigningKey, log: list[AuditEvent], now: datetime) -> None:
    found = audit.verify(session, key=key, kept=key.kept())
    assert found.entries == len(entries(session)) == found.events - 1
    assert found.pending == 1
    assert found.root == root(entries(session)).hex()
    assert found.checkpoints >= 1
    audit.erase_salt(session, event_ref=log[3].public_id, by=SYSTEM, now=now + timedelta(days=12))
    audit.erase_salt(session, event_ref=log[3].public_id, by=SYSTEM, now=now + timedelta(days=12))
    advance(session, key, now + timedelta(days=12))
    assert audit.verify(session, key=key, kept=key.kept()).events == found.events + 1
    erased = audit.logged(session, SignedUp(subject="usr_3"))
    assert erased is not None
    assert erased.salt is None
    with pytest.raises(NotFound):
        audit.erase_salt(session, event_ref="evt_none", by=SYSTEM, now=now)


@pytest.mark.invariant("INV-24")
@pytest.mark.threat("TM-21")
@pytest.mark.parametrize(
    "values",
    [{"subject": "usr_z"}, {"actor": "usr_z"}, {"name": "account:role:granted"}, {"data": {"x": 1}},
     {"at": datetime.fromisoformat("2026-11-02T12:00:00.000001+00:00")}],
    ids=lambda values: next(iter(values)),
)  # fmt: skip
def test_an_edited_event_is_found(
    session: Session, key: SigningKey, log: list[AuditEvent], values: dict[str, Any]
) -> None:
    behind_the_back(session, sa.update(AuditEvent).where(AuditEvent.id == log[2].id).values(values))
    differs(session, key, f"Event {log[2].public_id} .* is not what the log committed to")


@pytest.mark.threat("TM-21")
def test_a_deleted_event_is_found(session: Session, key: SigningKey, log: list[AuditEvent]) -> None:
    ref, at = log[2].public_id, index_of(session, log[2])
    session.execute(sa.delete(Salt).where(Salt.event_ref == ref))
    behind_the_back(session, sa.delete(AuditEvent).where(AuditEvent.public_id == ref))
    differs(session, key, f"Event {ref} .entry {at} of the log. is no longer on record")


@pytest.mark.threat("TM-21")
def test_an_event_that_was_deleted_before_it_was_numbered_is_found(session: Session, key: SigningKey, log: Any) -> None:
    row = session.scalars(sa.select(AuditEvent).where(AuditEvent.subject == "usr_pending")).one()
    session.execute(sa.delete(Salt).where(Salt.event_ref == row.public_id))
    behind_the_back(session, sa.delete(AuditEvent).where(AuditEvent.public_id == row.public_id))
    differs(session, key, r"\(pending of the log\) is no longer on record")


@pytest.mark.threat("TM-21")
def test_an_event_deleted_with_its_leaf_is_found(session: Session, key: SigningKey, log: list[AuditEvent]) -> None:
    ref, at = log[2].public_id, index_of(session, log[2])
    session.execute(sa.delete(Salt).where(Salt.event_ref == ref))
    behind_the_back(session, sa.delete(AuditEvent).where(AuditEvent.public_id == ref))
    behind_the_back(session, sa.delete(Leaf).where(Leaf.event_ref == ref))
    differs(session, key, f"no leaf has the place {at}")


@pytest.mark.threat("TM-21")
def test_events_in_another_order_are_found(session: Session, key: SigningKey, log: list[AuditEvent]) -> None:
    one, other = log[2].id, log[7].id
    for old, new in ((one, -1), (other, one), (-1, other)):
        behind_the_back(session, sa.update(AuditEvent).where(AuditEvent.id == old).values(id=new))
    differs(session, key, "stand in another order than in the log")


@pytest.mark.threat("TM-21")
def test_leaves_in_another_order_are_found(session: Session, key: SigningKey, log: list[AuditEvent]) -> None:
    one, other = (index_of(session, row) for row in log[5:7])
    for old, new in ((one, 10**6), (other, one), (10**6, other)):
        behind_the_back(session, sa.update(Leaf).where(Leaf.index == old).values(index=new))
    differs(session, key, "another order|is not the hash of what lies below it|another root")


@pytest.mark.threat("TM-21")
def test_an_event_that_was_slipped_in_is_found(session: Session, key: SigningKey, log: Any, now: datetime) -> None:
    session.add(AuditEvent(public_id="evt_x", name="x", subject="x", data={}, actor="x", at=now))
    session.flush()
    differs(session, key, "Event evt_x .* was never put in the log")


@pytest.mark.threat("TM-21")
def test_a_salt_that_is_gone_needs_an_event_that_says_so(session: Session, key: SigningKey, log: Any) -> None:
    session.execute(sa.delete(Salt).where(Salt.event_ref == log[1].public_id))
    differs(session, key, f"The salt of event {log[1].public_id} .* is gone")


@pytest.mark.threat("TM-21")
def test_a_tree_that_does_not_fit_its_leaves_is_found(session: Session, key: SigningKey, log: Any) -> None:
    behind_the_back(session, sa.update(Node).where(Node.level == 1, Node.index == 1).values(hash=b"x" * 32))
    differs(session, key, "node 1 of level 1 is not the hash of what lies below it")


@pytest.mark.threat("TM-21")
def test_nodes_beyond_the_leaves_are_found(session: Session, key: SigningKey, log: Any) -> None:
    session.add(Node(level=40, index=0, hash=b"x" * 32))
    differs(session, key, "nodes")


@pytest.mark.threat("TM-21")
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda note: b"x" + note[1:], "not signed by the key"),
        (lambda note: note[:-1], "not written as"),
    ],
)  # fmt: skip
def test_a_changed_checkpoint_is_found(session: Session, key: SigningKey, log: Any, change: Any, why: str) -> None:
    last = service.newest(session)
    assert last is not None
    behind_the_back(session, sa.update(Checkpoint).where(Checkpoint.size == last.size).values(note=change(last.note)))
    differs(session, key, why)


@pytest.mark.threat("TM-21")
def test_checkpoints_of_another_tree_are_found(session: Session, key: SigningKey, log: Any, now: datetime) -> None:
    size = service.size(session)
    for at, why in ((1, "over 1 entries has another root"), (size + 1, f"covers {size + 1} entries")):
        made = Checkpoint(size=at, root=b"x" * 32, note=rules.checkpoint(ORIGIN, at, b"x" * 32, key), signed_at=now,
                          signer=key.public)  # fmt: skip
        nested = session.begin_nested()
        session.add(made)
        session.flush()
        differs(session, key, why)
        nested.rollback()


@pytest.mark.threat("TM-21")
def test_a_changed_signature_is_found(session: Session, key: SigningKey, make: Make, now: datetime) -> None:
    version = licensed.publish(session, now)
    signature = licensed.sign(session, licensed.browsing(make.person("signer")), version, now)
    advance(session, key, now)
    audit.verify(session, key=key, kept=key.kept())
    table = sa.table("signature", sa.column("id"), sa.column("annex_commitment"))
    number, ref = signature.id, signature.public_id
    here = table.c.id == number
    behind_the_back(session, sa.update(table).where(here).values(annex_commitment="0" * 64))
    differs(session, key, f"The signature {ref} is not what the log says of it")
    behind_the_back(session, sa.text(f"DELETE FROM signature_annex WHERE signature_id = {number}"))
    behind_the_back(session, sa.text(f"DELETE FROM signature WHERE id = {number}"))
    differs(session, key, f"The signature {ref}, of which an event tells, is gone")


@pytest.mark.threat("TM-21")
def test_a_signature_that_was_slipped_in_is_found(session: Session, key: SigningKey, make: Make, now: datetime) -> None:
    advance(session, key, now)
    audit.verify(session, key=key, kept=key.kept())
    planted = make.sign(make.person("planted"))
    session.flush()
    row = session.scalars(sa.select(AuditEvent).where(AuditEvent.subject == planted.public_id)).one()
    ref, event = planted.public_id, row.public_id
    for table, column in ((Leaf, Leaf.event_ref), (Salt, Salt.event_ref), (AuditEvent, AuditEvent.public_id)):
        behind_the_back(session, sa.delete(table).where(column == event))
    differs(session, key, f"No event tells how the signature {ref} came about")


@pytest.mark.invariant("INV-23")
def test_erasing_is_told_by_an_event(session: Session, now: datetime, log: list[AuditEvent]) -> None:
    audit.erase_salt(session, event_ref=log[0].public_id, by=SYSTEM, now=now)
    assert [row.subject for row in audit.recent(session, name=SaltErased.name)] == [log[0].public_id]
