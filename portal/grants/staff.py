"""The console's pages of programs that may ask people for their permission."""

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from portal.accounts.rules import Permission
from portal.core.clock import utcnow
from portal.core.errors import Invalid
from portal.grants import rules, service
from portal.grants.forms import SECRET, ProgramForm
from portal.programs import service as programs
from portal.web.app import actor, db, settings
from portal.web.guard import staff

bp = Blueprint("programs_staff", __name__)


@bp.get("/staff/programs")
@staff(Permission.PROGRAMS_MANAGE)
def index() -> ResponseReturnValue:
    """List programs, and for how many people each may act."""
    rows = programs.all_programs(db())
    people = service.people_of(db(), program_ids=[row.id for row in rows], now=utcnow())
    return render_template("grants/staff.html", rows=rows, people=people)


@bp.route("/staff/programs/new", methods=["GET", "POST"])
@staff(Permission.PROGRAMS_MANAGE, fresh=True)
def register() -> ResponseReturnValue:
    """Register a program, and show its secret this once."""
    form = ProgramForm()
    if form.validate_on_submit():
        try:
            program, secret = programs.register(
                db(), name=form.read("name"), homepage=form.read("homepage"), redirect_uris=form.read("redirect_uris"),
                scopes=form.scopes.data or (), known=rules.SCOPES, keeps_secret=form.read("runs") == SECRET,
                by=actor(), pepper=settings().pepper, now=utcnow(),
            )  # fmt: skip
            return render_template("grants/program.html", program=program, secret=secret, people=0)
        except Invalid as error:
            form.take(error)
    return render_template("grants/register.html", form=form), 422 if form.errors else 200


@bp.get("/staff/programs/<ref>")
@staff(Permission.PROGRAMS_MANAGE)
def program(ref: str) -> ResponseReturnValue:
    """Show a program."""
    found = programs.find(db(), ref=ref)
    people = service.people_of(db(), program_ids=[found.id], now=utcnow()).get(found.id, 0)
    return render_template("grants/program.html", program=found, secret="", people=people)


@bp.route("/staff/programs/<ref>/secret", methods=["GET", "POST"])
@staff(Permission.PROGRAMS_MANAGE, fresh=True)
def secret(ref: str) -> ResponseReturnValue:
    """Give a program another secret, and show it this once."""
    if request.method != "POST":
        return render_template("grants/secret.html", program=programs.find(db(), ref=ref))
    found, shown = programs.change_secret(db(), ref=ref, by=actor(), pepper=settings().pepper, now=utcnow())
    people = service.people_of(db(), program_ids=[found.id], now=utcnow()).get(found.id, 0)
    return render_template("grants/program.html", program=found, secret=shown, people=people)


@bp.route("/staff/programs/<ref>/end", methods=["GET", "POST"])
@staff(Permission.PROGRAMS_MANAGE, fresh=True)
def end(ref: str) -> ResponseReturnValue:
    """Ask whether a program shall act for nobody any more, and end it at once."""
    if request.method == "POST":
        found = service.end_program(db(), ref=ref, by=actor(), now=utcnow())
        flash(f"{found.name} acts for nobody any more.", "success")
        return redirect(url_for(".program", ref=ref), 303)
    return render_template("grants/staff_end.html", program=programs.find(db(), ref=ref))
