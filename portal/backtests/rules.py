"""What a rule would have done in the last weeks: how often, to how many people, and how right it would have been."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import blake2b
from typing import Any

from portal.audit.rules import Event
from portal.core.errors import Invalid

DAYS_DEFAULT, DAYS_MAX = 30, 90
SAMPLE = 20
MINUTES = 8  # that staff take over a case, as its people have said; a forecast, not a promise


@dataclass(frozen=True)
class BacktestDone(Event, name="detection:backtest:done"):
    """A version of a rule was tried on past use."""

    rule: str
    looked: int
    hits: int


def span(days: int) -> timedelta:
    """Return how far back a backtest looks, or raise `Invalid`."""
    if not 1 <= days <= DAYS_MAX:
        raise Invalid("days_range", f"Try it on the last 1 to {DAYS_MAX} days.", field="days")
    return timedelta(days=days)


@dataclass
class Tally:
    """What was counted so far; parts of it, counted one after the other, add up.

    Args:
        people: the internal ids of those who were hit.
        others: how many of the hits another rule hit as well, by its name.
        days: hits by UTC day.
        right, wrong: hits on use that people found to be a breach, or none.
        sample: pseudo-random numbers of records that were hit, the smallest ones, so that parts can be joined.
    """

    looked: int = 0
    hits: int = 0
    people: set[int] = field(default_factory=set)
    others: Counter[str] = field(default_factory=Counter)
    days: Counter[str] = field(default_factory=Counter)
    right: int = 0
    wrong: int = 0
    sample: list[tuple[int, int]] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        """Count another part in."""
        self.looked, self.hits = self.looked + other.looked, self.hits + other.hits
        self.right, self.wrong = self.right + other.right, self.wrong + other.wrong
        self.people |= other.people
        self.others.update(other.others)
        self.days.update(other.days)
        self.sample = sorted({*self.sample, *other.sample})[:SAMPLE]

    def draw(self, record_ids: Iterable[int], seed: int) -> None:
        """Draw from records that were hit."""
        self.sample = sorted((lot(record_id, seed), record_id) for record_id in record_ids)[:SAMPLE]

    def judge(self, findings: Mapping[int, bool], hit: Collection[int]) -> None:
        """Count the hits on use that people have found to be a breach, or none."""
        for record_id, breach in findings.items():
            if record_id in hit:
                self.right, self.wrong = self.right + breach, self.wrong + (not breach)

    def written(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "looked": self.looked, "hits": self.hits, "people": sorted(self.people), "others": dict(self.others),
            "days": dict(self.days), "right": self.right, "wrong": self.wrong,
            "sample": [list(pair) for pair in self.sample],
        }  # fmt: skip

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> "Tally":
        """Return it as it was written."""
        return cls(
            kept["looked"], kept["hits"], set(kept["people"]), Counter(kept["others"]), Counter(kept["days"]),
            kept["right"], kept["wrong"], [(pair[0], pair[1]) for pair in kept["sample"]],
        )  # fmt: skip

    def forecast(self, *, opens_cases: bool) -> dict[str, Any]:
        """Return what staff read: counts, how right it was, and how much work it would be.

        Args:
            opens_cases: a hit is looked at by people.
        """
        judged = self.right + self.wrong
        minutes = len(self.people) * MINUTES if opens_cases else 0
        return {
            "looked": self.looked, "hits": self.hits, "people": len(self.people),
            "days": dict(sorted(self.days.items())),
            "others": dict(self.others.most_common(10)), "judged": judged,
            "precision": self.right / judged if judged else None, "minutes": minutes,
            "sample": [record_id for _, record_id in self.sample],
        }  # fmt: skip


def lot(record_id: int, seed: int) -> int:
    """Draw a number for a record that looks random and is the same each time."""
    return int.from_bytes(blake2b(b"%d %d" % (seed, record_id), digest_size=6).digest(), "big")
