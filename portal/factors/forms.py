"""Input of second factors."""

from wtforms import HiddenField, PasswordField, StringField
from wtforms.validators import InputRequired

from portal.passkeys.rules import NAME_MAX
from portal.web.forms import PortalForm

CODE_HINT = "Six digits from your app. Or one of your recovery codes, which then is used up."


class CodeForm(PortalForm):
    """A code, or a passkey's answer in its place, and where to go then."""

    code = StringField("Code", description=CODE_HINT)
    credential = HiddenField()
    next = HiddenField()


class ProveForm(CodeForm):
    """What somebody who is signed in proves themselves by once more."""

    password = PasswordField("Password")


class AppForm(PortalForm):
    """The first code of an app."""

    code = StringField("Code that the app shows", validators=[InputRequired("Type the six digits that the app shows.")])


class PasskeyForm(PortalForm):
    """A new passkey: what its owner calls it, and what the browser made."""

    name = StringField("Name", description=f"You see it in your list, such as “Laptop”. Up to {NAME_MAX} characters.")
    credential = HiddenField()
