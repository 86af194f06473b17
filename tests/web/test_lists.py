"""Lists of models come in parts, may be searched, and say when nothing is in them."""

import re
from typing import Any

import pytest

from portal.catalog.models import GatedModel
from portal.catalog.rules import ModelState
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.web.parts import A_PAGE
from tests.factories import Make
from tests.site import Client


@pytest.fixture
def many(app: Any, client: Client) -> Client:
    """More models than a page shows; the last by its name has a release."""
    with transaction(app.engine) as session:
        make = Make(session, utcnow())
        make.release(make.model("zoo/released"))
        for number in range(A_PAGE + 5):
            session.add(
                GatedModel(
                    public_id=f"mdl_{number}", namespace="lab", name=f"model-{number:03}", created_at=make.now,
                    state=ModelState.PUBLISHED,
                )
            )  # fmt: skip
        session.add(
            GatedModel(public_id="mdl_d", namespace="lab", name="draft", created_at=make.now, state=ModelState.DRAFT)
        )
    return client


def names(client: Client, path: str) -> list[str]:
    page = client.get(path)
    assert page.status_code == 200
    return re.findall(r'<h2><a href="/(?:playground/)?([^"]+)"', page.get_data(as_text=True))


def test_a_list_begins_with_what_can_be_used_and_goes_on(many: Client) -> None:
    first, second = names(many, "/"), names(many, "/?page=2")
    assert first[0] == "zoo/released"
    assert len(first) == A_PAGE
    assert (first + second)[1:] == [f"lab/model-{n:03}" for n in range(A_PAGE + 5)]
    assert 'href="/?page=2" rel="next"' in many.get("/").get_data(as_text=True)
    assert names(many, "/?page=3") == []
    for odd in ("0", "-1", "x", "9" * 400, "1e3"):
        assert many.get(f"/?page={odd}").status_code == 200


def test_a_list_is_searched_by_names(many: Client) -> None:
    assert names(many, "/?q=LAB/model-00") == [f"lab/model-{n:03}" for n in range(10)]
    assert names(many, "/?q=%25") == names(many, "/?q=model_00") == names(many, "/?q=draft") == []
    assert "Nothing here is called like that" in many.get("/?q=absent").get_data(as_text=True)
    assert 'href="/?q=lab&amp;page=2"' in many.get("/?q=lab").get_data(as_text=True)
