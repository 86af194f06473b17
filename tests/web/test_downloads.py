"""The Hub protocol without the bytes, and the bytes beside it."""

from urllib.parse import quote

import pytest

from portal.catalog import service as catalog
from portal.catalog.rules import ModelState
from tests.planes import data_plane
from tests.web.shelf import CONTENTS, Site

M = "/api/models/lab/one"


def test_a_model_is_described_to_everybody_as_the_hub_does(site: Site) -> None:
    info = site.json(M)
    assert (info["id"], info["sha"], info["gated"], info["private"]) == (
        "lab/one",
        site.first.revision,
        "auto",
        False,
    )
    assert [s["rfilename"] for s in info["siblings"]] == sorted(CONTENTS)
    assert info["createdAt"].endswith("Z")
    assert info["cardData"]["pipeline_tag"] == info["pipeline_tag"] == "text-generation"
    assert site.json(f"{M}/") == info, "a slash at the end changes nothing and nothing is redirected"
    assert site.json("/api//models/lab//one") == info


def test_every_way_to_name_a_revision_describes_the_same(site: Site) -> None:
    for revision in ("main", "rel%2F1.0", site.first.revision, site.first.revision[:7]):
        info = site.json(f"{M}/revision/{revision}?blobs=true")
        assert info["sha"] == site.first.revision
    weights = next(s for s in info["siblings"] if s["rfilename"] == "model.safetensors")
    assert weights["size"] == weights["lfs"]["size"] == 300_000
    assert set(site.json(f"{M}?expand=sha&expand=gated,tags")) == {"_id", "id", "sha", "gated", "tags"}


def test_parameters_are_counted_where_the_weights_are_real(site: Site) -> None:
    head = b'{"w": {"dtype": "F32", "shape": [2, 3]}}'
    body = len(head).to_bytes(8, "little") + head + b"0" * 24
    site.publish("lab/two", "Real", **{"model.safetensors": body})
    assert site.json("/api/models/lab/two")["safetensors"] == {"parameters": {"F32": 6}, "total": 6}
    assert "safetensors" not in site.json(M)


def test_a_tree_is_listed_folder_by_folder_or_whole(site: Site) -> None:
    assert [e["path"] for e in site.json(f"{M}/tree/main")] == [
        "README.md",
        "a",
        "binary.dat",
        "config.json",
        "model.safetensors",
    ]
    assert [e["path"] for e in site.json(f"{M}/tree/rel%2F1.0/a/b")] == ["a/b/c d.txt"]
    whole = site.json(f"{M}/tree/main?recursive=True&expand=False")
    assert [e["path"] for e in whole if e["type"] == "directory"] == ["a", "a/b"]
    assert all({"path", "size", "oid"} <= set(e) for e in whole)
    assert site.refused(f"{M}/tree/main/additional_chat_templates?recursive=false&expand=false")[:2] == (
        404,
        "EntryNotFound",
    )


def test_an_expanded_tree_names_the_last_commit_of_each_file(site: Site) -> None:
    site.publish("lab/one", "Second", **{"config.json": b"{}"})
    found = {e["path"]: e["lastCommit"]["title"] for e in site.json(f"{M}/tree/main?expand=true")}
    assert (found["config.json"], found["model.safetensors"], found["a"]) == ("Second", "First", "First")


def test_long_lists_come_in_pages_with_absolute_links(site: Site) -> None:
    seen, path = [], f"{M}/tree/main?recursive=true&limit=3"
    while path:
        answer = site.client.get(path)
        seen += [e["path"] for e in answer.get_json()]
        link = answer.headers.get("Link", "")
        assert not link or link.startswith(
            f"<{site.app.settings.base_url}/api/models/lab/one/tree/main?recursive=true&"
        )
        path = link.partition(">")[0].removeprefix(f"<{site.app.settings.base_url}") if link else ""
    assert seen == [e["path"] for e in site.json(f"{M}/tree/main?recursive=true")]


