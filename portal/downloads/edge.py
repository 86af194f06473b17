"""The bytes of a model on their way out: decided on every GET, HEAD and range, and written down before they leave."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy.exc import OperationalError

from portal.access.edge import Admission, Door
from portal.access.rules import Action
from portal.catalog.rules import renamed_path
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.core.errors import PortalError
from portal.downloads import service
from portal.downloads.rules import (
    OPEN_PATHS,
    UNUSABLE,
    HubError,
    Span,
    credentials_invalid,
    database_away,
    delivery_finished,
    delivery_started,
    entry_missing,
    file_headers,
    refusal,
    revision_missing,
    span_of,
    split_resolve,
    translated,
    warnings,
)  # fmt: skip
from portal.downloads.service import Located
from portal.edge.routes import Answer, FileBody, Request
from portal.files.rules import Entry
from portal.files.service import Store
from portal.usage.rules import Outcome, use_finished, use_opened

CHANNEL = "hub"
REFUSED = frozenset({401, 403, 429})
LOOK_AGAIN = 0.5  # seconds; a download is cut within two of the moment that its person may no longer have it


class Journal(Protocol):
    """Where the data plane says what it did."""

    def append(self, record: dict[str, Any]) -> None:
        """Write a line; it survives the process once this returns."""


@dataclass(frozen=True)
class _Asked:
    """One request for a file, as far as it is understood."""

    request: Request
    at: datetime
    began: float
    name: str = ""
    revision: str = ""
    path: str = ""


class Downloads:
    """Answers requests for the files of models.

    Args:
        door: where each request is decided.
        store: where the bytes lie.
        journal: where deliveries and uses are written down.
        clock: seconds that only grow.
    """

    def __init__(self, door: Door, store: Store, journal: Journal, clock: Callable[[], float] = time.monotonic) -> None:
        self.door = door
        self.store = store
        self.journal = journal
        self.clock = clock

    def resolve(self, request: Request) -> Answer:
        """Answer ``/{ns}/{name}/resolve/{rev}/{path}``; what cannot be written down is not answered."""
        try:
            return self._resolve(request)
        except PortalError as error:
            return _error(translated(error, anonymous="authorization" not in request.headers))
        except OperationalError:
            return _error(database_away())

    def _resolve(self, request: Request) -> Answer:
        asked = _Asked(request, utcnow(), self.clock())
        admission: Admission | None = None
        try:
            name, revision, path = split_resolve(request.raw_path)
            # No name holds a NUL, and PostgreSQL refuses to look for one.
            asked = _Asked(request, asked.at, asked.began, name.replace("\0", "?"), revision, path)
            located = self._locate(asked)
            if located.moved:
                return Answer(
                    307, [("Location", renamed_path(request.raw_path, located.moved)), ("Content-Length", "0")]
                )
            admission = self._admit(asked, located)
            return self._answer(asked, located, admission)
        except HubError as error:
            # A file that is not there is no use: loading a model asks for several that need not be.
            if error.status in REFUSED:
                self._refused(asked, admission, error.code)
            return _error(error)

    def _locate(self, asked: _Asked) -> Located:
        with transaction(self.door.engine, write=False) as session:
            return service.locate(session, name=asked.name, revision=asked.revision, path=asked.path)

    def _admit(self, asked: _Asked, located: Located) -> Admission:
        """Decide; the card alone may be read without leave to download."""
        admission = self._decide(asked, Action.DOWNLOAD, located)
        if not admission.decision.allowed and asked.path in OPEN_PATHS and located.entry is not None:
            admission = self._decide(asked, Action.READ, located)
        return admission

    def _decide(self, asked: _Asked, action: Action, located: Located) -> Admission:
        return self.door.admit(asked.request, model=asked.name, action=action, revision=located.revision)

    def _answer(self, asked: _Asked, located: Located, admission: Admission) -> Answer:
        decision = admission.decision
        if admission.actor.token_error in UNUSABLE:
            raise credentials_invalid(admission.actor.token_error)
        known = not any(reason.stage == 2 for reason in decision.blocking)  # noqa: PLR2004
        if known and located.revision is None:
            raise revision_missing(asked.revision)
        if not decision.allowed:
            raise refusal(decision, model=asked.name, anonymous=not admission.actor.is_signed_in)
        if located.entry is None or located.revision is None:
            raise entry_missing(located.revision or "")
        headers = file_headers(located.entry, located.revision) + warnings(decision)
        return self._file(asked, located.entry, admission, headers)

    def _file(self, asked: _Asked, entry: Entry, admission: Admission, headers: list[tuple[str, str]]) -> Answer:
        request, size = asked.request, entry.size
        etag = dict(headers)["ETag"]
        span: Span | None = Span(0, size, partial=False)
        if request.method == "GET":
            span = span_of(request.headers.get("range"), size, if_range=request.headers.get("if-range"), etag=etag)
        if span is None:
            return Answer(416, [*headers, ("Content-Range", f"bytes */{size}"), ("Content-Length", "0")])
        path = self.store.path(entry.sha256 or "")
        if not path.is_file() or path.stat().st_size != size:
            message = f"The bytes of {entry.path} are missing here. Tell the operators the request id."
            raise HubError(503, "", message, code="bytes_missing")
        headers = [*headers, *span.content_range(size), ("Content-Length", str(span.length))]
        status = 206 if span.partial else 200
        if request.method == "HEAD":
            return Answer(status, headers)
        sending = _Sending(self, asked, admission, entry, span)
        sending.start()
        return Answer(status, headers, FileBody(path, span.start, span.length, sending.finished, sending.allowed))

    def opened(self, asked: _Asked, admission: Admission | None) -> dict[str, Any]:
        """Return the usage line that begins a use."""
        known: dict[str, Any] = {}
        if admission is not None:
            known = {
                "user_id": admission.actor.user_id, "access_token_id": admission.actor.access_token_id,
                "release_id": admission.release_id, "signature_ids": admission.signature_ids,
                "card_revision_id": admission.card_revision_id,
            }  # fmt: skip
        return use_opened(
            request_id=asked.request.request_id, at=asked.at, channel=CHANNEL, model_name=asked.name,
            action=admission.action if admission else Action.DOWNLOAD, **known,
        )  # fmt: skip

    def _refused(self, asked: _Asked, admission: Admission | None, reason_code: str) -> None:
        self.journal.append(
            use_finished(
                self.opened(asked, admission), at=utcnow(), outcome=Outcome.REFUSED, reason_code=reason_code,
                ms=self.milliseconds(asked),
            )
        )  # fmt: skip

    def milliseconds(self, asked: _Asked) -> int:
        """Return how long a request has taken so far."""
        return int((self.clock() - asked.began) * 1000)


class _Sending:
    """One file on its way to one person: written down before it leaves, looked at again while it does, and after."""

    def __init__(self, downloads: Downloads, asked: _Asked, admission: Admission, entry: Entry, span: Span) -> None:
        self.downloads = downloads
        self.asked = asked
        self.admission = admission
        self.entry = entry
        self.span = span
        self.opened = downloads.opened(asked, admission)
        self.cut = False
        self.done = False
        self.looked = downloads.clock()

    @property
    def is_delivery(self) -> bool:
        """Say whether a copy is handed out under terms; the open card, and a model without any, are not."""
        return self.admission.action is Action.DOWNLOAD and bool(self.admission.signature_ids)

    def start(self) -> None:
        """Write down that the first byte is about to leave."""
        journal = self.downloads.journal
        if self.is_delivery:
            admission = self.admission
            journal.append(
                delivery_started(
                    request_id=self.asked.request.request_id, at=self.asked.at, user_id=admission.actor.user_id,
                    access_token_id=admission.actor.access_token_id, release_id=admission.release_id, entry=self.entry,
                    range_start=self.span.start, signature_ids=admission.signature_ids,
                    card_revision_id=admission.card_revision_id,
                )
            )  # fmt: skip
        journal.append(self.opened)

    def allowed(self) -> bool:
        """Say whether the sending may go on, looking at the records twice a second at most."""
        now = self.downloads.clock()
        if not self.cut and self.admission.action is Action.DOWNLOAD and now - self.looked >= LOOK_AGAIN:
            self.looked = now
            self.cut = not self.downloads.door.recheck(self.admission)
        return not self.cut

    def finished(self, sent: int) -> None:
        """Write down how many bytes left, once."""
        if self.done:
            return
        self.done = True
        now, journal = utcnow(), self.downloads.journal
        if self.is_delivery:
            journal.append(delivery_finished(request_id=self.asked.request.request_id, at=now, bytes_sent=sent))
        ended = Outcome.CUT if self.cut else Outcome.CANCELED
        outcome = Outcome.FINISHED if sent == self.span.length else ended
        journal.append(
            use_finished(
                self.opened, at=now, outcome=outcome,
                reason_code="no_longer_allowed" if outcome is Outcome.CUT else "", bytes_sent=sent,
                ms=self.downloads.milliseconds(self.asked),
            )
        )  # fmt: skip


def _error(error: HubError) -> Answer:
    body = json.dumps({"error": error.message}, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    fields = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    return Answer(error.status, [*error.headers, *fields], body)
