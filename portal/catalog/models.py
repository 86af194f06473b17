"""Tables of models, releases and model cards."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.catalog.rules import PREVAILING, CardState, ModelState, RepoKind, named
from portal.core.db import Base, append_only, enum_type
from portal.items.rules import ItemKind, Severity


class GatedModel(Base):
    """A model that the portal describes, and serves once it has a release; or, of the other kind, a dataset."""

    __tablename__ = "gated_model"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[RepoKind] = mapped_column(enum_type(RepoKind, "kind"), default=RepoKind.MODEL)
    namespace: Mapped[str]
    name: Mapped[str]
    state: Mapped[ModelState] = mapped_column(enum_type(ModelState, "state"), default=ModelState.DRAFT)
    created_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("kind", "namespace", "name"),)

    @property
    def full_name(self) -> str:
        """The name by which everybody asks: ``namespace/name``, and ``datasets/namespace/name`` of a dataset."""
        return named(self.kind, self.namespace, self.name)

    @property
    def hub_id(self) -> str:
        """The name as Hub clients write it beside the kind: ``namespace/name``."""
        return f"{self.namespace}/{self.name}"


@append_only()
class FormerName(Base):
    """A name that a model or dataset had before; it leads to it for ever, and nothing else takes it."""

    __tablename__ = "former_name"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[RepoKind] = mapped_column(enum_type(RepoKind, "kind"))
    namespace: Mapped[str]
    name: Mapped[str]
    model_id: Mapped[int] = mapped_column(ForeignKey("gated_model.id", ondelete="RESTRICT"))
    given_up_at: Mapped[datetime]

    model: Mapped[GatedModel] = relationship(lazy="joined")

    __table_args__ = (UniqueConstraint("kind", "namespace", "name"),)


class CardRevision(Base):
    """One revision of a model card in one language: Hub-format Markdown by digest.

    Args:
        translates_id: of a rendition in another language: the revision whose words it says in that language.
    """

    __tablename__ = "card_revision"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("gated_model.id", ondelete="RESTRICT"))
    number: Mapped[int]
    language: Mapped[str] = mapped_column(default=PREVAILING)
    translates_id: Mapped[int | None] = mapped_column(ForeignKey("card_revision.id", ondelete="RESTRICT"))
    text_sha256: Mapped[str] = mapped_column(ForeignKey("text.sha256", ondelete="RESTRICT"))
    state: Mapped[CardState] = mapped_column(enum_type(CardState, "state"), default=CardState.DRAFT)
    note: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime]
    created_by: Mapped[str]
    published_at: Mapped[datetime | None]

    model: Mapped[GatedModel] = relationship(lazy="joined")
    translates: Mapped["CardRevision | None"] = relationship(remote_side="CardRevision.id")

    __table_args__ = (
        UniqueConstraint("model_id", "number", "language"),
        CheckConstraint(f"(language = '{PREVAILING}') = (translates_id IS NULL)", name="translates"),
        Index(
            "uq_card_revision_draft", "model_id", "language", unique=True,
            sqlite_where=text("state = 'draft'"), postgresql_where=text("state = 'draft'"),
        ),
    )  # fmt: skip


@append_only()
class CardItem(Base):
    """One thing that a published card revision says, taken from its text when it was published."""

    __tablename__ = "card_item"

    id: Mapped[int] = mapped_column(primary_key=True)
    revision_id: Mapped[int] = mapped_column(ForeignKey("card_revision.id", ondelete="RESTRICT"))
    stable_key: Mapped[str]
    kind: Mapped[ItemKind] = mapped_column(enum_type(ItemKind, "kind"))
    severity: Mapped[Severity] = mapped_column(enum_type(Severity, "severity"))
    wording: Mapped[str]
    line: Mapped[int]

    __table_args__ = (UniqueConstraint("revision_id", "stable_key"),)


@append_only()
class CardItemClause(Base):
    """A license clause that an item stands behind."""

    __tablename__ = "card_item_clause"

    item_id: Mapped[int] = mapped_column(ForeignKey("card_item.id", ondelete="RESTRICT"), primary_key=True)
    clause_id: Mapped[int] = mapped_column(ForeignKey("clause.id", ondelete="RESTRICT"), primary_key=True, index=True)


@append_only()
class CardItemPurpose(Base):
    """An intended use that an item touches, itself an item of the same card."""

    __tablename__ = "card_item_purpose"

    item_id: Mapped[int] = mapped_column(ForeignKey("card_item.id", ondelete="RESTRICT"), primary_key=True)
    purpose_id: Mapped[int] = mapped_column(ForeignKey("card_item.id", ondelete="RESTRICT"), primary_key=True)


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


def by_name(words: str = "") -> sa.Select[GatedModel]:
    """Return the query of models in the order of their names, of those alone whose name holds some words."""
    query = sa.select(GatedModel).order_by(GatedModel.namespace, GatedModel.name)
    return query.where(named_like(words)) if words else query


def named_like(words: str) -> sa.ColumnElement[bool]:
    """Return the condition that a model's name holds some words, whatever their case."""
    return (GatedModel.namespace + "/" + GatedModel.name).icontains(words, autoescape=True)
