"""Editors who write the next version of the shipped license and take it through review, for tests of its life."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.orm import Session

from portal.clauses import service as clauses
from portal.clauses.rules import Relation
from portal.core.actor import Actor
from portal.core.errors import PortalError
from portal.drafting import service as drafting
from portal.licensing import service as licensing
from portal.licensing.models import LicenseVersion
from portal.licensing.rules import Materiality, Vote
from portal.publishing import service
from portal.publishing.rules import Previewed
from tests.licensed import SLUG

DAY = timedelta(days=1)
BASE = "https://portal.example"
LANGUAGES = ("en", "fr", "es", "zh")


def write(session: Session, by: Actor, now: datetime, number: str = "1.2.0", **said: Any) -> LicenseVersion:
    """A complete draft that widens A.1."""
    row = drafting.draft(session, slug=SLUG, number=number, by=by, now=now)
    key = "restriction.unlawful_use"
    for text in row.renditions:
        words = clauses.text_of(session, sha256=text.text_sha256).replace(f"{{#{key}}}\n\n", f"{{#{key}}}\n\nX. ")
        drafting.save_text(session, slug=SLUG, number=number, language=text.language, text=words, by=by, now=now)
    drafting.save_description(
        session, slug=SLUG, number=number, summary=dict.fromkeys(LANGUAGES, "New."), by=by, now=now,
        changes={key: (Relation.WIDENED, "It changes.")}, materiality=said.get("weight", Materiality.MATERIAL),
    )  # fmt: skip
    return row


def steps(number: str = "1.2.0") -> dict[str, Any]:
    return {"slug": SLUG, "number": number}


def vote(session: Session, row: LicenseVersion, by: Actor, now: datetime) -> None:
    """The licensor's body stands behind a version."""
    licensing.resolve(session, version=row, vote=Vote("Committee", "a" * 64, 5, 1, 0, now - DAY), by=by, now=now)


def settled(session: Session, editors: dict[str, Actor], now: datetime, **said: Any) -> LicenseVersion:
    """An approved version."""
    row = write(session, editors["ed"], now, **said)
    service.submit(session, **steps(), by=editors["ed"], now=now)
    vote(session, row, editors["gus"], now)
    return service.approve(session, **steps(), by=editors["flo"], now=now)


def looked(at: datetime) -> Previewed:
    """A preview of just what is so."""
    return Previewed(at, "same", "same")


def code(caught: pytest.ExceptionInfo[Any]) -> str:
    error: PortalError = caught.value
    return error.code
