"""The language of detection rules: what it takes, what it refuses and how, and that compiling changes no meaning."""

import ast
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.core.errors import Invalid
from portal.expressions import rules
from portal.expressions.rules import DEPTH_MAX, NODES_MAX, compiled, key_of, parse, ratio, share
from portal.features.rules import Feature, Kind, Phase

NUMBERS = ("a", "b", "c")
FEATURES = {
    **{name: Feature(name, Kind.NUMBER, Phase.INLINE, name, may_refuse=True) for name in NUMBERS},
    "late": Feature("late", Kind.NUMBER, Phase.ASYNC, "later"),
    "on": Feature("on", Kind.FLAG, Phase.INLINE, "flag", default=False, may_refuse=True),
    "lang": Feature("lang", Kind.TEXT, Phase.ASYNC, "text", default=""),
    "kinds": Feature("kinds", Kind.SET, Phase.ASYNC, "set", default=frozenset()),
    "phrases": Feature("phrases", Kind.NUMBER, Phase.INLINE, "bank", may_refuse=True, takes_bank=True),
    "learned": Feature("learned", Kind.NUMBER, Phase.ASYNC, "clause", takes_clause=True),
}
BANKS = ("news", "spam")


def refusal(source: str, banks: Any = None) -> str:
    with pytest.raises(Invalid) as caught:
        parse(source, FEATURES, banks=banks)
    assert caught.value.field == "when"
    return caught.value.message


REFUSED = {
    "": "Write when the rule applies",
    "a": "column 1: the whole is a value, not a condition. Compare it",
    "1 < 2": "it asks about no feature",
    "a >= 1 and b": "column 12: this is a number, and a flag is needed. Compare it",
    "a and": "no expression",
    "a >= 1\nand b >= 1": "Line 2, column 1",
    "a.real > 1": "a dot after a value",
    "a[0] > 1": "square brackets",
    "(lambda: 1)() > a": "nothing can be called",
    "(lambda: 1) > a": "lambda is no part",
    "[x for x in kinds] == a": "a comprehension",
    'f"{a}" == lang': "an f-string",
    "a ** 2 > 1": "** is no part of this language. Write the number itself",
    "a / b > 1": "Write ratio(a, b)",
    "a // b > 1": "Write ratio(a, b)",
    "a % 2 == 1": "% is no part",
    "a * b > 1": "one side of * is a plain number",
    "on if on else on": "if … else is no part",
    "(x := 1) > a": ":= is no part",
    "a is 1": "is is no part of this language. Write ==",
    'lang not in {"en"}': "Write not (… in …)",
    "+a > 1": "this sign",
    "~a > 1": "this sign",
    "a > True": "True is neither",
    "a > 1j": "1j is neither",
    "a > b'x'": "neither a number",
    "a > None": "None is neither",
    "a > 2147483648": "a number lies below",
    "a > 1e999": "a number lies below",
    'lang == "\\n"': "all of which show",
    f'lang == "{"x" * 201}"': "at most 200 characters",
    '"x" * 1000000000 > a': "this is a text, and a number is needed",
    'lang < "x"': "this is a text",
    "lang == 1": "a text is needed",
    "on == on": "a flag is not compared in this way",
    "kinds == kinds": "a set is not compared",
    "a in kinds": "the members of this set are texts",
    "a in b": "a set is needed",
    "on in {1}": "a flag is in no set",
    "a in {1, b}": "a set holds plain numbers or texts",
    'a in {1, "x"}': "a number is needed",
    "a in [1, 2]": "a list is no part of this language. Write a set",
    "nothing > 1": "there is no feature nothing. There are",
    "phrases > 1": 'Write phrases("name of the bank")',
    "learned > 1": 'Write learned("name of the clause")',
    "a(1) > 1": "nothing can be called by this name",
    'phrases("news", "spam") > 1': "takes one name in quotes",
    'phrases(name="news") > 1': "an argument has no name here",
    "phrases(a) > 1": "takes one name in quotes",
    'phrases("(a+)+$") > 1': "takes one name in quotes",
    'phrases("new") > 1': "there is no bank new. There are news, spam",
    "ratio(a) > 1": "ratio takes two numbers",
    "ratio(on, a) > 1": "this is a flag, and a number is needed",
    '__import__("os").system("x") > a': "nothing can be called by this name",
    "__builtins__ > 1": "there is no feature __builtins__",
    "ratio > 1": "there is no feature ratio",
    "get > 1": "there is no feature get",
    "\ud800 > 1": "characters that no text has",
    "a > 1 # \0": "",
    "not " * 400 + "on": "",
    "(" * 190 + "on" + ")" * 190 + " and a": "a flag is needed",
    " or ".join(["on"] * 201): f"at most {NODES_MAX} parts",
    "not (" * 21 + "on" + ")" * 21: "nested more than 20 deep",
    "x" * 1_000_000: "at most 2,000 characters; this one has 1,000,000",
}  # fmt: skip


