"""Making access tokens for people who could use what these open, on both databases."""

from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.accounts.rules import StandingAction
from portal.accounts.service import set_standing
from portal.catalog.models import GatedModel, Release
from portal.catalog.rules import ModelState
from portal.core.actor import SYSTEM
from portal.core.errors import Conflict, Invalid, NotFound, Refused
from portal.oauth import service
from portal.tokens import service as tokens
from portal.tokens.models import AccessToken
from portal.tokens.rules import MAX_LIVE, TokenFacts
from tests import conduct
from tests.factories import BASE, PEPPER, Make

GOOD: dict[str, Any] = {
    "name": "laptop", "scopes": ["inference"], "models": [], "days": 30, "pepper": PEPPER, "base_url": BASE,
}  # fmt: skip


def mint(session: Session, user: User, now: datetime, **changed: Any) -> tuple[AccessToken, str]:
    return service.mint(session, by=conduct.acting(user), now=now, **{**GOOD, **changed})


def refused(session: Session, user: User, now: datetime, **changed: Any) -> list[str]:
    with pytest.raises(Refused) as caught:
        mint(session, user, now, **changed)
    assert tokens.of_person(session, user_id=user.id) == []
    assert caught.value.code == caught.value.reasons[0].code
    return [reason.code for reason in caught.value.reasons]


@pytest.fixture
def release(make: Make) -> Release:
    return make.release(make.model("lab/gated"))


@pytest.fixture
def signer(make: Make) -> User:
    user = make.person()
    make.sign(user)
    return user


def test_who_signed_gets_an_access_token(session: Session, now: datetime, release: Release, signer: User) -> None:
    token, secret = mint(session, signer, now, name=" laptop ", scopes=["inference", "usage:read"])
    facts = tokens.authenticate(session, value=secret, pepper=PEPPER, now=now)
    assert isinstance(facts, TokenFacts)
    assert (facts.user_id, facts.scopes) == (signer.id, {"inference", "usage:read"})
    assert (token.name, token.expires_at, token.model_rows) == ("laptop", now + timedelta(days=30), [])


def test_it_may_be_bound_to_models(session: Session, make: Make, now: datetime, release: Release, signer: User) -> None:
    other = make.release(make.model("lab/other"))
    token, _ = mint(session, signer, now, models=["lab/other", "lab/gated", "lab/other"])
    free, _ = mint(session, signer, now, name="free")
    assert {row.model_id for row in token.model_rows} == {release.model_id, other.model_id}
    named = service.models_of(session, owned=tokens.of_person(session, user_id=signer.id))
    assert named == {token.id: ["lab/gated", "lab/other"], free.id: []}


@pytest.mark.usefixtures("release")
@pytest.mark.parametrize("models", [[], ["lab/gated"]])
@pytest.mark.parametrize("scope", ["inference", "weights:read"])
def test_without_a_signature_there_is_none(
    session: Session, make: Make, now: datetime, scope: str, models: list[str]
) -> None:
    user = make.person()
    user.profile.verified_at = None
    asked = {"scopes": [scope, "usage:read"], "models": models}
    assert refused(session, user, now, **asked) == ["address_unverified", "signature_missing"]


def test_a_due_signature_renews_nothing(session: Session, make: Make, now: datetime, release: Release) -> None:
    user = make.person()
    make.sign(user, "1.0.0")
    assert refused(session, user, now) == ["signature_due"]


def test_a_suspended_person_gets_none(session: Session, now: datetime, release: Release, signer: User) -> None:
    end = now + timedelta(days=1)
    set_standing(session, user_id=signer.id, action=StandingAction.SUSPEND, until=end, ref="san_x", by=SYSTEM, now=now)
    assert refused(session, signer, now) == ["standing_suspended"]
    assert mint(session, signer, end)[0].user_id == signer.id


def test_each_named_model_has_to_agree_and_one_of_all_when_none_is_named(
    session: Session, make: Make, now: datetime, release: Release, signer: User
) -> None:
    other = make.release(make.model("lab/withdrawn"))
    other.model.state = ModelState.WITHDRAWN
    session.flush()
    assert refused(session, signer, now, models=["lab/gated", "lab/withdrawn"]) == ["model_withdrawn"]
    assert mint(session, signer, now)[0].model_rows == []


def test_reading_ones_own_usage_needs_no_signature(
    session: Session, make: Make, now: datetime, release: Release
) -> None:
    user = make.person()
    token, _ = mint(session, user, now, scopes=["usage:read"], models=["lab/gated"])
    assert [row.scope.value for row in token.scope_rows] == ["usage:read"]


def test_cards_without_weights_are_no_way_round_a_signature(session: Session, make: Make, now: datetime) -> None:
    make.release(make.model("lab/gated"))
    make.model("lab/card-only")
    user = make.person()
    assert refused(session, user, now) == ["signature_missing"]
    names = [m.full_name for m, _ in service.renewable(session, by=conduct.acting(user), now=now, base_url=BASE)]
    assert names == ["lab/gated", "noise/model"]


def hide_all(session: Session, *, but: tuple[str, ...] = ()) -> None:
    session.execute(sa.update(GatedModel).where(GatedModel.name.not_in(but)).values(state=ModelState.DRAFT))


def test_while_no_model_has_weights_any_model_will_do(session: Session, make: Make, now: datetime) -> None:
    make.model("lab/card-only")
    hide_all(session, but=("card-only",))
    assert mint(session, make.person(), now)[0].name == "laptop"


def test_without_any_model_there_is_nothing_to_open(session: Session, make: Make, now: datetime) -> None:
    hide_all(session)
    with pytest.raises(Invalid) as caught:
        mint(session, make.person(), now)
    assert (caught.value.code, caught.value.field) == ("models_none", "scopes")


@pytest.mark.usefixtures("release")
@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("name", {"name": " "}), ("scopes", {"scopes": []}), ("scopes", {"scopes": ["weights:write"]}),
        ("days", {"days": 366}), ("days", {"days": 0}),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_the_field_named(
    session: Session, now: datetime, signer: User, field: str, changed: dict[str, Any]
) -> None:
    with pytest.raises(Invalid) as caught:
        mint(session, signer, now, **changed)
    assert caught.value.field == field


def test_unknown_and_hidden_models_are_not_found(
    session: Session, make: Make, now: datetime, release: Release, signer: User
) -> None:
    make.model("lab/hidden").state = ModelState.DRAFT
    for name in ("lab/none", "lab/hidden", ""):
        with pytest.raises(NotFound):
            mint(session, signer, now, models=["lab/gated", name])


def test_there_is_a_limit(session: Session, make: Make, now: datetime, release: Release, signer: User) -> None:
    for _ in range(MAX_LIVE):
        make.token(signer)
    with pytest.raises(Conflict):
        mint(session, signer, now)


def test_a_name_is_taken_while_its_access_token_can_be_used(
    session: Session, make: Make, now: datetime, release: Release, signer: User
) -> None:
    token, _ = mint(session, signer, now)
    by = conduct.acting(signer)
    with pytest.raises(Invalid) as caught:
        service.check_name_free(session, by=by, name=" laptop ", now=now)
    assert caught.value.field == "name"
    service.check_name_free(session, by=by, name="Laptop", now=now)
    service.check_name_free(session, by=conduct.acting(make.person()), name="laptop", now=now)
    service.check_name_free(session, by=by, name="laptop", now=now + timedelta(days=30))
    tokens.revoke(session, by=by, ref=token.public_id, now=now)
    service.check_name_free(session, by=by, name="laptop", now=now)
