"""The second look that follows when a license version was put in force at once."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts import service as accounts
from portal.accounts.models import Proposal
from portal.accounts.rules import Permission, reason_of
from portal.audit import service as audit
from portal.audit.rules import VersionReviewed, VersionReviewOverdue
from portal.core.actor import SYSTEM, Actor
from portal.core.db import hold
from portal.core.errors import NotFound
from portal.licensing import service as licensing
from portal.licensing.models import AfterReview, LicenseVersion, VersionAuthor
from portal.licensing.rules import ReviewFinding
from portal.notices import service as notices
from portal.notices.rules import moment
from portal.reviews import rules


def order(
    session: Session, *, version: LicenseVersion, proposal: Proposal, now: datetime, base_url: str
) -> AfterReview:  # fmt: skip
    """Order a second look at a version that two people just put in force, and ask everybody for it who may take it."""
    row = AfterReview(version=version, proposal_id=proposal.id, due_at=now + rules.REVIEW_TIME)
    session.add(row)
    session.flush()
    body = rules.compose_asked(
        title=version.license.title, number=version.number, reason=reason_of(proposal.payload),
        due=moment(row.due_at), page=f"{base_url}{page_of(version)}",
    )  # fmt: skip
    _tell(session, row, "version_review", f"Look at version {version.number}", body, now=now)
    return row


def page_of(version: LicenseVersion) -> str:
    """Return where staff take the second look."""
    return f"/staff/licenses/{version.license.slug}/{version.number}/review"


def find(session: Session, *, slug: str, number: str) -> AfterReview:
    """Find the second look that a version needs, or had."""
    version = licensing.find_version(session, slug=slug, number=number, drafts=True)
    found = licensing.second_look(session, version=version)
    if found is None:
        raise NotFound("review_not_found", f"Version {number} was not put in force at once, so nobody looks again.")
    return found


def involved(session: Session, *, review: AfterReview) -> frozenset[str]:
    """Return who wrote, approved or put a version in force, so that somebody else looks at it."""
    proposal = session.get_one(Proposal, review.proposal_id)
    authors = session.scalars(sa.select(VersionAuthor.author).where(VersionAuthor.version_id == review.version_id))
    people = {*authors, review.version.approved_by, proposal.proposed_by, proposal.confirmed_by}
    return frozenset(ref for ref in people if ref is not None)


def review(
    session: Session, *, slug: str, number: str, finding: ReviewFinding, words: str, by: Actor, now: datetime
) -> AfterReview:
    """Record, once and for good, what somebody uninvolved found about a version that was put in force at once.

    Raises:
        Refused: the person had a hand in it.
        Conflict: somebody looked already.
        Invalid: they do not say what they found.
    """
    row = find(session, slug=slug, number=number)
    hold(session, LicenseVersion.id, row.version_id)
    session.refresh(row)
    rules.check_open(row.reviewed_at)
    rules.check_reviewer(by.public_id, involved(session, review=row))
    row.words = rules.check_words(words)
    row.reviewed_by, row.reviewed_at, row.finding = by.public_id, now, finding
    session.flush()
    audit.record(session, VersionReviewed(subject=slug, number=number, finding=finding.value), by=by, now=now)
    return row


def remind(session: Session, *, now: datetime, base_url: str) -> int:
    """Tell staff, once, of each second look that nobody took in time; its pages knew it from that instant."""
    query = sa.select(AfterReview).where(
        AfterReview.due_at <= now, AfterReview.reviewed_at.is_(None), AfterReview.overdue_at.is_(None)
    )
    late = session.scalars(query.order_by(AfterReview.due_at)).unique().all()
    for row in late:
        version = row.version
        row.overdue_at = now
        session.flush()
        event = VersionReviewOverdue(subject=version.license.slug, number=version.number)
        audit.record(session, event, by=SYSTEM, now=now)
        body = rules.compose_overdue(
            title=version.license.title, number=version.number, due=moment(row.due_at),
            page=f"{base_url}{page_of(version)}",
        )  # fmt: skip
        _tell(session, row, "version_review_overdue", f"Overdue: look at version {version.number}", body, now=now)
    return len(late)


def _tell(session: Session, row: AfterReview, kind: str, subject: str, body: str, *, now: datetime) -> None:
    """Leave a message for everybody who may take a second look: who had a hand in it may not."""
    hands = involved(session, review=row)
    version = row.version
    for person in accounts.able(session, permission=Permission.LICENSES_PUBLISH, now=now):
        if person.profile is not None and person.public_id not in hands:
            notices.queue(
                session, recipient_id=person.id, address=person.profile.email, kind=kind,
                subject_ref=f"license_version:{version.license.slug}/{version.number}/{kind}",
                subject=f"{version.license.title}: {subject[0].lower()}{subject[1:]}", body=body, now=now,
            )  # fmt: skip
