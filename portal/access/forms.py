"""Input of the playground."""

from wtforms import FloatField, IntegerField, SelectField, TextAreaField
from wtforms.validators import InputRequired, Length, NumberRange

from portal.web.forms import PortalForm


class PlaygroundForm(PortalForm):
    """A prompt and how to continue it."""

    model = SelectField("Model")
    prompt = TextAreaField(
        "Prompt",
        validators=[
            InputRequired("Write a prompt."),
            Length(max=8_000, message="A prompt here has at most 8,000 characters."),
        ],
    )
    max_tokens = IntegerField(
        "Longest answer, in text tokens", default=64,
        validators=[NumberRange(1, 512, "The longest answer is a whole number from 1 to 512.")],
    )  # fmt: skip
    temperature = FloatField(
        "Temperature", default=0.7, validators=[NumberRange(0, 2, "The temperature is a number from 0 to 2.")],
        description="From 0 to 2. At 0 the model always takes its likeliest next words; higher is more varied.",
    )  # fmt: skip
