"""Input of the playground."""

from wtforms import FloatField, IntegerField, SelectField, TextAreaField
from wtforms.validators import InputRequired, Length, NumberRange

from portal.web.forms import PortalForm


class PlaygroundForm(PortalForm):
    """A prompt and how to continue it."""

    model = SelectField("Model")
    prompt = TextAreaField("Prompt", validators=[InputRequired("Write a prompt."), Length(max=8_000)])
    max_tokens = IntegerField("Longest answer, in tokens", default=64, validators=[NumberRange(1, 512)])
    temperature = FloatField("Temperature (0 is the most likely text)", default=0.7, validators=[NumberRange(0, 2)])
