"""Making passkeys and using them."""

from base64 import urlsafe_b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.core.errors import Conflict, NotFound
from portal.core.ids import public_id
from portal.passkeys import rules
from portal.passkeys.models import AnsweredChallenge, Passkey
from portal.passkeys.rules import Authenticators, Purpose


def passkeys_of(session: Session, *, user_id: int) -> Sequence[Passkey]:
    """Return a person's passkeys, oldest first."""
    return session.scalars(sa.select(Passkey).where(Passkey.user_id == user_id).order_by(Passkey.id)).all()


def has_any(session: Session, *, user_id: int) -> bool:
    """Say whether a person has a passkey."""
    return session.scalar(sa.select(Passkey.id).where(Passkey.user_id == user_id).limit(1)) is not None


def find(session: Session, *, user_id: int, ref: str) -> Passkey:
    """Find one of a person's passkeys."""
    found = session.scalar(sa.select(Passkey).where(Passkey.user_id == user_id, Passkey.public_id == ref))
    if found is None:
        raise NotFound("passkey_not_found", "You have no such passkey.")
    return found


def ask_for_new(session: Session, *, user: User, doors: Authenticators, pepper: bytes, now: datetime) -> str:
    """Return the options with which a person's browser makes a passkey that is not one of theirs already."""
    known = [one.credential_id for one in passkeys_of(session, user_id=user.id)]
    shown = user.profile.name if user.profile else ""
    name = user.profile.email if user.profile else user.public_id
    asked = rules.challenge(Purpose.REGISTER, about=user.public_id, pepper=pepper, now=now)
    return doors.ask_for_new(handle=user.public_id, name=name, shown=shown or name, challenge=asked, known=known)


def add(
    session: Session, *, user: User, credential: str, name: str, doors: Authenticators, pepper: bytes, now: datetime
) -> Passkey:
    """Keep the passkey that a person's browser made.

    Raises:
        Invalid: the answer is not to what was asked, or not by a device that checked who uses it.
        Conflict: the passkey is known already, or the person has very many.
    """
    called = rules.check_name(name)
    if len(passkeys_of(session, user_id=user.id)) >= rules.MOST:
        raise Conflict("passkeys_many", f"You have {rules.MOST} passkeys. Remove one that you do not use.")
    asked = _answered(session, Purpose.REGISTER, credential, about=user.public_id, doors=doors, pepper=pepper, now=now)
    with _holding():
        credential_id, public_key, count, synced = doors.check_new(credential, challenge=asked)
    if session.scalar(sa.select(Passkey.id).where(Passkey.credential_id == credential_id)) is not None:
        raise Conflict("passkey_known", "This passkey is in use already.", field="credential")
    passkey = Passkey(
        public_id=public_id("pky"), user_id=user.id, credential_id=credential_id, public_key=public_key,
        sign_count=count, synced=synced, name=called, made_at=now,
    )  # fmt: skip
    session.add(passkey)
    session.flush()
    return passkey


def ask_for_use(
    session: Session, *, user: User | None, purpose: Purpose, doors: Authenticators, pepper: bytes, now: datetime
) -> str:
    """Return the options with which a browser uses one of a person's passkeys, or any that it has."""
    known = [one.credential_id for one in passkeys_of(session, user_id=user.id)] if user else []
    asked = rules.challenge(purpose, about=user.public_id if user else "", pepper=pepper, now=now)
    return doors.ask_for_use(challenge=asked, known=known)


def use(
    session: Session, *, credential: str, user: User | None, purpose: Purpose, doors: Authenticators, pepper: bytes,
    now: datetime,
) -> Passkey:  # fmt: skip
    """Check that a passkey signed what was asked, once, on a device that checked who uses it, and return it.

    Args:
        user: whose passkey it has to be; by default anybody's.
    """
    about = user.public_id if user else ""
    asked = _answered(session, purpose, credential, about=about, doors=doors, pepper=pepper, now=now)
    with _holding():
        passkey = _checked(session, credential, user=user, challenge=asked, doors=doors)
    passkey.last_used_at = now
    session.flush()
    return passkey


def _checked(
    session: Session, credential: str, *, user: User | None, challenge: bytes, doors: Authenticators
) -> Passkey:  # fmt: skip
    """Return the passkey that signed a challenge, anybody's or a person's, with how often it was used by now."""
    credential_id = doors.read_id(credential)
    query = sa.select(Passkey).where(Passkey.credential_id == credential_id).with_for_update()
    passkey = session.scalar(query.execution_options(populate_existing=True))
    if passkey is None or (user is not None and passkey.user_id != user.id):
        raise rules.refused()
    passkey.sign_count, passkey.synced = doors.check_use(
        credential, challenge=challenge, public_key=passkey.public_key, sign_count=passkey.sign_count
    )
    return passkey


def ask_to_sign(session: Session, *, user: User, subject: bytes, doors: Authenticators) -> str:
    """Return the options with which a browser signs the digest of something with one of a person's passkeys.

    Args:
        subject: what is signed; it has to be of one sitting, since here nothing keeps it from being signed twice.
    """
    known = [one.credential_id for one in passkeys_of(session, user_id=user.id)]
    return doors.ask_for_use(challenge=sha256(subject).digest(), known=known) if known else ""


def sign(
    session: Session, *, user: User, subject: bytes, credential: str, doors: Authenticators, now: datetime
) -> dict[str, Any]:
    """Check that a passkey of a person signed the digest of something, and return the proof for others to check.

    Raises:
        Invalid: it did not, or is of a kind that others could not check.
    """
    if not 0 < len(credential) <= rules.CREDENTIAL_MAX:
        raise rules.refused()
    with _holding():
        passkey = _checked(session, credential, user=user, challenge=sha256(subject).digest(), doors=doors)
        key, proof = doors.read_key(passkey.public_key), doors.read_proof(credential)
    passkey.last_used_at = now
    session.flush()
    written = {name: urlsafe_b64encode(value).rstrip(b"=").decode() for name, value in proof.items()}
    return {"name": passkey.name, "public_key": key, **written}


def remove(session: Session, *, user_id: int, ref: str) -> Passkey:
    """Forget one of a person's passkeys and return what it was."""
    passkey = find(session, user_id=user_id, ref=ref)
    session.delete(passkey)
    session.flush()
    return passkey


def remove_all(session: Session, *, user_id: int) -> int:
    """Forget all passkeys of a person and return how many that were."""
    gone = sa.delete(Passkey).where(Passkey.user_id == user_id).returning(Passkey.id)
    return len(session.scalars(gone).all())


@contextmanager
def _holding() -> Iterator[None]:
    """Say the same of everything that does not hold."""
    try:
        yield
    except ValueError:
        raise rules.refused() from None


def _answered(
    session: Session, purpose: Purpose, credential: str, *, about: str, doors: Authenticators, pepper: bytes,
    now: datetime,
) -> bytes:  # fmt: skip
    """Return the challenge that an answer is for, which from now on nobody can answer again."""
    if not 0 < len(credential) <= rules.CREDENTIAL_MAX:
        raise rules.refused()
    with _holding():
        asked = doors.read_challenge(credential)
    rules.check_challenge(asked, purpose, about=about, pepper=pepper, now=now)
    session.execute(sa.delete(AnsweredChallenge).where(AnsweredChallenge.at < now - 2 * rules.CHALLENGE_LIFE))
    try:
        with session.begin_nested():
            session.add(AnsweredChallenge(digest=sha256(asked).hexdigest(), at=now))
    except IntegrityError:
        raise rules.refused("This was answered already. Open the page again.") from None
    return asked
