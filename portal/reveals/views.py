"""The page on which a person says whether models may keep their texts, and sees what is kept and was read."""

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from portal.catalog import service as catalog
from portal.contents import service as contents
from portal.core.clock import utcnow
from portal.reveals import service
from portal.web.app import actor, db
from portal.web.guard import member

bp = Blueprint("reveals", __name__)


@bp.route("/settings/texts", methods=["GET", "POST"])
@member
def texts() -> ResponseReturnValue:
    """Show which models keep texts and whether the visitor agreed; take back or give that."""
    if request.method == "POST":
        model = catalog.find_by_ref(db(), ref=request.form.get("model", ""))
        if request.form.get("agree") == "yes":
            contents.agree(db(), by=actor(), model=model, now=utcnow())
            flash(f"{model.full_name} keeps your texts from now on, for as long as this page says.", "success")
        else:
            gone = contents.disagree(db(), by=actor(), model=model, now=utcnow())
            flash(f"{model.full_name} keeps no text of yours any more. Deleted: {gone}.", "success")
        return redirect(url_for(".texts"), 303)
    return render_template(
        "reveals/settings.html", rows=contents.choices_of(db(), user_id=actor().id),
        kept=contents.kept_of(db(), user_id=actor().id), read=service.of_person(db(), user_id=actor().id),
    )  # fmt: skip
