"""Threat cases that go across packages, each from its beginning to its end."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import Profile
from portal.adapters.signing_key import open_key
from portal.audit import service as audit
from portal.audit.rules import LicenseSigned
from portal.core.actor import SYSTEM
from portal.core.db import Base
from portal.core.errors import Conflict
from portal.licensing import service as licensing
from portal.licensing.models import Signature, SignatureAnnex
from portal.licensing.rules import Sufficiency, satisfies
from portal.receipts import service as receipts
from portal.signing import service as signing
from tests import conduct, licensed, sealing
from tests.logged import advance


@pytest.mark.threat("TM-18")
def test_a_version_replaced_while_somebody_signs_is_signed_anew_after_its_difference(
    session: Session, now: datetime
) -> None:
    first = licensed.publish(session, now, "1.0.0")
    me = licensed.browsing(conduct.person(session, "ann", now))
    before = licensed.sign(session, me, first, now)
    other = licensed.browsing(conduct.person(session, "bob", now))
    stale = licensed.sitting(session, other, first, now)
    due = now + timedelta(days=30)
    second = licensed.publish(session, now, "1.1.0", required_by=due)
    with pytest.raises(Conflict) as caught:
        signing.sign(session, by=other, version_id=first.id, sitting=stale, context=licensed.CONTEXT, now=now)
    assert caught.value.code == "version_not_signable"
    change = signing.change_for(session, by=me, version=second)
    assert change is not None
    assert change.signature.id == before.id
    assert any(delta.relation.value != "same" for delta in change.deltas)

    def state(moment: datetime) -> Sufficiency:
        (versions,) = licensing.versions_for(session, license_ids=[first.license_id]).values()
        mine = licensing.signatures_for(session, user_id=me.id, license_ids=[first.license_id])[first.license_id]
        required = next(version for version in versions if version.id == second.id)
        return satisfies(mine, versions, required, {required.number: now}, moment).sufficiency

    assert state(due - timedelta(seconds=1)) is Sufficiency.DUE
    assert state(due + timedelta(seconds=1)) is Sufficiency.LAPSED, "the old signature suffices until its date"
    licensed.sign(session, me, second, now)
    assert state(due + timedelta(days=999)) is Sufficiency.SUFFICIENT


def told(session: Session) -> str:
    """Every word and every byte in the database."""
    parts = []
    for table in Base.metadata.sorted_tables:
        for row in session.execute(sa.select(table)).all():
            parts += [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in row]
    return "\n".join(parts)


@pytest.mark.threat("TM-24")
def test_once_a_signer_is_erased_nothing_personal_is_left_and_all_proofs_hold(
    session: Session, now: datetime, tmp_path: Path
) -> None:
    user, key = conduct.person(session, "zebulon", now, domain="erased.example"), open_key(tmp_path)
    signature = licensed.sign(session, licensed.browsing(user), licensed.publish(session, now), now)
    receipt = sealing.issue(session, receipts.order(session, signature_id=signature.id))
    advance(session, key, now)
    personal = ("zebulon@erased.example", "Zebulon", "Ann Müller-李")
    assert all(word in told(session) for word in personal)
    event = audit.logged(session, LicenseSigned(
        signature.public_id, "bloom-rail/1.1.0", signature.rendition_sha256, signature.annex_commitment
    ))  # fmt: skip
    assert event is not None
    ref, commitment = signature.public_id, signature.annex_commitment
    session.execute(sa.delete(SignatureAnnex).where(SignatureAnnex.signature_id == signature.id))
    session.execute(sa.delete(Profile).where(Profile.user_id == user.id))
    audit.erase_salt(session, event_ref=event.ref, by=SYSTEM, now=now)
    session.expire_all()
    left = told(session)
    assert [word for word in personal if word in left] == []
    kept = session.scalars(sa.select(Signature).where(Signature.public_id == ref)).one()
    assert kept.annex_commitment == commitment, "that somebody signed this text, and when, stays"
    assert sealing.verify(session, receipt).erased, "the person's own copy still proves it"
    advance(session, key, now + timedelta(minutes=1))
    audit.verify(session, key=key, kept=key.kept())
