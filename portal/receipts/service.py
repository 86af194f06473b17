"""Receipts of signatures: which are still to be made, which file stands, what outsiders check, and the whole bundle."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from portal.audit import service as audit
from portal.audit.rules import Event, LicenseSigned, ReceiptMade
from portal.clauses import service as clauses
from portal.core.actor import SYSTEM
from portal.core.clock import stamp
from portal.core.errors import NotFound
from portal.licensing.models import Signature, SignatureAnnex
from portal.licensing.rules import language_name
from portal.proofs import service as proofs
from portal.proofs.models import Receipt
from portal.proofs.rules import ReceiptTime, canonical, commitment, digest, key_id, read_checkpoint
from portal.receipts import rules
from portal.receipts.rules import Finding, Seen, broken
from portal.signing.rules import EVIDENCE, read_evidence
from portal.witnesses import service as witnesses

CheckSeal = Callable[[bytes], Seen]
ReadAttachment = Callable[[bytes, str], bytes | None]


@dataclass(frozen=True)
class Order:
    """A file of a receipt that is still to be made, with the evidence that it states, word for word.

    Args:
        signature_id: whose receipt it is.
        ref: the signature's public id.
        evidence: the bytes that travel in it.
        number: which file of the receipt it will be; the first one does without a timestamp if it must.
        supersedes: SHA-256 of the file before it.
    """

    signature_id: int
    ref: str
    evidence: bytes
    number: int = 1
    supersedes: str = ""

    @property
    def values(self) -> dict[str, Any]:
        """What the receipt prints: all of it is read from the very bytes that it carries."""
        stated: dict[str, Any] = json.loads(self.evidence)
        codes = (stated["license"]["language"], stated["license"]["authoritative_language"])
        return {
            "ref": self.ref, "stated": stated, "evidence_sha256": digest(self.evidence), "number": self.number,
            "supersedes": self.supersedes, "languages": {code: language_name(code) for code in codes},
            "fields": rules.printed(self.evidence),
        }  # fmt: skip


def pending(session: Session, *, limit: int = 10, timestamps: bool = False) -> list[Order]:
    """Return the files of receipts that are still to be made, oldest signature first.

    Args:
        limit: at most so many.
        timestamps: whether a timestamp authority can be asked; then receipts that wait for one are made anew.
    """
    later = aliased(Receipt)
    query = (
        sa.select(Signature.id, Receipt)
        .join(SignatureAnnex, SignatureAnnex.signature_id == Signature.id)
        .outerjoin(Receipt, Receipt.subject_ref == Signature.public_id)
        .order_by(Receipt.id.is_not(None), Signature.id)
        .limit(limit)
    )
    waits: sa.ColumnElement[bool] = Receipt.id.is_(None)
    if timestamps:
        newer = sa.exists().where(later.subject_ref == Receipt.subject_ref, later.number > Receipt.number)
        waits = waits | ((Receipt.time == ReceiptTime.PENDING) & ~newer)
    return [order(session, signature_id=row[0], before=row[1]) for row in session.execute(query.where(waits))]


def order(session: Session, *, signature_id: int, before: Receipt | None = None) -> Order:
    """Return what the receipt of a signature has to state, in a file after the given one."""
    annex = session.get(SignatureAnnex, signature_id)
    if annex is None:
        raise NotFound("evidence_erased", "The personal evidence of this signature was erased; there is no receipt.")
    ref = session.get_one(Signature, signature_id).public_id
    if before is None:
        return Order(signature_id, ref, annex.evidence)
    return Order(signature_id, ref, annex.evidence, before.number + 1, before.pdf_sha256)


def store(
    session: Session, *, order: Order, pdf_sha256: str, timestamped_at: datetime | None = None, pending: bool = False,
    now: datetime,
) -> Receipt:  # fmt: skip
    """Record the file that was made to an order; made twice, the first one stands.

    Args:
        order: what it states.
        pdf_sha256: the file.
        timestamped_at: the time that an authority confirms in it.
        pending: whether an authority is still to confirm its time.
        now: when it was made.
    """
    known = proofs.receipt_of(session, subject_ref=order.ref)
    if known is not None and known.number >= order.number:
        return known
    receipt = proofs.store_receipt(
        session, subject_ref=order.ref, statement_sha256=digest(order.evidence), pdf_sha256=pdf_sha256,
        timestamped_at=timestamped_at, pending=pending, now=now,
    )  # fmt: skip
    audit.record(session, ReceiptMade(subject=order.ref, pdf_sha256=pdf_sha256), by=SYSTEM, now=now)
    return receipt


def files_of(session: Session, *, ref: str) -> Sequence[Receipt]:
    """Return all files of a signature's receipt, the newest first; it is the one that stands."""
    query = sa.select(Receipt).where(Receipt.subject_ref == ref).order_by(Receipt.number.desc())
    return session.scalars(query).all()


