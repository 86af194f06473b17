"""Input of the questions which terms govern a copy, and what was delivered in a time."""

from wtforms import DateField, StringField
from wtforms.validators import InputRequired

from portal.web.forms import PortalForm


class CopyForm(PortalForm):
    """A file by its digest, and who holds the copy."""

    sha256 = StringField("SHA-256 of the file")
    person = StringField("Person: public id or e-mail")


class ExportForm(PortalForm):
    """The first and the last day of an export."""

    start = DateField("First day", validators=[InputRequired("Name the first day.")])
    end = DateField("Last day", validators=[InputRequired("Name the last day.")])
