"""Signing up, in and out through pages: what is answered, where it leads, and what browsers keep."""

import re
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from portal.accounts.models import User
from portal.accounts.rules import Role
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.identity import service
from portal.logins import service as logins
from portal.logins.models import LoginFailure
from portal.notices.models import Notice
from tests import conduct
from tests.site import Client, make_app, text_of

EMAIL = "ann@identity.example"
PASSWORD = "four words are fine"
OTHER = "five other words are finer"
APPLICATION = {"email": EMAIL, "password": PASSWORD, "name": "Ann", "affiliation": "Lab", "country": "nl"}


def mailed(app: Any, kind: str) -> str:
    """Return the path of the link in the newest mail of a kind."""
    with transaction(app.engine, write=False) as session:
        body = session.scalar(
            sa.select(Notice.body).where(Notice.kind == kind, Notice.body.is_not(None)).order_by(Notice.id.desc())
        )
    return re.findall(r"https?://[^/]+(/\S*/\S{43})", body or "")[0]


def kinds(app: Any) -> list[str]:
    with transaction(app.engine, write=False) as session:
        return list(session.scalars(sa.select(Notice.kind).order_by(Notice.id)))


@pytest.fixture
def ann(app: Any) -> User:
    with transaction(app.engine) as session:
        return service.add_verified(
            session, email=EMAIL, password=PASSWORD, name="Ann", affiliation="Lab", country="NL",
            hasher=app.extensions["hasher"], by=SYSTEM, now=utcnow(),
        )  # fmt: skip


