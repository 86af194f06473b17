"""Citing clauses in the words that a person signed, and keeping the statements that cite them."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.catalog import service as catalog
from portal.clauses import rules as clauses
from portal.clauses import service as clause_service
from portal.clauses.models import Clause, ClauseText, Text
from portal.core.errors import Conflict, Invalid
from portal.licensing import service as licensing
from portal.licensing.models import Signature
from portal.licensing.rules import in_force
from portal.sanctions.rules import Measure, sentence
from portal.statements import rules
from portal.statements.models import StatementClause, StatementOfReasons
from portal.statements.rules import Automation, Citation, NoticePreview, Source
from portal.tokens.models import AccessToken

CITABLE = frozenset({clauses.ClauseKind.RESTRICTION, clauses.ClauseKind.DUTY})


def bound_by(session: Session, *, user_id: int) -> Signature:
    """Return the signature from which clauses are cited to a person."""
    signature = licensing.promised(session, user_id=user_id)
    if signature is None:
        message = "This person has signed nothing, so no clause binds them. End their access tokens instead."
        raise Conflict("signature_missing", message)
    return signature


def has_signed(session: Session, *, user_id: int) -> bool:
    """Say whether any clause binds a person."""
    return licensing.promised(session, user_id=user_id) is not None


def citable(session: Session, *, user_id: int, base_url: str) -> list[Citation]:
    """Return the restrictions that a person signed last, each in the exact words of that text, in its order."""
    signature = bound_by(session, user_id=user_id)
    return _citations(session, signature, base_url, Clause.kind == clauses.ClauseKind.RESTRICTION)


def restrictions_now(session: Session, *, now: datetime) -> list[tuple[str, str]]:
    """Return key and heading of each restriction of the texts in force, for a decision about several people."""
    found: dict[str, str] = {}
    for license_, _versions in licensing.licenses(session):
        facts = licensing.versions_for(session, license_ids=[license_.id]).get(license_.id, [])
        current = in_force(facts, now)
        if current is not None:
            version = licensing.find_version(session, slug=license_.slug, number=current.number)
            for one in clause_service.provisions(session, sha256=licensing.rendition(version).text_sha256):
                if one.kind is clauses.ClauseKind.RESTRICTION:
                    found.setdefault(one.part.key, f"{one.part.label} {one.part.title}")
    return list(found.items())


def grounds(
    session: Session, *, user_id: int, clause_keys: Sequence[str], base_url: str
) -> tuple[Signature, list[Citation]]:
    """Return the signature that binds a person, and the clauses of it that are named.

    Raises:
        Conflict: the person signed nothing.
        Invalid: one of them is no restriction or duty of that text.
    """
    signature = bound_by(session, user_id=user_id)
    wanted = sorted(set(clause_keys))
    found = _citations(session, signature, base_url, Clause.stable_key.in_(wanted), Clause.kind.in_(CITABLE))
    if unknown := sorted(set(wanted) - {c.key for c in found}):
        message = f"{unknown[0]} is no restriction or duty of the text that this person signed."
        raise Invalid("clause_unknown", message, field="clause")
    return signature, found


def about_conduct(session: Session, *, user_id: int, clause_keys: Sequence[str]) -> bool:
    """Say whether one of some clauses that bind a person is about conduct, which a program can see, and not intent."""
    signature = licensing.promised(session, user_id=user_id)
    if signature is None:
        return False
    query = (
        sa.select(Clause.id)
        .join(ClauseText, ClauseText.clause_id == Clause.id)
        .where(
            ClauseText.text_sha256 == signature.rendition_sha256, Clause.stable_key.in_(sorted(set(clause_keys))),
            Clause.kind.in_(CITABLE), sa.or_(Clause.element.is_(None), Clause.element != clauses.Element.INTENT),
        )
    )  # fmt: skip
    return session.scalar(query.limit(1)) is not None


def restricted(session: Session, *, user_id: int, measures: Sequence[Measure], base_url: str) -> list[str]:
    """Write what measures restrict, naming the models and access tokens that they are about."""
    return [
        sentence(m, target=_called(session, user_id, m.target), base_url=base_url) for m in measures
    ]  # fmt: skip


def _called(session: Session, user_id: int, target: str) -> str:
    if target.startswith("mod_"):
        return catalog.find_by_ref(session, ref=target).full_name
    if target.startswith("tok_"):
        token = session.scalar(sa.select(AccessToken).where(AccessToken.public_id == target))
        if token is None or token.user_id != user_id:
            raise Invalid("target_wrong", "This is no access token of this person.", field="target")
        return f"“{token.name}”, ending in {token.last4},"
    return ""


def keep(
    session: Session,
    *,
    notice: NoticePreview,
    facts: str,
    restricted: Sequence[str],
    until: datetime | None,
    automation: Automation,
    source: Source,
) -> StatementOfReasons:
    """Keep why a decision was taken, with the exact notice."""
    row = StatementOfReasons(
        version_id=notice.version_id, signature_id=notice.signature_id, facts=rules.plain(facts), notice=notice.text,
        notice_sha256=notice.sha256, until=until, appeal_by=notice.appeal_by, automation=automation, source=source,
        restricted="\n\n".join(restricted), clauses=[StatementClause(clause_id=c.clause_id) for c in notice.citations],
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row


def cited(session: Session, *, statement: StatementOfReasons, base_url: str) -> list[Citation]:
    """Return the clauses that a statement rests on, in the words that the person signed."""
    signature = session.get_one(Signature, statement.signature_id)
    return _citations(session, signature, base_url, Clause.id.in_([row.clause_id for row in statement.clauses]))


def _citations(session: Session, signature: Signature, base_url: str, *which: sa.ColumnElement[bool]) -> list[Citation]:
    """Return clauses in the exact words of the rendition that a person signed."""
    body = session.get_one(Text, signature.rendition_sha256).body.decode()
    query = (
        sa.select(Clause.id, Clause.stable_key, ClauseText.label, ClauseText.start, ClauseText.end)
        .join(ClauseText, ClauseText.clause_id == Clause.id)
        .where(ClauseText.text_sha256 == signature.rendition_sha256, *which)
        .order_by(ClauseText.ordinal)
    )
    version, rendition = signature.version, signature.rendition
    language = "" if rendition.prevailing else f"?lang={rendition.language}"
    page = f"{base_url}/licenses/{version.license.slug}/{version.number}{language}"
    found = []
    for clause_id, key, label, start, end in session.execute(query):
        part = clauses.parse(body[start:end])[0]
        found.append(Citation(clause_id, key, label, part.title, part.body, f"{page}#{key}"))
    return found
