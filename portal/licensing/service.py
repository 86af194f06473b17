"""License texts that bind: which versions there are, which is in force when, and who has signed what."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from unicodedata import normalize

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import Profile, User
from portal.accounts.rules import Standing
from portal.audit import service as audit
from portal.audit.rules import VersionArrived, VersionCommented, VersionResolved
from portal.clauses import service as clauses
from portal.clauses.rules import Delta
from portal.core.actor import SYSTEM, Actor
from portal.core.db import among
from portal.core.errors import Conflict, Invalid, NotFound
from portal.licensing import rules
from portal.licensing.models import (
    AfterReview,
    Annulment,
    Ceremony,
    Decline,
    License,
    LicenseVersion,
    Rendition,
    Resolution,
    Signature,
    SignatureSet,
    SignatureSetItem,
    VersionComment,
)
from portal.licensing.rules import VERSION, AnnulmentKind, SignatureFact, VersionAction, VersionFact, VersionState, Vote
from portal.proofs.rules import canonical, digest


def licenses(session: Session) -> list[tuple[License, list[LicenseVersion]]]:
    """Return every license with its published versions, newest first."""
    rows = session.scalars(sa.select(License).order_by(License.slug)).all()
    return [(row, published(session, license_id=row.id)) for row in rows]


def find_license(session: Session, *, slug: str) -> License:
    """Find a license by its slug."""
    found = session.scalar(sa.select(License).where(License.slug == slug))
    if found is None:
        raise NotFound("license_not_found", f"There is no license {slug} here.")
    return found


def find_version(session: Session, *, slug: str, number: str, drafts: bool = False) -> LicenseVersion:
    """Find a version by license and number; one that was never published exists for staff alone."""
    query = sa.select(LicenseVersion).join(License).where(License.slug == slug, LicenseVersion.number == number)
    version = session.scalar(query)
    if version is None or (version.effective_at is None and not drafts):
        raise NotFound("version_not_found", f"There is no version {number} of the license {slug} here.")
    return version


def all_versions(session: Session) -> Sequence[LicenseVersion]:
    """Return every version of every license, drafts included, oldest first."""
    query = sa.select(LicenseVersion).join(License).order_by(License.slug, LicenseVersion.ordinal)
    return session.scalars(query).all()


def published(session: Session, *, license_id: int) -> list[LicenseVersion]:
    """Return the published versions of a license, newest first."""
    query = (
        sa.select(LicenseVersion)
        .where(LicenseVersion.license_id == license_id, LicenseVersion.effective_at.is_not(None))
        .order_by(LicenseVersion.ordinal.desc())
    )
    return list(session.scalars(query))


def draft_of(session: Session, *, slug: str) -> LicenseVersion | None:
    """Return the license's next version while it is being made: as a draft, in review, or approved and without date."""
    query = sa.select(LicenseVersion).join(License)
    return session.scalar(query.where(License.slug == slug, LicenseVersion.state.in_(rules.MADE)))


def has_draft(session: Session, *, slug: str) -> bool:
    """Say whether a license has a version that waits to be published."""
    return draft_of(session, slug=slug) is not None


def newest(session: Session, *, license_id: int) -> LicenseVersion | None:
    """Return the version of a license that was begun last, whatever became of it."""
    query = sa.select(LicenseVersion).where(LicenseVersion.license_id == license_id)
    return session.scalar(query.order_by(LicenseVersion.ordinal.desc()).limit(1))


def in_force(session: Session, *, slug: str, now: datetime) -> tuple[License, LicenseVersion]:
    """Return a license with the version in force."""
    license_ = find_license(session, slug=slug)
    current = rules.in_force(versions_for(session, license_ids=[license_.id]).get(license_.id, []), now)
    if current is None:
        raise Conflict("version_missing", f"No version of the license {slug} is in force. Publish one first.")
    return license_, session.get_one(LicenseVersion, current.id)


def versions_for(session: Session, *, license_ids: Sequence[int]) -> dict[int, list[VersionFact]]:
    """Return what decisions need to know of the published versions of licenses, oldest first."""
    v = LicenseVersion
    query = (
        sa.select(v.license_id, v.id, v.number, v.ordinal, v.materiality, v.effective_at, v.required_by, v.state)
        .where(v.license_id.in_(license_ids), v.effective_at.is_not(None))
        .order_by(v.ordinal)
    )
    found: dict[int, list[VersionFact]] = defaultdict(list)
    for license_id, version_id, number, ordinal, materiality, at, by, state in session.execute(query):
        if materiality is not None and at is not None:  # so it is once published
            retired = state is VersionState.RETIRED
            found[license_id].append(VersionFact(version_id, number, ordinal, materiality, at, by or at, retired))
    return dict(found)


