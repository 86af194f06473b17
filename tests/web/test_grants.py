"""Programs that act for people: asking, agreeing, exchanging, renewing, ending, and everything that is refused."""

import re
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import sqlalchemy as sa
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata

from portal.accounts.models import User
from portal.accounts.rules import StandingAction
from portal.accounts.service import set_standing
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.grants.models import AuthorizationCode, Grant, RefreshToken
from portal.grants.rules import Ending
from portal.tokens.models import AccessToken
from tests.acting import BACK, Acting
from tests.factories import Make
from tests.site import Client, text_of


@pytest.fixture
def people(app: Any) -> dict[str, User]:
    """Ann, who signed, and Bob, who signed nothing."""
    with transaction(app.engine) as session:
        make = Make(session, utcnow())
        make.release(make.model("lab/gated"))
        found = {name: make.person(name) for name in ("ann", "bob")}
        make.sign(found["ann"])
    return found


@pytest.fixture
def ann(client: Client, people: dict[str, User]) -> Client:
    return client.sign_in(people["ann"])


@pytest.fixture
def notebook(app: Any) -> Acting:
    return Acting.registered(app)


@pytest.fixture
def shell(app: Any) -> Acting:
    """A program that runs on people's machines and keeps no secret."""
    return Acting.registered(app, name="Shell", keeps_secret=False)


def rows(app: Any, table: Any) -> int:
    with transaction(app.engine, write=False) as session:
        return session.scalar(sa.select(sa.func.count()).select_from(table)) or 0


def endings(app: Any) -> list[Ending | None]:
    with transaction(app.engine, write=False) as session:
        return list(session.scalars(sa.select(Grant.ending).order_by(Grant.id)))


def refusal(answer: Any) -> tuple[int, str]:
    assert answer.content_type == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.status_code, answer.json["error"]


def sent_back(person: Client, address: str) -> dict[str, str]:
    """Return what a program is told that asked for something wrong."""
    answer = person.get(address)
    assert answer.status_code == 303, text_of(answer)
    assert answer.location.startswith(f"{BACK}?")
    return dict(parse_qsl(urlsplit(answer.location).query))


def test_a_person_lets_a_program_act_and_it_downloads(app: Any, ann: Client, people: Any, notebook: Acting) -> None:
    address, verifier = notebook.asks(scope="weights:read usage:read")
    page = ann.get(address)
    shown = text_of(page)
    for part in (
        "Let Notebook act for you?", "https://notebook.example", BACK, "Download files of models and datasets",
        "Read which models you used", "lab/gated", "It can never sign a license for you",
    ):  # fmt: skip
        assert part in shown, part
    assert "Have models write texts" not in shown
    assert "form-action 'self' https://notebook.example;" in page.headers["Content-Security-Policy"]
    back, verifier = notebook.let(ann, scope="weights:read usage:read")
    assert (back["state"], back["iss"]) == ("its state", app.settings.base_url)
    answer = notebook.exchange(back["code"], verifier)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    told = answer.json
    assert re.fullmatch(r"lmo_\w{49}", told["access_token"])
    assert re.fullmatch(r"lmr_\w{49}", told["refresh_token"])
    assert (told["token_type"], told["expires_in"], told["scope"]) == ("Bearer", 3600, "weights:read usage:read")
    bearer = {"Authorization": f"Bearer {told['access_token']}"}
    http = app.test_client()
    assert http.get("/api/models/lab/gated/auth-check", headers=bearer).status_code == 200
    assert http.get("/api/usage", headers=bearer).status_code == 200
    decided = http.get("/api/decide?model=lab/gated&action=infer", headers=bearer).json
    assert (decided["allowed"], decided["reasons"][0]["code"]) == (False, "scope_missing")
    assert text_of(ann.get("/settings/tokens")).count("Notebook") == 0
    assert "Notebook" in text_of(ann.get("/settings/programs"))


