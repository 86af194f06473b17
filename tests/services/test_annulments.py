"""Declining, withdrawing, and voiding what came about in error: what it ends, what it leaves, and who may."""

from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.access import service as access
from portal.access.rules import Action, Decision
from portal.accounts.models import Profile, User
from portal.accounts.rules import Role
from portal.annulments import service
from portal.audit.models import AuditEvent
from portal.catalog.models import Release
from portal.core.actor import Actor
from portal.core.errors import Conflict, NotFound, PortalError, Refused
from portal.deliveries.models import Delivery
from portal.licensing import service as licensing
from portal.licensing.models import Annulment, Decline, Signature, SignatureSet
from portal.licensing.rules import AnnulmentKind, DeclineReason, ErrorReason, live
from portal.notices.models import Notice
from portal.signing import service as signing
from portal.statements import service as statements
from tests import conduct, licensed
from tests.factories import BASE, Make

DAY = timedelta(days=1)


@pytest.fixture
def release(make: Make) -> Release:
    """A release of a gated model that pins 2.0.0."""
    return make.release(make.model("lab/gated"))


@pytest.fixture
def staff(session: Session, now: datetime) -> list[Actor]:
    """Two editors."""
    role = Role.LICENSE_EDITOR
    return [conduct.acting(conduct.person(session, n, now, role, domain="staff.example"), role) for n in ("ed", "flo")]


def ask(session: Session, user: User, now: datetime, action: Action = Action.DOWNLOAD) -> Decision:
    actor = conduct.acting(user)
    return access.check(session, actor=actor, model="lab/gated", action=action, now=now, base_url=BASE)


def blocks(decision: Decision) -> list[str]:
    return [reason.code for reason in decision.blocking]


def code(caught: pytest.ExceptionInfo[Any]) -> str:
    error: PortalError = caught.value
    return error.code


def test_withdrawing_ends_access_from_the_next_request_and_keeps_the_records(
    session: Session, make: Make, now: datetime, release: Release
) -> None:
    ann, bob = make.person("ann"), make.person("bob")
    signature, other = make.sign(ann), make.sign(bob)
    licensing.ensure_set(session, signature_ids=[signature.id])
    counts = [session.scalar(sa.select(sa.func.count()).select_from(t)) for t in (Signature, SignatureSet, Delivery)]
    assert ask(session, ann, now).allowed
    by = conduct.acting(ann)
    row = service.withdraw(session, by=by, ref=signature.public_id, now=now, base_url=BASE)
    assert service.withdraw(session, by=by, ref=signature.public_id, now=now + DAY, base_url=BASE) is row
    assert blocks(ask(session, ann, now)) == blocks(ask(session, ann, now, Action.INFER)) == ["signature_missing"]
    assert ask(session, bob, now).allowed
    after = [session.scalar(sa.select(sa.func.count()).select_from(t)) for t in (Signature, SignatureSet, Delivery)]
    assert after == counts
    assert list(licensing.annulments(session, signature_ids=[signature.id, other.id])) == [signature.id]
    query = sa.select(Notice).where(Notice.recipient_id == ann.id, Notice.kind == "signature_annulled")
    assert "You withdrew your signature of the Conduct License 2.0.0" in (session.scalars(query).one().body or "")
    event = session.scalars(sa.select(AuditEvent).where(AuditEvent.name == "license:signature:annulled")).one()
    assert (event.subject, event.data["kind"]) == (signature.public_id, "withdrawn")


def test_only_the_signer_withdraws(session: Session, make: Make, now: datetime) -> None:
    signature, bob = make.sign(make.person("ann")), make.person("bob")
    for ref in (signature.public_id, "sig_none"):
        with pytest.raises(NotFound):
            service.withdraw(session, by=conduct.acting(bob), ref=ref, now=now, base_url=BASE)


