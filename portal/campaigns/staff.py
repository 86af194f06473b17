"""The console's pages on which a version is looked ahead to and dated, and of campaigns and whom they ask."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from flask import Blueprint, Response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from portal.accounts.rules import Permission
from portal.campaigns import service
from portal.campaigns.forms import CutOverForm, ExemptForm, ScheduleForm, StepForm
from portal.campaigns.models import Campaign
from portal.campaigns.rules import (
    UNREACHED,
    CampaignAction,
    CampaignKind,
    CampaignState,
    TargetState,
    conditions,
    life,
    second_at,
    unreached_share,
)
from portal.core.clock import stamp, utcnow
from portal.core.errors import Invalid, NotFound
from portal.licensing import service as licensing
from portal.licensing.models import LicenseVersion
from portal.licensing.rules import WEIGHT, Materiality, VersionState
from portal.previews import service as previews
from portal.previews.models import Preview
from portal.previews.rules import Lot
from portal.web.app import actor, db, settings
from portal.web.guard import staff

bp = Blueprint("campaigns", __name__)
HIGHEST_ID = 2**31 - 1
PAGE = 50
LOTS = {
    Lot.MUST_SIGN: "Must sign again", Lot.BEHIND: "Had to sign an earlier version already",
    Lot.CARRIED_OVER: "Carried over: their signature stays good", Lot.SIGNED: "Signed this version already",
    Lot.UNTOUCHED: "Nothing changes for them",
}  # fmt: skip
COME = {
    TargetState.SIGNED: "Signed", TargetState.ACKNOWLEDGED: "Confirmed",
    TargetState.DECLINED: "Declined", TargetState.EXEMPT: "Not counted",
    TargetState.REACHED: "Reached, and not answered yet", TargetState.NOTIFIED: "Told, not seen yet as far as is known",
    TargetState.UNREACHABLE: "Mail comes back", TargetState.WAITING: "Not told yet",
}  # fmt: skip
STEPS = {
    CampaignAction.START: ("Start this campaign?", "Everybody whom it concerns gets a mail today.", "Start it"),
    CampaignAction.PAUSE: ("Pause this campaign?", "No reminder goes out until it is resumed. Dates stay.", "Pause it"),
    CampaignAction.RESUME: ("Resume this campaign?", "Reminders go out again when they are due.", "Resume it"),
    CampaignAction.CUT_OVER: (
        "Cut this campaign over?",
        "Its reminders end for good. Whoever was never reached stays protected: nothing lapses for them before they "
        "were reached and had their time.",
        "Cut it over",
    ),
    CampaignAction.FINISH: (
        "Finish this campaign?",
        "It goes to the record. Nothing changes for anybody.",
        "Finish it",
    ),
    CampaignAction.CANCEL: (
        "Call this campaign off?",
        "Nobody is reminded any more. The version keeps its dates: those are called off by themselves.",
        "Call it off",
    ),
}


def _version(slug: str, number: str) -> LicenseVersion:
    return licensing.find_version(db(), slug=slug, number=number, drafts=True)


def _after() -> int:
    return min(max(request.args.get("after", 0, type=int), 0), HIGHEST_ID)


def _named() -> bool:
    """Say whether the visitor may read names and addresses; public ids are for every editor."""
    return Permission.PEOPLE_READ.value in actor().permissions


def _table(name: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> Response:
    """Return rows as a CSV file; a cell that a spreadsheet would take for a formula is made plain."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(head)
    for row in rows:
        cells = [str(cell) for cell in row]
        writer.writerow([f"'{cell}" if cell[:1] in FORMULA else cell for cell in cells])
    disposition = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    return Response(out.getvalue(), mimetype="text/csv", headers=disposition)


FORMULA = frozenset("=+-@\t\r")


@bp.get("/staff/licenses/<slug>/<number>/campaign")
@staff(Permission.LICENSES_EDIT)
def of_version(slug: str, number: str) -> ResponseReturnValue:
    """Lead to what there is of a version: its campaign, its newest preview, or the page that asks for one."""
    found = _version(slug, number)
    campaign, preview = service.open_campaign(db(), version=found), previews.newest(db(), version=found)
    if campaign is not None and campaign.started_at is not None:
        return redirect(url_for(".campaign", ref=campaign.public_id), 303)
    if preview is not None:
        return redirect(url_for(".preview", ref=preview.public_id), 303)
    return redirect(url_for(".schedule", slug=slug, number=number), 303)


