"""What a visit to an identity provider is for: signing in, opening an account, linking an identity to one."""

from datetime import datetime

from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.accounts.rules import Standing
from portal.accounts.service import acting
from portal.core.actor import Actor, Level
from portal.factors import service as factors
from portal.identity import service as identity
from portal.identity.rules import Applicant
from portal.logins import service as logins
from portal.passkeys import service as passkeys
from portal.providers import rules
from portal.providers import service as providers
from portal.providers.rules import Claims, Provider


def sign_in(
    session: Session, *, claims: Claims, provider: Provider, user_agent: str, pepper: bytes, now: datetime
) -> tuple[str, bool] | None:
    """Open a login session for whoever an identity is linked to.

    Returns:
        The new reference, and whether it waits for a second factor; None where the identity opens no account.
    """
    row = providers.find(session, claims=claims)
    user = session.get_one(User, row.user_id) if row else None
    if row is None or user is None or user.standing is Standing.CLOSED:
        return None
    row.last_used_at = now
    owes = factors.has_any(session, user_id=user.id)
    reference = logins.open_session(
        session, user_id=user.id, means=provider.slug, user_agent=user_agent, pepper=pepper, now=now,
        level=Level.NONE if owes else Level.ONE,
    )  # fmt: skip
    return reference, owes


def sign_up(session: Session, *, who: Applicant, claims: Claims, pepper: bytes, base_url: str, now: datetime) -> None:
    """Open an account that an identity elsewhere opens, and mail its confirmation.

    Where the address has an account, only its owner is told, and the identity is linked to nothing: an address is no
    proof of being the same person.
    """

    def also(user: User) -> None:
        providers.add(session, user=user, claims=claims, by=acting(user), now=now)

    identity.sign_up(session, who=who, pepper=pepper, base_url=base_url, now=now, also=also)


def link(session: Session, *, by: Actor, claims: Claims, provider: Provider, base_url: str, now: datetime) -> None:
    """Let an identity open the actor's account, both proved just now; linking it again changes nothing.

    Raises:
        Conflict: it opens somebody else's account.
    """
    user = session.get_one(User, by.id)
    row = providers.find(session, claims=claims)
    if row is not None and row.user_id == user.id:
        return
    providers.add(session, user=user, claims=claims, by=by, now=now)
    mail = rules.compose_linked(name=provider.name, linked=True, base_url=base_url)
    logins.tell(session, user=user, mail=mail, now=now)


def unlink(session: Session, *, by: Actor, ref: str, name: str, base_url: str, now: datetime) -> None:
    """Let an identity no longer open the actor's account, unless nothing else would; other browsers are signed out.

    Args:
        name: how pages call its provider.
    """
    user = session.get_one(User, by.id, with_for_update=True)
    providers.remove(session, user=user, ref=ref, by=by, now=now)
    rules.check_way_in(
        linked=len(providers.identities_of(session, user_id=user.id)),
        has_password=identity.has_password(session, user_id=user.id),
        has_passkey=passkeys.has_any(session, user_id=user.id),
    )
    logins.end_others(session, by=by, now=now, reason="identity_unlinked")
    logins.tell(session, user=user, mail=rules.compose_linked(name=name, linked=False, base_url=base_url), now=now)