@pytest.fixture
def spy(app: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the real hasher is asked to do."""
    calls: list[str] = []
    hasher = app.extensions["hasher"]
    for name in ("hash", "verify"):
        real = getattr(hasher, name)

        def spied(*args: str, real: Any = real, name: str = name) -> Any:
            calls.append(name)
            return real(*args)

        monkeypatch.setattr(hasher, name, spied)
    return calls


def seen(answer: Any) -> tuple[int, str | None, str]:
    """What a stranger can tell from an answer."""
    words = re.sub(r"[\w.]+@identity\.example|req_\w+", "…", text_of(answer))
    return answer.status_code, answer.headers.get("Location"), words


def test_somebody_signs_up_confirms_and_signs_in(app: Any, client: Client) -> None:
    answer = client.submit("/signup", **APPLICATION)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/signup/sent")
    assert str(Path(app.settings.home) / "mail") in text_of(client.get("/signup/sent"))
    link = mailed(app, "verify")
    page = client.get(link)
    assert page.status_code == 200
    assert EMAIL in text_of(page)
    assert "Your address is confirmed" not in text_of(client.get(link))
    for _ in range(2):
        answer = client.submit("/login", to=link)  # the second time the page itself has no button any more
        assert (answer.status_code, answer.headers["Location"]) == (303, link)
        assert "Your address is confirmed" in text_of(client.get(link))
    answer = client.submit("/login", email=EMAIL.upper(), password=PASSWORD)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert "Confirmed" in text_of(client.get("/settings/"))
    assert "Read the licenses" in text_of(client.get(link))
    assert client.get("/login?next=/settings/").headers["Location"] == "/settings/"


def test_a_form_names_everything_that_is_wrong_at_once(app: Any, client: Client) -> None:
    answer = client.submit("/signup", email="no", password="short", name=" ", affiliation="x" * 201, country="NLD")
    assert answer.status_code == 422
    for words in ("This is no e-mail address", "at least 15 characters", "Give your name", "200 characters", "two let"):
        assert words in text_of(answer)
    assert "short" not in answer.get_data(as_text=True)
    assert client.submit("/signup").status_code == 422
    assert client.submit("/login").status_code == 422
    assert client.submit("/reset", email="no").status_code == 422
    assert kinds(app) == []


@pytest.mark.threat("TM-28")
def test_nobody_can_tell_from_signing_up_whether_an_address_is_known(
    app: Any, client: Client, ann: User, spy: list[str]
) -> None:
    answers = []
    for email in (EMAIL, "new@identity.example"):
        answers.append(seen(client.submit("/signup", **{**APPLICATION, "email": email})))
        assert spy == ["hash"]
        spy.clear()
    assert answers[0] == answers[1]
    assert kinds(app) == ["signup_known", "verify"]


@pytest.mark.threat("TM-28")
def test_nobody_can_tell_from_signing_in_whether_an_address_is_known(
    app: Any, client: Client, ann: User, spy: list[str]
) -> None:
    for _ in range(5):
        answers = []
        for email in (EMAIL, "nobody@identity.example"):
            answers.append(seen(client.submit("/login", email=email, password=OTHER)))
            assert spy == ["verify"]
            spy.clear()
        assert answers[0] == answers[1]
        assert answers[0][0] == 422
    held = [client.submit("/login", email=email, password=PASSWORD) for email in (EMAIL, "nobody@identity.example")]
    assert seen(held[0]) == seen(held[1])
    assert [(answer.status_code, answer.headers["Retry-After"]) for answer in held] == [(429, "1")] * 2
    assert spy == []
    assert "portal" not in {cookie.key for cookie in client.http._cookies.values()}
    with transaction(app.engine, write=False) as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(LoginFailure)) == 10


@pytest.mark.threat("TM-28")
def test_nobody_can_tell_from_a_lost_password_whether_an_address_is_known(app: Any, client: Client, ann: User) -> None:
    known, unknown = (client.submit("/reset", email=email) for email in (EMAIL, "nobody@identity.example"))
    assert seen(known) == seen(unknown)
    assert (known.status_code, known.headers["Location"]) == (303, "/reset/sent")
    assert "If there is an account" in text_of(client.get("/reset/sent"))
    assert kinds(app) == ["reset"]


def test_a_portal_without_people_answers_the_same(app: Any, client: Client) -> None:
    assert client.submit("/reset", email=EMAIL).headers["Location"] == "/reset/sent"
    assert kinds(app) == []


def test_a_lost_password_is_replaced_and_everybody_signed_out(app: Any, client: Client, ann: User) -> None:
    elsewhere = Client(app).sign_in(ann)
    client.submit("/reset", email=EMAIL)
    link = mailed(app, "reset")
    assert client.submit(link, password="short").status_code == 422
    assert client.submit(link, password=EMAIL).status_code == 422
    answer = client.submit(link, password=OTHER)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/login")
    assert "Your new password is set" in text_of(client.get("/login"))
    assert client.get(link).status_code == 404
    assert elsewhere.get("/settings/").status_code == 303
    assert client.submit("/login", email=EMAIL, password=PASSWORD).status_code == 422
    assert client.submit("/login", email=EMAIL, password=OTHER).status_code == 303
    assert kinds(app) == ["reset", "password_changed"]


@pytest.mark.parametrize("path", ["/signup/verify/", "/reset/", "/invite/"])
def test_a_link_that_does_not_work_says_where_to_get_another(client: Client, path: str) -> None:
    for secret in ("x", "x" * 43, "é", "x" * 3000):
        answer = client.get(path + secret)
        assert answer.status_code == 404
        assert "Put it right" in text_of(answer)


@pytest.mark.threat("TM-29")
@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/settings/tokens?x=1", "/settings/tokens?x=1"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("/%5cevil.example", "/%5cevil.example"),
        ("javascript:alert(1)", "/"),
        ("/a\r\nX: y", "/"),
    ],
)
def test_signing_in_leads_only_to_this_portal(client: Client, ann: User, target: str, path: str) -> None:
    page = client.get("/login", query_string={"next": target}).get_data(as_text=True)
    assert re.findall(r'name="next"[^>]*value="([^"]*)"', page) == [path]
    answer = client.submit("/login", email=EMAIL, password=PASSWORD, next=target)
    assert (answer.status_code, answer.headers["Location"]) == (303, path)
    assert client.get("/login", query_string={"next": target}).headers["Location"] == path


def test_a_page_that_needs_a_person_comes_back_after_signing_in(client: Client, ann: User) -> None:
    asked = client.get("/settings/profile?a=b").headers["Location"]
    answer = client.submit(asked, to="/login", email=EMAIL, password=PASSWORD)
    assert answer.headers["Location"] == "/settings/profile?a=b"


def test_the_cookie_is_new_at_each_sign_in_and_scripts_cannot_read_it(app: Any, ann: User) -> None:
    values = set()
    for _ in range(2):
        browser = Client(app)
        browser.http.set_cookie("portal", "planted")
        answer = browser.submit("/login", email=EMAIL, password=PASSWORD)
        (cookie,) = [c for c in answer.headers.getlist("Set-Cookie") if c.startswith("portal=")]
        for part in ("HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=1209600"):
            assert part in cookie
        assert "Secure" not in cookie
        values.add(cookie.split(";")[0])
        assert browser.get("/settings/").status_code == 200
    assert len(values) == 2
    assert "portal=planted" not in values


@pytest.mark.threat("TM-29")
def test_over_https_the_cookie_is_bound_to_this_host(tmp_path: Path) -> None:
    app = make_app(tmp_path, PORTAL_BASE_URL="https://portal.example")
    try:
        with transaction(app.engine) as session:
            person = conduct.person(session, "ann", utcnow())
            reference = logins.open_session(
                session, user_id=person.id, means="password", user_agent="", pepper=app.settings.pepper, now=utcnow()
            )
            _, secret = service.invite_staff(
                session, email="mo@identity.example", name="Mo", role=Role.ADMIN, pepper=app.settings.pepper,
                by=SYSTEM, now=utcnow(),
            )  # fmt: skip
        web = app.test_client()
        web.set_cookie("__Host-portal", reference, domain="portal.example", secure=True)
        kept = {"base_url": "https://portal.example"}
        assert web.get("/settings/", **kept).status_code == 200
        page = web.get("/logout", **kept).get_data(as_text=True)
        csrf = re.findall(r'name="csrf_token"[^>]*value="([^"]*)"', page)[0]
        out = web.post("/logout", data={"csrf_token": csrf}, **kept)
        assert out.headers["Clear-Site-Data"] == '"cache", "storage"'
        page = web.get(f"/invite/{secret}", **kept).get_data(as_text=True)
        csrf = re.findall(r'name="csrf_token"[^>]*value="([^"]*)"', page)[0]
        answer = web.post(f"/invite/{secret}", data={"csrf_token": csrf}, **kept)
        (cookie,) = [c for c in answer.headers.getlist("Set-Cookie") if c.startswith("__Host-portal=")]
        assert "Secure" in cookie
        assert "Path=/" in cookie
        assert "Domain" not in cookie
    finally:
        app.engine.dispose()


def test_signing_out_ends_this_login_session_alone(app: Any, client: Client, ann: User) -> None:
    client.sign_in(ann)
    elsewhere = Client(app).sign_in(ann)
    cookie = client.http.get_cookie("portal")
    assert client.get("/logout").status_code == 200
    assert client.get("/settings/").status_code == 200
    answer = client.submit("/logout")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert client.http.get_cookie("portal") is None
    client.http.set_cookie("portal", cookie.value)
    assert client.get("/settings/").status_code == 303
    assert elsewhere.get("/settings/").status_code == 200
    assert "You are not signed in" in text_of(client.get("/logout"))
    assert client.submit("/login", to="/logout").status_code == 303


@pytest.mark.parametrize("value", ["x", "é", "%00", "x" * 4000, "a b"])
def test_a_cookie_that_names_nothing_is_nobody(client: Client, value: str) -> None:
    client.http.set_cookie("portal", value)
    assert client.get("/settings/").status_code == 303


def test_an_invitation_is_used_by_its_button_and_asks_for_a_password(app: Any, client: Client) -> None:
    with transaction(app.engine) as session:
        _, secret = service.invite_staff(
            session, email="mo@identity.example", name="Mo", role=Role.MODERATOR, pepper=app.settings.pepper,
            by=SYSTEM, now=utcnow(),
        )  # fmt: skip
    link = f"/invite/{secret}"
    for _ in range(2):
        assert client.get(link).status_code == 200
    assert client.get("/settings/").status_code == 303
    answer = client.submit(link)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/settings/security")
    page = text_of(client.get("/settings/security"))
    assert "You have no password yet" in page
    assert "Current password" not in page
    answer = client.submit("/settings/security", password=PASSWORD)
    assert answer.status_code == 303
    assert "You have no password yet" not in text_of(client.get("/settings/security"))
    assert client.get(link).status_code == 404
    with transaction(app.engine) as session:
        _, again = service.invite_staff(
            session, email="mo@identity.example", name="Mo", role=Role.MODERATOR, pepper=app.settings.pepper,
            by=SYSTEM, now=utcnow(),
        )  # fmt: skip
    assert client.submit(f"/invite/{again}").headers["Location"] == "/settings/security"


def test_a_password_is_changed_and_other_browsers_are_signed_out(app: Any, client: Client, ann: User) -> None:
    client.sign_in(ann)
    elsewhere = Client(app).sign_in(ann)
    before = client.http.get_cookie("portal").value
    for fields, words in [
        ({"current": "wrong", "password": OTHER}, "This is not your current password"),
        ({"password": OTHER}, "This is not your current password"),
        ({"current": PASSWORD, "password": "short"}, "at least 15 characters"),
        ({"current": PASSWORD, "password": EMAIL.upper()}, "harder to guess"),
    ]:
        answer = client.submit("/settings/security", to="/settings/security", **fields)
        assert answer.status_code == 422
        assert words in text_of(answer)
    answer = client.submit("/settings/security", to="/settings/security", current=PASSWORD, password=OTHER)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/settings/security")
    assert client.http.get_cookie("portal").value != before
    assert "Your password is set" in text_of(client.get("/settings/security"))
    assert elsewhere.get("/settings/").status_code == 303


def test_browsers_are_listed_and_signed_out(app: Any, client: Client, ann: User) -> None:
    client.sign_in(ann)
    others = [Client(app).sign_in(ann) for _ in range(3)]
    page = client.get("/settings/security").get_data(as_text=True)
    refs = re.findall(r'name="ref" value="(\w{16})"', page)
    assert len(refs) == 3
    assert "This one" in page
    end = "/settings/security/end"
    assert client.submit("/settings/security", to=end, ref=refs[0]).status_code == 303
    assert "That browser is signed out" in text_of(client.get("/settings/security"))
    assert client.submit("/settings/security", to=end, ref="nothing").status_code == 404
    assert client.submit("/transparency", to=end).status_code == 303
    assert "All other browsers" in text_of(client.get("/settings/security"))
    assert {other.get("/settings/").status_code for other in others} == {303}
    assert client.submit("/transparency", to=end).status_code == 303
    assert "no other browser" in text_of(client.get("/settings/security"))


def test_a_use_of_a_login_session_is_noted_by_the_minute(app: Any, client: Client, ann: User) -> None:
    from datetime import timedelta

    from portal.logins.models import LoginSession

    client.sign_in(ann)
    with transaction(app.engine) as session:
        login = session.scalars(sa.select(LoginSession)).one()
        login.last_used_at -= timedelta(minutes=5)
        old = login.last_used_at
    assert client.get("/settings/").status_code == 200
    with transaction(app.engine, write=False) as session:
        assert session.scalars(sa.select(LoginSession.last_used_at)).one() > old + timedelta(minutes=4)


@pytest.mark.threat("TM-29")
@pytest.mark.parametrize("path", ["/signup", "/login", "/reset", "/logout", "/settings/security/end"])
def test_a_form_of_another_site_is_refused(client: Client, path: str) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert client.post(path, data=APPLICATION, headers=headers).status_code == 403
    assert client.post(path, data=APPLICATION).status_code == 400


@pytest.mark.parametrize("bad", ["\0", "\ud800", "😀" * 3000, "\u202e", "' OR 1=1 --", "{{7*7}}", "<script>"])
def test_no_input_makes_a_page_fail(client: Client, ann: User, bad: str) -> None:
    value = bad.encode("utf-8", "surrogatepass")
    for path, names in [
        ("/signup", ("email", "password", "name", "affiliation", "country")),
        ("/login", ("email", "password", "next")),
        ("/reset", ("email",)),
    ]:
        for name in names:
            fields = {**APPLICATION, "email": "new@identity.example", "next": "/", name: value}
            answer = client.submit(path, **fields)
            assert answer.status_code < 500
            assert "<script>" not in answer.get_data(as_text=True)
