"""The language of detection rules: a small part of Python's expressions, checked, typed and made into one function.

Python's own parser reads it. Every kind of node that is not on the list below is refused, so what a later Python
adds is refused as well.
"""

import ast
import copy
import math
import re
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from portal.core.errors import Invalid
from portal.features.rules import Feature, Kind, Phase, Value

SOURCE_MAX = 2_000
NODES_MAX = 200
DEPTH_MAX = 20
NUMBER_MAX = 2**31
STRING_MAX = 200
ARGUMENT = re.compile(r"[a-z][a-z0-9_.]{0,99}")
Run = Callable[[Mapping[str, Value]], int]
ORDER = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
EQUAL = {ast.Eq: "==", ast.NotEq: "!="}
# What people try that this language leaves out: how it is called, and what to write instead.
LEFT_OUT: dict[type[ast.AST], tuple[str, str]] = {
    ast.Attribute: ("a dot after a value", "Write the name of a feature alone."),
    ast.Subscript: ("square brackets after a value", "Write the name of a feature alone."),
    ast.Lambda: ("lambda", "Write the condition itself."),
    ast.IfExp: ("if … else", "Use and, or and not."),
    ast.NamedExpr: (":=", "Write the value where it is used."),
    ast.Starred: ("a star", "Write each value by itself."),
    ast.JoinedStr: ("an f-string", "Write plain text in quotes."),
    **dict.fromkeys((ast.List, ast.Tuple, ast.Dict), ("a list", "Write a set of values, as in {1, 2}.")),
    **dict.fromkeys((ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp), ("a comprehension", "Write a set.")),
    ast.Pow: ("**", "Write the number itself."),
    ast.Div: ("/", "Write ratio(a, b), which is 0 where b is 0."),
    ast.FloorDiv: ("//", "Write ratio(a, b), which is 0 where b is 0."),
    ast.Mod: ("%", "Use + - *, ratio and share."),
    ast.NotIn: ("not in", "Write not (… in …)."),
    ast.Is: ("is", "Write ==."),
    ast.IsNot: ("is not", "Write !=."),
}


def ratio(a: float, b: float) -> float:
    """Return how many times as much a is as b; 0 where b is 0."""
    return float(a) / float(b) if b else 0.0


def share(a: float, b: float) -> float:
    """Return which part a is of a and b together; 0 where both are 0."""
    return ratio(a, a + b)


FUNCTIONS: dict[str, Callable[[float, float], float]] = {"ratio": ratio, "share": share}


@dataclass(frozen=True)
class Expression:
    """A condition that was checked.

    Args:
        source: as it was written.
        tree: as Python's parser reads it.
        features: what it asks about, by the key under which a vector holds it.
    """

    source: str
    tree: ast.expr
    features: Mapping[str, Feature]

    @property
    def plain(self) -> str:
        """The condition written in the one way, so that two that are equal but for spaces are equal."""
        return ast.unparse(self.tree)

    @property
    def phases(self) -> frozenset[Phase]:
        """When what it asks about is known."""
        return frozenset(feature.phase for feature in self.features.values())

    @property
    def cost_ns(self) -> int:
        """About how long a use takes it, in nanoseconds: measured, and rounded up."""
        return sum(COST_NS.get(type(node), 10) for node in ast.walk(self.tree))

    def outlook(self, known: Callable[[Feature], Value | None]) -> bool | None:
        """Return what it comes to where only some features are known; None where the others decide.

        Args:
            known: the value of a feature, or None. A comparison with an unknown value is unknown.
        """
        return _Outlook({key: known(feature) for key, feature in self.features.items()}).of(self.tree)


COST_NS = {ast.Call: 120, ast.Name: 40, ast.Compare: 30}


