"""Input of the pages about use."""

from wtforms import IntegerField, SelectField, StringField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import InputRequired, NumberRange

from portal.usage.rules import HIGHEST_LIMIT, Outcome
from portal.web.forms import PortalForm

RANGE = f"Give a whole number from 0 to {HIGHEST_LIMIT:,}."


class FilterForm(PortalForm):
    """Whose use, of which model, and how it ended."""

    user = StringField("Person: public id or e-mail")
    model = StringField("Model")
    outcome = SelectField(
        "Outcome",
        choices=[
            SelectChoice("", "Any"),
            *(SelectChoice(o.value, o.value.replace("_", " ").capitalize()) for o in Outcome),
        ],
    )


class QuotaForm(PortalForm):
    """What one person may use in a day."""

    calls = IntegerField(
        "Requests a day", validators=[InputRequired("Say how many requests."), NumberRange(0, HIGHEST_LIMIT, RANGE)]
    )
    text_tokens = IntegerField(
        "Text tokens a day",
        validators=[InputRequired("Say how many text tokens."), NumberRange(0, HIGHEST_LIMIT, RANGE)],
    )
