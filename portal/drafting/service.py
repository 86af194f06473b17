"""How a license version comes to be: from the folder of licenses or at the editors' desk, until it is published."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import TypeVar
from unicodedata import normalize

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.adapters.texts import LicenseDocument, VersionDocument
from portal.audit import service as audit
from portal.audit.rules import VersionDrafted, VersionEdited, VersionPublished
from portal.clauses import service as clauses
from portal.clauses.rules import ClauseKind, Element, Relation, keyed
from portal.core.actor import Actor
from portal.core.clock import stamp
from portal.core.errors import Conflict, Invalid
from portal.licensing import rules
from portal.licensing import service as licensing
from portal.licensing.models import License, LicenseVersion, Rendition
from portal.licensing.rules import VERSION, LicenseKind, Materiality, Plan, VersionAction, VersionState
from portal.notices import service as notices
from portal.proofs.rules import canonical, digest

E = TypeVar("E", bound=StrEnum)
REACH = frozenset({Relation.WIDENED, Relation.NARROWED})
TRANSLATION = "Only this translation was corrected; the prevailing text is unchanged here."


def sync_version(
    session: Session, *, document: LicenseDocument, version: VersionDocument, by: Actor, now: datetime
) -> bool:
    """Draft one version of the folder of licenses exactly as its files declare it; says whether that was new.

    Raises:
        Conflict: the records have other bytes under that number, another version is still a draft, or the version
            does not follow on the newest one.
        Invalid: texts, clauses and changes do not fit together.
    """
    license_ = _ensure_license(session, document)
    query = sa.select(LicenseVersion).where(
        LicenseVersion.license_id == license_.id, LicenseVersion.number == version.number
    )
    if recorded := session.scalar(query):
        _check_recorded(recorded, version)
        return False
    if draft := licensing.draft_of(session, slug=document.slug):
        raise Conflict("draft_exists", f"{document.slug} {draft.number} is still a draft. Publish it first.")
    before = next(iter(licensing.published(session, license_id=license_.id)), None)
    if (newest := before.number if before else None) != version.predecessor:
        message = f"{document.slug} {version.number} follows on {version.predecessor or 'nothing'}; on record is "
        raise Conflict("predecessor_wrong", f"{message}{newest or 'nothing'}.")
    row = LicenseVersion(
        license=license_, number=version.number, ordinal=before.ordinal + 1 if before else 1,
        predecessor_id=before.id if before else None, effective_at=version.effective_at,
        materiality=_member(Materiality, version.materiality, "materiality"), required_by=version.required_by,
        summary=dict(version.summary), created_at=now, created_by=by.public_id,
    )  # fmt: skip
    session.add(row)
    _take_texts(session, document.slug, row, version)
    if stray := sorted(set(version.changes) - set(clauses.kinds_of(session, family=document.slug))):
        message = f"license.toml: changes.{stray[0]}: there is no such clause."
        raise Invalid("license_file", message, field=f"changes.{stray[0]}")
    changes = {key: (_member(Relation, how, f"changes.{key}"), why) for key, (how, why) in version.changes.items()}
    describe(session, version=row, changes=changes)
    audit.record(session, VersionDrafted(subject=document.slug, number=row.number), by=by, now=now)
    return True


def _ensure_license(session: Session, document: LicenseDocument) -> License:
    row = session.scalar(sa.select(License).where(License.slug == document.slug))
    if row is None:
        kind = _member(LicenseKind, document.kind, "kind")
        row = License(slug=document.slug, title=document.title, spdx=document.spdx, kind=kind)
        session.add(row)
        session.flush()
    if (row.title, row.spdx, row.kind.value) != (document.title, document.spdx, document.kind):
        message = f"{document.slug}/license.toml: title, SPDX id and kind of a license on record never change."
        raise Conflict("license_changed", message)
    return row


def _check_recorded(row: LicenseVersion, version: VersionDocument) -> None:
    recorded = {text.language: text.text_sha256 for text in row.renditions}
    declared = {language: digest(body) for language, body in version.texts.items()}
    for language in sorted(recorded | declared):
        if recorded.get(language) != declared.get(language):
            message = (
                f"{row.license.slug}/{row.number}.{language}.md: on record is {recorded.get(language, 'no text')}, the "
                f"file has {declared.get(language, 'none')}. A recorded text never changes; add a new version."
            )
            raise Conflict("text_recorded", message)


def _take_texts(session: Session, slug: str, row: LicenseVersion, version: VersionDocument) -> None:
    kinds = {
        c.key: (_member(ClauseKind, c.kind, c.key), _member(Element, c.element, c.key) if c.element else None)
        for c in version.clauses
    }
    labels = [(c.key, c.label) for c in version.clauses]
    for language, body in version.texts.items():
        sha256 = clauses.store_text(session, body=body)
        parts = clauses.keep_clauses(session, family=slug, sha256=sha256, kinds=kinds)
        if [(part.key, part.label) for part in parts] != labels:
            message = f"{slug}/{version.number}.{language}.md has other clauses than license.toml lists."
            raise Invalid("clauses_differ", message, field="clauses")
        prevailing = language == version.prevailing
        row.renditions.append(Rendition(language=language, text_sha256=sha256, prevailing=prevailing))
    session.flush()


def _member(values: type[E], value: str, field: str) -> E:
    try:
        return values(value)
    except ValueError:
        message = f"license.toml: {field}: {value!r} is not one of {', '.join(values)}."
        raise Invalid("license_file", message, field=field) from None


def find_draft(session: Session, *, slug: str, number: str) -> LicenseVersion:
    """Find a draft to work on."""
    version = licensing.find_version(session, slug=slug, number=number, drafts=True)
    if version.state is not VersionState.DRAFT:
        raise Conflict("version_published", f"Version {number} is published and can no longer change. Draft a new one.")
    return version


def draft(session: Session, *, slug: str, number: str, by: Actor, now: datetime) -> LicenseVersion:
    """Start the next version of a license with the words of the newest one; drafting it again returns that draft.

    Raises:
        Conflict: another draft is waiting, or nothing is published yet.
        Invalid: the number is none, or not higher than the newest.
    """
    license_ = licensing.find_license(session, slug=slug)
    waiting = licensing.draft_of(session, slug=slug)
    if waiting is not None and waiting.number == number:
        return waiting
    if waiting is not None:
        raise Conflict("draft_exists", f"Version {waiting.number} is a draft already. Publish it first.")
    before = next(iter(licensing.published(session, license_id=license_.id)), None)
    if before is None:
        raise Conflict("version_missing", "The first version of a license comes from the folder of licenses.")
    rules.check_number(number, before.number)
    row = LicenseVersion(
        license=license_, number=number, ordinal=before.ordinal + 1, predecessor_id=before.id, created_at=now,
        created_by=by.public_id, summary={},
        renditions=[
            Rendition(language=text.language, text_sha256=text.text_sha256, prevailing=text.prevailing)
            for text in before.renditions
        ],
    )  # fmt: skip
    session.add(row)
    session.flush()
    audit.record(session, VersionDrafted(subject=slug, number=number), by=by, now=now)
    return row


def save_text(
    session: Session, *, slug: str, number: str, language: str, text: str, by: Actor, now: datetime
) -> Rendition:
    """Replace a draft's words in one language; what was said about its changes stays as far as it still fits."""
    version = find_draft(session, slug=slug, number=number)
    row = licensing.rendition(version, language)
    body = text.replace("\r\n", "\n").replace("\r", "\n").strip() + "\n"

    keyed(body)  # first, so that nothing is kept of a text that cannot be
    sha256 = clauses.store_text(session, body=body.encode())
    clauses.keep_clauses(session, family=slug, sha256=sha256, kinds={})
    if sha256 == row.text_sha256:
        return row
    before = session.get_one(LicenseVersion, version.predecessor_id)
    from_sha256 = licensing.rendition(before, language).text_sha256
    clauses.carry_over(session, family=slug, from_sha256=from_sha256, old_sha256=row.text_sha256, new_sha256=sha256)
    row.text_sha256 = sha256
    session.flush()
    audit.record(session, VersionEdited(subject=slug, number=number), by=by, now=now)
    return row


