"""Rows in a batch get what they would get alone; jobs wait, leave, fail and end as they should."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from gated_inference.engine import batcher as module
from gated_inference.engine.batcher import Batcher, Full, Job
from gated_inference.engine.cache import Rows
from gated_inference.engine.sampling import Sampling
from gated_inference.engine.text import Vocabulary
from tests.engine.conftest import Collected, Runner
from tests.running import wait_until

Start = Callable[..., Runner]
GREEDY = Sampling(temperature=0.0)
PROMPTS = [
    [1, 300, 301, 302], [17], [900 + place for place in range(40)], [5, 6, 7], [4000, 3000, 2000, 1000, 500, 250],
    [77] * 9, [1], [1234, 4095, 8, 600, 3], [2048, 31, 12], [1, 2, 3], [700, 7, 70],
]  # fmt: skip
LENGTHS = [24, 3, 17, 40, 1, 9, 30, 12, 25, 6, 20]


def serial(model: Any, prompt: list[int], length: int) -> tuple[list[int], torch.Tensor]:
    """Return what transformers' own generate writes for one prompt alone, and its logits."""
    ids = torch.tensor([prompt])
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=length, do_sample=False,
        output_logits=True, return_dict_in_generate=True, pad_token_id=3,
    )  # fmt: skip
    return out.sequences[0, len(prompt) :].tolist(), torch.stack(out.logits)[:, 0].float()


@pytest.fixture(scope="module")
def references(wild: Any) -> list[tuple[list[int], torch.Tensor]]:
    """What each prompt gives alone; so diverse that agreement means something."""
    found = [serial(wild, prompt, length) for prompt, length in zip(PROMPTS, LENGTHS, strict=True)]
    everything = [token for tokens, _ in found for token in tokens]
    assert len(set(everything)) > len(everything) / 2
    assert all(len(set(tokens)) > len(tokens) / 3 for tokens, _ in found)
    assert len({tuple(tokens[:3]) for tokens, _ in found if len(tokens) >= 3}) >= 9
    return found


def asks(**more: Any) -> list[dict[str, Any]]:
    common: dict[str, Any] = {"sampling": GREEDY, "logprobs": 5, "ignore_eos": True, **more}
    return [
        {"prompt": prompt, "max_tokens": length, **common} for prompt, length in zip(PROMPTS, LENGTHS, strict=True)
    ]  # fmt: skip


def agrees(words: Vocabulary, out: Collected, tokens: list[int], logits: torch.Tensor) -> None:
    """Assert that an answer has the tokens of a reference, and log-probabilities as close as rounding allows."""
    entries = out.entries()
    assert [entry.token for entry in entries] == [words.name(token) for token in tokens]
    expected = torch.log_softmax(logits, dim=-1)
    for place, (entry, token) in enumerate(zip(entries, tokens, strict=True)):
        assert entry.logprob == pytest.approx(float(expected[place, token]), abs=2e-4)
        top = torch.topk(expected[place], 5)
        assert sorted(entry.top.values(), reverse=True) == pytest.approx(top.values.tolist(), abs=2e-4)


@pytest.mark.parametrize("slots", [1, 3, 8, 16])
def test_a_batch_gives_what_serial_generation_gives(
    wild: Any, vocabulary: Vocabulary, runner: Start, references: list[tuple[list[int], torch.Tensor]], slots: int
) -> None:
    collected = runner(wild, slots=slots).run(*asks())
    for out, (tokens, logits) in zip(collected, references, strict=True):
        agrees(vocabulary, out, tokens, logits)
        assert out.finish() == "length"
        assert sum(piece.sampled for piece in out.pieces) == len(tokens)


def test_rows_that_join_late_change_nothing(
    wild: Any, vocabulary: Vocabulary, runner: Start, references: list[tuple[list[int], torch.Tensor]]
) -> None:
    running = runner(wild)
    collected = []
    for ask in asks():
        collected += running.submit(ask)
        assert collected[-1].first.wait(30)
    for out, (tokens, logits) in zip(collected, references, strict=True):
        assert out.done.wait(30)
        agrees(vocabulary, out, tokens, logits)


