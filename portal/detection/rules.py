"""Detection rules: what they lead to, how they come into force and lose it, and what a hit amounts to."""

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Any

from portal.audit.rules import Event
from portal.core.errors import Conflict
from portal.core.machine import Machine
from portal.exemptions.rules import ExemptFact, Purpose
from portal.expressions.rules import Expression, Run, compiled
from portal.features.rules import Phase, Value

SHADOW_TIME = timedelta(hours=24)
RULE_LIFE = timedelta(days=180)
YOUNG = timedelta(days=7)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
BRAKE_PEOPLE, BRAKE_SHARE = 5, 0.01


class RuleOutcome(StrEnum):
    """What a hit leads to, from nothing to the most that a rule may do; only people close an account."""

    ALLOW = "allow"
    TAG = "tag"
    FLAG = "flag"
    WARN = "warn"
    THROTTLE = "throttle"
    RECONFIRM = "reconfirm"
    BLOCK = "block"
    FREEZE_ACCESS_TOKEN = "freeze_access_token"  # noqa: S105 - what is done to one, not one
    SUSPEND_ENTITLEMENT = "suspend_entitlement"
    SUSPEND = "suspend"

    @property
    def rank(self) -> int:
        """How strong it is."""
        return RANKS[self]

    def reaches(self, other: "RuleOutcome") -> bool:
        """Say whether it is as strong as another one, or stronger."""
        return self.rank >= other.rank

    def at_most(self, other: "RuleOutcome") -> "RuleOutcome":
        """Return the weaker of the two."""
        return min(self, other, key=RANKS.__getitem__)


RANKS = {outcome: rank for rank, outcome in enumerate(RuleOutcome)}
R = RuleOutcome
# What counts as acting on somebody; the rest only tells staff.
ACTING = frozenset(outcome for outcome in R if outcome.rank > R.FLAG.rank)
REFUSING = frozenset(outcome for outcome in R if outcome.reaches(R.BLOCK))
OUTCOME_WORDS = {
    R.ALLOW: "Nothing", R.TAG: "Only noted", R.FLAG: "Staff look at it", R.WARN: "The person is warned",
    R.THROTTLE: "Daily limits are lowered for a while", R.RECONFIRM: "The license has to be confirmed again",
    R.BLOCK: "This one request is refused", R.FREEZE_ACCESS_TOKEN: "The access token is frozen for a while",
    R.SUSPEND_ENTITLEMENT: "Access to the model is suspended for a while",
    R.SUSPEND: "The account is suspended for a while",
}  # fmt: skip


class Mode(StrEnum):
    """How far a version of a rule has come."""

    DRAFT = "draft"
    SHADOW = "shadow"
    FLAGGING = "flagging"
    ENFORCING = "enforcing"
    RETIRED = "retired"


class Move(StrEnum):
    """What moves a version of a rule; `SHIP` is for those that come with the portal, `BRAKE` is the portal's own."""

    SHIP = "ship"
    SHADOW = "shadow"
    FLAG = "flag"
    ENFORCE = "enforce"
    BRAKE = "brake"
    RETIRE = "retire"


M = Mode
RULE = Machine(
    "detection rule",
    M.DRAFT,
    {
        (M.DRAFT, Move.SHADOW): M.SHADOW,
        (M.DRAFT, Move.SHIP): M.FLAGGING,
        (M.SHADOW, Move.FLAG): M.FLAGGING,
        (M.FLAGGING, Move.ENFORCE): M.ENFORCING,
        (M.ENFORCING, Move.FLAG): M.FLAGGING,
        (M.ENFORCING, Move.BRAKE): M.FLAGGING,
        **{(mode, Move.RETIRE): M.RETIRED for mode in (M.DRAFT, M.SHADOW, M.FLAGGING, M.ENFORCING)},
    },
)
# Versions that are looked at on each use, and up to what each may go.
LOOKING = {M.SHADOW: R.ALLOW, M.FLAGGING: R.FLAG, M.ENFORCING: R.SUSPEND}


class OnMissing(StrEnum):
    """What happens where a text could not be looked at that the rule asks about."""

    SKIP = "skip"
    FLAG = "flag"


@dataclass(frozen=True)
class RuleWritten(Event, name="detection:rule:created"):
    """A version of a detection rule was written; `sha256` is the digest of all it says."""

    slug: str
    version: int
    sha256: str


@dataclass(frozen=True)
class RuleMoved(Event, name="detection:rule:moved"):
    """A version of a detection rule came into another mode."""

    slug: str
    version: int
    move: str
    mode: str