def save_description(
    session: Session,
    *,
    slug: str,
    number: str,
    summary: Mapping[str, str],
    changes: Mapping[str, tuple[Relation, str]],
    by: Actor,
    now: datetime,
) -> LicenseVersion:
    """Keep what a draft's editors say about it: a summary in each language, and how each clause changed."""
    version = find_draft(session, slug=slug, number=number)
    rules.check_summary(dict(summary), [text.language for text in version.renditions])
    version.summary = {text.language: summary[text.language].strip() for text in version.renditions}
    describe(session, version=version, changes=changes)
    session.flush()
    audit.record(session, VersionEdited(subject=slug, number=number), by=by, now=now)
    return version


def describe(session: Session, *, version: LicenseVersion, changes: Mapping[str, tuple[Relation, str]] | None) -> None:
    """Record how the clauses of a draft changed, in its prevailing text and, where they changed there, in the others.

    None takes over, for the other languages, what is recorded for the prevailing text.
    """
    for old, new in _pairs(session, version):
        if changes is None:
            said = clauses.described(session, from_sha256=old.text_sha256, to_sha256=new.text_sha256)
            changes = said if new.prevailing else {}
        clauses.describe(
            session, family=version.license.slug, from_sha256=old.text_sha256, to_sha256=new.text_sha256,
            changes=changes, otherwise="" if new.prevailing else TRANSLATION,
        )  # fmt: skip


