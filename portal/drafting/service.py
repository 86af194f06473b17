"""How a license version comes to be: from the folder of licenses or at the editors' desk, until it is submitted."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.adapters.texts import LicenseDocument, VersionDocument
from portal.audit import service as audit
from portal.audit.rules import VersionDrafted, VersionEdited
from portal.clauses import service as clauses
from portal.clauses.rules import FRAME, ClauseKind, Element, Relation, keyed
from portal.core.actor import Actor
from portal.core.db import hold
from portal.core.errors import Conflict, Invalid
from portal.drafting.rules import Pair, check_title, in_words, pair, rewrite
from portal.licensing import rules
from portal.licensing import service as licensing
from portal.licensing.models import License, LicenseVersion, Rendition, VersionAuthor
from portal.licensing.rules import LicenseKind, Materiality, VersionState
from portal.proofs.rules import digest

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
        license=license_, number=version.number, ordinal=_next_ordinal(session, license_),
        predecessor_id=before.id if before else None, summary=dict(version.summary), created_at=now,
        materiality=member(Materiality, version.materiality, "materiality"), created_by=by.public_id,
    )  # fmt: skip
    session.add(row)
    session.flush()
    add_author(session, version=row, by=by, now=now)
    _take_texts(session, document.slug, row, version)
    if stray := sorted(set(version.changes) - set(clauses.kinds_of(session, family=document.slug))):
        message = f"license.toml: changes.{stray[0]}: there is no such clause."
        raise Invalid("license_file", message, field=f"changes.{stray[0]}")
    changes = {key: (member(Relation, how, f"changes.{key}"), why) for key, (how, why) in version.changes.items()}
    describe(session, version=row, changes=changes)
    audit.record(session, VersionDrafted(subject=document.slug, number=row.number), by=by, now=now)
    return True


def _ensure_license(session: Session, document: LicenseDocument) -> License:
    row = session.scalar(sa.select(License).where(License.slug == document.slug))
    if row is None:
        kind = member(LicenseKind, document.kind, "kind")
        vote_from = member(Materiality, document.vote_from, "vote_from") if document.vote_from else None
        row = License(
            slug=document.slug, title=document.title, spdx=document.spdx, kind=kind, vote_from=vote_from
        )  # fmt: skip
        session.add(row)
        session.flush()
    recorded = (row.title, row.spdx, row.kind.value, row.vote_from.value if row.vote_from else None)
    if recorded != (document.title, document.spdx, document.kind, document.vote_from):
        message = f"{document.slug}/license.toml: title, SPDX id, kind and votes of a license on record never change."
        raise Conflict("license_changed", message)
    return row


def _next_ordinal(session: Session, license_: License) -> int:
    newest = licensing.newest(session, license_id=license_.id)
    return newest.ordinal + 1 if newest else 1


def add_author(session: Session, *, version: LicenseVersion, by: Actor, now: datetime) -> None:
    """Note that somebody has a hand in a version, so that somebody else approves it; again changes nothing."""
    if session.get(VersionAuthor, (version.id, by.public_id)) is None:
        session.add(VersionAuthor(version_id=version.id, author=by.public_id, at=now))
        session.flush()


def authors_of(session: Session, *, version: LicenseVersion) -> frozenset[str]:
    """Return the public ids of those who have a hand in a version."""
    return frozenset(session.scalars(sa.select(VersionAuthor.author).where(VersionAuthor.version_id == version.id)))


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
        c.key: (member(ClauseKind, c.kind, c.key), member(Element, c.element, c.key) if c.element else None)
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


def member(values: type[E], value: str, field: str) -> E:
    """Return the word of a fixed list that a license file names, or raise `Invalid`."""
    try:
        return values(value)
    except ValueError:
        message = f"license.toml: {field}: {value!r} is not one of {', '.join(values)}."
        raise Invalid("license_file", message, field=field) from None


def find_draft(session: Session, *, slug: str, number: str) -> LicenseVersion:
    """Find a draft to work on."""
    version = licensing.find_version(session, slug=slug, number=number, drafts=True)
    if version.state is VersionState.IN_REVIEW:
        raise Conflict("version_in_review", f"Version {number} is in review. Ask for changes first, then edit it.")
    if version.state is not VersionState.DRAFT:
        raise Conflict("version_published", f"Version {number} is settled and can no longer change. Draft a new one.")
    return version


def _edited(session: Session, *, slug: str, number: str, by: Actor, now: datetime) -> LicenseVersion:
    """Return a draft that nobody else writes or submits until this is done, and note who writes it."""
    version = licensing.find_version(session, slug=slug, number=number, drafts=True)
    hold(session, LicenseVersion.id, version.id)
    version = find_draft(session, slug=slug, number=number)
    add_author(session, version=version, by=by, now=now)
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
        message = f"Version {waiting.number} is being made already. Publish or retire it first."
        raise Conflict("draft_exists", message)
    before = next(iter(licensing.published(session, license_id=license_.id)), None)
    if before is None:
        raise Conflict("version_missing", "The first version of a license comes from the folder of licenses.")
    newest = licensing.newest(session, license_id=license_.id) or before
    rules.check_number(number, newest.number)
    row = LicenseVersion(
        license=license_, number=number, ordinal=newest.ordinal + 1, predecessor_id=before.id, created_at=now,
        created_by=by.public_id, summary={},
        renditions=[
            Rendition(
                language=text.language, prevailing=text.prevailing,
                text_sha256=_renumbered(session, slug, text.text_sha256, before.number, number),
            )
            for text in before.renditions
        ],
    )  # fmt: skip
    session.add(row)
    session.flush()
    add_author(session, version=row, by=by, now=now)
    audit.record(session, VersionDrafted(subject=slug, number=number), by=by, now=now)
    return row


def _renumbered(session: Session, slug: str, sha256: str, old: str, new: str) -> str:
    """Put a new version's number into the title of a text; a text that would be signed names its own version."""
    title, end, rest = clauses.text_of(session, sha256=sha256).partition("\n")
    if old not in title:
        return sha256
    renamed = clauses.store_text(session, body=f"{title.replace(old, new)}{end}{rest}".encode())
    clauses.keep_clauses(session, family=slug, sha256=renamed, kinds={})
    return renamed


