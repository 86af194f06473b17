"""People bound by a small license of their own, for tests of what is decided about conduct."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import Profile, RoleHolding, User
from portal.accounts.rules import Role, permissions_of
from portal.audit import service as audit
from portal.audit.rules import LicenseSigned
from portal.clauses import rules as clauses
from portal.clauses.models import Clause, ClauseText, Text
from portal.core.actor import Actor
from portal.core.ids import public_id
from portal.licensing.models import Ceremony, License, LicenseVersion, Rendition, Signature
from portal.licensing.rules import CeremonyState, LicenseKind, Materiality, VersionState
from portal.moderation import service as moderation
from portal.statements.rules import NoticePreview

SLUG = "conduct-license"
KINDS = {
    "definition.model": ("definition", None),
    "duty.disclose": ("duty", None),
    "restriction.spam": ("restriction", "conduct"),
    "restriction.harm": ("restriction", "intent"),
    "restriction.later": ("restriction", "conduct"),
}
TEXTS = {
    "1.0.0": """# License
### 1 Model {#definition.model}
The thing.
### 2 Disclosure {#duty.disclose}
You say that a machine wrote it.
### A.1 Spam {#restriction.spam}
You do not send spam.

Not even a little.
### A.2 Harm {#restriction.harm}
You do not set out to harm.
""",
    "2.0.0": """# License
### 1 Model {#definition.model}
The thing.
### 2 Disclosure {#duty.disclose}
You say that a machine wrote it.
### A.1 Harm {#restriction.harm}
You never harm.
### A.2 Spam {#restriction.spam}
You send no spam at all.
### A.3 Later {#restriction.later}
You do not come late.
""",
}


def person(session: Session, name: str, now: datetime, *roles: Role, domain: str = "conduct.example") -> User:
    """Make a person with a verified address, ``NAME@conduct.example``."""
    user = User(public_id=public_id("usr"), created_at=now)
    user.profile = Profile(email=f"{name}@{domain}", verified_at=now, name=name.capitalize())
    session.add(user)
    session.flush()
    for role in roles:
        session.add(RoleHolding(user_id=user.id, role=role, granted_by="system", granted_at=now))
    session.flush()
    return user


def preview(
    session: Session, *, clause_keys: Sequence[str], facts: str, until: datetime, **about: Any
) -> NoticePreview:  # fmt: skip
    """Return the notice of a suspension as it would be sent."""
    order = moderation.suspension(clause_keys=clause_keys, facts=facts, until=until)
    return moderation.preview(session, order=order, **about)


def acting(user: User, *roles: Role) -> Actor:
    """Return a person as the caller of a use case."""
    return Actor(user_id=user.id, public_id=user.public_id, permissions=permissions_of(list(roles)))


def _text(session: Session, body: str, ids: dict[str, int]) -> str:
    digest = sha256(body.encode()).hexdigest()
    session.add(Text(sha256=digest, body=body.encode()))
    session.flush()
    for number, part in enumerate(clauses.parse(body)):
        session.add(
            ClauseText(
                text_sha256=digest, clause_id=ids[part.key], ordinal=number, label=part.label, start=part.start,
                end=part.end, sha256=part.sha256,
            )
        )  # fmt: skip
    return digest


def license_versions(session: Session, now: datetime) -> dict[str, LicenseVersion]:
    """Make the license with both versions, each in English and in French; made once."""
    query = sa.select(LicenseVersion).join(License).where(License.slug == SLUG)
    if found := {version.number: version for version in session.scalars(query)}:
        return found
    license_ = License(slug=SLUG, title="Conduct License", spdx="LicenseRef-conduct", kind=LicenseKind.LICENSE)
    session.add(license_)
    session.flush()
    ids = {}
    for key, (kind, element) in KINDS.items():
        clause = Clause(
            family=SLUG, stable_key=key, kind=clauses.ClauseKind(kind),
            element=clauses.Element(element) if element else None,
        )  # fmt: skip
        session.add(clause)
        session.flush()
        ids[key] = clause.id
    for ordinal, (number, body) in enumerate(TEXTS.items()):
        at = now - timedelta(days=100 - ordinal)
        version = LicenseVersion(
            license_id=license_.id, number=number, ordinal=ordinal, materiality=Materiality.MATERIAL,
            state=VersionState.DRAFT, summary={}, created_at=now, created_by="system", approved_by="system",
        )  # fmt: skip
        session.add(version)
        session.flush()
        for language, words in (("en", body), ("fr", body.replace("You ", "Vous "))):
            digest = _text(session, words, ids)
            row = Rendition(version_id=version.id, language=language, text_sha256=digest, prevailing=language == "en")
            session.add(row)
        session.flush()
        version.effective_at = version.required_by = at
        version.state = VersionState.IN_FORCE if ordinal else VersionState.SUPERSEDED
        session.flush()
    return {version.number: version for version in session.scalars(query)}


def redate(session: Session, version: LicenseVersion, required_by: datetime) -> None:
    """Give a version in force another date, behind the back of the database's own guard."""
    name = "fz_license_version_dates"
    if session.get_bind().dialect.name == "postgresql":
        session.execute(sa.text("SET CONSTRAINTS ALL IMMEDIATE"))  # no table is altered while triggers wait
        off, on = f"ALTER TABLE license_version DISABLE TRIGGER {name}", ""
    else:
        query = sa.text("SELECT sql FROM sqlite_master WHERE name = :name")
        off, on = f"DROP TRIGGER {name}_update", str(session.scalar(query, {"name": f"{name}_update"}))
    session.execute(sa.text(off))
    table = LicenseVersion.__table__
    session.execute(sa.update(table).where(table.c.id == version.id).values(required_by=required_by))  # type: ignore[arg-type]
    session.execute(sa.text(on or f"ALTER TABLE license_version ENABLE TRIGGER {name}"))
    session.refresh(version)


def sign(session: Session, user: User, now: datetime, number: str = "1.0.0", language: str = "en") -> Signature:
    """Bind a person to a version of the license, in a language."""
    version = license_versions(session, now)[number]
    texts = {rendition.language: rendition for rendition in version.renditions}
    shown = texts[language]
    ceremony = Ceremony(
        public_id=public_id("cer"), user_id=user.id, version_id=version.id, rendition_id=shown.id,
        nonce=public_id("non"), state=CeremonyState.SIGNED, opened_at=now, viewed_at=now,
        expires_at=now + timedelta(hours=2),
    )  # fmt: skip
    session.add(ceremony)
    session.flush()
    signature = Signature(
        public_id=public_id("sig"), ceremony_id=ceremony.id, user_id=user.id, version_id=version.id,
        rendition_id=shown.id, rendition_sha256=shown.text_sha256, prevailing_sha256=texts["en"].text_sha256,
        annex_commitment="0" * 64, signed_at=now - timedelta(days=30),
    )  # fmt: skip
    session.add(signature)
    session.flush()
    event = LicenseSigned(signature.public_id, f"{SLUG}/{number}", shown.text_sha256, signature.annex_commitment)
    audit.record(session, event, by=acting(user), now=now)
    session.flush()
    return signature
