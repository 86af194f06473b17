"""The whole portal, running: the official client on the real engine, and processes that are killed."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest

from portal.core.clock import utcnow
from tests.member import Browser, issue_token, signed_member
from tests.running import ROOT, RunningPortal

MODEL, BIG = "demo/bloom-tiny", "bigscience/bloom-560m"
PROMPT = "Everyone has the right to"
LONG = {"model": MODEL, "prompt": PROMPT, "max_tokens": 1_500, "temperature": 1.0, "seed": 1}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPortal]:
    """A portal of its own, since its processes are killed."""
    with RunningPortal.start(tmp_path_factory.mktemp("whole")) as running:
        folder = tmp_path_factory.mktemp("big")
        (folder / "config.json").write_text("{}")
        with (folder / "model.safetensors").open("wb") as file:
            file.truncate(256 << 20)
        running.cli("models", "publish", str(folder), BIG, "--license", "bloom-rail")
        yield running


@pytest.fixture(scope="module")
def token(whole: RunningPortal) -> str:
    return signed_member(whole, "whole@example.org", "weights:read", "inference", "usage:read")


def client(portal: RunningPortal, token: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{portal.base_url}/v1", api_key=token, max_retries=0, timeout=60)


def child(portal: RunningPortal, part: str) -> psutil.Process:
    """Return the process of a part, by its command line."""
    assert portal.process is not None
    for process in psutil.Process(portal.process.pid).children():
        if part in " ".join(process.cmdline()):
            return process
    raise AssertionError(f"no process of {part}")


def records(portal: RunningPortal, token: str) -> dict[str, Any]:
    """Return the caller's usage records by request id."""
    headers = {"Authorization": f"Bearer {token}"}
    found = httpx.get(f"{portal.base_url}/api/usage?limit=200", headers=headers, timeout=30).json()
    return {record["request_id"]: record for record in found}


def wait_for(what: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := what():
                return found
        except (httpx.HTTPError, KeyError, ValueError):
            pass
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s")


def test_the_official_client_on_the_real_engine(whole: RunningPortal, token: str) -> None:
    api = client(whole, token)
    assert MODEL in [model.id for model in api.models.list()]
    asked: dict[str, Any] = {"model": MODEL, "prompt": PROMPT, "max_tokens": 24}
    greedy = api.completions.create(**asked, temperature=0)
    assert greedy.usage is not None
    assert greedy.usage.completion_tokens == 24
    assert greedy.choices[0].finish_reason == "length"
    assert len(greedy.choices[0].text.split()) > 6
    events = list(api.completions.create(**asked, temperature=0, stream=True, stream_options={"include_usage": True}))
    assert "".join(event.choices[0].text for event in events if event.choices) == greedy.choices[0].text
    assert events[-1].usage is not None
    assert events[-1].usage.completion_tokens == 24
    twice = [api.completions.create(**asked, temperature=1, seed=7).choices[0].text for _ in range(2)]
    assert twice[0] == twice[1]
    several = api.completions.create(**asked, temperature=1, seed=7, n=3, logprobs=2)
    assert len({choice.text for choice in several.choices}) > 1
    assert several.choices[0].logprobs is not None
    assert len(several.choices[0].logprobs.token_logprobs or []) == 24
    word = greedy.choices[0].text.split()[3]
    stopped = api.completions.create(**asked, temperature=0, stop=[word])
    assert stopped.choices[0].finish_reason == "stop"
    assert stopped.choices[0].text == greedy.choices[0].text.split(word)[0]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", -1), ("max_tokens", 10**30), ("max_tokens", "many"), ("temperature", -0.1), ("top_p", 0),
        ("n", 99), ("stop", ["a"] * 9), ("seed", "x"), ("logprobs", 50), ("prompt", {"a": 1}), ("prompt", "x " * 9_000),
        ("stream", "yes"), ("suffix", "end"), ("best_of", 3), ("unheard_of", 1), ("model", 7), ("max_tokens", True),
    ],
)  # fmt: skip
def test_bad_input_is_a_refusal_that_names_the_field(
    whole: RunningPortal, token: str, field: str, value: object
) -> None:
    body = {"model": MODEL, "prompt": PROMPT, "max_tokens": 4, field: value}
    headers = {"Authorization": f"Bearer {token}"}
    answer = httpx.post(f"{whole.base_url}/v1/completions", json=body, headers=headers, timeout=60)
    assert 400 <= answer.status_code < 500
    error = answer.json()["error"]
    assert field in f"{error['param']} {error['message']}"


