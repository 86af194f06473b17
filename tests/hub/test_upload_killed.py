"""What is on its way in when something dies: a client, the portal, a command, the disk; and two who come at once."""

import base64
import hashlib
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from portal.core.config import Settings
from portal.core.db import make_engine
from portal.main_work import Work
from tests.hub.conftest import Hub
from tests.hub.generations import GENERATIONS
from tests.hub.serving import ROOT
from tests.hub.staff import safetensors, write
from tests.hub.stage import BODY, DIGEST, Stage, half_sent
from tests.running import wait_until

NEW = GENERATIONS[0]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    made = Stage(tmp_path_factory.mktemp("killed"))
    made.start()
    yield made
    made.kill()


def test_a_client_that_hangs_up_leaves_nothing_and_comes_again(stage: Stage) -> None:
    address = stage.address("lab/cut")
    with half_sent(stage, address):
        pass
    wait_until(lambda: stage.drafts == [], seconds=60)
    assert DIGEST not in stage.stored
    large = ("lfsFile", {"path": "w.bin", "algo": "sha256", "oid": DIGEST, "size": len(BODY)})
    assert stage.commit("lab/cut", large).status_code == 400
    assert httpx.put(address, content=BODY, timeout=60).status_code == 200
    assert stage.commit("lab/cut", large).status_code == 200
    (stage.portal.home / "blobs" / "sha256" / DIGEST[:2] / DIGEST).unlink()


def test_a_portal_that_is_killed_in_mid_upload_shows_nothing_and_takes_it_again(stage: Stage) -> None:
    address = stage.address("lab/killed")
    with half_sent(stage, address):
        stage.kill()
    [left] = stage.drafts
    assert DIGEST not in stage.stored
    stage.start()
    assert stage.send("GET", "/api/models/lab/killed/tree/main").json() == []
    assert httpx.put(address, content=BODY, timeout=60).status_code == 200
    assert stage.drafts == [left]
    os.utime(left, (time.time() - 25 * 3600,) * 2)
    settings = Settings.from_env({k: v for k, v in stage.portal.environ.items() if k.startswith("PORTAL_")})
    engine = make_engine(settings.database_url)
    Work(settings, engine).sweep()
    engine.dispose()
    assert stage.drafts == []
    assert DIGEST in stage.stored


def test_of_two_commits_on_one_parent_that_come_at_once_exactly_one_wins(stage: Stage) -> None:
    stage.send("POST", "/api/repos/create", json={"name": "lab/race"})
    parent = stage.send("GET", "/api/models/lab/race").json()["sha"]
    gate, statuses = threading.Barrier(4), []

    def race(number: int) -> None:
        content = base64.b64encode(b"%d" % number).decode()
        file = ("file", {"path": f"{number}.txt", "content": content, "encoding": "base64"})
        gate.wait()
        statuses.append(stage.commit("lab/race", file, parentCommit=parent).status_code)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(statuses) == [200, 412, 412, 412]
    assert len(stage.send("GET", "/api/models/lab/race/tree/main").json()) == 1


def test_a_client_sends_a_file_in_parts(stage: Stage, tmp_path: Path) -> None:
    large = write(tmp_path / "large", w__safetensors=safetensors(17 << 20, 1))  # 68 MiB: more than one part
    code = (
        "from huggingface_hub import HfApi\napi = HfApi()\napi.create_repo(model)\n"
        "api.upload_folder(folder_path=source, repo_id=model)\nresult = api.model_info(model).safetensors.total"
    )
    environ = {"HF_HUB_DISABLE_XET": "1"}
    digest = hashlib.sha256((large / "w.safetensors").read_bytes()).hexdigest()
    for generation in GENERATIONS:
        if digest in stage.stored:  # or the next client would not send it
            (stage.portal.home / "blobs" / "sha256" / digest[:2] / digest).unlink()
        done = generation.run(
            tmp_path, stage.portal.base_url, f"import os\nos.environ.update({environ!r})\n{code}", token=stage.token,
            model=f"lab/parts-{generation.name}", source=str(large),
        )  # fmt: skip
        assert done == 17 << 20
        assert digest in stage.stored
        assert stage.drafts == []
    with sqlite3.connect(stage.portal.home / "portal.db") as database:
        parts = [size for (size,) in database.execute("SELECT part_size FROM upload WHERE sha256 = ?", (digest,))]
    assert parts == [64 << 20] * 3


