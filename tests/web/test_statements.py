"""What the portal states about people to programs, checked as anybody would: with nothing but public addresses."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from portal.accounts.models import User
from portal.accounts.rules import StandingAction
from portal.accounts.service import set_standing
from portal.adapters.statement_keys import StatementKeys
from portal.annulments import service as annulments
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.grants.rules import OPENID, PASSPORT
from portal.licensing.models import Signature
from tests import conduct
from tests.acting import Acting
from tests.factories import Make
from tests.site import Client

BOTH = f"{OPENID} {PASSPORT}"


@pytest.fixture
def signed(app: Any) -> tuple[User, Signature]:
    """Ann and her signature."""
    with transaction(app.engine) as session:
        make = Make(session, utcnow())
        for name in ("lab/gated", "lab/other"):
            make.release(make.model(name))
        user = make.person("ann")
        signature = make.sign(user)
        make.noise()
    return user, signature


@pytest.fixture
def ann(client: Client, signed: tuple[User, Signature]) -> Client:
    return client.sign_in(signed[0])


@pytest.fixture
def notebook(app: Any) -> Acting:
    return Acting.registered(app)


def userinfo(app: Any, token: str, method: str = "GET") -> Any:
    return app.test_client().open("/oauth/userinfo", method=method, headers={"Authorization": f"Bearer {token}"})


def checked(app: Any, statement: str, kind: str) -> dict[str, Any]:
    """Check a statement with what is published, found from the issuer alone."""
    base = app.settings.base_url
    http = app.test_client()
    said = http.get("/.well-known/openid-configuration").json
    assert said["issuer"] == base
    keys = KeySet.import_key_set(http.get(said["jwks_uri"].removeprefix(base)).json)
    assert not any("d" in key.as_dict() for key in keys.keys)
    token = jwt.decode(statement, keys, algorithms=said["id_token_signing_alg_values_supported"])
    assert token.header["typ"] == kind
    assert token.header.get("jku", said["jwks_uri"]) == said["jwks_uri"]
    jwt.JWTClaimsRegistry(iss={"essential": True, "value": base}, exp={"essential": True}).validate(token.claims)
    assert 0 < token.claims["exp"] - token.claims["iat"] <= 3600
    return dict(token.claims)


def test_a_program_learns_who_let_it_act(app: Any, ann: Client, signed: Any, notebook: Acting) -> None:
    told = notebook.tokens(ann, scope=OPENID, nonce="once")
    claims = checked(app, told["id_token"], "JWT")
    assert (claims["sub"], claims["aud"]) == (signed[0].public_id, notebook.client_id)
    assert claims["nonce"] == "once"
    for method in ("GET", "POST"):
        assert userinfo(app, told["access_token"], method).json == {"sub": signed[0].public_id}
    again = notebook.refresh(told["refresh_token"]).json
    assert "nonce" not in checked(app, again["id_token"], "JWT")
    assert "id_token" not in notebook.tokens(ann, scope="usage:read")


def test_a_signature_is_stated_as_a_visa_while_it_suffices(
    app: Any, ann: Client, signed: tuple[User, Signature], notebook: Acting
) -> None:
    user, signature = signed
    told = notebook.tokens(ann, scope=BOTH)
    (statement,) = userinfo(app, told["access_token"]).json[PASSPORT]
    claims = checked(app, statement, "vnd.ga4gh.visa+jwt")
    assert claims["sub"] == user.public_id
    assert claims["ga4gh_visa_v1"] == {
        "type": "AcceptedTermsAndPolicies", "asserted": int(signature.signed_at.timestamp()), "by": "self",
        "value": f"{app.settings.base_url}/licenses/{conduct.SLUG}/2.0.0", "source": app.settings.base_url,
    }  # fmt: skip
    assert ann.get(f"/licenses/{conduct.SLUG}/2.0.0").status_code == 200
    with transaction(app.engine) as session:
        annulments.withdraw(session, by=conduct.acting(user), ref=signature.public_id, now=utcnow(), base_url="")
    assert userinfo(app, told["access_token"]).json[PASSPORT] == []


def test_of_a_suspended_person_nothing_is_stated(app: Any, ann: Client, signed: Any, notebook: Acting) -> None:
    token = notebook.tokens(ann, scope=BOTH)["access_token"]
    assert len(userinfo(app, token).json[PASSPORT]) == 1
    with transaction(app.engine) as session:
        end = utcnow() + timedelta(days=1)
        set_standing(
            session, user_id=signed[0].id, action=StandingAction.SUSPEND, until=end, ref="san_x", by=SYSTEM,
            now=utcnow(),
        )  # fmt: skip
    assert userinfo(app, token).json[PASSPORT] == []


@pytest.mark.threat("TM-26")
def test_nobody_learns_more_than_the_person_let_them(app: Any, ann: Client, signed: Any, notebook: Acting) -> None:
    with transaction(app.engine) as session:
        _, own = Make(session, utcnow()).token(session.get_one(User, signed[0].id))
    for token in (notebook.tokens(ann, scope="usage:read")["access_token"], notebook.tokens(ann, scope=PASSPORT)["access_token"]):  # noqa: E501  # fmt: skip
        answer = userinfo(app, token)
        assert (answer.status_code, answer.json["error"]) == (403, "insufficient_scope")
    assert userinfo(app, own).status_code in {401, 403}
    only = userinfo(app, notebook.tokens(ann, scope=OPENID)["access_token"]).json
    assert PASSPORT not in only
    for bad in ("lmo_x", ""):
        answer = userinfo(app, bad)
        assert (answer.status_code, answer.json["error"]) == (401, "invalid_token")


def test_keys_change_without_a_statement_that_cannot_be_checked(tmp_path: Path) -> None:
    now, hour = utcnow(), timedelta(hours=1)
    keys = StatementKeys(tmp_path / "statements")
    known = KeySet.import_key_set(keys.published(now))
    starts = keys.renew(now)
    assert len(list(tmp_path.glob("statements/*.pem"))) == 2
    seen = set()
    for hours in range(60):
        at = now + hours * hour
        if hours % 20 == 0:  # somebody who fetches the set anew less often than once in 20 hours
            known = KeySet.import_key_set(keys.published(at))
        token = jwt.decode(keys.sign({"n": hours}, kind="JWT", now=at), known, algorithms=["RS256"])
        seen.add((token.header["kid"], at >= starts))
        # what was stated up to an hour ago is checked by a set fetched now, and by another process
        late = StatementKeys(tmp_path / "statements").published(at + hour)
        jwt.decode(keys.sign({"n": hours}, kind="JWT", now=at), KeySet.import_key_set(late), algorithms=["RS256"])
    assert len(seen) == 2
    assert {len({kid for kid, after in seen if after is side}) for side in (False, True)} == {1}
    old = keys.sign({}, kind="JWT", now=now)
    keys.renew(now + 80 * hour)
    assert len(list(tmp_path.glob("statements/*.pem"))) == 2
    with pytest.raises((JoseError, ValueError)):
        jwt.decode(old, KeySet.import_key_set(keys.published(now + 80 * hour)), algorithms=["RS256"])
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("statements/*.pem")} == {0o600}