@bp.route("/staff/licenses/<slug>/<number>/schedule", methods=["GET", "POST"])
@staff(Permission.LICENSES_PUBLISH)
def schedule(slug: str, number: str) -> ResponseReturnValue:
    """Take the dates of an approved version and ask for a preview of what they do to whom."""
    found, form, step = _version(slug, number), ScheduleForm(), StepForm()
    dated = found.effective_at
    if step.validate_on_submit() if dated else form.validate_on_submit():
        try:
            weight = found.materiality or Materiality.MATERIAL
            dates = (dated, found.required_by or dated) if dated else form.dates(weight)
            asked = service.ask(
                db(), version=found, effective_at=dates[0], required_by=dates[1], by=actor(), now=utcnow()
            )
            return redirect(url_for(".preview", ref=asked.public_id), 303)
        except Invalid as error:
            form.take(error)
    return render_template("campaigns/schedule.html", version=found, form=form), 422 if form.errors else 200


@bp.get("/staff/previews/<ref>")
@staff(Permission.LICENSES_EDIT)
def preview(ref: str) -> ResponseReturnValue:
    """Show what a version would do: counts first, each leading to the people; while it runs, how far it is."""
    found = previews.find(db(), ref=ref)
    page = render_template("campaigns/preview.html", lots=LOTS, **_seen(found))
    if found.done_at is None:
        return page, 200, {"Refresh": "3"}
    return page


def _seen(found: Preview) -> dict[str, Any]:
    version, result = found.version, found.result or {}
    campaign = service.open_campaign(db(), version=version)
    days = [(datetime.fromisoformat(at), count) for at, count in result.get("people", [])]
    stops = [(datetime.fromisoformat(at), count) for at, count in result.get("tokens", [])]
    waits = campaign is not None and campaign.started_at is None
    return {
        "preview": found, "version": version, "result": result, "days": days, "stops": stops, "campaign": campaign,
        "again": WEIGHT[version.materiality or Materiality.MATERIAL] >= WEIGHT[Materiality.MATERIAL],
        "looked": found.people if found.done_at else previews.progress(db(), preview=found),
        "can_schedule": version.state is VersionState.APPROVED or waits,
        "may_publish": Permission.LICENSES_PUBLISH.value in actor().permissions,
    }  # fmt: skip


@bp.route("/staff/previews/<ref>/schedule", methods=["GET", "POST"])
@staff(Permission.LICENSES_PUBLISH)
def confirm(ref: str) -> ResponseReturnValue:
    """Set the dates of a version as they were looked ahead to, and start asking its signers."""
    found, form = previews.find(db(), ref=ref), StepForm()
    if form.validate_on_submit():
        try:
            version = service.schedule(db(), ref=ref, by=actor(), now=utcnow(), base_url=settings().base_url)
            return redirect(url_for("publishing.version", slug=version.license.slug, number=version.number), 303)
        except Invalid as error:
            form.take(error)
    return render_template("campaigns/confirm.html", form=form, **_seen(found)), 422 if form.form_errors else 200


@bp.get("/staff/previews/<ref>/people")
@staff(Permission.LICENSES_EDIT)
def preview_people(ref: str) -> ResponseReturnValue:
    """List the people of a preview, by what it means for them."""
    found, lot, lost = previews.find(db(), ref=ref), _lot(), request.args.get("lot") == "no_address"
    rows = previews.people(db(), preview=found, lot=lot, lost=lost, after_id=_after(), limit=PAGE + 1)
    return render_template(
        "campaigns/preview_people.html", preview=found, version=found.version, rows=rows[:PAGE], lots=LOTS,
        chosen=request.args.get("lot", ""), more=rows[PAGE - 1].user_id if len(rows) > PAGE else None, named=_named(),
        after=_after(),
    )  # fmt: skip


