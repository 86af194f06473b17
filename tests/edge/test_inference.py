"""The addresses under /v1: who is answered, how, and what a bad request is told."""

import json
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import sqlalchemy as sa

from portal.accounts.rules import Standing
from portal.core.clock import utcnow
from portal.notices import service as notices
from portal.usage import service as usage
from portal.usage.models import UsageRecord
from portal.usage.rules import Used
from tests.conduct import acting
from tests.edge.desk import MODEL, Desk, error, text, value

GOOD = {"model": MODEL, "prompt": "Once", "max_tokens": 8}


def test_a_completion_comes_back_with_its_terms(desk: Desk) -> None:
    answer = desk.ask()
    assert answer.status == 200
    assert value(answer)["choices"][0]["text"] == "once upon a time"
    headers = sorted(answer.headers)
    assert ("Portal-License", "conduct-license/2.0.0") in headers
    assert ("Link", '</licenses/conduct-license/2.0.0>; rel="license"') in headers
    assert ("Link", '</disclosure>; rel="help"') in headers
    assert ("Cache-Control", "no-store") in headers
    assert {name for name, _ in headers} == {
        "Portal-License", "Link", "Cache-Control", "Content-Type",
    }  # fmt: skip
    line = desk.only()
    assert line["outcome"] == "finished"
    assert (line["prompt_tokens"], line["completion_tokens"]) == (7, 4)
    assert (line["user_id"], line["access_token_id"]) == (desk.caller.user.id, desk.caller.token.id)
    assert (line["release_id"], line["card_revision_id"]) == (desk.release.id, desk.release.card_revision_id)
    assert (line["channel"], line["model_name"], len(line["signature_ids"])) == ("inference", MODEL, 1)
    assert desk.counters.used(desk.caller.user.id, utcnow()) == Used(1, 11)


def test_the_lines_become_one_record(desk: Desk) -> None:
    desk.ask()
    desk.ask({**GOOD, "top_p": 0})
    for _ in range(2):
        desk.write(lambda s: [usage.record(s, record=r) for k in ("use_opened", "use_finished") for r in desk.lines(k)])
    rows = desk.write(lambda s: s.scalars(sa.select(UsageRecord)).all())
    assert [row.outcome.value for row in rows] == ["finished", "finished"]
    counted = desk.write(lambda s: usage.used_today(s, user_id=desk.caller.user.id, now=utcnow()))
    assert counted == desk.counters.used(desk.caller.user.id, utcnow())


def test_an_engine_is_told_what_was_checked_and_not_who_asks(desk: Desk) -> None:
    desk.ask({**GOOD, "temperature": 0.5, "stop": ["x"], "user": "me", "n": 2, "seed": None})
    assert desk.fake.calls == [{**GOOD, "temperature": 0.5, "stop": ["x"], "n": 2}]
    sent = desk.fake.headers[0]
    assert "authorization" not in sent
    assert desk.caller.user.public_id not in json.dumps(sent)


def test_a_stream_passes_events_on_and_ends(desk: Desk) -> None:
    *words, done = desk.whole()
    assert "".join(event["choices"][0]["text"] for event in words) == "once upon a time"
    assert done == "[DONE]"
    assert desk.fake.calls[0]["stream_options"] == {"include_usage": True}
    line = desk.only()
    assert (line["outcome"], line["prompt_tokens"], line["completion_tokens"]) == ("finished", 7, 4)


def test_counts_are_streamed_to_those_who_ask_for_them(desk: Desk) -> None:
    *_, counts, done = desk.whole(fields={"stream_options": {"include_usage": True}})
    assert counts["usage"]["completion_tokens"] == 4
    assert done == "[DONE]"


def test_events_of_an_engine_that_names_the_model_otherwise_are_renamed(desk: Desk) -> None:
    from gated_inference.servers import Server
    from portal.edge.upstream import Address

    desk.compose(Server(Address(uds=desk.fake.path), model=MODEL, name="weights-v2", key="secret"))
    desk.fake.line_end = "\r\n"
    assert {event["model"] for event in desk.whole()[:-1]} == {MODEL}
    assert desk.fake.calls[0]["model"] == "weights-v2"
    assert desk.fake.headers[0]["authorization"] == "Bearer secret"
    assert value(desk.ask())["model"] == MODEL


def test_an_engine_that_does_not_count_is_counted(desk: Desk) -> None:
    desk.fake.usage = None
    desk.whole()
    line = desk.only()
    assert (line["prompt_tokens"], line["completion_tokens"]) == (2, 4)


