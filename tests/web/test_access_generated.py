"""What the access matrix says once, tried in every way around it: other methods, credentials, forms and fields.

Each case is generated from a row of the matrix, so a new address is tried in all of these ways from its first day.
"""

import re
from collections.abc import Iterator
from html import unescape
from typing import Any

import pytest
import sqlalchemy as sa

from portal.accounts.models import RoleHolding, User
from portal.core.db import transaction
from tests.site import Client, make_app
from tests.web.access_matrix import DATA_PLANE, PAGES, PROGRAM_ADDRESSES
from tests.web.world import PEOPLE, PROGRAMS, World, address, build

pytestmark = [pytest.mark.threat("TM-29"), pytest.mark.threat("TM-30")]
FORGED: dict[str, dict[str, str]] = {
    "no value": {}, "another visitor's value": {}, "value in the address": {}, "foreign origin": {"Origin": "https://evil.example"},
    "no origin": {"Origin": "null"}, "own name, other port": {"Origin": "http://localhost:8081"},
    "cross-site": {"Sec-Fetch-Site": "cross-site"}, "same-site": {"Sec-Fetch-Site": "same-site"},
}  # fmt: skip
GRASPED = {
    "standing": "active", "role": "admin", "roles": "admin", "permissions": "people:role:give", "id": "1", "level": "3",
    "user_id": "1", "owner_id": "1", "verified_at": "2020-01-01", "state": "active", "is_staff": "1",
}  # fmt: skip
ROWS = [row.split(" ", 1) for row in (*PAGES, *PROGRAM_ADDRESSES)]
TAKEN = {rule: {method for method, other in ROWS if other == rule} for _, rule in ROWS}
POSTS = [rule for method, rule in (row.split(" ", 1) for row in PAGES) if method == "POST"]
READS = [rule for method, rule in (row.split(" ", 1) for row in PAGES) if method == "GET"]
METHODS = [
    (who, method, rule)
    for rule, taken in TAKEN.items()
    for method in ("POST", "PUT", "PATCH", "DELETE")
    if method not in taken
    for who in ("anonymous", "admin")
]
FORMS = [(who, how, rule) for rule in POSTS for how in FORGED for who in ("anonymous", "member", "admin")]
HEADS = [(who, rule) for rule in READS for who in ("anonymous", "admin")]
BEARERS = [(who, rule) for rule in READS for who in ("bad", "signed")]
COOKIES = [(who, *row.split(" ", 1)) for row in PROGRAM_ADDRESSES for who in PEOPLE if who != "anonymous"]
GRASPS = [(who, rule) for rule in POSTS for who in ("member", "card_editor")]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Everybody and everything."""
    app = make_app(tmp_path_factory.mktemp("generated"))
    yield build(app)
    app.engine.dispose()


@pytest.fixture(scope="module")
def clients(world: World) -> dict[str, Client]:
    """Everybody at a browser of their own."""
    return {
        who: Client(world.app) if who == "anonymous" else Client(world.app).sign_in(world.users[who]) for who in PEOPLE
    }


def value_of(client: Client) -> str:
    """The value that a form of this visitor carries."""
    for path in ("/transparency", "/login"):
        found = re.findall(r'name="csrf_token"[^>]*value="([^"]*)"', client.get(path).get_data(as_text=True))
        if found:
            return unescape(found[0])
    raise AssertionError("no page has a form")


def guarded(answer: Any) -> int:
    """The status of an answer, once it carries what keeps browsers from misusing it."""
    headers = answer.headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["X-Request-Id"].startswith("req_")
    assert headers["Cache-Control"]
    return int(answer.status_code)


def test_there_are_as_many_cases_as_promised() -> None:
    matrix = len(PAGES) * len(PEOPLE) + (len(PROGRAM_ADDRESSES) + len(DATA_PLANE)) * len(PROGRAMS)
    around = sum(len(cases) for cases in (METHODS, FORMS, HEADS, BEARERS, COOKIES, GRASPS))
    print(f"access: {matrix} cases of the matrix, {around} around it, {matrix + around} in all")
    assert matrix + around >= 5_000


def test_a_method_that_has_no_row_is_refused(world: World, clients: dict[str, Client]) -> None:
    for who, method, rule in METHODS:
        answer = clients[who].http.open(address(world, "GET", rule), method=method)
        assert guarded(answer) in {400, 404, 405}, (who, method, rule)


def test_a_forged_form_is_refused_whoever_is_made_to_send_it(world: World, clients: dict[str, Client]) -> None:
    values, foreign = {who: value_of(client) for who, client in clients.items()}, value_of(Client(world.app))
    for who, how, rule in FORMS:
        path, value = address(world, "POST", rule), values[who]
        data = {"csrf_token": foreign if how.startswith("another") else value} if how != "no value" else {}
        if how == "value in the address":
            path, data = f"{path}?csrf_token={value}", {}
        answer = clients[who].post(path, data=data, headers=FORGED[how])
        assert guarded(answer) == (403 if FORGED[how] else 400), (who, how, rule)


def test_a_head_tells_what_a_get_does(world: World, clients: dict[str, Client]) -> None:
    for who, rule in HEADS:
        path = address(world, "GET", rule)
        told = clients[who].http.head(path)
        found = PAGES[f"GET {rule}"].split()[PEOPLE.index(who)]
        assert guarded(told) == int(found), (who, rule)
        assert told.get_data() == b""


def test_an_access_token_opens_no_page(world: World) -> None:
    for who, rule in BEARERS:
        headers = {"Authorization": f"Bearer {world.secrets[who]}"}
        answer = world.app.test_client().get(address(world, "GET", rule), headers=headers)
        assert guarded(answer) == int(PAGES[f"GET {rule}"].split()[0]), (who, rule)


def test_a_cookie_opens_nothing_for_programs(world: World, clients: dict[str, Client]) -> None:
    for who, method, rule in COOKIES:
        body: dict[str, Any] = {"json": {}} if method != "GET" else {}
        answer = clients[who].http.open(address(world, method, rule), method=method, **body)
        assert guarded(answer) == int(PROGRAM_ADDRESSES[f"{method} {rule}"].split()[0]), (who, method, rule)


def test_no_form_gives_powers_to_whoever_sends_more_fields_than_it_has(world: World) -> None:
    def powers() -> list[Any]:
        with transaction(world.app.engine, write=False) as session:
            people = session.execute(sa.select(User.id, User.standing).order_by(User.id)).all()
            roles = session.execute(sa.select(RoleHolding.user_id, RoleHolding.role).order_by(RoleHolding.id)).all()
            return [*people, *roles]

    before = powers()
    for who, rule in GRASPS:
        client = Client(world.app).sign_in(world.users[who])
        answer = client.post(address(world, "POST", rule), data={"csrf_token": value_of(client), **GRASPED})
        assert guarded(answer) < 500, (who, rule)
        assert powers() == before, (who, rule)