def test_an_unknown_model_is_refused(whole: RunningPortal, token: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client(whole, token).completions.create(model="demo/none", prompt="x")
    assert caught.value.code == "model_not_found"


def test_a_killed_engine_is_said_clearly_and_comes_back(whole: RunningPortal, token: str) -> None:
    api = client(whole, token)
    stream = api.completions.create(**LONG, stream=True)
    request_id = stream.response.headers["X-Request-Id"]
    next(iter(stream))
    child(whole, "gated_inference").send_signal(signal.SIGKILL)
    with pytest.raises(openai.APIError) as caught:
        list(stream)
    assert "engine" in str(caught.value).lower()
    away = httpx.post(
        f"{whole.base_url}/v1/completions", json={"model": MODEL, "prompt": "x"},
        headers={"Authorization": f"Bearer {token}"}, timeout=60,
    )  # fmt: skip
    if away.status_code != 200:  # it may be back already
        assert away.status_code == 503
        assert int(away.headers["Retry-After"]) >= 1
    whole.wait_ready()
    assert api.completions.create(model=MODEL, prompt=PROMPT, max_tokens=4).choices[0].text
    lost = wait_for(lambda: records(whole, token)[request_id])
    assert lost["outcome"] == "engine_lost"
    assert lost["completion_tokens"] >= 1


def test_a_killed_data_plane_loses_no_answered_request(whole: RunningPortal, token: str) -> None:
    api, answered, stop = client(whole, token), [], threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                raw = api.completions.with_raw_response.create(model=MODEL, prompt=PROMPT, max_tokens=2)
                answered.append(raw.headers["X-Request-Id"])
            except openai.APIError:
                return

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    stream = client(whole, token).completions.create(**LONG, stream=True)
    cut_stream = stream.response.headers["X-Request-Id"]
    next(iter(stream))
    download = socket.create_connection(("127.0.0.1", whole.port), 10)
    path = f"/{BIG}/resolve/main/model.safetensors"
    download.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    head = download.recv(4096)
    assert head.startswith(b"HTTP/1.1 200")
    cut_download = head.split(b"X-Request-Id: ")[1].split(b"\r\n")[0].decode()
    wait_for(lambda: len(answered) > 8)
    os.killpg(child(whole, "main_edge").pid, signal.SIGKILL)
    with pytest.raises((openai.APIError, httpx.HTTPError)):
        list(stream)
    stop.set()
    for asker in askers:
        asker.join(30)
    download.close()
    whole.wait_ready()
    found = wait_for(lambda: (r := records(whole, token)).keys() >= {cut_stream, cut_download} and r)
    assert set(answered) <= found.keys(), "no record of an answered request is missing"
    assert {found[request]["outcome"] for request in answered} == {"finished"}
    ended = wait_for(lambda: (r := records(whole, token))[cut_stream]["outcome"] != "open" and r)
    assert ended[cut_stream]["outcome"] == "crashed"
    assert ended[cut_download]["outcome"] == "crashed"
    assert "edge ended (signal SIGKILL); starting it again" in whole.log()


@pytest.mark.threat("TM-14")
def test_what_is_ended_in_one_process_is_refused_by_the_next_request_to_any_other(whole: RunningPortal) -> None:
    email = "ended@example.org"
    mine = signed_member(whole, email, "weights:read", "inference", "usage:read")
    other = issue_token(whole, email, "weights:read", "inference", "usage:read")
    file = f"/{MODEL}/resolve/main/config.json"
    ask = {"model": MODEL, "prompt": PROMPT, "max_tokens": 1}

    def statuses(token: str) -> list[int]:
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=whole.base_url, headers=headers, timeout=60) as http:
            return [
                http.get(file, headers={"Range": "bytes=0-3"}).status_code,
                http.post("/v1/completions", json=ask).status_code,
                http.get("/api/usage").status_code,
            ]

    with Browser(whole.base_url) as browser:
        browser.sign_in(email)
        assert statuses(mine) == statuses(other) == [206, 200, 200]
        browser.open("/settings/tokens")
        address = re.findall(r'href="(/settings/tokens/tok_[^"]+/revoke)"', str(browser.page.text))[0]
        browser.open(address)
        browser.send(browser.form("csrf_token"))
        assert sorted([statuses(mine), statuses(other)]) == [[206, 200, 200], [401, 401, 401]]
        until = utcnow() + timedelta(days=30)
        whole.cli(
            "members", "suspend", email, "--clause", "restriction.unlawful_use", "--facts", "It spams.",
            "--until", until.date().isoformat(),
        )  # fmt: skip
        assert sorted([statuses(mine)[:2], statuses(other)[:2]]) == [[401, 401], [403, 403]]
        assert browser.http.get("/settings/", follow_redirects=False).status_code == 303  # signed out everywhere


def test_while_the_control_plane_is_away_only_its_pages_are(whole: RunningPortal, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=whole.base_url, headers=headers, timeout=60) as http:
        assert http.get("/").status_code == 200
        socket_path = whole.home / "run" / "web.sock"
        hidden = socket_path.rename(socket_path.with_suffix(".hidden"))
        try:
            away = http.get("/")
            assert (away.status_code, away.headers["Retry-After"]) == (503, "5")
            assert "Try again" in away.text
            assert http.get("/readyz").json()["parts"]["web"] == "not started"
            asked = {"model": MODEL, "prompt": PROMPT, "max_tokens": 4}
            assert http.post("/v1/completions", json=asked).status_code == 200
            assert http.get(f"/{MODEL}/resolve/main/config.json").status_code == 200
        finally:
            hidden.rename(socket_path)
        assert http.get("/").status_code == 200


def test_a_port_in_use_is_one_clear_line(whole: RunningPortal, tmp_path: Path) -> None:
    second = RunningPortal(home=whole.home, port=whole.port)
    done = subprocess.run(
        [sys.executable, "-m", "portal.cli", "serve"],
        env=second.environ, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert f"127.0.0.1:{whole.port} cannot be used" in done.stderr


def test_starting_again_is_quick_and_changes_nothing_and_ctrl_c_stops_all(whole: RunningPortal) -> None:
    assert whole.process is not None
    running = psutil.Process(whole.process.pid).children(recursive=True)
    assert len(running) >= 4
    assert whole.stop() < 5
    assert not [process for process in running if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    before = (whole.home / "portal.db").read_bytes()
    assert whole.cli("init", "--demo") == ""
    assert (whole.home / "portal.db").read_bytes() == before
    whole.serve()
    whole.wait_ready(seconds=20)
