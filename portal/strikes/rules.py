"""Strikes: what a broken clause weighs, what that adds up to over a year, and what it then suggests to a person."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from portal.audit.rules import Event

WINDOW = timedelta(days=365)
USUAL = 2
# What a broken clause weighs, from 1 to 10, by the first part of its key that is named here.
WEIGHTS = {
    "restriction.exploiting_minors": 10,
    "restriction.malware": 6,
    "restriction.exploiting_vulnerability": 5,
    "restriction.unlawful_use": 5,
    "restriction.discrimination": 4,
    "restriction.false_information_to_harm": 4,
    "restriction.harassment": 4,
    "restriction.impersonation": 4,
    "restriction.justice_and_migration": 4,
    "restriction.automated_decision": 3,
    "restriction.medical_advice": 3,
    "restriction.personal_data": 3,
    "duty.": 1,
}


class Intent(StrEnum):
    """With what mind a clause was broken, as a person found it."""

    NONE = "none"
    NEGLIGENT = "negligent"
    KNOWING = "knowing"
    ORGANIZED = "organized"


TIMES = {Intent.NONE: 0, Intent.NEGLIGENT: 1, Intent.KNOWING: 2, Intent.ORGANIZED: 4}


@dataclass(frozen=True)
class StrikeSet(Event, name="moderation:strike:set"):
    """A case decision came with a strike of some weight."""

    user: str
    weight: int


@dataclass(frozen=True)
class StrikeOverruled(Event, name="moderation:strike:overruled"):
    """A strike counts no more, since its decision was overturned."""

    user: str


@dataclass(frozen=True)
class StrikeFact:
    """What a score depends on."""

    weight: int
    at: datetime
    overruled: bool = False

    def counts(self, now: datetime) -> bool:
        """Say whether it counts at an instant: a year long, unless it was overruled."""
        return not self.overruled and self.at <= now < self.at + WINDOW


@dataclass(frozen=True)
class Rung:
    """From which score on a measure is suggested to a person; none is ever imposed by a score.

    Args:
        measure: the kind of sanction, or empty for a notice alone.
        days: for how long.
    """

    score: int
    measure: str
    days: int
    words: str


LADDER = (
    Rung(1, "reconfirm", 30, "a notice, and signing the license again"),
    Rung(5, "throttle", 7, "lower daily limits for 7 days"),
    Rung(10, "suspend_entitlement", 30, "suspending access to the model for 30 days"),
    Rung(20, "suspend", 90, "suspending the account for 90 days"),
    Rung(40, "close", 0, "closing the account, by two people"),
)


def clause_weight(key: str) -> int:
    """Return what a broken clause weighs."""
    return next((weight for part, weight in WEIGHTS.items() if key.startswith(part)), USUAL)


def weight(clause_keys: Iterable[str], intent: Intent) -> int:
    """Return what a strike weighs: its gravest clause, times what the intent makes of it."""
    return max((clause_weight(key) for key in clause_keys), default=0) * TIMES[intent]


def score(strikes: Sequence[StrikeFact], now: datetime) -> int:
    """Return what a person's strikes add up to at an instant."""
    return sum(strike.weight for strike in strikes if strike.counts(now))


def suggested(points: int) -> Rung | None:
    """Return what a score suggests to the person who decides."""
    return max((rung for rung in LADDER if rung.score <= points), key=lambda rung: rung.score, default=None)
