"""Input of the question which terms govern a copy."""

from wtforms import StringField

from portal.web.forms import PortalForm


class CopyForm(PortalForm):
    """A file by its digest, and who holds the copy."""

    sha256 = StringField("SHA-256 of the file")
    person = StringField("Person: public id or e-mail")
