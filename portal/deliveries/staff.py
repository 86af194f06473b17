"""The console's answers: which terms govern a copy of a file, who holds one, and the ledger as a sheet."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta

from flask import Blueprint, Response, render_template, request, stream_with_context
from flask.typing import ResponseReturnValue

from portal.accounts import service as accounts
from portal.accounts.models import User
from portal.accounts.rules import Permission
from portal.core import sheets
from portal.core.clock import utcnow
from portal.core.errors import Invalid, NotFound
from portal.deliveries import service
from portal.deliveries.forms import CopyForm, ExportForm
from portal.web.app import brief, db
from portal.web.guard import staff

bp = Blueprint("deliveries_staff", __name__)
DIGEST = re.compile(r"[0-9a-f]{64}")
MOST = 200


@bp.get("/staff/deliveries")
@staff(Permission.USAGE_READ)
def index() -> ResponseReturnValue:
    """Name the signatures and card under which a person, or everybody who has it, received a file."""
    form, today = CopyForm(request.args), utcnow().date()
    digest, name, person, found = form.read("sha256").lower(), form.read("person"), None, []
    if digest and not DIGEST.fullmatch(digest):
        form.add_error("sha256", "A SHA-256 digest is 64 hexadecimal digits.")
    if name:
        person = _person(name)
        if person is None:
            form.add_error("person", "Nobody goes by this public id or address.")
    asked = bool(digest) and not form.errors
    if asked:
        found = service.terms_of(db(), sha256=digest, user_id=person.id if person else None, limit=MOST)
    page = render_template(
        "deliveries/staff_index.html", form=form, asked=asked, person=person, found=found, most=MOST,
        export=ExportForm(formdata=None, start=today - timedelta(days=30), end=today),
    )  # fmt: skip
    return page, 422 if form.errors else 200


def _person(name: str) -> User | None:
    try:
        return accounts.find_by_email(db(), email=name) if "@" in name else accounts.find(db(), ref=name)
    except NotFound:
        return None


@bp.get("/staff/deliveries/export.csv")
@staff(Permission.USAGE_READ)
def export() -> ResponseReturnValue:
    """Send what was delivered on some days as a sheet: ids, digests and terms, no names."""
    form = ExportForm(request.args)
    if not form.validate():
        field, messages = next(iter(form.errors.items()))
        raise Invalid("export_days", f"{form[field].label.text}: {messages[0]}", field=field)
    start = datetime.combine(form.start.data, time.min, UTC)
    end = datetime.combine(form.end.data, time.max, UTC)

    def body() -> Iterator[str]:
        with brief(write=False) as session:
            yield from sheets.lines(service.export_rows(session, start=start, end=end), service.COLUMNS)

    name = f"deliveries-{form.start.data}-{form.end.data}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(stream_with_context(body()), mimetype="text/csv", headers=headers)
