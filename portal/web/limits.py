"""How many requests a minute the control plane takes of one caller; the data plane has quotas of its own."""

from typing import Protocol

from portal.core.actor import Actor
from portal.core.config import Settings
from portal.core.errors import TooMany
from portal.core.networks import network_of
from portal.web.guard import SAFE, Kind, Mark


class Counting(Protocol):
    """What counts requests."""

    def take(self, kind: str, per_minute: int, who: str) -> int:
        """Count one more request; return the seconds to wait where it is one too many."""


def check_rate(
    mark: Mark, actor: Actor, *, method: str, address: str, settings: Settings, rates: Counting
) -> None:  # fmt: skip
    """Count a request by its access token, person or neighborhood, and raise `TooMany` beyond the limit.

    Attempts to get in are counted by neighborhood, whoever they say they are.

    Raises:
        TooMany: the caller has to wait; every channel says for how long in its own words.
    """
    if mark.unlimited:
        return
    near = f"network {network_of(address)}"
    who = near
    if actor.access_token_id is not None:
        who = f"token {actor.access_token_id}"
    elif actor.user_id is not None:
        who = f"person {actor.user_id}"
    is_page = mark.kind is not Kind.TOKEN
    counted = [("pages", settings.pages_per_minute, who) if is_page else ("calls", settings.calls_per_minute, who)]
    if mark.entry and method not in SAFE:
        counted.append(("entries", settings.entries_per_minute, near))
    for kind, most, whose in counted:
        if wait := rates.take(kind, most, whose):
            message = f"There were too many requests from here. Wait {wait} seconds and try again."
            raise TooMany("requests_too_many", message, retry_after=wait)
