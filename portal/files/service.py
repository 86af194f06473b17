"""Naming states of a model's files by commits, branches and tags."""

import json
import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from portal.core.actor import Actor
from portal.core.clock import stamp
from portal.core.errors import Conflict, Invalid, NotFound
from portal.files.models import Commit, Ref, TreeEntry, Upload
from portal.files.rules import (
    REVISION,
    Entry,
    RefKind,
    check_path,
    check_weights,
    folder_of,
    git_oid,
    is_lfs,
    parameters_of,
    pointer,
    revision_of,
    tree_of,
)  # fmt: skip
from portal.storage import service as storage
from portal.storage.models import Blob
from portal.storage.service import Kept
from portal.storage.service import Store as Store  # noqa: PLC0414 - whoever names files needs where they lie

BATCH = 500
HEAD_MAX = 30_000_000
FULL = 40
SKIPPED = frozenset({".git", ".cache", ".DS_Store", "__pycache__"})
Progress = Callable[[str, int, int], None]
SHOWN = (TreeEntry.path, TreeEntry.size, TreeEntry.git_oid, TreeEntry.blob_sha256, TreeEntry.lfs)


@dataclass(frozen=True)
class Staged:
    """A file whose bytes are in the store, ready to be named by a commit."""

    path: str
    sha256: str
    size: int
    git_oid: str
    lfs: bool
    parameters: Mapping[str, int] = field(default_factory=dict)


def stage(
    *,
    directory: Path,
    store: Store,
    allow_pickle: bool = False,
    progress: Progress | None = None,
    known: Callable[[Path], Kept | None] = lambda _: None,
    noted: Callable[[Path, Kept], object] = lambda *_: None,
) -> tuple[Staged, ...]:
    """Bring a directory's files into the store without naming them yet; may take long, and needs no transaction.

    Args:
        progress: told (path, bytes done, bytes in all) as the reading goes on.
        known: says what an earlier run, which did not get to its end, has stored of a file already.
        noted: told of each file that is stored.

    Raises:
        Invalid: nothing to publish, a path that cannot be published, a link out of the directory,
            or weights that only come as pickles.
    """
    files = list(_walk(directory))
    if not files:
        raise Invalid("directory_empty", f"{directory} holds no files to publish.", field="directory")
    check_weights([path for path, _ in files], allow_pickle=allow_pickle)
    total, done, staged = sum(source.stat().st_size for _, source in files), 0, []
    here = {source: kept for _, source in files if (kept := known(source)) is not None}
    store.require_room(total - sum(kept.size for kept in here.values()))
    for path, source in files:

        def told(amount: int, path: str = path) -> None:
            nonlocal done
            done += amount
            if progress is not None:
                progress(path, done, total)

        if source in here:
            kept = here[source]
            told(kept.size)
        else:
            kept = store.put(source, told)
            noted(source, kept)
        large = is_lfs(path, kept.size)
        name = git_oid(pointer(kept.sha256, kept.size)) if large else kept.git_oid
        staged.append(Staged(path, kept.sha256, kept.size, name, large, count_parameters(path, source)))
    return tuple(staged)


def count_parameters(path: str, source: Path) -> dict[str, int]:
    """Count the parameters of a safetensors file by their type, from its head; none in what is no such file."""
    if not path.endswith(".safetensors"):
        return {}
    try:
        with source.open("rb") as weights:
            size = int.from_bytes(weights.read(8), "little")
            return parameters_of(json.loads(weights.read(size))) if size <= HEAD_MAX else {}
    except (OSError, ValueError, RecursionError):
        return {}


