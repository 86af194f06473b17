"""What a license version would do to whom: the one decision, asked with the version and without it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from portal.access.rules import Action, Decision, Facts, RequirementFact, decide, required_version
from portal.licensing.rules import NOTICE_MINIMUM, SignatureFact, VersionFact, live

ACTIONS = (Action.DOWNLOAD, Action.INFER)
SIGNATURE = 4  # the stage of a reason that asks for a signature


class Lot(StrEnum):
    """What a version means for somebody who once signed its license, gravest first."""

    MUST_SIGN = "must_sign"
    BEHIND = "behind"
    CARRIED_OVER = "carried_over"
    SIGNED = "signed"
    UNTOUCHED = "untouched"


@dataclass(frozen=True)
class Ahead:
    """The version that is looked ahead to.

    Args:
        slug: its license.
        reached_at: when those with a working address are taken to hear of it.
        version: the version as it would be published.
    """

    slug: str
    reached_at: datetime
    version: VersionFact

    @property
    def instants(self) -> tuple[datetime, datetime]:
        """When the answers may change: as it comes into force, and as it starts to bind."""
        begins = max(self.version.effective_at, self.reached_at)
        binds = max(self.version.required_by, self.reached_at + NOTICE_MINIMUM)
        return (begins, max(begins, binds))


@dataclass(frozen=True)
class Glance:
    """One person, one model, one action: the answers of the one decision at each instant that matters.

    Args:
        before, after: without and with the version.
        asks: with it, somebody who does this has to have signed it, or one that stands for it.
    """

    before: tuple[Decision, ...]
    after: tuple[Decision, ...]
    asks: bool


def world(facts: Facts, ahead: Ahead, *, published: bool, reachable: bool) -> Facts:
    """Return a person's facts with a version published and its news arrived, or without it."""

    def requirement(fact: RequirementFact) -> RequirementFact:
        if fact.slug != ahead.slug:
            return fact
        others = tuple(v for v in fact.versions if v.id != ahead.version.id)
        if not published:
            return replace(fact, versions=others)
        told = dict(fact.reached or {})
        if reachable:
            told.setdefault(ahead.version.number, ahead.reached_at)
        return replace(fact, versions=(*others, ahead.version), reached=told)

    return replace(facts, requirements=tuple(map(requirement, facts.requirements)))


def glance(
    facts: Facts, action: Action, ahead: Ahead, *, reachable: bool, errors: Sequence[str | None] = ()
) -> Glance:  # fmt: skip
    """Decide with and without a version, at each instant that matters.

    Args:
        reachable: the person has a working address.
        errors: why the access token in question cannot be used, at each of those instants.
    """
    instants = list(zip(ahead.instants, errors or (None, None), strict=True))
    without, there = (world(facts, ahead, published=p, reachable=reachable) for p in (False, True))
    before, after = (
        tuple(decide(replace(each, token_error=error), action, at) for at, error in instants)
        for each in (without, there)
    )
    asked = (required_version(r, at) for r in there.requirements for at in ahead.instants)
    return Glance(before, after, any(v is not None and v.id == ahead.version.id for v in asked))


def stops_at(glances: Iterable[Glance], instants: Sequence[datetime]) -> datetime | None:
    """Return the first instant at which something that is allowed without the version is refused with it."""
    stopped = [
        at
        for glance in glances
        for at, before, after in zip(instants, glance.before, glance.after, strict=True)
        if before.allowed and not after.allowed
    ]
    return min(stopped, default=None)


def lot(glances: Iterable[Glance], ahead: Ahead, signatures: Sequence[SignatureFact]) -> Lot:
    """Say what a version means for somebody, from what they would be answered with and without it."""
    newest = max((s.ordinal for s in live(signatures, ahead.instants[0])), default=None)
    if newest is None:
        return Lot.UNTOUCHED  # nothing that they signed stands, so they are asked to sign either way
    if newest >= ahead.version.ordinal:
        return Lot.SIGNED
    page = f"/licenses/{ahead.slug}/{ahead.version.number}/sign"
    asking = [glance for glance in glances if glance.asks]
    asked = [
        any(reason.stage == SIGNATURE and reason.blocks for reason in before.reasons)
        for glance in asking
        for before, after in zip(glance.before, glance.after, strict=True)
        if any(reason.url.endswith(page) for reason in after.reasons)
    ]
    if asked:
        return Lot.BEHIND if all(asked) else Lot.MUST_SIGN
    return Lot.CARRIED_OVER if asking else Lot.UNTOUCHED
