"""How a token is drawn: seeds, temperature, top-k, top-p, repetition, and what log-probabilities say."""

import math
from collections import Counter

import pytest
import torch

from gated_inference.engine.sampling import Sampler, Sampling, choose_all, derived_seed, score

LOGITS = torch.tensor([1.0, 3.0, 2.0, 0.5, -math.inf])


def drawn(count: int, **settings: float) -> Counter[int]:
    sampler = Sampler(Sampling(seed=11, **settings), 0)  # type: ignore[arg-type]
    return Counter(sampler.choose(LOGITS, [0]) for _ in range(count))


def test_without_temperature_the_likeliest_token_is_taken() -> None:
    assert drawn(5, temperature=0) == {1: 5}
    assert drawn(5, temperature=1e-30) == {1: 5}


def test_a_full_draw_follows_the_probabilities() -> None:
    found = drawn(4000)
    for token, chance in enumerate(torch.softmax(LOGITS, 0).tolist()):
        assert found[token] / 4000 == pytest.approx(chance, abs=0.03)
    assert found[4] == 0


def test_top_k_and_top_p_leave_the_unlikely_out() -> None:
    assert set(drawn(300, top_k=2)) == {1, 2}
    assert set(drawn(300, top_p=0.6)) == {1}
    assert set(drawn(300, top_p=0.8)) == {1, 2}


def test_a_high_temperature_evens_out_and_a_low_one_sharpens() -> None:
    assert drawn(1000, temperature=2.0)[1] < drawn(1000)[1] < drawn(1000, temperature=0.3)[1]


def test_a_repetition_penalty_turns_to_what_was_not_said() -> None:
    plain = Sampler(Sampling(temperature=0), 0)
    wary = Sampler(Sampling(temperature=0, repetition_penalty=2.0), 0)
    assert plain.choose(LOGITS, [1]) == 1
    assert wary.choose(LOGITS, [1]) == 2


def test_the_same_seed_draws_the_same_and_another_does_not() -> None:
    wide = torch.zeros(4096)
    same = [[Sampler(Sampling(seed=5), 0).choose(wide, [0]) for _ in range(3)] for _ in range(2)]
    assert same[0] == same[1]
    assert len({Sampler(Sampling(seed=seed), 0).choose(wide, [0]) for seed in range(20)}) > 15
    assert len({Sampler(Sampling(), 0).choose(wide, [0]) for _ in range(20)}) > 15


def test_several_answers_have_seeds_of_their_own() -> None:
    assert derived_seed(5, 0) == 5
    seeds = {derived_seed(seed, choice) for seed in (0, 5, 2**63 - 1) for choice in range(4)}
    assert len(seeds) == 12
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_rows_are_drawn_side_by_side() -> None:
    samplers = [Sampler(Sampling(temperature=0), 0), Sampler(Sampling(seed=3), 0), Sampler(Sampling(temperature=0), 0)]
    logits = torch.stack([LOGITS, LOGITS, LOGITS.flip(0)])
    alone = Sampler(Sampling(seed=3), 0).choose(LOGITS, [0])
    assert choose_all(samplers, logits, [[0], [0], [0]]) == [1, alone, 3]


def test_log_probabilities_are_those_of_the_model() -> None:
    scored = score(LOGITS, 0, 2)
    expected = torch.log_softmax(LOGITS, 0)
    assert scored.logprob == pytest.approx(float(expected[0]))
    assert [token for token, _ in scored.top] == [1, 2]
    assert score(LOGITS, 0, 0).top == []
