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
from portal.access.views import checklist, shown
from portal.catalog.rules import RepoKind
from portal.core.clock import utcnow
from portal.core.errors import NotFound, Unauthenticated
from portal.deliveries import service as deliveries
from portal.downloads import service
from portal.downloads.rules import OPEN_PATHS, TEXT_MAX, after, delivery_finished, delivery_started, whole
from portal.downloads.service import Snapshot
from portal.files import service as files
from portal.files.rules import Entry
from portal.usage import service as usage
from portal.usage.rules import Outcome, use_finished, use_opened
from portal.web.app import actor, afterwards, app_service, db, request_id, settings
from portal.web.behind import raw_path
from portal.web.guard import public

bp = Blueprint("downloads", __name__)
REVISION_AT = {RepoKind.MODEL: 3, RepoKind.DATASET: 4}  # /{ns}/{name}/tree/ come before the revision
SHOWN = 100


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

    @property
    def repo(self) -> str:
        """The model as the Hub's command line names it."""
        model = self.shot.model
        return f"{model.hub_id} --repo-type dataset" if model.kind is RepoKind.DATASET else model.hub_id

    def address(self, kind: str, path: str = "") -> str:
        """Return the address of a page about the same revision."""
        start = f"/{self.shot.model.full_name}/{kind}/{quote(self.revision, safe='')}"
        return f"{start}/{quote(path)}" if path else start

    def download(self, path: str) -> str:
        """Return the address of a file at this very commit, to be put between single quotes of a shell."""
        start = f"{settings().base_url}/{self.shot.model.full_name}/resolve/{self.shot.commit.revision}"
        return f"{start}/{quote(path)}"

    @property
    def crumbs(self) -> list[tuple[str, str | None]]:
        """The way down to this page."""
        model = self.shot.model
        first = ("Datasets", "/datasets") if model.kind is RepoKind.DATASET else ("Models", "/")
        way: list[tuple[str, str | None]] = [
            first, (model.hub_id, f"/{model.full_name}"), (f"Files at {self.revision[:40]}", self.address("tree")),
        ]  # fmt: skip
        parts = self.path.split("/") if self.path else []
        folders = [(part, self.address("tree", "/".join(parts[: n + 1]))) for n, part in enumerate(parts[:-1])]
        return [*way, *folders, *([(parts[-1], None)] if parts else [])]


def _place(kind: str, namespace: str, name: str) -> Place:
    found = shown(kind, namespace, name)
    revision, path = after(raw_path(), REVISION_AT[RepoKind(kind)])
    shot = service.snapshot(
        db(), actor=actor(), name=found.full_name, revision=revision, now=utcnow(), base_url=settings().base_url
    )
    return Place(shot, revision, path)


@bp.get("/<namespace>/<name>/tree/<path:rest>")
@bp.get("/datasets/<namespace>/<name>/tree/<path:rest>", defaults={"kind": RepoKind.DATASET})
@public
def tree(namespace: str, name: str, rest: str, kind: str = RepoKind.MODEL) -> ResponseReturnValue:
    """Show a folder: its files with sizes, digests and latest changes, and how to fetch them."""
    del rest  # read from the raw address, where a slash within a revision is told from one after it
    place = _place(kind, namespace, name)
    commit = place.shot.commit
    rows, following = service.folder(
        db(), commit=commit, path=place.path, limit=SHOWN, after=request.args.get("after", "")
    )
    files_here = [entry for entry in rows if not entry.is_folder]
    return render_template(
        "downloads/tree.html", place=place, entries=sorted(rows, key=lambda e: (not e.is_folder, e.path)),
        following=following, changes=service.last_changes(db(), commit=commit, entries=rows),
        total=files.sizes(db(), commit_ids=[commit.id]).get(commit.id, 0), base_url=settings().base_url,
        largest=max(files_here, key=lambda e: e.size, default=None),
    )  # fmt: skip


@bp.get("/<namespace>/<name>/commits/<path:rest>")
@bp.get("/datasets/<namespace>/<name>/commits/<path:rest>", defaults={"kind": RepoKind.DATASET})
@public
def commits(namespace: str, name: str, rest: str, kind: str = RepoKind.MODEL) -> ResponseReturnValue:
    """Show how the files came to be as they are, newest change first."""
    del rest
    place = _place(kind, namespace, name)
    start = whole(request.args.get("from"), "from", 0, 10**8)
    found = files.history(db(), commit=place.shot.commit, skip=start, limit=SHOWN + 1)
    rows = found[:SHOWN]
    known = service.releases(db(), model=place.shot.model, revisions=[row.revision for row in rows])
    return render_template(
        "downloads/commits.html", place=place, commits=rows, releases=known,
        following=start + SHOWN if len(found) > SHOWN else None,
    )  # fmt: skip


@bp.get("/<namespace>/<name>/blob/<path:rest>")
@bp.get("/datasets/<namespace>/<name>/blob/<path:rest>", defaults={"kind": RepoKind.DATASET})
@public
def blob(namespace: str, name: str, rest: str, kind: str = RepoKind.MODEL) -> ResponseReturnValue:
    """Show a file: what it is, how to fetch it, and its words if it is a small text that the visitor may have."""
    del rest
    place = _place(kind, namespace, name)
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
