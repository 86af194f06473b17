"""What staff send with Hub clients: signed addresses, the lines of a commit, and the tree that they make."""

import base64
import binascii
import hmac
import json
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import sha256
from math import ceil
from typing import Any, Protocol

from portal.audit.rules import Event
from portal.catalog.rules import named
from portal.downloads.rules import HubError
from portal.files.rules import Entry, check_path, folder_of, is_lfs

CHUNK = 1 << 20
LIFE = timedelta(hours=12)  # of an address; the slowest transfer begins within it
KEPT = timedelta(hours=24)  # of an upload: what its bytes are kept for until a commit names them
PART = 64 << 20
PARTS_MOST = 10_000
LINE_MOST = 16 << 20  # a regular file is below 10 MB, a third more in base64
OPERATIONS_MOST = 25_000
OBJECTS_MOST = 1_000
FILES_MOST = 1_000
SUMMARY_MOST = 500
DESCRIPTION_MOST = 10_000
DIGEST = re.compile(r"[0-9a-f]{64}")
REVISION_LIKE = re.compile(r"[0-9a-f]{7,40}")
REF_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/+-]{0,198}[A-Za-z0-9_+])?")
XET_HINT = "If it ends at xet-write-token, set HF_HUB_DISABLE_XET=1 and upload again: Xet is not spoken here."


@dataclass(frozen=True)
class ModelCreated(Event, name="model:repository:created"):
    """Somebody of the staff made room for the files of a model; nobody else sees it before a release."""


@dataclass(frozen=True)
class FilesCommitted(Event, name="model:commit:created"):
    """Files were uploaded as a commit; nobody beyond the staff gets them before it is released."""

    revision: str
    branch: str


@dataclass(frozen=True)
class RefChanged(Event, name="model:ref:changed"):
    """A branch or tag was made or removed; `change` says which, and `revision` where it points."""

    ref: str
    change: str
    revision: str


def bad(code: str, message: str, *, status: int = 400) -> HubError:
    """Say in the words of the Hub what is wrong with what a client sent."""
    return HubError(status, "", message, code=code)


@dataclass(frozen=True)
class Ticket:
    """What a signed address lets somebody send: these bytes, as this person, until then.

    Args:
        ref: of the upload.
        part: from 1 on; 0 for all bytes at once, and for putting the parts together.
        expires: seconds since 1970.
        person: public id of who may use it.
        digest, size: of the whole.
    """

    ref: str
    part: int
    expires: int
    person: str
    digest: str
    size: int

    def seal(self, key: str) -> str:
        """Return the HMAC that makes the address of this ticket."""
        said = f"upload\n{self.ref}\n{self.part}\n{self.expires}\n{self.person}\n{self.digest}\n{self.size}"
        return hmac.new(key.encode(), said.encode(), sha256).hexdigest()

    def check(self, seal: str, keys: Collection[str], at: float) -> None:
        """Raise unless the address is one of ours for exactly this, and still good."""
        if not any(hmac.compare_digest(self.seal(key).encode(), seal.encode()) for key in keys):
            raise bad("upload_signature", "This address was not made here for these bytes.", status=403)
        if at >= self.expires:
            message = "This address has expired. Start the upload again; what is stored already is not sent twice."
            raise bad("upload_expired", message, status=403)


def actions(ticket: Ticket, part_size: int, where: str, key: str) -> dict[str, Any]:
    """Return where to send the bytes of an upload and where to have them confirmed, as a batch answers.

    Args:
        ticket: for the whole.
        part_size: of a file that comes in parts; 0 for one that comes whole.
        where: the address of the upload.
        key: signs the addresses.
    """
    seconds = int(LIFE.total_seconds())

    def address(what: str, part: int) -> str:
        seal = replace(ticket, part=part).seal(key)
        return f"{where}/{what}?expires={ticket.expires}&signature={seal}"

    verify = {"href": f"{where}/verify", "expires_in": seconds}
    if not part_size:
        return {"upload": {"href": address("0", 0), "expires_in": seconds}, "verify": verify}
    header = {"chunk_size": str(part_size)}
    for number in range(1, len(part_sizes(ticket.size, part_size)) + 1):
        header[str(number)] = address(str(number), number)
    return {"upload": {"href": address("parts", 0), "header": header, "expires_in": seconds}, "verify": verify}


