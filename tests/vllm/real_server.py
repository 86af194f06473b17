"""The portal in front of a real vLLM server: run by `make test-vllm`, outside the suite because of its size."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.engine.conftest import NAME, serving
from tests.member import signed_member
from tests.running import RunningPortal, free_port
from tests.vllm.serving import CONTEXT, KEY, SERVED_AS, Vllm, save_tiny, vllm

pytestmark = pytest.mark.timeout(1200)

MODEL, LAB = "bigscience/bloom-560m", "Lab of two cores"
LENGTH = 24
PROMPTS = [
    "Everyone has the right to", "Toute personne a droit à", "All human beings", "Kila mtu ana haki ya", "Article 1",
    "人人有权",
]  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    save_tiny(folder)
    return folder


@pytest.fixture(scope="module")
def embedded(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the embedded engine writes, so diverse and so sure of each token that agreement means something."""
    found = []
    with serving(tmp_path_factory.mktemp("embedded"), model=tiny) as engine, engine.client() as client:
        for prompt in PROMPTS:
            body = {"model": NAME, "prompt": prompt, "max_tokens": LENGTH, "temperature": 0, "logprobs": 2}
            found.append(client.post("/v1/completions", json=body).json())
    tokens = [token for each in found for token in each["choices"][0]["logprobs"]["tokens"]]
    assert len(set(tokens)) > len(tokens) / 3
    for each in found:
        for top in each["choices"][0]["logprobs"]["top_logprobs"]:
            first, second = sorted(top.values(), reverse=True)[:2]
            assert first - second > 0.003  # five times what the exact GELU of vLLM differs from our usual one
    return found


@pytest.fixture(scope="module")
def server(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vllm]:
    with vllm(tiny, tmp_path_factory.mktemp("vllm")) as running:
        yield running


