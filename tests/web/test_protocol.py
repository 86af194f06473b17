"""What a Hub client may ask and is told: every address of the read side, every situation, every trap known to us."""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from portal.accounts.rules import Role
from portal.catalog import service as catalog
from portal.catalog.rules import ModelState
from portal.core.actor import SYSTEM
from portal.files.rules import git_oid, pointer
from portal.tokens import service as tokens
from tests import conduct
from tests.planes import ask_either, data_plane
from tests.running import ROOT
from tests.web.shelf import CONTENTS, Site

ODD = "sub dir/a+b #1%?é.txt"
ODD_QUOTED = "sub%20dir/a%2Bb%20%231%25%3F%C3%A9.txt"
EMPTY = "empty.safetensors"
MISSING = "Entry not found"
BAD = "Invalid credentials in Authorization header"


@pytest.fixture
def shelf(site: Site) -> tuple[Site, dict[str, dict[str, str]]]:
    """A site with something in every situation, and the headers of its callers."""
    site.publish("lab/one", "Odd names", **{ODD: b"odd", EMPTY: b""})
    site.publish("datasets/lab/texts", "Texts", **{"data/train.jsonl": b'{"text": "a"}\n'})
    site.publish("lab/before", "Renamed later")
    site.publish("lab/off", "Withdrawn later")
    with site.make() as make:
        make.model("lab/card")
        catalog.ensure_model(make.session, full_name="lab/draft", now=make.now)
        renamed = catalog.find_model(make.session, full_name="lab/before")
        catalog.rename(make.session, model=renamed, to="lab/after", by=SYSTEM, now=make.now)
        catalog.find_model(make.session, full_name="lab/off").state = ModelState.WITHDRAWN
    signed, key = site.person("ann")
    _, unsigned = site.person("bob", signed=False)
    with site.make() as make:
        made = {
            name: tokens.issue(
                make.session, by=conduct.acting(signed), owner_id=signed.id, name=name, scopes=scopes, model_ids=models,
                days=1, pepper=site.app.settings.pepper, now=make.now,
            )[1]
            for name, scopes, models in (
                ("scope", ["inference"], []),
                ("bound", ["weights:read"], [catalog.find_model(make.session, full_name="lab/off").id]),
            )
        }  # fmt: skip
    keys = {name: {"Authorization": f"Bearer {secret}"} for name, secret in made.items()}
    return site, {"": {}, "signed": key, "unsigned": unsigned, "bad": {"Authorization": "Bearer lmp_no"}, **keys}


@dataclass(frozen=True)
class Row:
    """One question and what it is answered.

    Args:
        who: whose access token goes with it; empty for none.
        status, code, says: of the answer; `code` is X-Error-Code, `says` is part of X-Error-Message.
        holds: looks at the answer.
    """

    path: str
    who: str = "signed"
    status: int = 200
    code: str | None = None
    says: str = ""
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    holds: Callable[[Any], object] = lambda _: True
    body: Any = None


A, R, D = "/api/models/lab/one", "/lab/one/resolve", "/datasets/lab/texts/resolve"
SAYS_SIGN = "/licenses/conduct-license/2.0.0/sign"
WEIGHTS = CONTENTS["model.safetensors"]
LARGE = sha256(WEIGHTS).hexdigest()


def header(name: str, value: str) -> Callable[[Any], object]:
    return lambda answer: answer.headers.get(name) == value


def both(*parts: Callable[[Any], object]) -> Callable[[Any], object]:
    return lambda answer: all(part(answer) for part in parts)


def body(value: bytes) -> Callable[[Any], object]:
    return lambda answer: answer.get_data() == value


def ids(*names: str) -> Callable[[Any], object]:
    return lambda answer: [row["id"] for row in answer.get_json()] == list(names)


def has(*names: str) -> Callable[[Any], object]:
    def look(answer: Any) -> bool:
        rows = answer.get_json()
        return all(set(names) <= set(row) for row in (rows if isinstance(rows, list) else [rows]))

    return look


