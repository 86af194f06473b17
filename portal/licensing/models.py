"""Tables of licenses, their versions, and signatures with all that was shown before signing."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.core.db import Base, append_only, enum_type
from portal.licensing.rules import (
    AttestationKind,
    CeremonyState,
    ExhibitKind,
    LicenseKind,
    Materiality,
    VersionState,
)  # fmt: skip


class License(Base):
    """A license by its slug; its words are in its versions."""

    __tablename__ = "license"

    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(unique=True)
    title: Mapped[str]
    spdx: Mapped[str]
    kind: Mapped[LicenseKind] = mapped_column(enum_type(LicenseKind, "kind"), default=LicenseKind.LICENSE)


class LicenseVersion(Base):
    """One version of a license: its place in the row of versions, its weight and its dates."""

    __tablename__ = "license_version"

    id: Mapped[int] = mapped_column(primary_key=True)
    license_id: Mapped[int] = mapped_column(ForeignKey("license.id", ondelete="RESTRICT"))
    number: Mapped[str]
    ordinal: Mapped[int]
    state: Mapped[VersionState] = mapped_column(enum_type(VersionState, "state"), default=VersionState.DRAFT)
    materiality: Mapped[Materiality | None] = mapped_column(enum_type(Materiality, "materiality"))
    effective_at: Mapped[datetime | None]
    required_by: Mapped[datetime | None]
    predecessor_id: Mapped[int | None] = mapped_column(ForeignKey("license_version.id", ondelete="RESTRICT"))
    summary: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[datetime]
    created_by: Mapped[str]

    license: Mapped[License] = relationship(lazy="joined")
    renditions: Mapped[list["Rendition"]] = relationship(
        back_populates="version", lazy="selectin", order_by="Rendition.language"
    )

    __table_args__ = (
        UniqueConstraint("license_id", "number"),
        UniqueConstraint("license_id", "ordinal"),
        UniqueConstraint("license_id", "effective_at"),
        CheckConstraint("required_by >= effective_at", name="dates"),
        CheckConstraint("state = 'draft' OR (effective_at IS NOT NULL AND materiality IS NOT NULL)", name="published"),
        Index(
            "uq_license_version_draft", "license_id", unique=True,
            sqlite_where=text("state = 'draft'"), postgresql_where=text("state = 'draft'"),
        ),
    )  # fmt: skip


class Rendition(Base):
    """A license version in one language: exact bytes by digest; one language prevails."""

    __tablename__ = "rendition"

    id: Mapped[int] = mapped_column(primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("license_version.id", ondelete="RESTRICT"))
    language: Mapped[str]
    text_sha256: Mapped[str] = mapped_column(ForeignKey("text.sha256", ondelete="RESTRICT"))
    prevailing: Mapped[bool] = mapped_column(default=False)

    version: Mapped[LicenseVersion] = relationship(back_populates="renditions")

    __table_args__ = (
        UniqueConstraint("version_id", "language"),
        UniqueConstraint("id", "text_sha256"),
        Index(
            "uq_rendition_prevailing", "version_id", unique=True,
            sqlite_where=text("prevailing"), postgresql_where=text("prevailing"),
        ),
    )  # fmt: skip


class Ceremony(Base):
    """One sitting in which one person is shown a license version and signs, or does not."""

    __tablename__ = "ceremony"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), index=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("license_version.id", ondelete="RESTRICT"))
    rendition_id: Mapped[int] = mapped_column(ForeignKey("rendition.id", ondelete="RESTRICT"))
    nonce: Mapped[str] = mapped_column(unique=True)
    state: Mapped[CeremonyState] = mapped_column(enum_type(CeremonyState, "state"), default=CeremonyState.OPEN)
    opened_at: Mapped[datetime]
    expires_at: Mapped[datetime]


@append_only()
class Exhibit(Base):
    """One thing shown in a ceremony, by digest."""

    __tablename__ = "exhibit"

    id: Mapped[int] = mapped_column(primary_key=True)
    ceremony_id: Mapped[int] = mapped_column(ForeignKey("ceremony.id", ondelete="RESTRICT"), index=True)
    kind: Mapped[ExhibitKind] = mapped_column(enum_type(ExhibitKind, "kind"))
    ref: Mapped[str]
    sha256: Mapped[str]
    shown_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("ceremony_id", "kind", "ref"),)


@append_only()
class Attestation(Base):
    """An answer given in a ceremony; a question without an answer has no row."""

    __tablename__ = "attestation"

    id: Mapped[int] = mapped_column(primary_key=True)
    ceremony_id: Mapped[int] = mapped_column(ForeignKey("ceremony.id", ondelete="RESTRICT"), index=True)
    kind: Mapped[AttestationKind] = mapped_column(enum_type(AttestationKind, "kind"))
    clause_id: Mapped[int | None] = mapped_column(ForeignKey("clause.id", ondelete="RESTRICT"))
    wording_sha256: Mapped[str]
    answer: Mapped[bool]
    at: Mapped[datetime]

    __table_args__ = (
        UniqueConstraint("ceremony_id", "kind", "clause_id"),
        CheckConstraint("(kind = 'restriction') = (clause_id IS NOT NULL)", name="restriction_clause"),
    )


@append_only()
class Signature(Base):
    """A person bound to one exact text. Never changed, never deleted; the row is the record."""

    __tablename__ = "signature"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    ceremony_id: Mapped[int] = mapped_column(ForeignKey("ceremony.id", ondelete="RESTRICT"), unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), index=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("license_version.id", ondelete="RESTRICT"), index=True)
    rendition_id: Mapped[int] = mapped_column(ForeignKey("rendition.id", ondelete="RESTRICT"))
    rendition_sha256: Mapped[str]
    prevailing_sha256: Mapped[str]
    annex_commitment: Mapped[str]
    method: Mapped[str] = mapped_column(default="typed_name")
    signed_at: Mapped[datetime]

    version: Mapped[LicenseVersion] = relationship(lazy="joined")
    rendition: Mapped[Rendition] = relationship(lazy="joined", foreign_keys=[rendition_id])


class SignatureAnnex(Base):
    """What is personal in a signature's evidence, deletable; the signature keeps only a commitment to it."""

    __tablename__ = "signature_annex"

    signature_id: Mapped[int] = mapped_column(ForeignKey("signature.id", ondelete="RESTRICT"), primary_key=True)
    salt: Mapped[bytes]
    evidence: Mapped[bytes]


@append_only()
class SignatureSet(Base):
    """A combination of signatures that deliveries and usage relied on; named by the digest of the sorted ids."""

    __tablename__ = "signature_set"

    sha256: Mapped[str] = mapped_column(primary_key=True)


@append_only()
class SignatureSetItem(Base):
    """A signature in a set."""

    __tablename__ = "signature_set_item"

    sha256: Mapped[str] = mapped_column(ForeignKey("signature_set.sha256", ondelete="RESTRICT"), primary_key=True)
    signature_id: Mapped[int] = mapped_column(ForeignKey("signature.id", ondelete="RESTRICT"), primary_key=True)