def _walk(directory: Path) -> Iterator[tuple[str, Path]]:
    if not directory.is_dir():
        raise Invalid("directory", f"{directory} is no directory.", field="directory")
    root = directory.resolve()
    for folder, names, files in os.walk(root, onerror=_unreadable):
        names[:] = sorted(set(names) - SKIPPED)
        for name in names:
            if (Path(folder) / name).is_symlink():
                raise Invalid("link_folder", f"{name} is a link to a folder; copy it in instead.", field="directory")
        for name in sorted(set(files) - SKIPPED):
            source = Path(folder) / name
            path = check_path(_text(source.relative_to(root).as_posix()))
            try:
                real = source.resolve(strict=True)
                regular = stat.S_ISREG(real.stat().st_mode)
            except (OSError, RuntimeError):  # RuntimeError: a link that leads to itself
                raise Invalid("file_unreadable", f"{path} cannot be read.", field="directory") from None
            if not real.is_relative_to(root):
                raise Invalid("link_outside", f"{path} is a link that leaves the directory.", field="directory")
            if not regular or not os.access(real, os.R_OK):
                raise Invalid("file_unreadable", f"{path} is no file that can be read.", field="directory")
            yield path, real


def _unreadable(error: OSError) -> None:
    raise Invalid("file_unreadable", f"{error.filename} cannot be read.", field="directory") from error


