"""The pages of second looks at what came into force at once, and the page that says where to write."""

from typing import Any

import pytest

from portal.accounts.models import User
from portal.accounts.rules import Role
from portal.core.clock import utcnow
from portal.core.db import transaction
from tests import conduct, licensed
from tests.site import Client, make_app, text_of
from tests.web.desk import DESK, approved, confirmation, post


@pytest.fixture
def people(app: Any) -> dict[str, User]:
    """Three editors; the license is published."""
    with transaction(app.engine) as session:
        licensed.publish(session, utcnow())
        return {n: conduct.person(session, n, utcnow(), Role.LICENSE_EDITOR) for n in ("ed", "flo", "gus")}


def test_somebody_uninvolved_looks_again_at_what_came_into_force_at_once(app: Any, people: dict[str, User]) -> None:
    desk, second, third = (Client(app).sign_in(people[name]) for name in ("ed", "flo", "gus"))
    approved(desk, second, "material_immediate")
    page = f"{DESK}/1.2.0/publish-now"
    assert post(desk, page, reason="It is abused right now.").status_code == 303
    assert second.post(page, data=confirmation(second.get(page))).status_code == 303
    look = f"{DESK}/1.2.0/review"
    assert "Somebody else with the same permission" in text_of(desk.get(look))
    assert post(desk, look, finding="stands", words="Fine.").status_code == 403
    assert "before" in text_of(third.get(f"{DESK}/1.2.0"))
    assert "It is abused right now." in text_of(third.get(look))
    for fields in ({}, {"finding": "stands"}, {"words": "Fine."}, {"finding": "odd", "words": "Fine."}):
        assert post(third, look, **fields).status_code == 422
    assert post(third, look, finding="replace", words="A.1 says\r\nmore than it should.").status_code == 303
    assert post(third, look, finding="stands", words="Or not.").status_code == 409
    assert "It has to be replaced" in text_of(third.get(look))
    seen = text_of(Client(app).get("/licenses/bloom-rail/1.2.0"))
    assert "has to be replaced by a corrected version" in seen
    assert "more than it should." in seen
    assert "The second look at it" in text_of(desk.get(f"{DESK}/1.2.0"))
    assert "To be replaced" in text_of(desk.get("/staff/licenses/reviews"))
    assert third.get(f"{DESK}/1.1.0/review").status_code == 404
    figures = text_of(Client(app).get("/transparency"))
    for words in ("put in force at once 1", "Looked at again in time 1", "Overdue now 0", "have to be replaced 1"):
        assert words in figures, words


def test_the_contact_page_says_what_is_missing_or_where_to_write(app: Any, tmp_path: Any) -> None:
    bare = text_of(Client(app).get("/contact"))
    assert "The operator of this portal has not named either yet" in bare
    assert "PORTAL_CONTACT" in bare
    (tmp_path / "named").mkdir()
    named = make_app(
        tmp_path / "named", PORTAL_LICENSOR="The <Example> Consortium", PORTAL_CONTACT="license@portal.example"
    )
    page = Client(named).get("/contact")
    assert 'href="mailto:license@portal.example"' in page.get_data(as_text=True)
    words = text_of(page)
    assert "has not named" not in words
    assert "Sign on paper" in words
    assert "Report misuse" in words
    assert "Licensor: The <Example> Consortium." in text_of(Client(named).get("/"))
    named.engine.dispose()
