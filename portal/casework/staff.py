"""Pages on which staff work through a case: look at everything, decide, confirm, answer appeals and reverse."""

from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from portal.accounts.models import User
from portal.accounts.rules import Permission
from portal.appeals.rules import AppealOutcome
from portal.batches import service as batches
from portal.batches.rules import body_of, needs_two, people_of, seal
from portal.cases import service as cases
from portal.cases.models import Case
from portal.cases.rules import LinkKind
from portal.casework import service
from portal.casework.forms import AnswerForm, BulkForm, ConfirmForm, DecideForm, QuestionForm, ReinstateForm, midnight
from portal.catalog import service as catalog
from portal.core.clock import utcnow
from portal.core.errors import Conflict, Invalid
from portal.interims import service as interims
from portal.moderation import rules
from portal.moderation import service as moderation
from portal.redress import service as redress
from portal.sanctions.rules import LEFT_BEHIND
from portal.seconding import service as seconding
from portal.statements import service as statements
from portal.tokens import service as tokens
from portal.web.app import actor, db, settings
from portal.web.guard import check_fresh, staff

bp = Blueprint("casework_staff", __name__)


@bp.get("/staff/cases/<ref>")
@staff(Permission.APPEALS_DECIDE)
def case(ref: str) -> ResponseReturnValue:
    """Show everything about a case and the person it is about, with what each step leaves behind."""
    return _page(ref, AnswerForm(formdata=None), QuestionForm(formdata=None))


def _page(ref: str, answer: AnswerForm, question: QuestionForm) -> str:
    now, base_url = utcnow(), settings().base_url
    seen = service.overview(db(), ref=ref, by=actor(), now=now)
    cited = {
        p.decision.public_id: moderation.cited(db(), decision=p.decision, base_url=base_url) for p in seen.past
    }  # fmt: skip
    return render_template(
        "casework/case.html", seen=seen, case=seen.case, cited=cited, answer=answer, question=question, now=now,
        left_behind=LEFT_BEHIND,
    )  # fmt: skip


@bp.route("/staff/cases/bulk", methods=["GET", "POST"])
@staff(Permission.PEOPLE_SANCTION, fresh=True)
def bulk() -> ResponseReturnValue:
    """Take one decision about several people, show what it does to each, and take it once that is confirmed."""
    form = BulkForm()
    if request.method == "GET" and (ref := request.args.get("case", "")):
        _about_all(form, ref)
    models = [model for model, _, _ in catalog.all_models(db())]
    form.offer(statements.restrictions_now(db(), now=utcnow()), models, [])
    if form.validate_on_submit():
        try:
            return _bulk(form)
        except Invalid as error:
            form.take(error)
    return render_template("casework/bulk.html", form=form), 422 if form.errors or form.form_errors else 200


def _about_all(form: BulkForm, ref: str) -> None:
    """Begin with the people and the clauses of a case about several."""
    found = cases.find(db(), ref=ref)
    form.case.data = found.public_id
    form.people.data = "\n".join(cases.refs(db(), case=found, kind=LinkKind.SUBJECT))
    form.clause.data = cases.refs(db(), case=found, kind=LinkKind.CLAUSE)


def _bulk(form: BulkForm) -> ResponseReturnValue:
    refs, order, now, base_url = people_of(form.read("people")), form.order(), utcnow(), settings().base_url
    given: dict[str, Any] = {"by": actor(), "refs": refs, "order": order, "base_url": base_url, "now": now}
    if form.read("confirmed"):
        batch = batches.make(db(), **given, shown_sha256=form.read("batch_sha256"), case_ref=form.read("case"))
        return redirect(f"/staff/batches/{batch.public_id}", 303)
    outcomes = batches.look(db(), **given)
    sha256 = seal(body_of(rules.payload(order, person="", state=()), outcomes))
    good = sum(not outcome.problem for outcome in outcomes)
    return render_template(
        "casework/bulk_preview.html", form=form, outcomes=outcomes, sha256=sha256, good=good, two=needs_two(good)
    )


@bp.post("/staff/people/<ref>/case")
@staff(Permission.PEOPLE_SANCTION)
def open_case(ref: str) -> ResponseReturnValue:
    """Open a case on a person, and hold it."""
    person = moderation.person_to_judge(db(), by=actor(), ref=ref, now=utcnow())
    opened = moderation.open_on(db(), user=person, by=actor(), now=utcnow())
    return redirect(url_for(".case", ref=opened.public_id), 303)


@bp.route("/staff/cases/<ref>/decide", methods=["GET", "POST"])
@staff(Permission.PEOPLE_SANCTION)
def decide(ref: str) -> ResponseReturnValue:
    """Take a finding and what follows, show the notice word for word, and decide once that is confirmed."""
    found, form = cases.find(db(), ref=ref), DecideForm()
    person = moderation.concerned(db(), case=found) if found.user_id is not None else None
    _offer(form, person)
    if form.validate_on_submit():
        try:
            return _decide(found, person, form)
        except Invalid as error:
            form.take(error)
    page = render_template("casework/decide.html", case=found, person=person, form=form)
    return page, 422 if form.errors or form.form_errors else 200


def _offer(form: DecideForm, person: User | None) -> None:
    signed = person is not None and statements.has_signed(db(), user_id=person.id)
    cited = statements.citable(db(), user_id=person.id, base_url=settings().base_url) if person and signed else []
    form.offer(
        [(c.key, f"{c.label} {c.title}") for c in cited],
        [model for model, _, _ in catalog.all_models(db())],
        tokens.of_person(db(), user_id=person.id) if person else [],
    )  # fmt: skip


