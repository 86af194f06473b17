"""Input of the card editor."""

from wtforms import HiddenField, StringField, TextAreaField
from wtforms.validators import DataRequired, InputRequired, Length

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
