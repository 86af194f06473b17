"""Input of the editors' desk: numbers, words, and what is said about changes."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from wtforms import HiddenField, RadioField, SelectField, StringField, TextAreaField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import InputRequired, Length, Optional

from portal.clauses.rules import Delta, Relation, choices
from portal.licensing.rules import SUMMARY_MAX, Materiality, language_name
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


class ClauseForm(PortalForm):
    """One clause of a draft in one language; `step` says whether it is only looked at."""

    title = StringField("Title")
    body = TextAreaField("Words")
    step = HiddenField()


class DescribeForm(PortalForm):
    """A summary in each language; for each changed clause what became of it, and an explanation; and the weight."""

    materiality = RadioField(
        "Weight", validators=[Optional()], choices=[SelectChoice(w.value, words) for w, words in WORDS.items()]
    )

    def weight(self) -> Materiality | None:
        """Return the weight that was chosen, if one was."""
        chosen = self.read("materiality")
        return Materiality(chosen) if chosen in set(Materiality) else None

    def summary(self, languages: Sequence[str]) -> dict[str, str]:
        """Return the summaries by language."""
        return {language: self.read(f"summary-{language}") for language in languages}

    def changes(self, deltas: Sequence[Delta]) -> dict[str, tuple[Relation, str]]:
        """Return what is said about each changed clause."""
        return {d.key: (Relation(self.read(f"relation-{d.key}")), self.read(f"explanation-{d.key}")) for d in deltas}

    def translated(self, deltas: Sequence[Delta], others: Collection[str]) -> dict[str, dict[str, str]]:
        """Return what changes mean in other languages than the prevailing one."""
        return {one: {d.key: self.read(f"explanation-{d.key}-{one}") for d in deltas} for one in others}


def describe_form(
    languages: Mapping[str, str],
    deltas: Sequence[Delta],
    weight: Materiality | None,
    translated: Mapping[str, Mapping[str, str]],
) -> DescribeForm:
    """Make the form for a draft, filled with what was said before.

    Args:
        languages: summaries by language.
        deltas: the clauses that changed.
        translated: what that means in other languages than the prevailing one, by language and key.
    """
    fields: dict[str, Any] = {
        f"summary-{language}": TextAreaField(
            f"Summary in {language_name(language)}", validators=[InputRequired("Write it."), Length(max=SUMMARY_MAX)],
            default=words,
        )
        for language, words in languages.items()
    }  # fmt: skip
    for delta in deltas:
        part = delta.new or delta.old
        name = part.name if part else delta.key
        relations = [SelectChoice(relation.value, relation.value.capitalize()) for relation in choices(delta.relation)]
        if delta.relation in {Relation.WIDENED, Relation.NARROWED}:
            relations = [SelectChoice(r.value, r.value.capitalize()) for r in choices(Relation.REWORDED)]
        fields[f"relation-{delta.key}"] = SelectField(name, choices=relations, default=delta.relation.value)
        fields[f"explanation-{delta.key}"] = TextAreaField(
            f"What that means, {name}", validators=[InputRequired("Explain it in plain words.")],
            default=delta.explanation,
        )  # fmt: skip
        for language, words in translated.items():
            fields[f"explanation-{delta.key}-{language}"] = TextAreaField(
                f"The same in {language_name(language)}, {name}", validators=[Optional()],
                default=words.get(delta.key, ""),
            )  # fmt: skip
    made: DescribeForm = type("DescribeForm", (DescribeForm,), fields)(
        data={"materiality": weight.value if weight else None}
    )
    return made
