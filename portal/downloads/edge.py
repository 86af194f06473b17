"""The bytes of a model on their way out: decided on every GET, HEAD and range, and written down before they leave."""

import json
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from portal.access.edge import Admission, Door
from portal.access.rules import Action, Decision
from portal.catalog.rules import RESERVED, renamed_path
from portal.core.clock import utcnow
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
from portal.edge.fresh import Found
from portal.edge.routes import Answer, Exchange, FileBody, Request, Route, Routes
from portal.files.rules import Entry
from portal.files.service import Store
from portal.tokens.rules import Scope
from portal.usage.rules import Outcome, use_finished, use_opened

CHANNEL = "hub"
REFUSED = frozenset({401, 403, 429})
OF_MODEL = re.compile(r"/[^/]+/[^/]+/resolve/.*", re.DOTALL)
OF_DATASET = re.compile(r"/datasets/[^/]+/[^/]+/resolve/.*", re.DOTALL)
log = logging.getLogger("portal.downloads")


class Journal(Protocol):
    """Where the data plane says what it did."""

    def append(self, *records: dict[str, Any]) -> None:
        """Write lines; they survive the process once this returns."""

    def sure(self, then: Callable[[], None], failed: Callable[[BaseException], None]) -> None:
        """Call `then` once all lines are as durable as they are meant to be."""


