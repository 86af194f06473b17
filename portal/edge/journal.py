"""The data plane's file of what it did: a line is with the kernel before the last byte of an answer leaves.

A segment holds frames of length, CRC-32 and JSON, each put there by one write. Whoever writes a segment holds a lock
on it for as long as it lives, so a reader can tell a segment that still grows from one whose writer was killed.
"""

import fcntl
import json
import logging
import os
import secrets
import struct
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

import orjson

from portal.core.clock import utcnow
from portal.core.errors import Unavailable

Record = dict[str, Any]
FRAME = struct.Struct("<II")
SEGMENT_BYTES = 64 << 20
LINE_MAX = 1 << 20
CHUNK = 4 << 20
RUN = "run"
OPENS = b'{"'
EARLIEST = datetime.min.replace(tzinfo=UTC)
log = logging.getLogger("portal.journal")


def frame(record: Record) -> bytes:
    """Return a record as it lies in a segment."""
    try:
        body = orjson.dumps(record)
    except TypeError:  # half a character, say
        body = json.dumps(record, separators=(",", ":")).encode("ascii")
    return framed(body)


def framed(body: bytes) -> bytes:
    """Return a record that is JSON already as it lies in a segment."""
    if len(body) > LINE_MAX:
        raise ValueError(f"a journal record of {len(body)} bytes")
    return FRAME.pack(len(body), zlib.crc32(body)) + body