@dataclass(frozen=True)
class RuleFact:
    """A version of a rule, as far as looking at use goes.

    Args:
        license: slug of the license whose clauses it cites; it says nothing about use under others.
        model_id: the one model that it watches; None for every model.
        route: the channel that it watches, ``inference`` or ``page``; empty for both.
        per_hour: how often an hour it goes beyond flagging; 0 for no limit.
        clauses: keys of the clauses that it cites.
        exempt: the purposes of declared research that it makes way for.
    """

    id: int
    slug: str
    version: int
    when: Expression
    outcome: RuleOutcome
    mode: Mode
    license: str
    clauses: frozenset[str]
    expires_at: datetime
    on_missing: OnMissing = OnMissing.SKIP
    weight: int = 1
    model_id: int | None = None
    route: str = ""
    per_hour: int = 0
    exempt: frozenset[Purpose] = frozenset()
    reason: str = ""

    @cached_property
    def stage(self) -> int:
        """When it can be looked at: 0 before an engine is asked, 1 while it answers, 2 afterwards."""
        if self.when.phases <= {Phase.INLINE}:
            return 0
        return 1 if self.when.phases <= {Phase.INLINE, Phase.OUTPUT} else 2

    def watches(self, *, license_slug: str, model_id: int | None, route: str) -> bool:
        """Say whether a use is within its scope."""
        here = self.model_id in {None, model_id} and self.route in {"", route}
        return here and self.license == license_slug

    def most(self, at: datetime) -> RuleOutcome:
        """Return up to what it may go at an instant: an expired rule enforces nothing any more."""
        limit = LOOKING.get(self.mode, R.ALLOW)
        return limit.at_most(R.FLAG) if at >= self.expires_at else limit


@dataclass(frozen=True)
class Use:
    """One use of a model, as far as rules ask about it beside its features."""

    user_id: int | None
    model_id: int | None
    license: str
    route: str
    at: datetime


@dataclass(frozen=True)
class Found:
    """One rule that matched one use.

    Args:
        outcome: what the rule asks for.
        applied: what came of it, by mode, age, caps and declared research.
    """

    rule: RuleFact
    outcome: RuleOutcome
    applied: RuleOutcome
    exemption_id: int | None = None


