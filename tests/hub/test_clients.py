"""Three generations of unmodified Hub clients download, resume, are refused, and say why."""

import hashlib
import shutil
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from portal.core.db import make_engine, transaction
from portal.deliveries.models import Delivery
from portal.files.rules import git_oid
from tests.hub.conftest import LARGE, LARGE_BYTES, Hub
from tests.hub.generations import GENERATIONS, Generation, Wire
from tests.running import ROOT

DEMO = "demo/bloom-tiny"
SOURCE = ROOT / "gated_inference" / "demo" / "model"
NEW, MID, OLD = GENERATIONS
each_generation = pytest.mark.parametrize("generation", GENERATIONS, ids=lambda g: g.name)

REFUSALS = """
import io, logging, os
from huggingface_hub import hf_hub_download, snapshot_download, HfApi
said = io.StringIO()
logging.getLogger("huggingface_hub").addHandler(logging.StreamHandler(said))
result = {}
for name, (what, repo, revision, file, token) in cases.items():
    kept = dict(cache_dir=os.path.join(os.environ["HF_HOME"], name), token=token or False, revision=revision)
    try:
        if what == "file":
            hf_hub_download(repo, file, **kept)
        elif what == "snapshot":
            snapshot_download(repo, **kept)
        elif what == "info":
            HfApi().model_info(repo, revision=revision, token=token or False)
        result[name] = ["none", ""]
    except Exception as error:
        inner = error.__cause__ or error.__context__
        result[name] = [type(error).__name__, str(error) + " | " + str(inner or "")]
result["said"] = ["", said.getvalue()]
"""


def refusal_cases(hub: Hub) -> dict[str, list[Any]]:
    signed, inference, unsigned = hub.tokens["signed"], hub.tokens["inference"], hub.tokens["unsigned"]
    bad = signed[:-1] + ("0" if signed[-1] != "0" else "1")
    return {
        "no token": ["file", DEMO, None, "config.json", None],
        "no token snapshot": ["snapshot", DEMO, None, None, None],
        "unsigned": ["file", DEMO, None, "config.json", unsigned],
        "wrong scope": ["file", DEMO, None, "config.json", inference],
        "bad token": ["file", DEMO, None, "config.json", bad],
        "bad token info": ["info", DEMO, None, None, bad],
        "missing repo": ["file", "demo/none", None, "config.json", signed],
        "missing repo info": ["info", "demo/none", None, None, signed],
        "missing repo no token": ["info", "demo/none", None, None, None],
        "missing revision": ["file", DEMO, "v9", "config.json", signed],
        "missing revision info": ["info", DEMO, "rel/9", None, signed],
        "missing file": ["file", DEMO, None, "none.json", signed],
        "card only": ["snapshot", "bigscience/bloom", None, None, signed],
        "open info": ["info", DEMO, None, None, None],
    }


