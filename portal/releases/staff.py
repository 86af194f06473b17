"""The release desk: which commits staff uploaded, what each would change for readers, and putting one before them."""

from urllib.parse import quote

from flask import Blueprint, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from portal.accounts.rules import Permission
from portal.catalog import service as catalog
from portal.catalog.rules import named
from portal.core.clock import utcnow
from portal.core.errors import PortalError
from portal.files import service as files
from portal.releases import service
from portal.releases.forms import ReleaseForm
from portal.web.app import actor, app_service, db, settings
from portal.web.guard import public, staff
from portal.web.parts import asked_part

bp = Blueprint("releases", __name__)


@bp.get("/staff/models")
@staff(Permission.MODELS_PUBLISH)
def index() -> ResponseReturnValue:
    """List models with what waits to be released."""
    part = asked_part()
    rows, pages = part.shown(service.waiting(db(), words=part.words, part=part.span))
    return render_template("releases/index.html", rows=rows, pages=pages, base_url=settings().base_url)


@bp.get("/staff/models/<ref>")
@staff(Permission.MODELS_PUBLISH)
def model(ref: str) -> ResponseReturnValue:
    """Show the commits of a model, and which of them readers get."""
    found = catalog.find_by_ref(db(), ref=ref)
    return render_template(
        "releases/model.html", model=found, rows=service.desk(db(), model=found), base_url=settings().base_url
    )


@bp.route("/staff/models/<ref>/release/<revision>", methods=["GET", "POST"])
@staff(Permission.MODELS_PUBLISH)
def release(ref: str, revision: str) -> ResponseReturnValue:
    """Show what a release would change, and put the commit before readers."""
    found = catalog.find_by_ref(db(), ref=ref)
    commit = files.find_commit(db(), model_id=found.id, revision=revision)
    listed = files.listed(db(), commit_id=commit.id)
    risky = service.risks(db(), commit=commit)
    form = ReleaseForm()
    form.offer(service.licenses_in_force(db(), now=utcnow()), risky)
    if form.validate_on_submit():
        try:
            service.release(
                db(), model=found, commit=commit, license_slug=form.read("license"),
                allowed_pickles=form.pickles.data or [], by=actor(), now=utcnow(),
            )  # fmt: skip
            return redirect(url_for(".model", ref=ref), 303)
        except PortalError as error:
            form.take(error)
    page = render_template(
        "releases/release.html", model=found, commit=commit, form=form, files=listed, risky=risky,
        changes=service.changes(db(), model=found, commit=commit), card=catalog.current_card(db(), model=found),
        parameters=files.parameters(db(), commit_id=commit.id), unreadable=service.unreadable(db(), commit=commit),
        release=catalog.release_of(db(), model=found, revision=commit.revision),
        readme=service.compare_readme(db(), store=app_service("store"), model=found, commit=commit),
    )  # fmt: skip
    return page, 422 if form.errors else 200


@bp.post("/staff/models/<ref>/release/<revision>/card")
@staff(Permission.CARDS_EDIT)
def draft_card(ref: str, revision: str) -> ResponseReturnValue:
    """Take the README.md of a commit as the draft of the card."""
    found = catalog.find_by_ref(db(), ref=ref)
    service.draft_card(
        db(), store=app_service("store"), model=found, check=app_service("check_card"), by=actor(), now=utcnow(),
        commit=files.find_commit(db(), model_id=found.id, revision=revision),
    )  # fmt: skip
    return redirect(f"/staff/cards/{found.full_name}/preview", 303)


@bp.get("/<namespace>/<name>/commit/<revision>", defaults={"kind": "models"})
@bp.get("/datasets/<namespace>/<name>/commit/<revision>", defaults={"kind": "datasets"})
@public
def commit(kind: str, namespace: str, name: str, revision: str) -> ResponseReturnValue:
    """Lead from the address that clients print after an upload to the release desk, or to the files."""
    full_name = named(kind, namespace, name)
    found = catalog.called(db(), full_name=full_name)
    if found is not None and Permission.MODELS_PUBLISH in actor().permissions:
        return redirect(url_for(".release", ref=found.public_id, revision=revision), 303)
    return redirect(f"/{full_name}/tree/{quote(revision, safe='')}", 303)
