"""Pages on which staff find a person and see what the portal knows of them."""

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue

from portal.accounts.rules import Permission
from portal.core.clock import utcnow
from portal.people import service
from portal.people.forms import SearchForm
from portal.web.app import db
from portal.web.guard import staff

bp = Blueprint("people_staff", __name__)
HIGHEST_ID = 2**31 - 1


@bp.get("/staff/people")
@staff(Permission.PEOPLE_READ)
def index() -> ResponseReturnValue:
    """List people, by what was searched for."""
    now, form = utcnow(), SearchForm(request.args)
    query, standing = form.read("q"), form.read("standing")
    after = request.args.get("after", 0, type=int)
    found = service.search(db(), query=query, standing=standing, after_id=min(max(after, 0), HIGHEST_ID), now=now)
    shown = found[: service.PAGE]
    more = url_for(".index", q=query, standing=standing, after=shown[-1].id) if len(found) > len(shown) else None
    first = url_for(".index", q=query, standing=standing) if after else None
    rows = [(user, service.effective_standing(user, now=now)) for user in shown]
    return render_template("people/index.html", form=form, rows=rows, more=more, first=first)


@bp.get("/staff/people/<ref>")
@staff(Permission.PEOPLE_READ)
def show(ref: str) -> ResponseReturnValue:
    """Show one person: standing, signatures, access tokens, use and decisions."""
    now = utcnow()
    person = service.person(db(), ref=ref, now=now)
    return render_template("people/show.html", person=person, now=now, days=service.USAGE_DAYS)
