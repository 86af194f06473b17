"""Granting declared research its exemptions, ending them, and saying which hold."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts import service as accounts
from portal.accounts.models import User
from portal.audit import service as audit
from portal.catalog import service as catalog
from portal.clauses.models import Clause, ClauseText
from portal.clauses.rules import ClauseKind
from portal.core.actor import Actor
from portal.core.clock import stamp
from portal.core.db import hold
from portal.core.errors import Invalid, NotFound
from portal.core.ids import public_id
from portal.exemptions import rules
from portal.exemptions.models import Exemption, ExemptionClause
from portal.exemptions.rules import ExemptFact, ExemptionEnded, ExemptionGranted, Purpose
from portal.licensing.models import License, LicenseVersion, Rendition
from portal.licensing.rules import VersionState
from portal.notices import service as notices
from portal.notices.rules import moment

BINDING = frozenset({VersionState.SCHEDULED, VersionState.IN_FORCE, VersionState.SUPERSEDED, VersionState.RETIRED})
LATE = timedelta(days=1)
CITED = frozenset({ClauseKind.RESTRICTION, ClauseKind.DUTY})


def citable(session: Session, *, license_slug: str) -> dict[str, Clause]:
    """Return the restrictions and duties that stand in a published version of a license, by key."""
    query = (
        sa.select(Clause)
        .join(ClauseText, ClauseText.clause_id == Clause.id)
        .join(Rendition, Rendition.text_sha256 == ClauseText.text_sha256)
        .join(LicenseVersion, LicenseVersion.id == Rendition.version_id)
        .join(License, License.id == LicenseVersion.license_id)
        .where(License.slug == license_slug, LicenseVersion.state.in_(BINDING), Clause.kind.in_(CITED))
        .order_by(Clause.stable_key)
    )
    return {clause.stable_key: clause for clause in session.scalars(query).unique()}


def cite(session: Session, *, license_slug: str, keys: Collection[str]) -> list[Clause]:
    """Find the clauses that something cites.

    Raises:
        Invalid: none is named, or one is no restriction or duty of a published version.
    """
    known = citable(session, license_slug=license_slug)
    if not keys:
        raise Invalid("clause_missing", "Cite at least one clause.", field="clauses")
    if unknown := sorted(set(keys) - set(known)):
        message = f"{unknown[0][:100]} is no restriction or duty of a published version of {license_slug[:60]}."
        raise Invalid("clause_unknown", message, field="clauses")
    return [known[key] for key in sorted(set(keys))]


def grant(
    session: Session,
    *,
    person: str,
    purpose: Purpose,
    license_slug: str,
    clause_keys: Collection[str],
    model_name: str,
    safeguards: str,
    since: datetime,
    until: datetime,
    page: str,
    by: Actor,
    now: datetime,
) -> Exemption:
    """Exempt the declared research of a person, and tell them.

    Args:
        model_name: the one model that it is for; empty for every model.
        page: where the person reads their terms.

    Raises:
        Invalid: nobody by that public id, no such model or clause, or dates that do not fit.
        Refused: it is the actor's own.
    """
    user = session.scalars(sa.select(User).where(User.public_id == person)).unique().one_or_none()
    if user is None or user.profile is None:
        raise Invalid("person_unknown", "There is nobody by this public id.", field="person")
    own = user.id == by.user_id
    safeguards = rules.check_grant(since=since, until=until, safeguards=safeguards, own=own, now=now)
    cited = cite(session, license_slug=license_slug, keys=clause_keys)
    model = catalog.called(session, full_name=model_name) if model_name else None
    if model_name and model is None:
        raise Invalid("model_unknown", "There is no such model.", field="model")
    row = Exemption(
        public_id=public_id("exm"), user_id=user.id, purpose=purpose, license=license_slug,
        model_id=model.id if model else None, safeguards=safeguards, valid_from=since, valid_to=until,
        approved_by=by.public_id, approved_at=now, cited=[ExemptionClause(clause_id=clause.id) for clause in cited],
    )  # fmt: skip
    session.add(row)
    session.flush()
    keys = " ".join(clause.stable_key for clause in cited)
    event = ExemptionGranted(
        subject=row.public_id, user=person, purpose=purpose.value, model=model.public_id if model else "",
        clauses=keys, until=stamp(until),
    )  # fmt: skip
    audit.record(session, event, by=by, now=now)
    body = rules.compose_granted(
        purpose=purpose, clauses=keys, model=model_name, until=moment(until), page=page
    )  # fmt: skip
    _tell(session, row, user, "Your declared research is exempt", body, now=now)
    return row


def find(session: Session, *, ref: str) -> Exemption:
    """Find an exemption by its public id."""
    found = session.scalars(sa.select(Exemption).where(Exemption.public_id == ref)).unique().one_or_none()
    if found is None:
        raise NotFound("exemption_not_found", "There is no such exemption.")
    return found


def end(session: Session, *, ref: str, reason: str, by: Actor, now: datetime) -> Exemption:
    """End an exemption before its time, and tell the person; ending it again changes nothing."""
    row = find(session, ref=ref)
    hold(session, User.id, row.user_id)
    session.refresh(row)
    kept = rules.check_words(reason, field="reason", ask="Say why; the person reads it.")
    if row.ended_at is None and row.valid_to > now:
        row.ended_at, row.ended_by, row.end_reason = now, by.public_id, kept
        session.flush()
        audit.record(session, ExemptionEnded(subject=row.public_id, user=row.user.public_id), by=by, now=now)
        body = rules.compose_ended(purpose=row.purpose, reason=kept)
        _tell(session, row, row.user, "The exemption of your research ended", body, now=now)
    return row


def exemptions(session: Session, *, limit: int = 200) -> Sequence[Exemption]:
    """Return exemptions, newest first."""
    return session.scalars(sa.select(Exemption).order_by(Exemption.id.desc()).limit(limit)).unique().all()


def names_of(session: Session, *, rows: Sequence[Exemption]) -> dict[str, str]:
    """Return the names of the people of some exemptions, for staff."""
    return accounts.names(session, refs={row.user.public_id for row in rows})


def version(session: Session) -> int:
    """Return a number that grows whenever an exemption is granted, or ended before its time."""
    query = sa.select(sa.func.coalesce(sa.func.max(Exemption.id), 0) + sa.func.count(Exemption.ended_at))
    return session.scalar(query) or 0


def in_force(session: Session, *, now: datetime) -> list[ExemptFact]:
    """Return the exemptions that hold now or later, and those that held a day ago: of use that is recorded late."""
    until = sa.func.coalesce(Exemption.ended_at, Exemption.valid_to)
    query = sa.select(Exemption).where(until > now - LATE).order_by(Exemption.id)
    return [
        ExemptFact(
            row.id, row.user_id, row.purpose, row.model_id, row.license,
            frozenset(one.clause.stable_key for one in row.cited), row.valid_from, row.ended_at or row.valid_to,
        )
        for row in session.scalars(query).unique()
    ]  # fmt: skip


def _tell(session: Session, row: Exemption, user: User, subject: str, body: str, *, now: datetime) -> None:
    if user.profile is not None:
        notices.queue(
            session, recipient_id=user.id, address=user.profile.email, kind="exemption",
            subject_ref=f"exemption:{row.public_id}", subject=subject, body=body, now=now,
        )  # fmt: skip
