"""Input of the page that checks receipts."""

from wtforms import FileField

from portal.web.forms import PortalForm


class VerifyForm(PortalForm):
    """A receipt to be checked."""

    file = FileField("Receipt", description="The PDF exactly as you got it, at most 1 MB.")
