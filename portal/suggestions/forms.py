"""Input of suggestions."""

from wtforms import SelectField, TextAreaField
from wtforms.validators import DataRequired

from portal.web.forms import PortalForm


class SuggestForm(PortalForm):
    """A change of a text that a case shows to be needed."""

    target = SelectField("Where")
    words = TextAreaField("What should be said", validators=[DataRequired("Write what should be said.")])
