"""Whatever comes in, the engine refuses it in its own words or answers it; it never fails and never stops."""

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gated_inference.engine.bodies import KNOWN, Limits, Refusal, check, parse
from tests.engine.conftest import NAME, Server, serving

LIMITS = Limits(NAME, 2048, 4096, 8)
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)
    | st.sampled_from([NAME, "", "\0", "\ud800", 0, 1, -1, 2**31, 2**63, 2**64, 10**400, 1e308, -0.0, 1e-320])
)  # fmt: skip
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
GOOD = {"model": NAME, "prompt": [5, 6], "max_tokens": 1}


def kept_small(body: dict[str, Any]) -> bool:
    """Say whether a body asks for so little that answering it takes no time."""
    tokens = body.get("max_tokens")
    return not (type(tokens) is int and 8 < tokens <= 2048)


def outcome(call: Callable[..., Any], *args: Any) -> Any:
    """Return what a check says: its result, or its refusal. Anything else that it raises fails the test."""
    try:
        return call(*args)
    except Refusal as refusal:
        return refusal


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_a_body_or_a_refusal(data: bytes) -> None:
    found = outcome(parse, data)
    assert isinstance(found, dict) or found.status == 400


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(KNOWN)) | st.text(max_size=8), ANYTHING, max_size=6))
def test_any_fields_are_an_ask_or_a_refusal_that_names_one(fields: dict[str, Any]) -> None:
    body = GOOD | fields
    found = outcome(check, body, LIMITS)
    if isinstance(found, Refusal):
        assert found.status in {400, 404}
        assert found.param is not None
        assert found.param in body or found.param.startswith("stream_options.")
    else:
        assert 1 <= found.max_tokens < LIMITS.max_context
        assert 1 <= len(found.prompts) * found.choices <= 16


@FEW
@given(name=st.sampled_from(sorted(KNOWN)), value=ANYTHING)
def test_any_value_of_a_field_is_answered_or_refused_over_http(client: httpx.Client, name: str, value: Any) -> None:
    body = GOOD | {name: value}
    if not kept_small(body):
        body |= {"max_tokens": 1}
    answer = client.post(
        "/v1/completions", content=json.dumps(body).encode(), headers={"content-type": "application/json"}
    )
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        error = answer.json()["error"]
        assert error["message"]
        assert error["param"] or "JSON" in error["message"]


@FEW
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"]),
    path=st.sampled_from(["/", "/health", "/stats", "/v1/models", f"/v1/models/{NAME}", "/v1/completions"])
    | st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), max_size=30).map(lambda text: "/" + text),
    data=st.binary(max_size=60),
)  # fmt: skip
def test_any_request_is_answered_or_refused(client: httpx.Client, method: str, path: str, data: bytes) -> None:
    answer = client.request(method, path, content=data)
    assert answer.status_code < 500


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An engine whose log may hold what the HTTP library says of bytes that are no request."""
    with serving(tmp_path_factory.mktemp("exposed")) as running:
        yield running


@FEW
@given(
    st.binary(max_size=120)
    | st.tuples(st.sampled_from([b"POST /v1/completions HTTP/1.1\r\n", b"GET /health HTTP/1.1\r\n"]),
                st.lists(st.sampled_from([b"Host: e\r\n", b"Content-Length: 9\r\n", b"Content-Length: -1\r\n",
                                          b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b": x\r\n",
                                          b"Connection: upgrade\r\nUpgrade: websocket\r\n", b"\r\n", b"\0\r\n"]),
                         max_size=5),
                st.binary(max_size=40)).map(lambda parts: parts[0] + b"".join(parts[1]) + b"\r\n" + parts[2])
)  # fmt: skip
def test_any_bytes_on_the_wire_leave_the_engine_well(exposed: Server, data: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(20)
        caller.connect(str(exposed.socket))
        try:
            caller.sendall(data)
            caller.shutdown(socket.SHUT_WR)
            heard = b"".join(iter(lambda: caller.recv(65536), b""))
        except OSError:  # it closes as soon as it is sure
            heard = b""
    assert not heard.startswith(b"HTTP/1.1 5")
    with exposed.client() as client:
        assert client.get("/health").json()["status"] == "ok"