def verify(session: Session, *, pdf: bytes, check_seal: CheckSeal, read_attachment: ReadAttachment) -> Finding:
    """Recompute a receipt: its seal, its evidence against the signature's commitment, the text, the file on record.

    Raises:
        Invalid: names the first thing that does not hold.
    """
    seen = check_seal(pdf)
    if seen.problem:
        raise broken(seen.code, seen.problem)
    body = read_attachment(pdf, EVIDENCE)
    if body is None:
        raise broken("no_evidence", f"This file holds no {EVIDENCE}, so it is no receipt of a signature.")
    stated = read_evidence(body)
    signature = session.scalar(sa.select(Signature).where(Signature.public_id == stated["receipt_id"]))
    if signature is None:
        raise broken("signature_unknown", f"No signature {stated['receipt_id'][:40]} is on record.")
    files = files_of(session, ref=signature.public_id)
    mine = next((file for file in files if file.pdf_sha256 == digest(pdf)), None)
    annex = session.get(SignatureAnnex, signature.id)
    _check_evidence(signature, annex, mine, body)
    if stated["license"]["text_sha256"] != signature.rendition_sha256:
        raise broken("text_differs", "The evidence names another text than the signature does.")
    if digest(clauses.text_of(session, sha256=signature.rendition_sha256).encode()) != signature.rendition_sha256:
        raise broken("text_changed", "The text on record no longer has the digest that was signed.")
    if mine is None:
        raise broken("file_differs", "The evidence holds, but this file is not one that was issued as a receipt.")
    version = signature.version
    return Finding(
        ref=signature.public_id, version=f"{version.license.slug}/{version.number}", title=version.license.title,
        language=stated["license"]["language"], text_sha256=signature.rendition_sha256, signed_at=signature.signed_at,
        number=mine.number, newest=files[0].number, timestamp=seen.timestamp, authority=seen.authority,
        pinned=seen.pinned, by=seen.by, erased=annex is None,
    )  # fmt: skip


def _check_evidence(signature: Signature, annex: SignatureAnnex | None, mine: Receipt | None, body: bytes) -> None:
    """Hold evidence against the commitment; once the salt is erased, against what the receipt on record states."""
    if annex is None and mine is None:
        raise broken("evidence_erased", "The evidence of this signature was erased here, so it cannot be compared.")
    if annex is not None and commitment(annex.salt, body) != signature.annex_commitment:
        raise broken("evidence_differs", "The evidence in this file is not what the signature committed to.")
    if mine is not None and mine.statement_sha256 != digest(body):
        raise broken("statement_differs", "The evidence in this file is not what its receipt on record states.")


def line(found: Finding) -> str:
    """Say in a line what a receipt that holds states."""
    pinned = " below a root of the operators' choice" if found.pinned else ""
    time = f", timestamp {stamp(found.timestamp)} by {found.authority}{pinned}" if found.timestamp else ""
    later = f"; file {found.newest} supersedes it" if found.number < found.newest else ""
    return (
        f"{found.ref}: holds. {found.version} in {found.language!r} (SHA-256 {found.text_sha256}), signed "
        f"{stamp(found.signed_at)}; file {found.number}, sealed by {found.by}{time}{later}."
    )


def bundle(
    session: Session,
    *,
    signature: Signature,
    read_file: Callable[[str], bytes],
    vkey: bytes,
    certificate: bytes,
    verifier: bytes,
) -> bytes:
    """Pack all that proves a signature to somebody who asks the portal for nothing.

    Args:
        signature: whose proof it is.
        read_file: gives the bytes of a receipt by digest.
        vkey: the public key of the log.
        certificate: of the seal, with earlier ones.
        verifier: the program that checks the bundle.

    Raises:
        NotFound: the receipt is not made yet, or the evidence was erased.
    """
    annex, receipt = (
        session.get(SignatureAnnex, signature.id),
        proofs.receipt_of(session, subject_ref=signature.public_id),
    )
    if annex is None:
        raise NotFound("evidence_erased", "The personal evidence of this signature was erased.")
    if receipt is None:
        raise NotFound("receipt_pending", "The receipt is being prepared. The bundle is here in a few seconds.")
    version = f"{signature.version.license.slug}/{signature.version.number}"
    events = {
        "": LicenseSigned(
            signature.public_id, version, signature.rendition_sha256, signature.annex_commitment
        ),
        "receipt.": ReceiptMade(signature.public_id, receipt.pdf_sha256),
    }  # fmt: skip
    told = {
        "public_id": signature.public_id, "rendition_sha256": signature.rendition_sha256,
        "prevailing_sha256": signature.prevailing_sha256, "annex_commitment": signature.annex_commitment,
        "signed_at": stamp(signature.signed_at), "version": version,
    }  # fmt: skip
    files = {
        "receipt.pdf": read_file(receipt.pdf_sha256), "evidence.json": annex.evidence, "vkey": vkey,
        "salt.hex": f"{annex.salt.hex()}\n".encode(), "signature.json": canonical(told) + b"\n",
        "text.md": clauses.text_of(session, sha256=signature.rendition_sha256).encode(),
        "verify.py": verifier, "README.txt": rules.README.encode(), "certificate.pem": certificate,
    }  # fmt: skip
    return rules.bundle(files | _entries(session, events))


def _entries(session: Session, events: Mapping[str, Event]) -> dict[str, bytes]:
    """Return the entries of the log with their proofs, each under its prefix, and what signs the log."""
    files: dict[str, bytes] = {}
    found = {prefix: audit.logged(session, event) for prefix, event in events.items()}
    refs = []
    for prefix, entry in found.items():
        if entry is None or entry.salt is None:
            raise NotFound("event_erased", "The entry of this signature in the log was made unrecognizable.")
        files |= {f"{prefix}event.json": entry.body, f"{prefix}event.salt.hex": f"{entry.salt.hex()}\n".encode()}
        refs.append(entry.ref)
    for prefix, proof in zip(found, witnesses.proofs_of(session, event_refs=refs), strict=False):
        files |= {f"{prefix}proof.tlog-proof": proof, "checkpoint": proof.split(b"\n\n", 1)[1]}
    for handed in proofs.handovers(session):
        key = key_id(read_checkpoint(handed.note).origin, handed.signer).hex()
        files[f"handover.{key}"] = handed.note
    return files


def refuse_lost(body: bytes, pdf_sha256: str) -> bytes:
    """Return the bytes of a receipt, unless they are not the ones that were made."""
    if digest(body) != pdf_sha256:
        raise NotFound("receipt_lost", "The receipt's file is missing or damaged here. Ask the operators for a copy.")
    return body
