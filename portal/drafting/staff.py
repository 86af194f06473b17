"""The editors' desk: draft the next version of a license, edit it whole or by clause, and say what changes."""

from dataclasses import replace

from flask import Blueprint, redirect, render_template, request
from flask.typing import ResponseReturnValue

from portal.accounts.rules import Permission
from portal.clauses import service as clauses
from portal.clauses.rules import Delta, Relation, Shown, compare, keyed, parse, side_by_side
from portal.core.clock import utcnow
from portal.core.errors import Invalid, NotFound
from portal.drafting import service
from portal.drafting.forms import ClauseForm, DraftForm, TextForm, describe_form
from portal.drafting.rules import Lack
from portal.licensing import rules
from portal.licensing import service as licensing
from portal.licensing.models import LicenseVersion, Rendition
from portal.licensing.rules import VersionState
from portal.web.app import actor, db
from portal.web.guard import staff

bp = Blueprint("drafting", __name__)


def _changes(version: LicenseVersion, language: str = "") -> list[Delta]:
    if version.predecessor_id is None:
        return []
    before = db().get_one(LicenseVersion, version.predecessor_id)
    return licensing.difference(db(), old=before, new=version, language=language)


def _page(slug: str, number: str) -> str:
    """Return the address of a version in the console."""
    return f"/staff/licenses/{slug}/{number}"


@bp.get("/staff/licenses")
@staff(Permission.LICENSES_EDIT)
def index() -> ResponseReturnValue:
    """List licenses with their versions and drafts."""
    now = utcnow()
    rows = []
    for license_, _ in licensing.licenses(db()):
        facts = licensing.versions_for(db(), license_ids=[license_.id]).get(license_.id, [])
        states = {fact.id: rules.state_at(facts, fact.id, now).value for fact in facts}
        versions = [v for v in licensing.all_versions(db()) if v.license_id == license_.id]
        rows.append((license_, versions[::-1], states))
    return render_template("drafting/index.html", rows=rows)


@bp.route("/staff/licenses/<slug>/draft", methods=["GET", "POST"])
@staff(Permission.LICENSES_EDIT)
def draft(slug: str) -> ResponseReturnValue:
    """Start the next version with the words of the newest one."""
    license_, form = licensing.find_license(db(), slug=slug), DraftForm()
    if form.validate_on_submit():
        try:
            version = service.draft(db(), slug=slug, number=form.read("number"), by=actor(), now=utcnow())
            return redirect(_page(slug, version.number), 303)
        except Invalid as error:
            form.take(error)
    newest = next(iter(licensing.published(db(), license_id=license_.id)), None)
    page = render_template("drafting/draft.html", license=license_, newest=newest, form=form)
    return page, 422 if form.errors else 200


@bp.route("/staff/licenses/<slug>/<number>/text", methods=["GET", "POST"])
@staff(Permission.LICENSES_EDIT)
def text(slug: str, number: str) -> ResponseReturnValue:
    """Edit a draft's words in one language."""
    found = service.find_draft(db(), slug=slug, number=number)
    shown = licensing.rendition(found, request.args.get("lang", ""))
    form = TextForm(data={"text": clauses.text_of(db(), sha256=shown.text_sha256)})
    if form.validate_on_submit():
        try:
            service.save_text(
                db(),
                slug=slug,
                number=number,
                language=shown.language,
                text=form.read("text"),
                by=actor(),
                now=utcnow(),
            )
            return redirect(f"{_page(slug, number)}?lang={shown.language}", 303)
        except Invalid as error:
            form.take(error)
    page = render_template("drafting/text.html", version=found, shown=shown, form=form)
    return page, 422 if form.errors else 200


