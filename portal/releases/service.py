"""Putting uploaded commits before readers: what waits, what each would change, and the act itself."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.access import service as access
from portal.audit import service as audit
from portal.catalog import service as catalog
from portal.catalog.models import GatedModel, Release, by_name
from portal.core.actor import Actor
from portal.core.db import hold
from portal.core.errors import Conflict, Invalid, NotFound
from portal.files import service as files
from portal.files.models import Commit, Ref
from portal.files.rules import check_weights
from portal.licensing import service as licensing
from portal.licensing.rules import in_force
from portal.releases.rules import PicklesAllowed, pickles_alone
from portal.storage.models import Blob
from portal.storage.service import Store

MAIN = "main"


def licenses_in_force(session: Session, *, now: datetime) -> list[tuple[str, str]]:
    """Return the licenses that have a version in force, as slug and words."""
    licenses = {version.license.id: version.license for version in licensing.all_versions(session)}
    known = licensing.versions_for(session, license_ids=list(licenses))
    found = []
    for license_id, facts in known.items():
        current = in_force(facts, now)
        if current is not None:
            license_ = licenses[license_id]
            found.append((license_.slug, f"{license_.title} {current.number}"))
    return sorted(found)


@dataclass(frozen=True)
class Offered:
    """A model as the release desk lists it: its newest release, and its newest commit on ``main``."""

    model: GatedModel
    release: Release | None
    tip: Commit | None

    @property
    def waits(self) -> bool:
        """Say whether the newest commit is not what readers get."""
        return self.tip is not None and (self.release is None or self.release.revision != self.tip.revision)


def waiting(session: Session, *, words: str = "", part: tuple[int, int] = (0, 10_000)) -> list[Offered]:
    """Return models whose name holds some words, with what is released and uploaded; those that wait come first.

    Args:
        part: where to begin, and how many.
    """
    tip = sa.select(Commit.revision).join(Ref).where(Ref.name == MAIN, Commit.model_id == GatedModel.id)
    released = sa.select(Release.revision).where(Release.model_id == GatedModel.id).order_by(Release.id.desc()).limit(1)
    differs = tip.scalar_subquery() != sa.func.coalesce(released.scalar_subquery(), "")
    waits = sa.func.coalesce(differs, sa.false())
    query = by_name(words).order_by(None).order_by(waits.desc(), GatedModel.namespace, GatedModel.name)
    models = session.scalars(query.offset(part[0]).limit(part[1])).all()
    ids = [model.id for model in models]
    newest = sa.select(sa.func.max(Release.id)).where(Release.model_id.in_(ids)).group_by(Release.model_id)
    releases = {r.model_id: r for r in session.scalars(sa.select(Release).where(Release.id.in_(newest)))}
    of_main = sa.select(Commit).join(Ref).where(Ref.name == MAIN, Commit.model_id.in_(ids))
    tips = {c.model_id: c for c in session.scalars(of_main)}
    return [Offered(model, releases.get(model.id), tips.get(model.id)) for model in models]


@dataclass(frozen=True)
class Uploaded:
    """A commit as the release desk shows it, with the branches and tags that point to it."""

    commit: Commit
    names: tuple[str, ...]
    release: Release | None


def desk(session: Session, *, model: GatedModel, limit: int = 100) -> list[Uploaded]:
    """Return the newest commits of a model with the branches and tags that point to them, and their releases."""
    rows = session.scalars(
        sa.select(Commit).where(Commit.model_id == model.id).order_by(Commit.id.desc()).limit(limit)
    ).all()
    names: dict[int, list[str]] = {}
    for ref, at in files.refs(session, model_id=model.id):
        names.setdefault(at.id, []).append(ref.name)
    query = sa.select(Release).where(Release.model_id == model.id)
    releases = {release.revision: release for release in session.scalars(query)}
    return [Uploaded(row, tuple(names.get(row.id, ())), releases.get(row.revision)) for row in rows]


@dataclass(frozen=True)
class Changes:
    """What a release would change for readers: paths that come, change and go."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]


def changes(session: Session, *, model: GatedModel, commit: Commit) -> Changes:
    """Compare a commit with the newest release of its model."""
    newest = access.find_subject(session, full_name=model.full_name).release
    before: dict[str, str | None] = {}
    if newest is not None:
        at = files.find_commit(session, model_id=model.id, revision=newest.revision)
        before = {e.path: e.sha256 for e in files.listed(session, commit_id=at.id)}
    after = {e.path: e.sha256 for e in files.listed(session, commit_id=commit.id)}
    return Changes(
        tuple(sorted(after.keys() - before.keys())),
        tuple(sorted(path for path in after.keys() & before.keys() if after[path] != before[path])),
        tuple(sorted(before.keys() - after.keys())),
    )


