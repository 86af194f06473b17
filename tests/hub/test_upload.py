"""Staff upload with official clients of three generations; readers get it only once it is released."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.hub.conftest import Hub
from tests.hub.generations import GENERATIONS, Generation
from tests.hub.staff import CARD, safetensors, staff_token, write
from tests.member import Browser

NEW = GENERATIONS[0]
EVERY = pytest.mark.parametrize("generation", GENERATIONS, ids=lambda g: g.name)
WEIGHTS = safetensors(1000)


@pytest.fixture(scope="module")
def writer(hub: Hub) -> str:
    """An access token of a card editor, who may upload and release."""
    return staff_token(hub.portal, "writer@example.org")


@pytest.fixture
def wire(hub: Hub, writer: str) -> Iterator[httpx.Client]:
    """The portal as the writer's programs reach it."""
    with httpx.Client(base_url=hub.url, headers={"Authorization": f"Bearer {writer}"}, timeout=30) as client:
        yield client


def folder(root: Path) -> Path:
    return write(
        root / "a model", config__json="{}", model__safetensors=WEIGHTS, README__md=CARD, empty__bin=b"",
        sub___vocabulary__txt="a\n",
    )  # fmt: skip


def tree(wire: httpx.Client, model: str, revision: str = "main") -> dict[str, Any]:
    rows = wire.get(f"/api/models/{model}/tree/{revision}?recursive=true").json()
    return {row["path"]: row for row in rows if row["type"] == "file"}


UPLOAD = """
import os
os.environ["HF_HUB_DISABLE_XET"] = "1"
from huggingface_hub import HfApi, CommitOperationAdd, CommitOperationDelete, CommitOperationCopy
from huggingface_hub.utils import HfHubHTTPError
api = HfApi()
"""


@EVERY
def test_a_folder_is_uploaded_and_stays_with_the_staff(
    generation: Generation, hub: Hub, wire: httpx.Client, writer: str, tmp_path: Path
) -> None:
    model = f"lab/{generation.name}-folder"
    source = folder(tmp_path)
    for _ in range(2):  # the second time nothing changes
        found = generation.run(
            tmp_path, hub.url, UPLOAD + "url = api.create_repo(model, private=True, exist_ok=True)\n"
            "done = api.upload_folder(folder_path=source, repo_id=model, commit_message='First weights')\n"
            "result = [str(url), done.oid if hasattr(done, 'oid') else str(done), api.repo_info(model).sha]",
            token=writer, model=model, source=str(source),
        )  # fmt: skip
        assert found[0] == f"{hub.url}/{model}"
        assert found[1] == found[2]
    files = tree(wire, model)
    assert set(files) == {"config.json", "model.safetensors", "README.md", "empty.bin", "sub/vocabulary.txt"}
    assert files["model.safetensors"]["lfs"]["size"] == len(WEIGHTS)
    info = wire.get(f"/api/models/{model}").json()
    assert info["safetensors"] == {"parameters": {"F32": 1000}, "total": 1000}
    titles = [row["title"] for row in wire.get(f"/api/models/{model}/commits/main").json()]
    assert titles == ["First weights", "Initial commit"]
    for token in (hub.tokens["signed"], hub.tokens["unsigned"], ""):
        other = {"Authorization": f"Bearer {token}"} if token else {}
        for address in (f"/api/models/{model}", f"/api/models/{model}/tree/main", f"/{model}/resolve/main/README.md"):
            answer = httpx.get(hub.url + address, headers=other)
            assert (answer.status_code, answer.headers["X-Error-Code"]) == (404 if token else 401, "RepoNotFound")


@EVERY
def test_the_command_line_uploads_one_file_and_a_branch(
    generation: Generation, hub: Hub, wire: httpx.Client, writer: str, tmp_path: Path
) -> None:
    model = f"lab/{generation.name}-cli"
    source = folder(tmp_path)
    small, large = str(source / "config.json"), str(source / "model.safetensors")
    for args in ((model, small), (model, large, "deep/w.safetensors", "--revision", "try/1")):
        done = generation.cli(tmp_path, hub.url, "upload", *args, token=writer, HF_HUB_DISABLE_XET="1")
        assert done.returncode == 0, done.stdout + done.stderr
    assert set(tree(wire, model)) == {"config.json"}
    assert set(tree(wire, model, "try%2F1")) == {"config.json", "deep/w.safetensors"}
    refs = wire.get(f"/api/models/{model}/refs").json()
    assert {ref["name"] for ref in refs["branches"]} == {"main", "try/1"}


