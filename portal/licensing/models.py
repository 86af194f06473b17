"""Tables of licenses, their versions, and signatures with all that was shown before signing."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.core.db import Base, append_only, enum_type, freeze
from portal.licensing.rules import (
    AnnulmentKind,
    AttestationKind,
    CeremonyState,
    ExhibitKind,
    LicenseKind,
    Materiality,
    ReviewFinding,
    VersionState,
)  # fmt: skip

OPEN = "('draft', 'in_review')"
UNDATED = "('draft', 'in_review', 'approved')"


class License(Base):
    """A license by its slug; its words are in its versions."""

    __tablename__ = "license"

    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(unique=True)
    title: Mapped[str]
    spdx: Mapped[str]
    kind: Mapped[LicenseKind] = mapped_column(enum_type(LicenseKind, "kind"), default=LicenseKind.LICENSE)
    # From this weight on, a body of the licensor votes on each version; None where the licensor needs no vote.
    vote_from: Mapped[Materiality | None] = mapped_column(enum_type(Materiality, "vote_from"))


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
    approved_by: Mapped[str | None]
    floor_proposal_id: Mapped[int | None] = mapped_column(ForeignKey("proposal.id", ondelete="RESTRICT"))

    license: Mapped[License] = relationship(lazy="joined")
    renditions: Mapped[list["Rendition"]] = relationship(
        back_populates="version", lazy="selectin", order_by="Rendition.language"
    )

    __table_args__ = (
        UniqueConstraint("license_id", "number"),
        UniqueConstraint("license_id", "ordinal"),
        UniqueConstraint("license_id", "effective_at"),
        CheckConstraint("required_by >= effective_at", name="dates"),
        CheckConstraint(f"state IN {UNDATED} OR effective_at IS NOT NULL OR state = 'retired'", name="dated"),
        CheckConstraint(f"state NOT IN {UNDATED} OR effective_at IS NULL", name="undated"),
        CheckConstraint(f"state IN {OPEN} OR materiality IS NOT NULL", name="weighed"),
        CheckConstraint(f"state IN {OPEN} OR approved_by IS NOT NULL", name="approved"),
        CheckConstraint("approved_by <> created_by OR approved_by = 'system'", name="two_people"),
        Index(
            "uq_license_version_draft", "license_id", unique=True,
            sqlite_where=text(f"state IN {UNDATED}"), postgresql_where=text(f"state IN {UNDATED}"),
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


# From approval on, what a version says is held by the database itself; only its place in life and, until it is in
# force, its dates move on.
freeze(
    "license_version", f"{{row}}.state NOT IN {OPEN}",
    free=("state", "effective_at", "required_by"),
)  # fmt: skip
freeze(
    "license_version", "{row}.state IN ('in_force', 'superseded', 'retired')", free=("state",),
    name="license_version_dates",
)  # fmt: skip
freeze(
    "rendition",
    "EXISTS (SELECT 1 FROM license_version v WHERE v.id = {row}.version_id AND v.state NOT IN ('draft', 'in_review'))",
)
freeze(
    "clause_change",
    "EXISTS (SELECT 1 FROM rendition r JOIN license_version v ON v.id = r.version_id "
    "JOIN rendition p ON p.version_id = v.predecessor_id WHERE r.text_sha256 = {row}.to_sha256 "
    "AND p.text_sha256 = {row}.from_sha256 AND v.state NOT IN ('draft', 'in_review'))",
)
freeze(
    "clause_text",
    "EXISTS (SELECT 1 FROM rendition r JOIN license_version v ON v.id = r.version_id "
    "WHERE r.text_sha256 = {row}.text_sha256 AND v.state NOT IN ('draft', 'in_review'))",
)


@append_only()
class VersionAuthor(Base):
    """Somebody whose hand is in a version: they drafted, edited or submitted it, so they do not approve it."""

    __tablename__ = "version_author"

    version_id: Mapped[int] = mapped_column(ForeignKey("license_version.id", ondelete="RESTRICT"), primary_key=True)
    author: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]


@append_only()
class VersionComment(Base):
    """What a member of staff remarked on a version, on a language or clause of it or on the whole."""

    __tablename__ = "version_comment"

    id: Mapped[int] = mapped_column(primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("license_version.id", ondelete="RESTRICT"), index=True)
    by: Mapped[str]
    at: Mapped[datetime]
    language: Mapped[str] = mapped_column(default="")
    clause_key: Mapped[str] = mapped_column(default="")
    words: Mapped[str]


@append_only()
class Resolution(Base):
    """The vote by which a body of the licensor resolved on what a version said then; its minutes by digest."""

    __tablename__ = "resolution"

    id: Mapped[int] = mapped_column(primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("license_version.id", ondelete="RESTRICT"))
    shown_sha256: Mapped[str]
    body: Mapped[str]
    minutes_sha256: Mapped[str]
    votes_for: Mapped[int]
    votes_against: Mapped[int]
    votes_abstain: Mapped[int]
    decided_at: Mapped[datetime]
    recorded_by: Mapped[str]
    recorded_at: Mapped[datetime]

    __table_args__ = (
        UniqueConstraint("version_id", "shown_sha256"),
        CheckConstraint("votes_for >= 0 AND votes_against >= 0 AND votes_abstain >= 0", name="votes"),
        CheckConstraint("votes_for > votes_against", name="carried"),
    )


@append_only("overdue_at", "reviewed_by", "reviewed_at", "finding", "words")
class AfterReview(Base):
    """A second look at a version that two people put in force at once: by when, and once somebody took it, what of it.

    Args:
        overdue_at: when staff were told that nobody looked in time.
    """

    __tablename__ = "after_review"

    version_id: Mapped[int] = mapped_column(ForeignKey("license_version.id", ondelete="RESTRICT"), primary_key=True)
    proposal_id: Mapped[int] = mapped_column(ForeignKey("proposal.id", ondelete="RESTRICT"), unique=True)
    due_at: Mapped[datetime]
    overdue_at: Mapped[datetime | None]
    reviewed_by: Mapped[str | None]
    reviewed_at: Mapped[datetime | None]
    finding: Mapped[ReviewFinding | None] = mapped_column(enum_type(ReviewFinding, "finding"))
    words: Mapped[str | None]

    version: Mapped[LicenseVersion] = relationship(lazy="joined")

    __table_args__ = (
        CheckConstraint(
            "(reviewed_at IS NULL) = (reviewed_by IS NULL) AND (reviewed_at IS NULL) = (finding IS NULL) "
            "AND (reviewed_at IS NULL) = (words IS NULL)", name="whole",
        ),
    )  # fmt: skip


class Ceremony(Base):
    """One sitting in which one person is shown a license version and signs, declines, or does neither."""

    __tablename__ = "ceremony"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), index=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("license_version.id", ondelete="RESTRICT"))
    rendition_id: Mapped[int] = mapped_column(ForeignKey("rendition.id", ondelete="RESTRICT"))
    nonce: Mapped[str] = mapped_column(unique=True)
    state: Mapped[CeremonyState] = mapped_column(enum_type(CeremonyState, "state"), default=CeremonyState.OPEN)
    opened_at: Mapped[datetime]
    viewed_at: Mapped[datetime]
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


@append_only()
class Decline(Base):
    """A person said in a ceremony that they do not sign; signing stays open."""

    __tablename__ = "decline"

    id: Mapped[int] = mapped_column(primary_key=True)
    ceremony_id: Mapped[int] = mapped_column(ForeignKey("ceremony.id", ondelete="RESTRICT"), unique=True)
    reason_code: Mapped[str]
    at: Mapped[datetime]


@append_only()
class Reconfirmation(Base):
    """Somebody bound by a license is to sign it again for the sake of a model; a signature after that does it."""

    __tablename__ = "reconfirmation"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), index=True)
    license_id: Mapped[int] = mapped_column(ForeignKey("license.id", ondelete="RESTRICT"))
    model_id: Mapped[int] = mapped_column(ForeignKey("gated_model.id", ondelete="RESTRICT"))
    ordered_at: Mapped[datetime]
    ordered_by: Mapped[str]


@append_only()
class Annulment(Base):
    """A signature stopped binding: withdrawn by its signer, or made in error and voided by two people."""

    __tablename__ = "annulment"

    id: Mapped[int] = mapped_column(primary_key=True)
    signature_id: Mapped[int] = mapped_column(ForeignKey("signature.id", ondelete="RESTRICT"), unique=True)
    kind: Mapped[AnnulmentKind] = mapped_column(enum_type(AnnulmentKind, "kind"))
    by: Mapped[str]
    proposal_id: Mapped[int | None] = mapped_column(ForeignKey("proposal.id", ondelete="RESTRICT"))
    reason_code: Mapped[str]
    at: Mapped[datetime]

    __table_args__ = (CheckConstraint("(kind = 'withdrawn') = (proposal_id IS NULL)", name="two_people"),)


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