def parse(source: str, features: Mapping[str, Feature], *, banks: Collection[str] | None = None) -> Expression:
    """Check a condition, or refuse it with where it goes wrong and what to write instead.

    Args:
        features: what may be asked about, by name.
        banks: the names of banks that there are; None where any name will do.

    Raises:
        Invalid: it is too long, too deep, no expression, outside the language, or its types do not fit.
    """
    source = source.replace("\r\n", "\n").replace("\r", "\n").strip()
    if not source:
        raise Invalid("condition_missing", "Write when the rule applies, as in intent_bulk >= 1.", field="when")
    if len(source) > SOURCE_MAX:
        message = f"A condition has at most {SOURCE_MAX:,} characters; this one has {len(source):,}. Make it two rules."
        raise Invalid("condition_long", message, field="when")
    tree = _read(source)
    found: dict[str, Feature] = {}
    checker = _Checker(source, features, banks, found)
    if sum(1 for _ in ast.walk(tree)) > NODES_MAX:
        raise Invalid("condition_large", f"A condition has at most {NODES_MAX} parts. Make it two rules.", field="when")
    if checker.kind(tree) is not Kind.FLAG:
        checker.refuse(tree, "the whole is a value, not a condition", "Compare it, as in … >= 1.")
    if not found:
        checker.refuse(tree, "it asks about no feature", "Name one, as in intent_bulk >= 1.")
    return Expression(source, tree, found)


def _read(source: str) -> ast.expr:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd but valid texts; what matters is refused below
        try:
            return ast.parse(source, mode="eval").body
        except SyntaxError as error:
            line, column = error.lineno or 1, error.offset or 1
            message = (
                f"Line {line}, column {max(column, 1)}: this is no expression. Write comparisons joined by and, or, "
                "not; to go on on the next line, put the whole in parentheses."
            )
        except (ValueError, RecursionError, MemoryError):
            message = "This cannot be read: it holds characters that no text has, or is nested too deeply."
    raise Invalid("condition_unreadable", message, field="when")


