"""What the engine makes of the model: eight requests at once against one after another, and one stream over HTTP."""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from gated_inference.engine.batcher import Batcher
from gated_inference.engine.model import load
from gated_inference.engine.sampling import Sampling
from gated_inference.engine.text import Vocabulary
from tests.engine.conftest import FOLDER, NAME, Collected, Runner, Server, serving

ROUNDS = 3
LENGTH, STREAM_LENGTH = 64, 256
PROMPTS = (
    "Everyone has the right to", "Toute personne a droit à", "Toda persona tiene derecho a", "人人有权",
    "All human beings are born free and equal in dignity", "Kila mtu ana haki ya", "Setiap orang berhak", "Article 1",
)  # fmt: skip


def generated(model: Any, ids: list[int], length: int) -> float:
    """Return the seconds that transformers' own generate takes for one greedy answer."""
    prompt = torch.tensor([ids])
    began = time.perf_counter()
    out = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=length, do_sample=False, pad_token_id=3
    )  # fmt: skip
    taken = time.perf_counter() - began
    assert out.shape[1] == len(ids) + length
    return taken


def batched(runner: Runner, prompts: list[list[int]]) -> float:
    """Return the seconds that the batcher takes for all prompts at once."""
    common: dict[str, Any] = {"max_tokens": LENGTH, "sampling": Sampling(temperature=0.0), "ignore_eos": True}
    began = time.perf_counter()
    collected: list[Collected] = runner.run(*({"prompt": prompt, **common} for prompt in prompts))
    taken = time.perf_counter() - began
    assert sum(piece.sampled for out in collected for piece in out.pieces) == LENGTH * len(prompts)
    return taken


def streamed(server: Server, prompt: str) -> float:
    """Return the seconds from sending one call over HTTP to the end of its stream."""
    body = {
        "model": NAME, "prompt": prompt, "max_tokens": STREAM_LENGTH, "temperature": 0, "stream": True,
        "ignore_eos": True,
    }  # fmt: skip
    with server.client() as client:
        client.get("/health")
        began = time.perf_counter()
        with client.stream("POST", "/v1/completions", json=body) as response:
            last = b"".join(response.iter_raw())[-16:]
        taken = time.perf_counter() - began
    assert last.endswith(b"data: [DONE]\n\n")
    return taken


def measure() -> dict[str, float]:
    """Return tokens a second and their ratios, medians of three alternating rounds, on the demo model in 32 bits."""
    model, vocabulary = load(FOLDER), Vocabulary(FOLDER)
    model.generation_config.eos_token_id = None  # all answers have the length asked for
    prompts = [vocabulary.encode(prompt) for prompt in PROMPTS]
    batcher = Batcher(model, vocabulary, slots=len(prompts), queue=len(prompts))
    batcher.start()
    serial_times, batch_times, stream_times, plain_times = [], [], [], []
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as server:
        for round_ in range(ROUNDS + 1):
            times = (
                sum(generated(model, prompt, LENGTH) for prompt in prompts),
                batched(Runner(batcher), prompts),
                streamed(server, PROMPTS[0]),
                generated(model, prompts[0], STREAM_LENGTH),
            )
            if round_:  # the first warms up
                for kept, taken in zip((serial_times, batch_times, stream_times, plain_times), times, strict=True):
                    kept.append(taken)
    batcher.close()
    serial, batch, stream, plain = map(statistics.median, (serial_times, batch_times, stream_times, plain_times))
    tokens = LENGTH * len(prompts)
    return {
        "engine_batch_ratio": round(serial / batch, 2),
        "engine_stream_ratio": round(plain / stream, 2),
        "engine_serial_tokens_per_s": round(tokens / serial),
        "engine_batch_tokens_per_s": round(tokens / batch),
        "engine_stream_tokens_per_s": round(STREAM_LENGTH / stream),
        "engine_generate_tokens_per_s": round(STREAM_LENGTH / plain),
    }


if __name__ == "__main__":
    print(measure())
