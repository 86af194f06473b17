"""Run once on each of two ranks: writes down what they compute together, rightly, and with a mistake.

At its end the first one is killed, as no other end would be so sudden.

python -m tests.engine.two_ranks MODEL OUT
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from gated_inference.engine import batcher as module
from gated_inference.engine import ranks, tensor_parallel
from gated_inference.engine.batcher import Batcher, Job
from gated_inference.engine.model import load
from gated_inference.engine.sampling import Sampling
from gated_inference.engine.serve import longest_plan
from gated_inference.engine.text import Vocabulary
from tests.engine.conftest import FOLDER, Collected

SLOTS = 5
PROMPTS = [
    [1, 300, 301, 302], [17], [900 + place for place in range(40)], [5, 6, 7], [4000, 3000, 2000, 1000, 500, 250],
    [77] * 9, [1], [1234, 4095, 8, 600, 3],
]  # fmt: skip
LENGTHS = [24, 3, 17, 30, 1, 9, 28, 12]
WAYS = {
    "greedy": Sampling(temperature=0.0),
    "seeded": Sampling(temperature=1.3, top_p=0.95, top_k=50, repetition_penalty=1.1, seed=42),
}


@torch.inference_mode()
def logits(model: Any) -> list[torch.Tensor]:
    """Return what a model says at every place of every prompt."""
    return [model(input_ids=torch.tensor([prompt])).logits[0].float() for prompt in PROMPTS]


def answers(batcher: Batcher) -> dict[str, list[list[tuple[str, float]]]]:
    """Return tokens and log-probabilities of answers that join one by one, end one by one, and see one leave."""
    found = {}
    for way, sampling in WAYS.items():
        gone = Job([9, 8], 10_000, Collected(), sampling, ignore_eos=True)
        batcher.submit([gone])
        collected = []
        for place, (prompt, length) in enumerate(zip(PROMPTS, LENGTHS, strict=True)):
            choices = 2 if place == 3 else 1
            collected.append(Collected(expected=choices))
            batcher.submit([Job(prompt, length, collected[-1], sampling, choices, logprobs=0, ignore_eos=True)])
            if place < 3:
                assert collected[-1].first.wait(60)
            gone.cancelled = place >= 5
        assert all(out.done.wait(60) for out in collected)
        found[way] = [
            [(entry.token, entry.logprob) for entry in out.entries(choice)]
            for out in collected
            for choice in range(out.expected)
        ]
    return found


def main(folder: Path, out: Path) -> None:
    """Compute on this rank; the first one starts the other and writes everything down."""
    first = ranks.rank() == 0
    if first:
        team = ranks.Team()
        team.start([sys.executable, "-m", "tests.engine.two_ranks", str(folder), str(out)], 2)
    else:
        ranks.end_with_the_first()
    group = ranks.meet()
    model = load(folder, ranks=2)
    right = tensor_parallel.biases_of
    tensor_parallel.biases_of = lambda _, count: right(0, count)  # every rank takes the first one's heads
    wrong = load(folder, ranks=2)
    ranks.assemble(group, 60)
    found: dict[str, Any] = {"right": logits(model), "wrong": logits(wrong)}
    own = [getattr(weights, "_local_tensor", weights) for weights in model.parameters()]
    found["held"] = sum(weights.untyped_storage().nbytes() for weights in own)
    module.PREFILL = 16  # longer prompts are read in pieces
    module.REST = 0.05
    channel = tensor_parallel.Channel(group, longest_plan(SLOTS), 60)
    if not first:
        try:
            tensor_parallel.follow(model, channel)
        except RuntimeError as error:
            ranks.give_up(error)
    team.ready()
    lead = tensor_parallel.Lead(model, channel)
    batcher = Batcher(model, Vocabulary(FOLDER), slots=SLOTS, queue=32, lead=lead)
    batcher.start()
    found |= answers(batcher)
    found["other"] = team.children[0].pid
    torch.save(found, out)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
