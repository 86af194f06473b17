"""Finding what a model's readers and clients ask for: its commits, files, changes and description."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.access import service as access
from portal.access.rules import Action
from portal.accounts import service as accounts
from portal.accounts.rules import Permission
from portal.catalog import service as catalog
from portal.catalog.models import GatedModel, Release
from portal.catalog.rules import ModelState
from portal.core.actor import Actor
from portal.core.errors import NotFound
from portal.files import service as files
from portal.files.models import Commit, Ref
from portal.files.rules import Entry
from portal.listings import service as listings
from portal.tokens import service as tokens
from portal.tokens.rules import Scope

COMMITS_WALKED = 200


@dataclass(frozen=True)
class Snapshot:
    """A model at one of its commits; `release` is None for a commit that was never released."""

    model: GatedModel
    commit: Commit
    release: Release | None


@dataclass(frozen=True)
class Located:
    """Where the bytes lie that somebody asked for, or what their model is called now; None for what is not there."""

    revision: str | None = None
    entry: Entry | None = None
    moved: str = ""


def locate(session: Session, *, name: str, revision: str, path: str) -> Located:
    """Find a file by model, revision and path, before anything is decided about it."""
    model = catalog.called(session, full_name=name)
    if model is None:
        renamed = catalog.once_called(session, full_name=name)
        return Located(moved=renamed.full_name if renamed else "")
    try:
        among = catalog.released(session, model=model)
        commit = files.find_commit(session, model_id=model.id, revision=revision, among=among)
    except NotFound:
        return Located()
    row = files.find_entry(session, commit_id=commit.id, path=path)
    return Located(commit.revision, files.shown(row) if row else None)


def locate_small(session: Session, *, actor: Actor, name: str, revision: str, path: str, now: datetime) -> Located:
    """Find a small file for staff who upload to its model, released or not: clients copy it by its bytes."""
    model = catalog.called(session, full_name=name)
    if model is None or not sees_drafts(session, actor=actor, now=now):
        return Located()
    bound = tokens.bound_to(session, actor=actor)
    try:
        commit = files.find_commit(session, model_id=model.id, revision=revision)
    except NotFound:
        return Located()
    row = files.find_entry(session, commit_id=commit.id, path=path)
    if row is None or row.lfs or (bound and model.id not in bound):
        return Located()
    return Located(commit.revision, files.shown(row))


def known(session: Session, *, name: str) -> str:
    """Return the name by which a model is called now; a name that nothing has, or had, as it is."""
    renamed = None if catalog.called(session, full_name=name) else catalog.once_called(session, full_name=name)
    return renamed.full_name if renamed else name


def visible(session: Session, *, actor: Actor, name: str, now: datetime, base_url: str) -> GatedModel:
    """Find a model that the caller may read about, by its name or an earlier one.

    Raises:
        Refused: it is hidden or missing.
    """
    name = known(session, name=name)
    if sees_drafts(session, actor=actor, now=now):
        return catalog.find_any_model(session, full_name=name)
    decision = access.check(session, actor=actor, model=name, action=Action.READ, now=now, base_url=base_url)
    access.refuse(decision)
    return catalog.find_any_model(session, full_name=name)


def sees_drafts(session: Session, *, actor: Actor, now: datetime) -> bool:
    """Say whether the caller uploads files, and so is told of those that are not released; not given any of them."""
    upload = Permission.MODELS_UPLOAD
    if actor.access_token_id is None or actor.user_id is None:
        return upload in actor.permissions
    return (
        not actor.frozen
        and Scope.WEIGHTS_WRITE in actor.scopes
        and upload in accounts.permissions(session, user_id=actor.user_id, now=now)
    )


def refs(session: Session, *, actor: Actor, model: GatedModel, now: datetime) -> list[tuple[Ref, Commit]]:
    """Return the branches and tags of a model as the caller knows them."""
    return files.refs(session, model_id=model.id, among=_known_commits(session, actor, model, now))


def newest(session: Session, *, actor: Actor, model: GatedModel, now: datetime) -> dict[int, Commit]:
    """Return the commit that ``main`` means to the caller, by model id; nothing where there is none."""
    known = _known_commits(session, actor, model, now)
    try:
        return {model.id: files.find_commit(session, model_id=model.id, revision="main", among=known)}
    except NotFound:
        return {}


def _known_commits(session: Session, actor: Actor, model: GatedModel, now: datetime) -> frozenset[str] | None:
    return None if sees_drafts(session, actor=actor, now=now) else catalog.released(session, model=model)


def writable(
    session: Session, *, actor: Actor, namespace: str, now: datetime
) -> list[tuple[GatedModel, datetime, int]]:
    """Return the models and datasets that the caller may upload to: when each last changed, and the bytes it names.

    Args:
        namespace: theirs; empty for any.
    """
    if not sees_drafts(session, actor=actor, now=now):
        return []
    query = sa.select(GatedModel, Commit).outerjoin(Ref, sa.and_(Ref.model_id == GatedModel.id, Ref.name == "main"))
    query = query.outerjoin(Commit, Commit.id == Ref.commit_id).where(GatedModel.state != ModelState.WITHDRAWN)
    if namespace:
        query = query.where(GatedModel.namespace == namespace)
    bound = tokens.bound_to(session, actor=actor)
    rows = session.execute(query.order_by(GatedModel.namespace, GatedModel.name, GatedModel.kind)).all()
    mine = [(model, commit) for model, commit in rows if not bound or model.id in bound]
    sizes = files.sizes(session, commit_ids=[commit.id for _, commit in mine if commit is not None])
    return [
        (model, commit.created_at if commit else model.created_at, sizes.get(commit.id, 0) if commit else 0)
        for model, commit in mine
    ]


def snapshot(session: Session, *, actor: Actor, name: str, revision: str, now: datetime, base_url: str) -> Snapshot:
    """Find a model at a revision; raise `NotFound` where the model has no such commit."""
    model = visible(session, actor=actor, name=name, now=now, base_url=base_url)
    try:
        among = _known_commits(session, actor, model, now)
        commit = files.find_commit(session, model_id=model.id, revision=revision, among=among)
    except NotFound:
        if listings.newest(session, models=[model]):
            raise
        message = f"No weights of {name} are published here yet; its card says how to mirror them: {base_url}/{name}"
        raise NotFound("model_without_weights", message) from None
    return Snapshot(model, commit, releases(session, model=model, revisions=[commit.revision]).get(commit.revision))


def releases(session: Session, *, model: GatedModel, revisions: Sequence[str]) -> dict[str, Release]:
    """Return the releases of commits by revision."""
    query = sa.select(Release).where(Release.model_id == model.id, Release.revision.in_(revisions))
    return {release.revision: release for release in session.scalars(query)}


def folder(
    session: Session, *, commit: Commit, path: str, limit: int, recursive: bool = False, after: str = ""
) -> tuple[list[Entry], str | None]:
    """Return what lies in a folder of a commit, a page at a time, and the path behind which the next page goes on.

    Raises:
        NotFound: there is no such folder.
    """
    limit = max(limit, 1)
    found = files.listing(session, commit_id=commit.id, folder=path, recursive=recursive, after=after, limit=limit + 1)
    if path and not found and not after:
        raise NotFound("entry_not_found", f"There is no folder {path[:200]} in this revision.")
    return found[:limit], found[limit - 1].path if len(found) > limit else None


def file(session: Session, *, commit: Commit, path: str) -> Entry:
    """Return a file of a commit, or raise `NotFound`."""
    row = files.find_entry(session, commit_id=commit.id, path=path)
    if row is None:
        raise NotFound("entry_not_found", f"There is no file {path[:200]} in this revision.")
    return files.shown(row)


def last_changes(session: Session, *, commit: Commit, entries: Sequence[Entry]) -> dict[str, Commit]:
    """Return for each file or folder the commit that last changed it, looking back as far as 200 commits."""
    line = files.history(session, commit=commit, limit=COMMITS_WALKED)
    named = files.named_in(session, commit_ids=[c.id for c in line], paths=[entry.path for entry in entries])
    found: dict[str, Commit] = {}
    for entry in entries:
        changed = commit
        for at in line:
            if named.get((at.id, entry.path)) != entry.oid:
                break
            changed = at
        found[entry.path] = changed
    return found
