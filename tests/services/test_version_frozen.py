"""What of a version nobody gets around: its words, its dates, the clock, and what it never touches."""

from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from portal.access import service as access
from portal.access.rules import Action
from portal.accounts.models import User
from portal.catalog import service as catalog
from portal.clauses.models import ClauseChange, ClauseText
from portal.core.actor import SYSTEM, Actor
from portal.core.errors import Conflict
from portal.drafting import service as drafting
from portal.licensing import service as licensing
from portal.licensing.models import LicenseVersion, Rendition
from portal.licensing.rules import VersionState
from portal.moderation import service as moderation
from portal.notices import service as notices
from portal.publishing import service
from portal.sanctions.models import Sanction
from tests import conduct, licensed
from tests.editing import BASE, DAY, code, looked, settled, steps
from tests.factories import Make
from tests.licensed import SLUG


def frozen(session: Session, statement: Any) -> None:
    with pytest.raises(IntegrityError, match=r"frozen|append-only"), session.begin_nested():
        session.execute(statement)


@pytest.mark.invariant("INV-03")
def test_from_approval_on_no_word_changes_by_sql_or_orm(
    session: Session, now: datetime, editors: dict[str, Actor]
) -> None:
    row = settled(session, editors, now)
    text, change = licensing.rendition(row, "fr"), ClauseChange.__table__
    before = session.get_one(LicenseVersion, row.predecessor_id)
    version, rendition = sa.table("license_version", sa.column("id"), sa.column("summary", sa.JSON),
                                  sa.column("number"), sa.column("state")), Rendition.__table__  # fmt: skip
    mine = change.c.to_sha256 == text.text_sha256
    assert session.scalar(sa.select(sa.func.count()).select_from(change).where(mine))
    frozen(session, sa.update(version).where(version.c.id == row.id).values(number="9.9.9"))
    frozen(session, sa.update(version).where(version.c.id == row.id).values(state="draft"))
    frozen(session, sa.delete(version).where(version.c.id == row.id))
    frozen(session, sa.update(rendition).where(rendition.c.id == text.id).values(language="de"))
    frozen(session, sa.delete(rendition).where(rendition.c.id == text.id))
    new = {"version_id": row.id, "language": "de", "text_sha256": text.text_sha256, "prevailing": False}
    frozen(session, sa.insert(rendition).values(**new))
    frozen(session, sa.update(change).where(mine).values(explanation="Nothing."))
    frozen(session, sa.delete(change).where(mine))
    clause_id = session.scalar(sa.select(ClauseText.clause_id).where(ClauseText.text_sha256 == text.text_sha256)) or 0
    earlier = licensing.rendition(before, "fr").text_sha256
    values = {"from_sha256": earlier, "to_sha256": text.text_sha256, "clause_id": clause_id, "relation": "same"}
    frozen(session, sa.insert(change).values(**values, explanation=""))
    span = {"text_sha256": text.text_sha256, "clause_id": 10**6, "ordinal": 999, "label": "x", "span_start": 1}
    frozen(session, sa.insert(ClauseText.__table__).values(**span, span_end=2, sha256="x"))
    for name, value in (("summary", {"en": "Other."}), ("number", "9.9.9"), ("state", VersionState.DRAFT)):
        setattr(row, name, value)
        with pytest.raises(Conflict) as caught:
            session.flush()
        assert code(caught) == "frozen"
        session.refresh(row)
    text.language = "de"
    with pytest.raises(Conflict):
        session.flush()
    session.refresh(text)
    session.delete(text)
    with pytest.raises(Conflict):
        session.flush()
    session.expunge(text)
    session.add(Rendition(**new))
    with pytest.raises(Conflict):
        session.flush()


def test_a_version_in_force_keeps_its_dates(session: Session, now: datetime) -> None:
    row = licensed.publish(session, now)
    table = LicenseVersion.__table__
    for values in ({"required_by": now + 300 * DAY}, {"effective_at": now}, {"state": "approved"}):
        frozen(session, sa.update(table).where(table.c.id == row.id).values(**values))  # type: ignore[arg-type]
    row.required_by = now + 300 * DAY
    with pytest.raises(Conflict):
        session.flush()
    session.refresh(row)
    row.state = VersionState.APPROVED
    with pytest.raises(Conflict):
        session.flush()
    session.refresh(row)


