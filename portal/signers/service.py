"""Who is bound by a license: all who signed a version of it, as campaigns and previews ask."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.accounts.rules import Standing
from portal.core.db import among
from portal.licensing.models import Annulment, LicenseVersion, Signature


def holders(
    session: Session, *, license_id: int, after_id: int = 0, since: datetime | None = None, limit: int | None = None
) -> list[int]:
    """Return, in order of their ids, the people with an open account who ever signed a version of a license.

    Args:
        since: only those who signed one at or after that instant.
    """
    query = sa.select(User.id).where(User.id > after_id, _holds(license_id, since)).order_by(User.id).limit(limit)
    return list(session.scalars(query))


def count_holders(session: Session, *, license_id: int) -> int:
    """Count the people with an open account who ever signed a version of a license."""
    return session.scalar(sa.select(sa.func.count()).select_from(User).where(_holds(license_id))) or 0


def _holds(license_id: int, since: datetime | None = None) -> sa.ColumnElement[bool]:
    signed = sa.select(Signature.id).join(LicenseVersion, LicenseVersion.id == Signature.version_id)
    signed = signed.where(Signature.user_id == User.id, LicenseVersion.license_id == license_id)
    if since is not None:
        signed = signed.where(Signature.signed_at >= since)
    return sa.and_(User.standing != Standing.CLOSED, signed.exists())


def signers(session: Session, *, version: LicenseVersion, user_ids: Sequence[int] | None = None) -> set[int]:
    """Return the people bound by a version or a later one of its license; of some people, or of everybody."""
    query = (
        sa.select(Signature.user_id)
        .join(LicenseVersion, LicenseVersion.id == Signature.version_id)
        .outerjoin(Annulment, Annulment.signature_id == Signature.id)
        .where(
            LicenseVersion.license_id == version.license_id, LicenseVersion.ordinal >= version.ordinal,
            Annulment.id.is_(None),
        )
    )  # fmt: skip
    if user_ids is not None:
        query = query.where(among(Signature.user_id, user_ids))
    return set(session.scalars(query))