ROWS: dict[str, Row] = {
    # Downloads
    "a regular file": Row(f"{R}/main/config.json", holds=both(
        body(CONTENTS["config.json"]), header("ETag", f'"{git_oid(CONTENTS["config.json"])}"'),
        lambda a: "X-Linked-Size" not in a.headers and len(a.headers["X-Repo-Commit"]) == 40,
        header("Content-Length", str(len(CONTENTS["config.json"]))), header("Accept-Ranges", "bytes"),
    )),
    "a large file": Row(f"{R}/main/model.safetensors", method="HEAD", holds=both(
        header("ETag", f'"{LARGE}"'), header("X-Linked-Etag", f'"{LARGE}"'), header("X-Linked-Size", "300000"),
        header("Content-Length", "300000"),
    )),
    "the last bytes": Row(f"{R}/main/model.safetensors", status=206, headers={"Range": "bytes=-3"},
                          holds=header("Content-Range", "bytes 299997-299999/300000")),
    "a probe of the Rust client": Row(f"{R}/main/model.safetensors", status=206, headers={"Range": "bytes=0-0"},
                                      holds=both(body(b"w"), header("Content-Range", "bytes 0-0/300000"))),
    "a resumed download": Row(f"{R}/main/model.safetensors", status=206, headers={"Range": "bytes=299990-"},
                              holds=body(b"w" * 10)),
    "a range at the end": Row(f"{R}/main/model.safetensors", status=416, headers={"Range": "bytes=300000-"},
                              holds=header("Content-Range", "bytes */300000")),
    "a file by tag": Row(f"{R}/rel%2F1.0/a/b/c%20d.txt", holds=body(b"deep")),
    "a file by tag with a slash as it is": Row(f"{R}/rel/1.0/a/b/c%20d.txt", status=404, code="RevisionNotFound"),
    "an odd name": Row(f"{R}/main/{ODD_QUOTED}", holds=both(
        body(b"odd"), lambda a: "filename*=UTF-8''a%2Bb%20%231%25%3F%C3%A9.txt" in a.headers["Content-Disposition"])),
    "an empty file": Row(f"{R}/main/{EMPTY}", method="HEAD", holds=both(
        header("Content-Length", "0"), header("ETag", f'"{git_oid(b"")}"'))),
    "an empty file, fetched": Row(f"{R}/main/{EMPTY}", holds=body(b"")),
    "a doubled slash": Row("/lab//one/resolve//main/config.json", holds=body(CONTENTS["config.json"])),
    "a file of a dataset": Row(f"{D}/main/data/train.jsonl", holds=body(b'{"text": "a"}\n')),
    "a file that could be a page": Row(f"{R}/main/README.md", who="", holds=both(
        lambda a: a.headers["Content-Disposition"].startswith("attachment"),
        header("X-Content-Type-Options", "nosniff"), lambda a: "sandbox" in a.headers["Content-Security-Policy"])),
    "a renamed model": Row("/lab/before/resolve/rel%2F1/a%20b", status=307,
                           holds=header("Location", "/lab/after/resolve/rel%2F1/a%20b")),
    "a renamed model under its new name": Row("/lab/after/resolve/main/config.json"),
    # Descriptions
    "info": Row(A, who="", holds=has("id", "sha", "siblings", "modelId", "author", "private", "gated", "disabled",
                                     "lastModified", "createdAt", "tags", "cardData", "usedStorage")),
    "info with sizes": Row(f"{A}?blobs=true", holds=lambda a: all(
        {"size", "blobId"} <= set(s) for s in a.get_json()["siblings"])),
    "info, some fields": Row(f"{A}?expand=sha&expand=tags", holds=lambda a: set(a.get_json()) == {
        "_id", "id", "sha", "tags"}),
    "info of a renamed model": Row("/api/models/lab/before", holds=lambda a: a.get_json()["id"] == "lab/after"),
    "info of a card": Row("/api/models/lab/card", holds=lambda a: a.get_json()["sha"] is None),
    "info at a revision": Row(f"{A}/revision/rel%2F1.0", holds=has("sha", "siblings")),
    "info of a dataset": Row("/api/datasets/lab/texts", holds=both(
        has("id", "sha", "siblings", "cardData"), lambda a: a.get_json()["id"] == "lab/texts")),
    "a dataset at a revision": Row("/api/datasets/lab/texts/revision/main", holds=has("sha")),
    "a dataset is no model": Row("/api/models/lab/texts", status=404, code="RepoNotFound"),
    "a tree": Row(f"{A}/tree/main?recursive=True&expand=False", holds=has("type", "path", "size", "oid")),
    "a tree with changes": Row(f"{A}/tree/main?expand=true", holds=has("lastCommit")),
    "a folder": Row(f"{A}/tree/rel%2F1.0/a/b", holds=lambda a: [r["path"] for r in a.get_json()] == ["a/b/c d.txt"]),
    "a folder with an odd name": Row(f"{A}/tree/main/sub%20dir", holds=lambda a: a.get_json()[0]["path"] == ODD),
    "a folder that is not there": Row(f"{A}/tree/main/additional_chat_templates?recursive=false", status=404,
                                      code="EntryNotFound"),
    "a tree of a dataset": Row("/api/datasets/lab/texts/tree/main/data", holds=has("oid")),
    "the next page of a tree": Row(f"{A}/tree/main?limit=1", holds=lambda a: a.headers["Link"].startswith("<http")),
    "a large file in a tree": Row(f"{A}/tree/main", holds=lambda a: a.get_json()[-2]["lfs"] == {
        "oid": LARGE, "size": 300000, "pointerSize": len(pointer(LARGE, 300000))}),
    "some paths, from a form": Row(f"{A}/paths-info/main", method="POST", holds=lambda a: [
        r["path"] for r in a.get_json()] == ["a", "config.json"],
        body={"data": {"paths": ["config.json", "a", "none"], "expand": "False"}}),
    "some paths, from JSON": Row(f"{A}/paths-info/main", method="POST", body={"json": {"paths": [ODD]}},
                                 holds=lambda a: len(a.get_json()) == 1),
    "some paths of a dataset": Row("/api/datasets/lab/texts/paths-info/main", method="POST",
                                   body={"json": {"paths": ["data"]}}, holds=has("oid")),
    "refs": Row(f"{A}/refs?include_prs=1", holds=has("branches", "tags", "converts", "pullRequests")),
    "refs of a dataset": Row("/api/datasets/lab/texts/refs", holds=has("branches", "tags", "converts")),
    "commits": Row(f"{A}/commits/main", who="", holds=has("id", "title", "message", "date", "authors")),
    "the next page of commits": Row(f"{A}/commits/main?limit=1", holds=lambda a: 'rel="next"' in a.headers["Link"]),
    "may I": Row(f"{A}/auth-check", holds=has("allowed")),
    "may I, in a dataset": Row("/api/datasets/lab/texts/auth-check", holds=has("allowed")),
    "may I, under the old name": Row("/api/models/lab/before/auth-check", holds=has("allowed")),
    "may I, unsigned": Row(f"{A}/auth-check", who="unsigned", status=403, code="GatedRepo", says=SAYS_SIGN),
    "may I, without a token": Row(f"{A}/auth-check", who="", status=401, code="GatedRepo", says="/login"),
    "may I write, without a token": Row(f"{A}/auth-check/write", who="", status=401, says="may write to lab/one"),
    "may I write, to read only": Row(f"{A}/auth-check/write", status=403, says="weights:write"),
    "models": Row("/api/models?author=lab", who="", holds=ids("lab/after", "lab/card", "lab/off", "lab/one")),
    "models by words": Row("/api/models?search=ON", who="", holds=ids("lab/one")),
    "models by tag": Row("/api/models?filter=license:other&filter=en&author=lab&limit=1", who="", holds=both(
        ids("lab/after"), lambda a: "cursor=1" in a.headers["Link"])),
    "models, newest first": Row("/api/models?sort=createdAt&direction=-1&limit=1", who="", holds=ids("lab/card")),
    "models with their files": Row("/api/models?full=true&search=one", who="", holds=has("siblings")),
    "datasets": Row("/api/datasets", who="", holds=ids("lab/texts")),
    "who am I": Row("/api/whoami-v2", holds=has("name", "orgs", "type", "id", "fullname", "email", "auth")),
    "harnesses": Row("/api/agent-harnesses", who="", holds=has("standardEnvVars", "harnesses")),
    "spaces": Row("/api/spaces/lab/one", status=404, code="RepoNotFound"),
    "discussions": Row(f"{A}/discussions?p=0", status=404, code=None, says="no discussions"),
    "discussions of a dataset": Row("/api/datasets/lab/texts/discussions", status=404, says="no discussions"),
    # Situations
    "gated, no token": Row(f"{R}/main/config.json", who="", status=401, code="GatedRepo",
                           says="Access to model lab/one", holds=lambda a: a.get_json()["error"]),
    "gated, not signed": Row(f"{R}/main/config.json", who="unsigned", status=403, code="GatedRepo", says=SAYS_SIGN,
                             holds=both(lambda a: SAYS_SIGN in a.headers["X-HF-Warning"],
                                        lambda a: SAYS_SIGN in a.get_json()["error"])),
    "gated, not signed, HEAD": Row(f"{R}/main/config.json", who="unsigned", method="HEAD", status=403, code="GatedRepo",
                                   says=SAYS_SIGN),
    "gated dataset, not signed": Row(f"{D}/main/data/train.jsonl", who="unsigned", status=403, code="GatedRepo",
                                     says=SAYS_SIGN),
    "gated, range": Row(f"{R}/main/config.json", who="unsigned", headers={"Range": "bytes=1-"}, status=403,
                        code="GatedRepo"),
    "bad token": Row(f"{R}/main/config.json", who="bad", status=401, says=BAD),
    "bad token, API": Row(A, who="bad", status=401, says=BAD),
    "bad token, what is open": Row(f"{R}/main/README.md", who="bad", status=401, says=BAD),
    "wrong scope": Row(f"{R}/main/config.json", who="scope", status=403, code="GatedRepo", says="weights:read"),
    "bound to another model": Row(f"{R}/main/config.json", who="bound", status=403, code="GatedRepo", says="bound to"),
    "no such model, no token": Row("/api/models/lab/none", who="", status=401, code="RepoNotFound",
                                   says="Invalid username or password."),
    "no such model": Row("/api/models/lab/none", status=404, code="RepoNotFound", says="Repository not found"),
    "no such model, bytes": Row("/lab/none/resolve/main/x", status=404, code="RepoNotFound"),
    "a draft": Row("/api/models/lab/draft", status=404, code="RepoNotFound"),
    "a draft, bytes": Row("/lab/draft/resolve/main/x", status=404, code="RepoNotFound"),
    "no such revision": Row(f"{A}/revision/v9", status=404, code="RevisionNotFound", says="Invalid rev id: v9"),
    "no such revision, bytes": Row(f"{R}/v9/config.json", status=404, code="RevisionNotFound"),
    "no such file": Row(f"{R}/main/none.json", status=404, code="EntryNotFound", says=MISSING,
                        holds=lambda a: len(a.headers["X-Repo-Commit"]) == 40),
    "switched off": Row("/lab/off/resolve/main/config.json", status=403, says="Access to this resource is disabled."),
    "switched off, described": Row("/api/models/lab/off", holds=lambda a: a.get_json()["disabled"] is True),
    "card only": Row("/lab/card/resolve/main/config.json", status=404, code="RevisionNotFound"),
    "malformed": Row(f"{A}/tree/main?limit=many", status=400, says="limit is a whole number"),
    "malformed body": Row(f"{A}/paths-info/main", method="POST", body={"json": {"paths": 3}}, status=400,
                          says="paths is"),
    "git": Row("/lab/one.git/info/refs?service=git-upload-pack", status=404, says="git is not spoken here"),
    "git, a dataset": Row("/datasets/lab/texts.git/info/refs", status=404, says="--repo-type dataset lab/texts"),
    "an address of nothing": Row("/api/models/lab", status=404),
}  # fmt: skip


