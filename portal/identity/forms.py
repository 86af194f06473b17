"""Input of signing up and in, and of passwords."""

from typing import Any

from wtforms import EmailField, HiddenField, PasswordField
from wtforms.validators import InputRequired, ValidationError

from portal.accounts.forms import AboutForm, by
from portal.accounts.rules import check_email
from portal.core.errors import Invalid
from portal.identity.rules import PASSWORD_MIN, check_password
from portal.web.app import app_service
from portal.web.forms import PortalForm

HINT = "A few unrelated words are easy to remember and hard to guess. {} characters or more."


def fit(form: Any, field: Any) -> None:
    """Check a new password."""
    email = form["email"].data if "email" in form else ""
    least, weakness = getattr(form, "least", PASSWORD_MIN), app_service("hasher").weakness
    try:
        check_password(str(field.data or ""), email=str(email or ""), least=least, weakness=weakness)
    except Invalid as error:
        raise ValidationError(error.message) from None


class LoginForm(PortalForm):
    """An address and its password, and where to go then."""

    email = EmailField("E-mail", validators=[InputRequired("Give your e-mail address.")])
    password = PasswordField("Password", validators=[InputRequired("Give your password.")])
    next = HiddenField()


class SignUpForm(AboutForm):
    """What an account begins with."""

    email = EmailField("E-mail", validators=[by(check_email)])
    password = PasswordField("Password", description=HINT.format(PASSWORD_MIN), validators=[fit])


class AskResetForm(PortalForm):
    """The address of somebody who lost their password."""

    email = EmailField("E-mail", validators=[by(check_email)])


class NewPasswordForm(PortalForm):
    """A new password.

    Attributes:
        least: how many characters it needs.
    """

    least = PASSWORD_MIN
    password = PasswordField("New password", validators=[fit])

    @property
    def hint(self) -> str:
        """How long the password has to be, in words."""
        return HINT.format(self.least)


class ChangePasswordForm(NewPasswordForm):
    """A new password, by somebody who knows the current one."""

    current = PasswordField("Current password")
