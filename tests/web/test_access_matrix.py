"""The access matrix is complete and true."""

import re
from collections.abc import Iterator
from html import unescape
from typing import Any

import httpx
import pytest

from portal.main_edge import Edge
from tests.planes import data_plane
from tests.site import Client, make_app
from tests.web.access_matrix import DATA_PLANE, PAGES, PROGRAM_ADDRESSES
from tests.web.world import PEOPLE, PROGRAMS, World, address, build

GUARD = {
    "X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'", "Referrer-Policy": "-",
    "Cross-Origin-Resource-Policy": "same-origin", "X-Request-Id": "req_", "Cache-Control": "-",
}  # fmt: skip
EVERY = ("DELETE", "GET", "PATCH", "POST", "PUT")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Everybody and everything."""
    app = make_app(tmp_path_factory.mktemp("matrix"))
    yield build(app)
    app.engine.dispose()


@pytest.fixture(scope="module")
def plane(world: World) -> Iterator[httpx.Client]:
    """The data plane beside it."""
    with data_plane(world.app.settings) as client:
        yield client


def as_person(world: World, who: str, method: str, path: str) -> int:
    client = Client(world.app)
    if who != "anonymous":
        client.sign_in(world.users[who])
    if method == "GET":
        return int(client.get(path).status_code)
    page = client.get("/login" if who == "anonymous" else "/transparency").get_data(as_text=True)
    token = unescape(re.findall(r'name="csrf_token"[^>]*value="([^"]*)"', page)[0])
    return int(client.post(path, data={"csrf_token": token}).status_code)


def as_program(world: World, http: Any, who: str, method: str, path: str) -> int:
    headers = {"Authorization": f"Bearer {world.secrets[who]}"} if world.secrets[who] else {}
    body = {"json": {"model": "lab/model", "prompt": "x"} if "/v1" in path else {}} if method != "GET" else {}
    answer = http(path, method=method, headers=headers, **body)
    for name, value in GUARD.items():
        assert value in answer.headers[name], (name, path)
    return int(answer.status_code)


def test_every_address_has_a_row_and_every_row_an_address(world: World) -> None:
    rules = [rule for rule in world.app.url_map.iter_rules() if rule.endpoint != "static"]
    addresses = {f"{method} {rule.rule}" for rule in rules for method in rule.methods - {"HEAD", "OPTIONS"}}
    assert addresses == PAGES.keys() | PROGRAM_ADDRESSES.keys()
    edge = Edge(world.app.settings)
    edge.close()
    found = {f"{m} {path}" for path, methods, _ in edge.routes.listed for m in methods.split() or EVERY if m != "HEAD"}
    assert found == DATA_PLANE.keys()


@pytest.mark.threat("TM-30")
@pytest.mark.parametrize("row", PAGES)
def test_pages(world: World, row: str) -> None:
    method, rule = row.split(" ", 1)
    path = address(world, method, rule)
    found = {who: as_person(world, who, method, path) for who in PEOPLE}
    assert found == dict(zip(PEOPLE, map(int, PAGES[row].split()), strict=True))


@pytest.mark.threat("TM-30")
@pytest.mark.parametrize("row", PROGRAM_ADDRESSES)
def test_addresses_for_programs(world: World, row: str) -> None:
    method, rule = row.split(" ", 1)
    path = address(world, method, rule)
    found = {who: as_program(world, world.app.test_client().open, who, method, path) for who in PROGRAMS}
    assert found == dict(zip(PROGRAMS, map(int, PROGRAM_ADDRESSES[row].split()), strict=True))


@pytest.mark.threat("TM-30")
@pytest.mark.parametrize("row", DATA_PLANE)
def test_addresses_of_the_data_plane(world: World, plane: httpx.Client, row: str) -> None:
    def ask(path: str, *, method: str, **kept: Any) -> httpx.Response:
        return plane.request(method, path, **kept)

    method, rule = row.split(" ", 1)
    path = address(world, method, rule)
    found = {who: as_program(world, ask, who, method, path) for who in PROGRAMS}
    assert found == dict(zip(PROGRAMS, map(int, DATA_PLANE[row].split()), strict=True))


def test_a_form_without_its_value_is_refused_everywhere(world: World) -> None:
    for row in PAGES:
        method, rule = row.split(" ", 1)
        if method == "POST":
            client = Client(world.app).sign_in(world.users["admin"])
            assert client.post(address(world, method, rule), data={}).status_code == 400, row
            foreign = client.post(address(world, method, rule), headers={"Origin": "https://evil.example"})
            assert foreign.status_code == 403, row