def _pairs(session: Session, version: LicenseVersion) -> list[tuple[Rendition, Rendition]]:
    """Return each text of a version with its predecessor in that language, where they differ; prevailing first."""
    if version.predecessor_id is None:
        return []
    before = session.get_one(LicenseVersion, version.predecessor_id)
    earlier = {text.language: text for text in before.renditions}
    texts = sorted(version.renditions, key=lambda text: not text.prevailing)
    pairs = [(earlier[text.language], text) for text in texts if text.language in earlier]
    return [(old, new) for old, new in pairs if old.text_sha256 != new.text_sha256]


def floor(session: Session, *, version: LicenseVersion) -> Materiality:
    """Return the least weight that a version's clause changes allow."""
    if version.predecessor_id is None:
        return Materiality.EDITORIAL
    kinds = clauses.kinds_of(session, family=version.license.slug)
    before = session.get_one(LicenseVersion, version.predecessor_id)
    return rules.materiality_floor(
        [(kinds[d.key], d.relation) for d in licensing.difference(session, old=before, new=version)]
    )


def shown(version: LicenseVersion) -> str:
    """Return a digest of all that a draft's preview shows, so that exactly what was looked at is published."""
    texts = {text.language: text.text_sha256 for text in version.renditions}
    words = {language: normalize("NFC", summary) for language, summary in version.summary.items()}
    return digest(canonical({"number": version.number, "texts": texts, "summary": words}))