def publish(stage: Stage, folder: Path, model: str, **kept: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "portal.cli", "models", "publish", str(folder), model, "--license", "bloom-rail"]
    return subprocess.Popen(
        command, env=stage.portal.environ, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kept
    )


def files_of(root: Path, count: int = 3) -> Path:
    write(root, config__json="{}")
    for number in range(count):
        (root / f"w{number}.safetensors").write_bytes(Random(number).randbytes(2 << 20))
    return root


def test_publishing_that_is_killed_shows_nothing_and_goes_on_where_it_was(stage: Stage, tmp_path: Path) -> None:
    model, folder = "bigscience/bloom-560m", files_of(tmp_path / "folder")
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    with sqlite3.connect(stage.portal.home / "portal.db", isolation_level=None) as database:
        database.execute("BEGIN IMMEDIATE")  # so it can store the files, and not name them
        process = publish(stage, folder, model)
        wait_until(lambda: digests <= set(stage.stored), seconds=60)
        process.kill()
        process.communicate(timeout=60)
        database.execute("ROLLBACK")
    assert process.returncode == -signal.SIGKILL
    before = stage.stored
    assert httpx.get(f"{stage.portal.base_url}/api/models/{model}").json()["sha"] is None
    process = publish(stage, folder, model)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    # What was noted is not copied again; the last file may have been stored and not noted yet.
    kept = {hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("config.json", "w0.safetensors")}
    assert {name: before[name] for name in kept} == {name: stage.stored[name] for name in kept}
    assert httpx.get(f"{stage.portal.base_url}/api/models/{model}").json()["sha"] == out.strip().partition("@")[2]
    assert list((stage.portal.home / "run").glob("publish-*")) == []


def test_publishing_goes_on_after_the_disk_was_full(stage: Stage, tmp_path: Path) -> None:
    model, folder = "bigscience/bloom-1b1", files_of(tmp_path / "folder", 1)
    (folder / "x-large.safetensors").write_bytes(Random(9).randbytes(4 << 20))
    small = hashlib.sha256((folder / "w0.safetensors").read_bytes()).hexdigest()

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, 3 << 20))

    process = publish(stage, folder, model, preexec_fn=limited)
    _out, err = process.communicate(timeout=60)
    assert (process.returncode, "The disk is full" in err, "Traceback" in err) == (1, True, False)
    before = stage.stored[small]
    assert stage.drafts == []
    assert httpx.get(f"{stage.portal.base_url}/api/models/{model}").json()["sha"] is None
    process = publish(stage, folder, model)
    _out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert stage.stored[small] == before


def test_mirroring_that_is_killed_goes_on_where_it_was(hub: Hub, stage: Stage) -> None:
    command = [sys.executable, "-m", "portal.cli", "models", "mirror", "demo/bloom-tiny", "bigscience/bloom-3b"]
    environ = {**stage.portal.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": hub.tokens["signed"]}
    kept: dict[str, Any] = {"env": environ, "cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    folder = stage.portal.home / "mirror" / "demo" / "bloom-tiny"
    before = set(stage.stored)
    with sqlite3.connect(stage.portal.home / "portal.db", isolation_level=None) as database:
        database.execute("BEGIN IMMEDIATE")
        process = subprocess.Popen(command, text=True, **kept)
        wait_until(lambda: len(set(stage.stored) - before) >= 3, seconds=60)
        process.kill()
        process.communicate(timeout=60)
        database.execute("ROLLBACK")
    fetched = {path: path.stat().st_ino for path in folder.glob("*.*") if path.is_file()}
    assert fetched
    assert httpx.get(f"{stage.portal.base_url}/api/models/bigscience/bloom-3b").json()["sha"] is None
    done = subprocess.run(command, text=True, timeout=120, check=True, **kept)
    assert {path: path.stat().st_ino for path in fetched} == fetched
    sha = httpx.get(f"{stage.portal.base_url}/api/models/bigscience/bloom-3b").json()["sha"]
    assert done.stdout.strip() == f"bigscience/bloom-3b@{sha}"
