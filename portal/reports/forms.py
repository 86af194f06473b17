"""Input of reports from outside."""

from collections.abc import Sequence

from wtforms import BooleanField, EmailField, HiddenField, RadioField, StringField, TextAreaField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import Optional as Omittable

from portal.clauses.rules import Part
from portal.web.forms import PortalForm

CANNOT_TELL = ""


class ReportForm(PortalForm):
    """What somebody reports: where, which restriction, why, and who they are. What is wrong is said by the rules."""

    locator = StringField(
        "Where you saw it",
        description="A link, the address of a model here, or a request id, which looks like req_k3v9…",
    )
    clause = RadioField("Which restriction it breaks", default=CANNOT_TELL, validators=[Omittable()])
    explanation = TextAreaField(
        "What happened, and why it breaks the license",
        description="Copy the words if you can. Passwords and addresses of others do not belong here.",
        render_kw={"rows": 8},
    )
    name = StringField("Your name", validators=[Omittable()])
    email = EmailField("Your e-mail address", description="Only to tell you what came of it.")
    good_faith = BooleanField("I believe in good faith that what I say here is accurate and complete.")
    proof = HiddenField()

    def offer(self, parts: Sequence[Part]) -> None:
        """Let these restrictions be named."""
        named = [SelectChoice(part.key, f"{part.label} {part.title}") for part in parts]
        self.clause.choices = [*named, SelectChoice(CANNOT_TELL, "I cannot tell")]
