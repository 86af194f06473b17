"""Facts gathered for the one decision, and what it then says, on both databases."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.access import service
from portal.access.models import Requirement
from portal.access.rules import Action, Decision, Follows
from portal.accounts.models import User
from portal.accounts.rules import StandingAction
from portal.accounts.service import set_standing
from portal.catalog.models import Release
from portal.catalog.rules import ModelState
from portal.core.actor import ANONYMOUS, SYSTEM, Actor
from portal.core.errors import Refused
from portal.deliveries import service as deliveries
from portal.files import service as files
from portal.licensing.models import LicenseVersion
from portal.notices import service as notices
from portal.tokens import service as tokens
from portal.usage import service as usage
from portal.usage.rules import Used
from tests import conduct
from tests.factories import BASE, PEPPER, Make


def ask(session: Session, actor: Actor, model: str, action: Action, now: datetime, **kept: Any) -> Decision:
    return service.check(session, actor=actor, model=model, action=action, now=now, base_url=BASE, **kept)


def codes(decision: Decision) -> list[str]:
    return [reason.code for reason in decision.reasons]


@pytest.fixture
def release(make: Make) -> Release:
    return make.release(make.model("lab/gated"))


@pytest.mark.parametrize("action", Action)
def test_a_signature_opens_a_model(
    session: Session, make: Make, now: datetime, release: Release, action: Action
) -> None:
    user = make.person()
    before = ask(session, conduct.acting(user), "lab/gated", action, now)
    assert codes(before) == ([] if action is Action.READ else ["signature_missing"])
    signature = make.sign(user)
    after = ask(session, conduct.acting(user), "lab/gated", action, now)
    assert after.allowed
    assert [r.signature_ref for r in after.relied_on] == [signature.public_id]
    assert after.relied_on[0].license_number == "2.0.0"
    nobody = ask(session, ANONYMOUS, "lab/gated", action, now)
    assert codes(nobody) == ([] if action is Action.READ else ["not_signed_in", "signature_missing"])


@pytest.mark.parametrize(
    "name",
    ["lab/none", "lab", "", "/", "lab/gated/x", "LAB/GATED", "lab/gated\0", "\0/\0", "\ud800/x", "x" * 9_999],
)  # fmt: skip
def test_what_is_no_model_is_not_found(
    session: Session, make: Make, now: datetime, release: Release, name: str
) -> None:
    for actor in (ANONYMOUS, conduct.acting(make.person())):
        assert codes(ask(session, actor, name, Action.INFER, now)) == ["model_not_found"]


def test_a_draft_looks_like_nothing(session: Session, make: Make, now: datetime, release: Release) -> None:
    release.model.state = ModelState.DRAFT
    user = make.person()
    make.sign(user)
    hidden = ask(session, conduct.acting(user), "lab/gated", Action.INFER, now)
    missing = ask(session, conduct.acting(user), "lab/none", Action.INFER, now)
    assert replace(hidden, as_of=None) == replace(missing, as_of=None)


def test_what_a_person_is_counts(session: Session, make: Make, now: datetime, release: Release) -> None:
    user = make.person()
    make.sign(user)
    user.profile.verified_at = None
    assert codes(ask(session, conduct.acting(user), "lab/gated", Action.INFER, now)) == ["address_unverified"]
    session.delete(user.profile)
    session.flush()
    session.expire(user)
    assert codes(ask(session, conduct.acting(user), "lab/gated", Action.INFER, now)) == ["address_unverified"]


def test_a_suspension_counts_until_its_end(session: Session, make: Make, now: datetime, release: Release) -> None:
    user = make.person()
    make.sign(user)
    end = now + timedelta(days=3)
    set_standing(session, user_id=user.id, action=StandingAction.SUSPEND, until=end, ref="san_x", by=SYSTEM, now=now)
    decision = ask(session, conduct.acting(user), "lab/gated", Action.DOWNLOAD, now)
    assert codes(decision) == ["standing_suspended"]
    assert decision.until == end
    assert ask(session, conduct.acting(user), "lab/gated", Action.DOWNLOAD, end).allowed


def test_an_access_token_carries_its_scopes_and_models_only(
    session: Session, make: Make, now: datetime, release: Release
) -> None:
    user, other = make.person(), make.release(make.model("lab/other"))
    make.sign(user)

    def through(*scopes: str, **kept: Any) -> Actor:
        _, secret = make.token(user, *scopes, **kept)
        return tokens.actor_of(session, authorization=f"Bearer {secret}", pepper=PEPPER, now=now)

    full = through("inference", "weights:read")
    assert ask(session, full, "lab/gated", Action.INFER, now).allowed
    assert codes(ask(session, through("inference"), "lab/gated", Action.DOWNLOAD, now)) == ["scope_missing"]
    bound = through("inference", models=(other.model,))
    assert ask(session, bound, "lab/other", Action.INFER, now).allowed
    assert codes(ask(session, bound, "lab/gated", Action.INFER, now)) == ["access_token_wrong_model"]
    token = tokens.of_person(session, user_id=user.id)[-1]
    tokens.revoke(session, by=conduct.acting(user), ref=token.public_id, now=now)
    ended = tokens.refresh_actor(session, actor=full, now=now)
    decision = ask(session, ended, "lab/gated", Action.INFER, now, already_running=True)
    assert codes(decision) == ["access_token_revoked"]


def test_an_unusable_access_token_says_only_that(session: Session, now: datetime, release: Release) -> None:
    actor = Actor(token_error="access_token_expired")
    assert codes(ask(session, actor, "lab/gated", Action.INFER, now)) == ["access_token_expired"]


def versions(session: Session, make: Make) -> dict[str, LicenseVersion]:
    return conduct.license_versions(session, make.now)


def announce(session: Session, user: User, at: datetime) -> None:
    ref = f"license_version:{conduct.SLUG}/2.0.0"
    notices.mark_shown(session, user_id=user.id, subject_ref=ref, now=at)


def test_a_new_version_makes_a_signature_due_and_then_lapsed(
    session: Session, make: Make, now: datetime, release: Release
) -> None:
    user = make.person()
    make.sign(user, "1.0.0")
    conduct.redate(session, versions(session, make)["2.0.0"], now + timedelta(days=20))
    actor = conduct.acting(user)
    unaware = ask(session, actor, "lab/gated", Action.INFER, now + timedelta(days=100))
    assert unaware.allowed
    assert codes(unaware) == ["signature_due"]
    announce(session, user, now)
    due = ask(session, actor, "lab/gated", Action.INFER, now + timedelta(days=19))
    assert (due.allowed, codes(due)) == (True, ["signature_due"])
    assert due.reasons[0].due_at == due.until == now + timedelta(days=20)
    assert due.relied_on[0].license_number == "1.0.0"
    assert codes(ask(session, actor, "lab/gated", Action.RENEW, now)) == ["signature_due"]
    assert not ask(session, actor, "lab/gated", Action.RENEW, now).allowed
    lapsed = ask(session, actor, "lab/gated", Action.INFER, now + timedelta(days=20))
    assert (lapsed.allowed, codes(lapsed)) == (False, ["signature_lapsed"])
    assert ask(session, actor, "lab/gated", Action.INFER, now + timedelta(days=20), already_running=True).allowed
    make.sign(user, "2.0.0")
    assert ask(session, actor, "lab/gated", Action.INFER, now + timedelta(days=20)).allowed


def test_word_that_reached_somebody_else_does_not_count(
    session: Session, make: Make, now: datetime, release: Release
) -> None:
    user, other = make.person(), make.person()
    make.sign(user, "1.0.0")
    announce(session, other, now - timedelta(days=90))
    later = now + timedelta(days=100)
    assert codes(ask(session, conduct.acting(user), "lab/gated", Action.INFER, later)) == ["signature_due"]


def test_a_download_needs_what_its_commit_was_released_under(session: Session, make: Make, now: datetime) -> None:
    model = make.model("lab/pinned")
    old = make.release(model, number="1.0.0")
    new = make.release(model, number="2.0.0", contents={"x": b"x"})
    user = make.person()
    make.sign(user, "1.0.0")
    actor = conduct.acting(user)
    assert ask(session, actor, "lab/pinned", Action.DOWNLOAD, now, revision=old.revision).allowed
    newest = ask(session, actor, "lab/pinned", Action.DOWNLOAD, now, revision=new.revision)
    assert codes(newest) == ["signature_due"]
    assert codes(ask(session, actor, "lab/pinned", Action.DOWNLOAD, now)) == ["signature_due"]
    unknown = ask(session, actor, "lab/pinned", Action.DOWNLOAD, now, revision="f" * 40)
    assert "model_without_weights" in codes(unknown)
    subject = service.find_subject(session, full_name="lab/pinned")
    assert (subject.model, subject.release) == (model, new)


def test_a_copy_may_be_completed_under_its_old_terms(session: Session, make: Make, now: datetime) -> None:
    release = make.release(make.model("lab/held"))
    user = make.person()
    signature = make.sign(user, "1.0.0")
    actor = conduct.acting(user)
    assert not ask(session, actor, "lab/held", Action.DOWNLOAD, now).allowed
    commit = files.find_commit(session, model_id=release.model_id, revision=release.revision)
    file = next(e for e in files.listed(session, commit_id=commit.id) if e.lfs)
    record = {
        "id": "req_held", "user_id": user.id, "access_token_id": None, "release_id": release.id, "path": file.path,
        "file_sha256": file.sha256, "size": file.size, "range_start": 0, "signature_ids": [signature.id],
        "card_revision_id": release.card_revision_id, "at": now.isoformat(),
    }  # fmt: skip
    deliveries.record_started(session, record=record)
    deliveries.record_finished(session, record={**record, "bytes_sent": file.size})
    decision = ask(session, actor, "lab/held", Action.DOWNLOAD, now)
    assert (decision.allowed, codes(decision)) == (True, ["signature_due"])
    other = make.person()
    make.sign(other, "1.0.0")
    assert not ask(session, conduct.acting(other), "lab/held", Action.DOWNLOAD, now).allowed


def test_limits_are_those_of_the_person(session: Session, make: Make, now: datetime, release: Release) -> None:
    user = make.person()
    make.sign(user)
    actor = conduct.acting(user)
    usage.set_quota(session, user_id=user.id, calls=2, text_tokens=100, by=SYSTEM, now=now)
    assert ask(session, actor, "lab/gated", Action.INFER, now).allowed
    assert ask(session, actor, "lab/gated", Action.INFER, now, used=Used(1, 99)).allowed
    spent = ask(session, actor, "lab/gated", Action.INFER, now, used=Used(2, 0))
    assert (codes(spent), spent.status) == (["quota_calls"], 429)
    assert codes(ask(session, actor, "lab/gated", Action.INFER, now, used=Used(0, 100))) == ["quota_text_tokens"]
    assert ask(session, actor, "lab/gated", Action.DOWNLOAD, now, used=Used(2, 0)).allowed
    usage.set_quota(session, user_id=user.id, calls=0, text_tokens=0, by=SYSTEM, now=now)
    assert codes(ask(session, actor, "lab/gated", Action.INFER, now)) == ["quota_calls"]


def test_a_refusal_carries_every_reason(session: Session, make: Make, now: datetime, release: Release) -> None:
    user = make.person()
    user.profile.verified_at = None
    asked: dict[str, Any] = {"model": "lab/gated", "action": Action.INFER, "now": now, "base_url": BASE}

    def require(actor: Actor, **changed: Any) -> None:
        service.refuse(service.check(session, actor=actor, **{**asked, **changed}))

    with pytest.raises(Refused) as caught:
        require(conduct.acting(user))
    error = caught.value
    assert (error.code, error.status, error.url) == ("address_unverified", 403, f"{BASE}/settings/profile")
    assert [reason.code for reason in error.reasons] == ["address_unverified", "signature_missing"]
    signer = make.person()
    make.sign(signer)
    require(conduct.acting(signer))
    with pytest.raises(Refused) as hidden:
        require(ANONYMOUS, model="lab/none")
    assert (hidden.value.status, hidden.value.url) == (404, None)
    usage.set_quota(session, user_id=signer.id, calls=0, text_tokens=0, by=SYSTEM, now=now)
    with pytest.raises(Refused) as spent:
        require(conduct.acting(signer))
    assert spent.value.retry_after == 12 * 3600 + 1


def test_a_list_of_models_says_of_each_what_the_decision_says(
    session: Session, make: Make, now: datetime, release: Release
) -> None:
    make.release(release.model, contents={"newer": b"x"})
    bare, draft = make.model("lab/bare"), make.model("lab/draft")
    draft.state = ModelState.DRAFT
    user = make.person()
    make.sign(user)
    for actor in (conduct.acting(user), conduct.acting(make.person()), ANONYMOUS):
        rows = service.models_with_decisions(session, actor=actor, action=Action.DOWNLOAD, now=now, base_url=BASE)
        found = {model.full_name: (newest, decision) for model, newest, decision in rows}
        assert list(found) == sorted(found)
        assert set(found) == {"lab/gated", "lab/bare", "noise/model"}
        assert found["lab/bare"][0] is None
        assert found["lab/gated"][0] == service.find_subject(session, full_name="lab/gated").release
        for name, (_, decision) in found.items():
            assert decision == ask(session, actor, name, Action.DOWNLOAD, now)
    assert bare.full_name in found


def test_many_models_cost_no_more_queries_than_one(session: Session, make: Make, now: datetime) -> None:
    user = make.person()
    make.sign(user)
    actor = conduct.acting(user)
    asked: dict[str, Any] = {"actor": actor, "action": Action.INFER, "now": now, "base_url": BASE}

    def queries() -> int:
        seen: list[str] = []
        connection = session.connection()

        def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            seen.append(statement)

        sa.event.listen(connection, "before_cursor_execute", note)
        service.models_with_decisions(session, **asked)
        sa.event.remove(connection, "before_cursor_execute", note)
        return len(seen)

    make.release()
    few = queries()
    for number in range(5):
        make.release(make.model(f"lab/many{number}"), contents={"n": str(number).encode()})
    assert queries() == few


def test_a_license_is_required_once(session: Session, make: Make, now: datetime) -> None:
    model, license_ = make.model(), make.license()
    first = service.require_license(session, model_id=model.id, license_id=license_.id, now=now)
    assert service.require_license(session, model_id=model.id, license_id=license_.id, now=now) == first
    assert {(r.action, r.follows) for r in first} == {
        (Action.DOWNLOAD, Follows.RELEASE), (Action.INFER, Follows.LICENSE),
    }  # fmt: skip
    first[1].valid_to = now
    session.flush()
    second = service.require_license(session, model_id=model.id, license_id=license_.id, now=now)
    assert second[0] is first[0]
    assert second[1] is not first[1]
    count = sa.select(sa.func.count()).select_from(Requirement).where(Requirement.model_id == model.id)
    assert session.scalar(count) == 3