def test_the_newest_client_lists_what_its_person_may_upload_to(hub: Hub, writer: str, tmp_path: Path) -> None:
    done = NEW.cli(tmp_path, hub.url, "repos", "ls", "--namespace", "bigscience", "--limit", "0", token=writer)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bigscience/bloom-1b1" in done.stdout
    none = NEW.cli(tmp_path, hub.url, "repos", "ls", token=hub.tokens["signed"])
    assert (none.returncode, "bigscience" in none.stdout) == (0, False)


def test_the_newest_client_is_told_how_to_go_round_xet(hub: Hub, writer: str, tmp_path: Path) -> None:
    done = NEW.cli(tmp_path, hub.url, "upload", "lab/xet", str(folder(tmp_path)), token=writer)
    assert done.returncode != 0
    assert "set HF_HUB_DISABLE_XET=1" in done.stderr


@EVERY
def test_a_commit_adds_copies_and_deletes_at_once_on_the_commit_it_knows(
    generation: Generation, hub: Hub, wire: httpx.Client, writer: str, tmp_path: Path
) -> None:
    model = f"lab/{generation.name}-commit"
    code = (
        UPLOAD
        + """
api.create_repo(model)
first = api.upload_folder(folder_path=source, repo_id=model, commit_message="First")
parent = api.model_info(model).sha
operations = [
    CommitOperationAdd("new.txt", b"new"),
    CommitOperationCopy("model.safetensors", "copy.safetensors"),
    CommitOperationDelete("sub/", is_folder=True),
    CommitOperationDelete("config.json"),
]
done = api.create_commit(model, operations, commit_message="Many", commit_description="Why.", parent_commit=parent)
try:
    api.create_commit(model, [CommitOperationAdd("late.txt", b"late")], commit_message="Late", parent_commit=parent)
    stale = 200
except HfHubHTTPError as error:
    stale = error.response.status_code
api.create_tag(model, tag="v1", revision=done.oid, tag_message="One")
api.create_branch(model, branch="old", revision=parent)
again = []
for call in (lambda: api.create_tag(model, tag="v1"), lambda: api.create_branch(model, branch="old")):
    try:
        call()
    except HfHubHTTPError as error:
        again.append(error.response.status_code)
api.create_branch(model, branch="old", exist_ok=True)
api.create_tag(model, tag="v1", exist_ok=True)
refs = api.list_repo_refs(model)
names = [[b.name for b in refs.branches], [t.name for t in refs.tags]]
api.delete_branch(model, branch="old")
api.delete_tag(model, tag="v1")
refs = api.list_repo_refs(model)
left = [[b.name for b in refs.branches], [t.name for t in refs.tags]]
sha = api.model_info(model).sha
copies = [CommitOperationCopy("README.md", "deep/README.md"), CommitOperationCopy("README.md", "old.md", first.oid)]
copied = api.create_commit(model, copies, commit_message="Copies").oid == api.model_info(model).sha
result = [done.oid, stale, again, names, left, sha, copied]
"""
    )
    oid, stale, again, names, left, sha, copied = generation.run(
        tmp_path, hub.url, code, token=writer, model=model, source=str(folder(tmp_path))
    )
    assert (stale, again, sha, copied) == (412, [409, 409], oid, True)
    assert names == [["main", "old"], ["v1"]]
    assert left == [["main"], []]
    files = tree(wire, model)
    copies = {"deep/README.md", "old.md"}
    assert set(files) - copies == {"README.md", "copy.safetensors", "empty.bin", "model.safetensors", "new.txt"}
    assert {files[path]["oid"] for path in copies} == {files["README.md"]["oid"]}
    assert files["copy.safetensors"]["lfs"] == files["model.safetensors"]["lfs"]
    newest = wire.get(f"/api/models/{model}/commits/main").json()[1]
    assert (newest["title"], newest["message"]) == ("Many", "Why.")


LARGE_FOLDER = """
api.create_repo(model, exist_ok=True)
if hasattr(api, "upload_large_folder"):
    api.upload_large_folder(repo_id=model, folder_path=source, repo_type="model", num_workers=2, print_report=False)
else:
    api.upload_folder(repo_id=model, folder_path=source)
result = sorted(api.list_repo_files(model))
"""


