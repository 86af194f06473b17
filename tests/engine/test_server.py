"""The engine as a process: OpenAI's protocol over a Unix socket, streams, hang-ups, a full queue, and its end."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from gated_inference.engine.text import Vocabulary
from tests.engine.conftest import FOLDER, NAME, ROOT, Server, serving
from tests.engine.test_bodies import BAD

PROMPT = "Everyone has the right to"


def post(client: httpx.Client, **fields: Any) -> httpx.Response:
    return client.post("/v1/completions", json={"model": NAME, "prompt": PROMPT, **fields})


def events(client: httpx.Client, **fields: Any) -> list[dict[str, Any]]:
    """Stream a completion and return its events; each must be whole, and `[DONE]` the last."""
    response = post(client, stream=True, **fields)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    parts = response.content.split(b"\n\n")
    assert parts.pop() == b""
    assert parts.pop() == b"data: [DONE]"
    assert all(part.startswith(b"data: {") for part in parts)
    return [json.loads(part[6:]) for part in parts]


def text_of(chunks: list[dict[str, Any]], index: int = 0) -> str:
    return "".join(c["text"] for chunk in chunks for c in chunk["choices"] if c["index"] == index)


def test_health_and_models_tell_what_is_served(client: httpx.Client) -> None:
    health = client.get("/health")
    assert (health.status_code, health.json()["status"], health.json()["model"]) == (200, "ok", NAME)
    listed = client.get("/v1/models").json()
    assert (listed["object"], listed["data"][0]["id"], listed["data"][0]["max_model_len"]) == ("list", NAME, 2048)
    assert client.get(f"/v1/models/{NAME}").json() == listed["data"][0]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("POST", "/v1/chat/completions", 404), ("GET", "/v1/models/other", 404),
     ("GET", "/v1/completions", 405), ("POST", "/health", 405)],
)  # fmt: skip
def test_other_addresses_and_methods_are_refused(client: httpx.Client, method: str, path: str, status: int) -> None:
    response = client.request(method, path)
    assert response.status_code == status
    assert response.json()["error"]["message"]


def test_an_answer_has_openais_shape(client: httpx.Client, vocabulary: Vocabulary) -> None:
    body = post(client, max_tokens=6, temperature=0, ignore_eos=True).json()
    prompt = len(vocabulary.encode(PROMPT))
    assert body["usage"] == {"prompt_tokens": prompt, "completion_tokens": 6, "total_tokens": prompt + 6}
    assert (body["object"], body["model"], body["id"][:5]) == ("text_completion", NAME, "cmpl-")
    assert abs(body["created"] - time.time()) < 60
    choice = body["choices"][0]
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "length", None)
    assert choice["text"].strip()


def test_a_stream_says_the_same_as_a_whole_answer(client: httpx.Client) -> None:
    fields = {"max_tokens": 40, "seed": 3, "n": 2, "logprobs": 2}
    whole = post(client, **fields).json()
    chunks = events(client, **fields, stream_options={"include_usage": True})
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == whole["usage"]
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert len({chunk["id"] for chunk in chunks}) == 1
    for index in range(2):
        parts = [c for chunk in chunks for c in chunk["choices"] if c["index"] == index]
        choice = whole["choices"][index]
        assert text_of(chunks, index) == choice["text"]
        assert [part["finish_reason"] for part in parts[:-1]] == [None] * (len(parts) - 1)
        assert parts[-1]["finish_reason"] == choice["finish_reason"]
        for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
            streamed = [value for part in parts for value in part["logprobs"][name]]
            assert len(streamed) == len(choice["logprobs"][name])
            if name in {"tokens", "text_offset"}:
                assert streamed == choice["logprobs"][name]
    assert len(chunks) > 20
    assert "usage" not in events(client, max_tokens=2)[-1]


def test_log_probabilities_name_the_tokens_of_the_text(client: httpx.Client) -> None:
    choice = post(client, max_tokens=12, temperature=0, logprobs=3, ignore_eos=True).json()["choices"][0]
    found = choice["logprobs"]
    assert {len(values) for values in found.values()} == {12}
    assert "".join(found["tokens"]) == choice["text"]
    for token, logprob, top, offset in zip(*found.values(), strict=True):
        assert choice["text"].startswith(token, offset)
        assert logprob <= 0
        assert len(top) == 3
        assert top[token] == max(top.values()) == logprob


def test_a_stop_string_ends_the_text_before_it(client: httpx.Client) -> None:
    whole = post(client, max_tokens=30, temperature=0, ignore_eos=True).json()["choices"][0]["text"]
    stop = whole[10:14]
    expected = whole[: whole.index(stop)]
    fields = {"max_tokens": 30, "temperature": 0, "stop": ["\x00never", stop], "logprobs": 0, "ignore_eos": True}
    choice = post(client, **fields).json()["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == (expected, "stop")
    assert all(offset < len(expected) for offset in choice["logprobs"]["text_offset"])
    chunks = events(client, **fields)
    assert text_of(chunks) == expected
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("prompt", ["人人", "सभी को", "லா", "ẹ̀tọ́", "لكل شخص"])
def test_characters_of_several_bytes_are_never_cut(client: httpx.Client, prompt: str) -> None:
    fields = {"prompt": prompt, "max_tokens": 40, "temperature": 0, "ignore_eos": True}
    chunks = events(client, **fields)
    assert "\ufffd" not in text_of(chunks)
    assert text_of(chunks) == post(client, **fields).json()["choices"][0]["text"]


def test_several_prompts_are_answered_in_order(client: httpx.Client, vocabulary: Vocabulary) -> None:
    prompts = ["Everyone has", "Toute personne", "人人有"]
    fields = {"max_tokens": 6, "seed": 5, "n": 2}
    together = post(client, prompt=prompts, **fields).json()
    assert [choice["index"] for choice in together["choices"]] == list(range(6))
    for place, prompt in enumerate(prompts):
        alone = [choice["text"] for choice in post(client, prompt=prompt, **fields).json()["choices"]]
        assert [choice["text"] for choice in together["choices"][place * 2 : place * 2 + 2]] == alone
    assert together["usage"]["prompt_tokens"] == sum(len(vocabulary.encode(prompt)) for prompt in prompts)


def test_token_ids_and_an_empty_text_are_prompts_too(client: httpx.Client, vocabulary: Vocabulary) -> None:
    fields = {"max_tokens": 8, "temperature": 0}
    by_text, by_ids = post(client, **fields).json(), post(client, prompt=vocabulary.encode(PROMPT), **fields).json()
    assert by_text["choices"] == by_ids["choices"]
    empty, beginning = post(client, prompt="", **fields).json(), post(client, prompt=[1], **fields).json()
    assert empty["choices"] == beginning["choices"]
    assert empty["usage"]["prompt_tokens"] == 1


def test_a_seeded_answer_is_the_same_while_others_run(server: Server) -> None:
    def ask(seed: int) -> str:
        with server.client() as client:
            text: str = post(client, max_tokens=30, seed=seed, ignore_eos=True).json()["choices"][0]["text"]
            return text

    alone = [ask(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == alone
    assert len(set(alone)) == 8


def test_a_prompt_that_is_too_long_is_refused(client: httpx.Client, vocabulary: Vocabulary) -> None:
    for prompt in ([5] * 2048, [5] * 100_000, "Everyone has the right to life. " * 20_000):
        response = post(client, prompt=prompt)
        assert response.status_code == 400
        assert response.json()["error"]["code"] == "context_length_exceeded"
        assert response.json()["error"]["param"] == "prompt"
    response = post(client, prompt=[5] * 2040, max_tokens=9)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "max_tokens")
    assert post(client, prompt=[5] * 2040, max_tokens=8).status_code == 200


def test_every_bad_input_is_a_4xx_that_names_the_field(client: httpx.Client) -> None:
    for name, values in BAD.items():
        for value in values:
            body = json.dumps({"model": NAME, "prompt": "x", name: value})
            response = client.post("/v1/completions", content=body, headers={"content-type": "application/json"})
            assert response.status_code == 400, (name, value)
            if not any(word in body for word in ("NaN", "Infinity")):  # these are no JSON at all
                assert response.json()["error"]["param"] == name[:64]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"model": "a", "model": "b"}'])
def test_a_body_that_is_no_json_object_is_a_400(client: httpx.Client, body: bytes) -> None:
    assert client.post("/v1/completions", content=body).status_code == 400


def test_a_body_of_more_than_a_mebibyte_is_a_413(client: httpx.Client) -> None:
    assert client.post("/v1/completions", content=b" " * 1024 * 1024 + b"{}").status_code == 413


def test_another_model_is_a_404(client: httpx.Client) -> None:
    response = client.post("/v1/completions", json={"model": "bigscience/bloom", "prompt": "x"})
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")


def send_raw(server: Server, **fields: Any) -> socket.socket:
    """Send a call over a socket of one's own, so that hanging up is exactly that."""
    body = json.dumps({"model": NAME, "prompt": PROMPT, "ignore_eos": True, "max_tokens": 2000, **fields}).encode()
    caller = socket.socket(socket.AF_UNIX)
    caller.connect(str(server.socket))
    caller.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: e\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    return caller