def test_nothing_is_kept_in_clear(app: Any, ann: Client, notebook: Acting) -> None:
    back, verifier = notebook.let(ann)
    told = notebook.exchange(back["code"], verifier).json
    with transaction(app.engine, write=False) as session:
        for table in ("program", "program_grant", "authorization_code", "refresh_token", "access_token"):
            kept = str(session.execute(sa.text(f"SELECT * FROM {table}")).all())
            for secret in (notebook.secret, back["code"], verifier, told["access_token"], told["refresh_token"]):
                assert secret not in kept, table


def test_a_public_program_needs_no_secret_and_gets_nothing_by_one(app: Any, ann: Client, shell: Acting) -> None:
    back, verifier = shell.let(ann)
    assert refusal(shell.exchange(back["code"], verifier, way="post", client_secret="lms_x"))[0] == 401
    assert shell.exchange(back["code"], verifier, way="none").status_code == 200


@pytest.mark.parametrize("way", ["basic", "post"])
def test_a_program_with_a_secret_shows_it_either_way(ann: Client, notebook: Acting, way: str) -> None:
    assert notebook.tokens(ann, way=way)["scope"] == "weights:read"


@pytest.mark.threat("TM-26")
@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"code_challenge": None}, "invalid_request"), ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"), ({"code_challenge": "short"}, "invalid_request"),
        ({"scope": None}, "invalid_scope"), ({"scope": "weights:write"}, "invalid_scope"),
        ({"scope": "weights:read requests:write"}, "invalid_scope"), ({"scope": "weights:read admin"}, "invalid_scope"),
        ({"response_type": "token"}, "unsupported_response_type"), ({"prompt": "none"}, "interaction_required"),
        ({"request": "eyJ"}, "invalid_request"), ({"request_uri": "https://a.example"}, "invalid_request"),
        ({"response_mode": "fragment"}, "invalid_request"),
    ],
)  # fmt: skip
def test_what_is_wrong_goes_back_with_the_issuer(
    app: Any, ann: Client, notebook: Acting, changed: dict[str, Any], error: str
) -> None:
    address, _ = notebook.asks(**changed)
    told = sent_back(ann, address)
    assert (told["error"], told["state"], told["iss"]) == (error, "its state", app.settings.base_url)
    assert ann.submit("/settings/profile", to=address, decision="allow").location.startswith(f"{BACK}?error=")
    assert rows(app, Grant) == 0


@pytest.mark.threat("TM-26")
@pytest.mark.parametrize(
    "changed",
    [
        {"redirect_uri": wrong}
        for wrong in (
            None, "", f"{BACK}/", f"{BACK}?a=b", f"{BACK}#a", BACK.replace("https", "http"), BACK.upper(),
            BACK.replace("notebook", "evil"), f"{BACK}/../evil", BACK.replace(".example", ".example:443"),
            BACK.replace("notebook", "notebook.example@evil"), f"{BACK}%00", f'{BACK}"', "javascript:alert(1)",
            [BACK] * 2,
        )
    ]
    + [{"client_id": wrong} for wrong in (None, "", "prg_other", "é", "\x7f", "x" * 5000, ["a", "b"])]
    + [{"state": "\u202e"}, {"scope": ["weights:read", "inference"]}, {"response_type": 'code"'}],
)  # fmt: skip
def test_nobody_is_sent_to_an_address_that_is_not_the_program_s(
    app: Any, ann: Client, notebook: Acting, changed: dict[str, Any]
) -> None:
    address, _ = notebook.asks(**changed)
    answer = ann.get(address)
    assert (answer.status_code, answer.location) == (400, None)
    assert "Nothing was sent anywhere" in text_of(answer)
    assert rows(app, Grant) == 0


