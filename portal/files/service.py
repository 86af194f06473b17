"""Storing the files of models by digest, and naming states of them by commits, branches and tags."""

import os
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha1, sha256
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.core.actor import Actor
from portal.core.clock import stamp
from portal.core.errors import Conflict, Invalid, NotFound
from portal.files.models import Blob, Commit, Ref, TreeEntry
from portal.files.rules import (
    REVISION,
    Entry,
    RefKind,
    check_path,
    check_weights,
    git_oid,
    git_oid_start,
    is_lfs,
    pointer,
    revision_of,
)  # fmt: skip

CHUNK = 4 << 20
FULL = 40
SKIPPED = frozenset({".git", ".cache", ".DS_Store", "__pycache__"})
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Staged:
    """A file whose bytes are in the store, ready to be named by a commit."""

    path: str
    sha256: str
    size: int
    git_oid: str
    lfs: bool


class Store:
    """Bytes on disk, each file named by its SHA-256.

    Args:
        root: the folder, made when the first bytes arrive.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, digest: str) -> Path:
        """Return where the bytes with that digest lie."""
        return self.root / "sha256" / digest[:2] / digest

    def put(self, source: Path, progress: Callable[[int], None] | None = None) -> tuple[str, str, int]:
        """Copy a file in and return its SHA-256, git object id and size, all from one reading.

        The bytes are written under a temporary name, flushed to disk, then renamed: a crash leaves no half file.
        """
        drafts = self.root / "tmp"
        drafts.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = drafts / secrets.token_hex(16)
        try:
            digest, oid, size = _copy(source, draft, progress)
            final = self.path(digest)
            if final.exists():
                return digest, oid, size
            final.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft.rename(final)
            _flush_folder(final.parent)
        finally:
            draft.unlink(missing_ok=True)
        return digest, oid, size


def _copy(source: Path, draft: Path, progress: Callable[[int], None] | None) -> tuple[str, str, int]:
    with source.open("rb") as given, draft.open("xb") as kept:
        promised = os.fstat(given.fileno()).st_size
        strong, git = sha256(), sha1(git_oid_start(promised), usedforsecurity=False)
        size = 0
        while data := given.read(CHUNK):
            kept.write(data)
            strong.update(data)
            git.update(data)
            size += len(data)
            if progress is not None:
                progress(len(data))
        kept.flush()
        os.fsync(kept.fileno())
    if size != promised:
        raise Conflict("file_changed", f"{source.name} changed while it was read. Publish again.")
    return strong.hexdigest(), git.hexdigest(), size


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def stage(
    *, directory: Path, store: Store, allow_pickle: bool = False, progress: Progress | None = None
) -> tuple[Staged, ...]:
    """Bring a directory's files into the store without naming them yet; may take long, and needs no transaction.

    Args:
        progress: told (path, bytes done, bytes in all) as the reading goes on.

    Raises:
        Invalid: nothing to publish, a path that cannot be published, a link out of the directory,
            or weights that only come as pickles.
    """
    files = list(_walk(directory))
    if not files:
        raise Invalid("directory_empty", f"{directory} holds no files to publish.", field="directory")
    check_weights([path for path, _ in files], allow_pickle=allow_pickle)
    total, done, staged = sum(source.stat().st_size for _, source in files), 0, []
    for path, source in files:

        def told(amount: int, path: str = path) -> None:
            nonlocal done
            done += amount
            if progress is not None:
                progress(path, done, total)

        digest, oid, size = store.put(source, told)
        large = is_lfs(path, size)
        staged.append(Staged(path, digest, size, git_oid(pointer(digest, size)) if large else oid, large))
    return tuple(staged)


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
    session: Session, *, model_id: int, staged: Sequence[Staged], message: str, by: Actor, now: datetime
) -> Commit:
    """Name a state of a model's files and move ``main`` to it; the state that it names already is returned."""
    title = message.strip().splitlines()[0][:200] if message.strip() else "Publish files"
    main = _ref(session, model_id, "main")
    parent = session.get_one(Commit, main.commit_id) if main else None
    wanted = {(s.path, s.sha256) for s in staged}
    if parent is not None and wanted == {(e.path, e.blob_sha256) for e in entries(session, commit_id=parent.id)}:
        return parent
    _record_blobs(session, staged, now)
    objects = [(s.path, s.git_oid) for s in staged]
    revision = revision_of(parent.revision if parent else "", objects, message, stamp(now))
    commit = Commit(
        model_id=model_id, revision=revision, parent_id=parent.id if parent else None, title=title, message=message,
        author=by.public_id, created_at=now,
    )  # fmt: skip
    session.add(commit)
    session.flush()
    session.add_all(
        TreeEntry(
            commit_id=commit.id, path=s.path, blob_sha256=s.sha256, size=s.size, git_oid=s.git_oid, lfs=s.lfs
        )
        for s in staged
    )  # fmt: skip
    if main is None:
        session.add(Ref(model_id=model_id, kind=RefKind.BRANCH, name="main", commit_id=commit.id))
    else:
        main.commit_id = commit.id
    session.flush()
    return commit


