"""The console's pages of detection rules: writing one, trying it on past use, and each step until it enforces."""

from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from wtforms.fields.choices import SelectChoice

from portal.accounts import service as accounts
from portal.accounts.rules import Permission, reason_of
from portal.backtests import service as backtests
from portal.banks import service as banks
from portal.core.clock import utcnow
from portal.core.errors import Invalid, NotFound
from portal.detection import service as detection
from portal.detection.models import DetectionRule
from portal.detection.rules import OUTCOME_WORDS, RULE, Mode, Move
from portal.exemptions import service as exemptions
from portal.exemptions.rules import PURPOSE_WORDS
from portal.features.rules import FEATURES
from portal.licensing import service as licensing
from portal.rulebook import service
from portal.rulebook.forms import BacktestForm, RuleForm, StepForm
from portal.web.app import actor, db
from portal.web.guard import check_fresh, staff

bp = Blueprint("rulebook", __name__)
STEPS = {
    Move.SHADOW: ("Watch in shadow", "It looks at every use and does nothing. After 24 hours it may flag."),
    Move.FLAG: ("Only flag", "Staff look at what it hits; nobody is warned, slowed or refused."),
    Move.ENFORCE: ("Enforce", "What it leads to happens from the next request on."),
    Move.RETIRE: ("Retire", "It looks at nothing any more, for good. Its hits and its history stay."),
}


@bp.get("/staff/rules")
@staff(Permission.RULES_EDIT)
def index() -> ResponseReturnValue:
    """List the rules with how far each has come."""
    rows = [(row, detection.braked(db(), rule=row)) for row in service.listed(db())]
    return render_template("rulebook/index.html", rows=rows, outcomes=OUTCOME_WORDS, now=utcnow())


@bp.route("/staff/rules/write", methods=["GET", "POST"])
@staff(Permission.RULES_EDIT)
def write() -> ResponseReturnValue:
    """Write a rule, or the next version of one."""
    form = _form()
    if form.validate_on_submit():
        try:
            known, measure = service.measuring(db())
            row = service.write(db(), draft=form.draft(), banks=known, measure=measure, by=actor(), now=utcnow())
            return redirect(url_for(".rule", ref=row.public_id), 303)
        except Invalid as error:
            form.take(error)
    elif request.method == "GET" and (ref := request.args.get("from", "")):
        form.fill(service.draft_of(detection.find(db(), ref=ref)))
    page = render_template("rulebook/write.html", form=form, features=FEATURES.values(), banks=banks.names(db()))
    return page, 422 if form.errors or form.form_errors else 200


def _form() -> RuleForm:
    form, licenses = RuleForm(), licensing.licenses(db())
    form.license.choices = [SelectChoice(row.slug, row.title) for row, _ in licenses]
    known = {key: key for row, _ in licenses for key in exemptions.citable(db(), license_slug=row.slug)}
    form.clauses.choices = [SelectChoice(key, key) for key in sorted(known)]
    people = [user for user in service.editors(db(), now=utcnow()) if user.public_id != actor().public_id]
    form.reviewer.choices = [SelectChoice("", "Nobody"), *(SelectChoice(u.public_id, u.profile.name) for u in people)]
    return form


@bp.get("/staff/rules/<ref>")
@staff(Permission.RULES_EDIT)
def rule(ref: str) -> ResponseReturnValue:
    """Show all that a version of a rule says, what it was tried on, how it stands, and what can be done with it."""
    return _rule(detection.find(db(), ref=ref), BacktestForm())