def test_who_withdrew_the_newest_falls_back_to_an_older_signature(
    session: Session, make: Make, now: datetime, release: Release
) -> None:
    ann = make.person("ann")
    make.sign(ann, "1.0.0")
    newer = make.sign(ann)
    service.withdraw(session, by=conduct.acting(ann), ref=newer.public_id, now=now, base_url=BASE)
    assert blocks(ask(session, ann, now)) == ["signature_due"]
    make.sign(ann)
    assert ask(session, ann, now).allowed
    facts = licensing.signatures_for(session, user_id=ann.id, license_ids=[newer.version.license_id])
    assert len(live(facts[newer.version.license_id], now)) == 2


def test_what_was_done_under_a_withdrawn_signature_can_still_be_held_against_it(
    session: Session, make: Make, now: datetime, staff: list[Actor]
) -> None:
    ann = make.person("ann")
    older, newer = make.sign(ann, "1.0.0"), make.sign(ann)
    service.withdraw(session, by=conduct.acting(ann), ref=newer.public_id, now=now, base_url=BASE)
    assert licensing.promised(session, user_id=ann.id) is newer
    assert statements.citable(session, user_id=ann.id, base_url=BASE)
    bob = make.person("bob")
    kept, wrong = make.sign(bob, "1.0.0"), make.sign(bob)
    proposal = service.propose_void(session, ref=wrong.public_id, reason=ErrorReason.WRONG_TEXT, by=staff[0], now=now)
    service.void(
        session, ref=wrong.public_id, payload_sha256=proposal.payload_sha256, by=staff[1], now=now, base_url=BASE
    )
    assert licensing.promised(session, user_id=bob.id) is kept
    assert older.id != kept.id


def test_two_people_void_a_signature_that_came_about_in_error(
    session: Session, make: Make, now: datetime, release: Release, staff: list[Actor]
) -> None:
    ann = make.person("ann")
    signature = make.sign(ann)
    ref = signature.public_id
    with pytest.raises(Conflict) as caught:
        service.void(session, ref=ref, payload_sha256="x", by=staff[1], now=now, base_url=BASE)
    assert code(caught) == "proposal_missing"
    proposal = service.propose_void(session, ref=ref, reason=ErrorReason.WRONG_PERSON, by=staff[0], now=now)
    assert service.open_void(session, signature=signature, now=now) is proposal
    assert ask(session, ann, now).allowed
    given: dict[str, Any] = {"ref": ref, "payload_sha256": proposal.payload_sha256, "base_url": BASE}
    with pytest.raises(Refused):
        service.void(session, **given, by=staff[0], now=now)
    row = service.void(session, **given, by=staff[1], now=now)
    assert (row.kind, row.proposal_id, row.reason_code) == (AnnulmentKind.ERROR, proposal.id, "wrong_person")
    assert not ask(session, ann, now).allowed
    with pytest.raises(Conflict) as again:
        service.void(session, **given, by=staff[1], now=now)
    assert code(again) == "annulled_already"


def test_nobody_voids_their_own_signature(session: Session, make: Make, now: datetime, staff: list[Actor]) -> None:
    ed = session.get_one(User, staff[0].id)
    signature = make.sign(ed)
    with pytest.raises(Refused) as caught:
        service.propose_void(session, ref=signature.public_id, reason=ErrorReason.TECHNICAL, by=staff[0], now=now)
    assert code(caught) == "own_signature"
    with pytest.raises(NotFound):
        service.find_signature(session, ref="sig_none")


def test_an_erased_person_gets_no_mail(session: Session, make: Make, now: datetime, staff: list[Actor]) -> None:
    ann = make.person("ann")
    signature = make.sign(ann)
    session.execute(sa.delete(Profile).where(Profile.user_id == ann.id))
    session.expire_all()
    proposal = service.propose_void(
        session, ref=signature.public_id, reason=ErrorReason.TECHNICAL, by=staff[0], now=now
    )
    service.void(
        session, ref=signature.public_id, payload_sha256=proposal.payload_sha256, by=staff[1], now=now, base_url=BASE
    )
    assert session.scalars(sa.select(Annulment).where(Annulment.signature_id == signature.id)).one()
    assert not session.scalars(sa.select(Notice).where(Notice.recipient_id == ann.id)).all()