def signatures_for(session: Session, *, user_id: int, license_ids: Sequence[int]) -> dict[int, list[SignatureFact]]:
    """Return what decisions need to know of a person's signatures of licenses, annulled ones with when that was."""
    return signatures_of(session, user_ids=[user_id], license_ids=license_ids).get(user_id, {})


def signatures_of(
    session: Session, *, user_ids: Sequence[int], license_ids: Sequence[int]
) -> dict[int, dict[int, list[SignatureFact]]]:
    """Return the same for many people at once: person → license → signatures."""
    v = LicenseVersion
    query = (
        sa.select(
            Signature.user_id, v.license_id, Signature.id, Signature.public_id, Signature.version_id, v.ordinal,
            v.number, Annulment.at, Signature.signed_at,
        )
        .join(v, v.id == Signature.version_id)
        .outerjoin(Annulment, Annulment.signature_id == Signature.id)
        .where(among(Signature.user_id, user_ids), LicenseVersion.license_id.in_(license_ids))
        .order_by(Signature.id)
    )  # fmt: skip
    found: dict[int, dict[int, list[SignatureFact]]] = defaultdict(lambda: defaultdict(list))
    for user_id, license_id, signature_id, ref, version_id, ordinal, number, ended_at, at in session.execute(query):
        fact = SignatureFact(signature_id, ref, version_id, ordinal, number, ended_at, at)
        found[user_id][license_id].append(fact)
    return {user_id: dict(rows) for user_id, rows in found.items()}


def declined_by(session: Session, *, user_id: int, license_ids: Sequence[int]) -> frozenset[int]:
    """Return the versions of which a person's last word was that they do not sign."""
    return declined_of(session, user_ids=[user_id], license_ids=license_ids).get(user_id, frozenset())


def declined_of(
    session: Session, *, user_ids: Sequence[int] | None = None, license_ids: Sequence[int]
) -> dict[int, frozenset[int]]:
    """Return the same for many people at once, or for everybody: person → versions."""
    later = sa.select(Signature.id).where(
        Signature.user_id == Ceremony.user_id, Signature.version_id == Ceremony.version_id,
        Signature.signed_at >= Decline.at,
    )  # fmt: skip
    query = (
        sa.select(Ceremony.user_id, Ceremony.version_id)
        .join(Decline, Decline.ceremony_id == Ceremony.id)
        .join(LicenseVersion, LicenseVersion.id == Ceremony.version_id)
        .where(LicenseVersion.license_id.in_(license_ids), ~later.exists())
    )
    if user_ids is not None:
        query = query.where(among(Ceremony.user_id, user_ids))
    found: dict[int, set[int]] = defaultdict(set)
    for user_id, version_id in session.execute(query):
        found[user_id].add(version_id)
    return {user_id: frozenset(versions) for user_id, versions in found.items()}


def annulments(session: Session, *, signature_ids: Sequence[int]) -> dict[int, Annulment]:
    """Return how signatures stopped binding, by their ids; those that bind are left out."""
    query = sa.select(Annulment).where(Annulment.signature_id.in_(signature_ids))
    return {row.signature_id: row for row in session.scalars(query)}


def promised(session: Session, *, user_id: int) -> Signature | None:
    """Return a person's newest signature: what they promised while it stood, also if they withdrew it since.

    One that was voided as an error never bound them, so it is passed over.
    """
    void = sa.select(Annulment.id).where(Annulment.signature_id == Signature.id, Annulment.kind == AnnulmentKind.ERROR)
    query = sa.select(Signature).where(Signature.user_id == user_id, ~void.exists()).order_by(Signature.id.desc())
    return session.scalar(query.limit(1))