def test_nonsense_counts_of_an_engine_do_not_count(desk: Desk) -> None:
    desk.fake.usage = {"prompt_tokens": -5, "completion_tokens": 2**70}
    desk.ask()
    assert (desk.only()["prompt_tokens"], desk.only()["completion_tokens"]) == (2, 0)


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"", 400, None),
        (b"{", 400, None),
        (b"\xff{}", 400, None),
        (b"[]", 400, None),
        (b"[" * 100_000, 400, None),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, 400, None),
        (b'{"model": "lab/tiny", "model": "lab/other", "prompt": "x"}', 400, "model"),
        (b'{"model": "lab/tiny", "prompt": "x", "temperature": NaN}', 400, "temperature"),
        (b'{"model": "lab/tiny", "prompt": "x", "temperature": 1e999}', 400, "temperature"),
        (b'{"model": "lab/tiny", "prompt": "x", "seed": 99999999999999999999}', 400, "seed"),
        (b'{"model": "lab/tiny", "prompt": "x", "seed": ' + b"9" * 5_000 + b"}", 400, "seed"),
        (b'{"model": "lab/tiny", "prompt": "' + b"x" * (1 << 20) + b'"}', 413, None),
        ({"prompt": "x"}, 400, "model"),
        ({**GOOD, "model": 5}, 400, "model"),
        ({**GOOD, "model": ""}, 400, "model"),
        ({**GOOD, "model": "a\0b"}, 400, "model"),
        ({**GOOD, "model": "\ud800"}, 400, "model"),
        ({**GOOD, "model": "x" * 201}, 400, "model"),
        ({"model": MODEL}, 400, "prompt"),
        ({**GOOD, "prompt": 5}, 400, "prompt"),
        ({**GOOD, "prompt": []}, 400, "prompt"),
        ({**GOOD, "prompt": ["x", 1]}, 400, "prompt"),
        ({**GOOD, "prompt": [[]]}, 400, "prompt"),
        ({**GOOD, "prompt": [-1]}, 400, "prompt"),
        ({**GOOD, "prompt": ["x"] * 17}, 400, "prompt"),
        ({**GOOD, "prompt": "half \ud83d"}, 400, "prompt"),
        ({**GOOD, "max_tokens": 0}, 400, "max_tokens"),
        ({**GOOD, "max_tokens": -1}, 400, "max_tokens"),
        ({**GOOD, "max_tokens": True}, 400, "max_tokens"),
        ({**GOOD, "max_tokens": 10**9}, 400, "max_tokens"),
        ({**GOOD, "max_tokens": "8"}, 400, "max_tokens"),
        ({**GOOD, "max_tokens": 1.5}, 400, "max_tokens"),
        ({**GOOD, "n": 5}, 400, "n"),
        ({**GOOD, "stream": "yes"}, 400, "stream"),
        ({**GOOD, "stream_options": {"include_usage": True}}, 400, "stream_options"),
        ({**GOOD, "stream": True, "stream_options": {"other": 1}}, 400, "stream_options"),
        ({**GOOD, "stream": True, "stream_options": {"include_usage": 1}}, 400, "stream_options"),
        ({**GOOD, "stream": True, "stream_options": 1}, 400, "stream_options"),
        ({**GOOD, "best_of": 3}, 400, "best_of"),
        ({**GOOD, "stop": "half \ud83d"}, 400, "stop"),
        ({**GOOD, "stop": ["half \ud83d"]}, 400, "stop"),
        ({**GOOD, "logit_bias": {"\ud83d": 1}}, 400, None),
        ({**GOOD, "\ud83d": 1}, 400, None),
        ({**GOOD, "stop": {"a": {"b": [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}}}, 400, None),
    ],
)
def test_a_bad_body_is_told_which_field_and_costs_nothing(
    desk: Desk, body: Any, status: int, param: str | None
) -> None:
    answer = desk.ask(body)
    found = error(answer)
    assert (answer.status, found["param"], found["type"]) == (status, param, "invalid_request_error")
    assert found["message"]
    assert desk.fake.calls == []
    line = desk.only()
    assert (line["outcome"], line["reason_code"], line["user_id"]) == ("invalid", found["code"], desk.caller.user.id)
    assert desk.counters.used(desk.caller.user.id, utcnow()) == Used()


