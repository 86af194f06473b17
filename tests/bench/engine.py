"""What the engine makes of the model: eight requests at once against one after another and against one padded batch,
and one stream over HTTP against a bare loop.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import BloomConfig, BloomForCausalLM, DynamicCache

from gated_inference.engine.batcher import Batcher
from gated_inference.engine.cache import Rows
from gated_inference.engine.model import load
from gated_inference.engine.sampling import Sampling
from gated_inference.engine.text import Vocabulary
from tests.engine.conftest import FOLDER, NAME, Collected, Runner, Server, serving

ROUNDS = 3
LENGTH, STREAM_LENGTH, LARGE_LENGTH = 64, 256, 12
LARGE_NEEDS = 4 << 30
UNEVEN = (96, 24, 64, 80, 32, 96, 48, 72)
PROMPTS = (
    "Everyone has the right to", "Toute personne a droit à", "Toda persona tiene derecho a", "人人有权",
    "All human beings are born free and equal in dignity", "Kila mtu ana haki ya", "Setiap orang berhak", "Article 1",
)  # fmt: skip


def used(process: int) -> float:
    """Return the seconds of computing that the threads of a process have had."""
    tasks = Path(f"/proc/{process}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def timed(work: Callable[..., None], *args: Any, process: int = os.getpid()) -> tuple[float, float]:
    """Return the seconds that some work takes on the clock, and those that a process computes for it."""
    began, before = time.perf_counter(), used(process)
    work(*args)
    return time.perf_counter() - began, used(process) - before


def generated(model: Any, ids: list[int], length: int) -> None:
    """Write one greedy answer with transformers' own generate."""
    prompt = torch.tensor([ids])
    out = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=length, do_sample=False, pad_token_id=3
    )  # fmt: skip
    assert out.shape[1] == len(ids) + length


def bare(model: Any, ids: list[int], length: int) -> None:
    """Write one answer in a loop that does nothing but run the model and take the likeliest token."""
    rows = Rows(model)
    logits = rows.feed(torch.tensor([ids]))
    for _ in range(length - 1):
        logits = rows.feed(logits.argmax(dim=-1, keepdim=True))
    int(logits.argmax())