def test_a_long_prompt_read_in_pieces_gives_the_same(
    wild: Any, vocabulary: Vocabulary, runner: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PREFILL", 16)
    prompts = [[(place * step) % 4000 + 4 for place in range(50)] for step in (7, 13)]
    references = [serial(wild, prompt, 8) for prompt in prompts]
    assert references[0][0] != references[1][0]
    ask = {"max_tokens": 8, "sampling": GREEDY, "logprobs": 5, "ignore_eos": True}
    for out, (tokens, logits) in zip(
        runner(wild).run(*({"prompt": prompt, **ask} for prompt in prompts)), references, strict=True
    ):
        agrees(vocabulary, out, tokens, logits)


def test_running_rows_move_between_the_pieces_of_a_long_prompt(
    wild: Any, runner: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PREFILL", 16)
    running = runner(wild)
    fed: list[tuple[int, ...]] = []
    feed = Rows.feed

    def watched(self: Rows, ids: torch.Tensor) -> torch.Tensor:
        fed.append(tuple(ids.shape))
        return feed(self, ids)

    monkeypatch.setattr(Rows, "feed", watched)
    moving = Job(deliver=Collected(), **endless())
    running.batcher.submit([moving])
    wait_until(lambda: running.batcher.stats()["steps"] > 2)
    running.run({"prompt": [5] * 70, "max_tokens": 2, "ignore_eos": True})
    moving.cancelled = True
    pieces = [place for place, shape in enumerate(fed) if shape[1] in {16, 6}]
    assert [fed[place][1] for place in pieces] == [16, 16, 16, 16, 6]
    assert all(fed[place + 1] == (1, 1) for place in pieces[:-1])  # a step of the running row after each piece
    assert fed[pieces[-1] + 1] == (2, 1)


def test_the_comparison_sees_a_mask_that_is_wrong(wild: Any) -> None:
    parts = []
    for prompt in PROMPTS[:3]:
        part = Rows(wild)
        part.feed(torch.tensor([prompt]))
        parts.append(part)
    joined = Rows.joined(parts)
    nexts = torch.tensor([[9], [10], [11]])
    kept = joined.lengths
    right = joined.feed(nexts)
    for row, prompt in enumerate(PROMPTS[:3]):
        alone = Rows(wild).feed(torch.tensor([[*prompt, int(nexts[row])]]))
        assert torch.allclose(right[row], alone[0], atol=1e-4)
    again = Rows.joined(list(parts))
    again.lengths = [max(kept)] * 3  # the padding counts as text
    assert (again.feed(nexts) - right).abs().max() > 0.1


def test_thinned_caches_lose_the_padding_that_nobody_needs(wild: Any) -> None:
    parts = []
    for prompt in PROMPTS[:4]:
        part = Rows(wild)
        part.feed(torch.tensor([prompt]))
        parts.append(part)
    joined = Rows.joined(parts)
    joined.keep([0, 3])
    assert joined.lengths == [4, 3]
    assert all(layer.keys.shape[2] == 4 for layer in joined.cache.layers)
    logits = joined.feed(torch.tensor([[9], [10]]))
    alone = Rows(wild).feed(torch.tensor([[*PROMPTS[3], 10]]))
    assert torch.allclose(logits[1], alone[0], atol=1e-4)


def test_a_seeded_answer_is_the_same_alone_and_in_a_batch(wild: Any, runner: Start) -> None:
    sampling = Sampling(temperature=1.3, top_p=0.95, top_k=50, repetition_penalty=1.1, seed=42)
    alone = [runner(wild, slots=1).run(ask)[0] for ask in asks(sampling=sampling)]
    together = runner(wild).run(*asks(sampling=sampling))
    for one, other in zip(alone, together, strict=True):
        assert [entry.token for entry in one.entries()] == [entry.token for entry in other.entries()]
    other_seed = runner(wild).run(asks(sampling=Sampling(temperature=1.3, seed=43))[0])[0]
    assert [entry.token for entry in other_seed.entries()] != [entry.token for entry in alone[0].entries()]


def test_several_answers_of_one_prompt_differ_and_the_first_is_the_one_asked_for_alone(
    wild: Any, runner: Start
) -> None:
    ask = {"prompt": PROMPTS[0], "max_tokens": 12, "sampling": Sampling(seed=9), "logprobs": 0, "ignore_eos": True}
    several = runner(wild).run({**ask, "choices": 4})[0]
    alone = runner(wild).run(ask)[0]
    texts = [tuple(entry.token for entry in several.entries(choice)) for choice in range(4)]
    assert len(set(texts)) == 4
    assert texts[0] == tuple(entry.token for entry in alone.entries())
    assert all(len(text) == 12 for text in texts)


def test_the_end_of_text_ends_an_answer_unless_it_is_to_be_ignored(
    wild: Any, vocabulary: Vocabulary, runner: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens, _ = serial(wild, PROMPTS[0], 10)
    running = runner(wild)
    running.batcher.ends = {tokens[4]}
    ask = {"prompt": PROMPTS[0], "max_tokens": 10, "sampling": GREEDY, "logprobs": 0}
    ended, ignored = running.run(ask, {**ask, "ignore_eos": True})
    assert (ended.finish(), len(ended.entries())) == ("stop", 5)
    assert ended.text() == vocabulary.tokenizer.decode(tokens[:4])
    assert (ignored.finish(), len(ignored.entries())) == ("length", 10)


def endless(**more: Any) -> dict[str, Any]:
    return {"prompt": [1, 20], "max_tokens": 100_000, "ignore_eos": True, **more}


def test_what_does_not_fit_is_refused_and_what_is_cancelled_makes_room(wild: Any, runner: Start) -> None:
    running = runner(wild, slots=2, queue=1)
    jobs = [Job(deliver=Collected(), **endless()) for _ in range(4)]
    running.batcher.submit(jobs[:2])
    wait_until(lambda: running.batcher.stats()["running"] == 2)
    running.batcher.submit(jobs[2:3])
    with pytest.raises(Full):
        running.batcher.submit(jobs[3:])
    assert running.batcher.stats()["queued"] == 1
    jobs[0].cancelled = True
    steps = running.batcher.stats()["steps"]
    wait_until(lambda: running.batcher.stats()["cancelled"] == 1)
    assert running.batcher.stats()["steps"] - steps < 50  # the exact bound stands in the next test
    wait_until(lambda: running.batcher.stats() | {"queued": 0} == running.batcher.stats())
    running.batcher.submit(jobs[3:])
    for job in jobs:
        job.cancelled = True
    wait_until(lambda: running.batcher.stats()["running"] == running.batcher.stats()["queued"] == 0)
    assert running.batcher.stats()["cancelled"] == 4


def test_a_cancelled_row_is_gone_within_two_steps(wild: Any, runner: Start) -> None:
    running = runner(wild)
    seen: list[int] = []
    other = Collected()

    def deliver(_: Any) -> None:  # in the batcher's own thread, so nothing moves meanwhile
        seen.append(running.batcher.counts["steps"])
        job.cancelled = True

    job = Job(deliver=deliver, **endless())
    running.batcher.submit([Job(deliver=other, **endless(max_tokens=60)), job])
    assert other.done.wait(30)
    assert len(seen) <= 2
    assert other.finish() == "length"
    assert running.batcher.stats()["cancelled"] == 1


def test_a_call_for_more_answers_waits_until_all_of_them_fit(wild: Any, runner: Start) -> None:
    running = runner(wild, slots=4)
    short, wide = running.run(
        {"prompt": [5], "max_tokens": 5, "ignore_eos": True, "choices": 2},
        {"prompt": [6], "max_tokens": 5, "ignore_eos": True, "choices": 4},
    )
    assert (short.ended, wide.ended) == (2, 4)


def test_one_that_waited_too_long_is_told(wild: Any, runner: Start) -> None:
    running = runner(wild, slots=1, max_wait=0.05)
    first = Job(deliver=Collected(), **endless())
    running.batcher.submit([first])
    wait_until(lambda: running.batcher.stats()["running"] == 1)
    late = running.run({"prompt": [5], "max_tokens": 5})[0]
    assert late.failure is not None
    assert late.failure.code == "overloaded"
    first.cancelled = True


def test_an_error_of_the_model_reaches_everybody_who_waits(
    wild: Any, runner: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = runner(wild, slots=1)
    feed, calls = Rows.feed, []

    def broken(self: Rows, ids: torch.Tensor) -> torch.Tensor:
        calls.append(ids)
        if len(calls) > 3:
            raise RuntimeError("no memory left")
        return feed(self, ids)

    monkeypatch.setattr(Rows, "feed", broken)
    collected = running.run(endless(), endless())
    assert [out.failure and out.failure.code for out in collected] == ["engine_failed"] * 2
    assert running.batcher.failed == "RuntimeError: no memory left"
    after = running.run({"prompt": [5], "max_tokens": 5})[0]
    assert after.failure is not None


def test_closing_tells_everybody(wild: Any, runner: Start) -> None:
    running = runner(wild, slots=1)
    collected = running.submit(endless(), endless())
    assert collected[0].first.wait(10)
    running.batcher.close()
    assert all(out.failure for out in collected)


def test_another_release_of_transformers_is_refused(
    wild: Any, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.transformers, "__version__", "5.0.0")
    with pytest.raises(RuntimeError, match="transformers 5"):
        Batcher(wild, vocabulary, slots=1, queue=1)


def test_log_probabilities_of_all_tokens_add_up_to_one(wild: Any, runner: Start) -> None:
    out = runner(wild).run({"prompt": [5, 6], "max_tokens": 4, "sampling": GREEDY, "logprobs": 4096})[0]
    for entry in out.entries():
        assert math.fsum(map(math.exp, entry.top.values())) == pytest.approx(1, abs=1e-4)
