"""Not being bound: saying in a ceremony that one does not sign, and signatures that stop binding."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts import service as accounts
from portal.accounts.models import Proposal, User
from portal.accounts.rules import Permission, reason_of
from portal.annulments import rules
from portal.audit import service as audit
from portal.audit.rules import LicenseDeclined, SignatureAnnulled
from portal.core.actor import Actor
from portal.core.db import hold
from portal.core.errors import Conflict, NotFound, Refused
from portal.licensing import service as licensing
from portal.licensing.models import Annulment, Ceremony, Decline, LicenseVersion, Signature
from portal.licensing.rules import (
    CEREMONY,
    AnnulmentKind,
    CeremonyAction,
    CeremonyState,
    DeclineReason,
    ErrorReason,
)
from portal.notices import service as notices

VOID = "license:signature:void"


def decline(
    session: Session, *, by: Actor, version_id: int, nonce: str, reason: DeclineReason, now: datetime
) -> Decline:
    """Record that the actor does not sign a version they were shown; signing later stays open to them.

    Sending the same form again returns the same record.

    Raises:
        Conflict: the form is not theirs, was used to sign, or is too old.
    """
    hold(session, User.id, by.id)
    query = sa.select(Ceremony).where(
        Ceremony.nonce == nonce, Ceremony.user_id == by.id, Ceremony.version_id == version_id
    )
    ceremony = session.scalar(query)
    if ceremony is None:
        raise Conflict("ceremony_used", "This form is not one of yours, or is too old. Open the license again.")
    if ceremony.state is CeremonyState.DECLINED:
        return session.scalars(sa.select(Decline).where(Decline.ceremony_id == ceremony.id)).one()
    rules.check_declinable(ceremony.state, ceremony.expires_at, now)
    ceremony.state = CEREMONY.next(ceremony.state, CeremonyAction.DECLINE)
    row = Decline(ceremony_id=ceremony.id, reason_code=reason.value, at=now)
    session.add(row)
    session.flush()
    version = session.get_one(LicenseVersion, version_id)
    event = LicenseDeclined(subject=ceremony.public_id, version=_name(version), reason=reason.value)
    audit.record(session, event, by=by, now=now)
    return row


def _name(version: LicenseVersion) -> str:
    return f"{version.license.slug}/{version.number}"


def withdraw(session: Session, *, by: Actor, ref: str, now: datetime, base_url: str) -> Annulment:
    """End a signature of one's own: access that rests on it ends from the next request, records of it stay.

    Withdrawing again returns the same record.
    """
    hold(session, User.id, by.id)
    signature = session.scalar(sa.select(Signature).where(Signature.public_id == ref, Signature.user_id == by.id))
    if signature is None:
        raise NotFound("signature_not_found", "You have no such signature.")
    if ended := licensing.annulments(session, signature_ids=[signature.id]).get(signature.id):
        return ended
    return _annul(session, signature, AnnulmentKind.WITHDRAWN, "own_wish", None, by=by, now=now, base_url=base_url)


def find_signature(session: Session, *, ref: str) -> Signature:
    """Find anybody's signature, for staff."""
    found = session.scalar(sa.select(Signature).where(Signature.public_id == ref))
    if found is None:
        raise NotFound("signature_not_found", "There is no such signature.")
    return found


def open_void(session: Session, *, signature: Signature, now: datetime) -> Proposal | None:
    """Return the proposal to void a signature that waits for a second person."""
    return accounts.open_proposal(session, action=VOID, subject_ref=signature.public_id, now=now)


def propose_void(session: Session, *, ref: str, reason: ErrorReason, by: Actor, now: datetime) -> Proposal:
    """Propose to void a signature that was made in error; a second member of staff confirms it."""
    signature = _voidable(session, ref, by)
    return accounts.propose(
        session, action=VOID, subject_ref=ref, payload=_payload(session, signature, reason.value),
        page=f"/staff/signatures/{ref}", permission=Permission.LICENSES_PUBLISH, by=by, now=now,
    )  # fmt: skip


def void(
    session: Session, *, ref: str, payload_sha256: str, by: Actor, now: datetime, base_url: str
) -> Annulment:  # fmt: skip
    """Void, as the second of two people, a signature that was made in error."""
    signature = _voidable(session, ref, by)
    proposal = open_void(session, signature=signature, now=now)
    reason = reason_of(proposal.payload) if proposal else ""
    agreed = accounts.confirm(
        session, action=VOID, subject_ref=ref, shown_sha256=payload_sha256,
        payload=_payload(session, signature, reason), by=by, now=now,
    )  # fmt: skip
    return _annul(session, signature, AnnulmentKind.ERROR, reason, agreed, by=by, now=now, base_url=base_url)


def _voidable(session: Session, ref: str, by: Actor) -> Signature:
    signature = find_signature(session, ref=ref)
    hold(session, User.id, signature.user_id)
    if signature.user_id == by.user_id:
        raise Refused("own_signature", "This signature is your own. You can withdraw it on its page.")
    if licensing.annulments(session, signature_ids=[signature.id]):
        raise Conflict("annulled_already", "This signature stopped binding already.")
    return signature


def _payload(session: Session, signature: Signature, reason: str) -> dict[str, Any]:
    user = session.get_one(User, signature.user_id)
    return {
        "action": VOID, "signature": signature.public_id, "signer": user.public_id, "version": _name(signature.version),
        "text_sha256": signature.rendition_sha256, "reason": reason,
    }  # fmt: skip


def _annul(
    session: Session,
    signature: Signature,
    kind: AnnulmentKind,
    reason: str,
    agreed: Proposal | None,
    *,
    by: Actor,
    now: datetime,
    base_url: str,
) -> Annulment:
    row = Annulment(
        signature_id=signature.id, kind=kind, by=by.public_id, proposal_id=agreed.id if agreed else None,
        reason_code=reason, at=now,
    )  # fmt: skip
    session.add(row)
    session.flush()
    event = SignatureAnnulled(subject=signature.public_id, kind=kind.value, reason=reason)
    audit.record(session, event, by=by, now=now)
    profile = session.get_one(User, signature.user_id).profile
    if profile is not None:
        title = f"{signature.version.license.title} {signature.version.number}"
        body = rules.compose_annulled(
            kind, title=title, ref=signature.public_id, page=f"{base_url}/settings/signatures/{signature.public_id}"
        )
        notices.queue(
            session, recipient_id=signature.user_id, address=profile.email, kind="signature_annulled",
            subject_ref=signature.public_id, subject=f"Your signature of the {title} ended", body=body, now=now,
        )  # fmt: skip
    return row