def save_text(
    session: Session, *, slug: str, number: str, language: str, text: str, by: Actor, now: datetime
) -> Rendition:
    """Replace a draft's words in one language; what was said about its changes stays as far as it still fits."""
    version = _edited(session, slug=slug, number=number, by=by, now=now)
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
    translated: Mapping[str, Mapping[str, str]] | None = None,
    materiality: Materiality | None = None,
    by: Actor,
    now: datetime,
) -> LicenseVersion:
    """Keep what a draft's editors say about it: a summary in each language, how each clause changed, its weight.

    Args:
        translated: by language and key, what a change means in words of that language; where there are none, those of
            the prevailing one are shown.
    """
    version = _edited(session, slug=slug, number=number, by=by, now=now)
    rules.check_summary(dict(summary), [text.language for text in version.renditions])
    version.summary = {text.language: summary[text.language].strip() for text in version.renditions}
    version.materiality = materiality or version.materiality
    describe(session, version=version, changes=changes, translated=translated or {})
    session.flush()
    audit.record(session, VersionEdited(subject=slug, number=number), by=by, now=now)
    return version


def describe(
    session: Session,
    *,
    version: LicenseVersion,
    changes: Mapping[str, tuple[Relation, str]] | None,
    translated: Mapping[str, Mapping[str, str]] | None = None,
) -> None:
    """Record how the clauses of a draft changed, in its prevailing text and, where they changed there, in the others.

    Args:
        changes: relation and explanation by key; None takes over what is recorded for the prevailing text.
        translated: explanations in other languages, by language and key; None keeps those that are recorded.
    """
    for old, new in licensing.pairs(session, version=version):
        recorded = clauses.described(session, from_sha256=old.text_sha256, to_sha256=new.text_sha256)
        if changes is None:
            changes = recorded if new.prevailing else {}
        own = {key: words for key, (_, words) in recorded.items()}
        if translated is not None:
            own = dict(translated.get(new.language, {}))
        said = changes if new.prevailing else in_words(changes, own)
        clauses.describe(
            session, family=version.license.slug, from_sha256=old.text_sha256, to_sha256=new.text_sha256,
            changes=said, otherwise="" if new.prevailing else TRANSLATION,
        )  # fmt: skip


