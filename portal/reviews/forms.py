"""Input of the page on which somebody takes a second look."""

from wtforms import RadioField, TextAreaField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import InputRequired

from portal.licensing.rules import ReviewFinding
from portal.reviews.rules import FINDING_WORDS
from portal.web.forms import PortalForm


class ReviewForm(PortalForm):
    """What a second look found."""

    finding = RadioField(
        "What you found", choices=[SelectChoice(f.value, words) for f, words in FINDING_WORDS.items()],
        validators=[InputRequired("Choose what you found.")],
    )  # fmt: skip
    words = TextAreaField(
        "In words",
        description="What you looked at, and why it stands or not. Everybody can read this beside the version.",
    )

    def found(self) -> ReviewFinding:
        """Return what was chosen."""
        return ReviewFinding(self.read("finding"))
