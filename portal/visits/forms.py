"""Input of an account that an identity elsewhere opens."""

from wtforms import EmailField

from portal.accounts.forms import AboutForm, by
from portal.accounts.rules import check_email


class JoinForm(AboutForm):
    """What an account begins with, beside the identity."""

    email = EmailField("E-mail", validators=[by(check_email)])
