"""The newest checkpoint with the words of witnesses, and the checkpoint of each day with its timestamp."""

from flask import Blueprint
from flask.typing import ResponseReturnValue

from portal.proofs.api import FOR_EVER, NOT_LONG, answer
from portal.web.app import db
from portal.web.guard import public
from portal.witnesses import service
from portal.witnesses.models import DailyCheckpoint

bp = Blueprint("witnesses_api", __name__)
WORDS = "text/plain; charset=utf-8"
DAY = 10  # letters in YYYY-MM-DD


def _day(day: str) -> DailyCheckpoint | None:
    return service.daily(db(), day=day) if len(day) == DAY and day.isascii() and day.isprintable() else None


@bp.get("/log/checkpoint")
@public
def checkpoint() -> ResponseReturnValue:
    """Give the newest signed tree head, with the cosignatures of witnesses."""
    return answer(service.served(db()), WORDS, NOT_LONG)


@bp.get("/log/daily")
@public
def newest_day() -> ResponseReturnValue:
    """Give the last checkpoint that stands for a day."""
    row = service.daily(db())
    return answer(service.note_of_day(db(), row=row) if row else None, WORDS, NOT_LONG)


@bp.get("/log/daily/<day>")
@public
def daily(day: str) -> ResponseReturnValue:
    """Give the checkpoint that stands for a UTC day."""
    row = _day(day)
    return answer(service.note_of_day(db(), row=row) if row else None, WORDS, FOR_EVER)


@bp.get("/log/daily/<day>.tst")
@public
def timestamp(day: str) -> ResponseReturnValue:
    """Give the timestamp token (RFC 3161) over the checkpoint of a UTC day."""
    row = _day(day)
    return answer(row.token if row else None, "application/vnd.etsi.timestamp-token", FOR_EVER)