def publish(
    session: Session,
    *,
    slug: str,
    number: str,
    materiality: Materiality | str,
    effective_at: datetime,
    required_by: datetime,
    by: Actor,
    now: datetime,
    base_url: str = "",
    shown_sha256: str | None = None,
) -> LicenseVersion:
    """Give a draft its weight and dates, for good; it is in force at once if its date has come, else at that date.

    Whoever signed an earlier version is told, unless the change is editorial. Only dates that came with the text
    from the folder of licenses may lie in the past.

    Raises:
        Invalid: weight, dates, summaries, translations or descriptions of changes are not as they must be.
        Conflict: the version is published already.
    """
    version = licensing.find_version(session, slug=slug, number=number, drafts=True)
    licensing.arrive(session, now=now)
    weight = _member(Materiality, materiality, "materiality")
    if weight is Materiality.MATERIAL_IMMEDIATE:
        required_by = effective_at
    action = VersionAction.PUBLISH_NOW if effective_at <= now else VersionAction.SCHEDULE
    VERSION.next(version.state, action)
    if shown_sha256 not in {None, shown(version)}:
        raise Conflict("draft_changed", "The draft changed since you looked at it. Look at it again.")
    check_publishable(
        session, version=version, materiality=weight, effective_at=effective_at, required_by=required_by, now=now
    )
    describe(session, version=version, changes=None)
    licensing.move(
        session, version=version, action=action, materiality=weight, effective_at=effective_at, required_by=required_by
    )
    event = VersionPublished(
        subject=slug, number=number, materiality=weight.value, effective_at=stamp(effective_at),
        required_by=stamp(required_by),
    )  # fmt: skip
    audit.record(session, event, by=by, now=now)
    if weight is not Materiality.EDITORIAL:
        _tell(session, version, base_url=base_url, now=now)
    return version


def check_publishable(
    session: Session,
    *,
    version: LicenseVersion,
    materiality: Materiality,
    effective_at: datetime,
    required_by: datetime,
    now: datetime,
) -> None:
    """Raise unless a draft is complete and may be given this weight and these dates; nothing is decided yet."""
    before = session.get(LicenseVersion, version.predecessor_id) if version.predecessor_id else None
    plan = Plan(
        materiality, effective_at, required_by, floor=floor(session, version=version),
        after=before.effective_at if before else None,
        declared=before is None or (effective_at, required_by) == (version.effective_at, version.required_by),
    )  # fmt: skip
    rules.check_plan(plan, now)
    check_ready(session, version=version)


def check_ready(session: Session, *, version: LicenseVersion) -> None:
    """Raise unless a draft is complete: summaries, translations clause by clause, and every change described."""
    rules.check_summary(version.summary, [text.language for text in version.renditions])
    prevailing = licensing.rendition(version)
    for text in version.renditions:
        clauses.check_translation(
            session, prevailing=prevailing.text_sha256, translation=text.text_sha256, language=text.language
        )
    if version.predecessor_id is None:
        return
    before = session.get_one(LicenseVersion, version.predecessor_id)
    changed = licensing.difference(session, old=before, new=version)
    for found in changed:
        if found.relation is not Relation.SAME and not found.explanation:
            message = f"Say how {found.key} changed, and in plain words what that means."
            raise Invalid("change_undescribed", message, field=f"explanation-{found.key}")
    reach = {found.key for found in changed if found.relation in REACH}
    for text in version.renditions:
        told = licensing.difference(session, old=before, new=version, language=text.language)
        if behind := sorted(d.key for d in told if d.key in reach and d.relation is Relation.SAME):
            message = f"{behind[0]} changed in its reach, but its {text.language!r} text did not. Translate the change."
            raise Invalid("translation_behind", message, field=f"explanation-{behind[0]}")


def _tell(session: Session, version: LicenseVersion, *, base_url: str, now: datetime) -> None:
    """Leave one message for each person who signed an earlier version, in their language where there is a summary."""
    license_, number = version.license, version.number
    prevailing = licensing.rendition(version).language
    for person in licensing.affected(session, version=version):
        if person.profile is None:
            continue  # an erased account has no address any more
        body = rules.compose_notice(
            title=license_.title, number=number, materiality=version.materiality or Materiality.MATERIAL,
            effective_on=f"{version.effective_at:%Y-%m-%d}", required_on=f"{version.required_by:%Y-%m-%d}",
            summary=version.summary.get(person.profile.locale) or version.summary[prevailing],
            page=f"{base_url}/licenses/{license_.slug}/{number}",
        )  # fmt: skip
        notices.queue(
            session, recipient_id=person.id, address=person.profile.email, kind="license_version",
            subject_ref=f"license_version:{license_.slug}/{number}", subject=f"{license_.title}: version {number}",
            body=body, now=now,
        )  # fmt: skip
