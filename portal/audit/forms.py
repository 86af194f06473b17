"""Input of the list of events."""

from wtforms import SelectField, StringField
from wtforms.fields.choices import SelectChoice

from portal.audit.rules import EVENTS
from portal.web.forms import PortalForm


class FilterForm(PortalForm):
    """The name of an event, and what it is about or who acted."""

    name = SelectField("Event", choices=lambda: [SelectChoice("", "Any"), *map(SelectChoice, sorted(EVENTS))])
    subject = StringField("Public id of the subject or the actor")
