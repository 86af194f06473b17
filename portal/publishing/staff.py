"""The console's pages of a license version: look at it, review, approve, date, call off and retire it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from portal.accounts import service as accounts
from portal.accounts.rules import TWO, Permission, reason_of
from portal.clauses import service as clauses
from portal.clauses.rules import Relation, side_by_side
from portal.core.clock import utcnow
from portal.core.errors import Conflict, Invalid
from portal.drafting import service as drafting
from portal.licensing import service as licensing
from portal.licensing.models import LicenseVersion
from portal.licensing.rules import MADE, WEIGHT, Materiality, VersionState, state_at
from portal.publishing import service
from portal.publishing.forms import CommentForm, MoveForm, ReasonForm, VoteForm
from portal.web.app import actor, app_service, db, settings
from portal.web.guard import staff

bp = Blueprint("publishing", __name__)


@dataclass(frozen=True)
class Waiting:
    """A proposal as a page shows it: what it is about, and whether the visitor may confirm it."""

    ref: str
    reason: str
    proposed_by: str
    expires_at: Any
    payload_sha256: str
    own: bool


def _find(slug: str, number: str) -> LicenseVersion:
    return licensing.find_version(db(), slug=slug, number=number, drafts=True)


def _back(slug: str, number: str) -> ResponseReturnValue:
    return redirect(url_for(".version", slug=slug, number=number), 303)


def _waiting(version: LicenseVersion, action: str) -> Waiting | None:
    found = service.proposal(db(), version=version, action=action, now=utcnow())
    if found is None:
        return None
    reason = reason_of(found.payload)
    own = found.proposed_by == actor().public_id
    return Waiting(found.public_id, reason, found.proposed_by, found.expires_at, found.payload_sha256, own)


def _enough() -> bool:
    return len(accounts.able(db(), permission=Permission.LICENSES_PUBLISH, now=utcnow())) >= TWO


@bp.get("/staff/licenses/<slug>/<number>")
@staff(Permission.LICENSES_EDIT)
def version(slug: str, number: str) -> ResponseReturnValue:
    """Show a version as its signers will see it against the one before, what is missing, and what may be done."""
    found = _find(slug, number)
    return render_template("publishing/version.html", comment=_comment_form(found), **_facts(found))


def _comment_form(version: LicenseVersion) -> CommentForm:
    form, shown = CommentForm(), licensing.rendition(version, request.args.get("lang", ""))
    parts = clauses.parts_of(db(), sha256=shown.text_sha256)
    form.offer([(part.key, f"{part.label} {part.title}") for part in parts])
    return form


def _facts(found: LicenseVersion) -> dict[str, Any]:
    shown = licensing.rendition(found, request.args.get("lang", ""))
    deltas, suggested = [], []
    if found.predecessor_id is not None:
        before = db().get_one(LicenseVersion, found.predecessor_id)
        deltas = licensing.difference(db(), old=before, new=found, language=shown.language)
        earlier = licensing.counterpart(before, shown)
        if found.state in {VersionState.DRAFT, VersionState.IN_REVIEW} and earlier.language == shown.language:
            suggested = clauses.suggestions(db(), from_sha256=earlier.text_sha256, to_sha256=shown.text_sha256)
    missing = ""
    try:
        drafting.check_ready(db(), version=found)
    except Invalid as error:
        missing = error.message
    published = licensing.versions_for(db(), license_ids=[found.license_id]).get(found.license_id, [])
    authors, comments = sorted(drafting.authors_of(db(), version=found)), licensing.comments_on(db(), version=found)
    people = [*authors, found.approved_by or "", *(row.by for row in comments)]
    state = found.state if found.effective_at is None else state_at(published, found.id, utcnow())
    return {
        "version": found, "shown": shown, "rows": side_by_side(deltas), "missing": missing, "state": state.value,
        "affected": len(licensing.affected(db(), version=found)), "floor": drafting.floor(db(), version=found),
        "changed": sum(d.relation is not Relation.SAME for d in deltas), "can_now": _can_now(found),
        "suggested": suggested, "unvoted": _unvoted(found) if found.state in MADE else "",
        "look": licensing.second_look(db(), version=found),
        "comments": comments, "vote": licensing.resolution_of(db(), version=found),
        "now_waiting": _waiting(found, service.NOW), "lower_waiting": _waiting(found, service.LOWER),
        "authors": authors, "enough": _enough(), "names": accounts.names(db(), refs=people),
        "may_publish": Permission.LICENSES_PUBLISH.value in actor().permissions,
    }  # fmt: skip


def _unvoted(version: LicenseVersion) -> str:
    """Return why a version cannot be approved for want of a vote; empty where it needs none or has it."""
    try:
        service.check_voted(db(), version=version)
    except Conflict as error:
        return error.message
    return ""


def _can_now(version: LicenseVersion) -> bool:
    return version.predecessor_id is None or version.materiality is Materiality.MATERIAL_IMMEDIATE


@bp.post("/staff/licenses/<slug>/<number>/comments")
@staff(Permission.LICENSES_EDIT)
def comment(slug: str, number: str) -> ResponseReturnValue:
    """Keep a remark on a version."""
    found = _find(slug, number)
    form, language = _comment_form(found), request.args.get("lang", "")
    if form.validate_on_submit():
        try:
            licensing.comment(
                db(), version=found, words=form.read("words"), language=language, key=form.read("key"), by=actor(),
                now=utcnow(),
            )  # fmt: skip
            return redirect(url_for(".version", slug=slug, number=number, lang=language or None) + "#comments", 303)
        except Invalid as error:
            form.take(error)
    return render_template("publishing/version.html", comment=form, **_facts(found)), 422


def _ask(
    slug: str, number: str, do: Callable[[], Any], *, title: str, sentence: str, button: str
) -> ResponseReturnValue:
    """Ask whether a move is meant, and make it once it is."""
    found, form = _find(slug, number), MoveForm()
    if form.validate_on_submit():
        try:
            do()
            return _back(slug, number)
        except Invalid as error:
            form.take(error)
    page = render_template(
        "publishing/ask.html", version=found, form=form, title=title, sentence=sentence, button=button
    )
    return page, 422 if form.errors or form.form_errors else 200


@bp.route("/staff/licenses/<slug>/<number>/submit", methods=["GET", "POST"])
@staff(Permission.LICENSES_EDIT)
def submit(slug: str, number: str) -> ResponseReturnValue:
    """Hand a draft in for review."""
    drafting.find_draft(db(), slug=slug, number=number)

    def do() -> None:
        service.submit(db(), slug=slug, number=number, by=actor(), now=utcnow())

    sentence = f"Nobody edits version {number} while it is in review. Somebody who had no hand in it approves it."
    title = f"Submit version {number} for review?"
    return _ask(slug, number, do, title=title, sentence=sentence, button="Submit it")


@bp.route("/staff/licenses/<slug>/<number>/return", methods=["GET", "POST"])
@staff(Permission.LICENSES_EDIT)
def request_changes(slug: str, number: str) -> ResponseReturnValue:
    """Give a version in review back to its editors, saying what to change."""
    found, form = _find(slug, number), CommentForm()
    if form.validate_on_submit():
        try:
            service.request_changes(
                db(), slug=slug, number=number, words=form.read("words"), by=actor(), now=utcnow()
            )  # fmt: skip
            return _back(slug, number)
        except Invalid as error:
            form.take(error)
    return render_template("publishing/return.html", version=found, form=form), 422 if form.errors else 200


@bp.route("/staff/licenses/<slug>/<number>/approve", methods=["GET", "POST"])
@staff(Permission.LICENSES_PUBLISH, fresh=True)
def approve(slug: str, number: str) -> ResponseReturnValue:
    """Approve a version; below the weight of its clause changes one person proposes that and another confirms."""
    found, form, floor = _find(slug, number), ReasonForm(), drafting.floor(db(), version=_find(slug, number))
    below = WEIGHT[found.materiality or floor] < WEIGHT[floor]
    if form.validate_on_submit():
        given: dict[str, Any] = {"slug": slug, "number": number, "by": actor(), "now": utcnow()}
        try:
            if not below:
                service.approve(db(), shown_sha256=form.read("shown_sha256"), **given)
            elif form.read("payload_sha256"):
                service.approve_lower(db(), payload_sha256=form.read("payload_sha256"), **given)
            else:
                service.propose_lower(db(), reason=form.read("reason"), **given)
            return _back(slug, number)
        except Invalid as error:
            form.take(error)
    page = render_template(
        "publishing/approve.html", version=found, form=form, floor=floor, below=below, enough=_enough(),
        waiting=_waiting(found, service.LOWER) if below else None, shown_sha256=licensing.shown(db(), version=found),
        unvoted=_unvoted(found),
    )  # fmt: skip
    return page, 422 if form.errors else 200


@bp.route("/staff/licenses/<slug>/<number>/publish-now", methods=["GET", "POST"])
@staff(Permission.LICENSES_PUBLISH, fresh=True)
def publish_now(slug: str, number: str) -> ResponseReturnValue:
    """Propose, or confirm as a second person, that an approved version is in force at once."""
    found, form = _find(slug, number), ReasonForm()
    if form.validate_on_submit():
        given: dict[str, Any] = {"slug": slug, "number": number, "by": actor(), "now": utcnow()}
        digest = form.read("payload_sha256")
        try:
            if digest:
                service.publish_now(db(), payload_sha256=digest, base_url=settings().base_url, **given)
            else:
                service.propose_now(db(), reason=form.read("reason"), **given)
            return _back(slug, number)
        except Invalid as error:
            form.take(error)
    page = render_template(
        "publishing/now.html", version=found, form=form, enough=_enough(), waiting=_waiting(found, service.NOW),
        affected=len(licensing.affected(db(), version=found)), possible=_can_now(found),
    )  # fmt: skip
    return page, 422 if form.errors else 200


@bp.route("/staff/licenses/<slug>/<number>/cancel", methods=["GET", "POST"])
@staff(Permission.LICENSES_PUBLISH)
def cancel(slug: str, number: str) -> ResponseReturnValue:
    """Call off the date of a scheduled version."""

    def do() -> None:
        service.cancel(db(), slug=slug, number=number, by=actor(), now=utcnow(), base_url=settings().base_url)

    sentence = f"Version {number} then has no date. Everyone who was told of it is told that it is called off."
    title = f"Call off version {number}?"
    return _ask(slug, number, do, title=title, sentence=sentence, button="Call it off")


@bp.route("/staff/licenses/<slug>/<number>/retire", methods=["GET", "POST"])
@staff(Permission.LICENSES_PUBLISH, fresh=True)
def retire(slug: str, number: str) -> ResponseReturnValue:
    """Take a version out of use for good."""
    found = _find(slug, number)

    def do() -> None:
        asked = app_service("license_asked_for")(db(), slug=slug, number=number)
        service.retire(db(), slug=slug, number=number, still_asked=asked, by=actor(), now=utcnow())

    bound = found.state is not VersionState.APPROVED
    words = "It stays readable, and signatures of it stay true." if bound else "It never bound anybody."
    sentence = f"Version {number} is then out of use for good. {words}"
    title = f"Retire version {number}?"
    return _ask(slug, number, do, title=title, sentence=sentence, button="Retire it")


@bp.route("/staff/licenses/<slug>/<number>/resolution", methods=["GET", "POST"])
@staff(Permission.LICENSES_PUBLISH)
def resolution(slug: str, number: str) -> ResponseReturnValue:
    """Record the vote by which a body of the licensor stands behind a version."""
    found, form = _find(slug, number), VoteForm()
    if form.validate_on_submit():
        try:
            licensing.resolve(db(), version=found, vote=form.vote(), by=actor(), now=utcnow())
            return _back(slug, number)
        except Invalid as error:
            form.take(error)
    page = render_template(
        "publishing/resolution.html", version=found, form=form, shown_sha256=licensing.shown(db(), version=found)
    )
    return page, 422 if form.errors else 200
