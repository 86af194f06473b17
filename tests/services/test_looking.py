"""Texts on their way from the data plane to those who look at them, and what comes of them."""

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from portal import main_look
from portal.accounts.models import User
from portal.adapters.judge import Judge, JudgesUnreadable, Said, Shape, read_judges
from portal.banks import service as banks
from portal.banks.rules import Bank
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import make_engine, transaction
from portal.detection.models import Hit
from portal.detection.rules import RuleOutcome
from portal.edge import handover
from portal.edge.handover import Handover, Taker
from portal.features import service as features
from portal.features.models import FeatureVector
from portal.features.rules import Look
from portal.main_look import Looking
from portal.migrations import upgrade
from portal.usage import service as usage
from portal.usage.models import UsageRecord
from portal.usage.rules import Outcome, use_finished, use_opened
from tests.detecting import Desk as Staff
from tests.factories import Make
from tests.running import wait_until

BANK = Bank("news", "en", "restriction.spam", "news", ("fake news", "false story"))


@pytest.fixture
def taker(tmp_path: Path) -> Iterator[Taker]:
    made = Taker(tmp_path / "run" / "t.sock")
    yield made
    made.close()


def give(path: Path, texts: list[dict[str, Any]]) -> Handover:
    """Hand texts over from a loop of its own, and wait until all have left."""

    async def run() -> Handover:
        giving = Handover(path)
        for text in texts:
            giving.give(text)
        while giving._waiting or giving._transport is None or giving._transport.get_write_buffer_size():  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        giving.close()
        return giving

    return asyncio.run(asyncio.wait_for(run(), 60))


def test_texts_arrive_whole_and_in_order_however_long(taker: Taker) -> None:
    texts = [{"id": f"req_{number}", "prompt": "漢" * number * 97, "output": ""} for number in range(200)]
    give(taker._path, texts)
    came: list[Any] = []
    wait_until(lambda: came.extend(taker.take(50)) or len(came) == 200)
    assert came == texts
    assert taker._path.stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_handed_over_is_lost_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "AGAIN_S", 0.001)
    monkeypatch.setattr(handover, "WAITING_MAX", 1_000)

    async def run() -> int:
        giving = Handover(tmp_path / "nobody.sock")
        for _ in range(50):
            giving.give({"id": "x", "prompt": "p" * 100})
        while giving._waiting:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        giving.close()
        return giving.lost

    assert asyncio.run(asyncio.wait_for(run(), 60)) == 50


def test_nonsense_on_the_socket_ends_its_connection_and_nothing_else(taker: Taker) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(taker._path))
        client.sendall(b"\xff\xff\xff\xff more")
        assert client.recv(1) == b""
    give(taker._path, [{"id": "req_1", "prompt": "x", "output": ""}])
    wait_until(lambda: taker.take(9))


@pytest.fixture
def looking(tmp_path: Path) -> Iterator[Looking]:
    settings = Settings.from_env({"PORTAL_HOME": str(tmp_path)})
    engine = make_engine(settings.database_url)
    upgrade(engine)
    with transaction(engine) as session:
        banks.sync(session, banks=[BANK], by=SYSTEM, now=utcnow())
    made = Looking(settings, engine)
    made.listen()
    yield made
    made.close()
    engine.dispose()


def watched(looking: Looking, condition: str = 'phrases("news") >= 2 and scanned') -> None:
    """Have a rule that flags."""
    with transaction(looking.engine) as session:
        staff = Staff(session, Make(session, utcnow()), utcnow())
        staff.rule("flagging", outcome=RuleOutcome.FLAG, when=condition, match=("@scanned true\nnews, news",))


def used(looking: Looking, name: str, *, ended: bool = True, at: datetime | None = None, **said: Any) -> None:
    """Enter a use of somebody as the journal says it."""
    with transaction(looking.engine) as session:
        at, user = at or utcnow(), Make(session, utcnow()).person(f"user-{name}")
        opened = use_opened(
            request_id=name, at=at, action="infer", channel="inference", model_name="lab/watched", user_id=user.id,
        ) | {
            "features": {"chars": 5_000}, "digest": "d", "license": "conduct-license", "route": "completions", **said,
        }  # fmt: skip
        line = use_finished(opened, at=at, outcome=Outcome.FINISHED) if ended else opened
        looking.note(session, usage.record(session, record=line), line)


def vectors(looking: Looking) -> list[tuple[Look, dict[str, Any]]]:
    with transaction(looking.engine, write=False) as session:
        return [(row.look, row.values) for row in session.scalars(sa.select(FeatureVector))]


def hits(looking: Looking) -> list[str]:
    with transaction(looking.engine, write=False) as session:
        return [hit.applied.value for hit in session.scalars(sa.select(Hit))]


def test_a_text_is_looked_at_once_its_record_is_there_and_the_rules_are_asked_again(looking: Looking) -> None:
    watched(looking)
    middle = "a" * 3_000 + " fake news, a false story " + "z" * 3_000
    give(looking.settings.text_socket, [{"id": "req_1", "prompt": middle, "output": ""}])
    wait_until(lambda: looking.run() or looking.texts)
    assert vectors(looking) == []
    used(looking, "req_1")
    wait_until(lambda: looking.run() or not looking.texts)
    ((look, values),) = vectors(looking)
    assert (look, values["scanned"], values['phrases("news")']) == (Look.DONE, True, 2)
    assert hits(looking) == ["flag"]
    for path in looking.settings.home.rglob("*"):
        assert not path.is_file() or b"a false story" not in path.read_bytes(), "texts are never written down"