def ensure_set(session: Session, *, signature_ids: Sequence[int]) -> str:
    """Return the digest that names a combination of signatures, keeping the combination the first time it is named."""
    ids = sorted(set(signature_ids))
    if not ids:
        raise Invalid("signature_set_empty", "A record has to name at least one signature that it relied on.")
    sha256 = digest(",".join(map(str, ids)).encode())
    if session.get(SignatureSet, sha256) is None:
        session.add(SignatureSet(sha256=sha256))
        session.flush()
        session.add_all(SignatureSetItem(sha256=sha256, signature_id=signature_id) for signature_id in ids)
        session.flush()
    return sha256


def rendition(version: LicenseVersion, language: str = "") -> Rendition:
    """Return a version's text in a language, or its prevailing text where none is named."""
    for row in version.renditions:
        if row.language == language or (not language and row.prevailing):
            return row
    there = ", ".join(row.language for row in version.renditions)
    raise NotFound("language_not_found", f"Version {version.number} has no text in that language; it has {there}.")


def difference(session: Session, *, old: LicenseVersion, new: LicenseVersion, language: str = "") -> list[Delta]:
    """Say clause by clause how a version differs from an earlier one, with what was said at each step between them.

    A language that the earlier version lacks is compared in the text that prevailed there.
    """
    to = rendition(new, language)
    through = [version for version in published(session, license_id=new.license_id)[::-1]
               if old.ordinal < version.ordinal < new.ordinal]  # fmt: skip
    stops = [counterpart(version, to) for version in (old, *through)]
    first, *rest = [stop.text_sha256 for stop in stops]
    return clauses.delta(session, from_sha256=first, to_sha256=to.text_sha256, through=rest)


def counterpart(version: LicenseVersion, like: Rendition) -> Rendition:
    """Return another version's text in the language of a text, or the text that prevails there."""
    return next((r for r in version.renditions if r.language == like.language), None) or rendition(version)


def pairs(session: Session, *, version: LicenseVersion) -> list[tuple[Rendition, Rendition]]:
    """Return each text of a version with its predecessor in that language, where they differ; prevailing first."""
    if version.predecessor_id is None:
        return []
    before = session.get_one(LicenseVersion, version.predecessor_id)
    earlier = {text.language: text for text in before.renditions}
    texts = sorted(version.renditions, key=lambda text: not text.prevailing)
    both = [(earlier[text.language], text) for text in texts if text.language in earlier]
    return [(old, new) for old, new in both if old.text_sha256 != new.text_sha256]


def shown(session: Session, *, version: LicenseVersion) -> str:
    """Return a digest of all that a version says, so that just what was seen is voted on, approved and published."""
    texts = {text.language: text.text_sha256 for text in version.renditions}
    words = {language: normalize("NFC", summary) for language, summary in version.summary.items()}
    weight = version.materiality.value if version.materiality else None
    changes = {}
    for old, new in pairs(session, version=version):
        told = clauses.described(session, from_sha256=old.text_sha256, to_sha256=new.text_sha256)
        changes[new.language] = {key: [how.value, normalize("NFC", why)] for key, (how, why) in told.items()}
    said = {"number": version.number, "texts": texts, "summary": words, "materiality": weight, "changes": changes}
    return digest(canonical(said))


@dataclass(frozen=True)
class Affected:
    """Somebody whom a new version concerns; without an address once their account is erased."""

    id: int
    email: str | None
    locale: str | None


def affected(session: Session, *, version: LicenseVersion) -> list[Affected]:
    """Return the people who signed an earlier version of the license, and neither this one nor a later one."""
    newest = sa.func.max(LicenseVersion.ordinal)
    signers = (
        sa.select(Signature.user_id)
        .join(LicenseVersion, LicenseVersion.id == Signature.version_id)
        .outerjoin(Annulment, Annulment.signature_id == Signature.id)
        .where(LicenseVersion.license_id == version.license_id, Annulment.id.is_(None))
        .group_by(Signature.user_id)
        .having(newest < version.ordinal)
    )
    query = sa.select(User.id, Profile.email, Profile.locale).outerjoin(Profile, Profile.user_id == User.id)
    query = query.where(User.id.in_(signers), User.standing != Standing.CLOSED).order_by(User.id)
    return [Affected(*row) for row in session.execute(query)]


