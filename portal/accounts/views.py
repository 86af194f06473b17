"""Pages of a person about themselves: overview, profile, and what is stored about them."""

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from portal.accounts import service
from portal.accounts.forms import AboutForm
from portal.accounts.rules import held
from portal.core.clock import utcnow
from portal.web.app import actor, db
from portal.web.guard import member

bp = Blueprint("accounts", __name__)


@bp.get("/settings/")
@member
def overview() -> ResponseReturnValue:
    """Show how things stand with the visitor's account, and what they can set."""
    person = service.find(db(), ref=actor().public_id)
    roles = service.roles_of(db(), user_id=person.id, now=utcnow())
    standing = held(person.standing, person.standing_until, utcnow())
    return render_template("accounts/overview.html", person=person, roles=roles, standing=standing)


@bp.route("/settings/profile", methods=["GET", "POST"])
@member
def profile() -> ResponseReturnValue:
    """Show and change what the visitor says about themselves."""
    person = service.find(db(), ref=actor().public_id)
    form = AboutForm(obj=person.profile)
    if form.validate_on_submit():
        service.update_profile(
            db(), by=actor(), name=form.read("name"), affiliation=form.read("affiliation"),
            country=form.read("country"), now=utcnow(),
        )  # fmt: skip
        flash("Your profile is saved.", "success")
        return redirect(url_for(".profile"), 303)
    return render_template("accounts/profile.html", person=person, form=form), 422 if form.errors else 200


@bp.get("/settings/privacy")
@member
def privacy() -> ResponseReturnValue:
    """Say what is stored about the visitor, why, and for how long."""
    return render_template("accounts/privacy.html")
