"""Input of the pages on which a version gets its dates, and its signers are asked."""

from datetime import datetime

from wtforms import DateField, StringField
from wtforms.validators import InputRequired, Optional

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


class ExemptForm(PortalForm):
    """Whom a campaign need not reach, and why."""

    person = StringField(
        "Public id", validators=[InputRequired("Name somebody by public id.")],
        description="Of somebody in the list of those whom nothing reached.",
    )  # fmt: skip
    reason = StringField("Reason", validators=[InputRequired("Say why.")], description="In a line others can follow.")