@dataclass(frozen=True)
class _Asked:
    """One request for a file, as far as it is understood."""

    exchange: Exchange
    at: datetime
    began: float
    name: str = ""
    revision: str = ""
    path: str = ""

    @property
    def request(self) -> Request:
        """The request."""
        return self.exchange.request


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

    def register(self, routes: Routes) -> None:
        """Answer ``/{ns}/{name}/resolve/{rev}/{path}``, for models and for datasets."""
        address, route = "/<namespace>/<name>/resolve/<path:rest>", Route(self.resolve, knows=True)
        routes.add_where("GET HEAD", address, is_address, route)
        routes.add_where("GET HEAD", f"/datasets{address}", is_dataset_address, route)

    def resolve(self, exchange: Exchange) -> None:
        """Answer a request for a file; what cannot be written down is not answered."""
        asked = _Asked(exchange, utcnow(), self.clock())
        try:
            name, revision, path = split_resolve(exchange.request.raw_path)
        except PortalError as error:
            self.fail(asked, None, error)
            return
        # No name holds a NUL, and PostgreSQL refuses to look for one.
        asked = replace(asked, name=name.replace("\0", "?"), revision=revision, path=path)

        def load(session: Session) -> Found[Located]:
            found = service.locate(session, name=asked.name, revision=revision, path=path)
            return Found(found, passing=found.entry is None)

        self.door.fresh.ask(
            ("file", asked.name, revision, path), load, lambda located: self._located(asked, located),
            lambda error: self.fail(asked, None, error),
        )  # fmt: skip

    def _located(self, asked: _Asked, located: Located) -> None:
        """Decide; the card alone may be read without leave to download."""
        if located.moved:
            there = renamed_path(asked.request.raw_path, located.moved)
            asked.exchange.send(Answer(307, [("Location", there)], b""))
            return

        def first(admission: Admission) -> None:
            open_ = asked.path in OPEN_PATHS and located.entry is not None
            if not admission.decision.allowed and open_:
                self._decide(asked, Action.READ, located, lambda read: self._decided(asked, located, read))
            else:
                self._decided(asked, located, admission)

        self._decide(asked, Action.DOWNLOAD, located, first)

    def _decide(self, asked: _Asked, action: Action, located: Located, then: Callable[[Admission], None]) -> None:
        self.door.admit(
            asked.request, model=asked.name, action=action, revision=located.revision, then=then,
            failed=lambda error: self.fail(asked, None, error),
        )  # fmt: skip

    def _decided(self, asked: _Asked, located: Located, admission: Admission) -> None:
        if asked.exchange.left:
            return
        try:
            self._answer(asked, located, admission)
        except HubError as error:
            if Scope.WEIGHTS_WRITE in admission.actor.scopes:
                self._for_staff(asked, admission, error)
            else:
                self.fail(asked, admission, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is told
            self.fail(asked, admission, error)

    def _for_staff(self, asked: _Asked, admission: Admission, refused: HubError) -> None:
        """Send a small file back to staff who upload, since clients copy it so; weights are given to nobody so."""

        def load(session: Session) -> Found[Located]:
            return Found(
                service.locate_small(
                    session, actor=admission.actor, name=asked.name, revision=asked.revision, path=asked.path,
                    now=utcnow(),
                ),
                until=0.0,
            )  # fmt: skip

        def then(located: Located) -> None:
            if asked.exchange.left:
                return
            try:
                if located.entry is None or located.revision is None:
                    raise refused
                reads = replace(admission, action=Action.READ, signature_ids=())
                self._file(asked, located.entry, reads, file_headers(located.entry, located.revision))
            except Exception as error:  # noqa: BLE001 - whatever it is, the client is told
                self.fail(asked, admission, error)

        key = ("small", admission.actor.access_token_id, asked.name, asked.revision, asked.path)
        self.door.fresh.ask(key, load, then, lambda error: self.fail(asked, admission, error))

    def fail(self, asked: _Asked, admission: Admission | None, error: BaseException) -> None:
        """Say what is wrong. A file that is not there is no use: loading a model asks for several that need not be."""
        request = asked.request
        if isinstance(error, OperationalError):
            log.error("request %s: the database does not answer: %s", request.request_id, error)
            error = database_away()
        if not isinstance(error, PortalError):
            log.error("request %s", request.request_id, exc_info=error)
            message = f"Something is wrong on our side. Tell the operators the request id {request.request_id}."
            error = HubError(500, "", message, code="internal_error")
        if isinstance(error, HubError) and error.status in REFUSED:
            try:
                self._refused(asked, admission, error.code)
            except PortalError as unwritten:
                error = unwritten
        asked.exchange.send(_error(translated(error, anonymous="authorization" not in request.headers)))

    def _answer(self, asked: _Asked, located: Located, admission: Admission) -> None:
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
        self._file(asked, located.entry, admission, headers)

    def _file(self, asked: _Asked, entry: Entry, admission: Admission, headers: list[tuple[str, str]]) -> None:
        request, size = asked.request, entry.size
        etag = dict(headers)["ETag"]
        span: Span | None = Span(0, size, partial=False)
        if request.method == "GET":
            span = span_of(request.headers.get("range"), size, if_range=request.headers.get("if-range"), etag=etag)
        if span is None:
            asked.exchange.send(Answer(416, [*headers, ("Content-Range", f"bytes */{size}")], b""))
            return
        path = self.store.path(entry.sha256 or "")
        if _size(path) != size:
            message = f"The bytes of {entry.path} are missing here. Tell the operators the request id."
            raise HubError(503, "", message, code="bytes_missing")
        status = 206 if span.partial else 200
        sending = _Sending(self, asked, admission, entry, span)
        body = FileBody(path, span.start, span.length, sending.finished)
        answer = Answer(status, [*headers, *span.content_range(size)], body)
        if request.method == "HEAD":
            asked.exchange.send(answer)
        else:
            sending.start(lambda: asked.exchange.send(answer))

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
        self.was_cut = False
        self.done = False
        self.let_go: Callable[[], None] = lambda: None

    @property
    def is_delivery(self) -> bool:
        """Say whether a copy is handed out under terms; the open card, and a model without any, are not."""
        return self.admission.action is Action.DOWNLOAD and bool(self.admission.signature_ids)

    def start(self, send: Callable[[], None]) -> None:
        """Write down that the first byte is about to leave, then have it sent."""
        lines = [self.opened]
        if self.is_delivery:
            admission = self.admission
            lines.insert(
                0,
                delivery_started(
                    request_id=self.asked.request.request_id, at=self.asked.at, user_id=admission.actor.user_id,
                    access_token_id=admission.actor.access_token_id, release_id=admission.release_id, entry=self.entry,
                    range_start=self.span.start, signature_ids=admission.signature_ids,
                    card_revision_id=admission.card_revision_id,
                ),
            )  # fmt: skip
        self.downloads.journal.append(*lines)
        if self.admission.action is Action.DOWNLOAD:
            self.let_go = self.downloads.door.look_after(self.admission, self.cut)
        self.downloads.journal.sure(send, self._not_started)

    def _not_started(self, error: BaseException) -> None:
        self.let_go()
        self.done = True
        self.downloads.fail(self.asked, self.admission, error)

    def cut(self, _decision: Decision | None) -> None:
        """End it, as its person may no longer have the file: only a cut connection says that the rest is not coming."""
        if not self.done:
            self.was_cut = True
            self.asked.exchange.abort()

    def finished(self, sent: int) -> None:
        """Write down how many bytes left, once."""
        if self.done:
            return
        self.done = True
        self.let_go()
        now, lines = utcnow(), []
        if self.is_delivery:
            lines.append(delivery_finished(request_id=self.asked.request.request_id, at=now, bytes_sent=sent))
        ended = Outcome.CUT if self.was_cut else Outcome.CANCELED
        outcome = Outcome.FINISHED if sent == self.span.length else ended
        lines.append(
            use_finished(
                self.opened, at=now, outcome=outcome,
                reason_code="no_longer_allowed" if outcome is Outcome.CUT else "", bytes_sent=sent,
                ms=self.downloads.milliseconds(self.asked),
            )
        )  # fmt: skip
        try:
            self.downloads.journal.append(*lines)
        except PortalError:  # the bytes have left: what began stays open in the records
            log.exception("request %s", self.asked.request.request_id)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def is_address(path: str) -> bool:
    """Say whether a path names a file of a model; below the portal's own addresses no model lies."""
    return OF_MODEL.fullmatch(path) is not None and path.split("/", 2)[1] not in RESERVED


def is_dataset_address(path: str) -> bool:
    """Say whether a path names a file of a dataset."""
    return OF_DATASET.fullmatch(path) is not None


def _error(error: HubError) -> Answer:
    body = json.dumps({"error": error.message}, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    return Answer(error.status, [*error.headers, ("Content-Type", "application/json")], body)
