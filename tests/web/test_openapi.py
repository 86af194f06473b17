"""The OpenAPI document says what is there, and whatever is sent to what it describes is never a failure of ours."""

import json
import re
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gated_inference import openapi, schemas
from portal.web.guard import Kind
from tests.engine.test_fuzz import ANYTHING

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)


@pytest.fixture
def document(client: Any) -> dict[str, Any]:
    answer = client.get("/api/openapi.json")
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    return dict(answer.json)


def test_every_address_for_programs_is_described(app: Any, document: dict[str, Any]) -> None:
    wanted = {
        (re.sub(r"<(?:[^:<>]*:)?([^<>]*)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        if getattr(app.view_functions[rule.endpoint], "portal_mark", None)
        and app.view_functions[rule.endpoint].portal_mark.kind is Kind.TOKEN
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    described = {(path, method) for path, item in document["paths"].items() for method in item}
    assert described == wanted | {("/v1/completions", "post"), ("/v1/models", "get"), ("/v1/moderations", "post")}
    assert ("/api/decide", "get") in described
    assert document["openapi"].startswith("3.1")


def test_every_part_of_an_address_is_a_parameter(document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        for operation in item.values():
            named = {each["name"] for each in operation.get("parameters", []) if each["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path))
            assert operation["summary"].endswith(".")
            assert operation["responses"]


@pytest.mark.parametrize(("path", "name", "bad"), [
    ("/api/decide", "model", None), ("/api/decide?model=a/b", "action", "eat"), ("/api/usage", "limit", "1001"),
    ("/api/usage", "limit", "0"), ("/api/usage", "before", "0"),
])  # fmt: skip
def test_what_a_query_may_hold_is_what_is_described(
    client: Any, document: dict[str, Any], path: str, name: str, bad: str | None
) -> None:
    (described,) = [
        each for each in document["paths"][path.partition("?")[0]]["get"]["parameters"] if each["name"] == name
    ]  # fmt: skip
    if bad is None:
        assert described["required"]
        assert client.get(path).status_code == 422
        return
    schema = described["schema"]
    assert not schema.get("minimum", 0) <= (int(bad) if bad.isdigit() else -1) <= schema.get("maximum", 10**9)
    answer = client.get(f"{path}{'&' if '?' in path else '?'}{name}={bad}")
    assert answer.status_code in {401, 422}


def test_the_bounds_of_a_completion_are_those_that_are_checked() -> None:
    good = {"model": "a/b", "prompt": "x"}
    for name, schema in openapi.FIELDS.items():
        for bound, step in (("minimum", -1), ("maximum", 1)):
            if bound in schema:
                schemas.ask(good | {name: schema[bound]})
                with pytest.raises(schemas.Refusal) as caught:
                    schemas.ask(good | {name: schema[bound] + step})
                assert caught.value.param == name
        if "default" in schema:
            schemas.ask(good | {name: schema["default"]})
    assert openapi.paths()["/v1/completions"]["post"]["requestBody"]["required"]


def test_a_field_that_is_not_described_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openapi, "PASSED_ON", openapi.PASSED_ON | {"new_field"})
    with pytest.raises(AssertionError, match="new_field"):
        openapi.paths()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_sent_to_what_is_described_is_answered_or_refused(
    app: Any, document: dict[str, Any], data: st.DataObject
) -> None:
    # `/v1` needs an engine; its bodies are tried by themselves.
    addresses = [(path, method) for path, item in document["paths"].items() if path[:4] != "/v1/" for method in item]
    path, method = data.draw(st.sampled_from(addresses))
    described = [each["name"] for each in document["paths"][path][method]["parameters"] if each["in"] == "query"]
    for name in re.findall(r"{(\w+)}", path):
        path = path.replace(f"{{{name}}}", quote(data.draw(WORDS.filter(bool)), safe=""))
    query = data.draw(st.dictionaries(st.sampled_from([*described, "limit", "cursor", "expand"]), WORDS, max_size=3))
    body = data.draw(st.just(b"") | st.binary(max_size=40) | ANYTHING.map(lambda value: json.dumps(value).encode()))
    kind = data.draw(st.sampled_from(["application/json", "application/x-www-form-urlencoded", "text/plain"]))
    answer = app.test_client().open(path, method=method.upper(), query_string=query, data=body, content_type=kind)
    assert answer.status_code < 500, (path, query, body)
