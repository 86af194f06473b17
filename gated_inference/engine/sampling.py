"""Picks the next token of each row: its own seed, its own settings, and log-probabilities of what the model said."""

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.generation.logits_process import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

# Below this a division would overflow, and no second token has a chance that can be told from none.
GREEDY_BELOW = 1e-4


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn; without a seed every answer differs."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int | None = None


@dataclass(frozen=True)
class Scored:
    """What the model itself said about one sampled token, before temperature."""

    token: int
    logprob: float
    top: list[tuple[int, float]]


def derived_seed(seed: int, choice: int) -> int:
    """Return the seed of one of several answers; the first one keeps the seed as given."""
    if choice == 0:
        return seed
    digest = hashlib.sha256(f"{seed}/{choice}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Sampler:
    """Draws the tokens of one row."""

    def __init__(self, sampling: Sampling, choice: int) -> None:
        self.greedy = sampling.temperature < GREEDY_BELOW
        self.generator = torch.Generator()
        if sampling.seed is None:
            self.generator.seed()
        else:
            self.generator.manual_seed(derived_seed(sampling.seed, choice))
        processors: list[Any] = []
        if sampling.repetition_penalty != 1.0:
            processors.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
        if not self.greedy:
            if sampling.temperature != 1.0:
                processors.append(TemperatureLogitsWarper(sampling.temperature))
            if sampling.top_k:
                processors.append(TopKLogitsWarper(sampling.top_k))
            if sampling.top_p < 1.0:
                processors.append(TopPLogitsWarper(sampling.top_p))
        self.processors: Any = LogitsProcessorList(processors)

    @property
    def plain(self) -> bool:
        """Say whether the likeliest token is always taken as the model gives it."""
        return self.greedy and not self.processors

    def choose(self, logits: Tensor, history: list[int]) -> int:
        """Return the next token after a history, from the logits of one row."""
        scores = logits[None]
        if self.processors:
            scores = self.processors(torch.tensor([history]), scores)
        if self.greedy:
            return int(scores[0].argmax())
        # One random number decides along the cumulated probabilities. Rounding that differs between a batch and a
        # row alone moves a boundary by less than a millionth, so a seeded answer is the same in both.
        chances = torch.softmax(scores[0].double(), dim=-1).cumsum(dim=-1)
        point = torch.rand((), generator=self.generator, dtype=torch.float64) * chances[-1]
        index = int(torch.searchsorted(chances, point, right=True))
        return index if index < chances.shape[0] else int(scores[0].argmax())


def choose_all(samplers: list[Sampler], logits: Tensor, histories: list[list[int]]) -> list[int]:
    """Return the next token of every row."""
    likeliest: list[int] = logits.argmax(dim=-1).tolist()
    return [
        likeliest[row] if sampler.plain else sampler.choose(logits[row], histories[row])
        for row, sampler in enumerate(samplers)
    ]


def score(logits: Tensor, token: int, count: int) -> Scored:
    """Return the log-probability of a token and of the likeliest ones, before temperature and penalties."""
    logprobs = torch.log_softmax(logits, dim=-1)
    top = torch.topk(logprobs, count) if count else None
    pairs = [] if top is None else list(zip(top.indices.tolist(), top.values.tolist(), strict=True))
    return Scored(token=token, logprob=float(logprobs[token]), top=pairs)
