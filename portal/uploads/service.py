"""Taking in files of models from staff; what is uploaded is nobody else's before it is released."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from hashlib import sha256

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts import service as accounts
from portal.accounts.models import User
from portal.accounts.rules import Permission
from portal.audit import service as audit
from portal.catalog import service as catalog
from portal.catalog.models import GatedModel
from portal.catalog.rules import ModelState
from portal.core.actor import Actor
from portal.core.db import hold
from portal.core.errors import Conflict, NotFound, Refused
from portal.core.ids import public_id
from portal.downloads.rules import HubError
from portal.files import service as files
from portal.files.models import Commit, Ref, Upload
from portal.files.rules import Entry, RefKind, git_oid, is_lfs, pointer
from portal.files.service import Staged
from portal.storage.service import UNUSED, Parts, Store
from portal.tokens import service as tokens
from portal.tokens.models import AccessToken
from portal.tokens.rules import unusable
from portal.uploads.rules import (
    KEPT,
    Add,
    FilesCommitted,
    Header,
    ModelCreated,
    RefChanged,
    Stream,
    bad,
    check_ref_name,
    exactly,
)

MAIN = "main"
STALE = 24 * 3600  # seconds after which nobody writes to a draft any more
Make = Callable[[Sequence[Entry]], Mapping[str, Entry]]


def find(session: Session, *, actor: Actor, full_name: str) -> GatedModel:
    """Find a model that the access token may write to, drafts included."""
    model = catalog.called(session, full_name=full_name)
    if model is None:
        raise NotFound("model_not_found", f"There is no model {full_name} here.")
    tokens.check_bound(session, actor=actor, model_id=model.id)
    if model.state is ModelState.WITHDRAWN:
        raise Refused("model_withdrawn", f"{full_name} was withdrawn; nothing is added to it any more.")
    return model


def create(session: Session, *, full_name: str, by: Actor, now: datetime) -> tuple[GatedModel, bool]:
    """Make room for the files of a model, with an empty first commit as every Hub has; say whether it is new.

    A model that has a card only, and no files yet, gets its first commit and counts as there already.
    """
    known = catalog.called(session, full_name=full_name)
    if known is not None:
        model = find(session, actor=by, full_name=full_name)
    else:
        tokens.check_bound(session, actor=by, model_id=None)
        model = catalog.ensure_model(session, full_name=full_name, now=now)
        audit.record(session, ModelCreated(subject=model.public_id), by=by, now=now)
    hold(session, GatedModel.id, model.id)
    if session.scalar(sa.select(Ref.id).where(Ref.model_id == model.id).limit(1)) is None:
        files.commit_files(session, model_id=model.id, staged=[], message="Initial commit", by=by, now=now)
    return model, known is None


def kept(model: GatedModel) -> Refused:
    """Say that a model is never removed: what was published stays, so that papers stay true."""
    message = (
        f"Nothing published is ever deleted here: {model.full_name} keeps its name and its commits. "
        "Delete files with a commit, or ask for the model to be withdrawn."
    )
    return Refused("model_kept", message)


def tip(session: Session, *, model: GatedModel, revision: str) -> Commit:
    """Return the commit that staff mean by a branch, tag or id, released or not."""
    return files.find_commit(session, model_id=model.id, revision=revision)


def known_files(session: Session, *, model: GatedModel, revision: str, paths: Collection[str]) -> dict[str, Entry]:
    """Return those files of a revision that lie at some paths, so that nobody sends what is there already."""
    commit = tip(session, model=model, revision=revision)
    found = files.picked(session, commit_id=commit.id, paths=list(paths))
    return {entry.path: entry for entry in found if not entry.is_folder}


def open_upload(
    session: Session,
    *,
    model: GatedModel,
    digest: str,
    size: int,
    part_size: int,
    stored: bool,
    by: Actor,
    now: datetime,
) -> Upload:
    """Remember that somebody is about to send bytes, or to name such as are here already; keeps them for a day."""
    row = Upload(
        public_id=public_id("upl"), model_id=model.id, user_id=by.id, access_token_id=by.access_token_id, sha256=digest,
        size=size, part_size=part_size, opened_at=now, expires_at=now + KEPT, stored_at=now if stored else None,
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row


def promised(session: Session, *, now: datetime) -> int:
    """Return how many bytes may still come by uploads that are under way, each digest counted once."""
    each = sa.select(Upload.sha256, sa.func.max(Upload.size).label("size"))
    open_ = each.where(Upload.stored_at.is_(None), Upload.expires_at > now).group_by(Upload.sha256).subquery()
    return int(session.scalar(sa.select(sa.func.coalesce(sa.func.sum(open_.c.size), 0))) or 0)


def find_upload(session: Session, *, ref: str, now: datetime) -> tuple[Upload, User]:
    """Find an upload whose person may still send it; staff whose role, standing or access token ended may not.

    Raises:
        HubError: there is none, or it was swept.
        Refused: the person may not any more.
    """
    row = session.scalar(sa.select(Upload).where(Upload.public_id == ref, Upload.expires_at > now))
    if row is None:
        raise bad("upload_gone", "There is no such upload; it may have been swept. Start it again.", status=404)
    user = session.get_one(User, row.user_id)
    token = session.get_one(AccessToken, row.access_token_id)
    if unusable(token.state, token.expires_at, now):
        raise Refused("access_token_revoked", "The access token that began this upload has ended.")
    actor = Actor(user_id=user.id, public_id=user.public_id, access_token_id=token.id)
    accounts.require_permission(session, actor=actor, permission=Permission.MODELS_UPLOAD, now=now)
    return row, user


def stored(session: Session, *, ref: str, now: datetime) -> None:
    """Remember that the bytes of an upload are in the store."""
    session.execute(sa.update(Upload).where(Upload.public_id == ref).values(stored_at=now))


def within_reach(session: Session, *, actor: Actor, digests: Collection[str], now: datetime) -> frozenset[str]:
    """Return which bytes the actor may name without sending them along: a digest, which everybody can read, is no key.

    They are those of models that the access token is for, and those that its person sent for one of them.
    """
    bound = tokens.bound_to(session, actor=actor)
    if not bound:
        return frozenset(digests)
    named = files.named_by(session, model_ids=bound, digests=digests)
    sent = sa.select(Upload.sha256).where(
        Upload.user_id == actor.user_id, Upload.model_id.in_(bound), Upload.stored_at.is_not(None),
        Upload.expires_at > now,
    )  # fmt: skip
    return named | frozenset(digests).intersection(session.scalars(sent))


def check_reach(session: Session, *, actor: Actor, named: Mapping[str, str], now: datetime) -> None:
    """Raise unless the actor may name all of these bytes, given as digest and path."""
    reach = within_reach(session, actor=actor, digests=named, now=now)
    if missing := [path for digest, path in named.items() if digest not in reach]:
        raise bytes_missing(missing[0])


def bytes_missing(path: str) -> HubError:
    """Say that bytes have to be sent first; whether somebody else sent them is not told."""
    return bad("bytes_missing", f"The bytes of {path[:80]} are not stored here. Send them first.")


def sweep(session: Session, *, now: datetime) -> list[str]:
    """Forget uploads that are over, and return which ones; their drafts go with them."""
    gone = session.scalars(sa.delete(Upload).where(Upload.expires_at <= now).returning(Upload.public_id)).all()
    return sorted(gone)


def add_commit(
    session: Session,
    *,
    model: GatedModel,
    branch: str,
    header: Header,
    make: Make,
    counted: Mapping[str, Mapping[str, int]],
    by: Actor,
    now: datetime,
) -> Commit:
    """Add a commit to a branch: all of its changes or none, on top of the commit that its sender knew.

    Args:
        make: makes the files after the changes, by path, from those before.
        counted: the parameters of new safetensors files by digest.

    Raises:
        HubError: 412 when somebody else's commit came first; 404 for a branch or file that is not there.
    """
    hold(session, GatedModel.id, model.id)
    parent = _branch_tip(session, model, branch)
    if header.parent and not parent.revision.startswith(header.parent):
        again = _same_again(session, parent, header, make, by)
        if again:
            return parent
        message = f"{branch} has moved on to {parent.revision} since you looked. Look at it again, then commit."
        raise bad("parent_stale", message, status=412)
    tree = make(files.listed(session, commit_id=parent.id))
    staged = [
        Staged(e.path, str(e.sha256), e.size, e.oid, e.lfs, counted.get(str(e.sha256), {})) for e in tree.values()
    ]
    row = files.commit_files(
        session, model_id=model.id, staged=staged, message=header.message, by=by, now=now, branch=branch
    )
    if row.id != parent.id:
        event = FilesCommitted(subject=model.public_id, revision=row.revision, branch=branch)
        audit.record(session, event, by=by, now=now)
    return row


def _branch_tip(session: Session, model: GatedModel, branch: str) -> Commit:
    ref = session.scalar(sa.select(Ref).where(Ref.model_id == model.id, Ref.name == branch))
    if ref is None:
        raise NotFound("revision_not_found", f"Invalid rev id: {branch[:100]}")
    if ref.kind is not RefKind.BRANCH:
        raise bad("not_a_branch", f"{branch[:100]} is a tag, and tags never move. Commit to a branch.")
    return session.get_one(Commit, ref.commit_id)


def _same_again(session: Session, tip: Commit, header: Header, make: Make, by: Actor) -> bool:
    """Say whether the newest commit is this very one, whose answer got lost, sent again."""
    before = session.get_one(Commit, tip.parent_id) if tip.parent_id else None
    if before is None or tip.author != by.public_id or not before.revision.startswith(header.parent):
        return False
    wanted = make(files.listed(session, commit_id=before.id))
    have = {e.path: e.sha256 for e in files.listed(session, commit_id=tip.id)}
    return have == {path: entry.sha256 for path, entry in wanted.items()}


def make_ref(
    session: Session, *, model: GatedModel, kind: RefKind, name: str, at: str, by: Actor, now: datetime
) -> Ref:
    """Begin a branch at a commit, or give it the lasting name of a tag."""
    check_ref_name(name)
    hold(session, GatedModel.id, model.id)
    commit = tip(session, model=model, revision=at)
    if session.scalar(sa.select(Ref.id).where(Ref.model_id == model.id, Ref.name == name)) is not None:
        raise Conflict("ref_exists", f"{model.full_name} has a branch or tag {name} already.")
    row = Ref(model_id=model.id, kind=kind, name=name, commit_id=commit.id)
    session.add(row)
    session.flush()
    event = RefChanged(subject=model.public_id, ref=f"{kind.value}/{name}", change="made", revision=commit.revision)
    audit.record(session, event, by=by, now=now)
    return row


def drop_ref(session: Session, *, model: GatedModel, kind: RefKind, name: str, by: Actor, now: datetime) -> None:
    """Remove a branch or tag; its commits stay, and what was released under its name keeps it.

    Raises:
        Refused: it is ``main``, or readers know a release by this tag.
    """
    query = sa.select(Ref).where(Ref.model_id == model.id, Ref.name == name, Ref.kind == kind)
    row = None if "\0" in name else session.scalar(query)
    if row is None:
        raise NotFound("revision_not_found", f"Invalid rev id: {name[:100]}")
    at = session.get_one(Commit, row.commit_id)
    if name == MAIN:
        raise Refused("ref_kept", "main is what everybody asks for; it is never removed.")
    if kind is RefKind.TAG and catalog.release_of(session, model=model, revision=at.revision):
        raise Refused("ref_kept", f"Readers know a release by the tag {name}, so it stays.")
    session.delete(row)
    session.flush()
    event = RefChanged(subject=model.public_id, ref=f"{kind.value}/{name}", change="removed", revision=at.revision)
    audit.record(session, event, by=by, now=now)


class Receiver:
    """Takes bytes into the store.

    Args:
        store: where bytes lie by digest.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def holds(self, digest: str, size: int | None) -> int | None:
        """Return the size of stored bytes, if it is the size expected; they stay for whoever is about to name them."""
        if not self.store.keep(digest):
            return None
        found = self.store.path(digest).stat().st_size
        return found if size in {None, found} else None

    def whole(self, stream: Stream, *, digest: str, size: int) -> None:
        """Take a file that comes at once."""
        with self.store.draft(size) as draft:
            for data in exactly(stream, size):
                draft.write(data)
            draft.keep(digest)

    def entry(self, add: Add) -> Entry:
        """Return the file that an operation adds; its bytes are in the store after this, or it is refused."""
        if add.content is None:
            size = self.holds(add.digest, add.size)
            if size is None:
                raise bytes_missing(add.path)
            return _entry(add.path, size, add.digest, large=True)
        digest, size = sha256(add.content).hexdigest(), len(add.content)
        if self.holds(digest, size) is None:
            with self.store.draft(size) as draft:
                draft.write(add.content)
                draft.keep(digest)
        large = is_lfs(add.path, size)
        return _entry(add.path, size, digest, large=large, oid="" if large else git_oid(add.content))

    def parts(self, ref: str) -> Parts:
        """Return the parts of an upload."""
        return Parts(self.store, ref)

    def sweep(self, now: float) -> int:
        """Remove drafts that nobody has written to for a day, and return how many."""
        count = 0
        for path in self.store.root.glob("tmp/*"):
            if path.name.startswith(UNUSED):  # whoever clears away takes care of those
                continue
            try:
                if now - path.stat().st_mtime > STALE:
                    path.unlink()
                    count += 1
            except FileNotFoundError:  # finished just now
                continue
        return count


def _entry(path: str, size: int, digest: str, *, large: bool, oid: str = "") -> Entry:
    return Entry(path, size, oid or git_oid(pointer(digest, size)), digest, large)
