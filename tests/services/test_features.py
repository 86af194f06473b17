"""What the journal says was measured, what whole texts add to it, and what is deleted again."""

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.banks.rules import Bank
from portal.banks.service import Scanner
from portal.features import service
from portal.features.models import FeatureVector
from portal.features.rules import Look, Pace
from portal.features.service import Tools
from portal.usage import service as usage
from portal.usage.models import UsageRecord
from portal.usage.rules import Outcome, Record, use_finished, use_opened
from tests.factories import Make

BANK = Bank("news", "en", "restriction.spam", "news", ("fake news",))
NUMBERS = count(1)
MINUTE = timedelta(minutes=1)


def tools(**more: Any) -> Tools:
    return Tools(Scanner([BANK]), seed=7, **more)


@pytest.fixture
def user(make: Make) -> User:
    return make.person()


def lines(user: User, at: datetime, **said: Any) -> tuple[Record, Record]:
    """The two lines that a journal holds of a use."""
    opened = use_opened(
        request_id=f"req_f{next(NUMBERS)}",
        at=at,
        action="infer",
        channel="inference",
        model_name="lab/one",
        user_id=user.id,
    )
    told = {"features": {"chars": 9}, "digest": "d1", "license": "small", "route": "completions", **said}
    opened |= {key: told[key] for key in told if key != "hits"}
    return opened, use_finished(
        {**opened, **told}, at=at, outcome=Outcome.FINISHED, prompt_tokens=3, completion_tokens=4
    )


@pytest.fixture
def played(session: Session, user: User, now: datetime) -> Callable[..., FeatureVector]:
    """Enter the lines of a use, each twice, and return what is kept of it."""

    def play(at: datetime = now, by: User = user, **said: Any) -> FeatureVector:
        opened, finished = lines(by, at, **said)
        for line in (opened, opened, finished, finished):
            row = service.record(session, use=usage.record(session, record=line), line=line)
        assert row is not None
        return row

    return play


def test_a_vector_is_kept_once_whatever_is_entered_again(
    session: Session, played: Callable[..., FeatureVector]
) -> None:
    row = played(hits={"3": "flag"}, features={"chars": 9, 'output_phrases("news")': 1})
    assert (row.values, row.applied) == ({"chars": 9, 'output_phrases("news")': 1}, {"3": "flag"})
    assert (row.digest, row.license, row.route, row.look) == ("d1", "small", "completions", Look.PENDING)
    assert session.scalar(sa.select(sa.func.count()).select_from(FeatureVector)) == 1


def test_a_line_that_measured_nothing_leaves_no_vector(session: Session, user: User, now: datetime) -> None:
    opened = use_opened(request_id="req_plain", at=now, action="infer", channel="hub", model_name="x", user_id=user.id)
    assert service.record(session, use=usage.record(session, record=opened), line=opened) is None


def test_the_whole_text_adds_what_only_it_tells(
    session: Session, played: Callable[..., FeatureVector], now: datetime
) -> None:
    row = played(features={"chars": 30_000})
    assert (
        list(
            service.waiting(
                session, request_ids=["nobody", session.get_one(UsageRecord, row.usage_record_id).request_id]
            )
        )
        != []
    )
    middle = "a" * 5_000 + " fake news, mail me at a@b.example, password: hunter22 " + "б" * 30
    whole = service.look(
        session, row=row, text={"prompt": middle}, now=now,
        tools=tools(language=lambda _: "xx", judged={"restriction.spam": 1}),
    )  # fmt: skip
    assert whole['phrases("news")'] == 1
    assert (whole["secrets"], whole["personal_data"], whole["lang"], whole["scanned"]) == (1, 1, "xx", True)
    assert whole["scripts"] == frozenset({"LATIN", "CYRILLIC"} if len(middle) < 2_000 else {"LATIN"})
    assert whole['judge("restriction.spam")'] == 1
    assert row.look is Look.DONE
    assert service.read(row.values) == whole
    assert not service.waiting(session, request_ids=[session.get_one(UsageRecord, row.usage_record_id).request_id])


def test_a_text_that_never_comes_is_given_up_and_said_not_to_be_scanned(
    session: Session, played: Callable[..., FeatureVector], now: datetime
) -> None:
    row = played()
    assert service.overdue(session, now=now, limit=9) == {}
    (late,) = service.overdue(session, now=now + service.PATIENCE + MINUTE, limit=9).values()
    assert late is row
    assert "scanned" not in service.lose(session, row=row, now=now)
    assert row.look is Look.LOST
    assert service.overdue(session, now=now + 9 * MINUTE, limit=9) == {}


@pytest.mark.threat("TM-10")
def test_varied_prompts_are_counted_over_three_days(
    session: Session, played: Callable[..., FeatureVector], now: datetime
) -> None:
    for number in range(30):
        row = played(now - timedelta(hours=80) + timedelta(hours=2) * number, digest=f"v{number}")
    played(now, digest="v29")
    row = played(now, digest="v29")
    whole = service.look(session, row=row, text={"prompt": "short"}, tools=tools(), now=now)
    assert whole["distinct_72h"] == 25


def test_counters_begin_where_the_records_and_the_journal_left_them(
    session: Session, user: User, played: Callable[..., FeatureVector], now: datetime
) -> None:
    for number in range(3):
        played(now - timedelta(days=number + 1), digest="old")
    played(now - MINUTE, digest="same")
    _, unplayed = lines(user, now - MINUTE / 2, digest="same", reserved=50)
    unplayed["reserved"] = 50
    pace = Pace()
    service.load_pace(session, pace, unplayed=[unplayed, unplayed], now=now)
    seen = pace.see(user.id, 10, "same", now.timestamp())
    assert (seen["vel_req_1h"], seen["vel_req_24h"], seen["dup_exact_1h"], seen["vel_tokens_24h"]) == (3, 3, 2, 67)
    # Two of today's three may count for yesterday, if the minute before was.
    assert "vel_ratio_28d" in seen


def test_vectors_come_in_order_and_old_ones_go(
    session: Session, user: User, played: Callable[..., FeatureVector], now: datetime
) -> None:
    old = played(now - timedelta(days=91))
    new = [played(now - timedelta(days=day), features={"chars": day, "scripts": ["LATIN"]}) for day in (2, 1)]
    found = list(service.vectors(session, since=now - timedelta(days=3), until=now))
    assert [(record, at, vector["chars"]) for record, _, at, vector in found] == [
        (row.usage_record_id, row.at, day) for row, day in zip(new, (2, 1), strict=True)
    ]
    assert found[0][3]["scripts"] == frozenset({"LATIN"})
    assert service.forget(session, now=now) == 1
    assert session.get(FeatureVector, old.usage_record_id) is None