def test_declining_is_recorded_once_and_signing_stays_open(session: Session, now: datetime) -> None:
    version = licensed.publish(session, now)
    ann = licensed.browsing(conduct.person(session, "ann", now))
    ceremony = signing.open_ceremony(session, by=ann, version_id=version.id, now=now)
    given: dict[str, Any] = {"by": ann, "version_id": version.id, "nonce": ceremony.nonce}
    row = service.decline(session, **given, reason=DeclineReason.UNCLEAR, now=now)
    assert service.decline(session, **given, reason=DeclineReason.UNSAID, now=now) is row
    license_ids = [version.license_id]
    assert licensing.declined_by(session, user_id=ann.id, license_ids=license_ids) == {version.id}
    assert licensing.declined_by(session, user_id=ann.id, license_ids=[]) == frozenset()
    filled = licensed.sitting(session, ann, version, now)
    assert filled.nonce != ceremony.nonce, "a declined sitting is over"
    licensed.sign(session, ann, version, now + DAY)
    assert licensing.declined_by(session, user_id=ann.id, license_ids=license_ids) == frozenset()
    assert session.scalars(sa.select(Decline)).all() == [row]


@pytest.mark.invariant("INV-02")
def test_a_sitting_ends_once(session: Session, now: datetime) -> None:
    version = licensed.publish(session, now)
    ann, bob = (licensed.browsing(conduct.person(session, name, now)) for name in ("ann", "bob"))
    filled = licensed.sitting(session, ann, version, now)
    given: dict[str, Any] = {"version_id": version.id, "nonce": filled.nonce, "reason": DeclineReason.UNSAID}
    for by, at, why in ((bob, now, "ceremony_used"), (ann, now + timedelta(hours=2), "ceremony_expired")):
        with pytest.raises(Conflict) as caught:
            service.decline(session, by=by, now=at, **given)
        assert code(caught) == why
    signing.sign(session, by=ann, version_id=version.id, sitting=filled, context=licensed.CONTEXT, now=now)
    with pytest.raises(Conflict) as used:
        service.decline(session, by=ann, now=now, **given)
    assert code(used) == "ceremony_used"
    other = licensed.sitting(session, bob, version, now)
    service.decline(session, by=bob, now=now, **{**given, "nonce": other.nonce})
    with pytest.raises(Conflict):
        signing.sign(session, by=bob, version_id=version.id, sitting=other, context=licensed.CONTEXT, now=now)


def test_who_declined_is_told_so_and_asked_nothing_twice(
    session: Session, make: Make, now: datetime, release: Release
) -> None:
    ann = make.person("ann")
    version = conduct.license_versions(session, now)["2.0.0"]
    ceremony = signing.open_ceremony(session, by=licensed.browsing(ann), version_id=version.id, now=now)
    service.decline(
        session, by=licensed.browsing(ann), version_id=version.id, nonce=ceremony.nonce,
        reason=DeclineReason.RESTRICTIONS, now=now,
    )  # fmt: skip
    found = ask(session, ann, now)
    assert blocks(found) == ["signature_declined"]
    assert found.blocking[0].url.endswith("/licenses/conduct-license/2.0.0/sign")
    assert ask(session, ann, now, Action.READ).allowed


def test_who_withdrew_may_sign_the_same_version_again(session: Session, now: datetime) -> None:
    licensed.publish(session, now, "1.0.0")
    ann = licensed.browsing(conduct.person(session, "ann", now))
    old = licensing.find_version(session, slug=licensed.SLUG, number="1.0.0")
    first = licensed.sign(session, ann, old, now)
    newer = licensed.publish(session, now, "1.1.0")
    assert signing.change_for(session, by=ann, version=newer) is not None
    service.withdraw(session, by=ann, ref=first.public_id, now=now, base_url=BASE)
    assert signing.change_for(session, by=ann, version=newer) is None, "who is bound to nothing starts anew"
    second = licensed.sign(session, ann, newer, now)
    service.withdraw(session, by=ann, ref=second.public_id, now=now, base_url=BASE)
    assert licensed.sign(session, ann, newer, now).id != second.id
