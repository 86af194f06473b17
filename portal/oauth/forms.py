"""Input of new access tokens."""

from collections.abc import Collection, Iterable

from wtforms import HiddenField, IntegerField, PasswordField, SelectField, SelectMultipleField, StringField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import DataRequired, InputRequired, Length, NumberRange
from wtforms.validators import Optional as Omittable
from wtforms.widgets import CheckboxInput, ListWidget

from portal.tokens.rules import DEFAULT_LIFE, MAX_DAYS, NAME_MAX, Scope, lacking
from portal.web.forms import PortalForm

SCOPE_WORDS = {
    Scope.WEIGHTS_READ: "Download weights (weights:read)",
    Scope.INFERENCE: "Complete texts (inference)",
    Scope.USAGE_READ: "Read your own usage (usage:read)",
    Scope.WEIGHTS_WRITE: "Upload files of models, as staff (weights:write)",
    Scope.REQUESTS_WRITE: "Answer access requests, as staff (requests:write)",
}


class TokenForm(PortalForm):
    """What an access token is called, what it opens, and for how long."""

    name = StringField(
        "Name", validators=[DataRequired("Give it a name, such as the machine that will use it."), Length(max=NAME_MAX)]
    )
    scopes = SelectMultipleField(
        "What it may be used for",
        validators=[InputRequired("Choose at least one use.")],
        widget=ListWidget(prefix_label=False),
        option_widget=CheckboxInput(),
    )
    models = SelectMultipleField(
        "Only for these models",
        validators=[Omittable()],
        widget=ListWidget(prefix_label=False),
        option_widget=CheckboxInput(),
    )
    days = IntegerField(
        "Days until it expires",
        default=DEFAULT_LIFE.days,
        validators=[
            InputRequired("Say how many days it lasts."),
            NumberRange(1, MAX_DAYS, f"An access token lasts 1 to {MAX_DAYS} days."),
        ],
    )

    def offer(self, models: Iterable[str], permissions: Collection[str]) -> None:
        """Let these models be chosen, and the scopes that go with somebody's permissions."""
        self.models.choices = [SelectChoice(name, name) for name in models]
        known = [s for s in Scope if not lacking([s.value], permissions)]
        self.scopes.choices = [SelectChoice(scope.value, SCOPE_WORDS[scope]) for scope in known]


class TrialForm(PortalForm):
    """An access token, and what it shall open."""

    access_token = PasswordField("Access token", validators=[DataRequired("Paste an access token.")])
    model = SelectField("What it shall open")

    def offer(self, models: Iterable[str]) -> None:
        """Let these models and datasets be chosen."""
        self.model.choices = [SelectChoice(name, name) for name in models]


class DeviceForm(PortalForm):
    """The code that a terminal shows, and what the person decides."""

    user_code = StringField("Code in your terminal", description="Eight letters, such as BCDF-GHJK.")
    decision = HiddenField()
    confirmed = HiddenField()
