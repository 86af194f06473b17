"""The entrance of the console and the page of patterns."""

import re
from pathlib import Path
from typing import Any

import pytest

from portal.accounts.models import User
from portal.accounts.rules import Role
from portal.accounts.staff import PARTS
from portal.core.clock import utcnow
from portal.core.db import transaction
from tests.factories import Make
from tests.site import Client, text_of

MACROS = Path(__file__).resolve().parents[2] / "portal" / "templates" / "_ui.html"
PATTERNS = MACROS.parent / "staff" / "patterns.html"


@pytest.fixture
def people(app: Any) -> dict[str, User]:
    with transaction(app.engine) as session:
        make = Make(session, utcnow())
        return {role.value: make.person(role.value, role) for role in Role} | {"member": make.person("member")}


def hrefs(answer: Any) -> list[str]:
    return re.findall(r'<h2><a href="([^"]*)">', answer.get_data(as_text=True))


def test_the_entrance_lists_what_a_role_opens_and_nothing_else(client: Client, people: dict[str, User]) -> None:
    for role in Role:
        client.sign_in(people[role.value])
        shown = hrefs(client.get("/staff/"))
        assert "/staff/patterns" in shown
        for part in PARTS:
            status = client.get(part.href).status_code
            assert status == (200 if part.href in shown else 403), (role, part.href)
    client.sign_in(people["admin"])
    assert hrefs(client.get("/staff/")) == [part.href for part in PARTS]


def test_the_console_is_for_staff(client: Client, people: dict[str, User]) -> None:
    for path in ("/staff/", "/staff/patterns"):
        assert client.get(path).status_code == 303
    client.sign_in(people["member"])
    for path in ("/staff/", "/staff/patterns"):
        assert client.get(path).status_code == 403


def test_every_macro_is_shown_once(client: Client, people: dict[str, User]) -> None:
    names = re.findall(r"{% macro (\w+)\(", MACROS.read_text(encoding="utf-8"))
    source = PATTERNS.read_text(encoding="utf-8")
    assert [name for name in names if f"ui.{name}(" not in source] == []
    answer = client.sign_in(people["admin"]).get("/staff/patterns")
    assert answer.status_code == 200
    page = answer.get_data(as_text=True)
    assert page.count("<h1") == 1
    ids = re.findall(r'\sid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert "Write a line." in text_of(answer)
    assert re.search(r"\sstyle=|<script", page) is None
