"""Input of access requests and of their answers."""

from collections.abc import Sequence

from wtforms import HiddenField, IntegerField, RadioField, SelectMultipleField, TextAreaField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import InputRequired, Length, NumberRange
from wtforms.validators import Optional as Omittable
from wtforms.widgets import CheckboxInput, ListWidget

from portal.entitlements.rules import DAYS_MAX, PURPOSE_MIN, TEXT_MAX, Mode
from portal.items.rules import Item
from portal.requests.rules import Answer
from portal.web.forms import PortalForm

ANSWERS = {
    Answer.ACCEPTED: "Accept: the person may use the model",
    Answer.REJECTED: "Reject: the person may not, and reads why",
    Answer.PENDING: "Look at it again: nothing is decided, and access ends until it is",
    Answer.RESET: "Reset: the person signs the license again, and asks anew",
}
MODES = {
    Mode.OFF: "Nothing: whoever signs the license may use it",
    Mode.AUTO: "A purpose, and the answer is yes at once",
    Mode.MANUAL: "A purpose, and somebody of the staff answers",
}


class AskForm(PortalForm):
    """What a person wants a model for."""

    purpose = TextAreaField(
        "Your answer",
        validators=[
            InputRequired("Say what you want the model for."),
            Length(PURPOSE_MIN, TEXT_MAX, f"Write {PURPOSE_MIN} to {TEXT_MAX:,} characters."),
        ],
        render_kw={"rows": 6},
    )
    purposes = SelectMultipleField(
        "What it is for, in the words of the model's card",
        description="Tick what comes near. You are told when the card changes what it says about the safety of these.",
        widget=ListWidget(prefix_label=False),
        option_widget=CheckboxInput(),
        validators=[Omittable()],
    )

    def offer(self, uses: Sequence[Item]) -> None:
        """Let these intended uses be chosen."""
        self.purposes.choices = [SelectChoice(use.key, f"{use.name.capitalize()}: {use.wording}") for use in uses]


class AnswerForm(PortalForm):
    """How a request is answered, and what its person is told."""

    answer = RadioField("Answer", validators=[InputRequired("Choose an answer.")])
    reason = TextAreaField(
        "What the person is told",
        validators=[Omittable(), Length(max=TEXT_MAX, message=f"At most {TEXT_MAX:,} characters.")],
        description="Needed to reject and to reset. It is mailed as you write it.",
        render_kw={"rows": 4},
    )
    wait_days = IntegerField(
        "Days until a rejected person may ask again",
        default=0,
        validators=[Omittable(), NumberRange(0, DAYS_MAX, f"A whole number of days up to {DAYS_MAX:,}.")],
    )
    seen = HiddenField()

    def offer(self, answers: list[Answer]) -> None:
        """Let these answers be chosen."""
        self.answer.choices = [SelectChoice(answer.value, ANSWERS[answer]) for answer in answers]


class GateForm(PortalForm):
    """What a model asks of people who want it."""

    mode = RadioField(
        "Beside the license, it asks for",
        choices=[SelectChoice(mode.value, words) for mode, words in MODES.items()],
        validators=[InputRequired("Choose what it asks for.")],
    )
    question = TextAreaField(
        "Question",
        validators=[InputRequired("Write what people are asked."), Length(max=TEXT_MAX)],
        render_kw={"rows": 3},
    )
    days = IntegerField(
        "Days that a yes lasts",
        validators=[
            InputRequired("Say how many days a yes lasts."),
            NumberRange(1, DAYS_MAX, f"A whole number of days from 1 to {DAYS_MAX:,}."),
        ],
    )