@pytest.mark.threat("TM-26")
def test_a_code_that_is_shown_twice_ends_what_came_of_it(app: Any, ann: Client, notebook: Acting) -> None:
    other = notebook.tokens(ann)
    back, verifier = notebook.let(ann)
    told = notebook.exchange(back["code"], verifier).json
    assert notebook.works(told["access_token"])
    assert refusal(notebook.exchange(back["code"], verifier)) == (400, "invalid_grant")
    assert not notebook.works(told["access_token"])
    assert refusal(notebook.refresh(told["refresh_token"])) == (400, "invalid_grant")
    assert endings(app) == [None, Ending.CODE_REPLAYED]
    assert notebook.works(other["access_token"])


@pytest.mark.threat("TM-26")
def test_a_code_opens_nothing_for_others(app: Any, ann: Client, notebook: Acting, shell: Acting) -> None:
    back, verifier = notebook.let(ann)
    code = back["code"]
    thief = Acting.registered(app, name="Thief")
    bad = [
        thief.exchange(code, verifier), shell.exchange(code, verifier, way="none"),
        notebook.exchange(code, "x" * 43), notebook.exchange(code, "short"), notebook.exchange(code, verifier + "é"),
        notebook.exchange(code, verifier, code_verifier=None), notebook.exchange(code, verifier, redirect_uri=None),
        notebook.exchange(code, verifier, redirect_uri=f"{BACK}/"), notebook.exchange(f"{code}x", verifier),
        notebook.exchange("", verifier), notebook.exchange(code, verifier, grant_type="password"),
        notebook.exchange(code, verifier, grant_type="client_credentials"),
        notebook.exchange(code, verifier, redirect_uri=[BACK, BACK]),
    ]  # fmt: skip
    assert {answer.status_code for answer in bad} == {400}
    assert rows(app, AccessToken) == 0
    for wrong in (Acting(app, notebook.client_id, "lms_" + "x" * 49), Acting(app, notebook.client_id, ""),
                  Acting(app, "prg_none", "x"), Acting(app, notebook.client_id, "é\x00")):  # fmt: skip
        assert wrong.exchange(code, verifier).status_code in {400, 401}
        assert wrong.exchange(code, verifier, way="none").status_code in {400, 401}
    assert rows(app, AccessToken) == 0
    assert notebook.exchange(code, verifier).status_code == 200


@pytest.mark.threat("TM-26")
@pytest.mark.parametrize(
    "header", ["Basic", "Basic é", "Basic !!!", "Basic AAAA", "Basic /w==", "Bearer x", "Digest a=b"]
)
def test_a_header_that_cannot_be_read_proves_nobody(app: Any, header: str) -> None:
    for path in ("/oauth/token", "/oauth/revoke", "/oauth/introspect"):
        answer = app.test_client().post(
            path, data={"grant_type": "refresh_token", "refresh_token": "x", "token": "x"},
            headers={"Authorization": header},
        )  # fmt: skip
        assert answer.status_code in {400, 401}
        assert answer.json["error"] in {"invalid_client", "invalid_request"}


def test_a_code_is_good_for_two_minutes(app: Any, ann: Client, notebook: Acting) -> None:
    back, verifier = notebook.let(ann)
    with transaction(app.engine) as session:
        session.scalars(sa.select(AuthorizationCode)).one().expires_at = utcnow() - timedelta(seconds=1)
    assert refusal(notebook.exchange(back["code"], verifier)) == (400, "invalid_grant")


@pytest.mark.threat("TM-26")
@pytest.mark.parametrize("way", ["basic", "none"])
def test_a_refresh_token_is_good_once_and_reuse_ends_the_family(
    app: Any, ann: Client, notebook: Acting, shell: Acting, way: str
) -> None:
    program = notebook if way == "basic" else shell
    first = program.tokens(ann, way=way)
    second = program.refresh(first["refresh_token"], way=way).json
    assert not program.works(first["access_token"])
    assert program.works(second["access_token"])
    third = program.refresh(second["refresh_token"], way=way).json
    assert refusal(program.refresh(first["refresh_token"], way=way)) == (400, "invalid_grant")
    assert not program.works(third["access_token"])
    assert refusal(program.refresh(third["refresh_token"], way=way)) == (400, "invalid_grant")
    assert endings(app) == [Ending.REFRESH_REUSED]
    assert program.tokens(ann, way=way)["scope"] == "weights:read"