class Journal:
    """Appends records, each by one write, safe under threads; what `append` returned from survives ``kill -9``.

    Every process that starts writes segments of its own, from its first record on: nothing is ever appended behind
    the torn tail of another. With the durability ``power-loss`` a record is also on the disk before `append` returns;
    who waits at the same time shares one sync.
    """

    def __init__(self, folder: Path, *, durability: str = "process", segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder = folder
        self.power_loss = durability == "power-loss"
        self.segment_bytes = segment_bytes
        self.problem = ""
        self._lock, self._sync_lock = Lock(), Lock()
        self._fd, self._pid, self._size, self._number = -1, -1, 0, 0
        self._written = self._synced = 0
        self._run, self._began, self._spoiled = "", utcnow(), False

    def append(self, record: Record) -> None:
        """Write one record, and wait for the disk where it must outlive a loss of power.

        Raises:
            Unavailable: it could not be written, so the answer that it speaks of must not be finished.
        """
        self.sync(self.write(record))

    def write(self, *records: Record) -> int:
        """Write records, all by one write, and return up to where the disk must be waited for; raises as `append`."""
        return self.put(b"".join([frame(record) for record in records]))

    def put(self, data: bytes) -> int:
        """Write records that are framed already; as `write`."""
        try:
            with self._lock:
                size = self._size + len(data)
                if self._spoiled or size > self.segment_bytes or self._pid != os.getpid() or self._fd < 0:
                    self._ready()
                self._put(data)
        except OSError as error:
            raise self._unwritable(error) from error
        self.problem = ""
        return self._written

    def sync(self, position: int) -> None:
        """Wait until the disk has all up to a position, where that is asked for; raises as `append`."""
        if not self.power_loss:
            return
        try:
            self._sync(position)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> Unavailable:
        self.problem = f"the journal cannot be written: {error.strerror or error}"
        log.error("journal %s", self.folder, exc_info=error)
        return Unavailable("journal_unwritable", "The portal cannot record this just now. Try again later.")

    def size(self) -> int:
        """Return how many bytes of segments lie in the folder."""
        return sum(_size(path) for path in segments(self.folder))

    def close(self) -> None:
        """End this run; its segments can then be read to their end and deleted."""
        with self._lock, self._sync_lock:
            self._leave()

    def _ready(self) -> None:
        if self._pid != os.getpid():  # a fork shares the descriptor and the lock: the child starts a run of its own
            self._leave()
            self._pid, self._run, self._number = os.getpid(), secrets.token_hex(6), 0
        with self._sync_lock:
            fresh, size = self._begin_segment()
            self._leave()
            self._fd, self._size, self._spoiled = fresh, size, False

    def _begin_segment(self) -> tuple[int, int]:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._number += 1
        name = f"{self._began:%Y%m%dT%H%M%S.%f}-{self._run}-{self._number:06d}"
        draft = self.folder / f"{name}.new"
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)  # locked before it has its name, so that no reader takes it for abandoned
            head = frame({"kind": RUN, "id": self._run, "started_at": self._began.isoformat()})
            if os.write(fd, head) != len(head):
                raise OSError(28, "No space left on device")
            draft.rename(self.folder / f"{name}.log")
            if self.power_loss:
                _sync_folder(self.folder)
        except OSError:
            os.close(fd)
            draft.unlink(missing_ok=True)
            raise
        return fd, len(head)

    def _put(self, data: bytes) -> None:
        try:
            done = os.write(self._fd, data)
        except OSError:
            self._take_back()
            raise
        if done != len(data):
            self._take_back()
            raise OSError(28, "No space left on device")
        self._size += done
        self._written += done

    def _take_back(self) -> None:
        """Remove what a failed write left; a segment that cannot be repaired is left for good."""
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            self._spoiled = True

    def _sync(self, position: int) -> None:
        with self._sync_lock:
            if self._synced >= position:
                return
            upto = self._written
            if self._spoiled:
                raise OSError(5, "Input/output error")
            try:
                os.fdatasync(self._fd)
            except OSError:
                self._spoiled = True  # what the kernel still holds of this segment is not known any more
                raise
            self._synced = upto

    def _leave(self) -> None:
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        try:
            if self.power_loss and self._pid == os.getpid() and not self._spoiled:
                os.fdatasync(fd)
                self._synced = self._written
        finally:
            os.close(fd)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def segments(folder: Path) -> list[Path]:
    """Return the segments in a folder, in the order in which their runs began."""
    return sorted(folder.glob("*.log")) if folder.is_dir() else []


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def is_growing(path: Path) -> bool:
    """Say whether some process still writes a segment."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


@dataclass
class Part:
    """What was read of a segment from some position on.

    `end` is where to read on. `damaged` says that bytes between good records could not be read, `torn` that the rest
    is no good record, `spoiled` that this rest is long enough for one: killing a writer leaves no such.
    """

    records: list[Record] = field(default_factory=list)
    end: int = 0
    damaged: bool = False
    torn: bool = False
    spoiled: bool = False
    more: bool = False


def read_from(path: Path, position: int = 0, *, limit: int = sys.maxsize) -> Part:
    """Read whole records of a segment from a position on, skipping damage; `more` says that it can be read on."""
    part = Part(end=position)
    with path.open("rb") as file:
        file.seek(position)
        data = file.read(CHUNK)
        part.more = len(data) == CHUNK
        at = 0
        while at < len(data):
            if len(part.records) >= limit:
                part.more = True
                break
            body = _body(data, at)
            if body is not None:
                part.records.append(json.loads(body))
                at += FRAME.size + len(body)
            elif part.more and at and len(data) - at < FRAME.size + LINE_MAX:
                break  # may only be cut by the end of what was read at once
            elif part.more:
                data, part.more = data + file.read(), False
            elif (onward := _resume(data, at)) is not None:
                part.damaged, at = True, onward
            else:
                part.torn, part.spoiled = True, _complete(data, at)
                break
    part.end = position + at
    return part


def _complete(data: bytes, at: int) -> bool:
    """Say whether the bytes that cannot be read have the length of a whole record."""
    return at + FRAME.size <= len(data) and FRAME.unpack_from(data, at)[0] <= len(data) - at - FRAME.size


def _body(data: bytes, at: int) -> bytes | None:
    if at + FRAME.size > len(data):
        return None
    length, checksum = FRAME.unpack_from(data, at)
    body = data[at + FRAME.size : at + FRAME.size + length]
    whole = 0 < length <= LINE_MAX and len(body) == length and zlib.crc32(body) == checksum
    return body if whole else None


def _resume(data: bytes, at: int) -> int | None:
    """Find the next good record behind damage."""
    found = data.find(OPENS, at + FRAME.size + 1)
    while found >= 0:
        if _body(data, found - FRAME.size) is not None:
            return found - FRAME.size
        found = data.find(OPENS, found + 1)
    return None


def unread(folder: Path) -> Iterator[Record]:
    """Give all records that lie in a folder, growing segments included, without taking any; for starting counters."""
    for path in segments(folder):
        part = Part(more=True)
        while part.more:
            try:
                part = read_from(path, part.end)
            except FileNotFoundError:
                break  # read and deleted meanwhile
            yield from _lines(part)


def _lines(part: Part) -> list[Record]:
    return [record for record in part.records if record.get("kind") != RUN]


@dataclass(frozen=True)
class Run:
    """A process that wrote segments; what began before `before` and has no end in them never will have one."""

    id: str
    before: datetime


@dataclass(frozen=True)
class Batch:
    """Records to enter, in the order of their runs, and the runs that ended with them."""

    records: tuple[Record, ...] = ()
    ended_runs: tuple[Run, ...] = ()
    more: bool = False
    positions: dict[Path, int] = field(default_factory=dict)
    finished: tuple[Path, ...] = ()


class JournalReader:
    """Takes records out of a folder of segments, oldest run first; one reader a folder.

    Positions live in memory only: after a restart everything still there is given again, so whatever the records are
    entered into must take a repeated one for the one it has.
    """

    def __init__(self, folder: Path, *, report: Callable[[str], None] = log.error) -> None:
        self.folder = folder
        self.report = report
        self._at: dict[Path, int] = {}
        self._damaged: set[Path] = set()
        self._runs: dict[Path, tuple[str, datetime]] = {}

    def read(self, limit: int = 500) -> Batch:
        """Return new records, `limit` at most; the same ones come again until `done` is told that they are entered."""
        now = utcnow()
        records: list[Record] = []
        positions: dict[Path, int] = {}
        finished, more = [], False
        for path in segments(self.folder):
            growing = is_growing(path)  # asked before reading: what was written by then is read
            part = read_from(path, self._at.get(path, 0), limit=limit - len(records))
            self._note(path, part, growing=growing)
            records += _lines(part)
            positions[path] = part.end
            more = part.more
            if more:
                break  # a later segment may end what this one still opens
            if not growing:
                finished.append(path)
        ended = self._ended(now, finished)
        return Batch(tuple(records), ended, more, positions, tuple(finished))

    def done(self, batch: Batch) -> None:
        """Let go of a batch that is entered, and of segments that are wholly read and that nobody writes any more."""
        self._at |= batch.positions
        for path in batch.finished:
            if path in self._damaged:
                kept = path.with_suffix(".damaged")
                path.rename(kept)
                self.report(
                    f"a journal segment is damaged; what can be read of it was entered, and it was kept: {kept}"
                )
            else:
                path.unlink()
            self._at.pop(path, None)
            self._runs.pop(path, None)
            self._damaged.discard(path)

    def set_aside(self, record: Record, error: Exception) -> None:
        """Keep a record that cannot be entered, so that it neither stops the others nor is lost."""
        kept = self.folder / "rejected.jsonl"
        with kept.open("ab") as file:
            file.write(json.dumps(record).encode() + b"\n")
        self.report(f"a journal record cannot be entered and was kept in {kept}: {record.get('id')}: {error}")

    def _note(self, path: Path, part: Part, *, growing: bool) -> None:
        if part.records and part.records[0].get("kind") == RUN:
            head = part.records[0]
            self._runs[path] = head["id"], datetime.fromisoformat(head["started_at"])
        if part.damaged or (part.spoiled and not growing):
            self._damaged.add(path)

    def _ended(self, now: datetime, finished: Sequence[Path]) -> tuple[Run, ...]:
        """Return the runs of which no segment stays: work that they began and did not end is lost."""
        stay = [path for path in segments(self.folder) if path not in finished]
        began = [self._runs[path][1] if path in self._runs else EARLIEST for path in stay]
        alive = {self._runs[path][0] for path in stay if path in self._runs}
        before = min([now, *began])
        gone = {self._runs[path][0] for path in finished if path in self._runs} - alive
        return tuple(Run(run, before) for run in sorted(gone))
