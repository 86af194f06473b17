"""Input of the list of people."""

from wtforms import SelectField, StringField
from wtforms.fields.choices import SelectChoice

from portal.accounts.rules import Standing
from portal.web.forms import PortalForm


class SearchForm(PortalForm):
    """Part of an address or a name, or a public id, and a standing."""

    q = StringField("E-mail, name or public id")
    standing = SelectField(
        "Standing", choices=[SelectChoice("", "Any"), *(SelectChoice(s.value, s.value.capitalize()) for s in Standing)]
    )
