"""The console's pages of declared research: whose use is recorded and not held against them, and until when."""

from flask import Blueprint, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from wtforms.fields.choices import SelectChoice

from portal.accounts.rules import Permission
from portal.core.clock import utcnow
from portal.core.errors import Invalid
from portal.exemptions import service
from portal.exemptions.forms import EndForm, ExemptionForm
from portal.exemptions.rules import PURPOSE_WORDS, Purpose
from portal.licensing import service as licensing
from portal.web.app import actor, db, settings
from portal.web.guard import staff

bp = Blueprint("exemptions", __name__)


@bp.get("/staff/exemptions")
@staff(Permission.RULES_EDIT)
def index() -> ResponseReturnValue:
    """List exemptions, newest first."""
    rows = service.exemptions(db())
    return render_template(
        "exemptions/index.html", rows=rows, names=service.names_of(db(), rows=rows), purposes=PURPOSE_WORDS,
        now=utcnow(),
    )  # fmt: skip


@bp.route("/staff/exemptions/grant", methods=["GET", "POST"])
@staff(Permission.RULES_EDIT)
def grant() -> ResponseReturnValue:
    """Exempt the declared research of a person."""
    form, licenses = ExemptionForm(), licensing.licenses(db())
    form.license.choices = [SelectChoice(row.slug, row.title) for row, _ in licenses]
    known = {key for row, _ in licenses for key in service.citable(db(), license_slug=row.slug)}
    form.clauses.choices = [SelectChoice(key, key) for key in sorted(known)]
    if form.validate_on_submit():
        try:
            row = service.grant(
                db(), person=form.read("person"), purpose=Purpose(form.read("purpose")),
                license_slug=form.read("license"), clause_keys=form.clauses.data or (), model_name=form.read("model"),
                safeguards=form.read("safeguards"), since=utcnow(), until=form.ends(),
                page=f"{settings().base_url}/licenses/{form.read('license')}", by=actor(), now=utcnow(),
            )  # fmt: skip
            return redirect(url_for(".exemption", ref=row.public_id), 303)
        except Invalid as error:
            form.take(error)
    return render_template("exemptions/grant.html", form=form), 422 if form.errors or form.form_errors else 200


@bp.route("/staff/exemptions/<ref>", methods=["GET", "POST"])
@staff(Permission.RULES_EDIT)
def exemption(ref: str) -> ResponseReturnValue:
    """Show an exemption, and end it before its time."""
    found, form = service.find(db(), ref=ref), EndForm()
    if form.validate_on_submit():
        try:
            service.end(db(), ref=ref, reason=form.read("reason"), by=actor(), now=utcnow())
            return redirect(url_for(".exemption", ref=ref), 303)
        except Invalid as error:
            form.take(error)
    page = render_template(
        "exemptions/exemption.html", row=found, form=form, names=service.names_of(db(), rows=[found]),
        purposes=PURPOSE_WORDS, now=utcnow(),
    )  # fmt: skip
    return page, 422 if form.errors or form.form_errors else 200
