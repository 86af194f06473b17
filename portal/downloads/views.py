"""Pages of a model's files: folders, small text files, and how they changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from portal.access import service as access
from portal.access.rules import Action, Decision
from portal.access.views import checklist
from portal.core.clock import utcnow
from portal.core.errors import NotFound, Unauthenticated
from portal.deliveries import service as deliveries
from portal.downloads import service
from portal.downloads.rules import OPEN_PATHS, TEXT_MAX, after, delivery_finished, delivery_started, page, whole
from portal.downloads.service import Snapshot
from portal.files import service as files
from portal.files.rules import Entry
from portal.usage import service as usage
from portal.usage.rules import Outcome, use_finished, use_opened
from portal.web.app import actor, afterwards, app_service, db, request_id, settings
from portal.web.behind import raw_path
from portal.web.guard import public

bp = Blueprint("downloads", __name__)
REVISION_AT = 3  # /{ns}/{name}/tree/ come before the revision
SHOWN = 200


@dataclass(frozen=True)
class Place:
    """Where in a model's files a page is.

    Args:
        shot: the model at a commit.
        revision: as the address names it.
        path: of the folder or file; empty for the root.
    """

    shot: Snapshot
    revision: str
    path: str

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    def address(self, kind: str, path: str = "") -> str:
        """Return the address of a page about the same revision."""
        start = f"/{self.shot.model.full_name}/{kind}/{quote(self.revision, safe='')}"
        return f"{start}/{quote(path)}" if path else start

    @property
    def crumbs(self) -> list[tuple[str, str | None]]:
        """The way down to this page."""
        full_name = self.shot.model.full_name
        way: list[tuple[str, str | None]] = [
            ("Models", "/"), (full_name, f"/{full_name}"), (f"Files at {self.revision[:40]}", self.address("tree")),
        ]  # fmt: skip
        parts = self.path.split("/") if self.path else []
        folders = [(part, self.address("tree", "/".join(parts[: n + 1]))) for n, part in enumerate(parts[:-1])]
        return [*way, *folders, *([(parts[-1], None)] if parts else [])]


def _place(namespace: str, name: str) -> Place:
    revision, path = after(raw_path(), REVISION_AT)
    shot = service.snapshot(
        db(), actor=actor(), name=f"{namespace}/{name}", revision=revision, now=utcnow(), base_url=settings().base_url
    )
    return Place(shot, revision, path)


@bp.get("/<namespace>/<name>/tree/<path:rest>")
@public
def tree(namespace: str, name: str, rest: str) -> ResponseReturnValue:
    """Show a folder: its files with sizes and digests, and how to fetch them."""
    del rest  # read from the raw address, where a slash within a revision is told from one after it
    place = _place(namespace, name)
    found = service.folder(db(), commit=place.shot.commit, path=place.path)
    rows, following = page(sorted(found, key=lambda e: (not e.is_folder, e.path)), _start(), SHOWN)
    total = sum(entry.size for entry in files.listed(db(), commit_id=place.shot.commit.id))
    return render_template(
        "downloads/tree.html", place=place, entries=rows, following=following, total=total,
        base_url=settings().base_url,
    )  # fmt: skip


def _start() -> int:
    return whole(request.args.get("from"), "from", 0, 10**8)


@bp.get("/<namespace>/<name>/commits/<path:rest>")
@public
def commits(namespace: str, name: str, rest: str) -> ResponseReturnValue:
    """Show how the files came to be as they are, newest change first."""
    del rest
    place = _place(namespace, name)
    start = _start()
    found = files.history(db(), commit=place.shot.commit, skip=start, limit=SHOWN + 1)
    rows, following = page(found, 0, SHOWN)
    known = service.releases(db(), model=place.shot.model, revisions=[row.revision for row in rows])
    return render_template(
        "downloads/commits.html", place=place, commits=rows, releases=known,
        following=start + SHOWN if following else None,
    )  # fmt: skip


@bp.get("/<namespace>/<name>/blob/<path:rest>")
@public
def blob(namespace: str, name: str, rest: str) -> ResponseReturnValue:
    """Show a file: what it is, how to fetch it, and its words if it is a small text that the visitor may have."""
    del rest
    place = _place(namespace, name)
    entry = service.file(db(), commit=place.shot.commit, path=place.path)
    decision = _decided(place)
    text = _text(entry) if decision.allowed else None
    if text is not None and place.path not in OPEN_PATHS and request.method == "GET":
        _record(place, entry, decision)
    return render_template(
        "downloads/blob.html", place=place, entry=entry, text=text, decision=decision, items=checklist(decision),
        base_url=settings().base_url,
    ), decision.status  # fmt: skip


def _decided(place: Place) -> Decision:
    """Ask whether the visitor may see the file; the card may be read by everybody."""
    if place.path in OPEN_PATHS:
        return Decision(Action.READ, ())
    decision = access.check(
        db(), actor=actor(), model=place.shot.model.full_name, action=Action.DOWNLOAD, now=utcnow(),
        base_url=settings().base_url, revision=place.shot.commit.revision,
    )  # fmt: skip
    if not actor().is_signed_in:
        raise Unauthenticated("not_signed_in", "Sign in to see this file.")
    return decision


def _text(entry: Entry) -> str | None:
    """Return the words of a small text file, None for anything else."""
    if entry.size > TEXT_MAX or entry.sha256 is None:
        return None
    try:
        text = str(app_service("store").path(entry.sha256).read_bytes().decode("utf-8"))
    except UnicodeDecodeError:
        return None
    except OSError:
        raise NotFound("bytes_missing", "The bytes of this file are missing here. Tell the operators.") from None
    return text if "\0" not in text else None


def _record(place: Place, entry: Entry, decision: Decision) -> None:
    """Enter that the visitor received the file, as if it had been downloaded."""
    release = place.shot.release
    now, ref, size = utcnow(), request_id(), entry.size
    signatures: Sequence[int] = [relied.signature_id for relied in decision.relied_on]
    common: dict[str, Any] = {
        "request_id": ref, "at": now, "user_id": actor().user_id, "access_token_id": None,
        "release_id": release.id if release else None, "signature_ids": signatures,
        "card_revision_id": release.card_revision_id if release else None,
    }  # fmt: skip
    opened = use_opened(action=Action.DOWNLOAD, channel="page", model_name=place.shot.model.full_name, **common)

    def write(session: Session) -> None:
        if signatures:
            deliveries.record_started(session, record=delivery_started(entry=entry, range_start=0, **common))
            deliveries.record_finished(session, record=delivery_finished(request_id=ref, at=now, bytes_sent=size))
        usage.record(session, record=use_finished(opened, at=now, outcome=Outcome.FINISHED, bytes_sent=size))

    afterwards(write)