@pytest.mark.threat("TM-26")
def test_a_refresh_token_opens_nothing_for_others_and_never_more(
    app: Any, ann: Client, notebook: Acting, shell: Acting
) -> None:
    told = notebook.tokens(ann, scope="weights:read usage:read")
    refresh = told["refresh_token"]
    thief = Acting.registered(app, name="Thief")
    for answer in (
        thief.refresh(refresh), shell.refresh(refresh, way="none"), notebook.refresh(refresh, way="none"),
        notebook.refresh(refresh, scope="weights:read inference"), notebook.refresh(refresh, scope="requests:write"),
        notebook.refresh(told["access_token"]), notebook.refresh(refresh[:-1] + "x"), notebook.refresh("é"),
    ):  # fmt: skip
        assert answer.status_code in {400, 401}
    less = notebook.refresh(refresh, scope="usage:read").json
    assert less["scope"] == "usage:read"
    assert notebook.introspect(less["access_token"])["scope"] == "usage:read"
    whole = notebook.refresh(less["refresh_token"]).json
    assert whole["scope"] == "weights:read usage:read"


def test_a_program_is_told_what_its_tokens_are_good_for(app: Any, ann: Client, people: Any, notebook: Acting) -> None:
    told = notebook.tokens(ann)
    said = notebook.introspect(told["access_token"])
    expected = {
        "active": True, "client_id": notebook.client_id, "scope": "weights:read", "sub": people["ann"].public_id,
        "iss": app.settings.base_url, "token_type": "Bearer", "exp": said["exp"],
    }  # fmt: skip
    assert said == expected
    assert abs(said["exp"] - utcnow().timestamp() - 3600) < 600
    assert notebook.introspect(told["refresh_token"])["token_type"] == "refresh_token"
    notebook.refresh(told["refresh_token"])
    assert notebook.introspect(told["access_token"]) == notebook.introspect(told["refresh_token"]) == {"active": False}


@pytest.mark.threat("TM-26")
def test_tokens_of_others_are_told_nothing_of(app: Any, ann: Client, notebook: Acting, shell: Acting) -> None:
    told = notebook.tokens(ann)
    with transaction(app.engine) as session:
        owner = session.scalars(sa.select(User).join(AccessToken, AccessToken.user_id == User.id)).first()
        assert owner is not None
        make = Make(session, utcnow())
        _, own = make.token(owner)
    thief = Acting.registered(app, name="Thief")
    for token in (told["access_token"], told["refresh_token"], own, "lmo_x", "", "é"):
        answer = thief.post("/oauth/introspect", token=token)
        assert answer.status_code == 400 if token in {"", "é"} else answer.json == {"active": False}
    assert refusal(shell.post("/oauth/introspect", way="none", token=told["access_token"]))[0] == 401
    assert app.test_client().post("/oauth/introspect", data={"token": told["access_token"]}).status_code == 401
    for token in (told["access_token"], told["refresh_token"]):
        assert refusal(thief.post("/oauth/revoke", token=token)) == (400, "invalid_grant")
    assert notebook.works(told["access_token"])


@pytest.mark.parametrize("way", ["basic", "none"])
def test_a_program_ends_its_own_tokens(ann: Client, notebook: Acting, shell: Acting, way: str) -> None:
    program = notebook if way == "basic" else shell
    told = program.tokens(ann, way=way)
    assert program.post("/oauth/revoke", way=way, token=told["access_token"]).status_code == 200
    assert not program.works(told["access_token"])
    again = program.refresh(told["refresh_token"], way=way).json
    hint = {"token_type_hint": "what", "token": again["refresh_token"]}
    assert program.post("/oauth/revoke", way=way, **hint).status_code == 200
    assert not program.works(again["access_token"])
    assert program.post("/oauth/revoke", way=way, token=again["refresh_token"]).status_code == 200
    assert program.post("/oauth/revoke", way=way, token="lmo_unknown").status_code == 200