def _text(path: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise Invalid("path", "A file has a name that is not UTF-8.", field="path") from None
    return path


def commit_files(
    session: Session,
    *,
    model_id: int,
    staged: Sequence[Staged],
    message: str,
    by: Actor,
    now: datetime,
    branch: str = "main",
) -> Commit:
    """Name a state of a model's files and move a branch to it; the state that it names already is returned."""
    title = message.strip().splitlines()[0][:200] if message.strip() else "Publish files"
    ref = _ref(session, model_id, branch)
    parent = session.get_one(Commit, ref.commit_id) if ref else None
    wanted = {(s.path, s.sha256) for s in staged}
    if parent is not None and wanted == {(e.path, e.blob_sha256) for e in entries(session, commit_id=parent.id)}:
        return parent
    objects = [(s.path, s.git_oid) for s in staged]
    revision = revision_of(parent.revision if parent else "", objects, message, stamp(now))
    commit = Commit(
        model_id=model_id, revision=revision, parent_id=parent.id if parent else None, title=title, message=message,
        author=by.public_id, created_at=now,
    )  # fmt: skip
    session.add(commit)
    session.flush()
    write_tree(session, commit=commit, staged=staged, now=now)
    if ref is None:
        session.add(Ref(model_id=model_id, kind=RefKind.BRANCH, name=branch, commit_id=commit.id))
    else:
        ref.commit_id = commit.id
    session.flush()
    return commit


def write_tree(session: Session, *, commit: Commit, staged: Sequence[Staged], now: datetime) -> None:
    """Enter the files of a commit with the folders that they make, and the bytes that they name; the one place.

    Raises:
        Invalid: something is a file and a folder at once, or there twice.
    """
    tree = tree_of([Entry(s.path, s.size, s.git_oid, s.sha256, s.lfs) for s in staged])
    new = {s.sha256: s for s in staged}
    for some in batched(sorted(new), BATCH):
        for known in session.scalars(sa.select(Blob.sha256).where(Blob.sha256.in_(some))):
            del new[known]
    blobs = [
        {"sha256": s.sha256, "size": s.size, "stored_at": now, "parameters": dict(s.parameters)} for s in new.values()
    ]
    rows = [
        {
            "commit_id": commit.id, "folder": folder_of(e.path), "path": e.path, "blob_sha256": e.sha256,
            "size": e.size, "git_oid": e.oid, "lfs": e.lfs,
        }
        for e in tree
    ]  # fmt: skip
    if blobs:  # which another commit, of another model, may be naming at this moment
        add = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
        session.execute(add(Blob).on_conflict_do_nothing(), blobs)
    if rows:
        session.execute(sa.insert(TreeEntry), rows)


def batched(values: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Cut values into pieces that fit into one question to a database."""
    return (values[start : start + size] for start in range(0, len(values), size))


def tag(session: Session, *, model_id: int, name: str, commit: Commit) -> Ref:
    """Give a commit a lasting name; a tag never moves.

    Raises:
        Conflict: the name is in use for another commit.
    """
    check_path(name)
    ref = _ref(session, model_id, name)
    if ref is None:
        ref = Ref(model_id=model_id, kind=RefKind.TAG, name=name, commit_id=commit.id)
        session.add(ref)
        session.flush()
    elif ref.commit_id != commit.id:
        raise Conflict("ref_exists", f"{name} already names another commit.")
    return ref


def find_commit(session: Session, *, model_id: int, revision: str, among: Collection[str] | None = None) -> Commit:
    """Find a commit by branch, tag, its 40 hex digits, or at least seven of them that fit only one.

    Args:
        among: the ids of the commits that count, where not all do; a branch then means the newest of them on it.

    Raises:
        NotFound: nothing, or more than one commit, goes by that name.
    """
    missing = NotFound("revision_not_found", f"Invalid rev id: {revision[:100]}")
    if "\0" in revision:
        raise missing
    ref = _ref(session, model_id, revision)
    if ref is not None:
        at = newest_of(session, ref=ref, among=among)
        if at is None:
            raise missing
        return at
    if not REVISION.fullmatch(revision):
        raise missing
    query = sa.select(Commit).where(Commit.model_id == model_id).limit(2)
    exact = Commit.revision == revision if len(revision) == FULL else Commit.revision.startswith(revision)
    found = session.scalars(query.where(exact)).all()
    if len(found) != 1 or (among is not None and found[0].revision not in among):
        raise missing
    return found[0]


def newest_of(session: Session, *, ref: Ref, among: Collection[str] | None) -> Commit | None:
    """Return the commit that a branch or tag means where only some count; a tag means its own commit or none."""
    at: Commit | None = session.get_one(Commit, ref.commit_id)
    while at is not None and among is not None and at.revision not in among:
        further = ref.kind is RefKind.BRANCH and at.parent_id is not None
        at = session.get_one(Commit, at.parent_id) if further else None
    return at


def entries(session: Session, *, commit_id: int) -> Sequence[TreeEntry]:
    """Return the files of a commit in the order of their paths."""
    query = sa.select(TreeEntry).where(TreeEntry.commit_id == commit_id, TreeEntry.blob_sha256.is_not(None))
    return session.scalars(query.order_by(TreeEntry.path)).all()


def listed(session: Session, *, commit_id: int) -> list[Entry]:
    """Return the files of a commit as listings show them."""
    return [shown(row) for row in entries(session, commit_id=commit_id)]


def shown(row: TreeEntry) -> Entry:
    """Return a file or folder as listings show it."""
    return Entry(row.path, row.size, row.git_oid, row.blob_sha256, row.lfs)


def listing(
    session: Session, *, commit_id: int, folder: str, recursive: bool = False, after: str = "", limit: int | None = None
) -> list[Entry]:
    """Return what lies in a folder of a commit, folders included, in the order of paths.

    Args:
        folder: the folder's path, empty for the root.
        recursive: with everything below it.
        after: go on behind this path.
        limit: return at most so many.
    """
    if "\0" in folder + after:
        return []
    query = sa.select(*SHOWN).where(TreeEntry.commit_id == commit_id, TreeEntry.path > max(after, folder))
    if not recursive:
        query = query.where(TreeEntry.folder == folder)
    elif folder:
        query = query.where(TreeEntry.path > f"{folder}/", TreeEntry.path < f"{folder}0")  # 0 comes next after /
    return [Entry(*row) for row in session.execute(query.order_by(TreeEntry.path).limit(limit))]


def picked(session: Session, *, commit_id: int, paths: Sequence[str]) -> list[Entry]:
    """Return the files and folders of a commit that are among some paths, in the order of paths."""
    wanted = sorted({path for path in paths if "\0" not in path})
    query = sa.select(*SHOWN).where(TreeEntry.commit_id == commit_id)
    rows = [row for some in batched(wanted, BATCH) for row in session.execute(query.where(TreeEntry.path.in_(some)))]
    return sorted((Entry(*row) for row in rows), key=lambda entry: entry.path)


def named_by(session: Session, *, model_ids: Collection[int], digests: Collection[str]) -> frozenset[str]:
    """Return which bytes commits of some models name."""
    query = sa.select(TreeEntry.blob_sha256).join(Commit).where(Commit.model_id.in_(model_ids)).distinct()
    some = batched(sorted(digests), BATCH)
    return frozenset(str(d) for part in some for d in session.scalars(query.where(TreeEntry.blob_sha256.in_(part))))


def sizes(session: Session, *, commit_ids: Sequence[int]) -> dict[int, int]:
    """Return how many bytes each commit names, each counted once."""
    each = sa.select(TreeEntry.commit_id, TreeEntry.blob_sha256, TreeEntry.size).distinct()
    each_ = each.where(TreeEntry.commit_id.in_(commit_ids), TreeEntry.blob_sha256.is_not(None)).subquery()
    query = sa.select(each_.c.commit_id, sa.func.sum(each_.c.size)).group_by(each_.c.commit_id)
    return {commit_id: int(total) for commit_id, total in session.execute(query)}


def parameters(session: Session, *, commit_id: int) -> dict[str, int]:
    """Return the number of parameters in the safetensors files of a commit by their type; empty for none."""
    named = sa.select(TreeEntry.blob_sha256).where(TreeEntry.commit_id == commit_id)
    totals: dict[str, int] = {}
    for counted in session.scalars(sa.select(Blob.parameters).where(Blob.sha256.in_(named))):
        for kind, count in counted.items():
            totals[kind] = totals.get(kind, 0) + int(count)
    return dict(sorted(totals.items()))


def awaited(session: Session, *, now: datetime) -> frozenset[str]:
    """Return the digests of stored bytes that uploads are about to name."""
    return frozenset(session.scalars(sa.select(Upload.sha256).where(Upload.expires_at > now)))


def collect(session: Session, *, store: Store, now: datetime, remove: bool = True) -> list[tuple[str, int]]:
    """Clear away stored bytes that no commit names, no upload waits for and nobody relied on lately.

    Args:
        remove: False only to say what would be cleared away.
    """
    return storage.collect(session, store=store, awaited=awaited(session, now=now), now=now, remove=remove)


def find_entry(session: Session, *, commit_id: int, path: str) -> TreeEntry | None:
    """Find a file of a commit by its path."""
    if "\0" in path:
        return None
    query = sa.select(TreeEntry).where(TreeEntry.commit_id == commit_id, TreeEntry.path == path)
    return session.scalar(query.where(TreeEntry.blob_sha256.is_not(None)))


def refs(session: Session, *, model_id: int, among: Collection[str] | None = None) -> list[tuple[Ref, Commit]]:
    """Return a model's branches and tags with the commits that they mean."""
    rows = session.scalars(sa.select(Ref).where(Ref.model_id == model_id).order_by(Ref.name)).all()
    meant = [(ref, newest_of(session, ref=ref, among=among)) for ref in rows]
    return [(ref, commit) for ref, commit in meant if commit is not None]


def history(session: Session, *, commit: Commit, skip: int = 0, limit: int = 50) -> list[Commit]:
    """Return a commit and those before it, newest first."""
    first = sa.select(Commit.id, Commit.parent_id, sa.literal(0).label("back")).where(Commit.id == commit.id)
    line = first.cte("line", recursive=True)
    before = sa.select(Commit.id, Commit.parent_id, line.c.back + 1).join(line, Commit.id == line.c.parent_id)
    line = line.union_all(before.where(line.c.back + 1 < skip + limit))
    query = sa.select(Commit).join(line, line.c.id == Commit.id).where(line.c.back >= skip)
    return list(session.scalars(query.order_by(line.c.back)))


def named_in(session: Session, *, commit_ids: Sequence[int], paths: Sequence[str]) -> dict[tuple[int, str], str]:
    """Return the object ids of some files and folders in some commits, by commit and path."""
    query = sa.select(TreeEntry.commit_id, TreeEntry.path, TreeEntry.git_oid)
    query = query.where(TreeEntry.commit_id.in_(commit_ids), TreeEntry.path.in_(paths))
    return {(commit_id, path): oid for commit_id, path, oid in session.execute(query)}


def _ref(session: Session, model_id: int, name: str) -> Ref | None:
    return session.scalar(sa.select(Ref).where(Ref.model_id == model_id, Ref.name == name))
