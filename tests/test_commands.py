"""What the command line prints is safe to open and clear to read."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from portal.accounts.service import find_by_email, permissions
from portal.cli import main
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import make_engine, transaction
from portal.factors.models import TotpSecret
from portal.migrations import upgrade
from portal.setup import unnamed
from portal.usage.models import UsageRecord
from portal.usage.rules import Outcome, day_of
from tests import conduct


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs commands over a fresh database."""
    monkeypatch.setenv("PORTAL_HOME", str(tmp_path))
    engine = make_engine(Settings.from_env().database_url)
    upgrade(engine)

    def command(*args: str) -> Any:
        return CliRunner().invoke(main, args)

    command.engine = engine  # type: ignore[attr-defined]
    yield command
    engine.dispose()


@pytest.mark.threat("TM-31")
def test_an_exported_cell_is_never_a_formula(run: Any) -> None:
    now = utcnow()
    with transaction(run.engine) as session:
        for number, name in enumerate(["=cmd|' /C calc'!A0", "+1", "-1", "@x", "lab/model"]):
            session.add(
                UsageRecord(
                    request_id=f"req_{number}", model_name=name, action="infer", channel="api",
                    outcome=Outcome.REFUSED, day=day_of(now), started_at=now,
                )
            )  # fmt: skip
    day = f"{now:%Y-%m-%d}"
    printed = run("usage", "export", "--from", day, "--to", day).output
    assert "'=cmd" in printed
    assert all(f",{name}," not in printed for name in ("=cmd|' /C calc'!A0", "+1", "-1", "@x"))
    assert ",lab/model," in printed


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["explain", "nobody@example.org", "a/b", "read"], 1, "nobody@example.org has no account here"),
        (["members", "reinstate", "nobody@example.org", "--reason", "x"], 1, "has no account here"),
        (["licenses", "publish", "none", "1.0.0"], 1, "none"),
        (["engine"], 1, "No weights"),
        (["tokens", "issue"], 2, "Missing argument"),
    ],
)
def test_a_failure_is_one_line_and_an_exit_code(run: Any, args: list[str], code: int, says: str) -> None:
    done = run(*args)
    assert done.exit_code == code
    assert says in done.output
    assert "Traceback" not in done.output
    if code == 1:
        assert len(done.output.strip().splitlines()) == 1


def test_an_unknown_setting_stops_with_one_line(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTAL_COLOUR", "blue")
    done = run("settings")
    assert done.exit_code == 2
    assert done.output.strip().startswith("portal: PORTAL_COLOUR")


def test_a_role_that_was_given_can_be_taken_again(run: Any) -> None:
    given = run("staff", "add", "flo@example.org", "--role", "license_editor")
    assert "/invite/" in given.output
    ended = run("staff", "end", "flo@example.org", "--role", "license_editor")
    assert (ended.exit_code, ended.output) == (0, "flo@example.org is no license_editor any more.\n")
    assert run("staff", "end", "flo@example.org", "--role", "license_editor").exit_code == 0
    with transaction(run.engine, write=False) as session:
        user = find_by_email(session, email="flo@example.org")
        assert user is not None
        assert permissions(session, user_id=user.id, now=utcnow()) == frozenset()
    assert run("staff", "end", "nobody@example.org", "--role", "admin").exit_code == 1


def test_the_second_factors_of_somebody_who_lost_them_are_removed(run: Any) -> None:
    assert run("members", "reset-factors", "nobody@example.org").exit_code == 1
    now = utcnow()
    with transaction(run.engine) as session:
        person = conduct.person(session, "ann", now)
        session.add(TotpSecret(user_id=person.id, locked=b"x", made_at=now, confirmed_at=now))
    email = "ann@conduct.example"
    assert run("members", "reset-factors", email).output == f"{email} signs in with a password alone now.\n"
    assert run("members", "reset-factors", email).output == f"{email} has no second factor.\n"


def test_who_starts_the_portal_hears_what_the_license_promises_and_nobody_named() -> None:
    told = " ".join(unnamed(Settings()))
    assert "PORTAL_LICENSOR" in told
    assert "PORTAL_CONTACT" in told
    assert unnamed(Settings(licensor="The Consortium", contact="license@example.org")) == []
