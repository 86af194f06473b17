"""What staff do with what was uploaded: list it, and make a card of its README.md."""

from typing import Any

import pytest

from portal.core.db import transaction
from portal.uploads import service
from tests.site import Client, text_of
from tests.web.uploading import Desk, add


@pytest.fixture
def desk(app: Any) -> Desk:
    return Desk(app)


def test_staff_list_what_they_may_upload_to(desk: Desk) -> None:
    desk.post("/api/repos/create", {"organization": "other", "name": "d", "type": "dataset"})
    desk.commit(add("a.txt", b"four"))
    mine = desk.http.get("/api/settings/repositories", headers=desk.key()).json
    assert [(row["id"], row["type"], row["storage"], row["storagePercent"], row["visibility"]) for row in mine] == [
        ("lab/m", "model", 4, 100.0, "private"), ("other/d", "dataset", 0, 0.0, "private"),
    ]  # fmt: skip
    other = desk.http.get("/api/organizations/other/settings/repositories", headers=desk.key()).json
    assert [row["id"] for row in other] == ["other/d"]
    with transaction(desk.app.engine) as session:
        own = service.catalog.find_any_model(session, full_name="lab/m")
        desk.keys["bound"] = desk.token(session, desk.people["ed"], model_ids=[own.id])
    assert [r["id"] for r in desk.http.get("/api/settings/repositories", headers=desk.key("bound")).json] == ["lab/m"]
    assert desk.http.get("/api/settings/repositories", headers=desk.key("ann")).json == []


def test_the_readme_of_a_commit_becomes_a_card_in_the_console(desk: Desk) -> None:
    readme = "---\nlicense: other\n---\n\n# Reads well\n"
    commit = desk.commit(add("README.md", readme.encode())).json["commitOid"]
    worse = desk.commit(add("README.md", b"---\na: [1\n---\n")).json["commitOid"]
    none = desk.commit(("deletedFile", {"path": "README.md"}), add("a.txt")).json["commitOid"]
    with transaction(desk.app.engine) as session:
        model = service.catalog.find_any_model(session, full_name="lab/m")
    ed = Client(desk.app).sign_in(desk.people["ed"])

    def page(revision: str) -> str:
        return f"/staff/models/{model.public_id}/release/{revision}"

    assert "Its README.md" not in text_of(ed.get(page(none)))
    assert ed.submit(page(commit), to=f"{page(none)}/card").status_code == 404
    assert "metadata of the card" in text_of(ed.submit(page(commit), to=f"{page(worse)}/card"))
    assert "Other words than the card" in text_of(ed.get(page(commit)))
    done = ed.submit(page(commit), to=f"{page(commit)}/card")
    assert (done.status_code, done.headers["Location"]) == (303, "/staff/cards/lab/m/preview")
    assert "Reads well" in text_of(ed.get(done.headers["Location"]))
    assert "the draft of the card" in text_of(ed.get(page(commit)))
    other = desk.commit(add("README.md", b"# Another\n")).json["commitOid"]
    assert "another draft" in text_of(ed.submit(page(commit), to=f"{page(other)}/card"))
    assert ed.submit(done.headers["Location"]).status_code == 303
    assert "The same words as the card" in text_of(ed.get(page(commit)))