@pytest.mark.threat("TM-11")
@pytest.mark.parametrize("source", REFUSED, ids=lambda source: str(source)[:30].encode("ascii", "replace").decode())
def test_what_is_outside_the_language_is_refused_with_place_and_remedy(source: str) -> None:
    assert REFUSED[source] in refusal(source, BANKS)


def test_the_place_of_a_fault_is_counted_in_characters() -> None:
    assert refusal('"日本" == lang and a').startswith("Line 1, column 18: ")
    assert refusal("(on and\n  b)").startswith("Line 2, column 3: ")


TAKEN = (
    "a >= 1", "1 < a <= 5", "a + b - 2 * c > -3", "not on", "on and (a > 1 or b > 2)", 'lang in {"en", "fr"}',
    'lang != "en"', "a in {1, 2, 3.5}", '"Latn" in kinds',
    'phrases("news") >= 2', 'learned("restriction.spam") > 0.5',
    "ratio(a, b) > 2", "share(a, a + b) >= 0.5", "(a > 1\n  and b > 2)", "a > 1  # why",
)  # fmt: skip


@pytest.mark.parametrize("source", TAKEN)
def test_what_is_within_the_language_is_taken(source: str) -> None:
    expression = parse(source, FEATURES, banks=BANKS)
    assert parse(expression.plain, FEATURES).plain == expression.plain
    assert compiled([expression])({}) in {0, 1}


def test_each_rule_has_its_bit_and_what_was_not_measured_its_default() -> None:
    rules_ = [
        parse(source, FEATURES) for source in ("a >= 1", "not on", '"x" in kinds', "a >= 2 and late < 1", 'lang == ""')
    ]
    run = compiled(rules_)
    assert run({}) == 0b10010
    assert run({"a": 2, "on": True, "kinds": frozenset("x"), "lang": "en"}) == 0b01101
    assert run({"a": 2, "late": 1, "kinds": ["x"]}) == 0b10111
    assert compiled([])({"a": 1}) == 0


def test_what_a_compiled_function_can_reach() -> None:
    run: Any = compiled([parse("a > 1", FEATURES), parse("ratio(a, b) > 1", FEATURES)])
    assert run.__globals__["__builtins__"] == {}
    assert set(run.__globals__) == {"__builtins__", "empty", "ratio", "share", "run"}


def test_ratio_and_share_always_have_a_value() -> None:
    assert [ratio(1, 2), ratio(1, 0), share(1, 3), share(0, 0), share(1, -1)] == [0.5, 0.0, 0.25, 0.0, 0.0]


def test_no_product_outgrows_a_number() -> None:
    chain = " * ".join(["2147483647"] * (DEPTH_MAX - 3))
    run = compiled([parse(f"ratio(a * {chain}, 0.5) > 1", FEATURES)])
    assert run({"a": 2**63}) == 1
    assert "nested more than" in refusal(f"2147483647 * 2147483647 * ratio(a * {chain}, 0.5) > 1")


@pytest.mark.parametrize(
    ("source", "known", "wanted"),
    [
        ("a > 1 and lang == 'en'", {"lang": ""}, False), ("a > 1 or lang == 'en'", {"lang": ""}, None),
        ("not (lang == 'en')", {"lang": ""}, True), ("a > 1 and b > 1", {"a": 0}, False),
        ("a > 1 or late > 1", {"a": 0}, None), ("a > late", {"a": 0}, None), ("on or a > 1", {"on": True}, True),
        ('phrases("news") > 1 and on', {"phrases": 0}, False),
    ],
)  # fmt: skip
def test_a_condition_is_worked_out_as_far_as_is_known(source: str, known: dict[str, Any], wanted: bool | None) -> None:
    assert parse(source, FEATURES).outlook(lambda feature: known.get(feature.name)) is wanted


# A naive interpreter: the meaning of the language, written a second time.
OPS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Lt: lambda a, b: a < b, ast.LtE: lambda a, b: a <= b, ast.Gt: lambda a, b: a > b, ast.GtE: lambda a, b: a >= b,
    ast.Eq: lambda a, b: a == b, ast.NotEq: lambda a, b: a != b, ast.In: lambda a, b: a in b,
    ast.Add: lambda a, b: a + b, ast.Sub: lambda a, b: a - b, ast.Mult: lambda a, b: a * b,
}  # fmt: skip


