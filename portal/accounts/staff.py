"""The entrance of the console, and the page that shows every building block of pages once."""

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue
from wtforms import BooleanField, IntegerField, RadioField, SelectField, SelectMultipleField, StringField, TextAreaField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import Optional as Omittable
from wtforms.widgets import CheckboxInput, ListWidget

from portal.accounts import service
from portal.accounts.rules import Permission, ProposalFact, proposal_state_at
from portal.core.clock import utcnow
from portal.web.app import actor, db
from portal.web.forms import PortalForm
from portal.web.guard import staff

bp = Blueprint("accounts_staff", __name__)
CHOICES = [SelectChoice("one", "The first"), SelectChoice("two", "The second")]
MOMENT = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Part:
    """A part of the console.

    Args:
        permission: what opens it.
    """

    title: str
    href: str
    words: str
    permission: Permission


PARTS = (
    Part("People", "/staff/people", "Find somebody; see what they signed and used; suspend and reinstate.",
         Permission.PEOPLE_READ),
    Part("Cases", "/staff/cases", "Answer appeals, the most urgent first.", Permission.APPEALS_DECIDE),
    Part("Reports", "/staff/reports", "What people outside reported, and what came of it.", Permission.PEOPLE_SANCTION),
    Part("Rules", "/staff/rules", "Write detection rules, try them on past use, bring them into force.",
         Permission.RULES_EDIT),
    Part("Declared research", "/staff/exemptions", "Whose use is recorded and not held against them, and until when.",
         Permission.RULES_EDIT),
    Part("Use", "/staff/usage", "Requests and text tokens by day, and every record.", Permission.USAGE_READ),
    Part("Engines", "/staff/engines", "How every server does now, and what each lab did.", Permission.USAGE_READ),
    Part("Copies", "/staff/deliveries", "Which terms govern a copy that somebody holds.", Permission.USAGE_READ),
    Part("Licenses", "/staff/licenses", "Draft a version, see the difference by clause, publish it.",
         Permission.LICENSES_EDIT),
    Part("Second looks", "/staff/licenses/reviews",
         "Versions that came into force at once, which somebody uninvolved looks at within 7 days.",
         Permission.LICENSES_EDIT),
    Part("Campaigns", "/staff/campaigns", "Ask signers to sign a new version; see how far they have come.",
         Permission.LICENSES_EDIT),
    Part("Access requests", "/staff/requests", "Let people in who ask for a model, or say why not.",
         Permission.REQUESTS_REVIEW),
    Part("Models", "/staff/models", "See what was uploaded, and release it to readers.", Permission.MODELS_PUBLISH),
    Part("Model cards", "/staff/cards", "Revise a card, preview it with its difference, publish it.",
         Permission.CARDS_EDIT),
    Part("Proposals", "/staff/proposals", "What one person proposed and a second one has to confirm.",
         Permission.CONSOLE_READ),
    Part("Programs", "/staff/programs", "Register programs of others that may ask people to act for them; end them.",
         Permission.PROGRAMS_MANAGE),
    Part("Audit", "/staff/audit", "Every change of state, newest first.", Permission.AUDIT_READ),
    Part("Patterns", "/staff/patterns", "Every building block of pages, once.", Permission.CONSOLE_READ),
)  # fmt: skip


class PatternForm(PortalForm):
    """One field of each kind, for the page of patterns."""

    line = StringField("A line", description="A hint says what is meant.")
    number = IntegerField("A number", validators=[Omittable()])
    words = TextAreaField("Several lines")
    choice = SelectField("One of a few", choices=CHOICES)
    one = RadioField("One of two", choices=CHOICES)
    many = SelectMultipleField(
        "Any of two", choices=CHOICES, widget=ListWidget(prefix_label=False), option_widget=CheckboxInput()
    )
    box = BooleanField("I have read it")


@dataclass(frozen=True)
class PatternItem:
    """A line of the sample checklist."""

    code: str
    state: str
    message: str
    remedy_text: str = ""
    remedy_url: str = ""
    due_at: datetime | None = None


@bp.get("/staff/")
@staff(Permission.CONSOLE_READ)
def index() -> ResponseReturnValue:
    """List the parts of the console that the visitor's roles open."""
    parts = [part for part in PARTS if part.permission in actor().permissions]
    return render_template("staff/index.html", parts=parts)


@bp.get("/staff/proposals")
@staff(Permission.CONSOLE_READ)
def proposals() -> ResponseReturnValue:
    """List what was proposed and takes a second person, newest first, with the page on which that is decided."""
    rows = []
    for row in service.proposals(db()):
        fact = ProposalFact(row.payload_sha256, row.proposed_by, row.confirmed_by, row.expires_at)
        rows.append((row, proposal_state_at(fact, utcnow()).value))
    return render_template("accounts/proposals.html", rows=rows)


@bp.get("/staff/patterns")
@staff(Permission.CONSOLE_READ)
def patterns() -> ResponseReturnValue:
    """Show every building block of pages once, as it looks with and without errors."""
    form, wrong = PatternForm(formdata=None), PatternForm(formdata=None, prefix="wrong-")
    wrong.add_error("line", "Write a line.")
    wrong.add_error("one", "Choose one.")
    wrong.form_errors = ["Something about the whole form is wrong."]
    items = [
        PatternItem(
            "signature_missing", "unmet", "You have not signed the license.", "Read and sign it.", "/licenses/"
        ),
        PatternItem("signature_due", "due", "Sign the new version.", "See what changed.", "/licenses/", MOMENT),
        PatternItem("address_verified", "met", "Your e-mail address is confirmed."),
    ]
    return render_template(
        "staff/patterns.html", form=form, wrong=wrong, items=items, moment=MOMENT, sample=sha256(b"sample").hexdigest()
    )