def _rule(found: DetectionRule, form: BacktestForm) -> ResponseReturnValue:
    tests, history = backtests.of_rule(db(), rule=found), service.history(db(), slug=found.slug)
    proposal = service.open_proposal(db(), rule=found, now=utcnow())
    people = {found.owner, found.reviewer, found.written_by, *(step.move.by for step in history)}
    page = render_template(
        "rulebook/rule.html", rule=found, form=form,
        tests=[(test, backtests.progress(db(), backtest=test)) for test in tests],
        history=history, proposal=proposal, reason=reason_of(proposal.payload) if proposal else "",
        own=proposal is not None and proposal.proposed_by == actor().public_id,
        braked=detection.braked(db(), rule=found),
        reach=detection.reach(db(), rule=found, now=utcnow()) if found.mode is Mode.ENFORCING else None,
        versions=service.versions(db(), slug=found.slug), names=accounts.names(db(), refs=people), now=utcnow(),
        twins=service.twins(db(), rule=found), outcomes=OUTCOME_WORDS, purposes=PURPOSE_WORDS,
        steps=[(action, *words) for action, words in STEPS.items() if RULE.can(found.mode, action)],
    )  # fmt: skip
    return page, 422 if form.errors or form.form_errors else 200


@bp.post("/staff/rules/<ref>/backtest")
@staff(Permission.RULES_EDIT)
def try_out(ref: str) -> ResponseReturnValue:
    """Try a version of a rule on past use."""
    found, form = detection.find(db(), ref=ref), BacktestForm()
    if form.validate_on_submit():
        try:
            test = backtests.ask(db(), rule=found, days=form.read_days(), by=actor(), now=utcnow())
            return redirect(url_for(".backtest", ref=test.public_id), 303)
        except Invalid as error:
            form.take(error)
    return _rule(found, form)


@bp.get("/staff/backtests/<ref>")
@staff(Permission.RULES_EDIT)
def backtest(ref: str) -> ResponseReturnValue:
    """Show what a rule would have done; while it is tried, how far that is."""
    found = backtests.find(db(), ref=ref)
    page = render_template("rulebook/backtest.html", test=found, looked=backtests.progress(db(), backtest=found),
                           result=found.result or {}, records=backtests.sampled(db(), backtest=found))  # fmt: skip
    return (page, 200, {"Refresh": "3"}) if found.done_at is None else page


@bp.route("/staff/rules/<ref>/step/<move>", methods=["GET", "POST"])
@staff(Permission.RULES_EDIT)
def step(ref: str, move: str) -> ResponseReturnValue:
    """Ask whether a step is meant, and take it, propose it, or confirm what somebody else proposed."""
    found, form = detection.find(db(), ref=ref), StepForm()
    if move not in {action.value for action in STEPS}:
        raise NotFound("step_not_found", "A detection rule has no such step.")
    action = Move(move)
    if form.validate_on_submit():
        try:
            _take(found, action, form)
            return redirect(url_for(".rule", ref=ref), 303)
        except Invalid as error:
            form.take(error)
    title, sentence = STEPS[action]
    proposal = service.open_proposal(db(), rule=found, now=utcnow()) if action is Move.ENFORCE else None
    page = render_template(
        "rulebook/step.html", rule=found, form=form, title=title, sentence=sentence, proposal=proposal,
        two=action is Move.ENFORCE and service.needs_two(found), reason=reason_of(proposal.payload) if proposal else "",
        own=proposal is not None and proposal.proposed_by == actor().public_id, outcomes=OUTCOME_WORDS,
        names=accounts.names(db(), refs=[proposal.proposed_by] if proposal else ()),
    )  # fmt: skip
    return page, 422 if form.errors or form.form_errors else 200


def _take(found: DetectionRule, action: Move, form: StepForm) -> None:
    given: dict[str, Any] = {"ref": found.public_id, "by": actor(), "now": utcnow()}
    if action is Move.ENFORCE and service.needs_two(found):
        check_fresh(actor(), given["now"])
    if action is not Move.ENFORCE or not service.needs_two(found):
        service.step(db(), action=action, reason=form.read("reason"), **given)
    elif digest := form.read("payload_sha256"):
        service.confirm(db(), payload_sha256=digest, **given)
    else:
        service.propose(db(), reason=form.read("reason"), **given)