def meaning(node: Any, vector: dict[str, Any]) -> Any:  # noqa: PLR0911
    if (key := key_of(node)) is not None:
        return vector.get(key, FEATURES[key.partition("(")[0]].default)
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Set):
        return {meaning(one, vector) for one in node.elts}
    if isinstance(node, ast.BoolOp):
        values = [meaning(one, vector) for one in node.values]
        return all(values) if isinstance(node.op, ast.And) else any(values)
    if isinstance(node, ast.UnaryOp):
        value = meaning(node.operand, vector)
        return not value if isinstance(node.op, ast.Not) else -value
    if isinstance(node, ast.BinOp):
        return OPS[type(node.op)](meaning(node.left, vector), meaning(node.right, vector))
    if isinstance(node, ast.Call):
        a, b = (meaning(one, vector) for one in node.args)
        under = b if node.func.id == "ratio" else a + b
        return float(a) / float(under) if under else 0.0
    sides = [meaning(node.left, vector), *(meaning(one, vector) for one in node.comparators)]
    return all(OPS[type(op)](*pair) for op, pair in zip(node.ops, pairwise(sides), strict=True))


literals = st.integers(-50, 50).map(str) | st.floats(-50, 50, allow_nan=False).map(lambda x: repr(round(x, 3)))
asked = st.sampled_from([*NUMBERS, "late", 'phrases("news")', 'phrases("spam")'])
numbers = st.recursive(
    literals | asked,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(literals, inner).map(lambda t: f"({t[0]} * {t[1]})"),
        inner.map(lambda x: f"(-{x})"),
        st.tuples(st.sampled_from(["ratio", "share"]), inner, inner).map(lambda t: f"{t[0]}({t[1]}, {t[2]})"),
    ),
    max_leaves=5,
)
orders = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
texts = st.sampled_from(['"en"', '"fr"', '""', "lang"])
atoms = st.one_of(
    st.tuples(numbers, orders, numbers).map(" ".join),
    st.tuples(numbers, st.sampled_from(["<", "<="]), numbers, st.sampled_from(["<", "<="]), numbers).map(" ".join),
    st.tuples(texts, st.sampled_from(["==", "!="]), texts).map(" ".join),
    st.tuples(numbers, st.lists(literals, min_size=1, max_size=3)).map(lambda t: f"{t[0]} in {{{', '.join(t[1])}}}"),
    st.sampled_from(["on", '"x" in kinds', 'lang in {"en", "fr"}']),
)
conditions = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        inner.map(lambda x: f"(not {x})"),
    ),
    max_leaves=6,
)
values = st.integers(-(2**40), 2**40) | st.floats(-1e9, 1e9) | st.integers(-3, 3)
vectors = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys((*NUMBERS, "late", 'phrases("news")'), values), "on": st.booleans(),
        "lang": st.sampled_from(["", "en", "fr"]), "kinds": st.sets(st.sampled_from("xyz")).map(frozenset),
    },
)  # fmt: skip


def clear(error: Invalid, *codes: str) -> None:
    """Whoever wrote it reads a whole sentence at the field."""
    assert (error.field, error.message[-1]) == ("when", ".")
    assert not codes or error.code in codes, error.message
    error.message.encode()


@settings(max_examples=100, deadline=None)
@given(st.lists(conditions, min_size=1, max_size=4), vectors)
def test_compiled_is_what_was_written(sources: list[str], vector: dict[str, Any]) -> None:
    taken = []
    for source in sources:
        try:
            taken.append(parse(source, FEATURES))
        except Invalid as error:
            clear(error, "condition_large", "condition_refused")
    wanted = sum(bool(meaning(one.tree, vector)) << place for place, one in enumerate(taken))
    assert compiled(taken)(vector) == wanted


PIECES = """a on lang kinds phrases ( ) [ ] { } " ' , . : = == < >= and or not in if else for lambda import __class__
await yield * ** / @ ~ - 1 0x1F 1e400 1_0 \\ # é 日 \u202e f'{a}' b'' ...
None True ratio( phrases("news") ! ` $ -> := ; \ud800"""
pieces = st.sampled_from([*PIECES.split(), "9" * 400, "\n", "\t", "\f", "\0"])


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80) | st.lists(pieces, max_size=25).map(" ".join) | st.lists(pieces, max_size=25).map("".join))
def test_whatever_is_written_is_taken_or_clearly_refused(source: str) -> None:
    try:
        expression = parse(source, FEATURES, banks=BANKS)
    except Invalid as error:
        clear(error)
    else:
        assert compiled([expression])({}) in {0, 1}


def test_a_condition_costs_by_what_it_asks() -> None:
    short, long = parse("a > 1", FEATURES), parse(" and ".join(["a > 1"] * 20), FEATURES)
    assert 0 < short.cost_ns < long.cost_ns < 20_000
    assert rules.NUMBER_MAX == 2**31