@torch.inference_mode()
def padded(model: Any, prompts: list[list[int]], length: int) -> None:
    """Write answers in one batch that is all there at the beginning, and goes on until the longest one ends."""
    width = max(map(len, prompts))
    ids = torch.tensor([[3] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    cache: Any = DynamicCache(config=model.config)
    for _ in range(length):
        out = model(input_ids=ids, attention_mask=mask, cache=cache, use_cache=True, logits_to_keep=1)
        ids = out.logits[:, -1].argmax(dim=-1, keepdim=True)
        mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
    ids.tolist()


def batched(runner: Runner, prompts: list[list[int]], lengths: Sequence[int]) -> None:
    """Write answers to all prompts at once with the batcher."""
    common: dict[str, Any] = {"sampling": Sampling(temperature=0.0), "ignore_eos": True}
    collected: list[Collected] = runner.run(
        *({"prompt": prompt, "max_tokens": length, **common} for prompt, length in zip(prompts, lengths, strict=True))
    )
    assert sum(piece.sampled for out in collected for piece in out.pieces) == sum(lengths)


def streamed(server: Server, prompt: str) -> None:
    """Call over HTTP and read the answer's stream to its end."""
    body = {
        "model": NAME, "prompt": prompt, "max_tokens": STREAM_LENGTH, "temperature": 0, "stream": True,
        "ignore_eos": True,
    }  # fmt: skip
    with server.client() as client:
        client.get("/health")
        with client.stream("POST", "/v1/completions", json=body) as response:
            last = b"".join(response.iter_raw())[-16:]
    assert last.endswith(b"data: [DONE]\n\n")


def one_by_one(model: Any, prompts: list[list[int]], length: int) -> None:
    """Write answers to all prompts one after another."""
    for prompt in prompts:
        generated(model, prompt, length)


def tiny() -> dict[str, float]:
    """Return ratios of time, the same of computing time, and tokens a second, on the demo model in 32 bits.

    All are medians of alternating rounds. On a machine that does other things as well, only the ratios of computing
    time mean something.
    """
    model, vocabulary = load(FOLDER), Vocabulary(FOLDER)
    model.generation_config.eos_token_id = None  # all answers have the length asked for
    prompts = [vocabulary.encode(prompt) for prompt in PROMPTS]
    runner = Runner(Batcher(model, vocabulary, slots=len(prompts), queue=len(prompts)))
    runner.batcher.start()
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as server:
        rounds = [
            (
                timed(one_by_one, model, prompts, LENGTH),
                timed(batched, runner, prompts, [LENGTH] * len(prompts)),
                timed(padded, model, prompts, max(UNEVEN)),
                timed(batched, runner, prompts, UNEVEN),
                timed(bare, model, prompts[0], STREAM_LENGTH),
                timed(streamed, server, PROMPTS[0], process=server.process.pid),
            )
            for _ in range(ROUNDS + 1)
        ]
    runner.batcher.close()
    figures = {}
    for name, place in (("", 0), ("_cpu", 1)):
        serial, batch, ideal, uneven, plain, stream = medians(rounds, place)
        figures[f"engine_batch{name}_ratio"] = serial / batch
        figures[f"engine_uneven{name}_ratio"] = ideal / uneven
        figures[f"engine_stream{name}_ratio"] = plain / stream
        if not name:
            figures["engine_serial_tokens_per_s"] = LENGTH * len(prompts) / serial
            figures["engine_batch_tokens_per_s"] = LENGTH * len(prompts) / batch
            figures["engine_stream_tokens_per_s"] = STREAM_LENGTH / stream
    return figures


def medians(rounds: list[tuple[tuple[float, float], ...]], place: int) -> list[float]:
    """Return the middle of what each part took; the first round warms up."""
    return [statistics.median(each[place] for each in column) for column in zip(*rounds[1:], strict=True)]


def large() -> dict[str, float]:
    """Return the same ratio for BLOOM-560m's shape with random weights in 16 bits, as far as memory allows."""
    if psutil.virtual_memory().available < LARGE_NEEDS:
        print("  (engine: too little memory for 560m)", file=sys.stderr)
        return {}
    torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(8)
    bloom: Any = BloomForCausalLM
    shape = BloomConfig(hidden_size=1024, n_layer=24, n_head=16, eos_token_id=2, attn_implementation="eager")
    with torch.device("meta"):
        model = bloom(shape)
    model = model.to(torch.bfloat16).to_empty(device="cpu").eval()
    with torch.no_grad():
        for weights in model.parameters():
            weights.normal_(0.0, 0.02)
    model.generation_config.eos_token_id = None
    vocabulary = Vocabulary(FOLDER)
    prompts = [vocabulary.encode(prompt) for prompt in PROMPTS]
    runner = Runner(Batcher(model, vocabulary, slots=len(prompts), queue=len(prompts)))
    runner.batcher.start()
    try:
        rounds = [
            (
                timed(one_by_one, model, prompts, LARGE_LENGTH),
                timed(batched, runner, prompts, [LARGE_LENGTH] * len(prompts)),
            )
            for _ in range(3)
        ]
    finally:
        runner.batcher.close()
        torch.set_num_threads(1)
    serial, batch = medians(rounds, 0)
    tokens = LARGE_LENGTH * len(prompts)
    return {
        "engine_560m_batch_ratio": serial / batch,
        "engine_560m_serial_tokens_per_s": tokens / serial,
        "engine_560m_batch_tokens_per_s": tokens / batch,
    }


def measure() -> dict[str, float]:
    """Return the figures of the demo model and of a larger one."""
    return {name: round(value, 2) for name, value in (tiny() | large()).items()}


if __name__ == "__main__":
    print(measure())