def test_a_person_denies_or_ends_it(app: Any, ann: Client, notebook: Acting) -> None:
    back, _ = notebook.let(ann, "deny")
    assert back == {"error": "access_denied", "state": "its state", "iss": app.settings.base_url} | {
        k: v for k, v in back.items() if k == "error_description"
    }
    assert rows(app, Grant) == 0
    told, again = notebook.tokens(ann), notebook.tokens(ann, scope="usage:read")
    page = f"/settings/programs/{notebook.client_id}/end"
    assert "Shall Notebook no longer act for you?" in text_of(ann.get(page))
    assert ann.submit(page).status_code == 303
    assert not notebook.works(told["access_token"])
    assert not notebook.works(again["access_token"])
    assert endings(app) == [Ending.BY_PERSON] * 2
    assert "No program of others acts for you" in text_of(ann.get("/settings/programs"))
    assert ann.submit(page).status_code == 303
    assert rows(app, RefreshToken) == 2


@pytest.mark.threat("TM-26")
def test_nobody_agrees_without_the_page(app: Any, ann: Client, notebook: Acting) -> None:
    address, _ = notebook.asks()
    assert ann.post(address, data={"decision": "allow"}).status_code == 400  # no one-time value of a form
    assert app.test_client().get(address).location.startswith("/login?next=%2Foauth%2Fauthorize%3F")
    assert ann.submit(address, decision="maybe").status_code == 200
    assert rows(app, Grant) == 0


def test_who_signed_nothing_is_told_what_is_needed_first(app: Any, people: Any, notebook: Acting) -> None:
    bob = Client(app).sign_in(people["bob"])
    address, _ = notebook.asks()
    shown = text_of(bob.get(address))
    assert "What is needed first" in shown
    assert "Let it act for me" not in shown
    assert bob.submit(address, decision="allow").status_code == 403
    assert rows(app, Grant) == 0
    told = notebook.tokens(bob, scope="usage:read")
    assert told["scope"] == "usage:read"


def test_a_suspended_person_s_programs_get_nothing_new(app: Any, ann: Client, people: Any, notebook: Acting) -> None:
    told, (back, verifier) = notebook.tokens(ann, scope="usage:read"), notebook.let(ann)
    with transaction(app.engine) as session:
        end = utcnow() + timedelta(days=1)
        set_standing(
            session, user_id=people["ann"].id, action=StandingAction.SUSPEND, until=end, ref="san_x", by=SYSTEM,
            now=utcnow(),
        )  # fmt: skip
    assert refusal(notebook.refresh(told["refresh_token"])) == (400, "invalid_grant")
    assert refusal(notebook.exchange(back["code"], verifier)) == (400, "invalid_grant")
    assert notebook.introspect(told["access_token"]) == {"active": False}
    assert endings(app) == [None, None]


def test_what_is_said_of_the_server_is_true(app: Any, ann: Client, shell: Acting, notebook: Acting) -> None:
    said = app.test_client().get("/.well-known/oauth-authorization-server").json
    AuthorizationServerMetadata(said | {"issuer": said["issuer"].replace("http://", "https://")}).validate()
    base = app.settings.base_url
    assert said["issuer"] == base
    paths = {str(rule) for rule in app.url_map.iter_rules()}
    assert {v.removeprefix(base) for k, v in said.items() if k.endswith("_endpoint")} <= paths
    assert notebook.tokens(ann, scope=" ".join(said["scopes_supported"]))["scope"].split() == said["scopes_supported"]
    assert said["grant_types_supported"][2].endswith(":device_code")
    assert (said["code_challenge_methods_supported"], said["response_types_supported"]) == (["S256"], ["code"])
