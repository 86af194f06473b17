"""Input of suspensions, reversals and appeals."""

from collections.abc import Sequence
from datetime import UTC, datetime, time

from wtforms import DateField, HiddenField, RadioField, SelectMultipleField, TextAreaField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import DataRequired, InputRequired, Length
from wtforms.widgets import CheckboxInput, ListWidget

from portal.moderation.rules import REASONS_MAX, AppealOutcome, Citation
from portal.web.forms import PortalForm


class SuspendForm(PortalForm):
    """Which clauses, what happened, until when; and the digest of the notice once it was looked at."""

    clause = SelectMultipleField(
        "Clauses that were broken",
        validators=[InputRequired("Cite at least one clause that the person signed.")],
        widget=ListWidget(prefix_label=False),
        option_widget=CheckboxInput(),
    )
    facts = TextAreaField("What happened", validators=[DataRequired("Say what happened.")])
    until = DateField("Suspended until", validators=[InputRequired("Name the day on which the suspension ends.")])
    notice_sha256 = HiddenField()

    def offer(self, citations: Sequence[Citation]) -> None:
        """Let these clauses be chosen."""
        self.clause.choices = [SelectChoice(c.key, f"{c.label} {c.title}") for c in citations]

    @property
    def ends_at(self) -> datetime:
        """The start of the named day, UTC."""
        return datetime.combine(self.until.data, time(tzinfo=UTC))


class ReinstateForm(PortalForm):
    """Why decisions are reversed, and that this is meant."""

    reason = TextAreaField(
        "Reason", validators=[DataRequired("Give the reason; the person reads it."), Length(max=REASONS_MAX)]
    )
    confirmed = HiddenField()


class AppealForm(PortalForm):
    """What the person concerned says against a decision."""

    text = TextAreaField("Why the decision is wrong", validators=[DataRequired("Say why the decision is wrong.")])


class AnswerForm(PortalForm):
    """The answer to an appeal."""

    outcome = RadioField(
        "Outcome",
        choices=[
            SelectChoice(AppealOutcome.UPHELD.value, "The decision stands"),
            SelectChoice(AppealOutcome.OVERTURNED.value, "The decision is overturned"),
        ],
        validators=[InputRequired("Choose an outcome.")],
    )
    reasons = TextAreaField(
        "Reasons", validators=[DataRequired("Give the reasons; the person reads them."), Length(max=REASONS_MAX)]
    )
