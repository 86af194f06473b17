"""Input of the pages on which a version gets its dates, and its signers are asked."""

from datetime import datetime

from wtforms import DateField, SelectMultipleField, StringField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import InputRequired, Optional
from wtforms.widgets import CheckboxInput, ListWidget

from portal.core.errors import Invalid
from portal.licensing.rules import NOTICE_MINIMUM, Materiality
from portal.publishing.forms import instant
from portal.web.forms import PortalForm


class ScheduleForm(PortalForm):
    """The dates of an approved version."""

    effective_at = DateField(
        "In force from", validators=[InputRequired("Name the day.")],
        description=f"At 00:00 UTC; at the earliest {NOTICE_MINIMUM.days} days from now, so that signers hear of it.",
    )  # fmt: skip
    required_by = DateField(
        "Sign by",
        validators=[Optional()],
        description="For a material change: signers sign again before 00:00 UTC, when this day begins.",
    )

    def dates(self, weight: Materiality) -> tuple[datetime, datetime]:
        """Return from when the version is to be in force, and by when signers must sign."""
        effective = instant(self.effective_at.data)
        if self.required_by.data is not None:
            return effective, instant(self.required_by.data)
        if weight is Materiality.MATERIAL:
            raise Invalid("required_missing", "Name the day by which signers must sign.", field="required_by")
        return effective, effective


class StepForm(PortalForm):
    """That a step is meant."""


class CutOverForm(StepForm):
    """That a cut-over is meant, and which models stop to ask for an older text with it."""

    follow = SelectMultipleField(
        "Downloads of these ask for the version in force from now on", option_widget=CheckboxInput(),
        widget=ListWidget(prefix_label=False), validators=[Optional()],
        description="Left unticked, they go on asking for the older text that their release names. Who has not signed "
        "fetches no new copies of the ticked ones.",
    )  # fmt: skip

    def offer(self, pins: list[dict[str, str]]) -> None:
        """Let these models be chosen, each with the version that its downloads ask for."""
        self.follow.choices = [SelectChoice(pin["model"], f"{pin['model']}, now {pin['number']}") for pin in pins]


class ExemptForm(PortalForm):
    """Whom a campaign need not reach, and why."""

    person = StringField(
        "Public id", validators=[InputRequired("Name somebody by public id.")],
        description="Of somebody in the list of those whom nothing reached.",
    )  # fmt: skip
    reason = StringField("Reason", validators=[InputRequired("Say why.")], description="In a line others can follow.")
