"""What outcomes, modes, caps and the brake amount to, and what a rule has to say before it is kept."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.backtests.rules import Tally, span
from portal.clauses.rules import Element
from portal.core.errors import Conflict, Invalid
from portal.detection.rules import (
    ACTING,
    RANKS,
    REFUSING,
    RULE,
    YOUNG,
    Mode,
    Move,
    Reach,
    RuleFact,
    RuleOutcome,
    RuleSet,
    Spent,
    Use,
    brake,
    check_shadowed,
)
from portal.exemptions.rules import Purpose
from portal.expressions.rules import parse
from portal.features.rules import FEATURES, Value
from portal.rulebook.rules import (
    ALL_COST_NS,
    RuleDraft,
    alike,
    check_cost,
    check_draft,
    example_vector,
    read_shipped,
)

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
R, M = RuleOutcome, Mode
ELEMENTS = {"restriction.spam": Element.CONDUCT, "restriction.harm": Element.INTENT, "duty.disclose": None}
NEWS = 'phrases("news")'
DRAFT = RuleDraft(
    slug="fake-news", title="Fake news", license="a-license", clauses=("restriction.spam",), when=f"{NEWS} >= 2",
    outcome=R.BLOCK, reason_text="It asks for invented news.", match=("news news",), passes=("news",),
)  # fmt: skip


def measure(text: str) -> Mapping[str, Value]:
    return {NEWS: text.count("news"), "chars": len(text)}


def check(**said: Any) -> None:
    check_draft(replace(DRAFT, **said), elements=ELEMENTS, banks={"news"}, measure=measure)


def refused(field: str | None, **said: Any) -> str:
    with pytest.raises(Invalid) as caught:
        check(**said)
    assert caught.value.field == field, caught.value.message
    return caught.value.message


def test_outcomes_have_an_order_and_close_is_none_of_them() -> None:
    assert [outcome.value for outcome in R] == [
        "allow", "tag", "flag", "warn", "throttle", "reconfirm", "block", "freeze_access_token", "suspend_entitlement",
        "suspend",
    ]  # fmt: skip
    assert R.BLOCK.at_most(R.FLAG) is R.FLAG.at_most(R.BLOCK) is R.FLAG
    assert {outcome for outcome in R if outcome.reaches(R.WARN)} == ACTING
    assert min(REFUSING, key=RANKS.__getitem__) is R.BLOCK


def test_every_mode_is_reached_and_nothing_leaves_the_last() -> None:
    assert {*RULE.table.values(), RULE.start} == set(M)
    assert not any(mode is M.RETIRED for mode, _ in RULE.table)
    with pytest.raises(Conflict):
        RULE.next(M.SHADOW, Move.ENFORCE)


def fact(**said: Any) -> RuleFact:
    given: dict[str, Any] = {
        "id": 1, "slug": "a", "version": 1, "when": parse("chars > 1", FEATURES), "outcome": R.SUSPEND,
        "mode": M.ENFORCING,
        "license": "l", "clauses": frozenset({"c"}), "expires_at": NOW + timedelta(days=1),
    }  # fmt: skip
    return RuleFact(**{**given, **said})


USE = Use(1, 1, "l", "inference", NOW)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(R),
    st.sampled_from([M.SHADOW, M.FLAGGING, M.ENFORCING]),
    st.booleans(),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_nothing_makes_a_hit_stronger_than_its_rule(outcome: R, mode: M, expired: bool, cap: int, acted: int) -> None:
    expires_at = NOW if expired else NOW + timedelta(seconds=1)
    rule = fact(outcome=outcome, mode=mode, per_hour=cap, expires_at=expires_at)
    found = RuleSet.of(1, [rule], []).found(1, USE, acted=lambda _: acted)[0]
    assert found.outcome is outcome
    assert not found.applied.rank > outcome.rank
    only_flags = mode is M.FLAGGING or expired or bool(cap and acted >= cap)
    limit = R.ALLOW if mode is M.SHADOW else R.FLAG if only_flags else R.SUSPEND
    assert found.applied is outcome.at_most(limit)


def test_the_strongest_that_may_act_comes_first() -> None:
    rules = [
        fact(id=1, outcome=R.SUSPEND, mode=M.FLAGGING), fact(id=2, outcome=R.WARN), fact(id=3, outcome=R.THROTTLE),
        fact(id=4, outcome=R.THROTTLE, weight=5), fact(id=5, outcome=R.SUSPEND, mode=M.SHADOW),
    ]  # fmt: skip
    found = RuleSet.of(1, rules, []).found(0b11111, USE)
    assert [hit.rule.id for hit in found] == [4, 3, 2, 1, 5]


def test_before_an_engine_is_asked_only_rules_run_that_can() -> None:
    rules = [
        fact(id=1, when=parse("near_24h < 5", FEATURES)), fact(id=2, when=parse('output_phrases("x") < 1', FEATURES)),
        fact(id=3, when=parse("chars < 1", FEATURES)),
    ]  # fmt: skip
    ruleset = RuleSet.of(1, rules, [])
    assert [rule.id for rule in ruleset.rules] == [3, 2, 1]
    assert (ruleset.run({}), ruleset.run_output({}), ruleset.run_all({})) == (0b1, 0b11, 0b111)


def test_a_process_counts_what_its_rules_did_within_the_hour() -> None:
    spent, ruleset = Spent(), RuleSet.of(1, [fact(per_hour=2)], [])
    came = []
    for minutes in (0, 10, 20, 59, 60, 61, 70):
        at = NOW + timedelta(minutes=minutes)
        use = Use(1, 1, "l", "inference", at)
        hit = ruleset.found(1, use, acted=spent.since(at))[0]
        spent.note(hit, at)
        came.append(hit.applied is R.SUSPEND)
    assert came == [True, True, False, False, True, False, True]


@pytest.mark.parametrize(
    ("hour", "day", "active", "age", "per_day", "stops"),
    [
        (5, 5, 1, 0, 0, False), (6, 6, 1, 0, 0, True), (6, 6, 600, 0, 0, False), (7, 7, 600, 0, 0, True),
        (1000, 1000, 1, 7, 0, False), (1000, 1000, 1, 6.9, 0, True), (0, 4, 1, 99, 3, True), (0, 3, 1, 99, 3, False),
    ],
)  # fmt: skip
def test_when_the_brake_acts(  # noqa: PLR0917
    hour: int, day: int, active: int, age: float, per_day: int, stops: bool
) -> None:
    reach = Reach(hour, day, active, NOW - age * YOUNG / 7, per_day)
    assert bool(brake(reach, NOW)) is stops


def test_a_rule_is_in_shadow_for_a_day() -> None:
    check_shadowed(NOW - timedelta(hours=24), NOW)
    with pytest.raises(Conflict):
        check_shadowed(NOW - timedelta(hours=24) + timedelta(seconds=1), NOW)


def test_a_rule_that_says_all_it_must_is_taken() -> None:
    check()
    check(when=f"near_24h >= 20 and {NEWS} >= 1", outcome=R.THROTTLE, match=("@near_24h 20\nnews",), passes=("news",))
    check(outcome=R.WARN, clauses=("restriction.harm",))
    check(clauses=("restriction.harm", "restriction.spam"))
    check(outcome=R.THROTTLE, clauses=("duty.disclose",))
    check(when=f'{NEWS} >= 2 or {NEWS} >= 1 and lang == "fr"', outcome=R.FLAG)


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("slug", {"slug": "Fake news"}), ("slug", {"slug": "x" * 61}), ("slug", {"slug": ""}), ("title", {"title": ""}),
        ("title", {"title": "a\nb"}), ("title", {"title": "x" * 121}), ("route", {"route": "mail"}),
        ("model", {"model": "a\x00b"}), ("weight", {"weight": 0}), ("weight", {"weight": 10**9}),
        ("per_hour", {"per_hour": -1}), ("accounts_per_day", {"accounts_per_day": 10**30}),
        ("reason_text", {"reason_text": " "}),
        ("reason_text", {"reason_text": "\x00"}), ("reason_text", {"reason_text": "x" * 2_001}),
        ("reviewer", {"owner": "usr_a", "reviewer": "usr_a"}), ("outcome", {"outcome": R.ALLOW}),
        ("clauses", {"clauses": ("restriction.harm",)}),
        ("clauses", {"clauses": ("restriction.harm",), "outcome": R.THROTTLE}),
        ("outcome", {"when": f"near_24h > 5 and {NEWS} > 1"}), ("outcome", {"when": "near_24h > 5", "outcome": R.WARN}),
        ("outcome", {"when": f"near_24h > 5 or {NEWS} > 1", "outcome": R.THROTTLE}),
        ("outcome", {"when": f"{NEWS} < 5", "outcome": R.WARN}), ("when", {"when": f'{NEWS} >= 2 and lang == "fr"'}),
        ("when", {"when": f'{NEWS} >= 2 and lang in {{"fr", "en"}}', "outcome": R.FLAG}),
        ("when", {"when": 'phrases("no") > 1'}),
        ("match", {"match": ()}), ("match", {"match": ("news",)}), ("passes", {"passes": ("news news",)}),
        ("passes", {"passes": ("x",) * 51}), ("match", {"match": ("x" * 4_001,)}), ("match", {"match": ("\x00",)}),
        ("match", {"match": ("@near_24h\nnews",)}), ("match", {"match": ("@nothing 3\nnews",)}),
        ("match", {"match": ("@chars 1e999\nnews",)}),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_rule_is_named_at_its_field(field: str, said: dict[str, Any]) -> None:
    assert refused(field, **said).endswith(".")


def test_an_example_that_does_not_fit_says_what_was_measured() -> None:
    assert refused("match", match=("news news", "only news")) == 'Prompt 2 is not matched: it has phrases("news") = 1.'
    assert refused("passes", passes=("news", "news news")) == 'Prompt 2 is matched: it has phrases("news") = 2.'


def test_lines_at_the_start_of_an_example_set_what_its_text_cannot_say() -> None:
    vector = example_vector('@near_24h 25\n@scanned true\n@judge("restriction.spam") 0.5\nnews\n@chars 3', measure)
    assert vector == {NEWS: 1, "chars": 13, "near_24h": 25, "scanned": True, 'judge("restriction.spam")': 0.5}


FILE = """
slug = "fake-news"
title = "Fake news"
license = "bloom-rail"
clauses = ["restriction.false_information_to_harm"]
when = 'phrases("news") >= 2'
outcome = "flag"
reason_text = "It asks for invented news."
match = ["news news"]
pass = ["news"]
exempt = ["detection_research"]
weight = 3
"""


def test_a_rule_that_comes_with_the_portal_is_read_from_its_file() -> None:
    draft = read_shipped(FILE, "fake-news.toml")
    assert (draft.outcome, draft.weight, draft.exempt) == (R.FLAG, 3, (Purpose.DETECTION_RESEARCH,))
    assert (draft.match, draft.passes) == (("news news",), ("news",))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('slug = "fake-news"', ""), ("weight = 3", "wait = 3"), ("weight = 3", 'weight = "3"'),
        ("weight = 3", "weight = true"),
        ('["news"]', "[1]"), ('"flag"', '"close"'), ('["detection_research"]', '["fun"]'), ("weight = 3", "weight ="),
        ("weight = 3", 'on_missing = "maybe"'),
    ],
)  # fmt: skip
def test_a_file_that_is_no_rule_is_refused_by_name(old: str, new: str) -> None:
    with pytest.raises(Invalid, match=r"fake-news\.toml: "):
        read_shipped(FILE.replace(old, new), "fake-news.toml")


def test_rules_that_ask_the_same_are_found_and_all_of_them_have_their_time() -> None:
    mine, same, other = (parse(source, FEATURES) for source in ("chars>1", "(chars   > 1)", "chars > 2"))
    assert alike(mine, {"same": same, "other": other}) == ["same"]
    check_cost([mine] * (ALL_COST_NS // mine.cost_ns))
    with pytest.raises(Invalid):
        check_cost([mine] * (ALL_COST_NS // mine.cost_ns + 1))


def test_over_how_many_days_a_rule_is_tried() -> None:
    assert span(30) == timedelta(days=30)
    for days in (0, -1, 91, 10**20):
        with pytest.raises(Invalid):
            span(days)


tallies = st.builds(
    Tally, looked=st.integers(0, 99), hits=st.integers(0, 99), people=st.sets(st.integers(1, 9)),
    right=st.integers(0, 9),
    wrong=st.integers(0, 9), others=st.dictionaries(st.sampled_from("ab"), st.integers(1, 9)).map(Counter),
    days=st.dictionaries(st.sampled_from("xy"), st.integers(1, 9)).map(Counter),
    sample=st.sets(st.tuples(st.integers(0, 99), st.integers(1, 99)), max_size=20).map(sorted),
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.lists(tallies, max_size=5), st.randoms())
def test_parts_of_a_count_add_up_in_any_order_and_survive_being_written(parts: list[Tally], random: Any) -> None:
    def total(some: list[Tally]) -> Tally:
        whole = Tally()
        for part in some:
            whole.add(Tally.read(part.written()))
        return whole

    shuffled = random.sample(parts, len(parts))
    assert total(parts).written() == total(shuffled).written()
    assert total(parts).people == set().union(*(part.people for part in parts))


def test_a_forecast_says_how_right_a_rule_was_and_how_much_work_it_is() -> None:
    tally = Tally(looked=10, hits=4, people={1, 2}, right=3, wrong=1)
    told = tally.forecast(opens_cases=True)
    assert (told["precision"], told["judged"], told["minutes"]) == (0.75, 4, 16)
    assert Tally().forecast(opens_cases=False)["precision"] is None
    tally.draw(range(1000), seed=1)
    again = Tally()
    again.draw(range(999, -1, -1), seed=1)
    assert tally.sample == again.sample
    assert len(tally.sample) == 20
