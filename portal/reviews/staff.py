"""The console's pages of second looks: which are due, and taking one."""

from flask import Blueprint, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from portal.accounts import service as accounts
from portal.accounts.models import Proposal
from portal.accounts.rules import Permission, reason_of
from portal.core.clock import utcnow
from portal.core.errors import Invalid
from portal.licensing import service as licensing
from portal.licensing.models import AfterReview
from portal.licensing.rules import review_state_at
from portal.reviews import rules, service
from portal.reviews.forms import ReviewForm
from portal.web.app import actor, db
from portal.web.guard import staff

bp = Blueprint("reviews", __name__)


def _state(row: AfterReview) -> str:
    return review_state_at(row.due_at, row.reviewed_at, utcnow()).value


@bp.get("/staff/licenses/reviews")
@staff(Permission.LICENSES_EDIT)
def index() -> ResponseReturnValue:
    """List the versions that came into force at once, with who still has to look at which."""
    return render_template("reviews/index.html", rows=[(row, _state(row)) for row in licensing.second_looks(db())])


@bp.route("/staff/licenses/<slug>/<number>/review", methods=["GET", "POST"])
@staff(Permission.LICENSES_PUBLISH)
def review(slug: str, number: str) -> ResponseReturnValue:
    """Show why a version came into force at once, and record what somebody uninvolved finds about it."""
    row, form = service.find(db(), slug=slug, number=number), ReviewForm()
    if form.validate_on_submit():
        try:
            service.review(
                db(), slug=slug, number=number, finding=form.found(), words=form.read("words"), by=actor(), now=utcnow()
            )
            return redirect(url_for(".review", slug=slug, number=number), 303)
        except Invalid as error:
            form.take(error)
    hands = service.involved(db(), review=row)
    able = {person.public_id for person in accounts.able(db(), permission=Permission.LICENSES_PUBLISH, now=utcnow())}
    proposal = db().get_one(Proposal, row.proposal_id)
    page = render_template(
        "reviews/review.html", row=row, form=form, state=_state(row), proposal=proposal,
        reason=reason_of(proposal.payload), own=actor().public_id in hands, others=len(able - hands),
        found=rules.FINDING_WORDS[row.finding] if row.finding else "",
        names=accounts.names(db(), refs={proposal.proposed_by, proposal.confirmed_by or "", row.reviewed_by or ""}),
    )  # fmt: skip
    return page, 422 if form.errors else 200