@dataclass(frozen=True)
class RuleSet:
    """All rules that are looked at, compiled; a bit of what `run` returns stands for the rule in that place.

    `run` knows those that can be looked at before an engine is asked, `run_output` also those about what it writes,
    and `run_all` every one.

    Args:
        version: grows with each change of rules or exemptions.
    """

    version: int
    rules: tuple[RuleFact, ...] = ()
    exemptions: Mapping[int, tuple[ExemptFact, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, version: int, rules: Sequence[RuleFact], exemptions: Sequence[ExemptFact]) -> "RuleSet":
        """Order rules by when they can be looked at, and exemptions by person."""
        people: dict[int, list[ExemptFact]] = defaultdict(list)
        for exemption in exemptions:
            people[exemption.user_id].append(exemption)
        ordered = tuple(sorted(rules, key=lambda rule: (rule.stage, rule.id)))
        return cls(version, ordered, {user_id: tuple(facts) for user_id, facts in people.items()})

    @cached_property
    def run(self) -> Run:
        """Look at what is known before an engine is asked."""
        return self._run(0)

    @cached_property
    def run_output(self) -> Run:
        """Look at that and at what the engine has written so far."""
        return self._run(1)

    @cached_property
    def run_all(self) -> Run:
        """Look at everything."""
        return self._run(2)

    def _run(self, stage: int) -> Run:
        return compiled([rule.when for rule in self.rules if rule.stage <= stage])

    def found(self, bits: int, use: Use, *, acted: Callable[[int], int] | None = None) -> list[Found]:
        """Return what the rules behind the bits amount to for a use, the strongest first.

        Args:
            acted: how often a rule, by its id, acted within the last hour.
        """
        scope: dict[str, Any] = {"license_slug": use.license, "model_id": use.model_id, "route": use.route}
        hits = [self._apply(rule, use, acted) for rule in self.matched(bits) if rule.watches(**scope)]
        return sorted(hits, key=lambda hit: (-hit.applied.rank, -hit.outcome.rank, -hit.rule.weight, hit.rule.id))

    def matched(self, bits: int) -> Iterator[RuleFact]:
        """Yield the rules behind the bits."""
        while bits:
            lowest = bits & -bits
            yield self.rules[lowest.bit_length() - 1]
            bits ^= lowest

    def _apply(self, rule: RuleFact, use: Use, acted: Callable[[int], int] | None) -> Found:
        applied = rule.outcome.at_most(rule.most(use.at))
        exemption = self._exempt(rule, use)
        if exemption is not None:
            applied = applied.at_most(R.TAG)
        elif applied in ACTING and rule.per_hour and acted is not None and acted(rule.id) >= rule.per_hour:
            applied = R.FLAG
        return Found(rule, rule.outcome, applied, exemption.id if exemption else None)

    def _exempt(self, rule: RuleFact, use: Use) -> ExemptFact | None:
        for fact in self.exemptions.get(use.user_id or 0, ()):
            covers = fact.covers(model_id=use.model_id, license_slug=rule.license, clauses=rule.clauses, at=use.at)
            if covers and fact.purpose in rule.exempt:
                return fact
        return None

    def whole(self, vector: Mapping[str, Value], use: Use, *, acted: Callable[[int], int] | None = None) -> list[Found]:
        """Return what all rules amount to once everything is measured that will be.

        Where the text could not be looked at, rules that ask about it are passed over, or only flag.
        """
        bits, looked = self.run_all(vector), bool(vector.get("scanned"))
        if not looked:
            for place, rule in enumerate(self.rules):
                if Phase.ASYNC in rule.when.phases:
                    bits = bits | 1 << place if rule.on_missing is OnMissing.FLAG else bits & ~(1 << place)
        found = self.found(bits, use, acted=acted)
        return found if looked else [_unseen(hit) if Phase.ASYNC in hit.rule.when.phases else hit for hit in found]


def _unseen(hit: Found) -> Found:
    return Found(hit.rule, hit.outcome.at_most(R.FLAG), hit.applied.at_most(R.FLAG), hit.exemption_id)


def broken(rules: Sequence[RuleFact], vector: Mapping[str, Value]) -> list[RuleFact]:
    """Return the rules that fail on a vector; typing rules it out, so one that does is taken out of force."""
    failed = []
    for rule in rules:
        try:
            compiled([rule.when])(vector)
        except Exception:  # noqa: BLE001 - whatever it is
            failed.append(rule)
    return failed


class Spent:
    """How often each rule acted within the last hour, for a process that keeps count itself."""

    def __init__(self) -> None:
        self._times: dict[int, deque[datetime]] = defaultdict(deque)

    def note(self, hit: Found, at: datetime) -> None:
        """Count a hit, if the rule acted."""
        if hit.applied in ACTING:
            self._times[hit.rule.id].append(at)

    def since(self, at: datetime) -> Callable[[int], int]:
        """Return the counter for the hour before an instant."""

        def acted(rule_id: int) -> int:
            times = self._times[rule_id]
            while times and times[0] <= at - HOUR:
                times.popleft()
            return len(times)

        return acted


def check_shadowed(since: datetime, now: datetime) -> None:
    """Raise unless a rule was in shadow for a day."""
    if now < since + SHADOW_TIME:
        message = (
            f"It flags only after {SHADOW_TIME // HOUR} hours in shadow, where it is since {since:%Y-%m-%d %H:%M} UTC."
        )
        raise Conflict("shadow_short", message)


@dataclass(frozen=True)
class Reach:
    """On whom a rule has acted lately.

    Args:
        hour, day: distinct people on whom it acted within the last hour and the last day.
        active: people who used anything in the last week.
        since: when it began to enforce.
        per_day: the most people a day it may act on; 0 for no limit.
    """

    hour: int
    day: int
    active: int
    since: datetime
    per_day: int


def brake(reach: Reach, now: datetime) -> str:
    """Return why a rule has to stop enforcing, or nothing.

    People are counted, not hits, so that nobody can switch off a good rule by hitting it again and again.
    """
    if reach.per_day and reach.day > reach.per_day:
        return f"It acted on {reach.day} people within a day; its limit is {reach.per_day}."
    most = max(BRAKE_PEOPLE, BRAKE_SHARE * reach.active)
    if now < reach.since + YOUNG and reach.hour > most:
        return f"In its first {YOUNG.days} days, it acted on {reach.hour} people within an hour, more than {most:g}."
    return ""


def compose_braked(*, name: str, why: str, page: str) -> str:
    """Write the mail that tells the owner of a rule that it no longer enforces."""
    return (
        f"The detection rule {name} no longer enforces. {why}\n\nIt goes on flagging: staff see what it finds. Look at "
        f"what it hit; if that is as it should be, enforce it again and say why, or write a better version:\n{page}\n"
    )


def compose_expiring(*, name: str, day: str, page: str) -> str:
    """Write the mail that tells the owner of a rule that it will soon no longer enforce."""
    return (
        f"The detection rule {name} expires on {day}. From then on it only flags. If it is still "
        f"right, write it anew as its next version:\n{page}\n"
    )


def ordered(outcomes: Collection[RuleOutcome]) -> list[RuleOutcome]:
    """Return outcomes from the weakest to the strongest."""
    return sorted(outcomes, key=RANKS.__getitem__)
