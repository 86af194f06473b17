"""License texts that bind: which versions there are, which is in force when, and who has signed what."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.accounts.rules import Standing
from portal.audit import service as audit
from portal.audit.rules import VersionArrived
from portal.clauses import service as clauses
from portal.clauses.rules import Delta
from portal.core.actor import SYSTEM
from portal.core.errors import Conflict, Invalid, NotFound
from portal.licensing import rules
from portal.licensing.models import License, LicenseVersion, Rendition, Signature, SignatureSet, SignatureSetItem
from portal.licensing.rules import VERSION, SignatureFact, VersionAction, VersionFact, VersionState
from portal.proofs.rules import digest


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
    """Find a version by license and number; a draft exists for staff alone."""
    query = sa.select(LicenseVersion).join(License).where(License.slug == slug, LicenseVersion.number == number)
    version = session.scalar(query)
    if version is None or (version.state is VersionState.DRAFT and not drafts):
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
        .where(LicenseVersion.license_id == license_id, LicenseVersion.state != VersionState.DRAFT)
        .order_by(LicenseVersion.ordinal.desc())
    )
    return list(session.scalars(query))


def draft_of(session: Session, *, slug: str) -> LicenseVersion | None:
    """Return the draft of a license's next version, if there is one."""
    query = sa.select(LicenseVersion).join(License)
    return session.scalar(query.where(License.slug == slug, LicenseVersion.state == VersionState.DRAFT))


def has_draft(session: Session, *, slug: str) -> bool:
    """Say whether a license has a draft that waits to be published."""
    return draft_of(session, slug=slug) is not None


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
        sa.select(v.license_id, v.id, v.number, v.ordinal, v.materiality, v.effective_at, v.required_by)
        .where(v.license_id.in_(license_ids), v.state != VersionState.DRAFT)
        .order_by(v.ordinal)
    )
    found: dict[int, list[VersionFact]] = defaultdict(list)
    for license_id, version_id, number, ordinal, materiality, effective_at, required_by in session.execute(query):
        if materiality is not None and effective_at is not None:  # so it is once published
            fact = VersionFact(version_id, number, ordinal, materiality, effective_at, required_by or effective_at)
            found[license_id].append(fact)
    return dict(found)


def signatures_for(session: Session, *, user_id: int, license_ids: Sequence[int]) -> dict[int, list[SignatureFact]]:
    """Return what decisions need to know of a person's signatures of licenses."""
    query = (
        sa.select(
            LicenseVersion.license_id, Signature.id, Signature.public_id, Signature.version_id, LicenseVersion.ordinal
        )
        .join(LicenseVersion, LicenseVersion.id == Signature.version_id)
        .where(Signature.user_id == user_id, LicenseVersion.license_id.in_(license_ids))
        .order_by(Signature.id)
    )
    found: dict[int, list[SignatureFact]] = defaultdict(list)
    for license_id, signature_id, ref, version_id, ordinal in session.execute(query):
        found[license_id].append(SignatureFact(signature_id, ref, version_id, ordinal))
    return dict(found)


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


def affected(session: Session, *, version: LicenseVersion) -> list[User]:
    """Return the people who signed an earlier version of the license, and neither this one nor a later one."""
    newest = sa.func.max(LicenseVersion.ordinal)
    signers = (
        sa.select(Signature.user_id)
        .join(LicenseVersion, LicenseVersion.id == Signature.version_id)
        .where(LicenseVersion.license_id == version.license_id)
        .group_by(Signature.user_id)
        .having(newest < version.ordinal)
    )
    query = sa.select(User).where(User.id.in_(signers), User.standing != Standing.CLOSED).order_by(User.id)
    return list(session.scalars(query).unique())


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
