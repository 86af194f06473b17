"""Input of signing up and in, and of passwords."""

from typing import Any

from wtforms import EmailField, HiddenField, PasswordField
from wtforms.validators import InputRequired, ValidationError

from portal.accounts.forms import AboutForm, by
from portal.accounts.rules import check_email
from portal.core.errors import Invalid
from portal.identity.rules import PASSWORD_MIN, check_password
from portal.web.forms import PortalForm

PASSWORD_HINT = f"At least {PASSWORD_MIN} characters. A few unrelated words are easy to remember and hard to guess."


def fit(form: Any, field: Any) -> None:
    """Check a new password."""
    email = form["email"].data if "email" in form else ""
    try:
        check_password(str(field.data or ""), email=str(email or ""))
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
    password = PasswordField("Password", description=PASSWORD_HINT, validators=[fit])


class AskResetForm(PortalForm):
    """The address of somebody who lost their password."""

    email = EmailField("E-mail", validators=[by(check_email)])


class NewPasswordForm(PortalForm):
    """A new password."""

    password = PasswordField("New password", description=PASSWORD_HINT, validators=[fit])


class ChangePasswordForm(NewPasswordForm):
    """A new password, by somebody who knows the current one."""

    current = PasswordField("Current password")