def mode(path: str, size: int, known: Entry | None) -> dict[str, Any]:
    """Say whether a file comes within the commit or before it, and what of it is there already."""
    large = is_lfs(path, size)
    said: dict[str, Any] = {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
    if known is not None and known.lfs is large:
        said["oid"] = known.sha256 if large else known.oid
    return said


def full_name(body: Mapping[str, Any]) -> str:
    """Read which repository a body names, as the calls about repositories write it."""
    kind = body.get("type") or "model"
    if kind not in {"model", "dataset"}:
        raise bad("type", f"There are models and datasets here, and no {str(kind)[:40]!r}.")
    space, name = body.get("organization"), body.get("name")
    full = f"{space}/{name}" if space else name
    if not isinstance(full, str) or full.count("/") != 1:
        raise bad("name", "Name the repository NAMESPACE/NAME.")
    return named(f"{kind}s", *full.split("/"))


def part_sizes(size: int, part_size: int) -> list[int]:
    """Return how many bytes each part has; a single one where a file is not divided."""
    if not part_size:
        return [size]
    count = ceil(size / part_size)
    return [min(part_size, size - part_size * number) for number in range(count)]


def divided(size: int, transfers: Collection[str]) -> int:
    """Return the size of the parts in which a file comes; 0 for one that comes whole."""
    if "multipart" not in transfers or size <= PART:
        return 0
    return max(PART, ceil(size / PARTS_MOST))


def check_file_size(size: int, most_gb: int) -> None:
    """Raise for a file that Hub clients would not download again."""
    if size > most_gb << 30:
        message = f"A file may have {most_gb} GB here, since clients download no larger one: divide it."
        raise bad("file_too_large", message, status=413)


def tries_xet(user_agent: str) -> bool:
    """Say whether a client uploads large files by Xet without asking whether anybody speaks it."""
    return re.search(r"\bhf_hub/[1-9]", user_agent) is not None


def digest_of(value: Any) -> str:
    """Read a SHA-256, or raise."""
    if not isinstance(value, str) or not DIGEST.fullmatch(value):
        raise bad("oid", f"oid is a SHA-256 in 64 lower-case hex digits, and {str(value)[:80]!r} is none.")
    return value


def size_of(value: Any) -> int:
    """Read a number of bytes, or raise."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 62:
        raise bad("size", f"size is a whole number of bytes, and {str(value)[:40]!r} is none.")
    return value


def path_of(value: Any) -> str:
    """Read a path that clients of every system can hold, or raise."""
    if not isinstance(value, str):
        raise bad("path", f"path is text, and {str(value)[:80]!r} is none.")
    return check_path(value)


def list_of(value: Any, name: str, most: int) -> list[dict[str, Any]]:
    """Read a list of objects, or raise."""
    if not isinstance(value, list) or len(value) > most or not all(isinstance(item, dict) for item in value):
        raise bad(name, f"{name} is a list of at most {most:,} objects.")
    return value


def text_of(value: Any, name: str, most: int) -> str:
    """Read text that may be missing, or raise."""
    found = "" if value is None else value
    if not isinstance(found, str) or len(found) > most or "\0" in found:
        raise bad(name, f"{name} is a text of at most {most:,} characters.")
    try:
        found.encode()
    except UnicodeEncodeError:
        raise bad(name, f"{name} holds half a character.") from None
    return found


def check_ref_name(name: str) -> str:
    """Return the name of a branch or tag, or raise for one that git or an address could misread."""
    odd = any(s in {"", ".", ".."} or s.endswith((".lock", ".")) or s.startswith(".") for s in name.split("/"))
    if not REF_NAME.fullmatch(name) or odd or ".." in name or REVISION_LIKE.fullmatch(name) or name == "HEAD":
        message = f"{name[:80]!r} can name no branch or tag: letters, digits, '.', '_', '-', '+' and '/', no commit id."
        raise bad("ref_name", message)
    return name


@dataclass(frozen=True)
class Add:
    """A file that comes with the commit itself, or bytes that were sent before."""

    path: str
    digest: str = ""
    size: int | None = None
    content: bytes | None = None


@dataclass(frozen=True)
class Delete:
    """A file, or a folder with all that is in it, that goes."""

    path: str
    folder: bool = False


Operation = Add | Delete


@dataclass(frozen=True)
class Header:
    """What a commit says of itself, and which one it builds on, where it cares."""

    summary: str = ""
    description: str = ""
    parent: str = ""

    @property
    def message(self) -> str:
        """Title and body as they are kept."""
        return f"{self.summary}\n\n{self.description}".strip()


def header_of(value: Mapping[str, Any]) -> Header:
    """Read the first line of a commit."""
    parent = text_of(value.get("parentCommit"), "parentCommit", 40)
    if parent and not REVISION_LIKE.fullmatch(parent):
        raise bad("parentCommit", "parentCommit is the id of a commit in 40 hex digits.")
    return Header(
        text_of(value.get("summary"), "summary", SUMMARY_MOST),
        text_of(value.get("description"), "description", DESCRIPTION_MOST), parent,
    )  # fmt: skip


def operation_of(key: Any, value: Mapping[str, Any]) -> Operation:
    """Read one line of a commit beyond the first."""
    if key == "file":
        if value.get("encoding") != "base64" or not isinstance(value.get("content"), str):
            raise bad("content", "The content of a file is text with encoding base64.")
        try:
            content = base64.b64decode(value["content"].encode(), validate=True)
        except (binascii.Error, ValueError):
            raise bad("content", f"The content of {str(value.get('path'))[:80]!r} is no base64.") from None
        return Add(path_of(value.get("path")), content=content)
    if key == "lfsFile":
        if value.get("algo", "sha256") != "sha256":
            raise bad("algo", "Large files are named by sha256.")
        size = size_of(value["size"]) if value.get("size") is not None else None
        return Add(path_of(value.get("path")), digest_of(value.get("oid")), size)
    if key == "deletedFile":
        return Delete(path_of(value.get("path")))
    if key == "deletedFolder":
        given = value.get("path")
        return Delete(path_of(given.rstrip("/") if isinstance(given, str) else given), folder=True)
    raise bad("operation", f"A commit has no operation {str(key)[:40]!r}.")


def lines_of(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut a body into its lines, none of them larger than a regular file may be."""
    kept = b""
    for chunk in chunks:
        *lines, kept = (kept + chunk).split(b"\n")
        if max(map(len, lines), default=0) > LINE_MOST or len(kept) > LINE_MOST:
            raise bad(
                "line_too_large", f"A line has more than {LINE_MOST >> 20} MiB. Send the file by LFS.", status=413
            )
        yield from lines
    yield kept


def parsed(line: bytes) -> tuple[Any, Mapping[str, Any]]:
    """Read one line of a commit as key and value."""
    try:
        read = json.loads(line)
    except (ValueError, RecursionError):
        raise bad("line", "A line of the commit is no JSON.") from None
    if not isinstance(read, dict) or not isinstance(read.get("value"), dict):
        raise bad("line", 'A line of a commit is {"key": …, "value": {…}}.')
    return read.get("key"), read["value"]


@dataclass
class Plan:
    """What the lines of a commit come to.

    Args:
        header: what it says of itself.
        changes: the files that come and go, in their order.
        named: digests of bytes that did not come with it, and at which path each is to lie.
    """

    header: Header
    changes: list[Entry | Delete] = field(default_factory=list)
    named: dict[str, str] = field(default_factory=dict)


def changed(before: Sequence[Entry], changes: Iterable[Entry | Delete]) -> dict[str, Entry]:
    """Return the files after all changes, by path; raise for a file to delete that is not there."""
    files = {entry.path: entry for entry in before}
    for change in changes:
        if isinstance(change, Entry):
            files[change.path] = change
        elif change.folder:
            inside = [path for path in files if path.startswith(f"{change.path}/")]
            if not inside:
                raise _absent(change.path)
            for path in inside:
                del files[path]
        elif files.pop(change.path, None) is None:
            raise _absent(change.path)
    check_distinct(files)
    return files


def _absent(path: str) -> HubError:
    return HubError(404, "EntryNotFound", f"There is no {path} to delete.", code="entry_not_found")


def check_distinct(paths: Iterable[str]) -> None:
    """Raise where two files could not lie side by side on somebody's disk: same letters, or a file that is a folder."""
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for path in sorted(paths):
        known = seen.setdefault(_folded(path), path)
        if known != path:
            raise bad("path_collision", f"{known[:80]!r} and {path[:80]!r} are one file on some systems.")
        folder = folder_of(path)
        while folder:
            other = folders.setdefault(_folded(folder), folder)
            if other != folder:
                raise bad("path_collision", f"The folders {other[:80]!r} and {folder[:80]!r} are one on some systems.")
            folder = folder_of(folder)
    for folded, folder in folders.items():
        if folded in seen:
            raise bad("path_collision", f"{folder[:80]!r} is a file and a folder.")


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


class Stream(Protocol):
    """Where bytes come from."""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes, none at the end."""


def chunks(stream: Stream, most: int) -> Iterator[bytes]:
    """Read a body piece by piece, and raise where it is larger than it may be."""
    seen = 0
    while data := stream.read(CHUNK):
        seen += len(data)
        if seen > most:
            raise bad("body_too_large", f"The body has more than {most:,} bytes.", status=413)
        yield data


def exactly(stream: Stream, size: int) -> Iterator[bytes]:
    """Read exactly as many bytes as were announced, or raise."""
    seen = 0
    while seen <= size and (data := stream.read(CHUNK)):
        seen += len(data)
        if seen <= size:
            yield data
    if seen != size:
        came = "more" if seen > size else f"{seen:,}"
        raise bad("upload_size", f"{size:,} bytes were announced, and {came} came.")
