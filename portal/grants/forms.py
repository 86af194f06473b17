"""Input of the pages on which programs are registered."""

from wtforms import RadioField, SelectMultipleField, StringField, TextAreaField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import InputRequired
from wtforms.widgets import CheckboxInput, ListWidget

from portal.grants.rules import SCOPE_WORDS
from portal.web.forms import PortalForm

SECRET, NONE = "secret", "none"


class ProgramForm(PortalForm):
    """What a program is called, where it sends people back, and what it may ask for."""

    name = StringField(
        "Name", validators=[InputRequired("Name it as people know it.")],
        description="People read it on the page that asks them.",
    )  # fmt: skip
    homepage = StringField(
        "Its page", validators=[InputRequired("Say where one reads who is behind it.")],
        description="Where one reads who is behind it; begins with https:// .",
    )  # fmt: skip
    redirect_uris = TextAreaField(
        "Addresses that it may send people back to", validators=[InputRequired("Give at least one address.")],
        description="One a line, taken letter by letter: https://, or http://127.0.0.1:8765/… for people's machines.",
    )  # fmt: skip
    scopes = SelectMultipleField(
        "What it may ask for",
        validators=[InputRequired("Choose at least one.")],
        choices=[SelectChoice(scope, f"{words} ({scope})") for scope, words in SCOPE_WORDS.items()],
        widget=ListWidget(prefix_label=False),
        option_widget=CheckboxInput(),
    )
    runs = RadioField(
        "Where it runs",
        validators=[InputRequired("Say where it runs.")],
        choices=[
            SelectChoice(SECRET, "On a server, which can keep a secret"),
            SelectChoice(NONE, "In browsers or on people's machines, which can keep none"),
        ],
    )
