"""What comes of hits: cases for people to look into, and what a rule may do until somebody has."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.alarms.rules import DAYS, HELD, KINDS, LEVELS, TOGETHER, facts_of, key_of
from portal.cases import service as cases
from portal.cases.models import Case
from portal.cases.rules import LinkKind, Origin
from portal.catalog import service as catalog
from portal.core.actor import Actor
from portal.detection import service as detection
from portal.detection.service import HitFact
from portal.interims import service as interims
from portal.interims.service import A_PROGRAM
from portal.licensing import service as licensing
from portal.sanctions.rules import THROTTLE_CALLS, THROTTLE_TEXT_TOKENS, Measure, SanctionKind
from portal.tokens.models import AccessToken
from portal.usage.models import UsageRecord

BATCH = 200


def take_hits(session: Session, *, base_url: str, now: datetime, by: Actor = A_PROGRAM) -> bool:
    """Make cases of the hits that are in none yet, one for each person, rule and day; says whether there may be more.

    What a rule finds about several people together is one case about all of them. Where a rule acts on somebody for
    more than one request, that is an interim decision in the same transaction.
    """
    hits = sorted(detection.hits_without_case(session, limit=BATCH), key=key_of)
    for key, group in groupby(hits, key=key_of):
        found = list(group)
        if found[0].of_many:
            _into_shared_case(session, key, found, by=by, now=now)
        else:
            _into_case(session, key, found, base_url=base_url, by=by, now=now)
    return len(hits) == BATCH


def _into_case(
    session: Session, key: str, hits: Sequence[HitFact], *, base_url: str, by: Actor, now: datetime
) -> Case:  # fmt: skip
    first, gravest = hits[0], max(hits, key=lambda hit: hit.applied.rank)
    user = session.get(User, first.user_id) if first.user_id is not None else None
    signature = licensing.promised(session, user_id=user.id) if user else None
    evidence = _evidence(hits) | {
        "signature": signature.public_id if signature else None,
        "text_sha256": signature.rendition_sha256 if signature else None,
    }  # fmt: skip
    case = cases.open_case(
        session, subject_ref=user.public_id if user else first.request_id, origin=Origin.RULE,
        clause_refs=first.clauses, severity=LEVELS[gravest.applied], evidence=evidence, dedupe_key=key, now=now, by=by,
        links=[(LinkKind.RECORD, hit.request_id) for hit in hits],
    )  # fmt: skip
    detection.mark_in_case(session, hit_ids=[hit.id for hit in hits], case_id=case.id)
    if gravest.applied in HELD and user is not None:
        measure = _measure(session, gravest, now)
        if measure is not None:
            interims.interim(
                session, case=case, clause_keys=gravest.clauses, facts=facts_of(hits), measures=[measure],
                rule_ref=f"{gravest.rule}/{gravest.version}", base_url=base_url, now=now,
            )  # fmt: skip
    return case


def _into_shared_case(
    session: Session, key: str, hits: Sequence[HitFact], *, by: Actor, now: datetime
) -> Case:  # fmt: skip
    """Look into several people at once; nothing is done to any of them before a person has looked."""
    first = hits[0]
    ids = {hit.user_id for hit in hits if hit.user_id is not None}
    people = session.scalars(sa.select(User.public_id).where(User.id.in_(ids)).order_by(User.public_id)).all()
    case = cases.open_case(
        session, subject_ref=first.rule_ref, origin=Origin.RULE, clause_refs=first.clauses, severity=TOGETHER,
        evidence=_evidence(hits) | {"people": list(people)}, dedupe_key=key, now=now, by=by,
        links=[*((LinkKind.RECORD, hit.request_id) for hit in hits), *((LinkKind.SUBJECT, ref) for ref in people)],
    )  # fmt: skip
    detection.mark_in_case(session, hit_ids=[hit.id for hit in hits], case_id=case.id)
    return case


def _evidence(hits: Sequence[HitFact]) -> dict[str, Any]:
    first = hits[0]
    return {
        "kind": "rule", "rule": first.rule, "version": first.version, "clauses": sorted(first.clauses),
        "hits": [
            {"hit": h.id, "request": h.request_id, "model": h.model_name, "at": h.at.isoformat(),
             "outcome": h.outcome.value, "applied": h.applied.value}
            for h in hits
        ],
    }  # fmt: skip


def _measure(session: Session, hit: HitFact, now: datetime) -> Measure | None:
    """Return what a rule's outcome orders; None where what it is about is gone."""
    kind, until = KINDS[hit.applied], now + timedelta(days=DAYS[hit.applied])
    if kind is SanctionKind.THROTTLE:
        return Measure(kind, until, calls=THROTTLE_CALLS, text_tokens=THROTTLE_TEXT_TOKENS)
    if kind is SanctionKind.SUSPEND_ENTITLEMENT:
        model = catalog.called(session, full_name=hit.model_name)
        return Measure(kind, until, model.public_id) if model is not None else None
    if kind is SanctionKind.FREEZE_ACCESS_TOKEN:
        query = sa.select(AccessToken.public_id).join(UsageRecord, UsageRecord.access_token_id == AccessToken.id)
        return Measure(kind, until, session.scalar(query.where(UsageRecord.id == hit.usage_record_id)) or "")
    return Measure(kind, until)
