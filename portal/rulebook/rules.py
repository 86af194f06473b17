"""Detection rules as people write them: what one must say before it is kept, and the examples that it must fit."""

import re
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from portal.clauses.rules import Element
from portal.core.errors import Invalid
from portal.detection.rules import ACTING, OUTCOME_WORDS, REFUSING, OnMissing, RuleOutcome
from portal.exemptions.rules import Purpose, check_words
from portal.expressions.rules import Expression, compiled, parse
from portal.features.rules import FEATURES, Feature, Phase, Value

SLUG = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
SLUG_MAX, TITLE_MAX, EXAMPLES_MAX, EXAMPLE_MAX, COUNT_MAX = 60, 120, 50, 4_000, 1_000_000
RULE_COST_NS, ALL_COST_NS = 20_000, 60_000
ROUTES = {"": "Everywhere", "inference": "Where programs are answered", "page": "The playground"}
SETTING = re.compile(r'@(?P<key>[a-z_0-9]+(?:\("[a-z0-9_.]+"\))?) (?P<value>-?[0-9]{1,9}(?:\.[0-9]{1,6})?|true|false)')
HINTS = frozenset({"lang"})
AT_ONCE = frozenset({Phase.INLINE, Phase.OUTPUT})
Measure = Callable[[str], Mapping[str, Value]]


@dataclass(frozen=True)
class RuleDraft:
    """Everything that a version of a rule says, as it was written.

    Args:
        match, passes: prompts that it must match, and let pass.
        model: name of the one model that it watches; empty for every model.
        exempt: purposes of declared research that it makes way for.
        owner, reviewer: public ids of who answers for it, and who looks at it as well.
    """

    slug: str
    title: str
    license: str
    clauses: tuple[str, ...]
    when: str
    outcome: RuleOutcome
    reason_text: str
    match: tuple[str, ...]
    passes: tuple[str, ...]
    model: str = ""
    route: str = ""
    on_missing: OnMissing = OnMissing.SKIP
    weight: int = 1
    per_hour: int = 0
    accounts_per_day: int = 0
    exempt: tuple[Purpose, ...] = ()
    owner: str = ""
    reviewer: str = ""


def check_draft(
    draft: RuleDraft, *, elements: Mapping[str, Element | None], banks: Collection[str] | None, measure: Measure
) -> Expression:  # fmt: skip
    """Return the condition of a rule that may be kept, or raise `Invalid` for the first thing wrong.

    Args:
        elements: what breaking each cited clause takes, by key.
        banks: names of the banks that there are; None where any name will do.
        measure: what is measured of a prompt before an engine is asked.
    """
    _check_words(draft)
    expression = parse(draft.when, FEATURES, banks=banks)
    if expression.cost_ns > RULE_COST_NS:
        raise Invalid("condition_slow", "This condition takes too long on each use. Make it two rules.", field="when")
    if expression.outlook(_missing(lambda feature: feature.name in HINTS)) is False:
        message = "A rule may ask for the language only as one way among others: often it is not known."
        raise Invalid("condition_hint", message, field="when")
    _check_outcome(draft, expression, elements)
    check_examples(draft, expression, measure)
    return expression


def _check_words(draft: RuleDraft) -> None:
    if not SLUG.fullmatch(draft.slug) or len(draft.slug) > SLUG_MAX:
        message = f"A name has small letters, digits and hyphens, as in fake-news-batch; at most {SLUG_MAX}."
        raise Invalid("slug_invalid", message, field="slug")
    if not draft.title or len(draft.title) > TITLE_MAX or not draft.title.isprintable():
        raise Invalid("title_invalid", f"Give it a title of one line, at most {TITLE_MAX} characters.", field="title")
    if not draft.model.isprintable():
        raise Invalid("model_unknown", "There is no such model.", field="model")
    if draft.route not in ROUTES:
        raise Invalid("route_unknown", "Choose where it watches.", field="route")
    for field, least in (("weight", 1), ("per_hour", 0), ("accounts_per_day", 0)):
        if not least <= getattr(draft, field) <= COUNT_MAX:
            raise Invalid(f"{field}_range", f"Write a number from {least} to {COUNT_MAX:,}.", field=field)
    check_words(draft.reason_text, field="reason_text", ask="Say in a sentence what the person is told.")
    if draft.reviewer and draft.reviewer == draft.owner:
        raise Invalid("reviewer_owner", "Owner and reviewer are two people.", field="reviewer")


def _check_outcome(draft: RuleDraft, expression: Expression, elements: Mapping[str, Element | None]) -> None:
    outcome = draft.outcome
    if outcome is RuleOutcome.ALLOW:
        raise Invalid("outcome_none", "Choose what a hit leads to.", field="outcome")
    if outcome not in ACTING:
        return
    if outcome is not RuleOutcome.WARN and all(elements.get(key) is Element.INTENT for key in draft.clauses):
        message = "All these clauses turn on what somebody intends, which only a person finds. Cite one of conduct."
        raise Invalid("clauses_intent", message, field="clauses")
    late = [key for key, feature in expression.features.items() if feature.phase not in AT_ONCE]
    if outcome in REFUSING and late:
        words = OUTCOME_WORDS[outcome]
        message = f"{late[0]} is known only afterwards, too late for this: {words}. Choose less, or leave it out."
        raise Invalid("outcome_late", message, field="outcome")
    if expression.outlook(_missing(lambda feature: feature.may_refuse)) is not False:
        weak = [key for key, feature in expression.features.items() if not feature.may_refuse]
        message = f"It could hit by {', '.join(weak) or 'what is absent'} alone, which leads to no more than flagging."
        raise Invalid("outcome_weak", message, field="outcome")