@pytest.mark.parametrize("prompt", ["", "漢字\0", ["a", "b"], [1, 2, 3], [[1, 2], [3]]])
def test_prompts_are_texts_or_token_numbers_one_or_more(desk: Desk, prompt: Any) -> None:
    assert desk.ask({"model": MODEL, "prompt": prompt}).status == 200
    assert desk.fake.calls[0]["prompt"] == prompt
    assert desk.fake.calls[0]["max_tokens"] == 16


def test_what_an_engine_refuses_is_passed_on_and_costs_nothing(desk: Desk) -> None:
    desk.fake.behave = 400
    answer = desk.ask({**GOOD, "stream": True})
    assert answer.status == 400
    assert error(answer)["param"] == "top_p"
    assert error(answer)["message"] == "top_p is too large"
    assert (desk.only()["outcome"], desk.only()["reason_code"]) == ("invalid", "bad_top_p")
    assert desk.counters.used(desk.caller.user.id, utcnow()) == Used()
    desk.fake.error = {"message": 5, "error": "odd"}
    assert error(desk.ask())["code"] == "invalid_request"
    assert desk.pool.engines[0].running == 0


def test_callers_without_a_usable_token_are_told_so_before_anything_else(desk: Desk) -> None:
    for headers, code in (
        ({}, "not_signed_in"),
        ({"authorization": "Bearer lmp_nonsense"}, "access_token_invalid"),
        ({"authorization": "Basic abc"}, "access_token_invalid"),
    ):
        for body in (GOOD, b"{", {**GOOD, "n": 0}):
            answer = desk.ask(body, headers=headers)
            assert (answer.status, error(answer)["code"]) == (401, code)
            assert error(answer)["type"] == "authentication_error"
            assert ("WWW-Authenticate", "Bearer") in answer.headers
    assert desk.fake.calls == []
    assert {line["outcome"] for line in desk.lines()} == {"refused"}
    assert {line["user_id"] for line in desk.lines()} == {None}


def test_records_of_strangers_are_bounded(desk: Desk) -> None:
    for _ in range(70):
        desk.ask(headers={})
    assert len(desk.lines()) == 60
    assert desk.inference.figures.value("portal_requests_total", channel="inference", outcome="refused") == 70
    desk.inference.gate.strangers._since -= 61
    desk.ask(headers={})
    assert len(desk.lines()) == 61


@pytest.mark.parametrize(
    ("number", "scopes", "code"),
    [("", (), "signature_missing"), ("2.0.0", ("weights:read",), "scope_missing")],
)
def test_who_may_not_is_told_why_and_what_helps(desk: Desk, number: str, scopes: tuple[str, ...], code: str) -> None:
    answer = desk.ask(by=desk.member(number, *scopes))
    found = error(answer)
    assert (answer.status, found["code"], found["type"]) == (403, code, "permission_error")
    assert found["reasons"][0]["url"].startswith(desk.settings.base_url)
    assert found["reasons"][0]["url"] in found["message"]
    assert desk.fake.calls == []
    assert (desk.only()["outcome"], desk.only()["reason_code"]) == ("refused", code)


def test_who_has_to_sign_again_is_told_until_when(desk: Desk) -> None:
    caller = desk.member("1.0.0")
    url = f"{desk.settings.base_url}/licenses/conduct-license/2.0.0/sign"
    answer = desk.ask(by=caller)
    assert answer.status == 200
    assert ("Portal-License", "conduct-license/1.0.0") in answer.headers
    assert ("Link", f'<{url}>; rel="sunset"') in answer.headers
    assert "Sunset" not in dict(answer.headers)  # not reached by any notice yet
    ref = "license_version:conduct-license/2.0.0"
    desk.write(lambda s: notices.mark_shown(s, user_id=caller.user.id, subject_ref=ref, now=utcnow()))
    answer = desk.ask(by=caller)
    assert parsedate_to_datetime(dict(answer.headers)["Sunset"]) > utcnow()
    exchange = desk.stream(by=caller)
    desk.rest(exchange)
    *_, comment, done, _ = text(exchange).decode().split("\n\n")
    assert comment.startswith(": signature_due: ")
    assert comment.endswith(url)
    assert done == "data: [DONE]"


def test_who_signed_too_long_ago_is_refused(desk: Desk) -> None:
    caller = desk.member("1.0.0")
    ref, then = "license_version:conduct-license/2.0.0", utcnow() - timedelta(days=90)
    desk.write(lambda s: notices.mark_shown(s, user_id=caller.user.id, subject_ref=ref, now=then))
    answer = desk.ask(by=caller)
    assert (answer.status, error(answer)["code"]) == (403, "signature_lapsed")


