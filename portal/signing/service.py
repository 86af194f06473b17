"""Signing a license: the sitting in which it is shown, the signature and its evidence."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.audit import service as audit
from portal.audit.rules import CeremonyOpened, LicenseSigned
from portal.clauses import service as clauses
from portal.clauses.rules import ClauseKind, Delta, Part, outline
from portal.core.actor import Actor
from portal.core.clock import stamp
from portal.core.db import among, hold
from portal.core.errors import Conflict, NotFound
from portal.core.ids import public_id
from portal.licensing import service as licensing
from portal.licensing.models import (
    Annulment,
    Attestation,
    Ceremony,
    Exhibit,
    LicenseVersion,
    Reconfirmation,
    Rendition,
    Signature,
    SignatureAnnex,
)  # fmt: skip
from portal.licensing.rules import AttestationKind, CeremonyState, ExhibitKind, LicenseKind
from portal.notices import service as notices
from portal.passkeys import service as passkeys
from portal.passkeys.rules import Authenticators
from portal.proofs import service as proofs
from portal.proofs.rules import commitment, digest
from portal.providers import service as providers
from portal.sanctions import service as sanctions
from portal.sanctions.rules import reconfirm_since
from portal.signing import rules
from portal.signing.rules import CEREMONY_LIFE, CeremonyFact, Context, Signer, Sitting, check_signable

Proof = dict[str, Any] | None


@dataclass(frozen=True)
class Change:
    """What changed since the version that a person signed last."""

    signature: Signature
    deltas: list[Delta]
    body: bytes


def signatures_of(session: Session, *, user_id: int) -> Sequence[Signature]:
    """Return a person's signatures, newest first."""
    query = sa.select(Signature).where(Signature.user_id == user_id).order_by(Signature.id.desc())
    return session.scalars(query).all()


def own_signature(session: Session, *, by: Actor, ref: str) -> Signature:
    """Find a signature for the person who gave it; to anybody else it does not exist."""
    found = session.scalar(sa.select(Signature).where(Signature.public_id == ref, Signature.user_id == by.user_id))
    if found is None:
        raise NotFound("signature_not_found", "You have no such signature.")
    return found


def signed_already(session: Session, *, by: Actor, version_id: int) -> Signature | None:
    """Return the signature by which a person is bound to a version, if there is one that need not be given again."""
    same = sa.and_(LicenseVersion.id == Signature.version_id, LicenseVersion.license_id == Reconfirmation.license_id)
    again = sa.select(Reconfirmation.id).join(LicenseVersion, same).where(
        Reconfirmation.user_id == Signature.user_id, Reconfirmation.ordered_at >= Signature.signed_at
    )  # fmt: skip
    query = _binding(by).where(Signature.version_id == version_id, ~again.correlate(Signature).exists())
    return session.scalar(query.limit(1))


def order_again(
    session: Session, *, user_id: int, license_ids: Sequence[int], model_id: int, by: Actor, now: datetime
) -> None:
    """Have somebody sign licenses again for the sake of a model; what they are bound by stays true."""
    for license_id in license_ids:
        row = Reconfirmation(
            user_id=user_id, license_id=license_id, model_id=model_id, ordered_at=now, ordered_by=by.public_id
        )
        session.add(row)
    session.flush()


def ordered_again(
    session: Session, *, user_ids: Sequence[int], license_ids: Sequence[int]
) -> dict[int, dict[tuple[int, int], datetime]]:
    """Return since when people are to sign licenses again: person → model and license → instant."""
    row = Reconfirmation
    query = sa.select(row.user_id, row.model_id, row.license_id, sa.func.max(row.ordered_at))
    query = query.where(among(row.user_id, user_ids), row.license_id.in_(license_ids))
    found: dict[int, dict[tuple[int, int], datetime]] = {}
    for user_id, model_id, license_id, at in session.execute(query.group_by(row.user_id, row.model_id, row.license_id)):
        found.setdefault(user_id, {})[model_id, license_id] = at
    return found


def signed_for_good(session: Session, *, by: Actor, version_id: int, now: datetime) -> Signature | None:
    """Return the same, unless the person was asked since to sign it again."""
    found = signed_already(session, by=by, version_id=version_id)
    since = reconfirm_since(sanctions.of_person(session, user_id=by.id), now)
    return None if found is not None and since is not None and found.signed_at <= since else found


def _binding(by: Actor) -> sa.Select[Signature]:
    query = sa.select(Signature).outerjoin(Annulment, Annulment.signature_id == Signature.id)
    return query.where(Signature.user_id == by.id, Annulment.id.is_(None)).order_by(Signature.id.desc())


def evidence_of(session: Session, *, signature: Signature) -> bytes | None:
    """Return the evidence of a signature, unless it was erased."""
    annex = session.get(SignatureAnnex, signature.id)
    return annex.evidence if annex else None


