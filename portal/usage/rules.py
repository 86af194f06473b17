"""What one use is, and how much a person may use in a day."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from threading import Lock
from types import MappingProxyType
from typing import Any

from portal.core.errors import Invalid

DEFAULT_CALLS = 2_000
DEFAULT_TEXT_TOKENS = 500_000
HIGHEST_LIMIT = 1_000_000_000
MODEL_NAME_MAX = 200
INFER = "infer"
BYTES_PER_TOKEN = 3
NOTHING_USED = 0, 0
Record = dict[str, Any]


class Outcome(StrEnum):
    """How a use ended."""

    OPEN = "open"
    FINISHED = "finished"
    REFUSED = "refused"
    INVALID = "invalid"
    CANCELED = "canceled"
    CUT = "cut"
    ENGINE_LOST = "engine_lost"
    OVERLOADED = "overloaded"
    CRASHED = "crashed"


# What was answered without any work of an engine costs nothing.
FREE = (Outcome.REFUSED, Outcome.INVALID, Outcome.OVERLOADED)


class Line(StrEnum):
    """The lines of the journal that make usage records; `RUNNING` says how far those are that have no end yet."""

    OPENED = "use_opened"
    RUNNING = "uses_running"
    FINISHED = "use_finished"


OPENED, FINISHED = str(Line.OPENED), str(Line.FINISHED)


@dataclass(frozen=True)
class Limits:
    """A person's daily limits."""

    calls: int = DEFAULT_CALLS
    text_tokens: int = DEFAULT_TEXT_TOKENS


@dataclass(frozen=True)
class Used:
    """What a person used in a day, reservations included."""

    calls: int = 0
    text_tokens: int = 0


def day_of(moment: datetime) -> str:
    """Return the UTC day of an instant, the window of a quota."""
    return (moment if moment.tzinfo is UTC else moment.astimezone(UTC)).date().isoformat()