@pytest.fixture
def ask(shelf: tuple[Site, dict[str, dict[str, str]]]) -> Iterator[Callable[[Row], Any]]:
    site, keys = shelf
    with data_plane(site.app.settings) as plane:
        yield lambda row: ask_either(
            site.client, plane, row.path, method=row.method, headers={**keys[row.who], **row.headers},
            **(row.body or {}),
        )  # fmt: skip


def test_every_question_of_the_protocol_is_answered_as_clients_expect(ask: Callable[[Row], Any]) -> None:
    wrong = []
    for name, row in ROWS.items():
        answer = ask(row)
        got = (answer.status_code, answer.headers.get("X-Error-Code"))
        said = answer.headers.get("X-Error-Message", "")
        if got != (row.status, row.code) or row.says not in said or not row.holds(answer):
            wrong.append((name, got, said, dict(answer.headers)))
        assert "X-Request-Id" in answer.headers, name
        assert not any(field.lower().startswith("x-xet") for field in answer.headers.keys()), name  # noqa: SIM118
        assert "xet" not in answer.headers.get("Link", ""), name
    assert wrong == []


def test_a_head_is_answered_as_its_get_in_every_state(ask: Callable[[Row], Any]) -> None:
    for name, row in ROWS.items():
        if row.method == "GET" and "/resolve/" in row.path and row.status not in {206, 416}:
            get, head = ask(row), ask(Row(row.path, row.who, method="HEAD", headers=row.headers))
            assert (head.status_code, head.get_data()) == (get.status_code, b""), name
            if get.status_code == 200:
                assert int(head.headers["Content-Length"]) == len(get.get_data()), name
                kept = {"ETag", "X-Repo-Commit", "X-Linked-Size", "X-Linked-Etag", "Accept-Ranges"}
                assert {k: head.headers.get(k) for k in kept} == {k: get.headers.get(k) for k in kept}


