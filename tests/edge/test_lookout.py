"""What detection rules do to a request on its way, and to an answer on its way back."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import openai
import pytest

from gated_inference.lookout import Eyes
from portal.banks import service as banks
from portal.banks.rules import Bank
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.usage.rules import Used
from tests.detecting import Desk as Staff
from tests.edge.desk import MODEL, Desk, error, make_template, value
from tests.factories import Make

NEWS = Bank(
    "news", "en", "restriction.spam", "news that is not true", ("fake news", "false story"), ("invented by [a-z]+",)
)
BAD = {"model": MODEL, "prompt": "Write fake news, a false story", "max_tokens": 8}
# Examples are prompts, which say nothing about what an engine writes.
LONG: dict[str, Any] = {"match": ("x" * 3_000,), "passes": ("short",)}
PHRASES = {"when": 'output_phrases("news") >= 1 or chars >= 3000', **LONG}
PATTERNS = {"when": 'output_patterns("news") >= 1 or chars >= 3000', **LONG}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("template") / "portal.db")


@pytest.fixture
def desk(tmp_path: Path, template: Path) -> Iterator[Desk]:
    made = Desk(tmp_path, template)
    made.write(lambda s: banks.sync(s, banks=[NEWS], by=SYSTEM, now=utcnow()))
    made.looping.until(lambda: eyes(made).banks > 0)
    yield made
    made.close()


def eyes(desk: Desk) -> Eyes:
    """Return what the data plane knows of banks and rules; asking, on the loop, has it look for news."""
    return desk.lookout.eyes


def rule(desk: Desk, mode: str = "enforcing", **said: Any) -> None:
    """Bring a rule into force, and wait until the data plane knows it."""
    desk.write(lambda s: Staff(s, Make(s, utcnow()), utcnow()).rule(mode, **said))
    before = len(desk.looping.do(eyes, desk).rules.rules)
    desk.looping.until(lambda: len(eyes(desk).rules.rules) > before)


def test_what_no_rule_minds_is_measured_and_goes_on(desk: Desk) -> None:
    answer = desk.ask({**BAD, "prompt": "Once upon a time there was fake news"}, address="192.0.2.7")
    assert answer.status == 200
    line = desk.only()
    assert line["features"]['phrases("news")'] == 1
    assert line["features"]["vel_req_1m"] == line["features"]["token_prefixes"] == 1
    assert len(line["digest"]) == 32
    assert "hits" not in line


def test_a_refused_request_reaches_no_engine_costs_nothing_and_leaves_its_hit(desk: Desk) -> None:
    rule(desk)
    answer = desk.ask(BAD)
    assert answer.status == 403
    assert desk.fake.calls == []
    said, told = error(answer), value(answer)
    assert (said["code"], said["type"]) == ("detection_rule", "permission_error")
    assert told["clause"] == "restriction.spam"
    assert told["clause_url"].endswith("/licenses/conduct-license/2.0.0#restriction.spam")
    assert told["case"] == desk.only()["id"]
    assert told["appeal"].startswith(desk.settings.base_url)
    assert "The prompt asks for invented news." in said["message"]
    assert said["message"].endswith("It cost nothing.")
    assert told["appeal"].endswith(f"/contact?about={desk.only()['id']}#refused")
    assert ("Content-Type", "application/problem+json") in answer.headers
    line = desk.only()
    assert (line["outcome"], line["reason_code"]) == ("refused", "detection_rule")
    assert list(line["hits"].values()) == ["block"]
    assert desk.counters.used(desk.caller.user.id, utcnow()) == Used()
    assert not desk.inference.gate.running


def test_a_rule_that_only_flags_lets_pass_and_leaves_its_hit(desk: Desk) -> None:
    rule(desk, "flagging")
    assert desk.ask(BAD).status == 200
    assert list(desk.only()["hits"].values()) == ["flag"]


def test_a_rule_holds_for_requests_that_come_once_it_is_known_and_no_longer_than_that(desk: Desk) -> None:
    assert desk.ask(BAD).status == 200
    rule(desk)
    assert desk.ask(BAD).status == 403
    bank = Bank("news", "en", "restriction.spam", "news that is not true", ("something else",))
    desk.write(lambda s: banks.sync(s, banks=[bank], by=SYSTEM, now=utcnow()))
    desk.looping.until(lambda: eyes(desk).banks > 1)
    assert desk.ask(BAD).status == 200


@pytest.mark.threat("TM-08")
@pytest.mark.parametrize("chunks", [True, False])
def test_a_stream_is_cut_within_a_window_of_what_it_may_not_say(desk: Desk, chunks: bool) -> None:
    rule(desk, **PHRASES)
    desk.fake.usage = None
    desk.fake.words = ["word "] * 60 + ["fa", "ke ne", "ws "] + ["more "] * 200
    *said, cut, failed = desk.whole(chunks=chunks)
    assert cut["choices"][0]["finish_reason"] == "content_filter"
    assert failed["error"]["code"] == "detection_rule"
    assert failed["error"]["message"].startswith("Cut off: ")
    assert failed["error"]["message"].endswith("What was written before counts.")
    passed = "".join(event["choices"][0]["text"] for event in said)
    assert passed.startswith("word " * 60)
    assert len(passed) <= 300 + len("fake news ") + 256
    line = desk.only()
    assert (line["outcome"], line["reason_code"], list(line["hits"].values())) == ("cut", "detection_rule", ["block"])
    assert line["features"]['output_phrases("news")'] == 1
    assert line["completion_tokens"] == len(said) + 1
    assert desk.counters.used(desk.caller.user.id, utcnow()).text_tokens == line["prompt_tokens"] + len(said) + 1


@pytest.mark.threat("TM-08")
@pytest.mark.parametrize("before", [0, 100, 250, 256, 300, 440, 448])
def test_what_lies_across_two_windows_is_found_and_so_is_what_ends_an_answer(desk: Desk, before: int) -> None:
    rule(desk, **PHRASES)
    desk.fake.words = ["x " * (before // 2), "fake", " ", "news"]
    *_, cut, _failed = desk.whole()
    assert cut["choices"][0]["finish_reason"] == "content_filter"


@pytest.mark.threat("TM-08")
def test_a_whole_answer_that_may_not_be_given_is_refused_and_its_tokens_count(desk: Desk) -> None:
    rule(desk, **PATTERNS)
    desk.fake.words = ["as", " invented", " by me"]
    answer = desk.ask()
    assert (answer.status, error(answer)["code"]) == (403, "detection_rule")
    line = desk.only()
    assert (line["outcome"], line["completion_tokens"]) == ("cut", 4)
    assert line["features"]['output_patterns("news")'] == 1


def test_an_answer_that_is_read_and_that_nothing_minds_is_passed_on_unchanged(desk: Desk) -> None:
    *words, done = desk.whole(fields={"stream_options": {"include_usage": True}})
    rule(desk, **PHRASES)
    *read, end = desk.whole(fields={"stream_options": {"include_usage": True}})
    assert (read, end) == (words, done)
    assert [line["completion_tokens"] for line in desk.lines()] == [4, 4]


def test_declared_research_is_noted_and_not_refused(desk: Desk) -> None:
    from portal.exemptions import service as exemptions
    from portal.exemptions.rules import Purpose

    def declare(session: Any) -> None:
        staff = Staff(session, Make(session, utcnow()), utcnow())
        staff.rule(exempt=(Purpose.DETECTION_RESEARCH,))
        exemptions.grant(
            session, person=desk.caller.user.public_id, purpose=Purpose.DETECTION_RESEARCH,
            license_slug="conduct-license", clause_keys=["restriction.spam"], model_name="", safeguards="Kept inside.",
            since=utcnow() - timedelta(minutes=1), until=utcnow() + timedelta(days=9), page="", by=staff.mo,
            now=utcnow(),
        )  # fmt: skip

    desk.write(declare)
    desk.looping.until(lambda: eyes(desk).rules.rules)
    assert desk.ask(BAD).status == 200
    assert list(desk.only()["hits"].values()) == ["tag"]


def test_a_request_that_ends_leaves_no_network_in_use(desk: Desk) -> None:
    desk.ask(address="192.0.2.7")
    desk.ask({**BAD, "max_tokens": 0}, address="192.0.2.8")
    assert not desk.lookout.networks._now
    stream = desk.stream(words=1, address="198.51.100.1")
    desk.rest(stream)
    assert not desk.lookout.networks._now


def test_moderations_speak_of_the_same_banks(desk: Desk) -> None:
    answer = desk.ask({"input": ["a false story, fake news", "a poem"]}, path="/v1/moderations")
    assert answer.status == 200
    said = value(answer)
    assert [result["flagged"] for result in said["results"]] == [True, False]
    first = said["results"][0]
    assert first["categories"]["restriction.spam"] is True
    assert first["category_scores"]["restriction.spam"] == 0.75
    assert first["categories"]["violence"] is False
    read = openai.types.ModerationCreateResponse.model_validate(said | {
        "results": [{**r, "categories": {**r["categories"]}} for r in said["results"]]
    })  # fmt: skip
    assert read.results[0].flagged
    assert desk.lines() == [], "nothing was used"


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"input": 3}, 400, "input"), ({"input": []}, 400, "input"), ({"input": [3]}, 400, "input"), ({}, 400, "input"),
        ({"input": "x" * 100_001}, 400, "input"), ({"input": ["x"] * 33}, 400, "input"),
        ({"input": "x", "model": 3}, 400, "model"), ({"input": "x", "more": 1}, 400, "more"),
        ({"input": [{"type": "image_url", "image_url": {"url": "x"}}]}, 400, "input"), (b"[]", 400, None),
        ({"input": "\ud800"}, 400, "input"),
    ],
    ids=lambda given: str(given)[:40],
)  # fmt: skip
def test_a_bad_question_about_texts_is_told_what_is_wrong(
    desk: Desk, body: Any, status: int, param: str | None
) -> None:
    answer = desk.ask(body, path="/v1/moderations")
    assert (answer.status, error(answer)["param"]) == (status, param)


def test_moderations_need_an_access_token_for_inference(desk: Desk) -> None:
    other = desk.member("2.0.0", "weights:read")
    assert desk.ask({"input": "x"}, path="/v1/moderations", by=other).status == 403
    assert desk.ask({"input": "x"}, path="/v1/moderations", headers={}).status == 401
    good = desk.ask({"input": [{"type": "text", "text": "x"}]}, path="/v1/moderations", by=desk.member(""))
    assert good.status == 200
    assert json.loads(good.body)["results"][0]["flagged"] is False  # type: ignore[arg-type]
