"""Keeping stored bytes and the ledger by the command line: killed, filled up, damaged, renamed."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner

from portal.cli import main
from portal.files.service import Store
from tests.running import ROOT, RunningPortal, free_port

MODEL = "bigscience/bloom-560m"


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> RunningPortal:
    """A portal that is set up and does not run, with a model of twelve files."""
    made = RunningPortal(home=tmp_path_factory.mktemp("upkeep"), port=free_port())
    made.cli("init", "--demo")
    folder = made.home / "source"
    folder.mkdir()
    for number in range(12):
        (folder / f"part-{number:02}.safetensors").write_bytes(Random(number).randbytes(1 << 20))
    made.cli("models", "publish", str(folder), MODEL, "--license", "bloom-rail")
    return made


def start(portal: RunningPortal, *args: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "portal.cli", *args], env=portal.environ, cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def ended(portal: RunningPortal, *args: str) -> tuple[int, str, str]:
    done = CliRunner(env={**portal.environ}).invoke(main, args)
    return done.exit_code, done.stdout, done.stderr


def blobs(portal: RunningPortal) -> list[Path]:
    return sorted((portal.home / "blobs").glob("sha256/*/*"))


def test_every_stored_file_is_looked_at_and_progress_is_told(portal: RunningPortal) -> None:
    code, out, err = ended(portal, "storage", "verify", "--rate", "0")
    assert (code, f"{len(blobs(portal))} of {len(blobs(portal))} files" in out) == (0, True)
    assert "100 %" in err
    assert not (portal.home / "run" / "storage-verify.json").exists()
    code, out, _ = ended(portal, "storage", "verify", "--quick")
    assert (code, "are there" in out) == (0, True)


def test_a_look_that_is_killed_goes_on_where_it_was(portal: RunningPortal) -> None:
    notes = portal.home / "run" / "storage-verify.json"
    process = start(portal, "storage", "verify", "--rate", "1")
    deadline = time.monotonic() + 60
    while not notes.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = json.loads(notes.read_text())["files"]
    assert 0 < done < len(blobs(portal))
    code, out, err = ended(portal, "storage", "verify", "--rate", "0")
    assert (code, f"Going on after {done} of {len(blobs(portal))} files" in err) == (0, True)
    assert f"{len(blobs(portal))} of {len(blobs(portal))} files" in out
    notes.write_text(json.dumps({"after": "f" * 64, "files": 3, "bytes": 3, "problems": []}))
    code, out, err = ended(portal, "storage", "verify", "--rate", "0", "--restart")
    assert (code, "Going on" in err, f"{len(blobs(portal))} of" in out) == (0, False, True)


def test_damaged_and_missing_files_are_named_put_aside_and_mended_by_publishing_again(portal: RunningPortal) -> None:
    store = Store(portal.home / "blobs")
    source = portal.home / "source"
    from hashlib import sha256

    digests = [sha256((source / f"part-0{n}.safetensors").read_bytes()).hexdigest() for n in (0, 1, 2)]
    damaged, short, gone = (store.path(digest) for digest in digests)
    body = damaged.read_bytes()
    damaged.write_bytes(body[:1000] + bytes([body[1000] ^ 1]) + body[1001:])
    short.write_bytes(short.read_bytes()[:-1])
    gone.unlink()
    code, out, _ = ended(portal, "storage", "verify", "--rate", "0", "--json")
    found = json.loads(out)
    assert (code, found["holds"]) == (1, False)
    flaws = {problem["sha256"]: problem["flaw"] for problem in found["problems"]}
    assert flaws == {digests[0]: "corrupt", digests[1]: "wrong length", digests[2]: "missing"}
    assert not any(path.exists() for path in (damaged, short, gone))
    assert sorted(p.name for p in (store.root / "corrupt").iterdir()) == sorted(digests[:2])
    code, out, _ = ended(portal, "storage", "verify", "--quick")
    assert (code, out.count("missing")) == (1, 3)
    assert ended(portal, "models", "publish", str(source), MODEL, "--license", "bloom-rail")[0] == 0
    assert ended(portal, "storage", "verify", "--rate", "0")[0] == 0


def test_a_disk_that_fills_up_ends_a_publication_in_one_line_and_nothing_is_visible(portal: RunningPortal) -> None:
    folder = portal.home / "large"
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(b"0" * (3 << 20))
    before = [str(path) for path in blobs(portal)]

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))

    done = subprocess.run(
        [sys.executable, "-m", "portal.cli", "models", "publish", str(folder), "full/disk", "--license", "bloom-rail"],
        env=portal.environ, cwd=ROOT, text=True, capture_output=True, timeout=60, check=False, preexec_fn=limited,
    )  # fmt: skip
    assert done.returncode == 1
    assert "The disk is full; nothing was kept" in done.stderr
    assert "Traceback" not in done.stderr
    assert [str(path) for path in blobs(portal)] == before
    assert list((portal.home / "blobs" / "tmp").iterdir()) == []
    assert ended(portal, "models", "rename", "full/disk", "x/y")[0] == 1, "there is no such model"


def test_unused_files_are_named_first_and_cleared_away_when_told(portal: RunningPortal) -> None:
    store = Store(portal.home / "blobs")
    with store.draft(6) as draft:
        draft.write(b"unused")
        digest = draft.keep().sha256
    code, out, _ = ended(portal, "storage", "collect")
    assert (code, out) == (0, "Nothing to do\n")
    os.utime(store.path(digest), (0, 0))
    code, out, _ = ended(portal, "storage", "collect")
    assert (code, digest in out, "--yes" in out, store.path(digest).exists()) == (0, True, True, True)
    code, out, _ = ended(portal, "storage", "collect", "--yes", "--json")
    assert json.loads(out) == {"removed": True, "files": [{"sha256": digest, "size": 6}]}
    assert not store.path(digest).exists()
    assert ended(portal, "storage", "verify", "--quick")[0] == 0


def test_a_model_is_renamed_by_the_command_line(portal: RunningPortal) -> None:
    assert ended(portal, "models", "rename", MODEL, "lab/bloom") == (0, f"{MODEL} is lab/bloom now\n", "")
    for name, to, said in (
        (MODEL, "lab/other", "no model"), ("lab/bloom", "demo/bloom-tiny", "name of another"),
        ("lab/bloom", "datasets/lab/x", "stays a dataset"), ("lab/bloom", MODEL, "was called"),
        ("x", "y/z", "no model"),
    ):  # fmt: skip
        code, _, err = ended(portal, "models", "rename", name, to)
        assert (code, said in err) == (1, True), err
    code, _, err = ended(portal, "models", "publish", str(portal.home / "source"), MODEL, "--license", "bloom-rail")
    assert (code, "name of another" in err) == (1, True)


def test_a_copy_that_is_on_no_record_is_said_to_be_so(portal: RunningPortal) -> None:
    code, _, err = ended(portal, "deliveries", "--sha256", "0" * 64)
    assert (code, "no delivery of" in err) == (1, True)
    code, _, err = ended(portal, "deliveries", "--sha256", "0" * 64, "--person", "no@one.example")
    assert (code, "has no account here" in err) == (1, True)
    assert ended(portal, "deliveries", "--sha256", "0" * 64, "--json")[:2] == (0, "[]\n")
