"""Keeping bytes on disk under their digest: taking them in, looking whether they are whole, clearing away others."""

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from errno import EDQUOT, EFBIG, ENOSPC
from hashlib import file_digest, sha1, sha256
from io import BufferedRandom
from math import inf
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.core.errors import Conflict, Full, Invalid
from portal.storage.models import Blob
from portal.storage.rules import GRACE, RESERVE, Flaw, git_oid_start, pause

CHUNK = 4 << 20
BATCH = 500
UNUSED = "unused-"
NO_ROOM = frozenset({ENOSPC, EDQUOT, EFBIG})


@dataclass(frozen=True)
class Kept:
    """Bytes that are in the store: their SHA-256, git object id and size."""

    sha256: str
    git_oid: str
    size: int


class Store:
    """Bytes on disk, each file named by its SHA-256; the one class that another kind of store would replace.

    Args:
        root: the folder, made when the first bytes arrive.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, digest: str) -> Path:
        """Return where the bytes with that digest lie."""
        return self.root / "sha256" / digest[:2] / digest

    def keep(self, digest: str) -> bool:
        """Say whether bytes are here; if so, they stay for the time that clearing away gives to unused ones."""
        try:
            os.utime(self.path(digest))
        except OSError:
            return False
        return True

    def require_room(self, size: int, promised: int = 0) -> None:
        """Raise `Full` unless so many more bytes fit, beside those promised to others and what the portal itself needs.

        Args:
            promised: bytes that others are about to send.
        """
        folder = next(place for place in (self.root, *self.root.parents) if place.exists())
        free = shutil.disk_usage(folder).free - RESERVE - promised
        if size > free:
            message = f"{size:,} bytes do not fit: {max(free, 0):,} are free for files here. Tell the operators."
            raise Full("disk_full", message)

    @contextmanager
    def draft(self, size: int) -> Iterator["Draft"]:
        """Take in bytes of a known number; whatever happens, no half file stays.

        Raises:
            Full: there is no room for them, now or before they are all here.
        """
        self.require_room(size)
        folder = self.root / "tmp"
        with self.room():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft = Draft(self, folder / secrets.token_hex(16), size)
            try:
                yield draft
            finally:
                draft.end()

    @contextmanager
    def room(self) -> Iterator[None]:
        """Say of a disk that fills up while bytes come in what is the matter."""
        try:
            yield
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise Full("disk_full", "The disk is full; nothing was kept. Tell the operators.") from error

    def adopt(self, path: Path, digest: str) -> None:
        """Give a file that is whole, and whose digest was just computed, its lasting place."""
        with path.open("rb") as file:
            os.fsync(file.fileno())
        final = self.path(digest)
        final.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.rename(final)
        _flush_folder(final.parent)

    def put(self, source: Path, progress: Callable[[int], None] | None = None) -> Kept:
        """Copy a file in and return its digests and size, all from one reading."""
        with source.open("rb") as given, self.draft(os.fstat(given.fileno()).st_size) as draft:
            while data := given.read(CHUNK):
                draft.write(data)
                if progress is not None:
                    progress(len(data))
            if draft.size != draft.promised:
                raise Conflict("file_changed", f"{source.name} changed while it was read. Publish again.")
            return draft.keep()

    def set_aside(self, digest: str) -> None:
        """Take bytes that are not what their name says out of use, so that nobody is sent them."""
        folder = self.root / "corrupt"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path(digest).rename(folder / digest)


class Draft:
    """Bytes on their way in: hashed while they are written, and named only once they are whole and on disk."""

    def __init__(self, store: Store, path: Path, promised: int) -> None:
        self.store = store
        self.path = path
        self.promised = promised
        self.size = 0
        self._file = path.open("xb")
        self._strong, self._git = sha256(), sha1(git_oid_start(promised), usedforsecurity=False)

    def write(self, data: bytes) -> None:
        """Write some more bytes."""
        self._file.write(data)
        self._strong.update(data)
        self._git.update(data)
        self.size += len(data)

    def keep(self, expected: str = "") -> Kept:
        """Bring the bytes into the store under their digest; a file that lies there already is replaced by them.

        Raises:
            Invalid: they are not as many as promised, or not those of the digest that was expected.
        """
        digest = self._strong.hexdigest()
        if self.size != self.promised or expected not in {"", digest}:
            raise Invalid("bytes_differ", "The bytes that arrived are not those that were announced.", field="oid")
        self._file.flush()
        self.store.adopt(self.path, digest)
        return Kept(digest, self._git.hexdigest(), self.size)

    def end(self) -> None:
        """Close the draft; what was not kept is gone."""
        with suppress(OSError):  # what could not be written while there was room cannot be written now
            self._file.close()
        self.path.unlink(missing_ok=True)


class Parts:
    """A file that comes in parts, each written into its place; it is named once they are all there.

    Many parts may come in at once, but none while they are put together, nor afterwards: otherwise a part that is late
    could go on writing into bytes whose digest was looked at already.

    Args:
        store: where the file will lie.
        name: what the parts go by until then.
    """

    def __init__(self, store: Store, name: str) -> None:
        self.store = store
        self.path = store.root / "tmp" / f"{name}.parts"

    def write(self, pieces: Iterable[bytes], *, start: int, length: int) -> str:
        """Take in the part that begins at a byte, and return its SHA-256.

        Raises:
            Full: there is no room for it; then nothing of the file is kept.
            Conflict: the parts are being put together.
        """
        strong = sha256()
        with self._held(fcntl.LOCK_SH, "put together just now") as file:
            self.store.require_room(length)
            file.seek(start)
            for data in pieces:
                strong.update(data)
                file.write(data)
            file.flush()
            self._mark(start).write_text(strong.hexdigest(), encoding="ascii")
        return strong.hexdigest()

    def join(self, *, digest: str, size: int, tags: Mapping[int, str]) -> None:
        """Put the parts together: each as its sender saw it, and all of them with the digest announced.

        Args:
            tags: the SHA-256 of each part by where it begins.

        Raises:
            Invalid: a part is missing or another one, or they are not the file that was announced.
            Conflict: one of them is still coming in.
        """
        for start, tag in tags.items():
            mark = self._mark(start)
            if not mark.is_file() or mark.read_text(encoding="ascii") != tag:
                message = f"The part that begins at byte {start:,} is missing, or is another one."
                raise Invalid("upload_part", message, field="parts")
        with self._held(fcntl.LOCK_EX, "still coming in") as file:
            if (file_digest(file, "sha256").hexdigest(), file.tell()) != (digest, size):
                message = "The parts together are not the file that was announced."
                raise Invalid("bytes_differ", message, field="oid")
            self.store.adopt(self.path, digest)
        self.forget()

    def forget(self) -> None:
        """Let go of all parts."""
        for path in self.path.parent.glob(f"{self.path.stem}.*"):
            path.unlink(missing_ok=True)

    def _mark(self, start: int) -> Path:
        return self.path.with_suffix(f".{start}")

    @contextmanager
    def _held(self, how: int, busy: str) -> Iterator[BufferedRandom]:
        try:
            with self.store.room():
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                with os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
                    if not self._lock(file, how):
                        message = f"Parts of this file are {busy}. Send it again in a moment."
                        raise Conflict("upload_busy", message)
                    yield file
        except Full:
            self.forget()
            raise

    def _lock(self, file: BufferedRandom, how: int) -> bool:
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
            return os.path.samestat(os.fstat(file.fileno()), self.path.stat())
        except (BlockingIOError, FileNotFoundError):  # others are at it, or had done with it since it was opened
            return False


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def next_blobs(session: Session, *, after: str, limit: int = BATCH) -> Sequence[tuple[str, int]]:
    """Return digests and sizes of the bytes that commits name, in the order of digests, going on behind one."""
    query = sa.select(Blob.sha256, Blob.size).where(Blob.sha256 > after).order_by(Blob.sha256).limit(limit)
    return [(digest, size) for digest, size in session.execute(query)]


def totals(session: Session) -> tuple[int, int]:
    """Return how many different files commits name, and how many bytes they have together."""
    number, size = session.execute(sa.select(sa.func.count(), sa.func.sum(Blob.size)).select_from(Blob)).one()
    return int(number), int(size or 0)


class Reading:
    """Looks whether stored bytes are whole, at a pace.

    Args:
        store: where they lie.
        rate: bytes a second at most; 0 for as fast as it goes.
        told: told how many more bytes were looked at.
        wait, clock: the passing of time.
    """

    def __init__(
        self,
        store: Store,
        *,
        rate: float = 0,
        told: Callable[[int], object] = lambda _: None,
        wait: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self.rate = rate
        self.told = told
        self.wait = wait
        self.clock = clock
        self.began = clock()
        self.done = 0

    def flaw(self, digest: str, size: int, *, contents: bool = True) -> Flaw | None:
        """Return what is wrong with the bytes of a digest; None if nothing is.

        Args:
            contents: read them all; otherwise only look whether they are there and how many.
        """
        path = self.store.path(digest)
        try:
            if not path.is_file():
                return Flaw.MISSING
            if path.stat().st_size != size:
                return Flaw.LENGTH
            return Flaw.CORRUPT if contents and self._digest(path) != digest else None
        except OSError:
            return Flaw.UNREADABLE

    def _digest(self, path: Path) -> str:
        strong = sha256()
        with path.open("rb") as file:
            while data := file.read(CHUNK):
                strong.update(data)
                self.done += len(data)
                self.told(len(data))
                if seconds := pause(self.done, self.clock() - self.began, self.rate):
                    self.wait(seconds)
        return strong.hexdigest()


def collect(
    session: Session, *, store: Store, awaited: frozenset[str], now: datetime, remove: bool = True
) -> list[tuple[str, int]]:
    """Clear away stored bytes that no commit names and no upload waits for; returns their digests and sizes.

    Bytes that somebody relied on lately stay: whoever names stored bytes in a commit touches them first
    (`Store.keep`), and their time is looked at once more when they are out of reach already. So a commit either finds
    its bytes and has them for good, or is told that they are gone.

    Args:
        awaited: digests that uploads are about to name.
        remove: False only to say what would be cleared away.
    """
    limit = (now - GRACE).timestamp()
    _give_back(store, limit)
    old = sorted(path for path in store.root.glob("sha256/*/*") if _time(path) < limit)
    gone: list[tuple[str, int]] = []
    for start in range(0, len(old), BATCH):
        some = {path.name: path for path in old[start : start + BATCH]}
        named = set(session.scalars(sa.select(Blob.sha256).where(Blob.sha256.in_(some))))
        for digest in sorted(set(some) - named - awaited):
            with suppress(FileNotFoundError):  # another one clears away at the same time
                size = some[digest].stat().st_size
                if not remove or _removed(store, some[digest], limit):
                    gone.append((digest, size))
    for draft in store.root.glob("tmp/*"):
        if remove and _time(draft) < limit:
            draft.unlink(missing_ok=True)
    return gone


def _removed(store: Store, path: Path, limit: float) -> bool:
    away = store.root / "tmp" / f"{UNUSED}{path.name}"
    away.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.rename(away)
    if _give_back(store, limit, away.name):
        return False
    away.unlink()
    return True


def _give_back(store: Store, limit: float, names: str = f"{UNUSED}*") -> bool:
    """Put back what was taken out of reach and relied on in between, here or by a run that was killed just then."""
    found = [away for away in store.root.glob(f"tmp/{names}") if limit <= _time(away) < inf]
    for away in found:
        path = store.path(away.name.removeprefix(UNUSED))
        if not path.exists():
            away.rename(path)
    return bool(found)


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return inf
