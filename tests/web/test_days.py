"""What stands for a day: mailed, printed on receipts as a square code, timestamped; and the change of the log's key."""

import json
import subprocess
import sys
from datetime import timedelta
from email import message_from_bytes, policy
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from pypdf import PdfReader

from portal.adapters import outside
from portal.adapters.authority import read_token
from portal.cli import main
from portal.core.build import commit
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.main_work import Work
from portal.proofs import rules
from portal.usage.models import UsageSeal
from portal.usage.rules import day_of
from portal.witnesses.models import DailyCheckpoint
from tests import authority, conduct, licensed
from tests import witness as witnesses
from tests.check import ROOT
from tests.logged import record
from tests.planes import data_plane
from tests.services.test_usage_seals import use
from tests.site import Client, make_app
from tests.verifying import SCRIPT


def happen(app: Any, count: int = 1) -> None:
    with transaction(app.engine) as session:
        record(session, utcnow(), *map(str, range(count)))


def command(app: Any, *arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), env={"PORTAL_HOME": str(app.settings.home)})


def mails(app: Any) -> list[Any]:
    files = sorted((app.settings.home / "mail").glob("*.eml"))
    return [message_from_bytes(file.read_bytes(), policy=policy.default) for file in files]


def test_the_first_checkpoint_of_a_day_stands_for_it_and_is_mailed_once(tmp_path: Path) -> None:
    app = make_app(tmp_path, PORTAL_LOG_MAIL="auditor@example.org")
    work, client, today = Work(app.settings, app.engine), Client(app), day_of(utcnow())
    work.day()
    assert client.get("/log/daily").status_code == 404
    happen(app, 3)
    work.log()
    work.day()
    note = client.get("/log/checkpoint").data
    happen(app, 300)
    work.log()
    work.day()
    assert client.get("/log/checkpoint").data != note
    assert client.get("/log/daily").data == client.get(f"/log/daily/{today}").data == note
    assert client.get(f"/log/daily/{today}.tst").status_code == 404, "nobody confirms its time"
    for path in ("2020-01-01", "scribble", "x" * 200, "\u0660" * 10, "2020-01-01.tst"):
        assert client.get(f"/log/daily/{path}").status_code == 404, path
    while work.mail():
        pass
    (mail,) = mails(app)
    assert mail["To"] == "auditor@example.org"
    assert mail["Subject"] == f"Checkpoint of {today}: 3 entries"
    assert note.decode() in mail.get_content()
    app.engine.dispose()


@pytest.mark.threat("TM-25")
def test_a_timestamp_of_the_day_is_tried_until_it_comes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside, "FIRST_PAUSE", 600.0)  # longer than this can take on any machine
    with authority.running() as stamps:
        app = make_app(tmp_path, PORTAL_TIMESTAMP_URL=stamps.url)
        work, client, today = Work(app.settings, app.engine), Client(app), day_of(utcnow())
        assert work.clockmaker is not None
        happen(app)
        work.log()
        stamps.mood = "garbage"
        assert not work.day()
        assert f"timestamp of {today}: " in capsys.readouterr().err
        asked = stamps.asked
        assert not work.day(), "it is left alone for a while"
        assert stamps.asked == asked
        stamps.mood, work.clockmaker.server.due = "well", 0.0
        assert work.day()
        assert not work.day()
        token = client.get(f"/log/daily/{today}.tst").data
        assert read_token(token, client.get(f"/log/daily/{today}").data, ()).authority == authority.NAME
        with transaction(app.engine, write=False) as session:
            assert session.get_one(DailyCheckpoint, today).token == token
        app.engine.dispose()


def test_a_receipt_prints_the_checkpoint_of_the_day_as_a_square_code(app: Any, tmp_path: Path) -> None:
    work, today = Work(app.settings, app.engine), day_of(utcnow())
    with transaction(app.engine) as session:
        version = licensed.publish(session, utcnow())
        ann = conduct.person(session, "ann", utcnow())
        licensed.sign(session, licensed.browsing(ann), version, utcnow())
    work.log()
    work.day()
    assert work.receipt()
    (file,) = app.extensions["receipts"].glob("*.pdf")
    head = rules.read_checkpoint(Client(app).get("/log/daily").data)
    words = "".join(page.extract_text() for page in PdfReader(BytesIO(file.read_bytes())).pages)
    assert f"The public log on {today}" in words
    assert rules.base64(head.root) in words.replace("\n", "")
    assert f"{head.size} entries" in words.replace("\n", " ")


def test_days_of_use_are_sealed_and_recomputed(app: Any) -> None:
    work, then = Work(app.settings, app.engine), utcnow() - timedelta(days=2)
    with transaction(app.engine) as session:
        use(session, then)
    work.day()
    assert "1 sealed days of use" in command(app, "audit", "verify").stdout
    assert json.loads(command(app, "audit", "verify", "--json").stdout)["sealed_days"] == 1
    with transaction(app.engine) as session:
        assert session.scalars(sa.select(UsageSeal.day)).all() == [day_of(then)]
        session.execute(sa.text("UPDATE usage_record SET completion_tokens = 0"))
    result = command(app, "audit", "verify")
    assert result.exit_code == 1
    assert f"The usage records of {day_of(then)} are not those that were sealed" in result.stderr
    found = json.loads(command(app, "audit", "verify", "--json").stdout)
    assert (found["holds"], found["code"]) == (False, "usage_changed")


