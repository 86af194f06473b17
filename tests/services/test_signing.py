"""The sitting and the signature, on both databases."""

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.accounts.rules import Standing
from portal.audit.models import AuditEvent
from portal.core.actor import Actor
from portal.core.errors import Conflict, NotFound, PortalError, Refused
from portal.licensing.models import (
    Attestation,
    Ceremony,
    Exhibit,
    License,
    LicenseVersion,
    Rendition,
    Signature,
    SignatureAnnex,
)  # fmt: skip
from portal.licensing.rules import LicenseKind
from portal.notices import service as notices
from portal.proofs.rules import canonical, commitment, digest
from portal.signing import service
from portal.signing.rules import Sitting
from tests import conduct, licensed


@dataclass
class World:
    """A person at a browser, and the license published in its first version, or in both."""

    session: Session
    now: datetime
    user: User
    version: LicenseVersion

    @property
    def me(self) -> Actor:
        return licensed.browsing(self.user)

    def open(self, **changed: Any) -> Ceremony:
        given = {"by": self.me, "version_id": self.version.id, "now": self.now}
        return service.open_ceremony(self.session, **{**given, **changed})

    def sitting(self, language: str = "en") -> Sitting:
        return licensed.sitting(self.session, self.me, self.version, self.now, language)

    def sign(self, sitting: Sitting, **changed: Any) -> Signature:
        given = {"by": self.me, "version_id": self.version.id, "context": licensed.CONTEXT, "now": self.now}
        return service.sign(self.session, sitting=sitting, **{**given, **changed})

    def count(self, table: Any) -> int:
        query = sa.select(sa.func.count()).select_from(table)
        if table is Signature:
            query = query.where(Signature.user_id == self.user.id)
        return self.session.scalar(query) or 0

    def publish_newer(self) -> None:
        self.version = licensed.publish(self.session, self.now, "1.1.0")


@pytest.fixture
def world(session: Session, now: datetime) -> World:
    return World(session, now, conduct.person(session, "ann", now), licensed.publish(session, now, "1.0.0"))


def code(caught: pytest.ExceptionInfo[Any]) -> str:
    error: PortalError = caught.value
    return error.code


@pytest.mark.invariant("INV-01")
def test_a_signature_holds_exactly_what_was_shown_and_said(world: World) -> None:
    signature = world.sign(world.sitting("zh"))
    chinese = licensed.dated("1.0.0", world.now).texts["zh"]
    english = licensed.dated("1.0.0", world.now).texts["en"]
    assert signature.rendition_sha256 == sha256(chinese).hexdigest()
    assert signature.prevailing_sha256 == sha256(english).hexdigest()
    assert signature.signed_at == world.now
    annex = world.session.get_one(SignatureAnnex, signature.id)
    assert commitment(annex.salt, annex.evidence) == signature.annex_commitment
    stated = json.loads(annex.evidence)
    assert canonical(stated) == annex.evidence == service.evidence_of(world.session, signature=signature)
    assert stated["receipt_id"] == signature.public_id
    assert stated["license"]["text_sha256"] == signature.rendition_sha256
    assert stated["license"]["language"] == "zh"
    assert len(stated["license"]["clauses"]) == 64
    assert stated["signer"]["typed_name"] == "Ann Müller-李"
    assert stated["ceremony"]["signed_at"] == world.now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert len(stated["ceremony"]["acknowledgments"]) == 13
    assert stated["previous_signature"] is None
    assert stated["context"]["ip"] == "127.0.0.1"
    rows = world.session.scalars(sa.select(Attestation).where(Attestation.ceremony_id == signature.ceremony_id)).all()
    assert sorted(r.kind.value for r in rows) == ["electronic_form"] + ["restriction"] * 13
    assert {r.wording_sha256 for r in rows} >= {a["wording_sha256"] for a in stated["ceremony"]["acknowledgments"]}
    event = world.session.scalars(sa.select(AuditEvent).where(AuditEvent.subject == signature.public_id)).one()
    assert event.data == {
        "version": "bloom-rail/1.0.0", "text_sha256": signature.rendition_sha256,
        "annex_commitment": signature.annex_commitment,
    }  # fmt: skip
    assert event.actor == world.user.public_id


