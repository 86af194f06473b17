"""What can go wrong in a use case, each kind with the one HTTP status that both planes answer."""

from collections.abc import Sequence
from typing import Any


class PortalError(Exception):
    """A refusal or failure that the caller can act on: a stable code, a sentence, and where it applies.

    Args:
        code: stable snake_case name that programs may rely on.
        message: one sentence for people, naming the field and the remedy.
        field: name of the input field at fault, if one is.
        url: where to put it right, if there is such a place.
    """

    status = 400
    title = "Bad request"

    def __init__(self, code: str, message: str, *, field: str | None = None, url: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.url = url


class Invalid(PortalError):
    """Input that cannot be taken as it is."""

    status = 422
    title = "Check your input"


class NotFound(PortalError):
    """Nothing by that name, or nothing that the caller may know of."""

    status = 404
    title = "Not found"


class Conflict(PortalError):
    """The world moved on since the caller looked at it."""

    status = 409
    title = "Already changed"


class Unauthenticated(PortalError):
    """The caller has to say who they are."""

    status = 401
    title = "Sign in first"


class StepUp(PortalError):
    """The caller is known and has to prove it more firmly, or anew, at the page in `url`."""

    status = 403
    title = "Prove that it is you"


class TooMany(PortalError):
    """A limit is used up for now.

    Args:
        retry_after: whole seconds after which trying again makes sense.
    """

    status = 429
    title = "Limit reached"

    def __init__(self, code: str, message: str, *, retry_after: int) -> None:
        super().__init__(code, message)
        self.retry_after = retry_after


class Unavailable(PortalError):
    """A part of the portal is down; trying later makes sense."""

    status = 503
    title = "Temporarily unavailable"


class Full(PortalError):
    """There is no room for what was sent."""

    status = 507
    title = "No room left"


class Refused(PortalError):
    """The caller is known and may not.

    Args:
        reasons: the decision's reasons, first blocking one first; empty when a plain permission is missing.
        status: overrides 403 where the first reason says otherwise (401, 404, 429).
    """

    status = 403
    title = "Not permitted"

    def __init__(
        self,
        code: str,
        message: str,
        *,
        reasons: Sequence[Any] = (),
        status: int = 403,
        url: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(code, message, url=url)
        self.reasons = tuple(reasons)
        self.status = status
        self.retry_after = retry_after


def reason_json(reason: Any) -> dict[str, Any]:
    """Write a decision's reason the way every program sees it."""
    return {
        "code": reason.code,
        "message": reason.message,
        "remedy": reason.remedy_text,
        "url": reason.url,
        "by": reason.due_at.isoformat() if reason.due_at else None,
        "blocks": reason.blocks,
    }
