"""Input of campaigns that ask for a word back."""

from datetime import datetime

from wtforms import DateField, HiddenField, RadioField, SelectField, StringField, TextAreaField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import InputRequired, Optional

from portal.campaigns.rules import QUIET, WORDS_MAX, CampaignKind
from portal.publishing.forms import instant
from portal.web.forms import PortalForm

KINDS = {
    CampaignKind.LIMITATION: "A changed limitation: everybody who used the model or holds a copy of it reads how its "
    "card changed",
    CampaignKind.CORRECTION: "A correction of a release: everybody who holds a copy of it reads what is wrong with it",
}


class BeginForm(PortalForm):
    """What people are told, and who."""

    kind = RadioField(
        "What it is about", choices=[SelectChoice(kind.value, words) for kind, words in KINDS.items()],
        validators=[InputRequired("Choose what it is about.")],
    )  # fmt: skip
    model = SelectField("Model or dataset", validators=[InputRequired("Choose a model or dataset.")])
    revision = StringField(
        "Commit that is corrected",
        validators=[Optional()],
        description="Of a correction: 40 letters and digits. Left empty, it is the newest release.",
    )
    words = TextAreaField(
        "What changed, and what to do about it",
        validators=[InputRequired("Say what changed and what to do about it.")],
        description=f"Mailed and shown as you write it; up to {WORDS_MAX:,} characters.",
        render_kw={"rows": 6},
    )
    answer_by = DateField(
        "Confirm by", validators=[InputRequired("Name the day.")],
        description=f"At 00:00 UTC, at the earliest {QUIET.days} days from now. It only says when to remind.",
    )  # fmt: skip

    def day(self) -> datetime:
        """Return by when people are asked to confirm."""
        return instant(self.answer_by.data)


class WordForm(PortalForm):
    """That somebody read what they were shown."""

    shown = HiddenField()
