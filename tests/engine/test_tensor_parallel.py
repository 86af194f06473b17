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
from tests.running import free_port

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
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
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


def gone(pid: int, seconds: float = 30) -> bool:
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


def children(pid: int) -> list[int]:
    """Return the processes that a process started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def samples(server: Server) -> list[str]:
    """Return what the engine writes after the prompts of the samples that were written down, all asked for at once."""

    def ask(prompt: str) -> str:
        with server.client(timeout=120) as client:
            answer = post(client, prompt=prompt, max_tokens=48, temperature=0)
            assert answer.status_code == 200, answer.text
            text: str = answer.json()["choices"][0]["text"]
            return text

    with ThreadPoolExecutor(len(GREEDY)) as pool:
        return list(pool.map(ask, [each["prompt"] for each in GREEDY]))


EXPECTED = [each["continuation"].removesuffix("</s>").rstrip("\ufffd") for each in GREEDY]


def test_two_ranks_serve_the_samples_that_were_written_down(server: Server) -> None:
    assert samples(server) == EXPECTED


def test_the_place_where_they_met_is_gone_once_all_of_them_work(server: Server) -> None:
    environment = Path(f"/proc/{children(server.process.pid)[0]}/environ").read_bytes().split(b"\0")
    (place,) = [each.removeprefix(b"ENGINE_MEET=") for each in environment if each.startswith(b"ENGINE_MEET=")]
    assert not Path(os.fsdecode(place)).parent.exists()


def test_callers_that_come_and_go_leave_both_ranks_in_step(server: Server) -> None:
    for round_ in range(6):
        callers = [send_raw(server, stream=True, n=1 + (place + round_) % 3) for place in range(4)]
        server.until(lambda stats: stats["running"] > 0, seconds=60)
        for caller in callers[:3]:
            caller.close()
        assert callers[3].recv(100).startswith(b"HTTP/1.1 200")
        callers[3].close()
    server.until(lambda stats: stats["running"] == stats["queued"] == 0, seconds=60)
    assert samples(server) == EXPECTED


def test_a_rank_that_is_killed_ends_the_engine_with_one_line(server: Server) -> None:
    caller = send_raw(server, stream=True)
    assert caller.recv(100).startswith(b"HTTP/1.1 200")
    os.kill(children(server.process.pid)[0], signal.SIGKILL)
    heard = b""
    while part := caller.recv(65536):
        heard += part
    assert b'"code":"engine_failed"' in heard
    assert server.process.wait(30) == 1
    assert server.log.read_text() == "engine: rank 1 ended (signal SIGKILL), stopping\n"
    assert not server.socket.exists()


def test_sigterm_stops_all_ranks(tmp_path: Path) -> None:
    with serving(tmp_path, "--ranks", "2") as running:
        (child,) = children(running.process.pid)
        caller = send_raw(running, stream=True)
        assert caller.recv(100).startswith(b"HTTP/1.1 200")
        os.kill(child, signal.SIGTERM)  # on its own it changes nothing: the first rank decides
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(30) == 0
        assert gone(child)
        assert running.log.read_text() == ""
        caller.close()


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "writing"])
def test_a_rank_that_got_stuck_ends_the_engine(tmp_path: Path, busy: bool) -> None:
    with serving(tmp_path, "--ranks", "2", "--stuck-after", "5") as running:
        (child,) = children(running.process.pid)
        caller = send_raw(running, stream=True) if busy else None
        assert caller is None or caller.recv(100).startswith(b"HTTP/1.1 200")
        os.kill(child, signal.SIGSTOP)
        assert running.process.wait(60) == 1
        # torch may say before it which rank it waited for
        assert running.log.read_text().splitlines()[-1] == "engine: another rank does not answer"
        assert gone(child)
        if caller is not None:
            caller.close()


def test_a_first_rank_that_got_stuck_is_ended_by_another(tmp_path: Path) -> None:
    with serving(tmp_path, "--ranks", "2", "--stuck-after", "5") as running:
        (child,) = children(running.process.pid)
        os.kill(running.process.pid, signal.SIGSTOP)
        assert running.process.wait(60) == -signal.SIGKILL
        assert gone(child)
        assert running.log.read_text().splitlines()[-1] == "engine: rank 1: another rank does not answer"


def test_torchrun_starts_the_same_engine_and_ends_it_when_a_rank_is_lost(tmp_path: Path) -> None:
    log, place = tmp_path / "log", tmp_path / "e.sock"
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1",
        "--master-port", str(free_port()), "-m", "gated_inference.engine.server", "--model", str(FOLDER),
        "--name", NAME, "--uds", str(place),
    ]  # fmt: skip
    own = {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as out, subprocess.Popen(
        command, cwd=ROOT, env=os.environ | own, stdout=subprocess.PIPE, stderr=out
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"engine: ready\n", log.read_text()
            ranks_ = children(process.pid)
            assert len(ranks_) == 2
            assert samples(Server(process, place, log)) == EXPECTED
            os.kill(ranks_[1], signal.SIGKILL)
            assert process.wait(60) != 0
            assert all(gone(pid) for pid in ranks_)
            assert "SIGKILL" in log.read_text()
        finally:
            process.kill()


def test_heads_that_cannot_be_shared_equally_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="8 attention heads cannot be shared equally by 3 ranks"):
        serve.main(["--model", str(FOLDER), "--name", NAME, "--uds", str(tmp_path / "e.sock"), "--ranks", "3"])


@pytest.mark.parametrize("seconds", ["0", "1.9", "nan", "-1"])
def test_a_patience_that_is_no_time_at_all_is_a_usage_error(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        serve.parse(["--model", "x", "--name", "m", "--port", "1", "--stuck-after", seconds])
    assert "--stuck-after must be at least 2" in capsys.readouterr().err


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