@bp.get("/staff/previews/<ref>/people.csv")
@staff(Permission.LICENSES_EDIT)
def preview_people_csv(ref: str) -> ResponseReturnValue:
    """Give the same list as a file."""
    found, lot, lost = previews.find(db(), ref=ref), _lot(), request.args.get("lot") == "no_address"
    rows, named = previews.people(db(), preview=found, lot=lot, lost=lost), _named()
    head = ["public_id", "means", "has_address", "stops_at", *(["name", "email"] if named else [])]
    return _table(
        f"preview-{ref}", head,
        (
            (r.ref, r.lot.value, r.reachable, stamp(r.stops_at) if r.stops_at else "", *((r.name, r.email) * named))
            for r in rows
        ),
    )  # fmt: skip


def _lot() -> Lot | None:
    wanted = request.args.get("lot", "")
    return Lot(wanted) if wanted in set(Lot) else None


@bp.get("/staff/previews/<ref>/tokens")
@staff(Permission.LICENSES_EDIT)
def preview_tokens(ref: str) -> ResponseReturnValue:
    """List the access tokens that open less from a day on."""
    found = previews.find(db(), ref=ref)
    rows = previews.stops(db(), preview=found, after_id=_after(), limit=PAGE + 1)
    more = rows[PAGE - 1].token_id if len(rows) > PAGE else None
    return render_template(
        "campaigns/preview_tokens.html", preview=found, version=found.version, rows=rows[:PAGE], more=more,
        after=_after(),
    )  # fmt: skip


@bp.get("/staff/previews/<ref>/tokens.csv")
@staff(Permission.LICENSES_EDIT)
def preview_tokens_csv(ref: str) -> ResponseReturnValue:
    """Give the same list as a file."""
    rows = previews.stops(db(), preview=previews.find(db(), ref=ref))
    head = ("access_token", "name", "ends_in", "owner", "stops_at")
    return _table(f"tokens-{ref}", head, ((r.ref, r.name, r.last4, r.owner, stamp(r.stops_at)) for r in rows))


@bp.get("/staff/campaigns")
@staff(Permission.LICENSES_EDIT)
def index() -> ResponseReturnValue:
    """List campaigns, newest first."""
    rows = [(row, service.subject_of(row), service.answer_by(row)) for row in service.campaigns(db())]
    may_publish = Permission.LICENSES_PUBLISH.value in actor().permissions
    return render_template("campaigns/index.html", campaigns=rows, may_publish=may_publish)


@bp.get("/staff/campaigns/<ref>")
@staff(Permission.LICENSES_EDIT)
def campaign(ref: str) -> ResponseReturnValue:
    """Show how far a campaign has come, what is due next, and what a cut-over waits for."""
    return _campaign(service.find(db(), ref=ref), ExemptForm())


def _come(found: Campaign) -> dict[TargetState, str]:
    """Return what the people of a campaign can have come to, in words."""
    signs = found.kind is CampaignKind.RE_SIGN
    other = {TargetState.ACKNOWLEDGED} if signs else {TargetState.SIGNED, TargetState.DECLINED}
    return {state: words for state, words in COME.items() if state not in other}


def _campaign(found: Campaign, form: ExemptForm) -> ResponseReturnValue:
    started, due, now = found.started_at, service.answer_by(found), utcnow()
    seen: dict[str, Any] = {"states": {}, "checks": [], "ready": False}
    if found.version is not None:
        limit = settings().campaign_unreached_limit
        facts = service.cut_over_facts(db(), campaign=found, limit=limit, now=now)
        checks, due = conditions(facts, now), facts.required_by
        ready = found.state is CampaignState.RUNNING and all(c.met for c in checks)
        seen = {"states": facts.states, "checks": checks, "ready": ready, "limit": limit}
    elif started is None:
        seen["planned"] = len(service.concerned(db(), campaign=found))
    else:
        seen["states"] = Counter(service.states(db(), campaign=found).values())
    states = seen["states"]
    page = render_template(
        "campaigns/campaign.html", campaign=found, name=service.subject_of(found), come=_come(found), form=form,
        uses=sorted(service.purposes_of(db(), campaign=found)),
        unreached=sum(states.get(state, 0) for state in UNREACHED), share=unreached_share(states),
        due=due, total=sum(states.values()), second=second_at(started, due) if started and due else None,
        steps=[(action, words) for action, words in STEPS.items() if _may_be_taken(found, action)],
        may_publish=Permission.LICENSES_PUBLISH.value in actor().permissions, **seen,
    )  # fmt: skip
    return page, 422 if form.errors or form.form_errors else 200