class Readme(StrEnum):
    """How the README.md of a commit compares with the card of its model, which readers get instead."""

    NONE = "none"
    CARD = "card"
    DRAFT = "draft"
    OTHER = "other"


def _readme(session: Session, *, store: Store, commit: Commit) -> str:
    entry = files.find_entry(session, commit_id=commit.id, path="README.md")
    if entry is None or entry.size > catalog.CARD_MAX * 4:
        return ""
    try:
        return store.path(str(entry.blob_sha256)).read_bytes().decode().replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError):
        return ""


def compare_readme(session: Session, *, store: Store, model: GatedModel, commit: Commit) -> Readme:
    """Say whether the words of a commit's README.md are those of the card, or of its draft."""
    text = _readme(session, store=store, commit=commit)
    known = {
        Readme.CARD: catalog.current_card(session, model=model),
        Readme.DRAFT: catalog.draft_of(session, model=model),
    }
    for where, row in known.items():
        if row is not None and catalog.card_text(session, revision=row).strip() == text.strip():
            return where
    return Readme.OTHER if text.strip() else Readme.NONE


def draft_card(
    session: Session,
    *,
    store: Store,
    model: GatedModel,
    commit: Commit,
    check: Callable[[str], object],
    by: Actor,
    now: datetime,
) -> None:
    """Take the README.md of a commit as the draft of the next card revision; publishing it is a step of its own.

    Args:
        check: raises for metadata that Hub clients could not read.

    Raises:
        NotFound: the commit has none that can be read.
        Conflict: somebody is writing another draft.
    """
    text = _readme(session, store=store, commit=commit)
    if not text.strip():
        raise NotFound("readme_missing", "This commit has no README.md that can be read.")
    check(text)
    draft = catalog.draft_of(session, model=model)
    if draft is not None and catalog.card_text(session, revision=draft).strip() != text.strip():
        raise Conflict("draft_there", "Somebody is writing another draft of this card. Publish that one first.")
    note = f"README.md of commit {commit.revision[:12]}"
    catalog.save_draft(session, model=model, text=text, note=note, by=by, now=now)


def risks(session: Session, *, commit: Commit) -> list[str]:
    """Return the weights of a commit that can run code on loading, where it has no others that can be read."""
    hollow = unreadable(session, commit=commit)
    return pickles_alone([e.path for e in files.listed(session, commit_id=commit.id) if e.path not in hollow])


def release(
    session: Session,
    *,
    model: GatedModel,
    commit: Commit,
    license_slug: str,
    allowed_pickles: Collection[str],
    by: Actor,
    now: datetime,
) -> Release:
    """Put a commit before readers, under the license version in force and the card as it is published now.

    Args:
        allowed_pickles: the weights that can run code on loading which somebody decided to let in, by name.

    Raises:
        Invalid: there is nothing in it, or such weights are all there is and not each of them was named.
        Conflict: there is no published card, or it was released under another license.
    """
    hold(session, GatedModel.id, model.id)
    paths = [entry.path for entry in files.listed(session, commit_id=commit.id)]
    if not paths:
        raise Invalid("commit_empty", "This commit has no files, so there is nothing to release.", field="license")
    risky = risks(session, commit=commit)
    missing = [path for path in risky if path not in allowed_pickles]
    if missing:
        check_weights(missing, allow_pickle=False)
    if risky and catalog.release_of(session, model=model, revision=commit.revision) is None:
        names = sha256("\n".join(sorted(risky)).encode()).hexdigest()
        event = PicklesAllowed(subject=model.public_id, revision=commit.revision, count=len(risky), names=names)
        audit.record(session, event, by=by, now=now)
    license_, version = licensing.in_force(session, slug=license_slug, now=now)
    access.require_license(session, model_id=model.id, license_id=license_.id, now=now)
    return catalog.release(
        session, model=model, revision=commit.revision, license_slug=license_slug, license_number=version.number, by=by,
        now=now,
    )  # fmt: skip


def unreadable(session: Session, *, commit: Commit) -> list[str]:
    """Return the safetensors files whose head told no parameters."""
    digests = {e.sha256: e.path for e in files.listed(session, commit_id=commit.id) if e.path.endswith(".safetensors")}
    rows = session.scalars(sa.select(Blob).where(Blob.sha256.in_(digests)))
    return sorted(digests[row.sha256] for row in rows if not row.parameters)
