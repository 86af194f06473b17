"""What the Hub protocol puts into headers and JSON: files, commits, ranges, and refusals that clients can explain."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import quote, unquote_to_bytes

from portal.access.rules import Decision, Reason
from portal.catalog.rules import RepoKind, named
from portal.core.errors import PortalError
from portal.files.rules import Entry

T = TypeVar("T")

TEXT_MAX = 200_000
LINE_MAX = 900
INVALID_CREDENTIALS = "Invalid credentials in Authorization header"
SWITCHED_OFF = "Access to this resource is disabled."
RANGE = re.compile(r"bytes=\s*(?:(\d{1,18})\s*-\s*(\d{1,18})?|-\s*(\d{1,18}))\s*")
OPEN_PATHS = frozenset({"README.md"})
UNUSABLE = frozenset({"access_token_invalid", "access_token_expired", "access_token_revoked"})
HUB_CODES = {"revision_not_found": "RevisionNotFound", "entry_not_found": "EntryNotFound"}
MODEL_STAGE = 2
NO_WEIGHTS = "model_without_weights"
NAMED = 5  # segments of /{ns}/{name}/resolve/{rev}/{path}
DIGITS_MOST = 9
STARTED, ENDED = "delivery_started", "delivery_finished"
Headers = list[tuple[str, str]]


class HubError(PortalError):
    """A refusal in the words that Hub clients understand.

    Args:
        status: HTTP status.
        hub_code: value of ``X-Error-Code``; empty where clients expect none.
        message: the sentence that clients show.
        warning: what ``X-HF-Warning`` says, without its topic.
        revision: the commit in question, where the commit exists and only the file does not.
    """

    def __init__(
        self,
        status: int,
        hub_code: str,
        message: str,
        *,
        code: str,
        warning: str = "",
        revision: str = "",
        retry_after: int | None = None,
    ) -> None:
        super().__init__(code, message)
        self.status = status
        self.hub_code = hub_code
        self.warning = warning
        self.revision = revision
        self.retry_after = retry_after

    @property
    def headers(self) -> Headers:
        """The header fields that carry the refusal; on HEAD they are all that a client gets."""
        fields = [("X-Error-Message", one_line(self.message)), ("Cache-Control", "no-store")]
        if self.hub_code:
            fields.append(("X-Error-Code", self.hub_code))
        if self.warning:
            fields.append(("X-HF-Warning", one_line(f"license; {self.warning}")))
        if self.revision:
            fields.append(("X-Repo-Commit", self.revision))
        if self.status == 401:  # noqa: PLR2004
            fields.append(("WWW-Authenticate", "Bearer"))
        if self.retry_after is not None:
            fields.append(("Retry-After", str(self.retry_after)))
            fields.append(("RateLimit", f'"resolvers";r=0;t={self.retry_after}'))
        return fields


def one_line(text: str) -> str:
    """Return text as a header may carry it: one line of printable Latin-1, not too long."""
    flat = " ".join(text.split())
    safe = "".join(c if c.isprintable() else "?" for c in flat.encode("latin-1", "replace").decode("latin-1"))
    return safe[:LINE_MAX]


def entry_missing(revision: str) -> HubError:
    """Say that a commit has no such file."""
    return HubError(404, "EntryNotFound", "Entry not found", code="entry_not_found", revision=revision)


def revision_missing(name: str) -> HubError:
    """Say that a model has no such commit."""
    return HubError(404, "RevisionNotFound", f"Invalid rev id: {name}", code="revision_not_found")


def model_missing(*, anonymous: bool) -> HubError:
    """Say that there is no such model for this caller; clients expect another status for callers without a token."""
    if anonymous:
        return HubError(401, "RepoNotFound", "Invalid username or password.", code="model_not_found")
    return HubError(404, "RepoNotFound", "Repository not found", code="model_not_found")


def weights_missing(message: str) -> HubError:
    """Say that a model has a card only; as a warning too, since clients do not show the message."""
    return HubError(404, "RevisionNotFound", message, code=NO_WEIGHTS, warning=message)


def database_away() -> HubError:
    """Say that nothing can be decided just now."""
    message = "The database of this portal does not answer just now. Try again in a moment."
    return HubError(503, "", message, code="database_busy", retry_after=5)


def credentials_invalid(code: str) -> HubError:
    """Say that an access token cannot be used, in the exact words that clients look for."""
    return HubError(401, "", INVALID_CREDENTIALS, code=code)


def refusal(decision: Decision, *, model: str, anonymous: bool) -> HubError:
    """Translate a decision that says no.

    Args:
        decision: the decision.
        model: the model's name, as asked.
        anonymous: no access token was sent.
    """
    # A model that is hidden, empty or switched off says so before it says what else the person lacks.
    first = next((r for r in decision.blocking if r.stage == MODEL_STAGE), decision.blocking[0])
    if first.code in UNUSABLE:
        return credentials_invalid(first.code)
    if first.code == "model_not_found":
        return model_missing(anonymous=anonymous)
    if first.code == "model_withdrawn":
        return HubError(403, "", SWITCHED_OFF, code=first.code)
    if first.code == NO_WEIGHTS:
        return weights_missing(f"{first.message} {first.remedy_text} {first.url}")
    if decision.status == 429:  # noqa: PLR2004
        return HubError(429, "", sentence(first), code=first.code, retry_after=first.retry_after)
    reasons = " ".join(sentence(reason) for reason in decision.blocking)
    message = f"Access to model {model} is restricted. {reasons}"
    status = 401 if anonymous else 403
    return HubError(status, "GatedRepo", message, code=first.code, warning=sentence(_to_sign(decision.blocking)))


def sentence(reason: Reason) -> str:
    """Write a reason on one line, with what helps and where."""
    what = " ".join(part for part in (reason.message, reason.remedy_text) if part)
    return f"{what.rstrip('.')}: {reason.url}" if reason.url else what


def _to_sign(reasons: Sequence[Reason]) -> Reason:
    return next((r for r in reasons if r.code.startswith("signature_")), reasons[0])


def warnings(decision: Decision) -> Headers:
    """Return the header that tells a client what will be needed soon, if anything."""
    due = decision.warnings
    return [("X-HF-Warning", one_line(f"license; {sentence(_to_sign(due))}"))] if due else []


def translated(error: PortalError, *, anonymous: bool) -> HubError:
    """Say an error of a use case in the words of the Hub."""
    if isinstance(error, HubError):
        return error
    if error.code in UNUSABLE:
        return credentials_invalid(error.code)
    if error.code == "model_not_found":
        return model_missing(anonymous=anonymous)
    if error.code == NO_WEIGHTS:
        return weights_missing(error.message)
    wait = getattr(error, "retry_after", None)
    return HubError(error.status, HUB_CODES.get(error.code, ""), error.message, code=error.code, retry_after=wait)


def decoded(segment: str) -> str:
    """Decode one segment of a raw path; whatever is not UTF-8 becomes a replacement character."""
    try:
        raw = segment.encode("latin-1")  # how servers hand on bytes that the client did not encode
    except UnicodeEncodeError:
        raw = segment.encode("utf-8", "replace")
    return unquote_to_bytes(raw).decode("utf-8", "replace")


@lru_cache(4096)
def split_resolve(raw_path: str) -> tuple[str, str, str]:
    """Split ``/{ns}/{name}/resolve/{rev}/{path}``, still percent-encoded, into name, revision and path.

    The address of a dataset's file begins with ``/datasets``, and so does its name.
    """
    parts = [decoded(part) for part in raw_path.split("/") if part]
    kind = RepoKind.DATASET if parts[:1] == [RepoKind.DATASET] else RepoKind.MODEL
    parts = parts[1:] if kind is RepoKind.DATASET else parts
    if len(parts) < NAMED or parts[2] != "resolve":
        raise HubError(404, "EntryNotFound", "Entry not found", code="entry_not_found")
    return named(kind, parts[0], parts[1]), parts[3], "/".join(parts[4:])


def after(raw_path: str, segments: int) -> tuple[str, str]:
    """Return the revision that follows so many segments of a raw path, ``main`` by default, and the path after it."""
    rest = [decoded(part) for part in raw_path.split("/") if part][segments:]
    return (rest[0], "/".join(rest[1:])) if rest else ("main", "")


def whole(value: str | None, name: str, default: int, most: int) -> int:
    """Read a number of a query that is cut at `most`; raise for anything else than a number from 0 on."""
    if value is None or value == "":
        return default
    if not (value.isascii() and value.isdigit()) or len(value) > DIGITS_MOST:
        raise HubError(400, "", f"{name} is a whole number, and {value[:40]!r} is none.", code=name)
    return min(int(value), most)


def page(rows: Sequence[T], start: int, limit: int) -> tuple[Sequence[T], int | None]:
    """Return one page of rows and where the next one begins, if there is one."""
    end = start + max(limit, 1)
    return rows[start:end], end if end < len(rows) else None


@lru_cache(4096)
def file_headers(entry: Entry, revision: str) -> Headers:
    """Return the header fields of a file, the same for GET and HEAD, without its length."""
    etag = f'"{entry.sha256 if entry.lfs else entry.oid}"'
    fields = [("X-Repo-Commit", revision), ("ETag", etag), ("Accept-Ranges", "bytes")]
    if entry.lfs:
        fields += [("X-Linked-Etag", etag), ("X-Linked-Size", str(entry.size))]
    return [
        *fields,
        ("Content-Type", "application/octet-stream"),
        ("Content-Disposition", disposition(entry.name)),
        ("Cache-Control", "private, no-cache, no-transform"),
    ]


def disposition(name: str) -> str:
    """Return a Content-Disposition that saves a file under its name and never shows it in the page."""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in name)
    return f"attachment; filename*=UTF-8''{quote(name, safe='')}; filename=\"{plain}\";"


@dataclass(frozen=True)
class Span:
    """The bytes of a file that an answer carries: from `start`, `length` of them."""

    start: int
    length: int
    partial: bool

    def content_range(self, size: int) -> Headers:
        """Return the header field that a partial answer needs."""
        if not self.partial:
            return []
        return [("Content-Range", f"bytes {self.start}-{self.start + self.length - 1}/{size}")]


def span_of(header: str | None, size: int, *, if_range: str | None = None, etag: str = "") -> Span | None:
    """Read a Range header; None means that it cannot be met (416).

    One range in bytes is served; several are not, and another unit is ignored. With an ``If-Range`` that names
    other bytes the whole file is due.
    """
    whole = Span(0, size, partial=False)
    if header is None or not header.strip().lower().startswith("bytes") or (if_range is not None and if_range != etag):
        return whole
    match = RANGE.fullmatch(header.strip().lower())
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        length = min(int(suffix), size)
        return Span(size - length, length, partial=True) if length else None
    start = int(first)
    end = min(int(last), size - 1) if last is not None else size - 1
    return Span(start, end - start + 1, partial=True) if start <= end and start < size else None


def wants(value: str | None) -> bool:
    """Read a flag of a query, which clients write as ``true``, ``True`` or ``1``."""
    return (value or "").lower() in {"true", "1"}


def client_name(name: str, ref: str) -> str:
    """Return under which name a client may keep an access token: readable, and unique to it."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")
    return f"{plain[:40]}-{ref}" if plain else ref


def delivery_started(
    *,
    request_id: str,
    at: datetime,
    user_id: int | None,
    access_token_id: int | None,
    release_id: int | None,
    entry: Entry,
    range_start: int,
    signature_ids: Sequence[int],
    card_revision_id: int | None,
) -> dict[str, Any]:
    """Build the journal line of a delivery whose first byte is about to leave; it alone makes the delivery."""
    return {
        "kind": STARTED, "id": request_id, "at": at.isoformat(), "user_id": user_id,
        "access_token_id": access_token_id, "release_id": release_id, "path": entry.path,
        "file_sha256": entry.sha256, "size": entry.size, "range_start": range_start,
        "signature_ids": sorted(signature_ids), "card_revision_id": card_revision_id,
    }  # fmt: skip


def delivery_finished(*, request_id: str, at: datetime, bytes_sent: int) -> dict[str, Any]:
    """Build the journal line of a delivery that ended, however it did."""
    return {"kind": ENDED, "id": request_id, "at": at.isoformat(), "bytes_sent": bytes_sent}
