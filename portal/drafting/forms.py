"""Input of the editors' desk: numbers, words, descriptions of changes, and the dates of a version."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Any

from wtforms import DateField, HiddenField, RadioField, SelectField, StringField, TextAreaField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import InputRequired, Length, Optional

from portal.clauses.rules import Delta, Relation, choices
from portal.licensing.rules import SUMMARY_MAX, WEIGHT, Materiality, language_name
from portal.web.forms import PortalForm

WORDS = {
    Materiality.EDITORIAL: "Editorial: signatures of the version before suffice, nobody is told",
    Materiality.CLARIFYING: "Clarifying: signatures of the version before suffice, signers are told",
    Materiality.MATERIAL: "Material: signers must sign again by a day",
    Materiality.MATERIAL_IMMEDIATE: "Material at once: signers must sign before they use the model again",
}


class DraftForm(PortalForm):
    """The number of the next version."""

    number = StringField("Number", description="Higher than the newest, such as 1.2.0.", validators=[InputRequired()])


class TextForm(PortalForm):
    """A draft's words in one language."""

    text = TextAreaField("Text", validators=[InputRequired("A text cannot be empty.")])


class DescribeForm(PortalForm):
    """A summary in each language; and for each changed clause what became of it, and an explanation."""

    def summary(self, languages: Sequence[str]) -> dict[str, str]:
        """Return the summaries by language."""
        return {language: self.read(f"summary-{language}") for language in languages}

    def changes(self, deltas: Sequence[Delta]) -> dict[str, tuple[Relation, str]]:
        """Return what is said about each changed clause."""
        return {d.key: (Relation(self.read(f"relation-{d.key}")), self.read(f"explanation-{d.key}")) for d in deltas}


def describe_form(languages: Mapping[str, str], deltas: Sequence[Delta]) -> DescribeForm:
    """Make the form for a draft: a field per language, two per changed clause, filled with what was said before."""
    fields: dict[str, Any] = {
        f"summary-{language}": TextAreaField(
            f"Summary in {language_name(language)}", validators=[InputRequired("Write it."), Length(max=SUMMARY_MAX)],
            default=words,
        )
        for language, words in languages.items()
    }  # fmt: skip
    for delta in deltas:
        part = delta.new or delta.old
        name = f"{part.label} {part.title}" if part else delta.key
        relations = [SelectChoice(relation.value, relation.value.capitalize()) for relation in choices(delta.relation)]
        if delta.relation in {Relation.WIDENED, Relation.NARROWED}:
            relations = [SelectChoice(r.value, r.value.capitalize()) for r in choices(Relation.REWORDED)]
        fields[f"relation-{delta.key}"] = SelectField(name, choices=relations, default=delta.relation.value)
        fields[f"explanation-{delta.key}"] = TextAreaField(
            f"What that means, {name}", validators=[InputRequired("Explain it in plain words.")],
            default=delta.explanation,
        )  # fmt: skip
    made: DescribeForm = type("DescribeForm", (DescribeForm,), fields)()
    return made


class PublishForm(PortalForm):
    """Weight and dates of a version, and that it is meant."""

    materiality = RadioField("Weight", validators=[InputRequired("Choose how much it changes.")], choices=[])
    effective_at = DateField("In force from", validators=[Optional()], description="Empty or today: at once.")
    required_by = DateField(
        "Sign by", validators=[Optional()], description="For a material change: the day by which signers sign again."
    )
    confirmed = HiddenField()
    shown_sha256 = HiddenField()

    def offer(self, floor: Materiality) -> None:
        """Let only weights be chosen that the clause changes allow."""
        allowed = [weight for weight in Materiality if WEIGHT[weight] >= WEIGHT[floor]]
        self.materiality.choices = [SelectChoice(weight.value, WORDS[weight]) for weight in allowed]

    def effective(self, now: datetime) -> datetime:
        """Return the instant from which the version is to be in force."""
        return _instant(self.effective_at.data, now) or now

    def required(self, now: datetime) -> datetime | None:
        """Return the instant by which signers must sign, where one is needed or named."""
        named = _instant(self.required_by.data, now)
        if named is None and self.read("materiality") != Materiality.MATERIAL:
            return self.effective(now)
        return max(named, now) if named and named.date() == now.date() else named


def _instant(day: date | None, now: datetime) -> datetime | None:
    if day is None:
        return None
    return now if day == now.date() else datetime.combine(day, time(tzinfo=UTC))