def _may_be_taken(found: Campaign, action: CampaignAction) -> bool:
    """Say whether staff take a step here: what asks to sign starts with the date of its version."""
    starts = action is CampaignAction.START and found.kind is CampaignKind.RE_SIGN
    return life(found.kind).can(found.state, action) and not starts


@bp.get("/staff/campaigns/<ref>/people")
@staff(Permission.LICENSES_EDIT)
def people(ref: str) -> ResponseReturnValue:
    """List whom a campaign asks, by how far they have come."""
    found, chosen = service.find(db(), ref=ref), request.args.get("state", "")
    rows = service.targets(db(), campaign=found, wanted=_wanted(), after_id=_after(), limit=PAGE + 1)
    more = rows[PAGE - 1].user_id if len(rows) > PAGE else None
    return render_template(
        "campaigns/people.html", campaign=found, name=service.subject_of(found), rows=rows[:PAGE], more=more,
        named=_named(), come=_come(found), chosen=chosen, after=_after(),
    )  # fmt: skip


@bp.get("/staff/campaigns/<ref>/people.csv")
@staff(Permission.LICENSES_EDIT)
def people_csv(ref: str) -> ResponseReturnValue:
    """Give the same list as a file."""
    rows, named = service.targets(db(), campaign=service.find(db(), ref=ref), wanted=_wanted()), _named()
    head = ["public_id", "state", *(["name", "email"] if named else [])]
    return _table(f"campaign-{ref}", head, ((r.ref, r.state.value, *((r.name, r.email) * named)) for r in rows))


def _wanted() -> frozenset[TargetState]:
    chosen = request.args.get("state", "")
    if chosen == "unreached":
        return UNREACHED
    return frozenset({TargetState(chosen)} if chosen in set(TargetState) else ())


@bp.route("/staff/campaigns/<ref>/step/<step>", methods=["GET", "POST"])
@staff(Permission.LICENSES_PUBLISH)
def step(ref: str, step: str) -> ResponseReturnValue:
    """Ask whether a step of a campaign is meant, and take it once it is."""
    found, form = service.find(db(), ref=ref), CutOverForm()
    if step not in {action.value for action in STEPS}:
        raise NotFound("step_not_found", "A campaign has no such step.")
    action = CampaignAction(step)
    cuts = action is CampaignAction.CUT_OVER and found.version is not None
    form.offer(previews.pins(db(), version=found.version) if cuts and found.version is not None else [])
    if form.validate_on_submit():
        service.move(
            db(), ref=ref, action=action, by=actor(), now=utcnow(), limit=settings().campaign_unreached_limit,
            follow=form.follow.data or [],
        )  # fmt: skip
        return redirect(url_for(".campaign", ref=ref), 303)
    title, sentence, button = STEPS[action]
    page = render_template(
        "campaigns/step.html", campaign=found, title=title, sentence=sentence, button=button, form=form
    )
    return page, 422 if form.errors else 200


@bp.post("/staff/campaigns/<ref>/exempt")
@staff(Permission.LICENSES_PUBLISH)
def exempt(ref: str) -> ResponseReturnValue:
    """Take somebody who cannot be reached off the count of a campaign."""
    form = ExemptForm()
    if form.validate_on_submit():
        try:
            service.exempt(
                db(), ref=ref, person=form.read("person"), reason=form.read("reason"), by=actor(), now=utcnow()
            )
            return redirect(url_for(".campaign", ref=ref) + "#unreached", 303)
        except (Invalid, NotFound) as error:
            if error.code == "campaign_not_found":
                raise
            form.take(error)
    return _campaign(service.find(db(), ref=ref), form)
