"""The log as outsiders read it, the worker that moves it on, and the command that recomputes it."""

import json
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from portal.audit.models import AuditEvent
from portal.cli import main
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.main_work import Work
from portal.proofs import rules, service
from tests.logged import behind_the_back, entries, record
from tests.planes import data_plane
from tests.site import Client


@pytest.fixture
def work(app: Any) -> Work:
    """The background work of the app."""
    return Work(app.settings, app.engine)


def happen(app: Any, count: int = 1) -> None:
    with transaction(app.engine) as session:
        record(session, utcnow(), *map(str, range(count)))


def verify(app: Any, *options: str) -> Result:
    environ = {"PORTAL_HOME": str(app.settings.home)}
    return CliRunner().invoke(main, ["audit", "verify", *options], env=environ)


def state(app: Any) -> str:
    with data_plane(app.settings) as http:
        answer = http.get("/readyz")
    assert answer.status_code == 503, "neither pages nor background work run in these tests"
    return str(answer.json()["parts"]["log"])


def test_before_the_first_checkpoint_there_is_only_the_key(app: Any, client: Client) -> None:
    happen(app)
    for path in ("checkpoint", "tile/0/000.p/1", "tile/entries/000.p/1"):
        assert client.get(f"/log/{path}").status_code == 404
    answer = client.get("/log/vkey")
    assert answer.get_data(as_text=True) == rules.vkey("127.0.0.1", app.extensions["log_key"].public) + "\n"
    assert state(app) == "ok"


def test_the_log_is_served_as_verifiers_read_it(app: Any, client: Client, work: Work) -> None:
    happen(app, 300)
    assert not work.log()
    happen(app)
    answer = client.get("/log/checkpoint")
    head = rules.read_checkpoint(answer.data)
    assert rules.is_signed(head, app.extensions["log_key"])
    assert head.size == 300
    assert (answer.content_type, answer.headers["Cache-Control"]) == ("text/plain; charset=utf-8", "public, max-age=10")
    with transaction(app.engine, write=False) as session:
        all_ = entries(session)
    tile = client.get("/log/tile/0/000")
    assert tile.data == b"".join(map(rules.leaf_hash, all_[:256]))
    assert tile.content_type == "application/octet-stream"
    assert tile.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert client.get("/log/tile/0/001.p/44").data == b"".join(map(rules.leaf_hash, all_[256:300]))
    assert client.get("/log/tile/1/000.p/1").data == rules.fold([work_root(app, 256)])
    assert client.get("/log/tile/entries/001.p/44").data == b"".join(b"\0\x20" + entry for entry in all_[256:300])


def work_root(app: Any, at: int) -> bytes:
    with transaction(app.engine, write=False) as session:
        return service.root(session, at=at)


@pytest.mark.parametrize(
    "path",
    ["0/000", "0/001", "0/000.p/255", "1/000", "8/000.p/1", "99999999999999999999/000.p/1", "0/x1/000.p/1", "0/0",
     "0/x999/x999/x999/x999/x999/999", "0/x999/x999/x999/x999/x999/999.p/1", "entries/000", "entries/x/y",
     "entries/٠٠٠", "entries/x999/x999/x999/x999/x999/999", "-1/000", "x/000", "0/"],
)  # fmt: skip
def test_what_is_not_in_the_log_is_not_found(app: Any, client: Client, work: Work, path: str) -> None:
    happen(app)
    work.log()
    assert client.get(f"/log/tile/{path}").status_code == 404


def test_the_log_is_the_same_for_people_who_are_signed_in(app: Any, client: Client, work: Work) -> None:
    happen(app, 3)
    work.log()
    answer = client.get("/log/checkpoint", headers={"Cookie": "portal=scribble", "Authorization": "Bearer lmp_x"})
    assert answer.status_code == 200
    assert "Set-Cookie" not in answer.headers


def test_the_worker_signs_and_keeps_what_it_signed(app: Any, work: Work) -> None:
    assert not work.log()
    assert work.log_key.kept() is None
    happen(app, service.BATCH)
    assert work.log()
    assert not work.log()
    first = work.log_key.kept()
    happen(app)
    work.log()
    assert work.log_key.kept() == first, "the next checkpoint is due in a minute"
    assert "log" in [job.name for job in work.jobs]


@pytest.mark.threat("TM-21")
def test_an_older_copy_of_the_database_is_refused_loudly(
    app: Any, client: Client, work: Work, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    happen(app, 3)
    work.log()
    app.engine.dispose()
    shutil.copytree(app.settings.home, tmp_path / "backup")
    happen(app, service.MANY)
    work.log()
    assert state(app) == "ok"
    app.engine.dispose()
    for path in app.settings.home.glob("portal.db*"):
        path.unlink()
    for path in (tmp_path / "backup").glob("portal.db*"):
        shutil.copy(path, app.settings.home)
    happen(app)
    with transaction(app.engine, write=False) as session:
        before = service.size(session)
    work.turn(10.0)
    assert "log failed" in (said := capsys.readouterr().err)
    assert "an older copy was put back" in said
    with transaction(app.engine, write=False) as session:
        assert service.size(session) == before
    assert "an older copy was put back" in state(app)
    result = verify(app)
    assert result.exit_code == 1
    assert "an older copy was put back" in result.stderr


def test_the_command_recomputes_the_log(app: Any, work: Work) -> None:
    happen(app, 3)
    work.log()
    happen(app)
    result = verify(app)
    assert result.exit_code == 0
    told = "The log holds: 4 events, 3 entries (1 pending), 1 checkpoints, 0 sealed days of use, root "
    assert result.stdout.startswith(told)
    found = json.loads(verify(app, "--json").stdout)
    assert (found["holds"], found["events"], found["pending"], len(found["root"])) == (True, 4, 1, 64)


@pytest.mark.threat("TM-21")
def test_the_command_names_the_first_thing_that_does_not_hold(app: Any, work: Work) -> None:
    happen(app, 3)
    work.log()
    with transaction(app.engine) as session:
        moment = utcnow() - timedelta(days=1)
        behind_the_back(session, sa.update(AuditEvent).where(AuditEvent.subject == "usr_1").values(at=moment))
        row = session.scalars(sa.select(AuditEvent).where(AuditEvent.subject == "usr_1")).one()
    result = verify(app)
    assert result.exit_code == 1
    assert f"Event {row.public_id} (account:user:created) is not what the log committed to" in result.stderr
    found = json.loads((result := verify(app, "--json")).stdout)
    assert result.exit_code == 1
    assert (found["holds"], found["code"]) == (False, "event_changed")
