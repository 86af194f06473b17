"""Which programs may ask people for their permission, and how each proves which one it is."""

from collections.abc import Collection, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.audit import service as audit
from portal.core.actor import Actor
from portal.core.errors import Conflict, Invalid, NotFound
from portal.core.ids import public_id
from portal.programs import rules
from portal.programs.models import Program
from portal.programs.rules import PROGRAM, ProgramAction, ProgramState
from portal.tokens.rules import mint, same, sealed, well_formed


def register(
    session: Session,
    *,
    name: str,
    homepage: str,
    redirect_uris: str,
    scopes: Collection[str],
    known: Sequence[str],
    keeps_secret: bool,
    by: Actor,
    pepper: bytes,
    now: datetime,
) -> tuple[Program, str]:
    """Let a program ask people for their permission; return it with its secret, which is never shown again.

    Args:
        redirect_uris: where it may send people back, one a line.
        known: the scopes that there are.
        keeps_secret: whether it runs where it can keep a secret; otherwise it has none, and the secret is empty.

    Raises:
        Invalid: names the field that cannot be taken; a name belongs to one program.
    """
    called = rules.check_name(name)
    taken = sa.select(Program.id).where(sa.func.lower(Program.name) == called.lower(), _live())
    if session.scalar(taken.limit(1)) is not None:
        raise Invalid("program_name_taken", "Another program is called so already.", field="name")
    program = Program(
        public_id=public_id("prg"), name=called, homepage=rules.check_homepage(homepage),
        redirect_uris=list(rules.check_redirect_uris(redirect_uris)),
        scopes=" ".join(rules.check_scopes(scopes, known)), registered_by=by.public_id, created_at=now,
    )  # fmt: skip
    secret = _give_secret(program, pepper) if keeps_secret else ""
    session.add(program)
    session.flush()
    audit.record(session, rules.ProgramRegistered(subject=program.public_id, scopes=program.scopes), by=by, now=now)
    return program, secret


def change_secret(session: Session, *, ref: str, by: Actor, pepper: bytes, now: datetime) -> tuple[Program, str]:
    """Give a program another secret and return it; the one before no longer holds.

    Raises:
        Conflict: it has ended, or runs where it could keep no secret.
    """
    program = find(session, ref=ref)
    if program.state is not ProgramState.LIVE or program.is_public:
        raise Conflict("program_without_secret", "This program has no secret that could be changed.")
    secret = _give_secret(program, pepper)
    session.flush()
    audit.record(session, rules.ProgramSecretChanged(subject=program.public_id), by=by, now=now)
    return program, secret


def end(session: Session, *, program: Program, by: Actor, now: datetime) -> bool:
    """Let a program ask nobody any more; say whether it could until now."""
    if program.state is ProgramState.ENDED:
        return False
    program.state, program.ended_at = PROGRAM.next(program.state, ProgramAction.END), now
    session.flush()
    audit.record(session, rules.ProgramEnded(subject=program.public_id), by=by, now=now)
    return True


def find(session: Session, *, ref: str) -> Program:
    """Find a program by its `client_id`, ended ones included."""
    found = session.scalar(sa.select(Program).where(Program.public_id == ref))
    if found is None:
        raise NotFound("program_not_found", "There is no such program.")
    return found


def find_live(session: Session, *, client_id: str) -> Program | None:
    """Return the program of a `client_id`, unless it has ended."""
    return session.scalar(sa.select(Program).where(Program.public_id == client_id, _live()))


def all_programs(session: Session) -> Sequence[Program]:
    """Return all programs, those that have not ended first, by name."""
    ended = sa.case((_live(), 0), else_=1)
    return session.scalars(sa.select(Program).order_by(ended, sa.func.lower(Program.name), Program.id)).all()


def secret_holds(program: Program, secret: str, pepper: bytes) -> bool:
    """Say whether a program showed its secret."""
    return (
        program.secret_hmac is not None
        and well_formed(secret, rules.SECRET_PREFIX)
        and same(program.secret_hmac, sealed(secret, pepper))
    )


def _live() -> sa.ColumnElement[bool]:
    return Program.state == ProgramState.LIVE


def _give_secret(program: Program, pepper: bytes) -> str:
    secret = mint(rules.SECRET_PREFIX)
    program.secret_hmac, program.secret_last4 = sealed(secret, pepper), secret[-4:]
    return secret