def test_short_names_of_commits_are_taken_from_seven_digits_on(shelf: tuple[Site, dict[str, dict[str, str]]]) -> None:
    site, keys = shelf
    sha = site.json(A)["sha"]
    with data_plane(site.app.settings) as plane:
        for length, status in ((40, 200), (12, 200), (7, 200), (6, 404)):
            assert plane.get(f"{R}/{sha[:length]}/config.json", headers=keys["signed"]).status_code == status
            assert site.client.get(f"{A}/revision/{sha[:length]}").status_code == status


def test_every_commit_stays_for_ever_and_keeps_its_license(shelf: tuple[Site, dict[str, dict[str, str]]]) -> None:
    site, keys = shelf
    old = f"{R}/{site.first.revision}"
    with data_plane(site.app.settings) as plane:
        assert plane.get(f"{old}/config.json", headers=keys["signed"]).status_code == 200
        assert plane.get(f"{old}/{ODD_QUOTED}", headers=keys["signed"]).status_code == 404, "it came later"
        assert plane.get(f"{old}/config.json", headers=keys["unsigned"]).status_code == 403


def test_pages_of_a_renamed_model_lead_to_its_name_and_those_of_a_dataset_are_its_own(
    shelf: tuple[Site, dict[str, dict[str, str]]],
) -> None:
    site, _ = shelf
    for path in ("", "/tree/main/a", "/commits/main", "/blob/main/README.md", "/card/1"):
        answer = site.client.get(f"/lab/before{path}?lang=en")
        assert (answer.status_code, answer.headers["Location"]) == (308, f"/lab/after{path}?lang=en")
        assert site.client.get(f"/lab/after{path}").status_code == 200
        assert site.client.get(f"/datasets/lab/texts{path}").status_code == 200
        assert site.client.get(f"/lab/texts{path}").status_code == 404
    words = site.client.get("/datasets/lab/texts/tree/main/data").get_data(as_text=True)
    assert "hf download lab/texts --repo-type dataset --revision" in words
    listed = site.client.get("/datasets").get_data(as_text=True)
    assert 'href="/datasets/lab/texts"' in listed
    assert "lab/one" not in listed
    assert "lab/texts" not in site.client.get("/").get_data(as_text=True)


