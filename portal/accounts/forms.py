"""Input of the profile."""

from collections.abc import Callable
from typing import Any

from wtforms import StringField
from wtforms.validators import ValidationError

from portal.accounts import rules
from portal.core.errors import Invalid
from portal.web.forms import PortalForm


def by(check: Callable[[str], Any]) -> Callable[[Any, Any], None]:
    """Make a validator of a rule, so that a form names everything that is wrong at once."""

    def validate(_form: Any, field: Any) -> None:
        try:
            check(str(field.data or ""))
        except Invalid as error:
            raise ValidationError(error.message) from None

    return validate


class AboutForm(PortalForm):
    """What a person says about themselves."""

    name = StringField("Name", validators=[by(rules.check_name)])
    affiliation = StringField("Affiliation", validators=[by(rules.check_affiliation)])
    country = StringField("Country", validators=[by(rules.check_country)])
