"""How a license version goes from a complete draft to being in force, and out of use again."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts import service as accounts
from portal.accounts.models import Proposal
from portal.accounts.rules import Permission, reason_of
from portal.audit import service as audit
from portal.audit.rules import (
    VersionApproved,
    VersionCancelled,
    VersionPublished,
    VersionRetired,
    VersionReturned,
    VersionSubmitted,
)
from portal.core.actor import SYSTEM, Actor
from portal.core.clock import stamp
from portal.core.db import hold
from portal.core.errors import Conflict, Invalid, Refused
from portal.drafting import service as drafting
from portal.licensing import service as licensing
from portal.licensing.models import LicenseVersion
from portal.licensing.rules import MADE, VERSION, WEIGHT, Materiality, VersionAction, VersionState, check_comment
from portal.notices import service as notices
from portal.notices.models import Notice
from portal.notices.rules import moment
from portal.publishing import rules
from portal.publishing.rules import Plan, Previewed
from portal.reviews import service as reviews

LOWER = "license:version:approve_below_floor"
NOW = "license:version:publish_now"
NEWS = "license_version"


def _held(session: Session, *, slug: str, number: str, now: datetime) -> LicenseVersion:
    """Return a version that nobody else moves until this is done, as it stands by the clock."""
    version = licensing.find_version(session, slug=slug, number=number, drafts=True)
    hold(session, LicenseVersion.id, version.id)
    licensing.arrive(session, now=now)
    return version


def _check_shown(session: Session, version: LicenseVersion, shown_sha256: str | None) -> None:
    if shown_sha256 not in {None, licensing.shown(session, version=version)}:
        raise Conflict("draft_changed", "This version changed since you looked at it. Look at it again.")


def submit(session: Session, *, slug: str, number: str, by: Actor, now: datetime) -> LicenseVersion:
    """Hand a complete draft in for review; from then on nobody edits it.

    Raises:
        Invalid: a summary, a translation or the description of a change is missing, or no weight is chosen.
    """
    version = _held(session, slug=slug, number=number, now=now)
    VERSION.next(version.state, VersionAction.SUBMIT)
    drafting.check_ready(session, version=version)
    if version.materiality is None:
        raise Invalid("materiality_missing", "Choose how much this version changes.", field="materiality")
    drafting.describe(session, version=version, changes=None)
    drafting.add_author(session, version=version, by=by, now=now)
    licensing.move(session, version=version, action=VersionAction.SUBMIT)
    audit.record(session, VersionSubmitted(subject=slug, number=number), by=by, now=now)
    return version


def request_changes(
    session: Session, *, slug: str, number: str, words: str, by: Actor, now: datetime
) -> LicenseVersion:
    """Give a version in review back to its editors, with a remark that says what to change."""
    version = _held(session, slug=slug, number=number, now=now)
    check_comment(words)  # first, so that nothing moves without one
    licensing.move(session, version=version, action=VersionAction.REQUEST_CHANGES)
    licensing.comment(session, version=version, words=words, by=by, now=now)
    audit.record(session, VersionReturned(subject=slug, number=number), by=by, now=now)
    return version


def approve(
    session: Session, *, slug: str, number: str, shown_sha256: str | None = None, by: Actor, now: datetime
) -> LicenseVersion:
    """Settle what a version says, as somebody who had no hand in it; no word of it changes any more.

    Raises:
        Refused: the person drafted, edited or submitted it.
        Invalid: it weighs less than its clause changes allow; that takes a proposal and a second person.
        Conflict: it is not in review, changed since it was looked at, or the vote that it needs is missing.
    """
    version = _held(session, slug=slug, number=number, now=now)
    VERSION.next(version.state, VersionAction.APPROVE)
    rules.check_approver(by.public_id, drafting.authors_of(session, version=version))
    return _approve(session, version, approver=by.public_id, shown_sha256=shown_sha256, by=by, now=now)


def _approve(
    session: Session,
    version: LicenseVersion,
    *,
    approver: str,
    shown_sha256: str | None,
    agreed: Proposal | None = None,
    by: Actor,
    now: datetime,
) -> LicenseVersion:
    _check_shown(session, version, shown_sha256)
    drafting.check_ready(session, version=version)
    weight = version.materiality or Materiality.MATERIAL
    floor = drafting.floor(session, version=version)
    rules.check_weight(weight, floor, agreed=agreed is not None)
    if by != SYSTEM:  # the operators act for the licensor, and answer for texts that are published elsewhere already
        check_voted(session, version=version)
    licensing.move(
        session, version=version, action=VersionAction.APPROVE, approved_by=approver,
        floor_proposal_id=agreed.id if agreed else None,
    )  # fmt: skip
    slug, said = version.license.slug, licensing.shown(session, version=version)
    event = VersionApproved(subject=slug, number=version.number, materiality=weight.value, shown=said)
    audit.record(session, event, by=by, now=now)
    return version


def check_voted(session: Session, *, version: LicenseVersion) -> None:
    """Raise unless the vote that a version of this weight needs stands behind what it says."""
    voted = licensing.resolution_of(session, version=version) is not None
    page = f"/staff/licenses/{version.license.slug}/{version.number}/resolution"
    weight = version.materiality or Materiality.MATERIAL
    rules.check_voted(weight, version.license.vote_from, voted=voted, page=page)


def _payload(session: Session, version: LicenseVersion, action: str, reason: str) -> dict[str, Any]:
    """Return everything that a grave act on a version depends on, so that any change of it undoes a proposal."""
    before = session.get(LicenseVersion, version.predecessor_id) if version.predecessor_id else None
    return {
        "action": action, "version": ref(version), "state": version.state.value, "reason": reason,
        "shown": licensing.shown(session, version=version), "floor": drafting.floor(session, version=version).value,
        "before": [ref(before), before.state.value] if before else None,
    }  # fmt: skip


def ref(version: LicenseVersion) -> str:
    """Return how notices and proposals name a version."""
    return f"license_version:{version.license.slug}/{version.number}"


def _propose(
    session: Session, version: LicenseVersion, action: str, reason: str, *, by: Actor, now: datetime
) -> Proposal:
    rules.check_reason(reason)
    return accounts.propose(
        session, action=action, subject_ref=ref(version), payload=_payload(session, version, action, reason),
        page=f"/staff/licenses/{version.license.slug}/{version.number}", permission=Permission.LICENSES_PUBLISH, by=by,
        now=now,
    )  # fmt: skip


def _confirm(
    session: Session, version: LicenseVersion, action: str, payload_sha256: str, *, by: Actor, now: datetime
) -> Proposal:
    proposed = proposal(session, version=version, action=action, now=now)
    reason = reason_of(proposed.payload) if proposed else ""
    return accounts.confirm(
        session, action=action, subject_ref=ref(version), shown_sha256=payload_sha256,
        payload=_payload(session, version, action, reason), by=by, now=now,
    )  # fmt: skip


def proposal(session: Session, *, version: LicenseVersion, action: str, now: datetime) -> Proposal | None:
    """Return the proposal of a grave act on a version that waits for a second person."""
    return accounts.open_proposal(session, action=action, subject_ref=ref(version), now=now)


def propose_lower(session: Session, *, slug: str, number: str, reason: str, by: Actor, now: datetime) -> Proposal:
    """Propose, as somebody without a hand in it, to approve a version that weighs less than its clause changes do."""
    version = _held(session, slug=slug, number=number, now=now)
    VERSION.next(version.state, VersionAction.APPROVE)
    rules.check_approver(by.public_id, drafting.authors_of(session, version=version))
    floor = drafting.floor(session, version=version)
    if WEIGHT[version.materiality or floor] >= WEIGHT[floor]:
        raise Conflict("not_below_floor", "This version weighs enough, so one person approves it.")
    return _propose(session, version, LOWER, reason, by=by, now=now)


def approve_lower(
    session: Session, *, slug: str, number: str, payload_sha256: str, by: Actor, now: datetime
) -> LicenseVersion:
    """Confirm, as a second person, that a version is approved although its clause changes weigh more."""
    version = _held(session, slug=slug, number=number, now=now)
    agreed = _confirm(session, version, LOWER, payload_sha256, by=by, now=now)
    return _approve(
        session, version, approver=agreed.proposed_by, shown_sha256=None, agreed=agreed, by=by, now=now
    )  # fmt: skip


def plan(
    session: Session, *, version: LicenseVersion, effective_at: datetime, required_by: datetime, declared: bool = False
) -> Plan:
    """Return with which weight and dates an approved version would be published."""
    before = session.get(LicenseVersion, version.predecessor_id) if version.predecessor_id else None
    weight = version.materiality or Materiality.MATERIAL
    if weight is Materiality.MATERIAL_IMMEDIATE:
        required_by = effective_at
    return Plan(weight, effective_at, required_by, before.effective_at if before else None, declared)


def schedule(
    session: Session,
    *,
    slug: str,
    number: str,
    effective_at: datetime,
    required_by: datetime,
    previewed: Previewed,
    by: Actor,
    now: datetime,
    base_url: str,
) -> LicenseVersion:
    """Give an approved version the date from which it is in force, and tell everyone who signed an earlier one.

    Args:
        previewed: the look ahead on which this rests, as the caller found it.

    Raises:
        Invalid: the dates are too soon, in the wrong order, or before the predecessor's.
        Conflict: the preview is too old, or looked at something else.
    """
    version = _held(session, slug=slug, number=number, now=now)
    VERSION.next(version.state, VersionAction.SCHEDULE)
    wanted = plan(session, version=version, effective_at=effective_at, required_by=required_by)
    rules.check_schedule(wanted, now, previewed)
    return _date(session, version, wanted, VersionAction.SCHEDULE, by=by, now=now, base_url=base_url)


def _date(
    session: Session,
    version: LicenseVersion,
    wanted: Plan,
    action: VersionAction,
    *,
    by: Actor,
    now: datetime,
    base_url: str,
) -> LicenseVersion:
    licensing.move(
        session, version=version, action=action, effective_at=wanted.effective_at, required_by=wanted.required_by
    )
    event = VersionPublished(
        subject=version.license.slug, number=version.number, materiality=wanted.materiality.value,
        effective_at=stamp(wanted.effective_at), required_by=stamp(wanted.required_by),
    )  # fmt: skip
    audit.record(session, event, by=by, now=now)
    if wanted.materiality is not Materiality.EDITORIAL:
        _tell(session, version, base_url=base_url, now=now)
    return version


def propose_now(session: Session, *, slug: str, number: str, reason: str, by: Actor, now: datetime) -> Proposal:
    """Propose that an approved version is in force at once: a first one, or one that binds before the next use."""
    version = _held(session, slug=slug, number=number, now=now)
    VERSION.next(version.state, VersionAction.PUBLISH_NOW)
    wanted = plan(session, version=version, effective_at=now, required_by=now)
    rules.check_publish_now(wanted, reason, now)
    return _propose(session, version, NOW, reason, by=by, now=now)


def publish_now(
    session: Session, *, slug: str, number: str, payload_sha256: str, by: Actor, now: datetime, base_url: str
) -> LicenseVersion:
    """Put a version in force at once, as the second of two people; within days, somebody else looks at it again."""
    version = _held(session, slug=slug, number=number, now=now)
    wanted = plan(session, version=version, effective_at=now, required_by=now)
    rules.check_plan(wanted, now)
    agreed = _confirm(session, version, NOW, payload_sha256, by=by, now=now)
    _date(session, version, wanted, VersionAction.PUBLISH_NOW, by=by, now=now, base_url=base_url)
    reviews.order(session, version=version, proposal=agreed, now=now, base_url=base_url)
    return version


def cancel(
    session: Session, *, slug: str, number: str, by: Actor, now: datetime, base_url: str
) -> LicenseVersion:  # fmt: skip
    """Call off the date of a scheduled version; whoever was told of it is told again."""
    version = _held(session, slug=slug, number=number, now=now)
    VERSION.next(version.state, VersionAction.CANCEL)
    newest = licensing.newest(session, license_id=version.license_id)
    if newest is not None and newest.id != version.id:
        message = f"Version {newest.number} follows on this one already. Retire or cancel that one first."
        raise Conflict("version_followed", message)
    licensing.move(session, version=version, action=VersionAction.CANCEL, effective_at=None, required_by=None)
    audit.record(session, VersionCancelled(subject=slug, number=number), by=by, now=now)
    _tell_cancelled(session, version, base_url=base_url, now=now)
    return version


def retire(
    session: Session, *, slug: str, number: str, still_asked: Collection[str], by: Actor, now: datetime
) -> LicenseVersion:
    """Take a version out of use for good; it stays readable, and signatures of it stay true.

    Args:
        still_asked: names of what still requires or pins this version, as the caller found them.
    """
    version = _held(session, slug=slug, number=number, now=now)
    rules.check_retire(version.state, still_asked)
    licensing.move(session, version=version, action=VersionAction.RETIRE)
    audit.record(session, VersionRetired(subject=slug, number=number), by=by, now=now)
    return version


def publish(
    session: Session,
    *,
    slug: str,
    number: str,
    materiality: Materiality | str | None = None,
    effective_at: datetime,
    required_by: datetime,
    by: Actor,
    now: datetime,
    base_url: str = "",
) -> LicenseVersion:
    """Take a version through every step up to its date, as the operators acting together at the command line.

    Whoever may run commands on the server could change anything, so the command line counts as all of them; their
    dates come with texts that are published elsewhere already, and may lie in the past.

    Raises:
        Refused: somebody else calls it; at the console each step has its own people.
    """
    if by != SYSTEM:
        raise Refused("operators_only", "At the console a version is submitted, approved and scheduled step by step.")
    version = _held(session, slug=slug, number=number, now=now)
    action = VersionAction.PUBLISH_NOW if effective_at <= now else VersionAction.SCHEDULE
    if version.state not in MADE:
        VERSION.next(version.state, action)
    if version.state is VersionState.DRAFT and materiality:
        version.materiality = drafting.member(Materiality, materiality, "materiality")
        session.flush()
    wanted = plan(session, version=version, effective_at=effective_at, required_by=required_by, declared=True)
    rules.check_plan(wanted, now)
    if version.state is VersionState.DRAFT:
        submit(session, slug=slug, number=number, by=by, now=now)
    if version.state is VersionState.IN_REVIEW:
        _approve(session, version, approver=by.public_id, shown_sha256=None, by=by, now=now)
    return _date(session, version, wanted, action, by=by, now=now, base_url=base_url)


def _tell(session: Session, version: LicenseVersion, *, base_url: str, now: datetime) -> None:
    """Leave one message for each person who signed an earlier version, in their language where there is a summary."""
    license_, number = version.license, version.number
    prevailing = licensing.rendition(version).language

    def body(locale: str | None) -> str:
        return rules.compose_notice(
            title=license_.title, number=number, materiality=version.materiality or Materiality.MATERIAL,
            effective_on=moment(version.effective_at or now), required_on=moment(version.required_by or now),
            summary=version.summary.get(locale or "") or version.summary[prevailing],
            page=f"{base_url}/licenses/{license_.slug}/{number}",
        )  # fmt: skip

    people = [person for person in licensing.affected(session, version=version) if person.email is not None]
    bodies = {locale: body(locale) for locale in {person.locale for person in people}}
    notices.queue_all(
        session, kind=NEWS, subject_ref=ref(version), subject=f"{license_.title}: version {number}", now=now,
        messages=[(person.id, person.email or "", bodies[person.locale]) for person in people],
    )  # fmt: skip


def _tell_cancelled(session: Session, version: LicenseVersion, *, base_url: str, now: datetime) -> None:
    """Tell everyone who was told of a version's date that it is called off."""
    license_ = version.license
    told = sa.select(Notice.recipient_id, Notice.address).where(Notice.kind == NEWS, Notice.subject_ref == ref(version))
    body = rules.compose_cancelled(
        title=license_.title, number=version.number, page=f"{base_url}/licenses/{license_.slug}"
    )
    for recipient_id, address in session.execute(told.distinct().order_by(Notice.recipient_id)).all():
        notices.queue(
            session, recipient_id=recipient_id, address=address, kind="license_version_cancelled",
            subject_ref=f"{ref(version)}/cancelled", body=body, now=now,
            subject=f"{license_.title}: version {version.number} is called off",
        )  # fmt: skip
