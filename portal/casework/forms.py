"""Input of decisions about cases."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time

from wtforms import (
    BooleanField,
    DateField,
    HiddenField,
    IntegerField,
    RadioField,
    SelectField,
    SelectMultipleField,
    TextAreaField,
)
from wtforms.fields.choices import SelectChoice
from wtforms.validators import DataRequired, InputRequired, Length, Optional
from wtforms.widgets import CheckboxInput, ListWidget

from portal.appeals.rules import REASONS_MAX, AppealOutcome
from portal.catalog.models import GatedModel
from portal.moderation.rules import Finding, Order
from portal.sanctions.rules import (
    ABOUT_MODEL,
    LEFT_BEHIND,
    PERMANENT,
    THROTTLE_CALLS,
    THROTTLE_TEXT_TOKENS,
    Measure,
    SanctionKind,
)
from portal.strikes.rules import Intent
from portal.tokens.models import AccessToken
from portal.web.forms import PortalForm

KINDS = {
    SanctionKind.THROTTLE: "Lower the daily limits",
    SanctionKind.RECONFIRM: "Ask to sign again",
    SanctionKind.FREEZE_ACCESS_TOKEN: "Freeze access tokens",
    SanctionKind.LIMIT_ACTION: "Forbid one action",
    SanctionKind.SUSPEND_ENTITLEMENT: "Suspend access to one model",
    SanctionKind.REVOKE_ENTITLEMENT: "Revoke access to one model",
    SanctionKind.SUSPEND: "Suspend the account",
    SanctionKind.CLOSE: "Close the account",
}


def midnight(day: date | None) -> datetime | None:
    """Return the start of a day, UTC."""
    return None if day is None else datetime.combine(day, time(tzinfo=UTC))


class DecideForm(PortalForm):
    """What was found, what follows from it, and the digest of the notice once it was looked at."""

    finding = RadioField(
        "What you found",
        choices=[
            SelectChoice(Finding.VIOLATION.value, "A clause was broken"),
            SelectChoice(Finding.NONE.value, "No clause was broken"),
            SelectChoice(Finding.INCONCLUSIVE.value, "It cannot be said"),
        ],
        validators=[InputRequired("Say what you found.")],
    )
    clause = SelectMultipleField(
        "Clauses that were broken", widget=ListWidget(prefix_label=False), option_widget=CheckboxInput()
    )
    intent = RadioField(
        "With what intent",
        choices=[SelectChoice(intent.value, intent.value.capitalize()) for intent in Intent],
        default=Intent.NONE.value,
    )
    facts = TextAreaField("What happened")
    kind = SelectMultipleField(
        "What follows",
        choices=[SelectChoice(kind.value, f"{words}. {LEFT_BEHIND[kind]}") for kind, words in KINDS.items()],
        widget=ListWidget(prefix_label=False), option_widget=CheckboxInput(),
    )  # fmt: skip
    until = DateField("Until", validators=[Optional()])
    model = SelectField("Model", default="")
    action = SelectField(
        "Action that is forbidden", default="infer",
        choices=[SelectChoice("infer", "Use"), SelectChoice("download", "Downloads")],
    )  # fmt: skip
    token = SelectField("Access token", default="")
    calls = IntegerField("Requests a day", default=THROTTLE_CALLS, validators=[Optional()])
    text_tokens = IntegerField("Text tokens a day", default=THROTTLE_TEXT_TOKENS, validators=[Optional()])
    strike = BooleanField("Count this towards later decisions")
    notice_sha256 = HiddenField()
    confirmed = HiddenField()

    def offer(
        self, clauses: Sequence[tuple[str, str]], models: Sequence[GatedModel], tokens: Sequence[AccessToken]
    ) -> None:  # fmt: skip
        """Let these clauses (key, heading), models and access tokens be chosen."""
        self.clause.choices = [SelectChoice(key, heading) for key, heading in clauses]
        self.model.choices = [SelectChoice("", "all models")]
        self.model.choices += [SelectChoice(model.public_id, model.full_name) for model in models]
        self.token.choices = [SelectChoice("", "all access tokens")]
        self.token.choices += [SelectChoice(t.public_id, f"{t.name} …{t.last4}") for t in tokens]

    def order(self) -> Order:
        """Return what was chosen."""
        return Order(
            Finding(self.read("finding")), Intent(self.read("intent") or Intent.NONE), tuple(self.clause.data or ()),
            self.read("facts"), tuple(self._measure(SanctionKind(kind)) for kind in self.kind.data or ()),
            bool(self.strike.data),
        )  # fmt: skip

    def _measure(self, kind: SanctionKind) -> Measure:
        target = self.read("model") if kind in ABOUT_MODEL else ""
        target = self.read("token") if kind is SanctionKind.FREEZE_ACCESS_TOKEN else target
        throttle = kind is SanctionKind.THROTTLE
        return Measure(
            kind, None if kind in PERMANENT else midnight(self.until.data), target,
            self.read("action") if kind is SanctionKind.LIMIT_ACTION else "",
            self.calls.data if throttle else None, self.text_tokens.data if throttle else None,
        )  # fmt: skip


class ConfirmForm(PortalForm):
    """That something shown is meant, by the digests of what was shown."""

    shown_sha256 = HiddenField()
    notice_sha256 = HiddenField()


class ReinstateForm(PortalForm):
    """Why decisions are reversed, and that this is meant."""

    reason = TextAreaField(
        "Reason", validators=[DataRequired("Give the reason; the person reads it."), Length(max=REASONS_MAX)]
    )
    confirmed = HiddenField()


class AnswerForm(PortalForm):
    """The answer to an appeal."""

    outcome = RadioField(
        "Outcome",
        choices=[
            SelectChoice(AppealOutcome.UPHELD.value, "The decision stands"),
            SelectChoice(AppealOutcome.VARIED.value, "The decision is made milder: it ends on the day below"),
            SelectChoice(AppealOutcome.OVERTURNED.value, "The decision is overturned"),
        ],
        validators=[InputRequired("Choose an outcome.")],
    )
    until = DateField("New end, if it is made milder", validators=[Optional()])
    reasons = TextAreaField(
        "Reasons", validators=[DataRequired("Give the reasons; the person reads them."), Length(max=REASONS_MAX)]
    )


class QuestionForm(PortalForm):
    """A question to the person about their appeal."""

    words = TextAreaField("Question", validators=[DataRequired("Write the question.")])


class BulkForm(DecideForm):
    """The same decision about several people."""

    people = TextAreaField("People", validators=[DataRequired("Name the people, one public id a line.")])
    batch_sha256 = HiddenField()
    case = HiddenField()
