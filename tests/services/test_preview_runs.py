"""Previews as they run: taken up where they stopped, quick for many, and no date without a fresh one."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.access import service as access
from portal.access.models import Requirement
from portal.access.rules import Grace
from portal.campaigns import service
from portal.core.actor import SYSTEM, Actor
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import make_engine, transaction
from portal.core.errors import Conflict, NotFound
from portal.licensing import service as licensing
from portal.licensing.models import LicenseVersion
from portal.main_work import Work
from portal.migrations import upgrade
from portal.notices.models import Notice
from portal.previews import service as previews
from portal.previews.models import Preview, PreviewPerson
from portal.previews.rules import Lot
from portal.publishing.rules import PREVIEW_LIFE
from tests import licensed
from tests.editing import BASE, DAY, code, settled
from tests.factories import Make
from tests.licensed import SLUG
from tests.population import Program, Situation, Town, look_ahead
from tests.services.test_previews import previewed


@pytest.fixture
def version(session: Session, editors: dict[str, Actor], now: datetime) -> LicenseVersion:
    return settled(session, editors, now)


def test_a_date_is_refused_over_a_preview_that_is_old_or_of_something_else(
    session: Session, editors: dict[str, Actor], now: datetime, town: Town, version: LicenseVersion
) -> None:
    town.settle(Situation())
    preview = previewed(session, version, editors["ed"], now, (30, 50))
    given: dict[str, Any] = {"ref": preview.public_id, "by": editors["ed"], "base_url": BASE}

    def refusal(at: datetime = now) -> str:
        with pytest.raises(Conflict) as caught:
            service.schedule(session, now=at, **given)
        return code(caught)

    assert refusal(now + PREVIEW_LIFE + timedelta(seconds=1)) == "preview_old"
    license_id, model = version.license_id, Make(session, now).model("lab/late")
    nested = session.begin_nested()
    session.execute(sa.update(Requirement).where(Requirement.license_id == license_id).values(grace=Grace.STRICT))
    session.expire_all()
    assert refusal() == "preview_other"
    nested.rollback()
    nested = session.begin_nested()
    access.require_license(session, model_id=model.id, license_id=license_id, now=now)
    assert refusal() == "preview_other"
    nested.rollback()
    session.expire_all()
    town.settle(Situation())  # people come and go meanwhile
    service.schedule(session, now=now + PREVIEW_LIFE, **given)
    assert (version.effective_at, version.required_by) == (now + 30 * DAY, now + 50 * DAY)
    with pytest.raises(Conflict):
        service.schedule(session, now=now, **given)


def test_a_preview_that_was_cut_off_is_taken_up_where_it_stopped(  # noqa: PLR0917
    session: Session, editors: dict[str, Actor], now: datetime, town: Town, version: LicenseVersion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for bounces in (False, True, False, False, True):
        town.settle(Situation(bounces=bounces))
    whole = previewed(session, version, editors["ed"], now)
    monkeypatch.setattr(previews, "CHUNK", 2)
    parts = service.ask(
        session, version=version, effective_at=now + 20 * DAY, required_by=now + 50 * DAY, by=editors["ed"], now=now
    )
    found = previews.look(session)
    assert found is not None
    previews.keep(session, found=found, now=now)
    assert previews.look(session) is not None  # found, and lost before it was kept
    assert (previews.progress(session, preview=parts), parts.people) == (2, 5)
    look_ahead(session, now)
    assert parts.result == whole.result

    def rows(preview: Preview) -> list[Any]:
        p = PreviewPerson
        query = sa.select(p.user_id, p.lot, p.reachable, p.stops_at).where(p.preview_id == preview.id)
        return list(session.execute(query.order_by(p.user_id)).all())

    assert [tuple(row) for row in rows(parts)] == [tuple(row) for row in rows(whole)]
    assert len(previews.people(session, preview=whole, lost=True)) == 2
    assert (
        len(previews.people(session, preview=whole, lot=Lot.MUST_SIGN, after_id=rows(whole)[0].user_id, limit=2)) == 2
    )
    with pytest.raises(NotFound):
        previews.find(session, ref="prv_none")
    whole.result = {}
    with pytest.raises(Conflict):  # what was found is never changed
        session.flush()


def test_the_number_of_questions_does_not_grow_with_the_people(
    session: Session, editors: dict[str, Actor], now: datetime, town: Town, version: LicenseVersion
) -> None:
    asked: list[str] = []
    connection = session.connection()
    sa.event.listen(connection, "before_cursor_execute", lambda _c, _u, statement, *_: asked.append(statement))

    def questions() -> int:
        session.flush()
        session.expire_all()
        asked.clear()
        assert previews.look(session) is not None
        return len(asked)

    full = Situation(copies=("lab/lenient",), programs=(Program(("inference",), "lab/strict", 60),), told=2)
    town.settle(full)
    service.ask(
        session, version=version, effective_at=now + 20 * DAY, required_by=now + 50 * DAY, by=editors["ed"], now=now
    )
    few = questions()
    for _ in range(12):
        town.settle(full)
    assert questions() == few
    found = previews.look(session)
    assert found is not None
    assert len(found.people) == 13


def test_the_background_work_looks_ahead_and_reminds(tmp_path: Path) -> None:
    config = Settings.from_env({"PORTAL_HOME": str(tmp_path)})
    engine, now = make_engine(config.database_url), utcnow()
    upgrade(engine)
    with transaction(engine) as session:
        licensed.publish(session, now)
        town = Town(session, now)
        town.open()
        ann = town.settle(Situation(signed=("1.0.0",)))
        version = licensing.find_version(session, slug=SLUG, number="1.1.0")
        preview = service.ask(session, version=version, effective_at=now, required_by=now, by=SYSTEM, now=now)
    work = Work(config, engine)
    assert not work.remind()
    assert work.preview()  # looks at ann
    assert work.preview()  # finds nobody left
    assert not work.preview()
    with transaction(engine) as session:
        service.schedule(session, ref=preview.public_id, by=SYSTEM, now=utcnow(), base_url=BASE)
    assert work.remind()
    assert not work.remind()
    with transaction(engine, write=False) as session:
        notice = session.scalars(sa.select(Notice).where(Notice.kind == service.REMINDER)).one()
        assert (notice.recipient_id, notice.subject_ref) == (ann.id, f"license_version:{SLUG}/1.1.0")
        assert f"{config.base_url}/licenses/{SLUG}/1.1.0/sign" in (notice.body or "")
    assert {"preview", "reminders"} <= {job.name for job in work.jobs}
    engine.dispose()