def change_for(session: Session, *, by: Actor, version: LicenseVersion, language: str = "") -> Change | None:
    """Return how a version differs from the one that a person signed last, however old; None for a first signature."""
    query = (
        _binding(by)
        .join(LicenseVersion, LicenseVersion.id == Signature.version_id)
        .where(LicenseVersion.license_id == version.license_id, LicenseVersion.ordinal < version.ordinal)
        .order_by(None)
        .order_by(LicenseVersion.ordinal.desc(), Signature.id.desc())
        .limit(1)
    )
    earlier = session.scalar(query)
    if earlier is None:
        return None
    deltas = licensing.difference(session, old=earlier.version, new=version, language=language)
    shown = licensing.rendition(version, language)
    read = licensing.counterpart(earlier.version, shown)
    body = rules.difference_bytes(read.text_sha256, shown.text_sha256, deltas)
    return Change(earlier, deltas, body)


def open_ceremony(
    session: Session, *, by: Actor, version_id: int, language: str = "", card_sha256: str | None = None, now: datetime
) -> Ceremony:
    """Begin a sitting in which a person is shown a license version in a language; one still open is gone on with.

    What is shown is noted by digest: the text, what changed since the person last signed, and a model card if one is.

    Raises:
        Refused: the person may not sign now, or is a program.
        Conflict: the version is not the newest, is not for signing, or is signed already.
    """
    user = _lock(session, by)
    rules.check_signer(_signer(by, user), now)
    version = session.get_one(LicenseVersion, version_id)
    _check_open_to_signing(session, by, version, now)
    shown = licensing.rendition(version, language)
    query = sa.select(Ceremony).where(
        Ceremony.user_id == by.id, Ceremony.rendition_id == shown.id, Ceremony.state == CeremonyState.OPEN,
        Ceremony.expires_at > now,
    )  # fmt: skip
    ceremony = session.scalar(query.order_by(Ceremony.id.desc()).limit(1))
    if ceremony is None:
        ceremony = Ceremony(
            public_id=public_id("cer"), user_id=by.id, version_id=version.id, rendition_id=shown.id,
            nonce=secrets.token_urlsafe(32), opened_at=now, viewed_at=now, expires_at=now + CEREMONY_LIFE,
        )  # fmt: skip
        session.add(ceremony)
        session.flush()
        event = CeremonyOpened(subject=ceremony.public_id, version=_name(version))
        audit.record(session, event, by=by, now=now)
    ceremony.viewed_at = now
    _exhibit(session, ceremony, ExhibitKind.RENDITION, f"{_name(version)}/{shown.language}", shown.text_sha256, at=now)
    if change := change_for(session, by=by, version=version, language=shown.language):
        ref = f"{change.signature.public_id}...{_name(version)}/{shown.language}"
        shown_sha256 = clauses.store_text(session, body=change.body, media_type="application/json")
        _exhibit(session, ceremony, ExhibitKind.DIFFERENCE, ref, shown_sha256, at=now)
        notices.mark_shown(session, user_id=by.id, subject_ref=f"license_version:{_name(version)}", now=now)
    if card_sha256 is not None:
        _exhibit(session, ceremony, ExhibitKind.CARD_REVISION, card_sha256, card_sha256, at=now)
    session.flush()
    return ceremony


def _check_open_to_signing(session: Session, by: Actor, version: LicenseVersion, now: datetime) -> None:
    license_ = version.license
    newest = next(iter(licensing.published(session, license_id=license_.id)), None)
    if newest is None or version.id != newest.id:
        url = f"/licenses/{license_.slug}/{newest.number}/sign" if newest else f"/licenses/{license_.slug}"
        message = "A newer version of this license is out. Open it and sign that one."
        raise Conflict("version_not_signable", message, url=url)
    if license_.kind is LicenseKind.PRIVACY_NOTICE:
        raise Conflict("not_for_signing", "A privacy notice informs; it is not signed.")
    if signature := signed_for_good(session, by=by, version_id=version.id, now=now):
        url = f"/settings/signatures/{signature.public_id}"
        raise Conflict("already_signed", "You have signed this version already.", url=url)


def _name(version: LicenseVersion) -> str:
    return f"{version.license.slug}/{version.number}"


def _lock(session: Session, by: Actor) -> User:
    """Return the person and keep another sitting of theirs from being signed until this is done."""
    hold(session, User.id, by.id)
    return session.get_one(User, by.id)


def _signer(by: Actor, user: User) -> Signer:
    return Signer(
        by_browser=by.login_session_id is not None and by.access_token_id is None, standing=user.standing,
        standing_until=user.standing_until, standing_ref=user.standing_ref,
        verified_at=user.profile.verified_at if user.profile else None,
    )  # fmt: skip


