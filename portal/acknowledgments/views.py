"""The pages on which a person reads what changed about what they use or hold, and confirms that they did."""

from flask import Blueprint, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from portal.acknowledgments import service
from portal.acknowledgments.forms import WordForm
from portal.campaigns import service as campaigns
from portal.catalog.rules import difference
from portal.core.clock import utcnow
from portal.notices import service as notices
from portal.web.app import actor, afterwards, db
from portal.web.guard import member

bp = Blueprint("acknowledgments", __name__)


@bp.get("/settings/acknowledgments")
@member
def index() -> ResponseReturnValue:
    """List what the visitor is asked to read, and what they said they read."""
    rows = [(one, campaigns.subject_of(one), word) for one, word in service.own(db(), by=actor())]
    return render_template("acknowledgments/index.html", rows=rows)


@bp.route("/settings/acknowledgments/<ref>", methods=["GET", "POST"])
@member
def acknowledgment(ref: str) -> ResponseReturnValue:
    """Show what changed since the visitor last met it, and keep their word that they read it."""
    campaign, form = service.find(db(), by=actor(), ref=ref), WordForm()
    if form.validate_on_submit():
        service.acknowledge(db(), by=actor(), ref=ref, shown_sha256=form.read("shown"), now=utcnow())
        return redirect(url_for(".acknowledgment", ref=ref), 303)
    told, person, about = service.told(db(), campaign=campaign, by=actor()), actor().id, campaigns.about(campaign)

    def note(session: Session) -> None:
        notices.mark_shown(session, user_id=person, subject_ref=about, now=utcnow())

    afterwards(note)
    return render_template(
        "acknowledgments/acknowledgment.html", campaign=campaign, told=told, name=campaigns.subject_of(campaign),
        lines=difference(told.old, told.new) if told.before else [],
        word=service.word_of(db(), campaign=campaign, by=actor()),
    )  # fmt: skip