class _Checker:
    """Walks over what was written and says of each part what kind of value it is."""

    def __init__(
        self, source: str, features: Mapping[str, Feature], banks: Collection[str] | None, found: dict[str, Feature]
    ) -> None:
        self.lines = source.split("\n")
        self.features, self.banks, self.found = features, banks, found
        self.depth = 0

    def refuse(self, node: ast.AST, what: str, remedy: str) -> NoReturn:
        """Say where, what is wrong, and what to write instead."""
        line = getattr(node, "lineno", 1)
        # Python counts bytes; people count characters.
        column = len(self.lines[line - 1].encode()[: getattr(node, "col_offset", 0)].decode(errors="ignore")) + 1
        raise Invalid("condition_refused", f"Line {line}, column {column}: {what}. {remedy}", field="when")

    def kind(self, node: ast.expr) -> Kind:
        """Return the kind of value that a part has, or refuse it."""
        read = READERS.get(type(node))
        if read is None:
            what, remedy = LEFT_OUT.get(type(node), ("this", "Use comparisons joined by and, or, not."))
            self.refuse(node, f"{what} is no part of this language", remedy)
        self.depth += 1
        if self.depth > DEPTH_MAX:
            self.refuse(
                node, f"this is nested more than {DEPTH_MAX} deep", "Use fewer parentheses, or make it two rules."
            )
        found = read(self, node)
        self.depth -= 1
        return found

    def want(self, node: ast.expr, wanted: Kind) -> None:
        """Refuse a part that is of another kind than is needed there."""
        if (found := self.kind(node)) is not wanted:
            remedy = "Compare it, as in … >= 1." if wanted is Kind.FLAG else f"Write a {wanted} here."
            self.refuse(node, f"this is a {found}, and a {wanted} is needed", remedy)

    def constant(self, node: ast.Constant) -> Kind:
        value = node.value
        if isinstance(value, str):
            if len(value) > STRING_MAX or not all(c.isprintable() for c in value):
                self.refuse(
                    node, f"a text has at most {STRING_MAX} characters, all of which show", "Write a shorter one."
                )
            return Kind.TEXT
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(node, f"{value!r:.20} is neither a number nor a text", "Write a number, or a text in quotes.")
        if not abs(value) < NUMBER_MAX or not math.isfinite(value):
            self.refuse(node, f"a number lies below {NUMBER_MAX:,}", "Write a smaller one.")
        return Kind.NUMBER

    def name(self, node: ast.Name) -> Kind:
        feature = self.features.get(node.id)
        if feature is None:
            self.refuse(node, f"there is no feature {node.id:.60}", _near(node.id, self.features))
        if feature.takes_bank or feature.takes_clause:
            of = "bank" if feature.takes_bank else "clause"
            self.refuse(node, f"{node.id} asks about one {of}", f'Write {node.id}("name of the {of}").')
        self.found[feature.key()] = feature
        return feature.kind

    def call(self, node: ast.Call) -> Kind:
        called = node.func.id if isinstance(node.func, ast.Name) else ""
        feature = self.features.get(called)
        if called not in FUNCTIONS and not (feature and (feature.takes_bank or feature.takes_clause)):
            self.refuse(
                node, "nothing can be called by this name", 'Features that can are those such as phrases("news").'
            )
        if node.keywords:
            self.refuse(node.keywords[0].value, "an argument has no name here", "Write its value alone.")
        if feature is None:
            if len(node.args) != len("ab"):
                self.refuse(node, f"{called} takes two numbers", f"Write {called}(a, b).")
            for number in node.args:
                self.want(number, Kind.NUMBER)
            return Kind.NUMBER
        argument = _text(node.args[0]) if len(node.args) == 1 else None
        if argument is None or not ARGUMENT.fullmatch(argument):
            self.refuse(node, f"{called} takes one name in quotes", f'Write it as in {called}("news").')
        if feature.takes_bank and self.banks is not None and argument not in self.banks:
            self.refuse(node, f"there is no bank {argument}", _near(argument, self.banks))
        self.found[feature.key(argument)] = feature
        return feature.kind

    def both(self, node: ast.BoolOp) -> Kind:
        for value in node.values:
            self.want(value, Kind.FLAG)
        return Kind.FLAG

    def sign(self, node: ast.UnaryOp) -> Kind:
        kinds = {ast.Not: Kind.FLAG, ast.USub: Kind.NUMBER}
        if (wanted := kinds.get(type(node.op))) is None:
            self.refuse(node, "this sign is no part of this language", "Use not, or - before a number.")
        self.want(node.operand, wanted)
        return wanted

    def arithmetic(self, node: ast.BinOp) -> Kind:
        if type(node.op) not in {ast.Add, ast.Sub, ast.Mult}:
            what, remedy = LEFT_OUT.get(type(node.op), ("this sign", "Use + - *."))
            self.refuse(node, f"{what} is no part of this language", remedy)
        for side in (node.left, node.right):
            self.want(side, Kind.NUMBER)
        # So a product, at most as deep as this may be nested, stays below what division and fractions can take.
        if isinstance(node.op, ast.Mult) and not (_number(node.left) or _number(node.right)):
            self.refuse(node, "one side of * is a plain number", "Write it as in 2 * vel_req_1h.")
        return Kind.NUMBER

    def compare(self, node: ast.Compare) -> Kind:
        left = node.left
        for op, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(op, ast.In):
                self._within(left, right)
            elif type(op) in ORDER:
                self.want(left, Kind.NUMBER)
                self.want(right, Kind.NUMBER)
            elif type(op) in EQUAL:
                kind = self.kind(left)
                if kind not in {Kind.NUMBER, Kind.TEXT}:
                    self.refuse(left, f"a {kind} is not compared in this way", "Use it alone, or with not or in.")
                self.want(right, kind)
            else:
                what, remedy = LEFT_OUT[type(op)]
                self.refuse(node, f"{what} is no part of this language", remedy)
            left = right
        return Kind.FLAG

    def _within(self, left: ast.expr, right: ast.expr) -> None:
        kind = self.kind(left)
        if not isinstance(right, ast.Set):
            self.want(right, Kind.SET)
            if kind is not Kind.TEXT:
                self.refuse(left, "the members of this set are texts", 'Write a text, as in "x" in scripts.')
            return
        if kind not in {Kind.NUMBER, Kind.TEXT}:
            self.refuse(left, f"a {kind} is in no set", "Write a number or a text.")
        for member in right.elts:
            if not isinstance(member, ast.Constant):
                self.refuse(member, "a set holds plain numbers or texts", 'Write it as in {"en", "fr"}.')
            self.want(member, kind)


READERS: dict[type[ast.expr], Callable[[_Checker, Any], Kind]] = {
    ast.Constant: _Checker.constant, ast.Name: _Checker.name, ast.Call: _Checker.call, ast.BoolOp: _Checker.both,
    ast.UnaryOp: _Checker.sign, ast.BinOp: _Checker.arithmetic, ast.Compare: _Checker.compare,
}  # fmt: skip


