"""Pages about what a person may do: the list of models, and a model with its checklist."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session
from werkzeug.routing import RequestRedirect

from portal.access import service
from portal.access.rules import Action, Decision, Reason
from portal.catalog import service as catalog
from portal.catalog.models import GatedModel, Release
from portal.catalog.rules import PREVAILING, CardState, RepoKind, named, renamed_path
from portal.contents import service as contents
from portal.core.clock import utcnow
from portal.notices import service as notices
from portal.web.app import actor, afterwards, app_service, db, settings
from portal.web.behind import raw_path
from portal.web.guard import public
from portal.web.parts import Pages, asked_part

bp = Blueprint("access", __name__)
Row = tuple[GatedModel, Release | None, Decision]


@dataclass(frozen=True)
class Item:
    """One line of a checklist, whether it is met or not."""

    code: str
    state: str
    message: str
    remedy_text: str = ""
    remedy_url: str = ""
    due_at: datetime | None = None


def checklist(decision: Decision, model: GatedModel | None = None) -> list[Item]:
    """Return every requirement of a decision as a line: what is missing first, then what is due, then what is met.

    Args:
        model: whose page it is; where a license is signed, its card is then shown beside the text.
    """

    def place(url: str) -> str:
        return f"{url}?model={model.full_name}" if model is not None and url.endswith("/sign") else url

    open_ = [Item(r.code, r.state, r.message, r.remedy_text, place(r.url), r.due_at) for r in decision.reasons]
    return open_ + [Item(code, "met", message) for code, message in decision.met]


def _note_shown(reasons: tuple[Reason, ...]) -> None:
    """Remember that a signed-in person was shown that they must sign again."""
    person = actor().user_id
    for reason in reasons:
        if reason.code == "signature_due" and person is not None:
            ref = "license_version:" + reason.url.split("/licenses/", 1)[1].removesuffix("/sign")

            def note(session: Session, ref: str = ref, person: int = person) -> None:
                notices.mark_shown(session, user_id=person, subject_ref=ref, now=utcnow())

            afterwards(note)


@bp.get("/")
@bp.get("/datasets", defaults={"kind": RepoKind.DATASET})
@public
def index(kind: str = RepoKind.MODEL) -> ResponseReturnValue:
    """List all models, or all datasets, with what each still needs from the visitor."""
    action = Action.INFER if kind == RepoKind.MODEL else Action.DOWNLOAD
    rows, pages = listed(action=action, kinds=[RepoKind(kind)])
    return render_template("access/index.html", rows=rows, pages=pages, datasets=kind == RepoKind.DATASET)


def listed(**which: Any) -> tuple[Sequence[Row], Pages]:
    """Return the part of a list of models that the visitor asked for, and how to go on from it."""
    part = asked_part()
    rows = service.models_with_decisions(
        db(), actor=actor(), now=utcnow(), base_url=settings().base_url, words=part.words, part=part.span, **which
    )
    return part.shown(rows)


def shown(kind: str, namespace: str, name: str) -> GatedModel:
    """Find the model of a page; under a name that it had before, send the visitor on to the one it has now."""
    asked = named(kind, namespace, name)
    renamed = None if catalog.called(db(), full_name=asked) else catalog.once_called(db(), full_name=asked)
    if renamed is not None:
        query = f"?{request.query_string.decode('latin-1')}" if request.query_string else ""
        raise RequestRedirect(renamed_path(raw_path(), renamed.full_name) + query)
    return catalog.find_model(db(), full_name=asked)


@bp.get("/<namespace>/<name>")
@bp.get("/datasets/<namespace>/<name>", defaults={"kind": RepoKind.DATASET})
@public
def model(namespace: str, name: str, kind: str = RepoKind.MODEL) -> ResponseReturnValue:
    """Show a model: its checklist, its files and its card."""
    found = shown(kind, namespace, name)
    decisions = {
        action: service.check(
            db(), actor=actor(), model=found.full_name, action=action, now=utcnow(), base_url=settings().base_url
        )
        for action in (Action.DOWNLOAD, Action.INFER)
    }
    use = decisions[Action.INFER if found.kind is RepoKind.MODEL else Action.DOWNLOAD]
    _note_shown(use.warnings + decisions[Action.DOWNLOAD].warnings)
    revisions = catalog.cards_of(db(), model=found)
    published = {row.language: row for row in reversed(revisions) if row.state is CardState.PUBLISHED}
    revision = published.get(request.args.get("lang", "")) or published.get(PREVAILING)
    card = app_service("read_card")(catalog.card_text(db(), revision=revision)) if revision else None
    return render_template(
        "access/model.html", model=found, items=checklist(use, found), download=decisions[Action.DOWNLOAD], use=use,
        revision=revision, card=card, release=_release(found), is_dataset=found.kind is RepoKind.DATASET,
        base_url=settings().base_url, published=published,
        keeps_days=contents.days_of(db(), model_id=found.id),
    )  # fmt: skip


def _release(found: GatedModel) -> object:
    return service.find_subject(db(), full_name=found.full_name).release
