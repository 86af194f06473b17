"""Everything that is known about a case and the person it is about, for whoever works on it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from portal.accounts import service as accounts
from portal.accounts.models import Proposal, User
from portal.appeals import service as appeals
from portal.appeals.models import Appeal, AppealMessage
from portal.cases import rules
from portal.cases import service as cases
from portal.cases.models import Case, CaseLink, CaseNote, Evidence
from portal.cases.rules import CaseState, LinkKind
from portal.core.actor import Actor
from portal.core.errors import PortalError
from portal.detection import service as detection
from portal.detection.service import HitFact
from portal.interims import service as interims
from portal.moderation import service as moderation
from portal.moderation.models import CaseDecision
from portal.moderation.rules import Order, Phase
from portal.people import service as people
from portal.people.service import Person
from portal.redress import service as redress
from portal.sanctions import service as sanctions
from portal.sanctions.models import Sanction
from portal.seconding import service as seconding
from portal.strikes import rules as strike_rules
from portal.strikes import service as strikes
from portal.strikes.rules import Rung


@dataclass(frozen=True)
class Past:
    """A decision about the person, how it stands now, and which of its sanctions hold."""

    decision: CaseDecision
    phase: Phase
    live: tuple[Sanction, ...]


@dataclass(frozen=True)
class Overview:
    """Everything about a case on one page.

    Args:
        mine: the reader holds the case now.
        barred: why the reader may not work on it; empty where they may.
        score, rung: what the person's strikes add up to, and what that suggests.
        proposal: what waits for a second person.
        interim: what a program decided and waits for a person.
        names: what the people named by public ids are called.
        subjects: the people it is about, where it is about several, each with a name and the number of their hits.
    """

    case: Case
    holder: User | None
    mine: bool
    barred: str
    evidence: Sequence[tuple[Evidence, dict[str, Any]]]
    links: Sequence[CaseLink]
    notes: Sequence[CaseNote]
    related: Sequence[Case]
    hits: Sequence[HitFact]
    person: Person | None
    past: Sequence[Past]
    score: int
    rung: Rung | None
    proposal: tuple[Proposal, Order] | None
    interim: CaseDecision | None
    appeal: tuple[Appeal, CaseDecision, User] | None
    messages: Sequence[AppealMessage]
    names: dict[str, str]
    subjects: Sequence[tuple[User, str, int]] = ()

    @property
    def clauses(self) -> list[str]:
        """Return the clauses that may be broken, in the words of their keys."""
        return [rules.clause_words(link.ref) for link in self.links if link.kind is LinkKind.CLAUSE]

    @property
    def open(self) -> bool:
        """Say whether the case still has to be decided."""
        return self.case.state not in {CaseState.DECIDED, CaseState.CLOSED}


def overview(session: Session, *, ref: str, by: Actor, now: datetime) -> Overview:
    """Gather everything about a case for whoever works on it."""
    case = cases.find(session, ref=ref)
    holder = cases.holder_at(session, case=case, now=now)
    user = session.get(User, case.user_id) if case.user_id is not None else None
    past = past_of(session, user=user, now=now) if user is not None else []
    notes, found = cases.notes_of(session, case=case), redress.of_case(session, case=case)
    score = strikes.score(session, user_id=user.id, now=now) if user is not None else 0
    named = {ref for p in past for ref in (p.decision.decided_by, p.decision.confirmed_by, p.decision.overturned_by)}
    named |= {note.author for note in notes}
    hits = detection.hits_of(session, case_id=case.id)
    return Overview(
        case=case, holder=holder, mine=holder is not None and holder.id == by.user_id,
        barred=_barred(session, case, by), evidence=cases.evidence_of(session, case=case),
        links=cases.links_of(session, case=case), notes=notes,
        related=cases.about(session, user_id=user.id, but=case.id) if user is not None else [],
        hits=hits, subjects=_subjects(session, case, hits),
        person=people.person(session, ref=user.public_id, now=now) if user is not None else None, past=past,
        score=score, rung=strike_rules.suggested(score),
        proposal=seconding.proposed(session, case=case, now=now),
        interim=interims.waiting(session, case=case, now=now), appeal=found,
        messages=appeals.messages(session, appeal=found[0]) if found else [],
        names=accounts.names(session, refs={ref for ref in named if ref}),
    )  # fmt: skip


def _subjects(session: Session, case: Case, hits: Sequence[HitFact]) -> list[tuple[User, str, int]]:
    refs, counts = cases.refs(session, case=case, kind=LinkKind.SUBJECT), Counter(hit.user_id for hit in hits)
    named = accounts.names(session, refs=refs)
    found = [accounts.find(session, ref=ref) for ref in refs]
    return [(user, named.get(user.public_id) or user.public_id, counts[user.id]) for user in found]


def _barred(session: Session, case: Case, by: Actor) -> str:
    try:
        cases.check_may_work(session, case=case, by=by)
    except PortalError as error:
        return error.message
    return ""


def past_of(session: Session, *, user: User, now: datetime) -> list[Past]:
    """Return what was decided about a person, newest first, with what of it holds now."""
    return [
        Past(
            decision, moderation.phase(decision, now=now),
            tuple(row for row in decision.sanctions if sanctions.fact(row).holds(now)),
        )
        for decision in moderation.decisions_about(session, user_id=user.id)
    ]  # fmt: skip
