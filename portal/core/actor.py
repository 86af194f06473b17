"""Who acts, by what means, with what powers."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum

FRESH = timedelta(minutes=15)


class Level(IntEnum):
    """How firmly a person proved who they are: not wholly yet, by one factor, or by two."""

    NONE = 0
    ONE = 1
    TWO = 2


@dataclass(frozen=True)
class Actor:
    """The person (or nobody) behind a call, with the powers that this call carries.

    Args:
        user_id: internal id of the person; None for an anonymous caller or the portal itself.
        public_id: the person's public id; ``system`` for the portal itself.
        name: how pages greet the person.
        permissions: staff permissions, ``area:thing:verb``.
        access_token_id: set when an access token proved the person; then `scopes` bound the call.
        scopes: scopes of that access token.
        frozen: that access token is frozen for a while; what the decision says of it holds for models, and no scope
            opens anything else.
        token_error: reason code when an access token was sent and cannot be used.
        login_session_id: set when a cookie proved the person.
        touch_due: the login session's last use is old enough to be written anew.
        proved_at: when the person last proved who they are in this login session.
        level: how firmly they did.
        withheld: staff permissions that this login session does not carry, for want of a second factor.
    """

    user_id: int | None = None
    public_id: str = "anonymous"
    name: str = ""
    permissions: frozenset[str] = field(default_factory=frozenset)
    access_token_id: int | None = None
    scopes: frozenset[str] = field(default_factory=frozenset)
    frozen: bool = False
    token_error: str | None = None
    login_session_id: int | None = None
    touch_due: bool = False
    proved_at: datetime | None = None
    level: Level = Level.NONE
    withheld: frozenset[str] = field(default_factory=frozenset)

    @property
    def is_signed_in(self) -> bool:
        """Say whether a person is known."""
        return self.user_id is not None

    @property
    def is_staff(self) -> bool:
        """Say whether the person holds any staff permission."""
        return bool(self.permissions)

    def is_fresh(self, now: datetime) -> bool:
        """Say whether the person proved who they are lately enough for what is grave."""
        return self.proved_at is not None and now - self.proved_at < FRESH

    @property
    def id(self) -> int:
        """The person's internal id, where a person must be known."""
        if self.user_id is None:
            raise RuntimeError("an anonymous actor reached a use case that needs a person")
        return self.user_id


ANONYMOUS = Actor()
SYSTEM = Actor(public_id="system", name="the portal")
