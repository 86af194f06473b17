"""Letting programs act for people, handing them tokens, and ending what they may."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from secrets import token_urlsafe
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts import service as accounts
from portal.accounts.models import User
from portal.accounts.rules import Standing, standing_at
from portal.audit import service as audit
from portal.core.actor import SYSTEM, Actor
from portal.core.db import hold
from portal.core.errors import NotFound, Refused
from portal.core.ids import public_id
from portal.grants import rules
from portal.grants.models import AuthorizationCode, Grant, RefreshToken
from portal.grants.rules import GRANT, Ending, GrantAction, GrantState
from portal.licensing.models import Signature
from portal.oauth import service as oauth
from portal.programs import service as programs
from portal.programs.models import Program
from portal.programs.rules import ProgramState
from portal.tokens import service as tokens
from portal.tokens.models import AccessToken
from portal.tokens.rules import mint, sealed, unusable, well_formed

Row = AuthorizationCode | RefreshToken | AccessToken
T = TypeVar("T", AuthorizationCode, RefreshToken)


@dataclass(frozen=True)
class Held:
    """A code or token that a program holds.

    Args:
        usable: whether it still opens what it is for.
    """

    client_id: str
    scopes: str
    usable: bool
    grant: Grant
    row: Row
    redirect_uri: str = ""
    challenge: str = ""


class Keys(Protocol):
    """What signs statements about people."""

    def sign(self, claims: Mapping[str, Any], *, kind: str, now: datetime, keys_at: str = "") -> str:
        """Return a signed statement of a kind, which names the address of the keys if it has to."""


class Desk:
    """Keeps what is handed out to programs, in one transaction.

    Args:
        keys: sign what is stated about people.
        by: who agrees, where somebody does.
    """

    def __init__(
        self, session: Session, *, pepper: bytes, base_url: str, now: datetime, keys: Keys, by: Actor = SYSTEM
    ) -> None:
        self.session, self.pepper, self.base_url, self.now, self.keys = session, pepper, base_url, now, keys
        self.by = by

    def program(self, client_id: str) -> Program | None:
        """Return the program of a `client_id`, unless it has ended."""
        return programs.find_live(self.session, client_id=client_id)

    def secret_holds(self, program: Program, secret: str) -> bool:
        """Say whether a program showed its secret."""
        return programs.secret_holds(program, secret, self.pepper)

    def keep_code(self, program: Program, *, redirect_uri: str, scopes: str, challenge: str, nonce: str) -> str:
        """Let a program act for the actor, and return the code that says so.

        Raises:
            Refused: the actor could not be given what it asks for; with all reasons.
        """
        self._check_may(self.by, scopes)
        ends = self.now + rules.CODE_LIFE
        grant = Grant(
            public_id=public_id("gra"), program_id=program.id, user_id=self.by.id, scopes=scopes, given_at=self.now,
            expires_at=ends,
        )  # fmt: skip
        self.session.add(grant)
        self.session.flush()
        code = token_urlsafe(32)
        row = AuthorizationCode(
            hmac=self._sealed(code), grant_id=grant.id, redirect_uri=redirect_uri, challenge=challenge, nonce=nonce,
            expires_at=ends,
        )  # fmt: skip
        self.session.add(row)
        self.session.flush()
        event = rules.GrantGiven(subject=grant.public_id, program=program.public_id, scopes=scopes)
        audit.record(self.session, event, by=self.by, now=self.now)
        return code

    def take_code(self, value: str) -> Held | None:
        """Return what a code stands for; one that was used before ends all that came of it (RFC 6749 §4.1.2)."""
        row = self._held(AuthorizationCode, self._sealed(value))
        if row is None:
            return None
        if row.used_at is not None:
            end(self.session, grant=row.grant, why=Ending.CODE_REPLAYED, by=SYSTEM, now=self.now)
            return None
        found = Held(
            row.grant.program.public_id, row.grant.scopes, self._open(row), row.grant, row, row.redirect_uri,
            row.challenge,
        )  # fmt: skip
        return found if found.usable else None

    def take_refresh(self, value: str) -> Held | None:
        """Return what a refresh token stands for; one that was used before ends its whole family (RFC 9700 §4.14)."""
        row = self._refresh(value)
        if row is None:
            return None
        if row.used_at is not None:
            end(self.session, grant=row.grant, why=Ending.REFRESH_REUSED, by=SYSTEM, now=self.now)
            return None
        found = self._refresh_held(row)
        return found if found.usable else None

    def issue(self, held: Held, scopes: str) -> dict[str, Any]:
        """Hand out tokens for a code or refresh token, which is used from then on.

        Raises:
            Refused: the person may not be given them any more; with all reasons.
        """
        grant, row = held.grant, held.row
        hold(self.session, Grant.id, grant.id)
        by = accounts.acting(self.session.get_one(User, grant.user_id))
        self._check_may(by, scopes)
        opens = rules.granted_scopes(scopes)
        signatures = oauth.relied_on(self.session, by=by, scopes=opens, base_url=self.base_url, now=self.now)
        _, secret = tokens.issue_granted(
            self.session, by=by, grant_id=grant.id, name=grant.program.name, scopes=opens, life=rules.ACCESS_LIFE,
            pepper=self.pepper, now=self.now, signature_set=signatures,
        )  # fmt: skip
        if isinstance(row, AuthorizationCode | RefreshToken):
            row.used_at = self.now
        grant.used_at, grant.expires_at = self.now, self.now + rules.REFRESH_LIFE
        told = {
            "access_token": secret, "token_type": "Bearer", "expires_in": int(rules.ACCESS_LIFE.total_seconds()),
            "refresh_token": self._next_refresh(grant), "scope": scopes,
        }  # fmt: skip
        if rules.OPENID in scopes.split():
            nonce = row.nonce if isinstance(row, AuthorizationCode) else ""
            claims = rules.identity(
                issuer=self.base_url, subject=by.public_id, program=held.client_id, nonce=nonce, now=self.now
            )
            told["id_token"] = self.keys.sign(claims, kind="JWT", now=self.now)
        return told

    def _next_refresh(self, grant: Grant) -> str:
        expired = sa.and_(RefreshToken.grant_id == grant.id, RefreshToken.expires_at <= self.now)
        self.session.execute(sa.delete(RefreshToken).where(expired))
        refresh = mint(rules.REFRESH_PREFIX)
        row = RefreshToken(hmac=self._sealed(refresh), grant_id=grant.id, expires_at=self.now + rules.REFRESH_LIFE)
        self.session.add(row)
        self.session.flush()
        return refresh

    def look_up(self, value: str) -> Held | None:
        """Return what an access token or refresh token of a program stands for."""
        if (refresh := self._refresh(value)) is not None:
            return self._refresh_held(refresh)
        token = tokens.find_granted(self.session, value=value, pepper=self.pepper)
        grant = self.session.get(Grant, token.grant_id) if token is not None else None
        if token is None or grant is None:
            return None
        works = unusable(token.state, token.expires_at, self.now) is None and self._alive(grant)
        scopes = " ".join(s for s in grant.scopes.split() if s in _carried(token) or s not in rules.TOKEN_SCOPES)
        return Held(grant.program.public_id, scopes, works, grant, token)

    def describe(self, held: Held) -> dict[str, Any]:
        """Say of a token what its own program may know (RFC 7662 §2.2)."""
        user = self.session.get_one(User, held.grant.user_id)
        refresh = isinstance(held.row, RefreshToken)
        return {
            "active": held.usable, "client_id": held.client_id, "scope": held.scopes, "sub": user.public_id,
            "iss": self.base_url, "exp": int(held.row.expires_at.timestamp()),
            "token_type": "refresh_token" if refresh else "Bearer",
        }  # fmt: skip

    def end(self, held: Held) -> None:
        """End an access token, or with a refresh token all that came of the same permission."""
        if isinstance(held.row, AccessToken):
            tokens.end(self.session, token=held.row, by=SYSTEM, now=self.now)
        else:
            end(self.session, grant=held.grant, why=Ending.BY_PROGRAM, by=SYSTEM, now=self.now)

    def _check_may(self, by: Actor, scopes: str) -> None:
        reasons = oauth.missing(self.session, by=by, scopes=scopes, now=self.now, base_url=self.base_url)
        if reasons:
            raise Refused(reasons[0].code, reasons[0].message, reasons=reasons, url=reasons[0].url or None)

    def _refresh(self, value: str) -> RefreshToken | None:
        return self._held(RefreshToken, self._sealed(value)) if well_formed(value, rules.REFRESH_PREFIX) else None

    def _refresh_held(self, row: RefreshToken) -> Held:
        open_ = row.used_at is None and self._open(row)
        return Held(row.grant.program.public_id, row.grant.scopes, open_, row.grant, row)

    def _open(self, row: AuthorizationCode | RefreshToken) -> bool:
        return self.now < row.expires_at and self._alive(row.grant)

    def _alive(self, grant: Grant) -> bool:
        """Say whether a permission holds, its program may act, and its person may, too."""
        user = self.session.get_one(User, grant.user_id)
        ended = user.standing_until is not None and self.now >= user.standing_until
        return (
            grant.state is GrantState.LIVE
            and grant.program.state is ProgramState.LIVE
            and standing_at(user.standing, ended) is Standing.ACTIVE
        )

    def _held(self, table: type[T], digest: str) -> T | None:
        """Find a row and keep others from using it at the same time: of two, one finds that it is too late."""
        found = self.session.scalar(sa.select(table.id).where(table.hmac == digest))
        if found is None:
            return None
        hold(self.session, table.id, found)
        return self.session.get_one(table, found)

    def _sealed(self, value: str) -> str:
        return sealed(f"program\0{value}", self.pepper)


def _carried(token: AccessToken) -> set[str]:
    return {row.scope.value for row in token.scope_rows}


def told_of(session: Session, *, by: Actor, keys: Keys, base_url: str, now: datetime) -> dict[str, Any]:
    """Say to a program who let it act and, if they let it know that, by which licenses they are bound now.

    Raises:
        Refused: the access token is a person's own, or its permission does not go as far.
    """
    token = session.get(AccessToken, by.access_token_id)
    grant = session.get(Grant, token.grant_id) if token and token.grant_id else None
    scopes = grant.scopes if grant else ""
    rules.check_scopes(scopes, rules.OPENID)
    told: dict[str, Any] = {"sub": by.public_id}
    if rules.PASSPORT in scopes.split():
        told[rules.PASSPORT] = _visas(session, by=by, keys=keys, base_url=base_url, now=now)
    return told


def _visas(session: Session, *, by: Actor, keys: Keys, base_url: str, now: datetime) -> list[str]:
    """State each signature on which a yes to the person rests now: one that no longer suffices is stated no more."""
    person = accounts.acting(session.get_one(User, by.id))
    decided = oauth.renewable(session, by=person, now=now, base_url=base_url)
    relied = {row.signature_id: row for _, decision in decided if decision.allowed for row in decision.relied_on}
    query = sa.select(Signature.id, Signature.signed_at).where(Signature.id.in_(relied))
    signed = {row.id: row.signed_at for row in session.execute(query)}
    return [
        keys.sign(
            rules.visa(
                issuer=base_url, subject=by.public_id, signed_at=signed[number], now=now, ref=row.signature_ref,
                license_url=f"{base_url}/licenses/{row.license_slug}/{row.license_number}",
            ),
            kind=rules.VISA, now=now, keys_at=f"{base_url}{rules.KEYS_PATH}",
        )
        for number, row in sorted(relied.items())
    ]  # fmt: skip


def end(session: Session, *, grant: Grant, why: Ending, by: Actor, now: datetime) -> None:
    """End a permission and all tokens that came of it; doing so again changes nothing."""
    if grant.state is GrantState.ENDED:
        return
    grant.state, grant.ended_at, grant.ending = GRANT.next(grant.state, GrantAction.END), now, why
    session.flush()
    tokens.end_granted(session, grant_ids=[grant.id], by=by, now=now)
    event = rules.GrantEnded(subject=grant.public_id, program=grant.program.public_id, reason=why.value)
    audit.record(session, event, by=by, now=now)


def given_by(session: Session, *, user_id: int, now: datetime) -> dict[Program, list[Grant]]:
    """Return what a person lets programs do now: program → permissions, newest first."""
    query = sa.select(Grant).where(Grant.user_id == user_id, *_holding(now)).order_by(Grant.id.desc())
    found: dict[Program, list[Grant]] = {}
    for grant in session.scalars(query):
        found.setdefault(grant.program, []).append(grant)
    return found


def end_for_person(session: Session, *, by: Actor, ref: str, now: datetime) -> Program:
    """End all that the actor lets a program do; doing so again changes nothing.

    Raises:
        NotFound: the actor never let such a program do anything.
    """
    program = find_given(session, by=by, ref=ref)
    query = sa.select(Grant).where(Grant.user_id == by.id, Grant.program_id == program.id).order_by(Grant.id)
    for grant in session.scalars(query).all():
        end(session, grant=grant, why=Ending.BY_PERSON, by=by, now=now)
    return program


def find_given(session: Session, *, by: Actor, ref: str) -> Program:
    """Find a program that the actor once let act for them."""
    query = sa.select(Program).join(Grant, Grant.program_id == Program.id)
    found = session.scalar(query.where(Grant.user_id == by.id, Program.public_id == ref).limit(1))
    if found is None:
        raise NotFound("program_not_found", "You let no such program act for you.", url="/settings/programs")
    return found


def end_program(session: Session, *, ref: str, by: Actor, now: datetime) -> Program:
    """End a program for everybody: it may ask nobody any more, and nothing that it was given opens anything."""
    program = programs.find(session, ref=ref)
    if programs.end(session, program=program, by=by, now=now):
        query = sa.select(Grant).where(Grant.program_id == program.id, Grant.state == GrantState.LIVE)
        for grant in session.scalars(query.order_by(Grant.id)).all():
            end(session, grant=grant, why=Ending.PROGRAM_ENDED, by=by, now=now)
    return program


def people_of(session: Session, *, program_ids: Sequence[int], now: datetime) -> dict[int, int]:
    """Count, for each program, the people for whom it may act now."""
    count = sa.func.count(sa.distinct(Grant.user_id))
    query = sa.select(Grant.program_id, count).where(Grant.program_id.in_(program_ids), *_holding(now))
    rows = session.execute(query.group_by(Grant.program_id)).all()
    return {row[0]: row[1] for row in rows}


def _holding(now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    return Grant.state == GrantState.LIVE, Grant.expires_at > now
