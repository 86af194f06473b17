"""The pages of a model's files."""

from datetime import timedelta

import pytest

from portal.accounts.models import User
from portal.accounts.rules import Standing
from portal.catalog import service as catalog
from portal.core.db import transaction
from portal.deliveries import service as deliveries
from portal.files import service as files
from portal.usage import service as usage
from tests.site import text_of
from tests.web.shelf import CONTENTS, Site


def test_the_file_list_shows_folders_sizes_digests_and_how_to_fetch(site: Site) -> None:
    page = site.client.get("/lab/one/tree/main")
    words = text_of(page)
    assert page.status_code == 200
    assert "model.safetensors" in words
    assert "hf download lab/one" in words
    assert f"HF_ENDPOINT={site.app.settings.base_url}" in words
    assert 'from_pretrained("lab/one"' in words
    assert 'href="/lab/one/tree/main/a"' in page.get_data(as_text=True)
    assert site.client.get("/lab/one/tree/rel%2F1.0/a/b").status_code == 200
    assert 'href="/lab/one/blob/rel%2F1.0/a/b/c%20d.txt"' in site.client.get("/lab/one/tree/rel%2F1.0/a/b").get_data(
        as_text=True
    )


@pytest.mark.parametrize(
    "path",
    ["one/tree/v9", "one/tree/main/none", "none/tree/main", "one/blob/main/none", "one/blob/main", "one/commits/v9"],
)
def test_pages_of_what_is_not_there_are_not_found(site: Site, path: str) -> None:
    assert site.client.get(f"/lab/{path}").status_code == 404


def test_a_draft_has_no_pages(site: Site) -> None:
    with site.make() as make:
        catalog.ensure_model(make.session, full_name="lab/draft", now=make.now)
    assert site.client.get("/lab/draft/tree/main").status_code == 404


def test_changes_are_listed_with_the_license_of_each(site: Site) -> None:
    second = site.publish("lab/one", "Second", **{"config.json": b"{}"})
    words = text_of(site.client.get("/lab/one/commits/main"))
    assert words.index("Second") < words.index("First")
    assert second.revision in words
    assert "conduct-license 2.0.0" in words
    assert site.client.get("/lab/one/commits/main?from=5").status_code == 200
    assert site.client.get("/lab/one/commits/main?from=x").status_code == 400


def test_the_card_can_be_read_by_everybody_and_other_files_only_after_signing_in(site: Site) -> None:
    assert "# A model" in text_of(site.client.get("/lab/one/blob/main/README.md"))
    answer = site.client.get("/lab/one/blob/main/config.json")
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith("/login?next=")


def test_who_signed_reads_a_small_text_escaped_and_it_counts_as_delivered(site: Site) -> None:
    person, _ = site.person("ann")
    site.client.sign_in(person)
    page = site.client.get("/lab/one/blob/main/config.json")
    assert page.status_code == 200
    assert "&lt;b&gt;bloom&lt;/b&gt;" in page.get_data(as_text=True)
    words = text_of(page)
    for command in ("curl -fL -C -", "aria2c -c -x 8", "wget -c", "sha256sum --check", "hf download lab/one"):
        assert command in words
    assert f"{site.app.settings.base_url}/lab/one/resolve/{site.first.revision}/config.json" in words
    assert site.client.http.head("/lab/one/blob/main/config.json").status_code == 200
    with transaction(site.app.engine, write=False) as session:
        [delivery] = deliveries.own(session, user_id=person.id)
        assert (delivery.path, delivery.complete) == ("config.json", True)
        [use] = usage.own(session, user_id=person.id)
        assert (use.channel, use.bytes_sent, use.outcome.value) == ("page", len(CONTENTS["config.json"]), "finished")


@pytest.mark.parametrize("path", ["binary.dat", "model.safetensors"])
def test_what_is_large_or_no_text_is_not_shown_in_the_page(site: Site, path: str) -> None:
    person, _ = site.person("ann")
    site.client.sign_in(person)
    page = site.client.get(f"/lab/one/blob/main/{path}")
    assert page.status_code == 200
    assert "too large or no text" in text_of(page)
    with transaction(site.app.engine, write=False) as session:
        assert not deliveries.own(session, user_id=person.id)


def test_who_did_not_sign_sees_the_checklist_in_place_of_the_file(site: Site) -> None:
    person, _ = site.person("bob", signed=False)
    site.client.sign_in(person)
    page = site.client.get("/lab/one/blob/main/config.json")
    assert page.status_code == 403
    html = page.get_data(as_text=True)
    assert 'data-reason="signature_missing" data-state="unmet"' in html
    assert "bloom&lt;" not in html


def test_a_suspended_person_reads_no_file_in_the_page(site: Site) -> None:
    person, _ = site.person("ann")
    with site.make() as make:
        user = make.session.get_one(User, person.id)
        user.standing, user.standing_ref = Standing.SUSPENDED, "san_1"
        user.standing_until = make.now + timedelta(days=1)
    site.client.sign_in(person)
    assert site.client.get("/lab/one/blob/main/config.json").status_code == 403


def test_bytes_that_are_gone_are_said_to_be(site: Site) -> None:
    person, _ = site.person("ann")
    site.client.sign_in(person)
    with transaction(site.app.engine, write=False) as session:
        commit = files.find_commit(session, model_id=site.first.model_id, revision="main")
        entry = files.find_entry(session, commit_id=commit.id, path="config.json")
        assert entry is not None
    site.app.extensions["store"].path(entry.blob_sha256).unlink()
    assert site.client.get("/lab/one/blob/main/config.json").status_code == 404