def move(session: Session, *, version: LicenseVersion, action: VersionAction, **values: Any) -> None:
    """Move a version on, unless somebody else just did; the one it replaces is superseded in the same step."""
    state = VERSION.next(version.state, action)
    moved = session.scalar(
        sa.update(LicenseVersion)
        .where(LicenseVersion.id == version.id, LicenseVersion.state == version.state)
        .values(state=state, **values)
        .returning(LicenseVersion.id)
        .execution_options(synchronize_session=False)
    )
    session.refresh(version)
    if moved is None:
        raise Conflict("changed_meanwhile", f"Version {version.number} was just changed. Look at it again.")
    if state is VersionState.IN_FORCE:
        replaced = sa.select(LicenseVersion).where(
            LicenseVersion.license_id == version.license_id, LicenseVersion.state == VersionState.IN_FORCE,
            LicenseVersion.ordinal < version.ordinal,
        )  # fmt: skip
        for earlier in session.scalars(replaced).all():
            move(session, version=earlier, action=VersionAction.SUPERSEDE)


def arrive(session: Session, *, now: datetime) -> int:
    """Record as in force the scheduled versions whose date has come; decisions knew it from that instant."""
    query = (
        sa.select(LicenseVersion)
        .where(LicenseVersion.state == VersionState.SCHEDULED, LicenseVersion.effective_at <= now)
        .order_by(LicenseVersion.license_id, LicenseVersion.ordinal)
    )
    arrived = session.scalars(query).all()
    for version in arrived:
        move(session, version=version, action=VersionAction.ARRIVE)
        event = VersionArrived(subject=version.license.slug, number=version.number)
        audit.record(session, event, by=SYSTEM, now=now)
    return len(arrived)


def second_looks(session: Session) -> Sequence[AfterReview]:
    """Return the second looks at versions that came into force at once, due and done, the newest first."""
    return session.scalars(sa.select(AfterReview).order_by(AfterReview.due_at.desc())).unique().all()


def second_look(session: Session, *, version: LicenseVersion) -> AfterReview | None:
    """Return the second look at a version that came into force at once; None for one that came with notice."""
    return session.get(AfterReview, version.id)


def comment(
    session: Session,
    *,
    version: LicenseVersion,
    words: str,
    language: str = "",
    key: str = "",
    by: Actor,
    now: datetime,
) -> VersionComment:
    """Keep a remark on a version, on one of its languages or clauses or on the whole."""
    shown = rendition(version, language)
    if key and key not in {part.key for part in clauses.parts_of(session, sha256=shown.text_sha256)}:
        raise Invalid("clause_not_found", "This text has no such clause.", field="key")
    row = VersionComment(
        version_id=version.id, by=by.public_id, at=now, language=language, clause_key=key,
        words=rules.check_comment(words),
    )  # fmt: skip
    session.add(row)
    session.flush()
    event = VersionCommented(subject=version.license.slug, number=version.number)
    audit.record(session, event, by=by, now=now)
    return row


def comments_on(session: Session, *, version: LicenseVersion) -> Sequence[VersionComment]:
    """Return the remarks on a version, oldest first."""
    query = sa.select(VersionComment).where(VersionComment.version_id == version.id)
    return session.scalars(query.order_by(VersionComment.id)).all()


def resolve(session: Session, *, version: LicenseVersion, vote: Vote, by: Actor, now: datetime) -> Resolution:
    """Record, once and before a version has a date, the vote by which a body of the licensor stands behind its words.

    A vote is on exactly what the version says now; after any change of that, the body votes anew.
    """
    rules.check_vote(vote, now)
    if version.state not in rules.MADE:
        raise Conflict("version_published", f"Version {version.number} has its date; a vote comes before that.")
    if resolution_of(session, version=version):
        raise Conflict("resolution_exists", "The vote on this version is recorded already, and never changes.")
    row = Resolution(
        version_id=version.id, shown_sha256=shown(session, version=version), recorded_by=by.public_id, recorded_at=now,
        **asdict(vote),
    )  # fmt: skip
    session.add(row)
    session.flush()
    slug, minutes = version.license.slug, vote.minutes_sha256
    event = VersionResolved(subject=slug, number=version.number, minutes_sha256=minutes)
    audit.record(session, event, by=by, now=now)
    return row


def resolution_of(session: Session, *, version: LicenseVersion) -> Resolution | None:
    """Return the vote behind what a version says; one on words that changed since does not stand behind it."""
    said = Resolution.shown_sha256 == shown(session, version=version)
    return session.scalar(sa.select(Resolution).where(Resolution.version_id == version.id, said))
