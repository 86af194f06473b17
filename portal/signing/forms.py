"""Input of the page on which a license is signed."""

from collections.abc import Sequence

from wtforms import BooleanField, HiddenField, SelectMultipleField, StringField

from portal.clauses.rules import Part
from portal.signing.rules import Sitting
from portal.web.forms import PortalForm


class SignForm(PortalForm):
    """The boxes, the typed name, and which text the form showed."""

    acknowledged = SelectMultipleField("Use restrictions", choices=[], validate_choice=False)
    consent_electronic = BooleanField("Electronic form")
    typed_name = StringField("Your name", description="As it is to stand on the receipt.")
    nonce = HiddenField()
    shown_digest = HiddenField()
    confirmed = HiddenField()
    credential = HiddenField()

    @property
    def ticked(self) -> frozenset[str]:
        """Keys of the restrictions whose boxes are ticked."""
        return frozenset(self.acknowledged.data or ())

    def sitting(self) -> Sitting:
        """Return what was sent, as the service takes it."""
        return Sitting(
            nonce=self.read("nonce"), shown_digest=self.read("shown_digest"), acknowledged=self.ticked,
            consent_electronic=bool(self.consent_electronic.data), typed_name=self.read("typed_name"),
            credential=self.read("credential"),
        )  # fmt: skip

    def problems(self, owed: Sequence[Part]) -> list[tuple[str, str]]:
        """Return (id of the field, what is missing) for all that is still missing, so that one look shows it all."""
        missing = [
            (f"ack-{part.key}", f"Acknowledge {part.label}, {part.title}.")
            for part in owed
            if part.key not in self.ticked
        ]
        if not self.consent_electronic.data:
            missing.append(("consent_electronic", "Tick the box that accepts the electronic form."))
        if not self.read("typed_name"):
            missing.append(("typed_name", "Type your name to sign."))
        return missing