def _decide(found: Case, person: User | None, form: DecideForm) -> ResponseReturnValue:
    now, base_url, order = utcnow(), settings().base_url, form.order()
    if order.tells and person is None:
        message = "No one account is known behind this case. Say that nothing was found, or that it cannot be said."
        raise Invalid("case_without_person", message, field="finding")
    rules.check_order(order, now=now)
    if order.needs_two:
        check_fresh(actor(), now)
    digest = form.read("notice_sha256")
    if not form.read("confirmed"):
        cases.held(db(), ref=found.public_id, by=actor(), now=now)
        notice = None
        if order.tells and person is not None:
            moderation.check_may_order(db(), by=actor(), user=person, now=now)
            notice = moderation.preview(
                db(), user_id=person.id, order=order, base_url=base_url, now=now,
                automation=moderation.automation_of(found),
            )  # fmt: skip
        return render_template(
            "casework/preview.html", case=found, person=person, form=form, notice=notice, order=order
        )  # fmt: skip
    given: dict[str, Any] = {"by": actor(), "case_ref": found.public_id, "order": order, "base_url": base_url}
    if order.needs_two:
        seconding.propose(db(), **given, now=now)
    else:
        moderation.decide(db(), **given, notice_sha256=digest, now=now)
    return redirect(url_for(".case", ref=found.public_id), 303)


@bp.route("/staff/cases/<ref>/proposal", methods=["GET", "POST"])
@staff(Permission.PEOPLE_SANCTION, fresh=True)
def proposal(ref: str) -> ResponseReturnValue:
    """Show what waits for a second person, with the notice as it would be sent, and take the confirmation."""
    found, form, now, base_url = cases.find(db(), ref=ref), ConfirmForm(), utcnow(), settings().base_url
    if form.validate_on_submit():
        seconding.confirm(
            db(), by=actor(), case_ref=ref, shown_sha256=form.read("shown_sha256"),
            notice_sha256=form.read("notice_sha256"), base_url=base_url, now=now,
        )  # fmt: skip
        return redirect(url_for(".case", ref=ref), 303)
    waiting = seconding.proposed(db(), case=found, now=now)
    if waiting is None:
        raise Conflict("proposal_missing", "Nothing waits for a second person here (any more).")
    person = moderation.concerned(db(), case=found)
    notice = moderation.preview(
        db(), user_id=person.id, order=waiting[1], base_url=base_url, now=now,
        automation=moderation.automation_of(found),
    )  # fmt: skip
    return render_template(
        "casework/proposal.html", case=found, person=person, proposal=waiting[0], order=waiting[1], notice=notice
    )


@bp.post("/staff/cases/<ref>/interim")
@staff(Permission.PEOPLE_SANCTION)
def confirm_interim(ref: str) -> ResponseReturnValue:
    """Stand behind what a detection rule decided for the time being."""
    interims.confirm(db(), by=actor(), case_ref=ref, base_url=settings().base_url, now=utcnow())
    return redirect(url_for(".case", ref=ref), 303)


@bp.post("/staff/cases/<ref>/answer")
@staff(Permission.APPEALS_DECIDE)
def answer(ref: str) -> ResponseReturnValue:
    """Answer the appeal that a case is about."""
    form = AnswerForm()
    found = redress.of_case(db(), case=cases.find(db(), ref=ref))
    if found is None:
        raise Conflict("no_appeal", "This case is about no appeal.")
    if form.validate_on_submit():
        try:
            redress.decide_appeal(
                db(), by=actor(), ref=found[0].public_id, outcome=AppealOutcome(form.read("outcome")),
                reasons=form.read("reasons"), until=midnight(form.until.data), base_url=settings().base_url,
                now=utcnow(),
            )  # fmt: skip
            return redirect(url_for(".case", ref=ref), 303)
        except Invalid as error:
            form.take(error)
    return _page(ref, form, QuestionForm(formdata=None)), 422


@bp.post("/staff/cases/<ref>/question")
@staff(Permission.APPEALS_DECIDE)
def question(ref: str) -> ResponseReturnValue:
    """Ask the person something about their appeal."""
    form = QuestionForm()
    found = redress.of_case(db(), case=cases.find(db(), ref=ref))
    if found is None:
        raise Conflict("no_appeal", "This case is about no appeal.")
    if form.validate_on_submit():
        try:
            redress.ask(
                db(), by=actor(), ref=found[0].public_id, words=form.read("words"), base_url=settings().base_url,
                now=utcnow(),
            )  # fmt: skip
            return redirect(url_for(".case", ref=ref), 303)
        except Invalid as error:
            form.take(error)
    return _page(ref, AnswerForm(formdata=None), form), 422


@bp.route("/staff/people/<ref>/reinstate", methods=["GET", "POST"])
@staff(Permission.PEOPLE_SANCTION)
def reinstate(ref: str) -> ResponseReturnValue:
    """Take the reason of a reversal, and overturn what shuts the person out once that is confirmed."""
    person, form = moderation.person_to_judge(db(), by=actor(), ref=ref, now=utcnow()), ReinstateForm()
    if form.validate_on_submit():
        if not form.read("confirmed"):
            return render_template("casework/reinstate_confirm.html", person=person, form=form)
        reason, base_url = form.read("reason"), settings().base_url
        redress.reinstate(db(), by=actor(), user_id=person.id, reason=reason, base_url=base_url, now=utcnow())
        return redirect(f"/staff/people/{ref}", 303)
    return render_template("casework/reinstate.html", person=person, form=form), 422 if form.errors else 200
