"""Input of what is done with a batch."""

from wtforms import HiddenField, TextAreaField

from portal.web.forms import PortalForm


class BatchForm(PortalForm):
    """The digest of what a second person confirms; or why all of it is undone."""

    shown_sha256 = HiddenField()
    reason = TextAreaField("Why all of it is undone")
