"""Input of the playground."""

from wtforms import FloatField, IntegerField, TextAreaField
from wtforms.validators import InputRequired, Length, NumberRange

from portal.playground.rules import Preset
from portal.web.forms import PortalForm


class PlaygroundForm(PortalForm):
    """A prompt and how to continue it."""

    prompt = TextAreaField(
        "Prompt", description="The beginning of a text. The model goes on from its last word.",
        render_kw={"rows": 8},
        validators=[
            InputRequired("Write a prompt."),
            Length(max=8_000, message="A prompt here has at most 8,000 characters."),
        ],
    )  # fmt: skip
    max_tokens = IntegerField(
        "Longest answer, in text tokens", default=64,
        validators=[NumberRange(1, 512, "The longest answer is a whole number from 1 to 512.")],
    )  # fmt: skip
    temperature = FloatField(
        "Temperature", default=0.7, validators=[NumberRange(0, 2, "The temperature is a number from 0 to 2.")],
        description="At 0 the model always takes its likeliest next words; up to 2 it is more varied.",
    )  # fmt: skip

    def begin_with(self, preset: Preset) -> None:
        """Fill in a preset."""
        self.prompt.data, self.max_tokens.data = preset.prompt, preset.max_tokens
        self.temperature.data = preset.temperature

    @property
    def asked(self) -> dict[str, object]:
        """What an engine is asked for."""
        return {name: self[name].data for name in ("prompt", "max_tokens", "temperature")}