def _exhibit(session: Session, ceremony: Ceremony, kind: ExhibitKind, ref: str, sha256: str, *, at: datetime) -> None:
    query = sa.select(Exhibit.id).where(Exhibit.ceremony_id == ceremony.id, Exhibit.kind == kind, Exhibit.ref == ref)
    if session.scalar(query) is None:
        session.add(Exhibit(ceremony_id=ceremony.id, kind=kind, ref=ref, sha256=sha256, shown_at=at))


def restrictions(session: Session, *, sha256: str) -> list[tuple[int, Part]]:
    """Return the use restrictions of a text with the ids of their clauses, in its order."""
    found = clauses.provisions(session, sha256=sha256)
    return [(p.clause_id, p.part) for p in found if p.kind is ClauseKind.RESTRICTION]


def check(session: Session, *, by: Actor, version_id: int, sitting: Sitting, now: datetime) -> Ceremony:
    """Find the sitting that a form belongs to, and raise unless everything in it allows signing.

    A sitting of the same person that is signed already passes: sending a form twice signs once.
    """
    rules.check_signer(_signer(by, session.get_one(User, by.id)), now)
    query = sa.select(Ceremony).where(
        Ceremony.nonce == sitting.nonce, Ceremony.user_id == by.id, Ceremony.version_id == version_id
    )
    ceremony = session.scalar(query.execution_options(populate_existing=True))
    if ceremony is None:
        raise Conflict("ceremony_used", "This form is not one of yours, or is too old. Open the license again to sign.")
    if ceremony.state is CeremonyState.SIGNED:
        return ceremony
    version, shown = session.get_one(LicenseVersion, version_id), session.get_one(Rendition, ceremony.rendition_id)
    newest = next(iter(licensing.published(session, license_id=version.license_id)), None)
    fact = CeremonyFact(
        nonce=ceremony.nonce, state=ceremony.state, expires_at=ceremony.expires_at, shown_digest=shown.text_sha256,
        restrictions=tuple(part.key for _, part in restrictions(session, sha256=shown.text_sha256)),
        version_state=version.state, is_newest=newest is not None and newest.id == version.id,
    )  # fmt: skip
    check_signable(fact, sitting, now)
    _check_open_to_signing(session, by, version, now)
    return ceremony


def sign(
    session: Session, *, by: Actor, version_id: int, sitting: Sitting, context: Context, now: datetime,
    doors: Authenticators | None = None,
) -> Signature:  # fmt: skip
    """Bind the actor to one exact license text. Sending the same form again returns the same signature.

    Args:
        doors: speak with passkeys, one of which may sign as well.

    Raises:
        Refused: the person may not sign now, or is a program.
        Conflict: the form was used, is too old, or shows another text than the newest version's.
        Invalid: a box is not ticked, the name is not typed, or a passkey signed something else.
    """
    user = _lock(session, by)
    ceremony = check(session, by=by, version_id=version_id, sitting=sitting, now=now)
    proof = None
    if sitting.credential and doors is not None and ceremony.state is CeremonyState.OPEN:
        subject = _subject(session, ceremony, _sentence(session, ceremony, sitting))
        proof = passkeys.sign(session, user=user, subject=subject, credential=sitting.credential, doors=doors, now=now)
    moved = session.scalar(
        sa.update(Ceremony)
        .where(Ceremony.id == ceremony.id, Ceremony.state == CeremonyState.OPEN)
        .values(state=CeremonyState.SIGNED)
        .returning(Ceremony.id)
        .execution_options(synchronize_session=False)
    )
    if moved is None:
        return session.scalars(sa.select(Signature).where(Signature.ceremony_id == ceremony.id)).one()
    session.refresh(ceremony)
    return _bind(session, by, user=user, ceremony=ceremony, sitting=sitting, context=context, proof=proof, now=now)


def _bind(
    session: Session, by: Actor, *, user: User, ceremony: Ceremony, sitting: Sitting, context: Context, proof: Proof,
    now: datetime,
) -> Signature:  # fmt: skip
    shown = session.get_one(Rendition, ceremony.rendition_id)
    version = session.get_one(LicenseVersion, ceremony.version_id)
    owed = restrictions(session, sha256=shown.text_sha256)
    session.add_all(
        Attestation(
            ceremony_id=ceremony.id, kind=AttestationKind.RESTRICTION, clause_id=clause_id, answer=True, at=now,
            wording_sha256=part.sha256,
        )
        for clause_id, part in owed
    )  # fmt: skip
    consent = digest(rules.CONSENT.encode())
    kind = AttestationKind.ELECTRONIC_FORM
    session.add(Attestation(ceremony_id=ceremony.id, kind=kind, wording_sha256=consent, answer=True, at=now))
    ref, salt = public_id("sig"), secrets.token_bytes(rules.SALT)
    body = _evidence(session, ref, user=user, ceremony=ceremony, sitting=sitting, context=context, proof=proof, now=now)
    signature = Signature(
        public_id=ref, ceremony_id=ceremony.id, user_id=by.id, version_id=version.id, rendition_id=shown.id,
        rendition_sha256=shown.text_sha256, prevailing_sha256=licensing.rendition(version).text_sha256,
        annex_commitment=commitment(salt, body), signed_at=now, version=version, rendition=shown, method=_method(proof),
    )  # fmt: skip
    session.add(signature)
    session.flush()
    session.add(SignatureAnnex(signature_id=signature.id, salt=salt, evidence=body))
    session.flush()
    event = LicenseSigned(ref, _name(version), shown.text_sha256, signature.annex_commitment)
    audit.record(session, event, by=by, now=now)
    return signature


