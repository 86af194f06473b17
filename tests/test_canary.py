"""What somebody writes to a model is nowhere afterwards, as long as nobody agreed that it is kept."""

import re
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from portal.core.db import make_engine
from portal.features.models import FeatureVector
from portal.usage.models import UsageRecord
from tests.member import PASSWORD, Browser, signed_member
from tests.running import RunningPortal, wait_until

CANARY = "Periwinkle7QuartzHarbour"


def _holding(folder: Path, words: str) -> list[str]:
    """Return the files below a folder in which words stand, in any case and as UTF-16 as well."""
    forms = [form for one in (words, words.casefold()) for form in (one.encode(), one.encode("utf-16-le"))]
    found = []
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # the portal runs meanwhile, and what it drafts is gone in a moment
            if path.is_file() and any(form in path.read_bytes() for form in forms):
                found.append(str(path))
    return found


def _looked(portal: RunningPortal, request_id: str) -> bool:
    engine = make_engine(f"sqlite:///{portal.home / 'portal.db'}")
    query = sa.select(FeatureVector.looked_at).join(UsageRecord, UsageRecord.id == FeatureVector.usage_record_id)
    with engine.connect().execution_options(portal_write=False) as connection:
        found = connection.execute(query.where(UsageRecord.request_id == request_id)).scalar_one_or_none()
    engine.dispose()
    return found is not None


@pytest.mark.threat("TM-19")
def test_a_prompt_leaves_no_trace_in_files_database_log_or_metrics(portal: RunningPortal) -> None:
    token = signed_member(portal, "canary@canary.example", "inference")
    with httpx.Client(base_url=portal.base_url, headers={"Authorization": f"Bearer {token}"}, timeout=60) as wire:
        body = {"model": "demo/bloom-tiny", "prompt": f"The word is {CANARY}", "max_tokens": 4}
        answer = wire.post("/v1/completions", json=body)
        refused = wire.post("/v1/completions", json={**body, "max_tokens": -1})
        metrics = wire.get("/metrics").text
    assert (answer.status_code, refused.status_code) == (200, 400)
    wait_until(lambda: _looked(portal, answer.headers["X-Request-Id"]))
    assert CANARY not in metrics
    assert CANARY not in portal.log()
    assert _holding(portal.home, CANARY) == []
    assert _holding(portal.home, "demo/bloom-tiny")  # the search finds what is there


def _dump(portal: RunningPortal) -> str:
    """Everything in the database as an operator's backup writes it."""
    with closing(sqlite3.connect(portal.home / "portal.db")) as database:
        return "\n".join(database.iterdump())


@pytest.mark.threat("TM-19")
@pytest.mark.threat("TM-16")
def test_no_secret_is_in_dump_files_log_metrics_exports_or_settings(portal: RunningPortal) -> None:
    email = "secrets@canary.example"
    token = signed_member(portal, email, "inference", "usage:read")
    planted = {"the password": PASSWORD, "a wrong one": f"{CANARY} {CANARY} wrong", "the access token": token[:-4]}
    with Browser(portal.base_url) as browser:
        browser.open("/login")
        browser.send(browser.form("email", "password"), email=email, password=planted["a wrong one"], expect=422)
        browser.sign_in(email)
        planted["the cookie"] = browser.http.cookies["portal"]
        browser.open("/settings/security/app")
        planted["the seed of an app"] = re.findall(
            r"secret=([A-Z2-7]{16,})|<code[^>]*>([A-Z2-7 ]{16,})<", browser.page.text
        )[0][0]
        browser.open("/reset")
        browser.send(browser.form("email"), email=email)
    link = portal.link_mailed_to(email, "/reset/")
    planted["a mailed link"] = link.rpartition("/")[2]
    with httpx.Client(base_url=portal.base_url, timeout=30) as wire:
        wire.get(f"/reset/{planted['a mailed link']}")
        wire.get("/api/usage", params={"access_token": token})  # where no secret belongs, and some put it
        wire.get("/v1/models", headers={"Authorization": f"Bearer {token}x"})
        wire.post("/api/decide", headers={"Authorization": f"Basic {token}"}, content=token)
        metrics = wire.get("/metrics").text
    keys = {f"key {path.name}": path.read_bytes() for path in (portal.home / "keys").rglob("*") if path.is_file()}
    told = {
        "dump": _dump(portal), "log": portal.log(), "metrics": metrics, "settings": portal.cli("settings"),
        "export": portal.cli("usage", "export", "--from", "2020-01-01", "--to", "2100-01-01"),
    }  # fmt: skip
    for what, words in planted.items():
        # Mail that goes to files is for whoever tries the portal out: its links are printed as well. They lie in the
        # outbox until they are sent, and so for a while in the past of its pages; by then they are used or expired.
        shown = (".eml", "serve.log", ".db-wal") if what == "a mailed link" else ()
        assert len(words) > 15, what
        assert [place for place, text in told.items() if words in text and not (shown and place == "log")] == [], what
        assert [path for path in _holding(portal.home, words) if not path.endswith(shown)] == [], what
    for name, body in keys.items():
        forms = {body.strip(), body.strip().hex().encode()} - {b""}
        assert [place for place, text in told.items() if any(form in text.encode() for form in forms)] == [], name
    assert email in told["dump"], "the search finds what is there"