def _missing(absent: Callable[[Feature], bool]) -> Callable[[Feature], Value | None]:
    return lambda feature: feature.default if absent(feature) else None


def check_examples(draft: RuleDraft, expression: Expression, measure: Measure) -> None:
    """Raise `Invalid` unless the condition holds for every prompt that it must match, and for none that must pass."""
    run = compiled([expression])
    for field, prompts, wanted in (("match", draft.match, True), ("passes", draft.passes, False)):
        if not prompts or len(prompts) > EXAMPLES_MAX:
            what = "it must match" if wanted else "it must let pass"
            raise Invalid(f"{field}_count", f"Give 1 to {EXAMPLES_MAX} prompts that {what}.", field=field)
        for number, prompt in enumerate(prompts, 1):
            vector = example_vector(prompt, measure, field)
            if bool(run(vector)) is not wanted:
                asked = sorted(expression.features.items())
                found = ", ".join(f"{key} = {vector.get(key, feature.default)}" for key, feature in asked)
                message = f"Prompt {number} is {'not matched' if wanted else 'matched'}: it has {found}."
                raise Invalid("example_wrong", message, field=field)


def example_vector(prompt: str, measure: Measure, field: str = "match") -> dict[str, Value]:
    """Return what is measured of an example.

    Lines at its start such as ``@near_24h 25`` set what its text alone does not say.
    """
    if len(prompt) > EXAMPLE_MAX or "\0" in prompt:
        raise Invalid("example_long", f"A prompt has at most {EXAMPLE_MAX:,} characters and no NUL.", field=field)
    lines, given = prompt.split("\n"), dict[str, Value]()
    while lines and lines[0].startswith("@"):
        match = SETTING.fullmatch(lines.pop(0).strip())
        if match is None or match["key"].partition("(")[0] not in FEATURES:
            raise Invalid("example_setting", "A line at the start of a prompt is such as @near_24h 25.", field=field)
        value = match["value"]
        given[match["key"]] = value == "true" if value in {"true", "false"} else float(value)
    return {**measure("\n".join(lines)), **given}


NEEDED = {
    "slug": str, "title": str, "license": str, "clauses": list, "when": str, "outcome": str, "reason_text": str,
    "match": list, "pass": list,
}  # fmt: skip
OPTIONAL = {"on_missing": str, "weight": int, "per_hour": int, "accounts_per_day": int, "route": str, "exempt": list}


def read_shipped(text: str, where: str) -> RuleDraft:
    """Read a rule that comes with the portal from its file.

    Args:
        where: how errors name the file.

    Raises:
        Invalid: a field is missing, unknown or of the wrong kind.
    """
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise Invalid("rule_file", f"{where}: {error}") from None
    if stray := sorted(set(NEEDED) - set(table)) or sorted(set(table) - set(NEEDED) - set(OPTIONAL)):
        raise Invalid("rule_file", f"{where}: {stray[0][:60]} is {'no field' if stray[0] in table else 'missing'}")
    for name, kind in {**NEEDED, **OPTIONAL}.items():
        if name in table and not _is(table[name], kind):
            raise Invalid("rule_file", f"{where}: {name} is no {'list of texts' if kind is list else kind.__name__}")
    try:
        choices: dict[str, Any] = {
            "outcome": RuleOutcome(table["outcome"]), "on_missing": OnMissing(table.get("on_missing", "skip")),
            "exempt": tuple(Purpose(one) for one in table.get("exempt", [])),
        }  # fmt: skip
    except ValueError as error:
        raise Invalid("rule_file", f"{where}: {error}") from None
    lists: dict[str, Any] = {
        "clauses": tuple(table["clauses"]),
        "match": tuple(table["match"]),
        "passes": tuple(table["pass"]),
    }
    rest = {name: value for name, value in table.items() if name not in {*lists, *choices, "pass"}}
    return RuleDraft(**rest, **lists, **choices)


def _is(value: object, kind: type) -> bool:
    return type(value) is kind and (not isinstance(value, list) or all(isinstance(one, str) for one in value))


def alike(mine: Expression, others: Mapping[str, Expression]) -> list[str]:
    """Return the names of rules that ask exactly the same."""
    return [name for name, other in others.items() if other.plain == mine.plain]


def check_cost(expressions: Sequence[Expression]) -> None:
    """Raise `Invalid` unless all rules that enforce stay within their time on each use."""
    if sum(expression.cost_ns for expression in expressions) > ALL_COST_NS:
        message = (
            f"With it, enforcing rules would take more than {ALL_COST_NS // 1000} µs on each use. Retire one first."
        )
        raise Invalid("rules_slow", message, field="when")
