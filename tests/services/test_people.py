"""What staff find and see of people, and what is published, on both databases."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from portal.accounts.rules import Role, Standing
from portal.core.actor import SYSTEM
from portal.core.errors import NotFound
from portal.moderation import service as moderation
from portal.people import service
from portal.tokens import service as tokens
from portal.usage.models import UsageRecord
from portal.usage.rules import Outcome, day_of
from tests import conduct

BASE = "https://portal.example"


def suspend(session: Session, user_id: int, now: datetime, facts: str = "Spam.") -> None:
    order = {
        "user_id": user_id, "clause_keys": ["restriction.spam"], "facts": facts, "until": now + timedelta(days=3),
        "base_url": BASE, "now": now,
    }  # fmt: skip
    digest = conduct.preview(session, **order).sha256  # type: ignore[arg-type]
    moderation.suspend(session, by=SYSTEM, notice_sha256=digest, **order)  # type: ignore[arg-type]


def test_people_are_found_by_part_of_address_or_name_and_by_public_id(session: Session, now: datetime) -> None:
    percy = conduct.person(session, "per%cy", now)
    perry = conduct.person(session, "perry", now)

    def found(query: str) -> list[str]:
        return [user.public_id for user in service.search(session, query=query, now=now)]

    assert found("PER%") == [percy.public_id]
    assert found("per") == [percy.public_id, perry.public_id]
    assert found("Y@CONDUCT.example") == [percy.public_id, perry.public_id]
    assert found(perry.public_id) == [perry.public_id]
    assert found("no such person") == []


def test_people_are_found_by_the_standing_that_holds_now(session: Session, now: datetime) -> None:
    ann, bob = conduct.person(session, "ann", now), conduct.person(session, "bob", now)
    for user in (ann, bob):
        conduct.sign(session, user, now)
    suspend(session, ann.id, now)

    def names(standing: Standing, at: datetime) -> list[str]:
        found = service.search(session, query="@conduct.example", standing=standing.value, now=at)
        return [user.profile.name for user in found]

    assert names(Standing.SUSPENDED, now) == ["Ann"]
    assert names(Standing.ACTIVE, now) == ["Bob"]
    assert names(Standing.CLOSED, now) == []
    later = now + timedelta(days=3)
    assert names(Standing.SUSPENDED, later) == []
    assert names(Standing.ACTIVE, later) == ["Ann", "Bob"]


def test_the_list_goes_on_after_a_person(session: Session, now: datetime) -> None:
    made = [conduct.person(session, f"p{n}", now) for n in range(5)]
    first = service.search(session, query="@conduct.example", now=now, limit=2)
    assert [user.id for user in first] == [user.id for user in made[:3]]
    rest = service.search(session, query="@conduct.example", now=now, limit=2, after_id=made[1].id)
    assert [user.id for user in rest] == [user.id for user in made[2:]]


def test_a_person_is_shown_with_all_that_staff_need(session: Session, now: datetime) -> None:
    ann = conduct.person(session, "ann", now, Role.CARD_EDITOR)
    old, new = conduct.sign(session, ann, now), conduct.sign(session, ann, now, "2.0.0")
    live, _ = tokens.issue(
        session, by=conduct.acting(ann), owner_id=ann.id, name="laptop", scopes=["inference"], model_ids=[], days=30,
        pepper=b"p" * 32, now=now,
    )  # fmt: skip
    for n, (outcome, days) in enumerate(
        [(Outcome.FINISHED, 1), (Outcome.FINISHED, 2), (Outcome.REFUSED, 3), (Outcome.FINISHED, 40)]
    ):
        at = now - timedelta(days=days)
        record = UsageRecord(
            request_id=f"req_{n}", user_id=ann.id, model_name="a/b", action="infer", channel="api", prompt_tokens=3,
            completion_tokens=4, outcome=outcome, day=day_of(at), started_at=at,
        )  # fmt: skip
        session.add(record)
    session.flush()
    suspend(session, ann.id, now)
    seen = service.person(session, ref=ann.public_id, now=now)
    assert seen.standing is Standing.SUSPENDED
    assert seen.roles == ("card_editor",)
    assert [s.id for s in seen.signatures] == [new.id, old.id]
    assert [(t.id, state) for t, state in seen.tokens] == [(live.id, "live")]
    assert [(u.outcome, u.calls, u.text_tokens) for u in seen.use] == [("finished", 2, 14), ("refused", 1, 7)]
    assert len(seen.decisions) == 1
    later = service.person(session, ref=ann.public_id, now=now + timedelta(days=31))
    assert later.standing is Standing.ACTIVE
    assert [state for _, state in later.tokens] == ["expired"]
    with pytest.raises(NotFound):
        service.person(session, ref="usr_nobody", now=now)


def test_a_summary_holds_plain_values_and_no_secret(session: Session, now: datetime) -> None:
    import json

    ann = conduct.person(session, "ann", now)
    signature = conduct.sign(session, ann, now)
    suspend(session, ann.id, now)
    summary = service.member_summary(session, email=" Ann@Conduct.example", now=now)
    assert json.loads(json.dumps(summary)) == summary
    assert (summary["standing"], summary["suspended_until"]) == ("suspended", (now + timedelta(days=3)).isoformat())
    assert signature.public_id in summary["signatures"][0]
    assert service.member_summary(session, email="ann@conduct.example", now=now + timedelta(days=9))["sanction"] is None
    with pytest.raises(NotFound):
        service.member_summary(session, email="nobody@conduct.example", now=now)
