"""What an outcome of detection rules comes to: how grave its case is, and what is done until a person has looked."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from portal.cases.rules import Severity
from portal.detection.rules import RuleOutcome
from portal.sanctions.rules import SanctionKind
from portal.statements.rules import FACTS_MAX

O = RuleOutcome  # noqa: E741
KINDS: Mapping[RuleOutcome, SanctionKind] = {
    O.THROTTLE: SanctionKind.THROTTLE,
    O.RECONFIRM: SanctionKind.RECONFIRM,
    O.FREEZE_ACCESS_TOKEN: SanctionKind.FREEZE_ACCESS_TOKEN,
    O.SUSPEND_ENTITLEMENT: SanctionKind.SUSPEND_ENTITLEMENT,
    O.SUSPEND: SanctionKind.SUSPEND,
}
# How long it lasts once a person has confirmed it; before that it ends after 72 hours.
DAYS = {O.THROTTLE: 7, O.RECONFIRM: 30, O.FREEZE_ACCESS_TOKEN: 7, O.SUSPEND_ENTITLEMENT: 30, O.SUSPEND: 30}
# What acts on more than one request; refusing a single one is done and over.
HELD = frozenset(KINDS)
LEVELS = {
    outcome: Severity.CRITICAL if outcome is O.SUSPEND
    else Severity.HIGH if outcome.reaches(O.FREEZE_ACCESS_TOKEN)
    else Severity.MEDIUM if outcome.reaches(O.WARN)
    else Severity.LOW
    for outcome in O
}  # fmt: skip

# Several people acting as one are looked into soon, whatever the rule asks for.
TOGETHER = Severity.HIGH


class HitShape(Protocol):
    """What is read of a hit."""

    @property
    def rule(self) -> str:
        """The name of the rule that matched."""

    @property
    def user_id(self) -> int | None:
        """Whose use it was."""

    @property
    def at(self) -> datetime:
        """When it was."""

    @property
    def title(self) -> str:
        """What the rule is called."""

    @property
    def version(self) -> int:
        """Its version."""

    @property
    def of_many(self) -> bool:
        """Whether it is about several people together."""

    @property
    def reason(self) -> str:
        """What it says to the person."""


def key_of(hit: HitShape) -> str:
    """Return what makes hits one case: person, rule and UTC day; all people where the rule is about several."""
    whom = "many" if hit.of_many else str(hit.user_id or 0)
    return f"rule:{hit.rule}:{whom}:{hit.at.date().isoformat()}"


def facts_of(hits: Sequence[HitShape]) -> str:
    """Write what happened, for the statement of reasons."""
    first, count = hits[0], len(hits)
    uses = "one use" if count == 1 else f"{count} uses"
    words = f"The detection rule “{first.title}”, version {first.version}, matched {uses} on {first.at:%Y-%m-%d} (UTC)."
    return f"{words}\n{first.reason}"[:FACTS_MAX].strip()
