"""Input of the pages on which somebody declines, withdraws a signature, or voids one that was made in error."""

from wtforms import HiddenField, RadioField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import InputRequired

from portal.annulments.rules import DECLINE_WORDS, ERROR_WORDS
from portal.licensing.rules import DeclineReason, ErrorReason
from portal.web.forms import PortalForm


class DeclineForm(PortalForm):
    """Why somebody does not sign, if they say so, and that it is meant."""

    reason = RadioField(
        "Reason", choices=[SelectChoice(r.value, words) for r, words in DECLINE_WORDS.items()],
        default=DeclineReason.UNSAID.value,
    )  # fmt: skip
    nonce = HiddenField()


class WithdrawForm(PortalForm):
    """That withdrawing is meant."""

    confirmed = HiddenField(validators=[InputRequired("Confirm that you mean it.")])


class VoidForm(PortalForm):
    """What was wrong with a signature; or the digest of what somebody proposed."""

    reason = RadioField(
        "What went wrong", choices=[SelectChoice(r.value, words) for r, words in ERROR_WORDS.items()],
        validate_choice=False,
    )  # fmt: skip
    payload_sha256 = HiddenField()

    def error(self) -> ErrorReason | None:
        """Return what was chosen, if it is one of the choices."""
        chosen = self.read("reason")
        return ErrorReason(chosen) if chosen in set(ErrorReason) else None
