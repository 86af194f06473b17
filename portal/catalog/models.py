"""Tables of models, releases and model cards."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.catalog.rules import CardState, ModelState
from portal.core.db import Base, append_only, enum_type


class GatedModel(Base):
    """A model that the portal describes, and serves once it has a release."""

    __tablename__ = "gated_model"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    namespace: Mapped[str]
    name: Mapped[str]
    state: Mapped[ModelState] = mapped_column(enum_type(ModelState, "state"), default=ModelState.DRAFT)
    created_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("namespace", "name"),)

    @property
    def full_name(self) -> str:
        """The name by which clients ask: ``namespace/name``."""
        return f"{self.namespace}/{self.name}"


class CardRevision(Base):
    """One revision of a model card in one language: Hub-format Markdown by digest."""

    __tablename__ = "card_revision"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("gated_model.id", ondelete="RESTRICT"))
    number: Mapped[int]
    language: Mapped[str] = mapped_column(default="en")
    text_sha256: Mapped[str] = mapped_column(ForeignKey("text.sha256", ondelete="RESTRICT"))
    state: Mapped[CardState] = mapped_column(enum_type(CardState, "state"), default=CardState.DRAFT)
    note: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime]
    created_by: Mapped[str]
    published_at: Mapped[datetime | None]

    model: Mapped[GatedModel] = relationship(lazy="joined")

    __table_args__ = (
        UniqueConstraint("model_id", "number", "language"),
        Index(
            "uq_card_revision_draft", "model_id", "language", unique=True,
            sqlite_where=text("state = 'draft'"), postgresql_where=text("state = 'draft'"),
        ),
    )  # fmt: skip


@append_only()
class Release(Base):
    """A published commit of a model with the card revision and license number that it was published under."""

    __tablename__ = "release"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("gated_model.id", ondelete="RESTRICT"))
    revision: Mapped[str]
    card_revision_id: Mapped[int] = mapped_column(ForeignKey("card_revision.id", ondelete="RESTRICT"))
    license_slug: Mapped[str]
    license_number: Mapped[str]
    published_at: Mapped[datetime]

    model: Mapped[GatedModel] = relationship(lazy="joined")

    __table_args__ = (UniqueConstraint("model_id", "revision"),)
