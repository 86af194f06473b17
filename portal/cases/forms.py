"""Input of work on cases."""

from wtforms import TextAreaField
from wtforms.validators import DataRequired

from portal.web.forms import PortalForm


class NoteForm(PortalForm):
    """A note for colleagues."""

    words = TextAreaField("Note for colleagues", validators=[DataRequired("Write the note.")])


class ReopenForm(PortalForm):
    """New evidence, which opens a decided case again."""

    words = TextAreaField("New evidence", validators=[DataRequired("Say what is new.")])