def test_opening_again_goes_on_with_the_open_sitting(world: World) -> None:
    first = world.open(language="fr")
    assert world.open(language="fr", now=world.now + timedelta(minutes=119)) is first
    assert world.open(language="es") is not first
    later = world.open(language="fr", now=world.now + timedelta(minutes=120))
    assert later is not first
    assert later.nonce != first.nonce
    shown = world.session.scalars(sa.select(Exhibit).where(Exhibit.ceremony_id == first.id)).all()
    assert [(e.kind.value, e.ref) for e in shown] == [("rendition", "bloom-rail/1.0.0/fr")]


def test_a_model_card_that_is_shown_is_an_exhibit(world: World) -> None:
    ceremony = world.open(card_sha256="c" * 64)
    world.open(card_sha256="c" * 64)
    kinds = world.session.scalars(sa.select(Exhibit.kind).where(Exhibit.ceremony_id == ceremony.id)).all()
    assert sorted(k.value for k in kinds) == ["card_revision", "rendition"]


@pytest.mark.threat("TM-18")
def test_signing_again_shows_the_own_difference_as_an_exhibit(world: World) -> None:
    first = world.sign(world.sitting("fr"))
    world.publish_newer()
    change = service.change_for(world.session, by=world.me, version=world.version, language="fr")
    assert change is not None
    assert change.signature is first
    assert sum(d.relation.value != "same" for d in change.deltas) == 2
    again = world.sign(world.sitting("fr"))
    query = sa.select(Exhibit).where(Exhibit.ceremony_id == again.ceremony_id, Exhibit.kind == "difference")
    assert world.session.scalars(query).one().sha256 == digest(change.body)
    body = service.evidence_of(world.session, signature=again)
    assert json.loads(body or b"")["previous_signature"] == first.public_id
    reached = notices.reached_at(
        world.session, user_id=world.user.id, subject_refs=["license_version:bloom-rail/1.1.0"]
    )
    assert reached == {"license_version:bloom-rail/1.1.0": world.now}
    assert [s.id for s in service.signatures_of(world.session, user_id=world.user.id)] == [again.id, first.id]


def test_a_first_signature_has_no_difference(world: World) -> None:
    assert service.change_for(world.session, by=world.me, version=world.version) is None


@pytest.mark.threat("TM-23")
def test_the_same_form_again_is_the_same_signature(world: World) -> None:
    sitting = world.sitting()
    first = world.sign(sitting)
    later = world.now + timedelta(hours=3)
    assert world.sign(sitting, now=later) is first
    assert world.sign(replace(sitting, acknowledged=frozenset()), now=later) is first
    assert world.count(Signature) == 1


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"nonce": "unknown"}, "ceremony_used"),
        ({"shown_digest": "0" * 64}, "text_changed"),
        ({"acknowledged": frozenset({"restriction.malware"})}, "restriction_unticked"),
        ({"consent_electronic": False}, "consent_missing"),
        ({"typed_name": " \u200b"}, "name_missing"),
    ],
)
@pytest.mark.threat("TM-23")
def test_a_form_that_lacks_something_signs_nothing(world: World, changed: dict[str, Any], error: str) -> None:
    sitting = world.sitting()
    with pytest.raises(PortalError) as caught:
        world.sign(replace(sitting, **changed))
    assert code(caught) == error
    assert world.count(Signature) == 0
    assert world.sign(sitting)


@pytest.mark.invariant("INV-02")
@pytest.mark.threat("TM-23")
def test_a_form_that_is_too_old_signs_nothing(world: World) -> None:
    sitting = world.sitting()
    with pytest.raises(Conflict) as caught:
        world.sign(sitting, now=world.now + timedelta(hours=2))
    assert code(caught) == "ceremony_expired"
    assert world.sign(sitting, now=world.now + timedelta(hours=2, microseconds=-1))


