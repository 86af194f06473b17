"""The console's answer to the question which terms govern a copy of a file."""

import re

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue

from portal.accounts import service as accounts
from portal.accounts.models import User
from portal.accounts.rules import Permission
from portal.core.errors import NotFound
from portal.deliveries import service
from portal.deliveries.forms import CopyForm
from portal.web.app import db
from portal.web.guard import staff

bp = Blueprint("deliveries_staff", __name__)
DIGEST = re.compile(r"[0-9a-f]{64}")


@bp.get("/staff/deliveries")
@staff(Permission.USAGE_READ)
def index() -> ResponseReturnValue:
    """Name the signatures and card under which a person received the file with a digest."""
    form = CopyForm(request.args)
    digest, name, person, found = form.read("sha256").lower(), form.read("person"), None, []
    if digest and not DIGEST.fullmatch(digest):
        form.add_error("sha256", "A SHA-256 digest is 64 hexadecimal digits.")
    if name:
        person = _person(name)
        if person is None:
            form.add_error("person", "Nobody goes by this public id or address.")
    elif digest:
        form.add_error("person", "Name the person who holds the copy.")
    asked = bool(digest) and person is not None and not form.errors
    if asked and person is not None:
        found = service.terms_of(db(), sha256=digest, user_id=person.id)
    page = render_template("deliveries/staff_index.html", form=form, asked=asked, person=person, found=found)
    return page, 422 if form.errors else 200


def _person(name: str) -> User | None:
    try:
        return accounts.find_by_email(db(), email=name) if "@" in name else accounts.find(db(), ref=name)
    except NotFound:
        return None
