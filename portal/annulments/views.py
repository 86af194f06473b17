"""The pages on which a person says that they do not sign, or withdraws a signature."""

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from portal.annulments import service
from portal.annulments.forms import DeclineForm, WithdrawForm
from portal.core.clock import utcnow
from portal.core.errors import NotFound
from portal.licensing import service as licensing
from portal.licensing.rules import DeclineReason
from portal.web.app import actor, db, settings
from portal.web.guard import member

bp = Blueprint("annulments", __name__)


@bp.route("/licenses/<slug>/<number>/decline", methods=["GET", "POST"])
@member
def decline(slug: str, number: str) -> ResponseReturnValue:
    """Record that a person does not sign a version that they were shown."""
    version = licensing.find_version(db(), slug=slug, number=number)
    nonce = request.args.get("sitting", "")
    form = DeclineForm(data={"nonce": nonce})
    if form.validate_on_submit():
        reason, nonce = DeclineReason(form.read("reason")), form.read("nonce")
        service.decline(db(), by=actor(), version_id=version.id, nonce=nonce, reason=reason, now=utcnow())
        flash(f"It is recorded that you do not sign version {number}. You can sign at any time.", "success")
        return redirect(url_for("licensing.version", slug=slug, number=number), 303)
    return render_template("annulments/decline.html", version=version, form=form), 422 if form.errors else 200


@bp.route("/settings/signatures/<ref>/withdraw", methods=["GET", "POST"])
@member
def withdraw(ref: str) -> ResponseReturnValue:
    """Withdraw a signature, once the page has said what that does."""
    signature = service.find_signature(db(), ref=ref)
    if signature.user_id != actor().id:
        raise NotFound("signature_not_found", "You have no such signature.")
    form = WithdrawForm()
    if form.validate_on_submit():
        service.withdraw(db(), by=actor(), ref=ref, now=utcnow(), base_url=settings().base_url)
        flash("Your signature is withdrawn.", "success")
        return redirect(url_for("signing.signature", ref=ref), 303)
    ended = licensing.annulments(db(), signature_ids=[signature.id]).get(signature.id)
    page = render_template("annulments/withdraw.html", signature=signature, ended=ended, form=form)
    return page, 422 if form.errors else 200