@pytest.fixture(scope="module")
def portal(server: Vllm, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPortal]:
    """A portal whose only engine is that server."""
    home = tmp_path_factory.mktemp("home")
    engines = home / "engines.toml"
    entry = {"model": MODEL, "name": SERVED_AS, "url": server.base_url, "key": KEY, "lab": LAB}
    engines.write_text("[[servers]]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in entry.items()))
    running = RunningPortal(home=home, port=free_port(), extra={"PORTAL_ENGINES": str(engines)})
    running.cli("init", "--demo")
    running.cli("models", "publish", str(tiny), MODEL, "--license", "bloom-rail")
    running.serve()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def token(portal: RunningPortal) -> str:
    return signed_member(portal, "vllm@example.org", "inference", "usage:read", model=MODEL)


@pytest.fixture(scope="module")
def api(portal: RunningPortal, token: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{portal.base_url}/v1", api_key=token, max_retries=0, timeout=120)


def asked(prompt: str = PROMPTS[0], **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "prompt": prompt, "max_tokens": LENGTH, "temperature": 0, **more}


def records(portal: RunningPortal, token: str) -> dict[str, Any]:
    """Return the caller's usage records by request id."""
    answer = httpx.get(f"{portal.base_url}/api/usage?limit=200", headers={"Authorization": f"Bearer {token}"})
    return {record["request_id"]: record for record in answer.json()}


def record_of(portal: RunningPortal, token: str, request_id: str, seconds: float = 60) -> dict[str, Any]:
    """Wait until a request has its record with an end, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := records(portal, token).get(request_id)) or not found["outcome"]:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return dict(found)


@pytest.mark.parametrize("place", range(len(PROMPTS)))
def test_vllm_writes_what_the_embedded_engine_writes(
    api: openai.OpenAI, embedded: list[dict[str, Any]], place: int
) -> None:
    found = api.completions.create(**asked(PROMPTS[place]))
    expected = embedded[place]
    assert found.choices[0].text == expected["choices"][0]["text"]
    assert found.choices[0].finish_reason == expected["choices"][0]["finish_reason"]
    assert found.usage is not None
    assert found.usage.prompt_tokens == expected["usage"]["prompt_tokens"]
    assert found.usage.completion_tokens == expected["usage"]["completion_tokens"]
    assert found.model == MODEL  # not the name that the server knows


def test_a_stream_says_the_same_and_is_counted(
    api: openai.OpenAI, portal: RunningPortal, token: str, embedded: list[dict[str, Any]]
) -> None:
    stream = api.completions.create(**asked(), stream=True, stream_options={"include_usage": True})
    events = list(stream)
    expected = embedded[0]
    assert "".join(event.choices[0].text for event in events if event.choices) == expected["choices"][0]["text"]
    assert events[-1].usage is not None
    assert events[-1].usage.completion_tokens == expected["usage"]["completion_tokens"]
    record = record_of(portal, token, stream.response.headers["X-Request-Id"])
    assert (record["prompt_tokens"], record["completion_tokens"]) == (
        expected["usage"]["prompt_tokens"], expected["usage"]["completion_tokens"],
    )  # fmt: skip
    assert record["outcome"] == "finished"


def test_stops_seeds_and_several_answers(api: openai.OpenAI, embedded: list[dict[str, Any]]) -> None:
    whole = embedded[0]["choices"][0]["text"]
    stop = whole[len(whole) // 2 :][:3]
    stopped = api.completions.create(**asked(stop=[stop])).choices[0]
    assert (stopped.text, stopped.finish_reason) == (whole.split(stop)[0], "stop")
    drawn = {**asked(), "temperature": 1.0, "seed": 7}
    assert len({api.completions.create(**drawn).choices[0].text for _ in range(2)}) == 1
    assert len({choice.text for choice in api.completions.create(**drawn, n=3).choices}) == 3


def test_a_caller_who_leaves_frees_the_server(
    api: openai.OpenAI, portal: RunningPortal, token: str, server: Vllm
) -> None:
    stream = api.completions.create(**asked(max_tokens=CONTEXT - 20, extra_body={"ignore_eos": True}), stream=True)
    request_id = stream.response.headers["X-Request-Id"]
    next(iter(stream))
    stream.close()
    server.until("num_requests_running", 0)
    assert record_of(portal, token, request_id)["outcome"] == "canceled"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", -1), ("max_tokens", CONTEXT + 1), ("temperature", -1), ("top_p", 0), ("n", 0), ("stop", 7),
        ("seed", "x"), ("logprobs", 10_000), ("prompt", "word " * 2 * CONTEXT), ("unheard_of", 1), ("stream", "yes"),
        ("prompt", [10**9]), ("repetition_penalty", -1), ("logit_bias", {"1": "much"}),
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_a_refusal_that_names_it(
    portal: RunningPortal, token: str, server: Vllm, field: str, value: object
) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    body = asked(**{field: value})
    answer = httpx.post(f"{portal.base_url}/v1/completions", json=body, headers=headers, timeout=120)
    assert 400 <= answer.status_code < 500, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "code", "param", "reasons"}
    named = "token" if field == "prompt" else field
    assert named in f"{error['param']} {error['message']}".lower(), error
    assert httpx.get(f"{server.base_url}/health", timeout=30).status_code == 200


def test_the_servers_key_is_needed_and_stays_with_the_portal(server: Vllm) -> None:
    body = {"model": SERVED_AS, "prompt": "x", "max_tokens": 1}
    assert httpx.post(f"{server.base_url}/v1/completions", json=body, timeout=60).status_code == 401


def test_a_server_that_is_killed_is_said_clearly(
    api: openai.OpenAI, portal: RunningPortal, token: str, server: Vllm
) -> None:
    stream = api.completions.create(**asked(max_tokens=CONTEXT - 20, extra_body={"ignore_eos": True}), stream=True)
    request_id = stream.response.headers["X-Request-Id"]
    next(iter(stream))
    os.killpg(server.process.pid, signal.SIGKILL)
    with pytest.raises(openai.APIError, match="engine"):
        list(stream)
    assert record_of(portal, token, request_id)["outcome"] == "engine_lost"
    with pytest.raises(openai.InternalServerError) as caught:
        api.completions.create(**asked())
    assert caught.value.status_code in {502, 503}