def answers(session: Session, user: User, at: datetime) -> list[str]:
    asked = access.check(
        session, actor=conduct.acting(user), model="lab/rail", action=Action.INFER, now=at, base_url=BASE
    )
    return [reason.code for reason in asked.blocking]


@pytest.mark.invariant("INV-13")
def test_without_the_background_work_arrivals_and_lapses_take_effect_at_their_instant(
    session: Session, now: datetime, editors: dict[str, Actor], make: Make
) -> None:
    old = licensing.find_version(session, slug=SLUG, number="1.1.0")
    model, ann = make.model("lab/rail"), conduct.person(session, "ann", now)
    catalog.release(
        session, model=model, revision=make.commit(model).revision, license_slug=SLUG, license_number="1.1.0",
        by=SYSTEM, now=now,
    )  # fmt: skip
    access.require_license(session, model_id=model.id, license_id=old.license_id, now=now)
    licensed.sign(session, licensed.browsing(ann), old, now)
    row = settled(session, editors, now)
    at, by, tick = now + 20 * DAY, now + 50 * DAY, timedelta(microseconds=1)
    service.schedule(
        session, **steps(), effective_at=at, required_by=by, previewed=looked(now), by=editors["ed"], now=now,
        base_url=BASE,
    )  # fmt: skip
    notices.mark_shown(session, user_id=ann.id, subject_ref=f"license_version:{SLUG}/1.2.0", now=now)
    assert licensing.in_force(session, slug=SLUG, now=at - tick)[1] is old
    assert licensing.in_force(session, slug=SLUG, now=at)[1] is row
    assert answers(session, ann, by - tick) == []
    assert answers(session, ann, by) == ["signature_lapsed"]
    assert row.state is VersionState.SCHEDULED, "nobody wrote down that it arrived"


@pytest.mark.invariant("INV-29")
def test_law_sanctions_and_breaches_never_write_each_other(
    session: Session, now: datetime, editors: dict[str, Actor], make: Make
) -> None:
    ann = make.person("ann")
    make.sign(ann)
    order: dict[str, Any] = {
        "user_id": ann.id, "clause_keys": ["restriction.spam"], "facts": "Spam.", "until": now + 30 * DAY,
        "base_url": BASE, "now": now,
    }  # fmt: skip

    def sanctions() -> Any:
        return session.execute(sa.select(Sanction.id, Sanction.kind, Sanction.until)).all()

    def versions() -> Any:
        query = sa.select(LicenseVersion.id, LicenseVersion.state, LicenseVersion.effective_at)
        return session.execute(query.order_by(LicenseVersion.id)).all()

    before = versions()
    notice = conduct.preview(session, **order)
    moderation.suspend(session, by=SYSTEM, notice_sha256=notice.sha256, **order)
    assert versions() == before
    stood = sanctions()
    settled(session, editors, now)
    when: dict[str, Any] = {"effective_at": now + 20 * DAY, "required_by": now + 20 * DAY, "base_url": BASE}
    service.schedule(session, **steps(), **when, previewed=looked(now), by=editors["ed"], now=now)
    licensing.arrive(session, now=now + 20 * DAY)
    service.retire(session, **steps("1.1.0"), still_asked=[], by=editors["ed"], now=now + 20 * DAY)
    assert sanctions() == stood


@pytest.mark.invariant("INV-06")
def test_one_text_prevails_and_each_signature_names_it(session: Session, now: datetime) -> None:
    row = licensed.publish(session, now)
    draft = drafting.draft(session, **steps(), by=SYSTEM, now=now)
    second: Any = sa.update(Rendition.__table__).where(  # type: ignore[arg-type]
        Rendition.version_id == draft.id, Rendition.language == "fr"
    )
    with pytest.raises(IntegrityError), session.begin_nested():
        session.execute(second.values(prevailing=True))
    ann = conduct.person(session, "ann", now)
    signature = licensed.sign(session, licensed.browsing(ann), row, now, "zh")
    assert signature.prevailing_sha256 == licensing.rendition(row, "en").text_sha256
    assert signature.rendition_sha256 == licensing.rendition(row, "zh").text_sha256 != signature.prevailing_sha256