def explanations(session: Session, *, version: LicenseVersion) -> dict[str, dict[str, str]]:
    """Return what changes mean in the words of other languages than the prevailing one: language → key → words."""
    prevailing, found = dict[str, tuple[Relation, str]](), dict[str, dict[str, str]]()
    for old, new in licensing.pairs(session, version=version):
        said = clauses.described(session, from_sha256=old.text_sha256, to_sha256=new.text_sha256)
        if new.prevailing:
            prevailing = said
        else:
            own = {key: words for key, (_, words) in said.items() if key in prevailing}
            found[new.language] = {key: words for key, words in own.items() if words != prevailing[key][1]}
    return found


def floor(session: Session, *, version: LicenseVersion) -> Materiality:
    """Return the least weight that a version's clause changes allow."""
    if version.predecessor_id is None:
        return Materiality.EDITORIAL
    kinds = clauses.kinds_of(session, family=version.license.slug)
    kinds[FRAME] = ClauseKind.RESTRICTION  # a heading or a word above them can change what all restrictions mean
    before = session.get_one(LicenseVersion, version.predecessor_id)
    return rules.materiality_floor(
        [(kinds[d.key], d.relation) for d in licensing.difference(session, old=before, new=version)]
    )


def save_clause(
    session: Session,
    *,
    slug: str,
    number: str,
    language: str,
    key: str,
    title: str,
    body: str,
    by: Actor,
    now: datetime,
) -> Rendition:
    """Replace one clause of a draft in one language; its key and number stay."""
    text = clause_text(session, slug=slug, number=number, language=language, key=key, title=title, body=body)
    return save_text(session, slug=slug, number=number, language=language, text=text, by=by, now=now)


def clause_text(session: Session, *, slug: str, number: str, language: str, key: str, title: str, body: str) -> str:
    """Return a draft's whole text with one clause replaced, without keeping it."""
    version = find_draft(session, slug=slug, number=number)
    text = clauses.text_of(session, sha256=licensing.rendition(version, language).text_sha256)
    return rewrite(text, key=key, title=title, body=body)


def translations(session: Session, *, version: LicenseVersion, language: str) -> list[Pair]:
    """Return a version's prevailing text and one translation clause by clause, with what is missing marked."""
    prevailing, translation = licensing.rendition(version), licensing.rendition(version, language)
    before: dict[str, Relation] = {}
    after: dict[str, Relation] = {}
    if version.predecessor_id is not None:
        earlier = session.get_one(LicenseVersion, version.predecessor_id)
        for row, told in ((prevailing, before), (translation, after)):
            found = licensing.difference(session, old=earlier, new=version, language=row.language)
            told |= {delta.key: delta.relation for delta in found}
    return pair(
        clauses.whole_of(session, sha256=prevailing.text_sha256),
        clauses.whole_of(session, sha256=translation.text_sha256), before, after,
    )  # fmt: skip


def check_ready(session: Session, *, version: LicenseVersion) -> None:
    """Raise unless a draft is complete: summaries, translations clause by clause, and every change described."""
    rules.check_summary(version.summary, [text.language for text in version.renditions])
    prevailing = licensing.rendition(version)
    for text in version.renditions:
        clauses.check_translation(
            session, prevailing=prevailing.text_sha256, translation=text.text_sha256, language=text.language
        )
        check_title(clauses.text_of(session, sha256=text.text_sha256), version.number, text.language)
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
            name = rules.language_name(text.language)
            message = f"{behind[0]} changed in its reach, but its {name} text did not. Translate the change."
            raise Invalid("translation_behind", message, field=f"explanation-{behind[0]}")