@pytest.mark.parametrize("query", ["limit=x", "limit=-1", "limit=1.5", f"limit={'9' * 50}"])
def test_numbers_that_are_none_are_refused_by_name(site: Site, query: str) -> None:
    for path in (f"{M}/tree/main", f"{M}/commits/main", "/api/models", "/api/datasets"):
        status, _, message = site.refused(f"{path}?{query}")
        assert (status, query.partition("=")[0] in message) == (400, True)
    assert site.refused(f"/api/models?{query.replace('limit', 'cursor')}")[0] == 400


def test_some_paths_are_described_from_a_form_or_from_json(site: Site) -> None:
    path = f"{M}/paths-info/main"
    form = site.client.post(path, data={"paths": ["config.json", "none", "a"], "expand": "False"})
    assert [e["path"] for e in form.get_json()] == ["a", "config.json"]
    sent = site.client.post(path, json={"paths": ["model.safetensors"], "expand": True})
    assert sent.get_json()[0]["lastCommit"]["title"] == "First"
    assert site.client.post(path, json={"paths": "a"}).get_json()[0]["type"] == "directory"
    assert site.client.post(path).get_json() == []
    for wrong in ({"paths": 3}, {"paths": [3]}, {"paths": ["x"] * 1001}, {}):
        answer = site.client.post(path, json=wrong)
        assert (answer.status_code, answer.headers["X-Error-Message"][:8]) == (400, "paths is")


def test_branches_tags_and_commits_are_listed(site: Site) -> None:
    site.publish("lab/one", "Second")
    second = site.publish("lab/one", "Third", **{"config.json": b"{}"})
    refs = site.json(f"{M}/refs?include_prs=1")
    assert refs["branches"] == [{"name": "main", "ref": "refs/heads/main", "targetCommit": second.revision}]
    assert [(t["name"], t["targetCommit"]) for t in refs["tags"]] == [("rel/1.0", site.first.revision)]
    assert refs["converts"] == refs["pullRequests"] == []
    assert [c["title"] for c in site.json(f"{M}/commits/main")] == ["Third", "First"], "equal files make no commit"
    one = site.client.get(f"{M}/commits/main?limit=1")
    assert [c["title"] for c in one.get_json()] == ["Third"]
    rest = site.client.get(one.headers["Link"].partition(">")[0].partition("/api")[2].join(["/api", ""]))
    [first] = rest.get_json()
    assert (first["id"], first["message"]) == (site.first.revision, "The body of the message.")
    assert first["authors"] == [{"user": "system"}]
    assert "Link" not in rest.headers


def test_models_are_listed_and_found(site: Site) -> None:
    site.publish("lab/two", "Two")
    with site.make() as make:
        catalog.ensure_model(make.session, full_name="lab/draft", now=make.now)
        make.model("desk/card")
    names = [m["id"] for m in site.json("/api/models")]
    assert names == ["desk/card", "lab/one", "lab/two"]
    assert [m["id"] for m in site.json("/api/models?author=lab&search=TWO")] == ["lab/two"]
    assert len(site.json("/api/models?filter=text-generation&gated=true")) == 2
    assert [m["id"] for m in site.json("/api/models?gated=false")] == ["desk/card"]
    assert site.json("/api/models?filter=image-to-text") == site.json("/api/models?pipeline_tag=translation") == []
    assert len(site.json("/api/models?filter=en&filter=license:other")) == 3
    assert "siblings" not in site.json("/api/models?limit=1")[0]
    assert site.json("/api/models?author=lab&full=true")[0]["siblings"]
    newest = [m["id"] for m in site.json("/api/models?sort=lastModified&direction=-1")]
    assert set(newest) == set(names)
    assert newest.index("lab/two") < newest.index("lab/one")
    first = site.client.get("/api/models?limit=2&author=lab&search=o")
    assert "Link" not in first.headers
    assert "cursor=1" in site.client.get("/api/models?limit=1&author=lab").headers["Link"]


