"""The editors' desk: draft the next version of a license, say what changes, look at it, publish it."""

from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from portal.accounts.rules import Permission
from portal.clauses import service as clauses
from portal.clauses.rules import Delta, Relation, side_by_side
from portal.core.clock import utcnow
from portal.core.errors import Invalid
from portal.drafting import service
from portal.drafting.forms import DraftForm, PublishForm, TextForm, describe_form
from portal.licensing import rules
from portal.licensing import service as licensing
from portal.licensing.models import LicenseVersion
from portal.licensing.rules import WEIGHT, Materiality, VersionState
from portal.web.app import actor, db, settings
from portal.web.guard import staff

bp = Blueprint("drafting", __name__)


def _changes(version: LicenseVersion, language: str = "") -> list[Delta]:
    if version.predecessor_id is None:
        return []
    before = db().get_one(LicenseVersion, version.predecessor_id)
    return licensing.difference(db(), old=before, new=version, language=language)


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
            return redirect(url_for(".version", slug=slug, number=version.number), 303)
        except Invalid as error:
            form.take(error)
    newest = next(iter(licensing.published(db(), license_id=license_.id)), None)
    page = render_template("drafting/draft.html", license=license_, newest=newest, form=form)
    return page, 422 if form.errors else 200


@bp.get("/staff/licenses/<slug>/<number>")
@staff(Permission.LICENSES_EDIT)
def version(slug: str, number: str) -> ResponseReturnValue:
    """Show a version as its signers will see it against the one before, and what is still missing in a draft."""
    found = licensing.find_version(db(), slug=slug, number=number, drafts=True)
    shown = licensing.rendition(found, request.args.get("lang", ""))
    deltas = _changes(found, shown.language)
    missing = ""
    try:
        service.check_ready(db(), version=found)
    except Invalid as error:
        missing = error.message
    return render_template(
        "drafting/version.html", version=found, shown=shown, rows=side_by_side(deltas), missing=missing,
        is_draft=found.state is VersionState.DRAFT, affected=len(licensing.affected(db(), version=found)),
        floor=service.floor(db(), version=found), changed=sum(d.relation is not Relation.SAME for d in deltas),
    )  # fmt: skip


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
            return redirect(url_for(".version", slug=slug, number=number, lang=shown.language), 303)
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
    form = describe_form(languages, deltas)
    if form.validate_on_submit():
        try:
            service.save_description(
                db(), slug=slug, number=number, summary=form.summary(list(languages)), changes=form.changes(deltas),
                by=actor(), now=utcnow(),
            )  # fmt: skip
            return redirect(url_for(".version", slug=slug, number=number), 303)
        except Invalid as error:
            form.take(error)
    page = render_template("drafting/description.html", version=found, form=form, deltas=deltas, languages=languages)
    return page, 422 if form.errors else 200


@bp.route("/staff/licenses/<slug>/<number>/publish", methods=["GET", "POST"])
@staff(Permission.LICENSES_PUBLISH)
def publish(slug: str, number: str) -> ResponseReturnValue:
    """Take weight and dates, show what they do to whom, and publish once that is confirmed."""
    found, form, now = service.find_draft(db(), slug=slug, number=number), PublishForm(), utcnow()
    form.offer(service.floor(db(), version=found))
    if form.validate_on_submit():
        try:
            return _publish(found, form)
        except Invalid as error:
            form.take(error)
    page = render_template("drafting/publish.html", version=found, form=form, now=now)
    return page, 422 if form.errors else 200


def _publish(version: LicenseVersion, form: PublishForm) -> ResponseReturnValue:
    now, slug, number = utcnow(), version.license.slug, version.number
    effective, required = form.effective(now), form.required(now)
    if required is None:
        raise Invalid("required_missing", "Name the day by which signers must sign.", field="required_by")
    weight = Materiality(form.read("materiality"))
    plan: dict[str, Any] = {"materiality": weight, "effective_at": effective, "required_by": required, "now": now}
    if not form.read("confirmed"):
        service.check_publishable(db(), version=version, **plan)
        return render_template(
            "drafting/confirm.html", version=version, form=form, effective=effective, required=required,
            at_once=effective <= now, shown_sha256=service.shown(version), materiality=weight,
            affected=len(licensing.affected(db(), version=version)),
            again=WEIGHT[weight] >= WEIGHT[Materiality.MATERIAL],
        )  # fmt: skip
    service.publish(
        db(), slug=slug, number=number, by=actor(), base_url=settings().base_url,
        shown_sha256=form.read("shown_sha256"), **plan,
    )  # fmt: skip
    return redirect(url_for(".version", slug=slug, number=number), 303)
