"""The console's page on which two people void a signature that was made in error."""

from flask import Blueprint, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from portal.accounts import service as accounts
from portal.accounts.rules import TWO, Permission, reason_of
from portal.annulments import service
from portal.annulments.forms import VoidForm
from portal.core.clock import utcnow
from portal.core.errors import Invalid
from portal.licensing import service as licensing
from portal.web.app import actor, db, settings
from portal.web.guard import staff

bp = Blueprint("annulments_staff", __name__)


@bp.route("/staff/signatures/<ref>", methods=["GET", "POST"])
@staff(Permission.LICENSES_PUBLISH)
def signature(ref: str) -> ResponseReturnValue:
    """Show whose signature it is, and void it: one person proposes that, another confirms it."""
    found, form = service.find_signature(db(), ref=ref), VoidForm()
    if form.validate_on_submit():
        try:
            return _act(ref, form)
        except Invalid as error:
            form.take(error)
    proposal = service.open_void(db(), signature=found, now=utcnow())
    page = render_template(
        "annulments/void.html", signature=found, form=form, proposal=proposal,
        ended=licensing.annulments(db(), signature_ids=[found.id]).get(found.id),
        reason=reason_of(proposal.payload) if proposal else "",
        own=proposal is not None and proposal.proposed_by == actor().public_id,
        enough=len(accounts.able(db(), permission=Permission.LICENSES_PUBLISH, now=utcnow())) >= TWO,
    )  # fmt: skip
    return page, 422 if form.errors else 200


def _act(ref: str, form: VoidForm) -> ResponseReturnValue:
    if digest := form.read("payload_sha256"):
        service.void(
            db(), ref=ref, payload_sha256=digest, by=actor(), now=utcnow(), base_url=settings().base_url
        )  # fmt: skip
    elif (reason := form.error()) is not None:
        service.propose_void(db(), ref=ref, reason=reason, by=actor(), now=utcnow())
    else:
        raise Invalid("reason_missing", "Choose what went wrong.", field="reason")
    return redirect(url_for(".signature", ref=ref), 303)