@pytest.mark.threat("TM-23")
def test_the_form_of_somebody_else_signs_nothing(world: World) -> None:
    sitting = world.sitting()
    bob = licensed.browsing(conduct.person(world.session, "bob", world.now))
    with pytest.raises(Conflict) as caught:
        world.sign(sitting, by=bob)
    assert code(caught) == "ceremony_used"
    assert world.sign(sitting).user_id == world.user.id


@pytest.mark.threat("TM-18")
def test_a_newer_version_meanwhile_refuses_the_old_one(world: World) -> None:
    sitting, old = world.sitting(), world.version
    world.publish_newer()
    with pytest.raises(Conflict) as caught:
        world.sign(sitting, version_id=old.id)
    assert code(caught) == "version_not_signable"
    with pytest.raises(Conflict) as caught:
        world.open(version_id=old.id)
    assert caught.value.url == "/licenses/bloom-rail/1.1.0/sign"


def test_a_version_is_signed_once_in_one_language(world: World) -> None:
    english, french = world.sitting("en"), world.sitting("fr")
    first = world.sign(english)
    for attempt in (lambda: world.sign(french), world.open):
        with pytest.raises(Conflict) as caught:
            attempt()
        assert (code(caught), caught.value.url) == ("already_signed", f"/settings/signatures/{first.public_id}")


def test_drafts_and_privacy_notices_are_not_for_signing(world: World) -> None:
    draft = LicenseVersion(
        license_id=world.version.license_id, number="9.0.0", ordinal=9, created_at=world.now, created_by="system",
        summary={}, renditions=[Rendition(language="en", text_sha256=world.version.renditions[0].text_sha256)],
    )  # fmt: skip
    world.session.add(draft)
    world.session.flush()
    with pytest.raises(Conflict):
        world.open(version_id=draft.id)
    other = License(slug="empty", title="Empty", spdx="x", kind=LicenseKind.CONDUCT)
    world.session.add(other)
    world.session.flush()
    draft.license_id, draft.license = other.id, other
    world.session.flush()
    with pytest.raises(Conflict) as caught:
        world.open(version_id=draft.id)
    assert caught.value.url == "/licenses/empty"
    world.version.license.kind = LicenseKind.PRIVACY_NOTICE
    world.session.flush()
    with pytest.raises(Conflict) as caught:
        world.open()
    assert code(caught) == "not_for_signing"


def test_only_an_active_verified_person_at_a_browser_signs(world: World) -> None:
    sitting = world.sitting()
    for by in (conduct.acting(world.user), replace(world.me, access_token_id=7)):
        for attempt in (lambda by=by: world.sign(sitting, by=by), lambda by=by: world.open(by=by)):
            with pytest.raises(Refused) as caught:
                attempt()
            assert code(caught) == "browser_needed"
    world.user.standing, world.user.standing_ref = Standing.SUSPENDED, "san_x"
    world.user.standing_until = world.now + timedelta(days=1)
    world.session.flush()
    with pytest.raises(Refused) as caught:
        world.sign(sitting)
    assert code(caught) == "standing_suspended"
    world.user.standing, world.user.standing_ref, world.user.standing_until = Standing.ACTIVE, None, None
    world.user.profile.verified_at = None
    world.session.flush()
    with pytest.raises(Refused) as caught:
        world.open()
    assert code(caught) == "address_unverified"
    assert world.count(Signature) == 0


def test_a_signature_is_there_for_its_signer_alone(world: World) -> None:
    signature = world.sign(world.sitting())
    assert service.own_signature(world.session, by=world.me, ref=signature.public_id) is signature
    bob = licensed.browsing(conduct.person(world.session, "bob", world.now))
    for by in (bob, Actor()):
        with pytest.raises(NotFound):
            service.own_signature(world.session, by=by, ref=signature.public_id)
    signature.signed_at = world.now - timedelta(days=1)
    with pytest.raises(Conflict):
        world.session.flush()
