"""What is on its way in when something dies: a client, the portal, a command, the disk; and two who come at once."""

import base64
import hashlib
import json
import os
import resource
import shlex
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from socket import create_connection
from typing import Any

import httpx
import pytest

from portal.core.config import Settings
from portal.core.db import make_engine
from portal.main_work import Work
from tests.hub.conftest import Hub
from tests.hub.generations import GENERATIONS
from tests.hub.serving import ROOT
from tests.hub.staff import safetensors, staff_token, write
from tests.running import RunningPortal, free_port, wait_until

NEW = GENERATIONS[0]
BODY = Random(3).randbytes(8 << 20)
DIGEST = hashlib.sha256(BODY).hexdigest()


class Stage:
    """A portal of its own, which a test may kill, and a member of staff who uploads to it."""

    def __init__(self, home: Path) -> None:
        self.portal = RunningPortal(home=home, port=free_port())
        self.portal.cli("init", "--no-demo")
        self.portal.cli("licenses", "publish", "bloom-rail", "1.0.0")
        self.token = staff_token(self.portal, "kay@example.org")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.portal.home / "serve.log").open("ab") as log:
            portal = f"{shlex.quote(sys.executable)} -m portal.cli"
            both = f"{portal} web & exec {portal} edge"
            self.process = subprocess.Popen(
                ["sh", "-c", both], env=self.portal.environ, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(lambda: answers(self.portal.base_url), seconds=60)

    def kill(self) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)

    def send(self, method: str, path: str, **kept: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.request(method, self.portal.base_url + path, headers=headers, timeout=60, **kept)

    def address(self, model: str) -> str:
        """Make a model and the address at which to send it the body."""
        self.send("POST", "/api/repos/create", json={"name": model})
        batch = {"operation": "upload", "objects": [{"oid": DIGEST, "size": len(BODY)}]}
        answer = self.send("POST", f"/{model}.git/info/lfs/objects/batch", json=batch).json()
        return str(answer["objects"][0]["actions"]["upload"]["href"])

    def commit(self, model: str, *operations: tuple[str, dict[str, Any]], **header: Any) -> httpx.Response:
        lines = [("header", {"summary": "Change", **header}), *operations]
        body = b"".join(json.dumps({"key": key, "value": value}).encode() + b"\n" for key, value in lines)
        return self.send("POST", f"/api/models/{model}/commit/main", content=body)

    @property
    def stored(self) -> dict[str, int]:
        return {p.name: p.stat().st_ino for p in (self.portal.home / "blobs" / "sha256").glob("*/*")}

    @property
    def drafts(self) -> list[Path]:
        return list((self.portal.home / "blobs" / "tmp").glob("*"))


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/login", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    made = Stage(tmp_path_factory.mktemp("killed"))
    made.start()
    yield made
    made.kill()


@contextmanager
def half_sent(stage: Stage, address: str) -> Iterator[None]:
    """Send half of the body to an address, and wait until the portal has it in a draft; then hang up."""
    path = address.removeprefix(stage.portal.base_url)
    with create_connection(("127.0.0.1", stage.portal.port)) as line:
        line.sendall(f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n".encode())
        line.sendall(BODY[: len(BODY) // 2])
        wait_until(lambda: any(path.stat().st_size >= 1 << 20 for path in stage.drafts), seconds=60)
        yield


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
    large = tmp_path / "large"
    write(large, w__safetensors=safetensors(17 << 20, 1))  # 68 MiB: more than one part
    code = (
        "from huggingface_hub import HfApi\napi = HfApi()\napi.create_repo(model)\n"
        "api.upload_folder(folder_path=source, repo_id=model)\nresult = api.model_info(model).safetensors.total"
    )
    environ = {"HF_HUB_DISABLE_XET": "1"}
    for generation in GENERATIONS[1:]:  # the middle one and the oldest; the newest has the same lines for this
        done = generation.run(
            tmp_path, stage.portal.base_url, f"import os\nos.environ.update({environ!r})\n{code}", token=stage.token,
            model=f"lab/parts-{generation.name}", source=str(large),
        )  # fmt: skip
        assert done == 17 << 20
    digest = hashlib.sha256((large / "w.safetensors").read_bytes()).hexdigest()
    assert digest in stage.stored
    assert stage.drafts == []
    with sqlite3.connect(stage.portal.home / "portal.db") as database:
        parts = [size for (size,) in database.execute("SELECT part_size FROM upload WHERE sha256 = ?", (digest,))]
    assert parts == [64 << 20, 0]


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