def test_a_judge_is_asked_about_the_clause_as_the_person_signed_it(looking: Looking, tmp_path: Path) -> None:
    asked: list[dict[str, str]] = []

    class Fake(Judge):
        def ask(self, *, text: str, clause: str) -> Said:
            asked.append({"text": text, "clause": clause})
            return {"calm": Said.FINE, "odd": Said.UNCLEAR, "dead": Said.SILENT}[text]

    looking.judges = {"restriction.spam": Fake("http://judge.example", Shape.CHAT, "guard")}
    watched(looking)
    for name, text in (("req_1", "calm"), ("req_2", "odd"), ("req_3", "dead")):
        used(looking, name)
        with transaction(looking.engine) as session:
            record = session.scalars(sa.select(UsageRecord).where(UsageRecord.request_id == name)).one()
            Make(session, utcnow()).sign(session.get_one(User, record.user_id))
        looking.texts[name] = (float("inf"), {"id": name, "prompt": text, "output": ""})
    wait_until(lambda: looking.run() or not looking.texts)
    key = 'judge("restriction.spam")'
    assert sorted(str(values.get(key)) for _, values in vectors(looking)) == ["0", "1", "None"]
    assert all("You send no spam at all." in one["clause"] for one in asked)


def test_a_file_of_judges_is_read_or_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "judges.toml"
    path.write_text('[[judges]]\nclause = "restriction.spam"\nurl = "http://j"\nshape = "chat"\nmodel = "g"\n')
    assert read_judges(path) == {"restriction.spam": Judge("http://j", Shape.CHAT, "g")}
    for text in ("", "judges = 3", "[[judges]]\nclause = 'x'", "[[judges"):
        path.write_text(text)
        with pytest.raises(JudgesUnreadable, match=r"judges\.toml"):
            read_judges(path)


def test_a_use_that_has_not_ended_waits(looking: Looking) -> None:
    looking.texts["req_1"] = (float("inf"), {"id": "req_1", "prompt": "x", "output": ""})
    used(looking, "req_1", ended=False)
    assert looking.run() is False
    assert [look for look, _ in vectors(looking)] == [Look.PENDING]


def test_what_the_data_plane_found_is_kept_when_the_text_was_lost(looking: Looking) -> None:
    watched(looking)
    used(looking, "req_1", at=utcnow() - timedelta(minutes=5), features={"chars": 9, 'phrases("news")': 3})
    assert looking.run() is False
    ((look, values),) = vectors(looking)
    assert (look, "scanned" in values) == (Look.LOST, False)
    assert hits(looking) == []


def test_a_text_at_which_nobody_can_look_does_not_hold_up_the_others(
    looking: Looking, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = features.look

    def look(session: Any, *, text: Any, **kept: Any) -> Any:
        if text["prompt"] == "poison":
            raise ValueError("cannot")
        return real(session, text=text, **kept)

    monkeypatch.setattr(features, "look", look)
    used(looking, "req_bad")
    used(looking, "req_good")
    for name, prompt in (("req_bad", "poison"), ("req_good", "fine")):
        looking.texts[name] = (float("inf"), {"id": name, "prompt": prompt, "output": ""})
    looking.run()
    assert looking.texts == {}
    assert sorted(look.value for look, _ in vectors(looking)) == ["done", "pending"]


def test_a_text_in_hand_is_never_given_up_however_long_the_queue_before_it(
    looking: Looking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main_look, "BATCH", 3)
    for number in range(10):
        name = f"req_{number}"
        used(looking, name, at=utcnow() - timedelta(minutes=5))
        looking.texts[name] = (float("inf"), {"id": name, "prompt": "x", "output": ""})
    used(looking, "req_gone", at=utcnow() - timedelta(minutes=5))
    wait_until(lambda: (looking.run(), not looking.texts)[1])
    looking.run()
    assert sorted(look.value for look, _ in vectors(looking)) == ["done"] * 10 + ["lost"]


def test_texts_without_a_record_do_not_hold_up_those_behind_them(
    looking: Looking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main_look, "BATCH", 2)
    for number in range(50):
        looking.texts[f"req_none{number}"] = (float("inf"), {"id": f"req_none{number}", "prompt": "x", "output": ""})
    used(looking, "req_1")
    looking.texts["req_1"] = (float("inf"), {"id": "req_1", "prompt": "x", "output": ""})
    wait_until(lambda: (looking.run(), "req_1" not in looking.texts)[1])
    assert [look for look, _ in vectors(looking)] == [Look.DONE]
    assert len(looking.texts) == 50


def test_what_goes_wrong_with_a_text_is_logged_without_a_word_of_it(
    looking: Looking, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def look(*_: Any, text: Any, **__: Any) -> None:
        raise ValueError(f"cannot read {text['prompt']}")

    monkeypatch.setattr(features, "look", look)
    used(looking, "req_1")
    looking.texts["req_1"] = (float("inf"), {"id": "req_1", "prompt": "planted-canary", "output": ""})
    looking.run()
    logged = [record for record in caplog.records if record.name == "portal.look"]
    assert len(logged) == 2
    assert all(record.exc_info is None for record in logged)
    assert "ValueError at test_looking.py" in caplog.text
    assert "canary" not in caplog.text
