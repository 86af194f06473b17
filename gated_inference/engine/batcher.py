"""Iteration-level batching over one BLOOM model: rows join and leave between two forward passes.

One thread owns the model. Its loop: drop what was cancelled → admit what fits → one forward pass for all rows →
choose a token for each → hand out what became text → drop what is finished.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from torch import Tensor

from gated_inference.engine.cache import Alone, Rows
from gated_inference.engine.ranks import said
from gated_inference.engine.sampling import Sampler, Sampling, Scored, choose_all, score
from gated_inference.engine.text import Vocabulary, Writer

# The cache is taken apart by hand, which no interface of transformers promises to bear.
TRANSFORMERS = "5.24.0"
# Long prompts enter in pieces, so that running rows keep moving meanwhile.
PREFILL = 256
# An idle engine stirs this often, in seconds, so that those who hold parts of its model know that it is there.
REST = 1.0


class Full(Exception):
    """The queue has no room for another job."""


@dataclass(frozen=True)
class Entry:
    """One token of an answer as log-probabilities list it."""

    token: str
    logprob: float
    top: dict[str, float]
    offset: int


@dataclass(frozen=True)
class Piece:
    """What one step adds to one answer; the last piece of an answer says why it ended."""

    choice: int
    text: str
    sampled: int
    entries: list[Entry] = field(default_factory=list)
    finish: str | None = None


@dataclass(frozen=True)
class Failure:
    """A job that ends without an answer: `overloaded` waited too long, `engine_failed` met an error."""

    code: str


@dataclass(eq=False)
class Job:
    """One prompt and what is wanted of it.

    Args:
        prompt: its token ids, at least one.
        deliver: takes what became ready, called in the batcher's thread.
        first: number of its first answer among those of the same call.
    """

    prompt: list[int]
    max_tokens: int
    deliver: Callable[[list[Piece] | Failure], None]
    sampling: Sampling = field(default_factory=Sampling)
    choices: int = 1
    first: int = 0
    logprobs: int | None = None
    stops: tuple[str, ...] = ()
    ignore_eos: bool = False
    cancelled: bool = False
    queued_at: float = 0.0


class Row:
    """One answer being written."""

    def __init__(self, job: Job, choice: int, vocabulary: Vocabulary) -> None:
        self.job = job
        self.choice = job.first + choice
        self.vocabulary = vocabulary
        self.sampler = Sampler(job.sampling, choice)
        self.writer = Writer(vocabulary, job.stops, job.prompt)
        self.history = list(job.prompt)
        self.sampled = self.told = 0
        self.entries: list[Entry] = []
        self.finish: str | None = None

    def take(self, token: int, scored: Scored | None, ends: set[int]) -> Piece | None:
        """Add a sampled token and return what may be handed out because of it."""
        self.history.append(token)
        self.sampled += 1
        if scored is not None:
            self.entries.append(self.entry(scored))
        if token in ends and not self.job.ignore_eos:
            self.finish = "stop"
        elif self.writer.add(token):
            self.finish = "stop"
            self.entries = [entry for entry in self.entries if entry.offset < len(self.writer.text)]
        elif self.sampled >= self.job.max_tokens:
            self.finish = "length"
        return self.piece()

    def entry(self, scored: Scored) -> Entry:
        name = self.vocabulary.name
        top = {name(token): logprob for token, logprob in scored.top}
        top.setdefault(name(scored.token), scored.logprob)
        return Entry(name(scored.token), scored.logprob, top, len(self.writer.text))

    def piece(self) -> Piece | None:
        """Return the text that is ready with the tokens it is made of."""
        text = self.writer.release(last=self.finish is not None)
        if not text and self.finish is None:
            return None
        ready = [entry for entry in self.entries if self.finish or entry.offset < self.writer.sent]
        self.entries = self.entries[len(ready) :]
        sampled, self.told = self.sampled - self.told, self.sampled
        return Piece(self.choice, text, sampled, ready, self.finish)


@dataclass
class Entering:
    """A job whose prompt is being read in."""

    job: Job
    cache: Rows
    read: int = 0


class Batcher:
    """Runs jobs on a model, up to a number of rows at once and of jobs waiting.

    Args:
        lead: tells other processes that hold parts of the model what happens to its rows.
    """

    def __init__(
        self, model: Any, vocabulary: Vocabulary, *, slots: int, queue: int, max_wait: float = 60.0,
        lead: Alone | None = None,
    ) -> None:  # fmt: skip
        if transformers.__version__ != TRANSFORMERS:
            raise RuntimeError(f"transformers {TRANSFORMERS} is needed, not {transformers.__version__}")
        self.model = model
        self.vocabulary = vocabulary
        self.lead = lead or Alone(model)
        self.slots, self.queue, self.max_wait = slots, queue, max_wait
        ends = model.config.eos_token_id
        self.ends = set(ends if isinstance(ends, list) else [ends])
        self.changed = threading.Condition()
        self.waiting: deque[Job] = deque()
        self.entering: Entering | None = None
        self.rows: list[Row] = []
        self.cache: Rows | None = None
        self.closing = False
        self.failed: str | None = None
        self.counts = dict.fromkeys(("steps", "finished", "cancelled", "prompt_tokens", "completion_tokens"), 0)
        self.thread = threading.Thread(target=self.run, name="batcher", daemon=True)

    def start(self) -> None:
        """Start the thread that owns the model."""
        self.thread.start()

    def close(self, seconds: float = 1.0) -> None:
        """Stop after the running step."""
        with self.changed:
            self.closing = True
            self.changed.notify()
        self.thread.join(seconds)

    def submit(self, jobs: list[Job]) -> None:
        """Queue the jobs of one call, all of them or none.

        Raises:
            Full: they do not fit.
        """
        with self.changed:
            if self.failed or self.closing:
                for job in jobs:
                    job.deliver(Failure("engine_failed"))
                return
            # Those that find a free slot pass through the queue within one step.
            if len(self.waiting) + len(jobs) > self.queue + self.slots - self.busy:
                raise Full
            for job in jobs:
                job.queued_at = time.monotonic()
                self.waiting.append(job)
            self.changed.notify()

    @property
    def busy(self) -> int:
        """Return how many slots are taken."""
        return len(self.rows) + (self.entering.job.choices if self.entering else 0)

    def stats(self) -> dict[str, int]:
        """Return what runs, what waits, and what was done since the start."""
        return {"running": self.busy, "queued": len(self.waiting), "slots": self.slots, **self.counts}

    def run(self) -> None:
        """Work until closed; an error ends every job and the batcher."""
        try:
            while self.wait():
                if not self.called:
                    self.lead.rest()
                    continue
                self.sweep()
                self.admit()
                if self.rows and self.cache is not None:
                    ids = torch.tensor([[row.history[-1]] for row in self.rows])
                    self.settle(self.advance(self.rows, self.cache.feed(ids)))
        except Exception as error:  # noqa: BLE001  nobody else can tell those who wait
            self.fail(said(error))
        else:
            self.fail(None)

    @property
    def called(self) -> bool:
        """Say whether there is anything to do."""
        return bool(self.closing or self.waiting or self.entering or self.rows)

    def wait(self) -> bool:
        """Sleep for a moment at most while there is nothing to do; return whether to go on."""
        with self.changed:
            self.changed.wait_for(lambda: self.called, REST)
            return not self.closing

    def fail(self, reason: str | None) -> None:
        """Tell everybody that no answer comes any more, for a reason or because the batcher was closed."""
        with self.changed:
            self.failed = reason
            jobs = {row.job for row in self.rows} | set(self.waiting)
            if self.entering:
                jobs.add(self.entering.job)
            self.waiting.clear()
            self.rows, self.cache, self.entering = [], None, None
        for job in jobs:
            job.deliver(Failure("engine_failed"))

    def sweep(self) -> None:
        """Drop what was cancelled and what waited too long."""
        with self.changed:
            oldest = time.monotonic() - self.max_wait
            late = [job for job in self.waiting if job.queued_at < oldest and not job.cancelled]
            gone = [job for job in self.waiting if job.cancelled]
            for job in late + gone:
                self.waiting.remove(job)
            if self.entering and self.entering.job.cancelled:
                gone.append(self.entering.job)
                self.entering.cache.drop()
                self.entering = None
            gone += {row.job for row in self.rows if row.job.cancelled}
        self.counts["cancelled"] += len(gone)
        for job in late:
            job.deliver(Failure("overloaded"))
        self.settle([place for place, row in enumerate(self.rows) if not row.job.cancelled])

    def settle(self, places: list[int]) -> None:
        """Keep the rows at some places, free the slots of the others."""
        if len(places) == len(self.rows):
            return
        self.rows = [self.rows[place] for place in places]
        if self.cache is not None:
            if self.rows:
                self.cache.keep(places)
            else:
                self.cache.drop()
                self.cache = None

    def admit(self) -> None:
        """Read in prompts of waiting jobs that fit, at most so many tokens in one go."""
        budget = PREFILL
        caches = [self.cache] if self.cache is not None else []
        while budget > 0 and (entering := self.enter()) is not None:
            piece = entering.job.prompt[entering.read : entering.read + budget]
            logits = entering.cache.feed(torch.tensor([piece]))
            entering.read += len(piece)
            budget -= len(piece)
            if entering.read == len(entering.job.prompt):
                caches += self.begin(entering, logits)
                self.entering = None
        self.cache = Rows.joined(caches) if caches else None

    def enter(self) -> Entering | None:
        """Return the prompt being read in: the one begun, or the next one when there is room for its answers."""
        if self.entering is None:
            with self.changed:
                if self.waiting and len(self.rows) + self.waiting[0].choices <= self.slots:
                    self.entering = Entering(self.waiting.popleft(), self.lead.blank())
                    self.counts["prompt_tokens"] += len(self.entering.job.prompt)
        return self.entering

    def begin(self, entering: Entering, logits: Tensor) -> list[Rows]:
        """Draw the first token of each answer, add the rows that go on, and return their cache if there are any."""
        job, cache = entering.job, entering.cache
        rows = [Row(job, choice, self.vocabulary) for choice in range(job.choices)]
        places = self.advance(rows, logits.expand(job.choices, -1))
        if not places:
            cache.drop()
            return []
        cache.keep([0] * len(places))
        self.rows += [rows[place] for place in places]
        return [cache]

    def advance(self, rows: list[Row], logits: Tensor) -> list[int]:
        """Give every row its next token, hand out what became ready, and return the places of those that go on."""
        self.counts["steps"] += 1
        tokens = choose_all([row.sampler for row in rows], logits, [row.history for row in rows])
        self.counts["completion_tokens"] += len(tokens)
        ready: dict[Job, list[Piece]] = {}
        for place, (row, token) in enumerate(zip(rows, tokens, strict=True)):
            wanted = row.job.logprobs
            scored = None if wanted is None else score(logits[place], token, wanted)
            piece = row.take(token, scored, self.ends)
            if piece is not None:
                ready.setdefault(row.job, []).append(piece)
        for job, pieces in ready.items():
            self.counts["finished"] += sum(piece.finish is not None for piece in pieces)
            job.deliver(pieces)
        return [place for place, row in enumerate(rows) if row.finish is None]
