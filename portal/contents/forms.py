"""Input of how long a model keeps texts."""

from wtforms import RadioField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import InputRequired

from portal.contents.rules import DAYS
from portal.web.forms import PortalForm


class RetentionForm(PortalForm):
    """For how many days texts are kept."""

    days = RadioField(
        "Prompts and answers are kept for",
        choices=[SelectChoice(str(days), f"{days} days" if days else "no time: they are never kept") for days in DAYS],
        validators=[InputRequired("Choose for how long.")],
    )