def _method(proof: Proof) -> str:
    return "typed_name" if proof is None else "passkey"


def _sentence(session: Session, ceremony: Ceremony, sitting: Sitting) -> str:
    """Return the sentence that binds, with the name as typed."""
    version = session.get_one(LicenseVersion, ceremony.version_id)
    shown = session.get_one(Rendition, ceremony.rendition_id)
    return rules.binding(
        title=version.license.title, number=version.number, language=shown.language, text_sha256=shown.text_sha256,
        name=rules.plain(sitting.typed_name),
    )  # fmt: skip


def _evidence(
    session: Session, ref: str, *, user: User, ceremony: Ceremony, sitting: Sitting, context: Context, proof: Proof,
    now: datetime,
) -> bytes:  # fmt: skip
    version = session.get_one(LicenseVersion, ceremony.version_id)
    shown = session.get_one(Rendition, ceremony.rendition_id)
    prevailing, profile = licensing.rendition(version), user.profile
    parts = clauses.parts_of(session, sha256=shown.text_sha256)
    owed = [part for _, part in restrictions(session, sha256=shown.text_sha256)]
    before = next(iter(signatures_of(session, user_id=user.id)), None)
    receipt = proofs.receipt_of(session, subject_ref=before.public_id) if before else None
    exhibits = sa.select(Exhibit).where(Exhibit.ceremony_id == ceremony.id).order_by(Exhibit.id)
    passages = outline(clauses.text_of(session, sha256=shown.text_sha256))
    return rules.evidence(
        ref=ref, previous=before.public_id if before else None, context=context,
        previous_receipt_sha256=receipt.pdf_sha256 if receipt else None,
        license_={
            "slug": version.license.slug, "title": version.license.title, "version": version.number,
            "language": shown.language, "text_sha256": shown.text_sha256,
            "rendered_sha256": digest(rules.rendered_bytes(passages)),
            "authoritative_language": prevailing.language, "authoritative_sha256": prevailing.text_sha256,
        },
        parts=parts, owed=owed, sentence=_sentence(session, ceremony, sitting),
        signer={
            "user_id": user.public_id, "typed_name": rules.plain(sitting.typed_name), "account_name": profile.name,
            "email": profile.email,
            "verified_name": None, "orcid": providers.orcid_of(session, user_id=user.id) or None, "idp": None,
            "email_verified_at": stamp(profile.verified_at) if profile.verified_at else None,
            "affiliation": profile.affiliation, "country": profile.country,
        },
        ceremony={
            "id": ceremony.public_id, "offered_at": stamp(ceremony.opened_at),
            "viewed_at": stamp(ceremony.viewed_at), "signed_at": stamp(now), "method": _method(proof),
            **({"passkey": proof} if proof else {}),
            "exhibits": [
                {"kind": e.kind.value, "ref": e.ref, "sha256": e.sha256, "shown_at": stamp(e.shown_at)}
                for e in session.scalars(exhibits)
            ],
        },
    )  # fmt: skip


def last_look(
    session: Session, *, by: Actor, version_id: int, sitting: Sitting, doors: Authenticators, now: datetime
) -> tuple[str, str]:
    """Return the sentence that binds, and the options with which a passkey signs it; none where the actor has none."""
    ceremony = check(session, by=by, version_id=version_id, sitting=sitting, now=now)
    sentence = _sentence(session, ceremony, sitting)
    subject, user = _subject(session, ceremony, sentence), session.get_one(User, by.id)
    return sentence, passkeys.ask_to_sign(session, user=user, subject=subject, doors=doors)


def _subject(session: Session, ceremony: Ceremony, sentence: str) -> bytes:
    sha256 = session.get_one(Rendition, ceremony.rendition_id).text_sha256
    owed = [part for _, part in restrictions(session, sha256=sha256)]
    return rules.bound(ceremony=ceremony.public_id, sentence=sentence, text_sha256=sha256, owed=owed)