@pytest.fixture(scope="module")
def refusals(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each generation raised in each case, every case with a cache of its own."""
    cases = refusal_cases(hub)
    return {
        g.name: g.run(tmp_path_factory.mktemp(f"refusals {g.name}"), hub.url, REFUSALS, cases=cases)
        for g in GENERATIONS
    }


FOUND_NOTHING, NO_REVISION = "RepositoryNotFoundError", "RevisionNotFoundError"
EXPECTED = {  # case: what is raised by the newest client, by the two older ones
    "no token": ("GatedRepoError", "GatedRepoError"),
    "no token snapshot": ("GatedRepoError", "GatedRepoError"),
    "unsigned": ("GatedRepoError", "GatedRepoError"),
    "wrong scope": ("GatedRepoError", "GatedRepoError"),
    "bad token info": ("HfHubHTTPError", "HfHubHTTPError"),
    "missing repo": (FOUND_NOTHING, FOUND_NOTHING),
    "missing repo info": (FOUND_NOTHING, FOUND_NOTHING),
    "missing repo no token": (FOUND_NOTHING, FOUND_NOTHING),
    "missing revision": (NO_REVISION, NO_REVISION),
    "missing revision info": (NO_REVISION, NO_REVISION),
    "missing file": ("RemoteEntryNotFoundError", "EntryNotFoundError"),
    "card only": (NO_REVISION, NO_REVISION),
    "open info": ("none", "none"),
}


@each_generation
@pytest.mark.parametrize("case", EXPECTED)
def test_each_refusal_raises_what_its_client_generation_expects(
    refusals: dict[str, Any], generation: Generation, case: str
) -> None:
    kind, text = refusals[generation.name][case]
    assert kind == EXPECTED[case][generation is not NEW], text


@each_generation
@pytest.mark.parametrize("case", ["no token", "unsigned"])
def test_the_page_where_to_sign_is_in_what_the_client_says(
    refusals: dict[str, Any], generation: Generation, case: str, hub: Hub
) -> None:
    _, text = refusals[generation.name][case]
    heard = text + refusals[generation.name]["said"][1]
    assert f"{hub.url}/licenses/bloom-rail/" in heard
    assert "/sign" in heard


@each_generation
def test_a_bad_token_is_named_as_the_cause(refusals: dict[str, Any], generation: Generation) -> None:
    kind, text = refusals[generation.name]["bad token"]
    # Without https the oldest generation asks to check the connection, and names the cause beside it.
    assert kind == ("LocalEntryNotFoundError" if generation is OLD else "HfHubHTTPError")
    assert "Invalid credentials in Authorization header" in text


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".cache" not in path.parts
    }


@each_generation
def test_the_command_line_downloads_every_file_exactly(generation: Generation, hub: Hub, tmp_path: Path) -> None:
    target = tmp_path / "a folder"
    done = generation.cli(tmp_path, hub.url, "download", DEMO, "--local-dir", str(target), token=hub.tokens["signed"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert digests(target) == digests(SOURCE)


@each_generation
def test_a_snapshot_by_branch_and_by_short_digest_is_the_same(generation: Generation, hub: Hub, tmp_path: Path) -> None:
    code = """
from huggingface_hub import snapshot_download, HfApi
result = [snapshot_download(repo), HfApi().model_info(repo).sha, HfApi().model_info(repo).gated]
result.append([s.rfilename for s in HfApi().model_info(repo, files_metadata=True).siblings if s.size is None])
result.append(sorted(f.path for f in HfApi().list_repo_tree(repo, recursive=True, expand=True)))
result.append([c.title for c in HfApi().list_repo_commits(repo)])
result.append([b.name for b in HfApi().list_repo_refs(repo).branches])
result.append([p.size for p in HfApi().get_paths_info(repo, ["config.json", "none"])])
result.append([m.id for m in HfApi().list_models(author="demo")])
"""
    folder, sha, gated, unsized, tree, commits, branches, sizes, models = generation.run(
        tmp_path, hub.url, code, token=hub.tokens["signed"], repo=DEMO
    )
    assert digests(Path(folder)) == digests(SOURCE)
    assert Path(folder).name == sha
    assert (gated, unsized, branches, models) == ("auto", [], ["main"], [DEMO])
    assert tree == sorted(digests(SOURCE))
    assert commits == ["Publish the demo model"]
    assert sizes == [(SOURCE / "config.json").stat().st_size]


@each_generation
def test_whoami_names_the_person(generation: Generation, hub: Hub, tmp_path: Path) -> None:
    command = ("auth", "whoami") if generation is NEW else ("whoami",)
    done = generation.cli(tmp_path, hub.url, *command, token=hub.tokens["signed"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Ada Example" in done.stdout


def test_a_token_can_be_stored_by_logging_in(hub: Hub, tmp_path: Path) -> None:
    done = NEW.cli(tmp_path, hub.url, "auth", "login", "--token", hub.tokens["signed"])
    assert done.returncode == 0, done.stdout + done.stderr
    again = NEW.cli(tmp_path, hub.url, "download", DEMO, "config.json")
    assert again.returncode == 0, again.stdout + again.stderr


def test_the_command_line_of_today_prints_where_to_sign(hub: Hub, tmp_path: Path) -> None:
    done = NEW.cli(tmp_path, hub.url, "download", DEMO)
    assert done.returncode == 1
    assert f"{hub.url}/licenses/bloom-rail/" in done.stdout + done.stderr


def test_the_command_line_of_today_says_that_a_model_has_a_card_only(hub: Hub, tmp_path: Path) -> None:
    done = NEW.cli(tmp_path, hub.url, "download", "bigscience/bloom", token=hub.tokens["signed"])
    assert done.returncode == 1
    assert "its card says how to mirror them" in done.stdout + done.stderr


FETCH = """
from huggingface_hub import hf_hub_download
try:
    result = ["", hf_hub_download(repo, "weights.safetensors")]
except Exception as error:
    result = [type(error).__name__, ""]
"""


@each_generation
def test_a_download_that_broke_goes_on_with_a_range_and_ends_with_the_right_bytes(
    generation: Generation, hub: Hub, tmp_path: Path
) -> None:
    wire = Wire(hub.portal.port, "/resolve/", 24 << 20)
    wire.path = b"weights.safetensors"
    try:
        runs = []
        while (not runs or runs[-1][0]) and len(runs) < 3:
            runs.append(generation.run(tmp_path, wire.url, FETCH, token=hub.tokens["signed"], repo=LARGE))
    finally:
        wire.close()
    assert len(runs) == (1 if generation is NEW else 2), runs
    assert wire.asked[0] == ""
    assert wire.asked[1] == f"bytes={20 << 20}-", "whole pieces of 10 MiB were kept"
    got = Path(runs[-1][1]).read_bytes()
    assert len(got) == LARGE_BYTES
    original = hub.portal.home / "large" / "weights.safetensors"
    assert hashlib.sha256(got).digest() == hashlib.sha256(original.read_bytes()).digest()
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_every_head_promises_exactly_what_its_get_sends(hub: Hub) -> None:
    with httpx.Client(base_url=hub.url, headers={"Accept-Encoding": "identity"}) as http:
        for key in ({}, {"Authorization": f"Bearer {hub.tokens['signed']}"}):
            for item in http.get(f"/api/models/{DEMO}/tree/main?recursive=true").json():
                head = http.head(f"/{DEMO}/resolve/main/{item['path']}", headers=key)
                body = http.get(f"/{DEMO}/resolve/main/{item['path']}", headers=key)
                assert head.status_code == body.status_code == (200 if key else 401)
                assert head.headers["Content-Length"] == body.headers["Content-Length"] == str(len(body.content))
                assert int(head.headers["Content-Length"]) > 0
                if key and "lfs" not in item:
                    assert git_oid(body.content) == item["oid"] == head.headers["ETag"].strip('"')
                if key and "lfs" in item:
                    assert hashlib.sha256(body.content).hexdigest() == item["lfs"]["oid"]


def test_todays_client_verifies_what_it_has_against_the_listed_digests(hub: Hub, tmp_path: Path) -> None:
    for command in (("download", DEMO), ("cache", "verify", DEMO)):
        done = NEW.cli(tmp_path, hub.url, *command, token=hub.tokens["signed"])
        assert done.returncode == 0, done.stdout + done.stderr


def test_deliveries_of_real_clients_reach_the_ledger_with_their_signatures(hub: Hub, tmp_path: Path) -> None:
    done = NEW.cli(tmp_path, hub.url, "download", DEMO, token=hub.tokens["signed"])
    assert done.returncode == 0
    engine = make_engine(f"sqlite:///{hub.portal.home / 'portal.db'}")
    weights = "model-00001-of-00002.safetensors"
    deadline = time.monotonic() + 60
    rows: list[Delivery] = []
    while time.monotonic() < deadline:
        with transaction(engine, write=False) as session:
            query = sa.select(Delivery).where(Delivery.path == weights, Delivery.completed_at.is_not(None))
            rows = list(session.scalars(query))
        if rows:
            break
        time.sleep(0.1)
    engine.dispose()
    assert rows
    # More left where a client looked into the file first, which is the same copy.
    assert all(row.bytes_sent >= row.size == (SOURCE / weights).stat().st_size for row in rows)
    assert {row.file_sha256 for row in rows} == {digests(SOURCE)[weights]}
    assert all(row.access_token_id and row.signature_set for row in rows)