def _near(name: str, known: Collection[str]) -> str:
    close = [one for one in sorted(known) if one[:4] == name[:4]] or sorted(known)
    return f"There are {', '.join(close[:6])}{' and others' if len(close) > 6 else ''}."  # noqa: PLR2004


def _text(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and type(node.value) is str else None


def _number(node: ast.expr) -> bool:
    return isinstance(node.operand if isinstance(node, ast.UnaryOp) else node, ast.Constant)


def key_of(node: ast.expr) -> str | None:
    """Return the key of the feature that a part of a checked condition asks about, if it does."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id not in FUNCTIONS:
        return f'{node.func.id}("{_text(node.args[0])}")'
    return None


def asked_in(tree: ast.expr, known: Collection[str]) -> list[str]:
    """Return the keys of the features that a checked condition, or a part of it, asks about, as often as it does."""
    found = (key_of(node) for node in ast.walk(tree) if isinstance(node, ast.expr))
    return [key for key in found if key is not None and key in known]


def compiled(expressions: Sequence[Expression]) -> Run:
    """Make one function of conditions: from what was measured of a use to a number with a bit for each that holds.

    What was not measured has its default. Nothing but the features can be reached from within.
    """
    defaults = {key: feature.default for one in expressions for key, feature in one.features.items()}
    return _function([one.tree for one in expressions], defaults)


class _Loads(ast.NodeTransformer):
    """Turns what a condition asks about into a look into the vector, or into a variable where it is asked often."""

    def __init__(self, defaults: Mapping[str, Value], often: Collection[str]) -> None:
        self.defaults = defaults
        self.variables = {key: f"v{number}" for number, key in enumerate(often)}

    def look(self, key: str) -> ast.Call:
        default = self.defaults[key]
        value = ast.Name("empty") if isinstance(default, frozenset) else ast.Constant(default)
        return ast.Call(ast.Name("get"), [ast.Constant(key), value], [])

    def visit(self, node: ast.AST) -> Any:
        key = key_of(node) if isinstance(node, ast.expr) else None
        if key is not None:
            return ast.Name(self.variables[key]) if key in self.variables else self.look(key)
        if isinstance(node, ast.Call):
            return ast.Call(node.func, [self.visit(argument) for argument in node.args], [])
        return self.generic_visit(node)


def _function(trees: Sequence[ast.expr], defaults: Mapping[str, Value]) -> Run:
    asked = Counter(key for tree in trees for key in asked_in(tree, defaults))
    loads = _Loads(defaults, [key for key, times in sorted(asked.items()) if times > 1])
    lines = ["def run(features):", " get = features.get", " bits = 0"]
    lines += [f" {name} = {ast.unparse(loads.look(key))}" for key, name in loads.variables.items()]
    for number, tree in enumerate(trees):
        condition = ast.unparse(loads.visit(copy.deepcopy(tree)))
        lines += [f" if {condition}:", f"  bits |= {1 << number}"]
    lines.append(" return bits")
    # The one place that runs text made at run time. It holds only nodes that were checked above, names that this
    # module gives, and literals; no builtin can be reached.
    space: dict[str, Any] = {"__builtins__": {}, "empty": frozenset(), **FUNCTIONS}
    exec(compile("\n".join(lines), "<detection rules>", "exec"), space)  # noqa: S102
    run: Run = space["run"]
    return run


class _Outlook:
    """Works a condition out as far as what is known goes."""

    def __init__(self, known: Mapping[str, Value | None]) -> None:
        self.known = known

    def of(self, node: ast.expr) -> bool | None:
        if isinstance(node, ast.BoolOp):
            values, decisive = [self.of(value) for value in node.values], isinstance(node.op, ast.Or)
            if decisive in values:
                return decisive
            return None if None in values else not decisive
        if isinstance(node, ast.UnaryOp):
            value = self.of(node.operand)
            return None if value is None else not value
        values_of = {key: self.known[key] for key in asked_in(node, self.known)}
        given = {key: value for key, value in values_of.items() if value is not None}
        return None if len(given) < len(values_of) else bool(_function([node], given)({}))
