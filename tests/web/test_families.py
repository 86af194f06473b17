"""The page of a family: siblings by size, and whether the reader's signature opens them."""

from typing import Any

import pytest

from portal.catalog import service as catalog
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.db import transaction
from tests.factories import Make
from tests.site import Client, text_of

CARD = (
    "---\nlicense: other\nportal:\n  family: Buds\n  parameters: {}\n  license: {}\n  source: counted\n---\n\n# A bud\n"
)


@pytest.fixture
def people(app: Any) -> dict[str, Any]:
    """Two siblings, one with weights, a stranger to the family, and readers."""
    with transaction(app.engine) as session:
        make = Make(session, utcnow())
        slug = make.license().slug
        for name, parameters in (("small", 1 << 30), ("large", 1 << 33)):
            text = CARD.format(parameters, slug)
            catalog.sync_card(session, full_name=f"buds/{name}", text=text, by=SYSTEM, now=utcnow())
        make.model("buds/stranger")
        make.release(catalog.find_model(session, full_name="buds/small"))
        signed, bare, old = make.person("signed"), make.person("bare"), make.person("old")
        make.sign(signed)
        make.sign(old, "1.0.0")
        return {"signed": signed, "bare": bare, "old": old}


def page(app: Any, person: Any = None) -> str:
    client = Client(app)
    return text_of((client.sign_in(person) if person else client).get("/buds/small/family"))


def test_a_family_by_size_with_what_each_takes(app: Any, people: dict[str, Any]) -> None:
    words = page(app)
    assert words.index("large") < words.index("small 1.07 B")
    assert "16 GiB" in words  # 2 ** 33 parameters of two bytes
    assert "stranger" not in words
    assert "2 of these models share it: one signature opens all of them." in words
    assert "Sign in to see whether yours does." in words
    assert Client(app).get("/buds/stranger/family").status_code == 404
    assert Client(app).get("/buds/none/family").status_code == 404
    assert "/buds/small/family" in Client(app).get("/buds/small").get_data(as_text=True)
    assert "/family" not in Client(app).get("/buds/stranger").get_data(as_text=True)


def test_readers_see_whether_their_signature_opens_it(app: Any, people: dict[str, Any]) -> None:
    assert "Your signature of version 2.0.0 does." in page(app, people["signed"])
    assert "Read and sign it" in page(app, people["bare"])
    assert "sign the new version" in page(app, people["old"])