def test_a_model_that_is_not_there_is_not_found(desk: Desk) -> None:
    for model, code in (("lab/absent", "model_not_found"), ("lab/unfinished", "model_without_weights")):
        answer = desk.ask({**GOOD, "model": model})
        assert (answer.status, error(answer)["code"], error(answer)["param"]) == (404, code, "model")


def test_a_used_up_limit_says_when_to_come_back(desk: Desk) -> None:
    person = desk.caller.user
    desk.write(
        lambda s: usage.set_quota(s, user_id=person.id, calls=1, text_tokens=500, by=acting(person), now=utcnow())
    )
    assert desk.ask({**GOOD, "max_tokens": 600}).status == 429
    assert desk.ask().status == 200
    answer = desk.ask()
    assert (answer.status, error(answer)["code"], error(answer)["type"]) == (429, "quota_calls", "rate_limit_error")
    assert 0 < int(dict(answer.headers)["Retry-After"]) <= 86_401
    codes = [(line["outcome"], line["reason_code"]) for line in desk.lines()]
    assert codes == [("refused", "quota_text_tokens"), ("finished", ""), ("refused", "quota_calls")]


@pytest.mark.threat("TM-14")
def test_suspended_people_are_refused_from_the_next_request(desk: Desk) -> None:
    assert desk.ask().status == 200

    def suspend(session: Any) -> None:
        user = session.get_one(type(desk.caller.user), desk.caller.user.id)
        user.standing, user.standing_until, user.standing_ref = (
            Standing.SUSPENDED,
            utcnow() + timedelta(days=1),
            "dec_1",
        )

    desk.write(suspend)
    answer = desk.ask()
    assert (answer.status, error(answer)["code"]) == (403, "standing_suspended")


def test_models_are_listed_and_described(desk: Desk) -> None:
    listed = value(desk.ask(path="/v1/models", method="GET"))
    names = [model["id"] for model in listed["data"]]
    assert names == [MODEL, "noise/model"]
    assert listed["data"][0]["license"] == "conduct-license/2.0.0"
    assert listed["data"][0]["allowed"] is True
    for path in (f"/v1/models/{MODEL}", "/v1/models/lab%2Ftiny"):
        assert value(desk.ask(path=path, method="GET"))["id"] == MODEL
    assert value(desk.ask(path=f"/v1/models/{MODEL}", method="HEAD", headers={}))["allowed"] is False
    assert desk.ask(path="/v1/models/lab/unfinished", method="GET").status == 404
    bad = desk.ask(path="/v1/models", method="GET", headers={"authorization": "Bearer x"})
    assert (bad.status, error(bad)["code"]) == (401, "access_token_invalid")


def test_chat_says_that_there_is_no_template(desk: Desk) -> None:
    fields = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
    answer = desk.ask(fields, path="/v1/chat/completions")
    assert (answer.status, error(answer)["code"]) == (400, "chat_template_missing")
    assert "template" in error(answer)["message"]
    assert desk.only()["outcome"] == "invalid"
    assert desk.ask(fields, path="/v1/chat/completions", by=desk.member("")).status == 403
    assert desk.ask({"messages": []}, path="/v1/chat/completions").status == 400
    assert desk.ask(fields, path="/v1/chat/completions", headers={}).status == 401


def test_other_addresses_and_methods_are_answered_in_the_same_shape(desk: Desk) -> None:
    for path in ("/v1", "/v1/", "/v1/embeddings", "/v1/completions/extra"):
        answer = desk.ask(path=path)
        assert (answer.status, error(answer)["code"]) == (404, "not_found")
    answer = desk.ask(method="DELETE")
    assert (answer.status, dict(answer.headers)["Allow"]) == (405, "POST")
    assert desk.ask(path=f"/v1/models/{MODEL}").status == 405


def test_a_bug_and_a_database_that_is_away_are_said_plainly(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: Any, **_kept: Any) -> None:
        raise failure

    monkeypatch.setattr(desk.door, "admit", broken)
    failure: Exception = sa.exc.OperationalError("select", {}, Exception("locked"))
    assert (desk.ask().status, error(desk.ask())["code"]) == (503, "database_busy")
    failure = RuntimeError("a bug")
    answer = desk.ask(request_id="req_bug")
    assert (answer.status, error(answer)["code"]) == (500, "internal_error")
    assert "req_bug" in error(answer)["message"]
