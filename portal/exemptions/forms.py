"""Input of the pages on which declared research is exempted."""

from datetime import UTC, datetime, time

from wtforms import DateField, SelectField, SelectMultipleField, StringField, TextAreaField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import InputRequired, Optional
from wtforms.widgets import CheckboxInput, ListWidget

from portal.core.errors import Invalid
from portal.exemptions.rules import LONGEST, PURPOSE_WORDS
from portal.web.forms import PortalForm


class ExemptionForm(PortalForm):
    """Whose research, for what, under which clauses, and until when."""

    person = StringField("Public id of the person", validators=[InputRequired("Name somebody by public id.")])
    purpose = SelectField("Purpose", choices=[SelectChoice(p.value, words) for p, words in PURPOSE_WORDS.items()])
    license = SelectField("License", description="Whose clauses it covers.")
    clauses = SelectMultipleField(
        "Clauses", widget=ListWidget(prefix_label=False), option_widget=CheckboxInput(),
        description="A hit is covered only if every clause that its rule cites is among them.",
    )  # fmt: skip
    model = StringField("Only this model", validators=[Optional()], description="Such as demo/bloom-tiny.")
    safeguards = TextAreaField(
        "Safeguards", validators=[InputRequired("Say what keeps the research from doing harm.")],
        description="Who sees what the model writes, where it is kept, what is never published.",
    )  # fmt: skip
    until = DateField(
        "Until", validators=[InputRequired("Name the day.")],
        description=f"It ends by itself at 00:00 UTC of this day; at most {LONGEST.days} days from now.",
    )  # fmt: skip

    def ends(self) -> datetime:
        """Return the instant at which it ends."""
        if self.until.data is None:
            raise Invalid("until_missing", "Name the day on which it ends.", field="until")
        return datetime.combine(self.until.data, time(), tzinfo=UTC)


class EndForm(PortalForm):
    """Why an exemption ends before its time."""

    reason = TextAreaField(
        "Reason", validators=[InputRequired("Say why; the person reads it.")], description="The person reads it."
    )
