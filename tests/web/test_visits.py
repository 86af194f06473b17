"""Signing in with what researchers have elsewhere, against a provider that can lie and against one made by others."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import sqlalchemy as sa
import time_machine

from portal.accounts.models import User
from portal.accounts.rules import Role
from portal.accounts.service import acting, find_by_email
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.core.errors import PortalError
from portal.identity import service as identity
from portal.notices.models import Notice
from portal.providers import service
from portal.providers.models import LinkedIdentity
from portal.providers.rules import ORCID, Claims
from portal.providers.service import orcid_of
from tests import issuer as issuers
from tests.factories import Make
from tests.issuer import CLIENT, SECRET, Issuer
from tests.site import Client, make_app, text_of

ABOUT = {"name": "Josiah Carberry", "affiliation": "Brown University", "country": "US"}
BASE = "http://127.0.0.1:8000"


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuers.running() as running:
        yield running


def made(home: Path, url: str, *, slug: str = "campus", more: str = "") -> Any:
    file = home / "providers.toml"
    file.write_text(
        f'[{slug}]\nname = "Campus"\nissuer = "{url}"\nclient_id = "{CLIENT}"\nclient_secret = "{SECRET}"\n{more}'
    )
    return make_app(home, PORTAL_PROVIDERS=str(file))


@pytest.fixture
def app(tmp_path: Path, issuer: Issuer) -> Any:
    return made(tmp_path, issuer.url)


@pytest.fixture
def ann(app: Any) -> User:
    with transaction(app.engine) as session:
        return Make(session, utcnow()).person("ann")


def visit(client: Client, agree: Callable[[str], str], *, link: bool = False) -> Any:
    """Go to the provider, agree there, and come back."""
    if link:
        page = client.submit("/settings/identities", to="/settings/identities/link/campus")
        assert page.status_code == 200, text_of(page)
        address = page.headers["Refresh"].partition("url=")[2]
    else:
        address = client.get("/login/with/campus?next=/settings/").headers["Location"]
    return client.get(agree(address).removeprefix(BASE))


def linked(app: Any) -> list[tuple[int, str]]:
    with transaction(app.engine, write=False) as session:
        query = sa.select(LinkedIdentity.user_id, LinkedIdentity.subject).order_by(LinkedIdentity.id)
        return [(row.user_id, row.subject) for row in session.execute(query)]


def test_an_identity_opens_an_account_and_signs_in_from_then_on(app: Any, issuer: Issuer) -> None:
    client = Client(app)
    assert "Campus" in text_of(client.get("/login"))
    first = visit(client, issuer.agree)
    assert (first.status_code, first.headers["Location"]) == (303, "/signup/with")
    page = client.get("/signup/with").get_data(as_text=True)
    assert 'value="Josiah Carberry"' in page
    assert 'value="josiah@example.org"' in page
    done = client.submit("/signup/with", email="josiah@example.org", **ABOUT)
    assert (done.status_code, done.headers["Location"]) == (303, "/signup/sent")
    with transaction(app.engine, write=False) as session:
        user = find_by_email(session, email="josiah@example.org")
        assert user is not None
        assert user.profile.verified_at is None, "the provider's word proves no address"
    assert linked(app) == [(user.id, issuer.subject)]
    again = Client(app)
    assert visit(again, issuer.agree).headers["Location"] == "/settings/"
    assert "Josiah Carberry" in text_of(again.get("/settings/profile"))


@pytest.mark.threat("TM-27")
def test_an_address_that_has_an_account_is_no_proof_of_being_its_owner(app: Any, issuer: Issuer, ann: User) -> None:
    with transaction(app.engine, write=False) as session:
        issuer.email = session.get_one(User, ann.id).profile.email
    client = Client(app)
    visit(client, issuer.agree)
    done = client.submit("/signup/with", email=issuer.email, **ABOUT)
    assert done.headers["Location"] == "/signup/sent", "the same answer as for any address"
    assert linked(app) == []
    assert visit(Client(app), issuer.agree).headers["Location"] == "/signup/with"


def test_an_identity_is_linked_and_unlinked_but_the_last_way_in_stays(app: Any, issuer: Issuer, ann: User) -> None:
    client = Client(app).sign_in(ann)
    assert visit(client, issuer.agree, link=True).headers["Location"] == "/settings/identities"
    assert linked(app) == [(ann.id, issuer.subject)]
    assert visit(client, issuer.agree, link=True).status_code == 303, "linking again changes nothing"
    page = client.get("/settings/identities").get_data(as_text=True)
    ref = page.partition('name="ref" value="')[2].partition('"')[0]
    kept = client.submit("/settings/identities", to="/settings/identities/unlink", ref=ref)
    assert kept.status_code == 409
    assert "only way into your account" in text_of(kept)
    issuer.subject = "another"
    visit(client, issuer.agree, link=True)
    done = client.submit("/settings/identities", to="/settings/identities/unlink", ref=ref)
    assert done.status_code == 303, text_of(done)
    assert linked(app) == [(ann.id, "another")]


def test_one_identity_opens_one_account(app: Any, issuer: Issuer, ann: User) -> None:
    visit(Client(app).sign_in(ann), issuer.agree, link=True)
    with transaction(app.engine) as session:
        bob = Make(session, utcnow()).person("bob")
    answer = visit(Client(app).sign_in(bob), issuer.agree, link=True)
    assert answer.status_code == 409
    assert "opens another account" in text_of(answer)
    assert linked(app) == [(ann.id, issuer.subject)]


def test_linking_takes_a_fresh_proof_and_the_person_who_began(app: Any, issuer: Issuer, ann: User) -> None:
    client = Client(app).sign_in(ann)
    with time_machine.travel(utcnow().replace(microsecond=0), tick=False) as clock:
        clock.shift(20 * 60)
        stale = client.submit("/settings/identities", to="/settings/identities/link/campus")
        assert stale.status_code in {303, 403}
    with transaction(app.engine) as session:
        bob = Make(session, utcnow()).person("bob")
    client = Client(app).sign_in(ann)
    page = client.submit("/settings/identities", to="/settings/identities/link/campus")
    client.sign_in(bob)  # in the same browser, meanwhile
    back = issuer.agree(page.headers["Refresh"].partition("url=")[2])
    assert client.get(back.removeprefix(BASE)).status_code == 400
    assert linked(app) == []


@pytest.mark.threat("TM-27")
def test_what_somebody_linked_before_the_address_was_proved_opens_nothing_for_them_later(
    app: Any, issuer: Issuer
) -> None:
    """An account opened in advance for an address of somebody else must not stay open to whoever opened it."""
    for way in ("invited", "reset"):
        client, email = Client(app), f"{way}@example.org"
        issuer.subject = way
        visit(client, issuer.agree)
        client.submit("/signup/with", email=email, **ABOUT)
        kept = {"pepper": app.settings.pepper, "now": utcnow()}
        with transaction(app.engine) as session:
            if way == "invited":
                identity.invite_staff(session, email=email, name="", role=Role.MODERATOR, by=SYSTEM, **kept)
                continue
            identity.request_reset(session, email=email, base_url=BASE, **kept)
            mail = session.scalars(sa.select(Notice).where(Notice.kind == "reset")).one()
            secret = re.findall(r"/reset/(\S+)", mail.body or "")[0]
            hasher = app.extensions["hasher"]
            phrase = "seven green bicycles sing"
            identity.reset_password(session, secret=secret, password=phrase, hasher=hasher, base_url=BASE, **kept)
    assert linked(app) == []


def test_an_orcid_that_was_proved_is_named_in_what_its_owner_signs(app: Any, ann: User) -> None:
    said = Claims(ORCID, "0000-0002-1825-0097")
    assert said.orcid == "0000-0002-1825-0097"
    assert Claims("https://other.example", said.subject).orcid == ""
    with transaction(app.engine) as session:
        by = acting(session.get_one(User, ann.id))
        assert orcid_of(session, user_id=ann.id) == ""
        service.add(session, user=session.get_one(User, ann.id), claims=said, by=by, now=utcnow())
        assert orcid_of(session, user_id=ann.id) == said.subject


LIES: dict[str, Callable[[Issuer], Any]] = {
    "alg none": lambda one: setattr(one, "algorithm", "none"),
    "public key as secret": lambda one: setattr(one, "algorithm", "HS256"),
    "key beside the statement": lambda one: setattr(one, "algorithm", "jku"),
    "a key nobody shows": lambda one: one.rotate(shown=False),
    "for somebody else": lambda one: one.lies.update(aud="another"),
    "for others as well": lambda one: one.lies.update(aud=[CLIENT, "another"]),
    "handed on": lambda one: one.lies.update(azp="another"),
    "expired": lambda one: one.lies.update(exp=1),
    "from the future": lambda one: one.lies.update(nbf=1 << 40),
    "made in the future": lambda one: one.lies.update(iat=1 << 40),
    "another nonce": lambda one: one.lies.update(nonce="x"),
    "no nonce": lambda one: one.lies.update(nonce=None),
    "another issuer": lambda one: one.lies.update(iss="https://evil.example"),
    "no subject": lambda one: one.lies.update(sub=None),
    "an empty subject": lambda one: one.lies.update(sub=""),
    "a subject that is a list": lambda one: one.lies.update(sub=["a"]),
    "a long subject": lambda one: one.lies.update(sub="x" * 256),
    "a subject of two lines": lambda one: one.lies.update(sub="a\nb"),
    "times that are no numbers": lambda one: one.lies.update(exp="soon"),
}


@pytest.mark.threat("TM-27")
@pytest.mark.parametrize("lie", LIES)
def test_a_statement_that_does_not_hold_opens_nothing(app: Any, issuer: Issuer, ann: User, lie: str) -> None:
    visit(Client(app).sign_in(ann), issuer.agree, link=True)
    LIES[lie](issuer)
    client = Client(app)
    answer = visit(client, issuer.agree)
    assert answer.status_code == 400, lie
    assert "does not prove who you are" in text_of(answer)
    assert client.get("/settings/profile").status_code == 303


def test_a_provider_may_change_its_keys(app: Any, issuer: Issuer, ann: User, monkeypatch: Any) -> None:
    visit(Client(app).sign_in(ann), issuer.agree, link=True)
    issuer.rotate()
    monkeypatch.setattr("portal.adapters.oidc.ASKED_AGAIN_S", 0)  # else half a minute passes between two looks
    assert visit(Client(app), issuer.agree).headers["Location"] == "/settings/"


@pytest.mark.threat("TM-26")
def test_an_answer_that_this_browser_did_not_ask_for_is_refused(app: Any, issuer: Issuer, ann: User) -> None:
    visit(Client(app).sign_in(ann), issuer.agree, link=True)
    mine, theirs = Client(app), Client(app)
    address = mine.get("/login/with/campus").headers["Location"]
    back = issuer.agree(address).removeprefix(BASE)
    assert theirs.get(back).status_code == 400, "no visit"
    theirs.get("/login/with/campus")
    assert theirs.get(back).status_code == 400, "the state of another browser"
    assert "belongs to no sign-in" in text_of(mine.get("/login/with/campus/back?state=%F0%9F%8C%8D&code=x"))
    assert mine.get(back).status_code == 400, "a visit is used up by any answer"


@pytest.mark.threat("TM-26")
def test_a_code_works_once_and_only_with_what_began_it(app: Any, issuer: Issuer, ann: User) -> None:
    visit(Client(app).sign_in(ann), issuer.agree, link=True)
    first, second = Client(app), Client(app)
    code = parse_qs(urlsplit(issuer.agree(first.get("/login/with/campus").headers["Location"])).query)["code"][0]
    asked = parse_qs(urlsplit(second.get("/login/with/campus").headers["Location"]).query)
    injected = urlencode({"code": code, "state": asked["state"][0]})
    assert second.get(f"/login/with/campus/back?{injected}").status_code == 400, "another verifier"
    for answer in ("error=access_denied", "error=server_error", "", "code="):
        state = parse_qs(urlsplit(second.get("/login/with/campus").headers["Location"]).query)["state"][0]
        assert second.get(f"/login/with/campus/back?state={state}&{answer}").status_code == 400


@pytest.mark.threat("TM-26")
def test_an_answer_of_another_issuer_is_refused(app: Any, issuer: Issuer, ann: User) -> None:
    visit(Client(app).sign_in(ann), issuer.agree, link=True)
    issuer.says_issuer = "https://evil.example"
    assert visit(Client(app), issuer.agree).status_code == 400
    issuer.says_issuer = issuer.url
    assert visit(Client(app), issuer.agree).headers["Location"] == "/settings/"


def test_a_visit_that_took_too_long_begins_anew(app: Any, issuer: Issuer) -> None:
    client = Client(app)
    address = client.get("/login/with/campus").headers["Location"]
    with time_machine.travel(utcnow(), tick=False) as clock:
        back = issuer.agree(address).removeprefix(BASE)
        clock.shift(16 * 60)
        assert "longer than 15 minutes" in text_of(client.get(back))


def test_a_provider_that_is_away_or_is_not_who_it_was_is_said(tmp_path: Path, issuer: Issuer) -> None:
    app = made(tmp_path, issuer.url)
    issuer.away = True
    away = Client(app).get("/login/with/campus")
    assert away.status_code == 503
    assert "Campus does not answer" in text_of(away)
    issuer.away = False
    for lie in (
        {"issuer": "https://evil.example"},
        {"authorization_endpoint": "ftp://x"},
        {"authorization_endpoint": 7},
    ):
        issuer.metadata_lies = lie
        assert Client(made(tmp_path, issuer.url)).get("/login/with/campus").status_code == 503, lie
    issuer.metadata_lies = {}
    assert Client(app).get("/login/with/campus").status_code == 303


def test_only_the_domain_that_the_operator_names_comes_in(tmp_path: Path, issuer: Issuer) -> None:
    app = made(tmp_path, issuer.url, more='domain = "uni.example"\n')
    assert visit(Client(app), issuer.agree).status_code == 400
    issuer.lies = {"hd": "uni.example"}
    assert visit(Client(app), issuer.agree).headers["Location"] == "/signup/with"


def test_what_the_provider_of_others_says_is_understood_too(tmp_path: Path) -> None:
    with issuers.mock_process() as url:
        app = made(tmp_path, url)
        client = Client(app)

        def agree(address: str) -> str:
            return issuers.agree_at_mock(address, "carberry")

        assert visit(client, agree).headers["Location"] == "/signup/with"
        client.submit("/signup/with", email="mock@example.org", **ABOUT)
        assert [subject for _, subject in linked(app)] == ["carberry"]
        assert visit(Client(app), agree).headers["Location"] == "/settings/"


def test_github_is_asked_who_holds_the_token(issuer: Issuer, monkeypatch: Any) -> None:
    from portal.adapters import oidc

    monkeypatch.setattr(oidc, "GITHUB_API", f"{issuer.url}/user")
    assert not oidc.Provider("github", "GitHub", oidc.GITHUB, CLIENT).speaks_openid
    door = oidc.GitHub(oidc.Provider("github", "GitHub", issuer.url, CLIENT, SECRET, ("read:user",)))
    visit = {"redirect_uri": f"{BASE}/login/with/github/back", "nonce": "n", "verifier": "v" * 43}
    back = issuer.agree(door.address(state="s", **visit))
    answer = {name: values[0] for name, values in parse_qs(urlsplit(back).query).items()}
    said = door.claims(answer=answer, **visit)
    assert said == {"issuer": issuer.url, "subject": "583231", "name": "octocat", "email": ""}
    with pytest.raises(PortalError, match="does not accept the code"):
        door.claims(answer=answer, **visit)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1", "must be a table"), ("[a b]", "cannot read"), ("[campus]\nname = 'C'", "issuer is missing"),
        ("[orcid]", "client_id is missing"), ("[orcid]\nclient_id = 'a'\nsecret = 'b'", "there is no 'secret'"),
        ("[orcid]\nclient_id = 7", "client_id must be text"), ("[orcid]\nclient_id = 'a'\nscopes = 'openid'", "a list"),
        ("[orcid]\nclient_id = 'a'\nalgorithms = ['HS256']", "not HS256"),
        ("[a]\nname = 'A'\nissuer = 'http://a.example'\nclient_id = 'a'", "must be an https:// address"),
        ("[orcid]\nclient_id='a'\n[b]\nname='B'\nissuer='https://orcid.org/'\nclient_id='b'", "is there twice"),
    ],
)  # fmt: skip
def test_a_file_of_providers_that_is_not_right_stops_the_start(tmp_path: Path, text: str, says: str) -> None:
    from portal.adapters.oidc import read_providers
    from portal.core.config import SettingError

    file = tmp_path / "providers.toml"
    file.write_text(text)
    with pytest.raises(SettingError, match=says) as error:
        read_providers(str(file))
    assert "providers.toml" in str(error.value)
