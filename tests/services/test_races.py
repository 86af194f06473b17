"""What somebody else commits between looking and acting counts, where databases let two write at once."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.accounts.rules import Standing
from portal.catalog import service as catalog
from portal.catalog.rules import CardState
from portal.core.actor import SYSTEM, Actor
from portal.core.db import make_engine, transaction
from portal.core.errors import Conflict, Invalid, Refused
from portal.drafting import service as drafting
from portal.licensing import service as licensing
from portal.migrations import upgrade
from portal.moderation import service as moderation
from portal.moderation.rules import DecisionState
from portal.oauth import service as oauth
from portal.publishing import service as publishing
from portal.redress import service as redress
from portal.signing import service as signing
from portal.tokens import service as tokens
from tests import conduct, licensed

BASE = "https://portal.example"
CARD = "---\nlicense: other\n---\n# Card\n"


@pytest.fixture(scope="module")
def shared(postgres_url: str) -> Iterator[sa.Engine]:
    """A PostgreSQL database of these tests, in which work is committed; SQLite lets nobody in between."""
    server = make_engine(postgres_url)
    with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("CREATE DATABASE races"))
    engine = make_engine(server.url.set(database="races").render_as_string(hide_password=False))
    upgrade(engine)
    yield engine
    engine.dispose()
    with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("DROP DATABASE races WITH (FORCE)"))
    server.dispose()


def order(session: Session, user: User, now: datetime, by: Actor) -> Any:
    """Suspend somebody."""
    given: dict[str, Any] = {
        "user_id": user.id, "clause_keys": ["restriction.spam"], "facts": "Sent 1,000 letters.",
        "until": now + timedelta(days=30), "base_url": BASE, "now": now,
    }  # fmt: skip
    notice = conduct.preview(session, **given)
    return moderation.suspend(session, by=by, notice_sha256=notice.sha256, **given)


def person(engine: sa.Engine, name: str, now: datetime) -> User:
    """Somebody who signed the small license."""
    with transaction(engine) as session:
        user = conduct.person(session, name, now)
        conduct.sign(session, user, now)
    return user


def test_a_reversal_ends_a_suspension_that_was_ordered_meanwhile(shared: sa.Engine, now: datetime) -> None:
    user = person(shared, "reversed", now)
    with transaction(shared) as late:
        seen = late.get_one(User, user.id)  # what a page holds that looked before the order
        with transaction(shared) as first:
            order(first, user, now, SYSTEM)
        redress.reinstate(late, by=SYSTEM, user_id=user.id, reason="Wrong person.", base_url=BASE, now=now)
        assert seen.standing is Standing.ACTIVE
    with transaction(shared, write=False) as session:
        assert session.get_one(User, user.id).standing is Standing.ACTIVE


def test_reinstating_what_somebody_just_reinstated_changes_nothing(shared: sa.Engine, now: datetime) -> None:
    user = person(shared, "again", now)
    with transaction(shared) as session:
        order(session, user, now, SYSTEM)
    given: dict[str, Any] = {"user_id": user.id, "reason": "Wrong person.", "base_url": BASE, "now": now}
    with transaction(shared) as late:
        seen = late.get_one(User, user.id)
        with transaction(shared) as first:
            redress.reinstate(first, by=SYSTEM, **given)
        assert redress.reinstate(late, by=SYSTEM, **given) == []
        assert seen.standing is Standing.ACTIVE


def test_a_decision_that_was_overturned_meanwhile_takes_no_appeal(shared: sa.Engine, now: datetime) -> None:
    user = person(shared, "appealing", now)
    with transaction(shared) as session:
        ref = order(session, user, now, SYSTEM).sanctions[0].public_id
    with transaction(shared) as late:
        seen = redress.own_decision(late, by=conduct.acting(user), ref=ref)
        with transaction(shared) as first:
            redress.reinstate(first, by=SYSTEM, user_id=user.id, reason="Wrong.", base_url=BASE, now=now)
        with pytest.raises((Conflict, Invalid)):
            redress.file_appeal(
                late, by=conduct.acting(user), ref=ref, text="It was not me.", base_url=BASE, now=now
            )  # fmt: skip
        assert seen.state is DecisionState.OVERTURNED


def test_whoever_was_suspended_meanwhile_signs_nothing(shared: sa.Engine, now: datetime) -> None:
    user = person(shared, "signing", now)
    by = licensed.browsing(user)
    with transaction(shared) as session:
        if licensing.licenses(session)[0][0].slug != licensed.SLUG:
            licensed.publish(session, now)
        version = licensing.find_version(session, slug=licensed.SLUG, number="1.1.0")
        sitting = licensed.sitting(session, by, version, now)
    with transaction(shared) as late:
        seen = late.get_one(User, user.id)
        with transaction(shared) as first:
            order(first, user, now, SYSTEM)
        with pytest.raises(Refused, match="suspended"):
            signing.sign(
                late, by=by, version_id=version.id, sitting=sitting, context=licensed.CONTEXT, now=now
            )  # fmt: skip
        assert seen.standing is Standing.SUSPENDED


def test_a_form_for_an_access_token_sent_twice_at_once_makes_one(shared: sa.Engine, now: datetime) -> None:
    user = person(shared, "minting", now)
    by = conduct.acting(user)

    def mint(session: Session) -> None:
        oauth.check_name_free(session, by=by, name="laptop", now=now)
        tokens.issue(
            session, by=by, owner_id=user.id, name="laptop", scopes=["usage:read"], model_ids=[], days=1,
            pepper=b"p" * 32, now=now,
        )  # fmt: skip

    with transaction(shared) as first:
        mint(first)
        with transaction(shared) as second, second.begin_nested() as step:
            second.execute(sa.text("SET LOCAL lock_timeout = '100ms'"))
            with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
                mint(second)
            step.rollback()


def test_a_text_that_was_published_meanwhile_takes_no_more_edits(shared: sa.Engine, now: datetime) -> None:
    with transaction(shared) as session:
        conduct.license_versions(session, now)
        drafting.draft(session, slug=conduct.SLUG, number="3.0.0", by=SYSTEM, now=now)
    given: dict[str, Any] = {"slug": conduct.SLUG, "number": "3.0.0", "by": SYSTEM, "now": now}
    with transaction(shared) as late:
        version = drafting.find_draft(late, slug=conduct.SLUG, number="3.0.0")
        before = licensing.rendition(version, "en").text_sha256
        with transaction(shared) as first:
            same = first.get_one(type(version), version.id)
            same.summary = {"en": "Nothing.", "fr": "Rien."}
            first.flush()
            publishing.publish(first, materiality="editorial", effective_at=now, required_by=now, **given)
        with pytest.raises(Conflict, match="settled"):
            drafting.save_text(late, language="en", text=conduct.TEXTS["2.0.0"] + "More.\n", **given)
    with transaction(shared, write=False) as session:
        found = licensing.find_version(session, slug=conduct.SLUG, number="3.0.0")
        assert licensing.rendition(found, "en").text_sha256 == before


def test_a_card_that_was_published_meanwhile_keeps_its_words(shared: sa.Engine, now: datetime) -> None:
    with transaction(shared) as session:
        model = catalog.ensure_model(session, full_name="race/card", now=now)
        draft = catalog.save_draft(session, model=model, text=CARD, note="One.", by=SYSTEM, now=now)
        words = draft.text_sha256
    with transaction(shared) as late:
        mine = catalog.find_any_model(late, full_name="race/card")
        seen = catalog.draft_of(late, model=mine)
        with transaction(shared) as first:
            same = catalog.find_any_model(first, full_name="race/card")
            catalog.publish_card(first, model=same, shown_sha256=words, by=SYSTEM, now=now)
        catalog.save_draft(late, model=mine, text=CARD + "More.\n", note="Two.", by=SYSTEM, now=now)
        assert seen is not None
        assert seen.state is CardState.PUBLISHED
    with transaction(shared, write=False) as session:
        found = catalog.current_card(session, model=catalog.find_any_model(session, full_name="race/card"))
        assert found is not None
        assert found.text_sha256 == words
