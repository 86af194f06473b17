"""The processor time of a page when there are 10,000 models and 1,000,000 records of use."""

import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.accounts.rules import Role
from portal.catalog.models import GatedModel
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import make_engine, transaction
from portal.main import close, create_app
from portal.migrations import upgrade
from portal.migrations.tables import load_tables
from portal.usage.models import UsageRecord
from tests.factories import Make
from tests.site import Client

MODELS, RELEASED, PEOPLE, RECORDS, OWN = 10_000, 50, 2_000, 1_000_000, 100_000
DAYS, BATCH, TIMES = 90, 20_000, 7
MODEL = "lab/released0"
MEMBER = {
    "start": "/", "search": "/?q=7777", "last": "/?page=200", "model": f"/{MODEL}", "playground": "/playground",
    "play": f"/playground/{MODEL}", "licenses": "/licenses/", "settings": "/settings/", "usage": "/settings/usage",
    "tokens": "/settings/tokens", "transparency": "/transparency", "missing": "/no/such",
}  # fmt: skip
STAFF = {
    "staff": "/staff/", "staff_usage": "/staff/usage", "staff_models": "/staff/models", "staff_cards": "/staff/cards",
    "staff_people": "/staff/people", "staff_audit": "/staff/audit",
}  # fmt: skip
BARS = {f"page_{name}_ms": "<= 100" for name in (*MEMBER, *STAFF)}


def fill(session: Session, now: datetime) -> tuple[User, User]:
    """Fill a database, and return a member who has used much and somebody of staff."""
    make = Make(session, now)
    for number in range(RELEASED):
        make.release(make.model(f"lab/released{number}"))
    session.execute(sa.insert(GatedModel), [
        {"public_id": f"mdl_b{n}", "namespace": f"lab{n % 100}", "name": f"model-{n}", "created_at": now,
         "state": "published"} for n in range(MODELS - RELEASED)
    ])  # fmt: skip
    member, boss = make.person("reader"), make.person("boss", Role.ADMIN)
    make.sign(member)
    session.flush()
    first = (session.scalar(sa.select(sa.func.max(User.id))) or 0) + 1
    session.execute(
        sa.insert(User),
        [{"id": first + n, "public_id": f"usr_b{n}", "created_at": now} for n in range(PEOPLE)],
    )
    for start in range(0, RECORDS, BATCH):
        rows = (_record(n, member.id if n % (RECORDS // OWN) == 0 else first + n % PEOPLE, now)
                for n in range(start, start + BATCH))  # fmt: skip
        session.execute(sa.insert(UsageRecord), list(rows))
    return member, boss


def _record(number: int, user_id: int, now: datetime) -> dict[str, Any]:
    at = now - timedelta(days=DAYS) * (1 - (number + 1) / RECORDS)
    return {
        "request_id": f"req_b{number}", "user_id": user_id, "model_name": f"lab/released{number % RELEASED}",
        "action": "infer", "channel": "inference", "prompt_tokens": 20, "completion_tokens": 1, "ms": 40,
        "outcome": "finished", "day": f"{at:%Y-%m-%d}", "started_at": at, "finished_at": at, "bytes_sent": 0,
        "reason_code": "", "server": "embedded", "lab": "",
    }  # fmt: skip


def timed(client: Client, pages: dict[str, str]) -> Iterator[tuple[str, float]]:
    """Open pages some times each; the first time, what is kept in memory is not there yet and does not count."""
    for name, path in pages.items():
        client.get(path)
        took = []
        for _ in range(TIMES):
            began = time.process_time()
            answer = client.get(path)
            took.append(time.process_time() - began)
            assert answer.status_code in {200, 404}, (path, answer.status_code)
        yield f"page_{name}_ms", median(took) * 1000


def measure() -> dict[str, float]:
    """Return the median processor time of each page, in milliseconds, the database's (SQLite) included."""
    load_tables()
    with tempfile.TemporaryDirectory() as place:
        settings = Settings.from_env({"PORTAL_HOME": place, "PORTAL_PAGES_PER_MINUTE": "100000"})
        Path(place).mkdir(exist_ok=True)
        engine = make_engine(settings.database_url)
        upgrade(engine)
        with transaction(engine) as session:
            member, boss = fill(session, utcnow())
            session.expunge_all()
        app = create_app(settings)
        figures = dict(timed(Client(app).sign_in(member), MEMBER))
        figures |= dict(timed(Client(app).sign_in(boss), STAFF))
        close(app)
        engine.dispose()
    return figures
