"""Input of the pages on which detection rules are written, tried and brought into force."""

from collections.abc import Sequence
from typing import Any

from wtforms import HiddenField, IntegerField, SelectField, SelectMultipleField, StringField, TextAreaField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import InputRequired, Optional
from wtforms.widgets import CheckboxInput, ListWidget

from portal.backtests.rules import DAYS_DEFAULT, DAYS_MAX
from portal.core.errors import Invalid
from portal.detection.rules import OUTCOME_WORDS, OnMissing, RuleOutcome
from portal.exemptions.rules import PURPOSE_WORDS, Purpose
from portal.rulebook.rules import ROUTES, RuleDraft
from portal.web.forms import PortalForm

BETWEEN = "---"
WORDS = ("slug", "title", "license", "when", "reason_text", "model", "route", "reviewer")
COUNTS = ("weight", "per_hour", "accounts_per_day")
MISSING_WORDS = {OnMissing.SKIP: "It is passed over", OnMissing.FLAG: "Staff look at it"}
BOXES = {"widget": ListWidget(prefix_label=False), "option_widget": CheckboxInput()}


class RuleForm(PortalForm):
    """What a version of a rule says."""

    slug = StringField(
        "Name", validators=[InputRequired("Give it a name.")],
        description="Small letters, digits and hyphens. An existing name gets its next version.",
    )  # fmt: skip
    title = StringField("Title", validators=[InputRequired("Give it a title.")], description="What it looks for.")
    license = SelectField("License", description="Whose clauses it cites. Use under other licenses is not looked at.")
    clauses = SelectMultipleField("Clauses", description="At least one; what a hit may break.", **BOXES)
    when = TextAreaField(
        "Condition", validators=[InputRequired("Write when it applies.")],
        description='Such as intent_bulk >= 1 and phrases("news") >= 2. What can be asked about is listed below.',
    )  # fmt: skip
    outcome = SelectField(
        "What a hit leads to", choices=[SelectChoice(o.value, w) for o, w in OUTCOME_WORDS.items() if o != "allow"]
    )
    match = TextAreaField(
        "Prompts that it must match", validators=[InputRequired("Give at least one.")],
        description=f"With a line {BETWEEN} between two. A line at the start such as @near_24h 25 sets what the text "
        "alone does not say.",
    )  # fmt: skip
    passes = TextAreaField(
        "Prompts that it must let pass", validators=[InputRequired("Give at least one.")],
        description="Those of people who study or report on the same thing, above all.",
    )  # fmt: skip
    reason_text = TextAreaField(
        "What the person is told", validators=[InputRequired("Say it in a sentence.")],
        description="In a sentence or two, without a reproach: a machine noticed it, and nobody has judged yet.",
    )  # fmt: skip
    model = StringField("Only this model", validators=[Optional()], description="Such as demo/bloom-tiny.")
    route = SelectField("Where it watches", choices=[SelectChoice(k, w) for k, w in ROUTES.items()])
    on_missing = SelectField(
        "If a text could not be looked at", choices=[SelectChoice(k.value, w) for k, w in MISSING_WORDS.items()]
    )
    weight = IntegerField("Weight", default=1, description="Which of two equally strong rules counts: the heavier.")
    per_hour = IntegerField("Most often an hour", default=0, description="Beyond it, it only flags. 0: no limit.")
    accounts_per_day = IntegerField(
        "Most people a day", default=0, description="Beyond it, it flags until somebody lets it enforce. 0: no limit."
    )
    exempt = SelectMultipleField(
        "Declared research that it makes way for",
        choices=[SelectChoice(p.value, w) for p, w in PURPOSE_WORDS.items()], **BOXES,
    )  # fmt: skip
    reviewer = SelectField("Who else answers for it", description="Is told with you when it is braked or expires.")

    def draft(self) -> RuleDraft:
        """Return what was written."""
        counts: dict[str, Any] = {name: self[name].data for name in COUNTS}
        for name, count in counts.items():
            if count is None:
                raise Invalid(f"{name}_range", "Write a whole number.", field=name)
        words: dict[str, Any] = {name: self.read(name) for name in WORDS}
        return RuleDraft(
            **words,
            clauses=tuple(self.clauses.data or ()), outcome=RuleOutcome(self.read("outcome")),
            match=prompts(self.read("match")), passes=prompts(self.read("passes")),
            on_missing=OnMissing(self.read("on_missing")), exempt=tuple(Purpose(one) for one in self.exempt.data or ()),
            **counts,
        )  # fmt: skip

    def fill(self, draft: RuleDraft) -> None:
        """Show what an earlier version says."""
        for name in (*WORDS, *COUNTS):
            self[name].data = getattr(draft, name)
        self.outcome.data, self.on_missing.data = draft.outcome.value, draft.on_missing.value
        self.clauses.data, self.exempt.data = list(draft.clauses), [one.value for one in draft.exempt]
        self.match.data, self.passes.data = joined(draft.match), joined(draft.passes)


def prompts(text: str) -> tuple[str, ...]:
    """Return prompts that stand in one field, with a line of hyphens between two."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    parts: list[list[str]] = [[]]
    for line in lines:
        if line.strip() == BETWEEN:
            parts.append([])
        else:
            parts[-1].append(line)
    return tuple(kept for part in parts if (kept := "\n".join(part).strip()))


def joined(several: Sequence[str]) -> str:
    """Return prompts as one field shows them."""
    return f"\n{BETWEEN}\n".join(several)


class BacktestForm(PortalForm):
    """On how many days of use a rule is tried."""

    days = IntegerField("Days", default=DAYS_DEFAULT, description=f"1 to {DAYS_MAX}, back from now.")

    def read_days(self) -> int:
        """Return the number of days."""
        if self.days.data is None:
            raise Invalid("days_range", f"Try it on the last 1 to {DAYS_MAX} days.", field="days")
        return int(self.days.data)


class StepForm(PortalForm):
    """That a rule is to come into another mode, and why; with a digest, that a proposal is confirmed."""

    reason = TextAreaField("Reason", description="Kept with the history of the rule.")
    payload_sha256 = HiddenField()