def seal_line(row: Mapping[str, Any]) -> bytes:
    """Write a usage record as the seal of its day reads it: a line of its export, keys in order, plain ASCII."""
    return json.dumps(row, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def seconds_to_midnight(now: datetime) -> int:
    """Whole seconds until the quota window ends."""
    tomorrow = (now.astimezone(UTC) + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return int((tomorrow - now).total_seconds()) + 1


def check_limits(calls: int, text_tokens: int) -> None:
    """Raise `Invalid`, naming the field, unless these can be somebody's daily limits."""
    for field, value in (("calls", calls), ("text_tokens", text_tokens)):
        if not 0 <= value <= HIGHEST_LIMIT:
            raise Invalid("quota_range", f"{field} is a number from 0 to {HIGHEST_LIMIT:,}.", field=field)


def counts_as_call(outcome: Outcome, text_tokens: int) -> bool:
    """Say whether a use counts against the daily calls; one that an engine lost counts only if it gave something."""
    if outcome is Outcome.FINISHED:
        return True
    return outcome not in FREE and (outcome is not Outcome.ENGINE_LOST or text_tokens > 0)


@lru_cache(1_024)
def plain(name: str) -> str:
    """Return a model's name as it was asked for, in the form that a record can hold: short, printable, no NUL."""
    kept = "".join(c if c.isprintable() else "?" for c in name[:MODEL_NAME_MAX])
    return kept.encode("utf-8", "replace").decode("utf-8")


def use_opened(
    *,
    request_id: str,
    at: datetime,
    action: str,
    channel: str,
    model_name: str,
    user_id: int | None = None,
    access_token_id: int | None = None,
    release_id: int | None = None,
    signature_ids: Sequence[int] = (),
    card_revision_id: int | None = None,
    reserved: int = 0,
) -> Record:
    """Build the journal line of a use that begins.

    `channel` says where the caller is answered (``inference``, ``hub``, ``page``), `model_name` what was asked for,
    whatever it is, `signature_ids` what was relied on, and `reserved` how many text tokens were set aside.
    """
    return {
        "kind": OPENED, "id": request_id, "at": at.isoformat(), "started_at": at.isoformat(),
        "action": action, "channel": channel, "model_name": plain(model_name), "user_id": user_id,
        "access_token_id": access_token_id, "release_id": release_id, "signature_ids": sorted(signature_ids),
        "card_revision_id": card_revision_id, "reserved": reserved,
    }  # fmt: skip


def use_finished(
    opened: Mapping[str, Any],
    said: Mapping[str, Any] = MappingProxyType({}),
    *,
    at: datetime | str,
    outcome: Outcome,
    reason_code: str = "",
    prompt_tokens: int = 0,
    completion_tokens: int = 0,
    bytes_sent: int = 0,
    ms: int = 0,
    server: str = "",
    lab: str = "",
) -> Record:
    """Build the journal line of a use that ended; it says all that the opening line said, so it can stand alone.

    `said` is what the opening line says beside `opened`, where that is shared by many uses; `server` and `lab` say
    whose engine did the work.
    """
    ended_at = at if isinstance(at, str) else at.isoformat()
    return {
        **opened, **said, "kind": FINISHED, "at": ended_at, "outcome": str(outcome),
        "reason_code": reason_code, "prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens,
        "bytes_sent": bytes_sent, "ms": ms, "server": server, "lab": lab,
    }  # fmt: skip


def uses_running(at: datetime, written: Mapping[str, int]) -> Record:
    """Build the journal line that says how many text tokens running uses, by request id, have written so far."""
    return {"kind": Line.RUNNING.value, "id": "", "at": at.isoformat(), "written": dict(written)}


def estimated_tokens(text: str) -> int:
    """Return about how many text tokens a prompt has, before an engine has counted them."""
    size = len(text) if text.isascii() else len(text.encode())
    return size // BYTES_PER_TOKEN + 1


def exceeded(used: Used, limits: Limits, *, text_tokens: int = 0) -> str | None:
    """Return the reason code of the limit that one more call with so many tokens would break, or None."""
    if used.calls + 1 > limits.calls:
        return "quota_calls"
    if used.text_tokens + text_tokens > limits.text_tokens:
        return "quota_text_tokens"
    return None


class Counters:
    """What each person used today, in memory, exact under threads: reserve before, settle after.

    Start with what is already recorded (`load`); a reservation counts until it is settled.
    """

    def __init__(self) -> None:
        self._used: dict[tuple[int, str], tuple[int, int]] = {}
        self._newest = ""
        self._lock = Lock()

    def load(self, rows: Iterable[tuple[int, str, int, int]]) -> None:
        """Add what was recorded: (user id, day, calls, text tokens)."""
        with self._lock:
            for user_id, day, calls, text_tokens in rows:
                self._add(user_id, day, calls, text_tokens)

    def used(self, user_id: int, now: datetime) -> Used:
        """Return today's use of a person."""
        with self._lock:
            return Used(*self._used.get((user_id, day_of(now)), (0, 0)))

    def reserve(self, user_id: int, text_tokens: int, limits: Limits, day: str) -> str | None:
        """Count one call and its estimated tokens, or return the reason code of the limit in the way."""
        with self._lock:
            calls, tokens = used = self._used.get((user_id, day), NOTHING_USED)
            if calls < limits.calls and tokens + text_tokens <= limits.text_tokens:
                if used is NOTHING_USED:
                    self._add(user_id, day, 1, text_tokens)
                else:
                    self._used[user_id, day] = calls + 1, tokens + text_tokens
                return None
            return exceeded(Used(calls, tokens), limits, text_tokens=text_tokens)

    def settle(self, user_id: int, day: str, reserved: int, used: int, *, counts_as_call: bool = True) -> None:
        """Replace a reservation by what was really used."""
        with self._lock:
            self._add(user_id, day, 0 if counts_as_call else -1, used - reserved)

    def _add(self, user_id: int, day: str, calls: int, text_tokens: int) -> None:
        key = (user_id, day)
        old = self._used.get(key)
        if old is None:
            self._forget(day)
            old = NOTHING_USED
        self._used[key] = (old[0] + calls, old[1] + text_tokens)

    def _forget(self, day: str) -> None:
        """Drop days that are over for good; yesterday stays, as work that began then may still be settled."""
        yesterday = (datetime.fromisoformat(day) - timedelta(days=1)).strftime("%Y-%m-%d")
        if day > self._newest:
            self._newest = day
            self._used = {key: used for key, used in self._used.items() if key[1] >= yesterday}
