"""The same decision about several people at once: how many take two, and exactly what was looked at before."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from portal.audit.rules import Event
from portal.core.errors import Invalid
from portal.moderation.rules import Order
from portal.proofs.rules import canonical, digest

ACTION = "moderation:bulk"
ALONE = 10
MOST = 500


@dataclass(frozen=True)
class BatchExecuted(Event, name="moderation:batch:executed"):
    """The same was decided about several people at once."""

    size: int
    confirmed_by: str


@dataclass(frozen=True)
class BatchUndone(Event, name="moderation:batch:undone"):
    """Everything that was decided at once was overturned."""

    size: int


@dataclass(frozen=True)
class Outcome:
    """What a decision would do to one of the people named.

    Args:
        ref: the public id that was given.
        name: what the person is called.
        notice_sha256: digest of the exact notice.
        problem: why it cannot be decided about them; empty where it can.
        notice: the notice itself, as it would be sent.
    """

    ref: str
    name: str = ""
    notice_sha256: str = ""
    problem: str = ""
    notice: str = ""


def people_of(words: str) -> list[str]:
    """Return the public ids that were given, one a line, each once, or raise `Invalid`."""
    found = list(dict.fromkeys(line.strip() for line in words.splitlines() if line.strip()))
    if not found:
        raise Invalid("people_missing", "Name the people, one public id a line.", field="people")
    if len(found) > MOST:
        raise Invalid("people_many", f"Decide about at most {MOST} people at once.", field="people")
    if wrong := next((ref for ref in found if not re.fullmatch("usr_[0-9a-z]{1,40}", ref)), None):
        raise Invalid("people_wrong", f"{wrong[:40]!r} is no public id of a person.", field="people")
    return found


def check_bulk(order: Order) -> None:
    """Raise `Invalid` for what is decided one by one."""
    if not order.tells:
        raise Invalid("nothing_found", "Only what was broken is decided about several people at once.", field="finding")
    if order.needs_two:
        raise Invalid("one_by_one", "What has no end is decided one by one.", field="kind")


def needs_two(size: int) -> bool:
    """Say whether so many people take a second person."""
    return size > ALONE


def body_of(order: dict[str, Any], outcomes: Sequence[Outcome]) -> bytes:
    """Return what was looked at before a decision about several people: the order, and the exact notice of each."""
    return canonical({"order": order, "people": [[o.ref, o.notice_sha256, o.problem] for o in outcomes]})


def seal(body: bytes) -> str:
    """Return the digest that whoever confirms posts back."""
    return digest(body)