def test_nothing_but_a_former_name_is_redirected(ask: Callable[[Row], Any]) -> None:
    sent = {name: ask(row) for name, row in ROWS.items()}
    assert [name for name, answer in sent.items() if 300 <= answer.status_code < 400] == ["a renamed model"]
    assert sent["a renamed model"].headers["Location"].startswith("/"), "relative, which every generation follows"


# What goes wrong with servers of this protocol, and the test that keeps it from going wrong here.
HERE, EVERY = "web/test_protocol.py::", "test_every_question_of_the_protocol_is_answered_as_clients_expect"
TRAPS = {
    "a HEAD that promises no bytes": f"{HERE}test_a_head_is_answered_as_its_get_in_every_state",
    "a redirect within the portal, or out of it": f"{HERE}test_nothing_but_a_former_name_is_redirected",
    "a slash within a revision": f"{HERE}{EVERY}",
    "names that routes misread": "rules/test_catalog.py::test_a_name_that_clients_or_routes_could_misread_is_refused",
    "namespaces that are pages": "rules/test_catalog.py::test_namespaces_of_pages_are_kept",
    "an endpoint that ends in a slash": "hub/test_conformance.py::test_each_client_does_what_the_table_says",
    "a POST that becomes a GET": f"{HERE}test_nothing_but_a_former_name_is_redirected",
    "leave that is only looked at once": ("hub/test_cut.py::test_a_running_download_is_cut_by_the_suspension"),
    "files that need not be there": "edge/test_resolve.py::test_missing_revisions_and_files_are_told_apart",
    "digests that no client checks": (
        "hub/test_programs.py::test_damaged_bytes_are_refused_by_programs_that_check_and_then_by_the_portal"
    ),
    "weights that make clients phone home": f"{HERE}{EVERY}",
    "a license bound to a name instead of a commit": f"{HERE}test_every_commit_stays_for_ever_and_keeps_its_license",
    "short names of commits": f"{HERE}test_short_names_of_commits_are_taken_from_seven_digits_on",
    "words that no header can carry": "rules/test_downloads.py::test_a_header_is_one_line_of_printable_latin_1",
    "a cache that hides a refusal": "hub/test_clients.py::test_each_refusal_raises_what_its_client_generation_expects",
    "the page where to sign, in three places": f"{HERE}{EVERY}",
    "a probe of one byte": f"{HERE}{EVERY}",
    "empty files": "hub/test_conformance.py::test_each_client_does_what_the_table_says",
    "git": "web/test_downloads.py::test_git_is_told_where_to_go_without_a_web_page",
    "files that a browser would run": f"{HERE}{EVERY}",
    "Xet": f"{HERE}{EVERY}",
}


@pytest.mark.parametrize("trap", TRAPS)
def test_each_known_trap_has_its_test(trap: str) -> None:
    path, _, name = TRAPS[trap].partition("::")
    tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, Path(path)


def test_staff_with_a_token_to_write_are_told_that_they_may(shelf: tuple[Site, dict[str, dict[str, str]]]) -> None:
    site, _ = shelf
    with site.make() as make:
        editor = make.person("ed", Role.CARD_EDITOR)
        secrets = {
            scope: tokens.issue(
                make.session, by=conduct.acting(editor, Role.CARD_EDITOR), owner_id=editor.id, name=scope,
                scopes=[scope], model_ids=[], days=1, pepper=site.app.settings.pepper, now=make.now,
            )[1]
            for scope in ("weights:write", "weights:read")
        }  # fmt: skip
    for scope, status in (("weights:write", 200), ("weights:read", 403)):
        key = {"Authorization": f"Bearer {secrets[scope]}"}
        assert site.client.get(f"{A}/auth-check/write", headers=key).status_code == status
