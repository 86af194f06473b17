"""Receipts on both databases: made once, superseded by the one with a timestamp, checked link by link, bundled."""

import io
import json
import zipfile
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.adapters.pades import Verdict
from portal.audit import service as audit
from portal.audit.models import AuditEvent
from portal.audit.rules import LicenseSigned
from portal.clauses.models import Text
from portal.core.actor import SYSTEM, Actor
from portal.core.errors import Invalid, NotFound
from portal.licensing.models import LicenseVersion, Signature, SignatureAnnex
from portal.proofs import service as proofs
from portal.proofs.models import Receipt
from portal.proofs.rules import ReceiptTime, canonical, digest
from portal.receipts import service
from portal.signing import service as signing
from tests import conduct, licensed, sealing

SOUND = Verdict(by="Portal")
EVENT = "license:receipt:created"


@dataclass
class World:
    """A person who signed the license."""

    session: Session
    now: datetime
    me: Actor
    version: LicenseVersion
    signature: Signature

    @property
    def ref(self) -> str:
        return self.signature.public_id

    @property
    def evidence(self) -> bytes:
        return signing.evidence_of(self.session, signature=self.signature) or b""

    def order(self) -> service.Order:
        return service.order(self.session, signature_id=self.signature.id)

    def pending(self, **given: Any) -> list[service.Order]:
        return [o for o in service.pending(self.session, limit=100, **given) if o.ref == self.ref]

    def erase(self) -> None:
        self.session.delete(self.session.get_one(SignatureAnnex, self.signature.id))
        self.session.flush()


@pytest.fixture
def world(session: Session, now: datetime) -> World:
    version = licensed.publish(session, now, "1.0.0")
    me = licensed.browsing(conduct.person(session, "ann", now))
    return World(session, now, me, version, licensed.sign(session, me, version, now, "fr"))


def code(world: World, body: bytes, **given: Any) -> str:
    with pytest.raises(Invalid) as caught:
        sealing.verify(world.session, body, **given)
    assert caught.value.field == "file"
    return caught.value.code


def stated(world: World, evidence: bytes | None) -> str:
    """Check a soundly sealed file with some evidence."""
    return code(world, b"x", check_seal=lambda _pdf: SOUND, read_attachment=lambda _pdf, _name: evidence)


def test_a_receipt_is_made_once_and_holds(world: World) -> None:
    (order,) = world.pending()
    assert (order.number, order.supersedes) == (1, "")
    body = sealing.issue(world.session, order)
    assert world.pending(timestamps=True) == []
    known = service.store(world.session, order=order, pdf_sha256="0" * 64, now=world.now)
    assert known.pdf_sha256 == sha256(body).hexdigest()
    assert (known.time, known.timestamped_at) == (ReceiptTime.PORTAL, None)
    assert [file.number for file in service.files_of(world.session, ref=world.ref)] == [1]
    found = sealing.verify(world.session, body)
    assert (found.ref, found.version, found.language, found.number) == (world.ref, "bloom-rail/1.0.0", "fr", 1)
    assert found.by == "Portal"
    assert not found.erased
    line = service.line(found)
    assert line.startswith(f"{world.ref}: holds. bloom-rail/1.0.0 in 'fr'")
    assert "supersedes" not in line
    query = sa.select(sa.func.count()).where(AuditEvent.name == EVENT, AuditEvent.subject == world.ref)
    assert world.session.scalar(query) == 1


def test_a_file_with_a_timestamp_supersedes_the_one_that_waited_for_it(world: World) -> None:
    (order,) = world.pending()
    first = sealing.issue(world.session, order, pending=True)
    assert service.files_of(world.session, ref=world.ref)[0].time is ReceiptTime.PENDING
    assert world.pending() == [], "while the authority is left alone"
    (again,) = world.pending(timestamps=True)
    assert (again.number, again.supersedes) == (2, sha256(first).hexdigest())
    assert again.evidence == order.evidence
    second = sealing.issue(world.session, again, timestamped_at=world.now)
    assert world.pending(timestamps=True) == []
    newest = proofs.receipt_of(world.session, subject_ref=world.ref)
    assert newest is not None
    assert (newest.number, newest.time, newest.timestamped_at) == (2, ReceiptTime.AUTHORITY, world.now)
    assert newest.pdf_sha256 == sha256(second).hexdigest()
    assert service.store(world.session, order=again, pdf_sha256="0" * 64, now=world.now) is newest
    old, new = sealing.verify(world.session, first), sealing.verify(world.session, second)
    assert ((old.number, old.newest), (new.number, new.newest)) == ((1, 2), (2, 2))
    assert service.line(old).endswith("file 2 supersedes it.")
    assert any("supersedes" in row for row in old.open)
    assert not any("supersedes" in row for row in new.open)
    stamped = Verdict(by="Portal", timestamp=world.now, authority="Stamps")
    found = sealing.verify(world.session, second, check_seal=lambda _pdf: stamped)
    assert "timestamp 2026-11-02T12:00:00.000000Z by Stamps" in service.line(found)
    assert any("timestamp authority" in row for row in found.shown)


