"""Whatever is posted to `/v1/completions`: a checked request, or a refusal that names the field."""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gated_inference import schemas
from gated_inference.schemas import OURS, PASSED_ON, Refusal
from tests.engine.test_fuzz import ANYTHING

MODEL = "demo/bloom-tiny"
GOOD = {"model": MODEL, "prompt": "Everyone", "max_tokens": 4}
NAMES = st.sampled_from(sorted(PASSED_ON | OURS)) | st.text(max_size=8)


def outcome(call: Callable[..., Any], *args: Any) -> Any:
    """Return what a check says: its result, or its refusal. Anything else that it raises fails the test."""
    try:
        return call(*args)
    except Refusal as refusal:
        return whole(refusal)


def whole(refusal: Refusal) -> Refusal:
    """Return a refusal that can be answered with, and says what is wrong."""
    body = refusal.answer([]).body
    assert isinstance(body, bytes)
    assert json.loads(body)["error"]["message"]
    assert 400 <= refusal.status < 500
    return refusal


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=300)
    | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | ANYTHING.map(lambda value: json.dumps(value).encode())
)
def test_any_bytes_are_a_body_or_a_refusal(data: bytes) -> None:
    assert isinstance(outcome(schemas.read, data), dict | Refusal)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(NAMES, ANYTHING, max_size=5))
def test_any_fields_are_a_request_or_a_refusal_that_names_one(fields: dict[str, Any]) -> None:
    body = GOOD | fields
    value = outcome(schemas.read, json.dumps(body).encode())
    found = value if isinstance(value, Refusal) else outcome(schemas.ask, value)
    if isinstance(found, Refusal):
        assert found.param is not None or found.code == "body_too_deep"
        return
    assert found.model == body["model"]
    assert set(found.fields) <= PASSED_ON | {"model", "stream_options"}
    assert found.reserve > 0
    json.dumps(found.fields, allow_nan=False).encode()  # what an engine is told can be written down


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(PASSED_ON | OURS)), ANYTHING, ANYTHING)
def test_a_field_that_is_there_twice_is_refused(name: str, one: Any, other: Any) -> None:
    pairs = [*GOOD.items(), (name, one), (name, other)]
    data = ", ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in pairs)
    found = outcome(schemas.read, f"{{{data}}}".encode())
    assert isinstance(found, Refusal)
    assert found.param is not None