def test_missing_models_and_revisions_are_told_apart_in_the_words_of_the_hub(site: Site) -> None:
    _, key = site.person("ann")
    for path in ("/api/models/lab/none", "/api/models/lab/none/tree/main", "/api/models/lab/none/refs"):
        assert site.refused(path) == (401, "RepoNotFound", "Invalid username or password.")
        assert site.refused(path, **key) == (404, "RepoNotFound", "Repository not found")
    assert site.refused(f"{M}/revision/v9") == (404, "RevisionNotFound", "Invalid rev id: v9")
    assert site.refused(f"{M}/discussions?p=0")[:2] == (404, None)
    with site.make() as make:
        make.model("lab/card")
    assert site.json("/api/models/lab/card")["sha"] is None
    status, code, message = site.refused("/api/models/lab/card/revision/main")
    assert (status, code) == (404, "RevisionNotFound")
    assert "its card says how to mirror them" in message


def test_a_bad_token_is_refused_with_the_exact_words_on_every_address(site: Site) -> None:
    for path in ("/api/models", M, f"{M}/tree/main", f"{M}/auth-check", "/api/whoami-v2", "/api/models/lab/none"):
        for bad in ("Bearer lmp_nonsense", "Basic eDp5", ""):
            assert site.refused(path, Authorization=bad) == (401, None, "Invalid credentials in Authorization header")


def test_a_withdrawn_model_is_described_as_switched_off(site: Site) -> None:
    with site.make() as make:
        catalog.find_model(make.session, full_name="lab/one").state = ModelState.WITHDRAWN
    assert site.json(M)["disabled"] is True
    _, key = site.person("ann")
    assert site.refused(f"{M}/auth-check", **key) == (403, None, "Access to this resource is disabled.")


def test_auth_check_gives_the_reasons_of_the_decision(site: Site) -> None:
    _, signed = site.person("ann")
    _, unsigned = site.person("bob", signed=False)
    assert site.json(f"{M}/auth-check", **signed) == {"allowed": True}
    for key, status in ((unsigned, 403), ({}, 401)):
        got, code, message = site.refused(f"{M}/auth-check", **key)
        assert (got, code) == (status, "GatedRepo")
        assert "/licenses/conduct-license/2.0.0/sign" in message
    assert site.refused("/api/models/lab/none/auth-check", **signed)[:2] == (404, "RepoNotFound")


def test_whoami_names_the_person_and_the_token(site: Site) -> None:
    person, key = site.person("ann")
    me = site.json("/api/whoami-v2", **key)
    assert (me["name"], me["email"], me["emailVerified"], me["orgs"]) == ("Ann", "ann@conduct.example", True, [])
    shown = me["auth"]["accessToken"]
    assert shown["displayName"].startswith("My-laptop-tok_")
    assert shown["role"] == "read"
    assert me["id"] == person.public_id
    assert site.refused("/api/whoami-v2")[0] == 401
    assert site.json("/api/agent-harnesses") == {"standardEnvVars": [], "harnesses": {}}


def test_git_is_told_where_to_go_without_a_web_page(site: Site) -> None:
    for answer in (
        site.client.get("/lab/one.git/info/refs?service=git-upload-pack"),
        site.client.post("/lab/one.git/git-upload-pack"),
        site.client.get("/datasets/lab/one.git/info/refs"),
    ):
        assert (answer.status_code, answer.content_type) == (404, "application/json")
        assert "hf download " in answer.get_json()["error"]
        assert "lab/one" in answer.get_json()["error"]


@pytest.mark.parametrize(
    "path", ["%00", "lab%00x/one", "lab/one/tree/%00", "lab/one/revision/%ED%A0%80", "lab/one/tree/main/%FF"]
)
def test_odd_characters_are_no_error_of_ours(site: Site, path: str) -> None:
    assert 400 <= site.client.get(f"/api/models/{path}").status_code < 500


def test_files_are_served_by_the_data_plane_with_true_lengths(site: Site) -> None:
    _, key = site.person("ann")
    with data_plane(site.app.settings) as http:
        for path, body in CONTENTS.items():
            head = http.head(f"/lab/one/resolve/main/{quote(path)}", headers=key)
            assert head.headers["Content-Length"] == str(len(body))
            assert http.get(f"/lab/one/resolve/main/{quote(path)}", headers=key).content == body
        refused = http.head("/lab/one/resolve/main/config.json")
    assert (refused.status_code, refused.headers["X-Error-Code"]) == (401, "GatedRepo")
    assert refused.headers["Content-Length"] != "0"
    assert refused.headers["X-Request-Id"]
