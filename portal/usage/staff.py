"""The console's pages about use: what everybody used, the engines, and limits for one person."""

from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from portal.accounts import service as accounts
from portal.accounts.models import User
from portal.accounts.rules import Permission
from portal.core.clock import utcnow
from portal.core.errors import Invalid, NotFound
from portal.usage import service
from portal.usage.forms import FilterForm, QuotaForm
from portal.web.app import actor, app_service, db
from portal.web.guard import staff

bp = Blueprint("usage_staff", __name__)
PAGE = 100
DAYS = 14
SHARE_DAYS = 30
HIGHEST_ID = 2**31 - 1


@bp.get("/staff/usage")
@staff(Permission.USAGE_READ)
def index() -> ResponseReturnValue:
    """Plot requests and text tokens by day, and list records, newest first, by person, model and outcome."""
    form, now = FilterForm(request.args), utcnow()
    person = _person(form.read("user"))
    wanted: dict[str, Any] = {"user": person.public_id if person else form.read("user")}
    wanted |= {name: form.read(name) for name in ("model", "outcome")}
    before = request.args.get("before", type=int)
    before_id = min(max(before, 0), HIGHEST_ID) if before is not None else None
    found = service.recent(db(), **wanted, before_id=before_id, limit=PAGE + 1)
    uses = found[:PAGE]
    unknown = bool(form.read("user")) and person is None
    return render_template(
        "usage/staff_index.html", form=form, uses=uses, person=person,
        days=[] if unknown else service.daily(db(), days=DAYS, now=now, user_id=person.id if person else None),
        older=url_for(".index", **wanted, before=uses[-1].record.id) if len(found) > PAGE else None,
        newest=url_for(".index", **wanted) if before_id is not None else None,
    )  # fmt: skip


def _person(name: str) -> User | None:
    if "@" in name:
        return accounts.find_by_email(db(), email=name)
    try:
        return accounts.find(db(), ref=name) if name else None
    except NotFound:
        return None


@bp.get("/staff/engines")
@staff(Permission.USAGE_READ)
def engines() -> ResponseReturnValue:
    """Show how every server does at this moment, and what each lab did in the last month."""
    pool = app_service("inside").engines()
    return render_template(
        "usage/engines.html", pool=pool, days=SHARE_DAYS, shares=service.shares(db(), days=SHARE_DAYS, now=utcnow())
    )


@bp.route("/staff/usage/quota/<ref>", methods=["GET", "POST"])
@staff(Permission.PEOPLE_QUOTA)
def quota(ref: str) -> ResponseReturnValue:
    """Set what one person may use in a day; it holds from the next request."""
    person, now = accounts.find(db(), ref=ref), utcnow()
    limits = service.quota_of(db(), user_id=person.id)
    form = QuotaForm(calls=limits.calls, text_tokens=limits.text_tokens)
    if form.validate_on_submit():
        try:
            service.set_quota(
                db(), user_id=person.id, calls=form.calls.data, text_tokens=form.text_tokens.data, by=actor(), now=now
            )
            return redirect(url_for(".quota", ref=ref), 303)
        except Invalid as error:
            form.take(error)
    used = service.used_today(db(), user_id=person.id, now=now)
    page = render_template("usage/quota.html", form=form, person=person, limits=limits, used=used)
    return page, 422 if form.errors else 200