@bp.route("/staff/licenses/<slug>/<number>/description", methods=["GET", "POST"])
@staff(Permission.LICENSES_EDIT)
def description(slug: str, number: str) -> ResponseReturnValue:
    """Say in each language what a draft changes, and for each changed clause how."""
    found = service.find_draft(db(), slug=slug, number=number)
    deltas = [delta for delta in _changes(found) if delta.relation is not Relation.SAME]
    languages = {row.language: found.summary.get(row.language, "") for row in found.renditions}
    told, prevailing = service.explanations(db(), version=found), licensing.rendition(found)
    others = {language: told.get(language, {}) for language in languages if language != prevailing.language}
    form = describe_form(languages, deltas, found.materiality, others)
    if form.validate_on_submit():
        try:
            service.save_description(
                db(), slug=slug, number=number, summary=form.summary(list(languages)), changes=form.changes(deltas),
                translated=form.translated(deltas, list(others)), materiality=form.weight(), by=actor(), now=utcnow(),
            )  # fmt: skip
            return redirect(_page(slug, number), 303)
        except Invalid as error:
            form.take(error)
    shown = side_by_side([replace(delta, explanation="") for delta in deltas])  # what is being written stands below
    page = render_template(
        "drafting/description.html", version=found, form=form, rows=shown,
        languages=languages, others=others, prevailing=prevailing,
        floor=service.floor(db(), version=found),
    )  # fmt: skip
    return page, 422 if form.errors else 200


@bp.get("/staff/licenses/<slug>/<number>/clauses")
@staff(Permission.LICENSES_EDIT)
def clause_list(slug: str, number: str) -> ResponseReturnValue:
    """Show a version's prevailing text and one of its languages clause by clause, with what is missing marked."""
    found = licensing.find_version(db(), slug=slug, number=number, drafts=True)
    shown = licensing.rendition(found, request.args.get("lang", ""))
    pairs = service.translations(db(), version=found, language=shown.language)
    lacking = sum(row.lack is not Lack.NOTHING for row in pairs)
    return render_template(
        "drafting/clauses.html", version=found, shown=shown, pairs=pairs, lacking=lacking,
        prevailing=licensing.rendition(found), is_draft=found.state is VersionState.DRAFT,
    )  # fmt: skip


@bp.route("/staff/licenses/<slug>/<number>/clauses/<key>", methods=["GET", "POST"])
@staff(Permission.LICENSES_EDIT)
def clause(slug: str, number: str, key: str) -> ResponseReturnValue:
    """Edit one clause of a draft in one language, seeing it beside the version before."""
    found = service.find_draft(db(), slug=slug, number=number)
    shown = licensing.rendition(found, request.args.get("lang", ""))
    text = clauses.text_of(db(), sha256=shown.text_sha256)
    part = next((p for p in parse(text) if p.key == key), None)
    if part is None:
        raise NotFound("clause_not_found", "This text has no such clause.")
    form = ClauseForm(data={"title": part.title, "body": part.body})
    if form.validate_on_submit():
        words: dict[str, str] = {"title": form.read("title"), "body": str(form.body.data or "")}
        where: dict[str, str] = {"slug": slug, "number": number, "language": shown.language, "key": key}
        try:
            if form.read("step") != "preview":
                service.save_clause(db(), **where, **words, by=actor(), now=utcnow())
                return redirect(f"{_page(slug, number)}/clauses?lang={shown.language}#{key}", 303)
            text = service.clause_text(db(), **where, **words)
            keyed(text)
        except Invalid as error:
            form.take(error)
    page = render_template(
        "drafting/clause.html", version=found, shown=shown, form=form, part=part, prevailing=licensing.rendition(found),
        rows=_against(found, shown, text, key), beside=_beside(found, shown, key),
    )  # fmt: skip
    return page, 422 if form.errors else 200


def _beside(version: LicenseVersion, shown: Rendition, key: str) -> list[Shown]:
    """Return, for whoever edits a translation, how the prevailing text of a clause differs from the version before."""
    prevailing = licensing.rendition(version)
    if shown is prevailing:
        return []
    return _against(version, prevailing, clauses.text_of(db(), sha256=prevailing.text_sha256), key)


def _against(version: LicenseVersion, shown: Rendition, text: str, key: str) -> list[Shown]:
    """Return how a clause of a text that may not be kept yet differs from the version before."""
    if version.predecessor_id is None:
        return []
    earlier = licensing.counterpart(db().get_one(LicenseVersion, version.predecessor_id), shown)
    old = clauses.parts_of(db(), sha256=earlier.text_sha256)
    return side_by_side([delta for delta in compare(old, parse(text)) if delta.key == key])
