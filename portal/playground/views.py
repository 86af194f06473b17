"""The playground: a page for each model that people here may try, in which it continues a text."""

from typing import Any

from flask import Blueprint, Response, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from portal.access import service as access
from portal.access.rules import Action
from portal.access.views import checklist, listed
from portal.catalog import service as catalog
from portal.catalog.models import GatedModel
from portal.core.clock import utcnow
from portal.playground.forms import PlaygroundForm
from portal.playground.rules import PRESETS, disclosure, preset_of
from portal.usage import service as usage
from portal.usage.rules import BYTES_PER_TOKEN, estimated_tokens
from portal.web.app import actor, app_service, db, request_id, settings
from portal.web.guard import member
from portal.web.headers import allow_script

bp = Blueprint("playground", __name__)
SCRIPT = "playground.js"


@bp.get("/playground")
@member
def index() -> ResponseReturnValue:
    """List the models that can be tried here; where there is but one, go there."""
    rows, pages = listed(action=Action.INFER, released=True)
    if len(rows) == 1 and not (pages.words or pages.earlier):
        return redirect(url_for(".play", namespace=rows[0][0].namespace, name=rows[0][0].name), 303)
    return render_template("playground/index.html", rows=rows, pages=pages)


@bp.route("/playground/<namespace>/<name>", methods=["GET", "POST"])
@member(writes=False)  # the gate keeps the record; a write lock would be held while the model writes
def play(namespace: str, name: str) -> ResponseReturnValue:
    """Continue a text in the page: decided, counted and recorded as any other request."""
    found, form = _called(namespace, name), PlaygroundForm()
    if request.method != "POST":
        preset = preset_of(request.args.get("preset", ""))
        if preset is not None:
            form.begin_with(preset)
        return _page(found, form)
    if not form.validate():
        return _page(found, form, status=422)
    inside = app_service("inside")
    result = inside.complete(actor(), model=found.full_name, request_id=request_id(), **form.asked)
    return _page(found, form, result=result, status=result.status)


@bp.post("/playground/<namespace>/<name>/stream")
@member(writes=False)
def stream(namespace: str, name: str) -> ResponseReturnValue:
    """Continue a text as it is written: what was checked here is handed on to the data plane, which answers."""
    found, form = _called(namespace, name), PlaygroundForm()
    if not form.validate():
        return _page(found, form, status=422)
    inside = app_service("inside")
    fields, body = inside.streamed(actor(), model=found.full_name, request_id=request_id(), **form.asked)
    return Response(body, headers=fields, mimetype="application/json")


def _called(namespace: str, name: str) -> GatedModel:
    return catalog.find_model(db(), full_name=f"{namespace}/{name}")


def _page(found: GatedModel, form: PlaygroundForm, *, result: Any = None, status: int = 200) -> Response:
    now, model = utcnow(), found.full_name
    outlook = app_service("inside").outlook(actor(), model=model, request_id=request_id())
    used = outlook.used if outlook else usage.used_today(db(), user_id=actor().id, now=now)
    decision = access.check(
        db(), actor=actor(), model=model, action=Action.INFER, now=now, base_url=settings().base_url, used=used
    )
    most = estimated_tokens(form.prompt.data or "") + (form.max_tokens.data or 0)
    page = render_template(
        "playground/play.html", model=found, form=form, result=result, presets=PRESETS, used=used,
        limits=usage.limits_for(db(), user_id=actor().id, now=now), items=checklist(decision),
        allowed=decision.allowed, answers=outlook is not None and outlook.answers, disclosure=disclosure(model),
        bytes_per_token=BYTES_PER_TOKEN, estimate=most,
    )  # fmt: skip
    return allow_script(make_response(page, status), SCRIPT, calls=True)