@pytest.mark.parametrize("stream", [True, False])
def test_hanging_up_frees_the_slots_at_once(server: Server, stream: bool) -> None:
    before = server.until(lambda stats: stats["running"] == 0)
    caller = send_raw(server, stream=stream, n=3)
    server.until(lambda stats: stats["running"] == 3)
    if stream:
        assert caller.recv(100).startswith(b"HTTP/1.1 200")
    caller.close()
    after = server.until(lambda stats: stats["running"] == 0)
    assert after["cancelled"] == before["cancelled"] + 1
    assert after["completion_tokens"] - before["completion_tokens"] < 3 * 1990
    time.sleep(0.1)
    assert server.stats()["steps"] == after["steps"]  # nothing goes on behind


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An engine with one slot and room for one that waits, for a short while."""
    with serving(tmp_path_factory.mktemp("narrow"), "--slots", "1", "--queue", "1", "--max-wait", "0.5") as running:
        yield running


def test_a_full_engine_says_so_and_waiting_has_an_end(narrow: Server) -> None:
    running = send_raw(narrow)
    narrow.until(lambda stats: stats["running"] == 1)
    waiting = send_raw(narrow, stream=True)
    narrow.until(lambda stats: stats["queued"] == 1)
    with narrow.client() as client:
        refused = post(client)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert refused.json()["error"]["code"] == "queue_full"
    assert waiting.recv(100).startswith(b"HTTP/1.1 503")
    waiting.close()
    late = send_raw(narrow)
    narrow.until(lambda stats: stats["queued"] == 1)
    late.close()
    narrow.until(lambda stats: stats["queued"] == 0)
    running.close()
    narrow.until(lambda stats: stats["running"] == 0)
    with narrow.client() as client:
        assert post(client, n=2).json()["error"]["param"] == "n"
        assert post(client, max_tokens=2).status_code == 200


def test_the_socket_is_its_owners_alone(server: Server) -> None:
    assert server.socket.stat().st_mode & 0o777 == 0o600


def test_sigterm_stops_it_also_in_the_middle_of_answers(narrow: Server) -> None:
    caller = send_raw(narrow, stream=True)
    assert caller.recv(100).startswith(b"HTTP/1.1 200")
    narrow.process.send_signal(signal.SIGTERM)
    assert narrow.process.wait(10) == 0  # a whole answer would take far longer
    assert not narrow.socket.exists()
    caller.close()


def test_it_ends_when_its_parent_does(tmp_path: Path) -> None:
    script = (
        "import os, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-m', 'gated_inference.engine.server', '--model', sys.argv[1],"
        " '--name', 'm', '--uds', sys.argv[2], '--parent-pid', str(os.getpid())], stdout=subprocess.PIPE)\n"
        "print(child.pid, child.stdout.readline().decode(), end='', flush=True)\n"
        "os._exit(0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(FOLDER), str(tmp_path / "e.sock")],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    pid = int(done.stdout.split()[0])
    assert done.stdout.split(maxsplit=1)[1] == "engine: ready\n"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and alive(pid):
        time.sleep(0.05)
    assert not alive(pid)


def alive(pid: int) -> bool:
    """Say whether a process runs; one that waits to be buried does not."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1][:4]
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    "arguments",
    [
        ["--name", "m"],
        ["--port", "1", "--uds", "x"],
        ["--uds", "x", "--slots", "0"],
        ["--uds", "x", "--max-context", "1"],
    ],
)
def test_a_wrong_command_line_is_a_usage_error(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from gated_inference.engine.serve import parse

    with pytest.raises(SystemExit) as caught:
        parse(["--model", str(FOLDER), "--name", "m", *arguments])
    assert caught.value.code == 2
    assert "error:" in capsys.readouterr().err


@pytest.fixture
def official(server: Server) -> Iterator[openai.OpenAI]:
    """The official client."""
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(server.socket))) as http:
        yield openai.OpenAI(base_url="http://engine/v1", api_key="none", http_client=http, max_retries=0)


