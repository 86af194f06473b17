"""Two ranks say what one says, and all of them end together."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gated_inference.engine import batcher as module
from gated_inference.engine import ranks, serve
from gated_inference.engine.model import load
from tests.engine.conftest import DEMO, FOLDER, NAME, ROOT, Runner, Server, serving
from tests.engine.test_server import alive, post, send_raw
from tests.engine.two_ranks import LENGTHS, SLOTS, answers, logits

GREEDY = json.loads((DEMO / "training.json").read_text())["figures"]["greedy"]


@pytest.fixture(scope="module")
def folder(wild: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wild model, saved with the names that published BLOOMs have."""
    saved = tmp_path_factory.mktemp("wild")
    wild.save_pretrained(saved)
    weights = load_file(saved / "model.safetensors")
    renamed = {name.removeprefix("transformer."): each for name, each in weights.items()}
    assert renamed.keys() != weights.keys()
    save_file(renamed, saved / "model.safetensors", {"format": "pt"})
    return saved


@pytest.fixture(scope="module")
def together(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two processes compute together."""
    out = tmp_path_factory.mktemp("two") / "found.pt"
    command = [sys.executable, "-m", "tests.engine.two_ranks", str(folder), str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "")
    found: dict[str, Any] = torch.load(out)
    return found


@pytest.fixture(scope="module")
def one(folder: Path) -> list[torch.Tensor]:
    """What one process computes, so diverse that agreement means something."""
    found = logits(load(folder))
    likeliest = [int(token) for each in found for token in each.argmax(dim=-1)]
    assert len(set(likeliest)) > len(likeliest) / 2
    assert len({int(each[-1].argmax()) for each in found}) >= len(found) - 1
    return found


def difference(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """Return the largest difference of two sets of logits as a part of their size."""
    scale = max(float(each.abs().max()) for each in expected)
    return max(float((a - b).abs().max()) for a, b in zip(found, expected, strict=True)) / scale


def test_two_ranks_compute_the_logits_of_one(together: dict[str, Any], one: list[torch.Tensor]) -> None:
    assert difference(together["right"], one) <= 1e-5


def test_the_comparison_sees_the_biases_of_the_wrong_heads(together: dict[str, Any], one: list[torch.Tensor]) -> None:
    assert difference(together["wrong"], one) > 0.05


@pytest.mark.parametrize("way", ["greedy", "seeded"])
def test_two_ranks_write_what_one_writes(
    together: dict[str, Any], folder: Path, runner: Callable[..., Runner], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(module, "PREFILL", 16)
    expected = answers(runner(load(folder), slots=SLOTS).batcher)[way]
    assert len(expected) == len(LENGTHS) + 1
    tokens = [[token for token, _ in answer] for answer in expected]
    flat = [token for answer in tokens for token in answer]
    assert len(set(flat)) > len(flat) / 3
    for found, answer in zip(together[way], expected, strict=True):
        assert [token for token, _ in found] == [token for token, _ in answer]
        assert [logprob for _, logprob in found] == pytest.approx([logprob for _, logprob in answer], abs=2e-4)


def test_each_rank_holds_half_of_the_model(together: dict[str, Any], wild: Any) -> None:
    assert together["held"] < 0.55 * 4 * wild.num_parameters()


def gone(pid: int, seconds: float = 3) -> bool:
    """Say whether a process ends in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and alive(pid):
        time.sleep(0.02)
    return not alive(pid)


def test_the_other_rank_ends_when_the_first_is_killed(together: dict[str, Any]) -> None:
    assert gone(together["other"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:  # type: ignore[misc]
    """The committed model on two ranks."""
    with serving(tmp_path_factory.mktemp("pair"), "--ranks", "2") as running:
        yield running


def other_rank(server: Server) -> int:
    """Return the process of the second rank."""
    (child,) = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return int(child)


def test_two_ranks_serve_the_samples_that_were_written_down(server: Server) -> None:
    def ask(prompt: str) -> str:
        with server.client() as client:
            answer = post(client, prompt=prompt, max_tokens=48, temperature=0)
            assert answer.status_code == 200, answer.text
            text: str = answer.json()["choices"][0]["text"]
            return text

    with ThreadPoolExecutor(len(GREEDY)) as pool:
        found = list(pool.map(ask, [each["prompt"] for each in GREEDY]))
    assert found == [each["continuation"].removesuffix("</s>").rstrip("\ufffd") for each in GREEDY]


def test_a_rank_that_is_killed_ends_the_engine_with_one_line(server: Server) -> None:
    caller = send_raw(server, stream=True)
    assert caller.recv(100).startswith(b"HTTP/1.1 200")
    began = time.monotonic()
    os.kill(other_rank(server), signal.SIGKILL)
    heard = b""
    while part := caller.recv(65536):
        heard += part
    assert b'"code":"engine_failed"' in heard
    assert server.process.wait(10) == 1
    assert time.monotonic() - began < 5
    assert server.log.read_text() == "engine: rank 1 ended (signal SIGKILL), stopping\n"
    assert not server.socket.exists()


def test_sigterm_stops_all_ranks_within_three_seconds(tmp_path: Path) -> None:
    with serving(tmp_path, "--ranks", "2") as running:
        child = other_rank(running)
        caller = send_raw(running, stream=True)
        assert caller.recv(100).startswith(b"HTTP/1.1 200")
        began = time.monotonic()
        os.kill(child, signal.SIGTERM)  # on its own it changes nothing: the first rank decides
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(10) == 0
        assert time.monotonic() - began < 3
        assert not alive(child)
        assert running.log.read_text() == ""
        caller.close()


def test_heads_that_cannot_be_shared_equally_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="8 attention heads cannot be shared equally by 3 ranks"):
        serve.main(["--model", str(FOLDER), "--name", NAME, "--uds", str(tmp_path / "e.sock"), "--ranks", "3"])


@pytest.mark.parametrize("wanted", ["0", "65", "-1", "two", "²"])
def test_a_wrong_number_of_ranks_is_a_usage_error(wanted: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        serve.parse(["--model", "x", "--name", "m", "--port", "1", "--ranks", wanted])
    assert "--ranks must be auto, or a number from 1 to 64" in capsys.readouterr().err


def test_auto_takes_as_many_gpus_as_share_the_heads_equally(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ranks.count("auto", folder) == 1
    monkeypatch.setattr(ranks.torch.cuda, "device_count", lambda: 4)
    assert ranks.count("auto", folder) == 1  # so small a model is not shared
    monkeypatch.setattr(ranks, "is_tiny", lambda _: False)
    assert ranks.count("auto", folder) == 3
    assert ranks.count("2", folder) == 2
    with pytest.raises(ValueError, match="6 ranks need as many GPUs, and 4 can be seen"):
        ranks.count("6", folder)


def test_ranks_that_somebody_else_started_are_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert (ranks.count("1", folder), ranks.rank(), ranks.begun(), ranks.led()) == (2, 1, True, False)