@EVERY
def test_many_files_come_in_whole(generation: Generation, hub: Hub, writer: str, tmp_path: Path) -> None:
    source = tmp_path / "many"
    for number in range(30):
        write(source / f"part{number % 3}", **{f"w{number}__safetensors": safetensors(100, number)})
    write(source, **{f"t{number}__txt": f"{number}" for number in range(30)})
    names = generation.run(
        tmp_path, hub.url, UPLOAD + LARGE_FOLDER, token=writer, model=f"lab/{generation.name}-many", source=str(source)
    )
    assert names == sorted(p.relative_to(source).as_posix() for p in source.rglob("*.*") if ".cache" not in p.parts)


REFUSED = """
said = {}
for name, call in {
    "create": lambda: api.create_repo("lab/none"),
    "upload": lambda: api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=model),
    "branch": lambda: api.create_branch(model, branch="b"),
}.items():
    try:
        call()
        said[name] = "done"
    except HfHubHTTPError as error:
        said[name] = f"{error.response.status_code} {error}"
result = said
"""


@EVERY
def test_members_are_refused_in_words_of_the_hub(generation: Generation, hub: Hub, tmp_path: Path) -> None:
    said = generation.run(tmp_path, hub.url, UPLOAD + REFUSED, token=hub.tokens["signed"], model="demo/bloom-tiny")
    for text in said.values():
        assert text.startswith("403 ")
        assert "weights:write" in text


def test_a_member_is_given_no_access_token_for_staff(hub: Hub) -> None:
    with pytest.raises(AssertionError, match="weights:write is for staff"):
        hub.portal.cli("tokens", "issue", "signed@example.org", "--name", "w", "--scope", "weights:write")


def test_what_is_released_in_the_console_is_what_readers_get(
    hub: Hub, wire: httpx.Client, writer: str, tmp_path: Path
) -> None:
    model = "lab/released"
    first = NEW.run(
        tmp_path, hub.url, UPLOAD + "api.create_repo(model)\n"
        "result = api.upload_folder(folder_path=source, repo_id=model, commit_message='First').oid",
        token=writer, model=model, source=str(folder(tmp_path)),
    )  # fmt: skip
    with Browser(hub.url) as browser:
        link = hub.portal.cli("staff", "add", "writer@example.org", "--role", "card_editor").strip()
        browser.open(link)
        browser.send(browser.form("csrf_token"))
        page = browser.open(f"/{model}/commit/{first}")
        assert "write its card" in page
        browser.open(f"/staff/cards/{model}/edit")
        browser.send(browser.form("text", "note"), text=CARD, note="First")
        browser.send(browser.form("shown_sha256"))
        browser.open(f"/{model}/commit/{first}")
        browser.send(browser.form("license"), license="bloom-rail")
        assert "Released" in browser.page.text
    reader = {"Authorization": f"Bearer {hub.tokens['signed']}"}
    assert httpx.get(f"{hub.url}/{model}/resolve/main/model.safetensors", headers=reader).content == WEIGHTS
    second = NEW.run(
        tmp_path, hub.url, UPLOAD + "result = api.upload_file(path_or_fileobj=b'2', path_in_repo='second.txt', "
        "repo_id=model).oid", token=writer, model=model,
    )  # fmt: skip
    # What is uploaded meanwhile changes nothing for readers: they go on getting the release, and nothing else.
    assert httpx.get(f"{hub.url}/api/models/{model}", headers=reader).json()["sha"] == first
    answer = httpx.get(f"{hub.url}/{model}/resolve/main/config.json", headers=reader)
    assert (answer.status_code, answer.headers["X-Repo-Commit"]) == (200, first)
    for address in (f"/{model}/resolve/{second}/second.txt", f"/{model}/resolve/{second}/README.md"):
        answer = httpx.get(hub.url + address, headers=reader)
        assert (answer.status_code, answer.headers["X-Error-Code"]) == (404, "RevisionNotFound")
    assert httpx.get(f"{hub.url}/api/models/{model}/tree/{second}", headers=reader).status_code == 404
    assert wire.get(f"/api/models/{model}").json()["sha"] == second