def test_what_does_not_hold_is_named_first_of_all(world: World) -> None:
    evidence = world.evidence
    said = json.loads(evidence)
    assert code(world, b"x") == "no_seal"
    assert stated(world, None) == "no_evidence"
    assert stated(world, b"{}") == "evidence_unreadable"
    assert stated(world, canonical({**said, "receipt_id": "sig_none"})) == "signature_unknown"
    renamed = {**said, "signer": {**said["signer"], "typed_name": "Eve"}}
    assert stated(world, canonical(renamed)) == "evidence_differs"
    assert stated(world, evidence) == "file_differs"


def test_records_that_were_tampered_with_do_not_hold(world: World) -> None:
    body = sealing.issue(world.session, world.order())
    receipt = service.files_of(world.session, ref=world.ref)[0]
    annex = world.session.get_one(SignatureAnnex, world.signature.id)
    sa.orm.attributes.set_committed_value(receipt, "statement_sha256", "0" * 64)
    assert code(world, body) == "statement_differs"
    sa.orm.attributes.set_committed_value(receipt, "statement_sha256", digest(annex.evidence))
    text = world.session.get_one(Text, world.signature.rendition_sha256)
    sa.orm.attributes.set_committed_value(text, "body", b"Something else.")
    assert code(world, body) == "text_changed"
    sa.orm.attributes.set_committed_value(world.signature, "rendition_sha256", "1" * 64)
    assert code(world, body) == "text_differs"


@pytest.mark.invariant("INV-23")
@pytest.mark.threat("TM-24")
def test_after_erasure_a_receipt_still_holds_by_its_digest(world: World) -> None:
    other = sealing.draw(world.order())
    body = sealing.issue(world.session, world.order())
    world.erase()
    found = sealing.verify(world.session, body)
    assert found.erased
    assert any("erased" in row for row in found.open)
    assert code(world, other) == "evidence_erased", "a file that was never issued"
    assert world.pending(timestamps=True) == []
    with pytest.raises(NotFound):
        world.order()


def test_a_later_signature_names_the_receipt_of_the_one_before(world: World, now: datetime) -> None:
    assert json.loads(world.evidence)["previous_receipt_sha256"] is None
    body = sealing.issue(world.session, world.order())
    newer = licensed.publish(world.session, now, "1.1.0")
    later = licensed.sign(world.session, world.me, newer, now + timedelta(minutes=1))
    said = json.loads(signing.evidence_of(world.session, signature=later) or b"")
    assert said["previous_signature"] == world.ref
    assert said["previous_receipt_sha256"] == sha256(body).hexdigest()


def test_evidence_says_how_the_text_was_laid_out_and_from_where_it_was_sent(world: World) -> None:
    said = json.loads(world.evidence)
    assert len(said["license"]["rendered_sha256"]) == 64
    assert said["license"]["rendered_sha256"] != said["license"]["text_sha256"]
    assert said["context"]["ip_prefix"] == "127.0.0.0/24"
    assert {row["checked_at"] for row in said["ceremony"]["statements"]} == {said["ceremony"]["signed_at"]}
    assert "version" in said["app"]


def bundle(world: World) -> bytes:
    files = {file.pdf_sha256: b"%PDF " + file.pdf_sha256.encode() for file in world.session.scalars(sa.select(Receipt))}
    return service.bundle(
        world.session,
        signature=world.signature,
        read_file=files.__getitem__,
        vkey=b"key\n",
        verifier=b"program",
        certificate=b"pem",
    )


def test_a_bundle_holds_all_that_proves_a_signature_and_is_always_the_same(world: World) -> None:
    with pytest.raises(NotFound) as caught:
        bundle(world)
    assert caught.value.code == "receipt_pending"
    service.store(world.session, order=world.order(), pdf_sha256="a" * 64, now=world.now)
    made = bundle(world)
    assert bundle(world) == made
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    assert sorted(files) == [
        "README.txt", "certificate.pem", "event.json", "event.salt.hex", "evidence.json", "receipt.event.json",
        "receipt.event.salt.hex", "receipt.pdf", "salt.hex", "signature.json", "text.md", "verify.py", "vkey",
    ]  # fmt: skip
    salt = bytes.fromhex(files["salt.hex"].decode())
    assert sha256(salt + files["evidence.json"]).hexdigest() == world.signature.annex_commitment
    assert sha256(files["text.md"]).hexdigest() == world.signature.rendition_sha256
    told = json.loads(files["signature.json"])
    assert (told["public_id"], told["version"]) == (world.ref, "bloom-rail/1.0.0")
    assert files["receipt.pdf"].endswith(b"a" * 64)


def test_there_is_no_bundle_once_what_proves_it_is_erased(world: World) -> None:
    service.store(world.session, order=world.order(), pdf_sha256="a" * 64, now=world.now)
    signed = LicenseSigned(world.ref, "bloom-rail/1.0.0", world.signature.rendition_sha256,
                           world.signature.annex_commitment)  # fmt: skip
    event = audit.logged(world.session, signed)
    assert event is not None
    audit.erase_salt(world.session, event_ref=event.ref, by=SYSTEM, now=world.now)
    with pytest.raises(NotFound) as caught:
        bundle(world)
    assert caught.value.code == "event_erased"
    world.erase()
    with pytest.raises(NotFound) as caught:
        bundle(world)
    assert caught.value.code == "evidence_erased"


def test_a_lost_file_is_said_to_be_lost() -> None:
    assert service.refuse_lost(b"x", digest(b"x")) == b"x"
    with pytest.raises(NotFound):
        service.refuse_lost(b"", digest(b"x"))