def test_the_official_client_completes_and_streams(official: openai.OpenAI) -> None:
    assert [model.id for model in official.models.list()] == [NAME]
    assert official.models.retrieve(NAME).id == NAME
    whole = official.completions.create(
        model=NAME, prompt=PROMPT, max_tokens=20, temperature=0.8, top_p=0.9, seed=1, n=2, stop=["\n\n\n"], logprobs=1
    )
    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert whole.choices[0].logprobs is not None
    stream = official.completions.create(
        model=NAME, prompt=PROMPT, max_tokens=20, temperature=0.8, top_p=0.9, seed=1, stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    chunks = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole.choices[0].text
    assert chunks[-1].usage is not None


def test_the_official_client_raises_its_own_errors(official: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        official.completions.create(model=NAME, prompt=PROMPT, max_tokens=-1)
    assert caught.value.param == "max_tokens"
    with pytest.raises(openai.BadRequestError) as caught:
        official.completions.create(model=NAME, prompt=PROMPT, echo=True)
    assert (caught.value.param, caught.value.code) == ("echo", "unsupported_parameter")
    with pytest.raises(openai.NotFoundError):
        official.completions.create(model="other", prompt=PROMPT)


def test_a_folder_without_a_bloom_model_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gated_inference.engine import serve

    monkeypatch.setattr(serve.signal, "signal", lambda *_: None)
    for config, line in (
        ('{"model_type": "llama"}', "BLOOM models, not 'llama'"),
        ('{"model_type": "bloom"}', "no safetensors"),
    ):
        (tmp_path / "config.json").write_text(config)
        with pytest.raises(SystemExit, match=line):
            serve.main(["--model", str(tmp_path), "--name", "m", "--port", "1"])
