"""Input of the pages on which a license version is reviewed, approved, dated, voted on and retired."""

from datetime import UTC, date, datetime, time

from wtforms import DateField, HiddenField, IntegerField, SelectField, StringField, TextAreaField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import InputRequired

from portal.licensing.rules import Vote
from portal.web.forms import PortalForm


class MoveForm(PortalForm):
    """That a move of a version is meant, for exactly what was looked at."""

    shown_sha256 = HiddenField()
    payload_sha256 = HiddenField()


class ReasonForm(MoveForm):
    """Why a grave act is needed."""

    reason = TextAreaField("Reason", description="In a sentence that others can follow later.")


def instant(day: date | None) -> datetime:
    """Return the instant at which a day begins."""
    return datetime.combine(day or date.max, time(tzinfo=UTC))


class CommentForm(PortalForm):
    """A remark on a version, on one of its clauses or on the whole."""

    words = TextAreaField("Remark", validators=[InputRequired("Write the remark.")])
    key = SelectField("Clause", choices=[], validate_choice=False)

    def offer(self, clauses: list[tuple[str, str]]) -> None:
        """Let a clause be chosen, or the whole."""
        self.key.choices = [SelectChoice("", "The whole text"), *(SelectChoice(*row) for row in clauses)]


class VoteForm(PortalForm):
    """How a body of the licensor resolved on a version."""

    body = StringField("Body", description="Who voted, such as the steering committee.")
    decided_at = DateField("Day of the vote", validators=[InputRequired("Name the day.")])
    votes_for = IntegerField("Votes for", validators=[InputRequired("Give a number.")])
    votes_against = IntegerField("Votes against", validators=[InputRequired("Give a number.")])
    votes_abstain = IntegerField("Abstentions", validators=[InputRequired("Give a number.")])
    minutes_sha256 = StringField("SHA-256 of the minutes", description="The minutes themselves stay with the body.")

    def vote(self) -> Vote:
        """Return the vote as the rules take it."""
        return Vote(
            body=self.read("body"), minutes_sha256=self.read("minutes_sha256").lower(),
            votes_for=self.votes_for.data or 0, votes_against=self.votes_against.data or 0,
            votes_abstain=self.votes_abstain.data or 0, decided_at=instant(self.decided_at.data),
        )  # fmt: skip
