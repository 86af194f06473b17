"""The pages of a model's card: a revision with what it says thing by thing, how two differ, and the document."""

from collections.abc import Callable

from flask import Blueprint, Response, render_template
from flask.typing import ResponseReturnValue

from portal.access.views import shown
from portal.cards import service
from portal.catalog import service as catalog
from portal.catalog.rules import RepoKind
from portal.core.clock import utcnow
from portal.evaluations.rules import results
from portal.items.rules import readable
from portal.web.app import app_service, db
from portal.web.guard import public

bp = Blueprint("cards", __name__)
DATASET = {"kind": RepoKind.DATASET}
NUMBER = "<int(max=1000000):number>"


@bp.get(f"/<namespace>/<name>/card/{NUMBER}")
@bp.get(f"/datasets/<namespace>/<name>/card/{NUMBER}", defaults=DATASET)
@public
def card(namespace: str, name: str, number: int, kind: str = RepoKind.MODEL) -> ResponseReturnValue:
    """Show one revision of a model's card, what it says thing by thing, and when it was looked at."""
    found = shown(kind, namespace, name)
    one = catalog.find_card(db(), model=found, number=number)
    revision = one.revision
    renditions = [row for row in catalog.cards_of(db(), model=found) if row.state.value == "published"]
    read = app_service("read_card")(one.text)
    return render_template(
        "cards/card.html", model=found, revision=revision, card=read, results=results(read.metadata),
        plots=service.plots_of(db(), revision=revision),
        items=readable(one.text), places=service.places(db()), before=service.before(db(), revision=revision),
        renditions=renditions, reviews=service.reviews_of(db(), revision=revision),
        due_at=service.due(db(), revisions=[revision]).get(revision.id), now=utcnow(),
        newest=catalog.current_card(db(), model=found, language=revision.language),
    )  # fmt: skip


@bp.get("/<namespace>/<name>/card/<int(max=1000000):old>...<int(max=1000000):new>")
@bp.get("/datasets/<namespace>/<name>/card/<int(max=1000000):old>...<int(max=1000000):new>", defaults=DATASET)
@public
def difference(namespace: str, name: str, old: int, new: int, kind: str = RepoKind.MODEL) -> ResponseReturnValue:
    """Show how two revisions of a card differ, thing by thing and line by line."""
    found = shown(kind, namespace, name)
    compared = service.between(db(), model=found, old=old, new=new)
    return render_template("cards/difference.html", model=found, compared=compared, places=service.places(db()))


@bp.get(f"/<namespace>/<name>/card/{NUMBER}.pdf")
@bp.get(f"/datasets/<namespace>/<name>/card/{NUMBER}.pdf", defaults=DATASET)
@public
def card_pdf(namespace: str, name: str, number: int, kind: str = RepoKind.MODEL) -> ResponseReturnValue:
    """Send one revision of a model's card as a document."""
    found = shown(kind, namespace, name)
    revision = catalog.find_card(db(), model=found, number=number)
    page = render_template(
        "pdf/card.html", model=found, revision=revision.revision, card=app_service("read_card")(revision.text)
    )
    document: Callable[[str], bytes] = app_service("pdf")
    headers = {"Content-Disposition": f'inline; filename="{found.name}-card-{number}.pdf"'}
    return Response(document(page), mimetype="application/pdf", headers=headers)
