"""Finding what a model's readers and clients ask for: its commits, files, changes and description."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.access import service as access
from portal.access.models import Requirement
from portal.access.rules import Action
from portal.catalog import service as catalog
from portal.catalog.models import GatedModel, Release
from portal.catalog.rules import ModelState
from portal.core.actor import Actor
from portal.core.errors import NotFound
from portal.downloads.rules import About
from portal.files import service as files
from portal.files.models import Commit, Ref
from portal.files.rules import Entry, listing
from portal.files.service import Store

HEAD_MAX = 30_000_000
COMMITS_WALKED = 200
Metadata = Callable[[str], Mapping[str, Any]]


@dataclass(frozen=True)
class Snapshot:
    """A model at one of its commits; `release` is None for a commit that was never released."""

    model: GatedModel
    commit: Commit
    release: Release | None


@dataclass(frozen=True)
class Located:
    """Where the bytes lie that somebody asked for; None for what is not there."""

    revision: str | None = None
    entry: Entry | None = None


def locate(session: Session, *, name: str, revision: str, path: str) -> Located:
    """Find a file by model, revision and path, before anything is decided about it."""
    model = access.find_subject(session, full_name=name).model
    if model is None:
        return Located()
    try:
        commit = files.find_commit(session, model_id=model.id, revision=revision)
    except NotFound:
        return Located()
    row = files.find_entry(session, commit_id=commit.id, path=path)
    return Located(commit.revision, files.shown(row) if row else None)


def visible(session: Session, *, actor: Actor, name: str, now: datetime, base_url: str) -> GatedModel:
    """Find a model that the caller may read about; raise `Refused` for one that is hidden or missing."""
    decision = access.check(session, actor=actor, model=name, action=Action.READ, now=now, base_url=base_url)
    access.refuse(decision)
    return catalog.find_any_model(session, full_name=name)


def snapshot(session: Session, *, actor: Actor, name: str, revision: str, now: datetime, base_url: str) -> Snapshot:
    """Find a model at a revision; raise `NotFound` where the model has no such commit."""
    model = visible(session, actor=actor, name=name, now=now, base_url=base_url)
    try:
        commit = files.find_commit(session, model_id=model.id, revision=revision)
    except NotFound:
        if newest(session, models=[model]):
            raise
        message = f"No weights of {name} are published here yet; its card says how to mirror them: {base_url}/{name}"
        raise NotFound("model_without_weights", message) from None
    return Snapshot(model, commit, releases(session, model=model, revisions=[commit.revision]).get(commit.revision))


def releases(session: Session, *, model: GatedModel, revisions: Sequence[str]) -> dict[str, Release]:
    """Return the releases of commits by revision."""
    query = sa.select(Release).where(Release.model_id == model.id, Release.revision.in_(revisions))
    return {release.revision: release for release in session.scalars(query)}


def folder(session: Session, *, commit: Commit, path: str, recursive: bool = False) -> list[Entry]:
    """Return what lies in a folder of a commit; raise `NotFound` where there is no such folder."""
    found = listing(files.listed(session, commit_id=commit.id), path, recursive=recursive)
    if path and not found:
        raise NotFound("entry_not_found", f"There is no folder {path[:200]} in this revision.")
    return found


def file(session: Session, *, commit: Commit, path: str) -> Entry:
    """Return a file of a commit, or raise `NotFound`."""
    row = files.find_entry(session, commit_id=commit.id, path=path)
    if row is None:
        raise NotFound("entry_not_found", f"There is no file {path[:200]} in this revision.")
    return files.shown(row)


def pick(session: Session, *, commit: Commit, paths: Sequence[str]) -> list[Entry]:
    """Return the files and folders of a commit that are among some paths."""
    wanted = {path.strip("/") for path in paths}
    return [e for e in listing(files.listed(session, commit_id=commit.id), "", recursive=True) if e.path in wanted]


def last_changes(session: Session, *, commit: Commit, entries: Sequence[Entry]) -> dict[str, Commit]:
    """Return for each file or folder the commit that last changed it, looking back as far as 200 commits."""
    open_ = {entry.path: entry.oid for entry in entries}
    found: dict[str, Commit] = {}
    line = files.history(session, commit=commit, limit=COMMITS_WALKED)
    for at, before in zip(line, [*line[1:], None], strict=True):
        earlier = listing(files.listed(session, commit_id=before.id), "", recursive=True) if before and open_ else []
        same = {(entry.path, entry.oid) for entry in earlier}
        for path in [path for path, oid in open_.items() if (path, oid) not in same]:
            found[path] = at
            del open_[path]
    return found


def about(
    session: Session, *, models: Sequence[GatedModel], metadata: Metadata, commits: Mapping[int, Commit] | None = None
) -> list[About]:
    """Say of each model what programs want to know; of its newest commit, where none is given by model id.

    Args:
        session: the database.
        models: the models, visible to the caller.
        metadata: reads the metadata of a card's words.
        commits: the commits in question by model id.
    """
    if commits is None:
        commits = newest(session, models=models)
    gated = _gated(session, [model.id for model in models])
    found = []
    for model in models:
        commit = commits.get(model.id)
        card = catalog.current_card(session, model=model)
        found.append(
            About(
                full_name=model.full_name, ref=model.public_id, created_at=model.created_at, gated=model.id in gated,
                disabled=model.state is ModelState.WITHDRAWN,
                metadata=metadata(catalog.card_text(session, revision=card)) if card else {},
                revision=commit.revision if commit else None, changed_at=commit.created_at if commit else None,
                files=files.listed(session, commit_id=commit.id) if commit else (),
            )
        )  # fmt: skip
    return found


def newest(session: Session, *, models: Sequence[GatedModel]) -> dict[int, Commit]:
    """Return the commits that ``main`` names, by model id."""
    query = sa.select(Commit).join(Ref, Ref.commit_id == Commit.id).where(Ref.name == "main")
    return {c.model_id: c for c in session.scalars(query.where(Ref.model_id.in_([model.id for model in models])))}


def _gated(session: Session, model_ids: Sequence[int]) -> set[int]:
    query = sa.select(Requirement.model_id).where(Requirement.valid_to.is_(None), Requirement.model_id.in_(model_ids))
    return set(session.scalars(query))


def search(
    session: Session, *, actor: Actor, now: datetime, base_url: str, author: str = "", words: str = ""
) -> list[GatedModel]:
    """Return the models that the caller may read about, by name, of one namespace and with some words in their name."""
    rows = access.models_with_decisions(session, actor=actor, action=Action.READ, now=now, base_url=base_url)
    wanted = words.casefold().split()
    return [
        model for model, _, decision in rows
        if decision.allowed and author.casefold() in {"", model.namespace.casefold()}
        and all(word in model.full_name.casefold() for word in wanted)
    ]  # fmt: skip


def parameters(store: Store, entries: Sequence[Entry]) -> dict[str, int]:
    """Count the parameters in the safetensors files of a commit by their type; empty where there are none."""
    totals: dict[str, int] = {}
    for entry in entries:
        if entry.path.endswith(".safetensors") and entry.sha256:
            for kind, count in _counted(store.path(entry.sha256)):
                totals[kind] = totals.get(kind, 0) + count
    return totals


@lru_cache(maxsize=4096)
def _counted(path: Path) -> tuple[tuple[str, int], ...]:
    """Read the head of a safetensors file; one that cannot be read counts nothing. Stored bytes never change."""
    totals: dict[str, int] = {}
    try:
        with path.open("rb") as weights:
            size = int.from_bytes(weights.read(8), "little")
            head = json.loads(weights.read(size)) if size <= HEAD_MAX else {}
        for name, tensor in head.items():
            if name != "__metadata__":
                count = 1
                for side in tensor["shape"]:
                    count *= int(side)
                totals[tensor["dtype"]] = totals.get(tensor["dtype"], 0) + count
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return ()
    return tuple(sorted(totals.items()))
