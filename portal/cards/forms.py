"""Input of the card editor."""

from datetime import datetime

from wtforms import DateField, HiddenField, StringField, TextAreaField
from wtforms.validators import DataRequired, InputRequired, Length

from portal.cards.rules import NOTE_MAX
from portal.publishing.forms import instant
from portal.web.forms import PortalForm


class CardForm(PortalForm):
    """The words of a card revision, and why they change."""

    text = TextAreaField(
        "Card in Hub format", validators=[InputRequired("A card cannot be empty.")], render_kw={"rows": 30}
    )
    note = StringField("What changed, and why", validators=[DataRequired("Say why it changes."), Length(max=300)])


class PublishCardForm(PortalForm):
    """Consent to publish exactly what was previewed."""

    shown_sha256 = HiddenField()


class ReviewForm(PortalForm):
    """That a published card was looked at again and still holds."""

    note = StringField(
        "What you looked at",
        validators=[DataRequired("Say what you looked at."), Length(max=NOTE_MAX)],
        description="Readers see it beside the card.",
    )
    next_at = DateField("Look at it again by", validators=[InputRequired("Name the day.")])

    def day(self) -> datetime:
        """Return when the card is looked at next."""
        return instant(self.next_at.data)