def test_the_newest_checkpoint_is_served_with_the_words_of_witnesses(tmp_path: Path) -> None:
    with witnesses.running() as wit:
        app = make_app(tmp_path, PORTAL_WITNESSES=f"{wit.vkey} {wit.url}")
        work, client = Work(app.settings, app.engine), Client(app)
        happen(app, 3)
        work.log()
        bare = client.get("/log/checkpoint").data
        work.witness()
        served = client.get("/log/checkpoint").data
        assert served.startswith(bare)
        assert served.splitlines()[-1].startswith(f"— {wit.name} ".encode())
        assert "log" in [job.name for job in work.jobs]
        app.engine.dispose()


# The change of the key, over the command.


def test_the_key_is_changed_while_the_portal_runs_and_the_monitor_follows(app: Any, tmp_path: Path) -> None:
    work, client, public = Work(app.settings, app.engine), Client(app), tmp_path / "public"
    happen(app, 3)
    work.log()
    before = client.get("/log/vkey").text.strip()

    def watch(*more: str) -> subprocess.CompletedProcess[str]:
        """What a monitor sees, which has the log's files in a folder."""
        number = before.split("+")[1]
        size = rules.read_checkpoint(client.get("/log/checkpoint").data).size
        widths = [(level, size >> 8 * level) for level in (0, 1)]
        tiles = [
            f"tile/{level}/{rules.tile_path(tile, min(256, here - 256 * tile))}"
            for level, here in widths
            for tile in range((here + 255) // 256)
        ]
        for name in ("checkpoint", "vkey", f"handover/{number}", *tiles):
            answer = client.get(f"/log/{name}")
            if answer.status_code == 200:
                (public / name).parent.mkdir(parents=True, exist_ok=True)
                (public / name).write_bytes(answer.data)
        arguments = [sys.executable, str(SCRIPT), "monitor", str(public), "--keep", str(tmp_path / "kept"), *more]
        return subprocess.run(arguments, capture_output=True, text=True, check=False)

    assert watch().returncode == 0
    refused = CliRunner().invoke(main, ["log", "rotate-key"], input="n\n", env={"PORTAL_HOME": str(app.settings.home)})
    assert refused.exit_code == 1
    assert client.get("/log/vkey").text.strip() == before
    result = command(app, "log", "rotate-key", "--yes")
    assert result.exit_code == 0, result.output
    after = client.get("/log/vkey").text.strip()
    assert result.stdout.strip() == after != before, "what runs already follows"
    with data_plane(app.settings) as plane:
        assert plane.get("/readyz").json()["parts"]["log"] == "ok"
    assert (done := watch()).returncode == 0, done.stderr
    happen(app, 300)
    work.log()
    head = rules.read_checkpoint(client.get("/log/checkpoint").data)
    assert rules.is_signed(head, work.log_key)
    assert command(app, "audit", "verify").exit_code == 0
    assert (done := watch()).returncode == 0, done.stderr
    ids = [key.split("+")[1] for key in (before, after)]
    assert f"key: {ids[0]} handed the log over; {ids[1]} signs now" in done.stdout
    assert "extends all 2 checkpoints" in done.stdout
    number = rules.read_checkpoint(client.get(f"/log/handover/{before.split('+')[1]}").data)
    assert number.successor == after
    for path in ("0" * 8, "x", after.split("+")[1]):
        assert client.get(f"/log/handover/{path}").status_code == 404


# What evidence says of the program.


def test_evidence_names_the_commit_that_runs(app: Any, tmp_path: Path) -> None:
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    known = head.stdout.strip() or None
    assert app.extensions["commit"] == commit() == known
    assert commit(tmp_path) is None
    git = tmp_path / ".git"
    git.mkdir()
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert commit(tmp_path) is None
    (git / "packed-refs").write_text(f"# pack-refs\n{'b' * 40} refs/heads/other\n{'a' * 40} refs/heads/main\n")
    assert commit(tmp_path) == "a" * 40
    (git / "HEAD").write_text("c" * 40 + "\n")
    assert commit(tmp_path) == "c" * 40
    other = tmp_path / "tree"
    (git / "worktrees" / "tree").mkdir(parents=True)
    other.mkdir()
    (other / ".git").write_text(f"gitdir: {git / 'worktrees' / 'tree'}\n")
    (git / "worktrees" / "tree" / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "worktrees" / "tree" / "commondir").write_text("../..\n")
    assert commit(other) == "a" * 40
    (git / "HEAD").write_bytes(b"\xff\xfe")
    assert commit(tmp_path) is None


def test_a_printed_receipt_is_put_together_from_its_lines(app: Any, tmp_path: Path) -> None:
    with transaction(app.engine) as session:
        version = licensed.publish(session, utcnow())
        ann = conduct.person(session, "ann", utcnow())
        signature = licensed.sign(session, licensed.browsing(ann), version, utcnow())
    Work(app.settings, app.engine).receipt()
    where = f"/settings/signatures/{signature.public_id}"
    browser = Client(app).sign_in(ann)
    pages = [page.extract_text() for page in PdfReader(BytesIO(browser.get(f"{where}/receipt.pdf").data)).pages]
    (tmp_path / "typed.txt").write_text("\n".join(pages), encoding="utf-8")
    result = command(app, "receipts", "retyped", str(tmp_path / "typed.txt"))
    assert result.exit_code == 0, result.output
    assert result.stdout_bytes == browser.get(f"{where}/evidence.json").data
    stated = json.loads(result.stdout_bytes)
    assert stated["schema"] == "portal.signature/2"
    assert stated["ceremony"]["offered_at"] <= stated["ceremony"]["viewed_at"] <= stated["ceremony"]["signed_at"]
    assert {stated["signer"][name] for name in ("orcid", "verified_name", "idp")} == {None}
    (tmp_path / "typed.txt").write_text('§ a = "x', encoding="utf-8")
    assert command(app, "receipts", "retyped", str(tmp_path / "typed.txt")).exit_code == 1
