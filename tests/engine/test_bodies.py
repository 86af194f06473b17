"""What callers may ask: every bound, every type, every field that is refused by name."""

from typing import Any

import pytest

from gated_inference.engine.bodies import Ask, Limits, Refusal, check, check_length, parse
from gated_inference.engine.sampling import Sampling

LIMITS = Limits(name="demo/bloom-tiny", max_context=64, vocabulary=4096, slots=8)
HUGE = 10**400
# field → values that must be refused with this field's name
BAD: dict[str, list[Any]] = {
    "prompt": [None, 1, True, {}, [], [[]], [1, "a"], ["a", 1], [True], [-1], [4096], [1.0], ["a"] * 5, [[1]] * 5,
               [[1], "a"], ["a", [1]], "\ud800", [HUGE], [None], [[1], [HUGE]], [{}]],
    "max_tokens": [0, -1, 2048, HUGE, 1.0, "3", True, [1], {}, float("inf")],
    "temperature": [-0.1, 2.1, HUGE, -HUGE, "1", True, [1], {}, float("inf"), float("nan"), -float("inf")],
    "top_p": [0, -1, 1.1, HUGE, "1", True, [], {}, float("nan")],
    "top_k": [-1, 1.0, HUGE, "1", True],
    "repetition_penalty": [0, -1, 11, HUGE, "1", True, float("nan")],
    "seed": [-1, 2**63, HUGE, 1.0, "1", True, []],
    "n": [0, -1, 5, HUGE, 1.0, "1", True, []],
    "best_of": [2, 0, HUGE, "1", True],
    "stop": ["", [""], ["a", ""], ["a"] * 5, 1, True, {}, [1], [["a"]], "\udfff", "x" * 257, [None]],
    "logprobs": [-1, 6, HUGE, 1.0, True, False, "1"],
    "stream": [1, 0, "true", [], {}],
    "stream_options": [{}, {"include_usage": True}, 1],
    "ignore_eos": [1, "true"],
    "suffix": ["", "x", 1],
    "echo": [True, 0, 1, "false"],
    "logit_bias": [{"1": 1}, [], 0],
    "presence_penalty": [1, -0.5, False, "0", HUGE],
    "frequency_penalty": [1, -0.5, False, "0", HUGE],
    "messages": [[]],
    "user": ["somebody"],
    "Prompt": ["x"],
    "": [1],
    "x" * 5000: [1],
}  # fmt: skip
CASES = [
    pytest.param(name, value, id=f"{name[:20]}-{place}") for name, bad in BAD.items() for place, value in enumerate(bad)
]


def asked(**fields: Any) -> Ask:
    return check({"model": LIMITS.name, "prompt": "x", **fields}, LIMITS)


@pytest.mark.parametrize(("name", "value"), CASES)
def test_a_bad_value_is_refused_and_the_field_is_named(name: str, value: Any) -> None:
    with pytest.raises(Refusal) as caught:
        asked(**{name: value})
    assert caught.value.status == 400
    assert caught.value.param == name[:64]


def test_an_answer_alone_may_not_fill_the_context() -> None:
    assert asked(max_tokens=63).max_tokens == 63
    with pytest.raises(Refusal, match="from 1 to 63"):
        asked(max_tokens=64)


@pytest.mark.parametrize("value", [1, {"include_usage": 1}, {"include_usage": None, "more": 1}])
def test_stream_options_are_checked_inside(value: Any) -> None:
    with pytest.raises(Refusal) as caught:
        asked(stream=True, stream_options=value)
    assert (caught.value.param or "").startswith("stream_options")


@pytest.mark.parametrize("model", [None, 1, "\ud800"])
def test_a_model_must_be_named_by_text(model: Any) -> None:
    with pytest.raises(Refusal) as caught:
        asked(model=model)
    assert (caught.value.status, caught.value.param) == (400, "model")


def test_another_model_is_not_found() -> None:
    with pytest.raises(Refusal) as caught:
        asked(model="bigscience/bloom")
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")


def test_what_is_left_out_or_null_has_openais_defaults() -> None:
    plain = Ask(prompts=["x"], max_tokens=16, choices=1, sampling=Sampling(1.0, 1.0, 0, 1.0, None))
    assert asked() == plain
    nulls = ["max_tokens", "temperature", "top_p", "seed", "n", "stop", "logprobs", "stream", "suffix", "echo"]
    assert asked(**dict.fromkeys(nulls)) == plain
    assert asked(echo=False, logit_bias={}, presence_penalty=0, frequency_penalty=0.0, best_of=1, stop=[]) == plain


def test_every_good_field_arrives() -> None:
    ask = asked(
        prompt=[[1, 2], [3]], max_tokens=63, temperature=2, top_p=0.5, top_k=4, repetition_penalty=1.5, seed=2**63 - 1,
        n=4, best_of=4, stop=["a", "b"], logprobs=0, stream=True, stream_options={"include_usage": True},
        ignore_eos=True,
    )  # fmt: skip
    sampling = Sampling(2.0, 0.5, 4, 1.5, 2**63 - 1)
    more = {"stream": True, "include_usage": True, "ignore_eos": True}
    assert ask == Ask([[1, 2], [3]], 63, 4, sampling, 0, ("a", "b"), **more)
    assert asked(stop="a").stops == ("a",)
    assert asked(prompt=["a", "b"]).prompts == ["a", "b"]
    assert asked(prompt=[5, 6]).prompts == [[5, 6]]


def test_no_more_answers_can_be_asked_for_than_there_are_slots() -> None:
    narrow = Limits(name="m", max_context=64, vocabulary=10, slots=2)
    with pytest.raises(Refusal, match="from 1 to 2"):
        check({"model": "m", "prompt": "x", "n": 3}, narrow)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"nonsense", b"[]", b"1", b"null", b'"x"', b"{", b"\xff\xfe", b'{"a": NaN}', b'{"a": -Infinity}',
        b"[" * 100_000, b'{"a":' * 100_000, b'{"a": ' + b"9" * 5000 + b"}", b'{"a": 1, "a": 2}', b"\xef\xbb\xbf{}",
        b"{" + b",".join(b'"%d": 1' % place for place in range(100)) + b"}",
    ],
)  # fmt: skip
def test_a_body_that_is_no_plain_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        parse(body)
    assert caught.value.status == 400


def test_prompt_and_answer_must_fit() -> None:
    ask = asked(max_tokens=10)
    check_length([1] * 54, ask, LIMITS)
    for length, param in ((55, "max_tokens"), (64, "prompt"), (1000, "prompt")):
        with pytest.raises(Refusal) as caught:
            check_length([1] * length, ask, LIMITS)
        assert (caught.value.param, caught.value.code) == (param, "context_length_exceeded")


def test_errors_have_openais_shape() -> None:
    assert Refusal("m", param="p", code="c").body() == {
        "error": {"message": "m", "type": "invalid_request_error", "param": "p", "code": "c"}
    }
    assert Refusal("m", status=429).body()["error"]["type"] == "rate_limit_error"
    assert Refusal("m", status=503).body()["error"]["type"] == "server_error"