def _record_blobs(session: Session, staged: Sequence[Staged], now: datetime) -> None:
    sizes = {s.sha256: s.size for s in staged}
    known = set(session.scalars(sa.select(Blob.sha256).where(Blob.sha256.in_(sizes))))
    session.add_all(Blob(sha256=digest, size=sizes[digest], stored_at=now) for digest in sorted(set(sizes) - known))
    session.flush()


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


def find_commit(session: Session, *, model_id: int, revision: str) -> Commit:
    """Find a commit by branch, tag, its 40 hex digits, or at least seven of them that fit only one.

    Raises:
        NotFound: nothing, or more than one commit, goes by that name.
    """
    missing = NotFound("revision_not_found", f"Invalid rev id: {revision[:100]}")
    if "\0" in revision:
        raise missing
    ref = _ref(session, model_id, revision)
    if ref is not None:
        return session.get_one(Commit, ref.commit_id)
    if not REVISION.fullmatch(revision):
        raise missing
    query = sa.select(Commit).where(Commit.model_id == model_id).limit(2)
    exact = Commit.revision == revision if len(revision) == FULL else Commit.revision.startswith(revision)
    found = session.scalars(query.where(exact)).all()
    if len(found) != 1:
        raise missing
    return found[0]


def entries(session: Session, *, commit_id: int) -> Sequence[TreeEntry]:
    """Return the files of a commit in the order of their paths."""
    rows = session.scalars(sa.select(TreeEntry).where(TreeEntry.commit_id == commit_id)).all()
    return sorted(rows, key=lambda row: row.path)


def listed(session: Session, *, commit_id: int) -> list[Entry]:
    """Return the files of a commit as listings show them."""
    return [shown(row) for row in entries(session, commit_id=commit_id)]


def shown(row: TreeEntry) -> Entry:
    """Return a file as listings show it."""
    return Entry(row.path, row.size, row.git_oid, row.blob_sha256, row.lfs)


def find_entry(session: Session, *, commit_id: int, path: str) -> TreeEntry | None:
    """Find a file of a commit by its path."""
    if "\0" in path:
        return None
    return session.scalar(sa.select(TreeEntry).where(TreeEntry.commit_id == commit_id, TreeEntry.path == path))


def refs(session: Session, *, model_id: int) -> list[tuple[Ref, Commit]]:
    """Return a model's branches and tags with their commits."""
    query = sa.select(Ref, Commit).join(Commit, Commit.id == Ref.commit_id).where(Ref.model_id == model_id)
    return [(ref, commit) for ref, commit in session.execute(query.order_by(Ref.name))]


def history(session: Session, *, commit: Commit, skip: int = 0, limit: int = 50) -> list[Commit]:
    """Return a commit and those before it, newest first."""
    rows = session.scalars(sa.select(Commit).where(Commit.model_id == commit.model_id, Commit.id <= commit.id)).all()
    by_id = {row.id: row for row in rows}
    line: list[Commit] = []
    at: int | None = commit.id
    while at is not None:
        line.append(by_id[at])
        at = by_id[at].parent_id
    return line[skip : skip + limit]


def _ref(session: Session, model_id: int, name: str) -> Ref | None:
    return session.scalar(sa.select(Ref).where(Ref.model_id == model_id, Ref.name == name))
