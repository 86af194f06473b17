"""What somebody writes to a model is nowhere afterwards, as long as nobody agreed that it is kept."""

from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from portal.core.db import make_engine
from portal.features.models import FeatureVector
from portal.usage.models import UsageRecord
from tests.member import signed_member
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
