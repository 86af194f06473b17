"""Fixtures: the committed demo model, a wild random one, batchers over both, and a server that really runs."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM

from gated_inference.engine.batcher import Batcher, Entry, Failure, Job, Piece
from gated_inference.engine.model import load
from gated_inference.engine.text import Vocabulary

ROOT = Path(__file__).resolve().parent.parent.parent
DEMO = ROOT / "gated_inference" / "demo"
FOLDER = DEMO / "model"
NAME = "demo/bloom-tiny"


@pytest.fixture(scope="session")
def demo() -> Any:
    """The committed model, as the engine loads it."""
    return load(FOLDER)


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    """The committed tokenizer."""
    return Vocabulary(FOLDER)


@pytest.fixture(scope="session")
def wild() -> Any:
    """A random BLOOM that does not repeat itself: untied, wide weights, biases everywhere, heads no power of two."""
    torch.manual_seed(8)
    config = BloomConfig(
        vocab_size=4096, hidden_size=96, n_layer=3, n_head=6, tie_word_embeddings=False, eos_token_id=2,
        attn_implementation="eager",
    )  # fmt: skip
    model: Any = BloomForCausalLM(config).eval()
    model.generation_config.eos_token_id = None
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if name.endswith("bias"):
                weights.normal_(0.0, 0.02)
            elif "layernorm" not in name and "ln_f" not in name:
                weights.normal_(0.0, 0.3)
    return model


@dataclass
class Collected:
    """What a job got, as a caller would see it."""

    expected: int = 1
    pieces: list[Piece] = field(default_factory=list)
    failure: Failure | None = None
    ended: int = 0
    done: threading.Event = field(default_factory=threading.Event)
    first: threading.Event = field(default_factory=threading.Event)

    def __call__(self, item: list[Piece] | Failure) -> None:
        if isinstance(item, Failure):
            self.failure = item
        else:
            self.pieces += item
            self.ended += sum(piece.finish is not None for piece in item)
        self.first.set()
        if self.failure or self.ended == self.expected:
            self.done.set()

    def of(self, choice: int) -> list[Piece]:
        return [piece for piece in self.pieces if piece.choice == choice]

    def text(self, choice: int = 0) -> str:
        return "".join(piece.text for piece in self.of(choice))

    def entries(self, choice: int = 0) -> list[Entry]:
        return [entry for piece in self.of(choice) for entry in piece.entries]

    def finish(self, choice: int = 0) -> str | None:
        return self.of(choice)[-1].finish


@dataclass
class Runner:
    """A batcher with the means to wait for it."""

    batcher: Batcher

    def submit(self, *asks: dict[str, Any]) -> list[Collected]:
        """Queue jobs in one go and return where their answers will be."""
        collected = [Collected(expected=ask.get("choices", 1)) for ask in asks]
        self.batcher.submit([Job(deliver=out, **ask) for out, ask in zip(collected, asks, strict=True)])
        return collected

    def run(self, *asks: dict[str, Any]) -> list[Collected]:
        """Queue jobs and wait until all have ended."""
        collected = self.submit(*asks)
        for out in collected:
            assert out.done.wait(60)
        return collected


@pytest.fixture
def runner(vocabulary: Vocabulary) -> Iterator[Callable[..., Runner]]:
    """Starts batchers, and stops them after the test."""
    started: list[Batcher] = []

    def start(model: Any, *, slots: int = 8, queue: int = 32, max_wait: float = 60.0) -> Runner:
        batcher = Batcher(model, vocabulary, slots=slots, queue=queue, max_wait=max_wait)
        batcher.start()
        started.append(batcher)
        return Runner(batcher)

    yield start
    for batcher in started:
        batcher.close()


@dataclass
class Server:
    """A running engine process."""

    process: subprocess.Popen[bytes]
    socket: Path
    log: Path

    def client(self, timeout: float = 30) -> httpx.Client:
        return httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.socket)), base_url="http://engine", timeout=timeout
        )

    def stats(self) -> dict[str, int]:
        with self.client() as client:
            found: dict[str, int] = client.get("/stats").json()
            return found

    def until(self, wanted: Callable[[dict[str, int]], bool], seconds: float = 60) -> dict[str, int]:
        """Wait until the figures are as wanted, and return them."""
        deadline = time.monotonic() + seconds
        while not wanted(stats := self.stats()):
            assert time.monotonic() < deadline, stats
            time.sleep(0.01)
        return stats


@contextmanager
def serving(folder: Path, *extra: str, model: Path = FOLDER) -> Iterator[Server]:
    """Run an engine over a Unix socket."""
    socket, log = folder / "engine.sock", folder / "engine.log"
    command = [sys.executable, "-m", "gated_inference.engine.server", "--model", str(model), "--name", NAME]
    process = subprocess.Popen(
        [*command, "--uds", str(socket), "--parent-pid", str(os.getpid()), *extra],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=log.open("wb"),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"engine: ready\n", log.read_text()
        yield Server(process, socket, log)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One engine for all tests that do not disturb each other."""
    with serving(tmp_path_factory.mktemp("engine")) as running:
        yield running
        assert running.process.poll() is None
        assert running.log.read_bytes() == b""


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:  # type: ignore[misc]
    """Speaks HTTP with the shared engine."""
    with server.client() as client:
        yield client
