"""Input of the person whom a decision concerns."""

from wtforms import TextAreaField
from wtforms.validators import DataRequired

from portal.web.forms import PortalForm


class AppealForm(PortalForm):
    """What the person concerned says against a decision."""

    text = TextAreaField("Why the decision is wrong", validators=[DataRequired("Say why the decision is wrong.")])


class ReplyForm(PortalForm):
    """What the person concerned answers to a question about their appeal."""

    words = TextAreaField("Your answer", validators=[DataRequired("Write the answer.")])
