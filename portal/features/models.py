"""Table of what was measured of each use."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from portal.core.db import JSON_VALUE, Base, enum_type
from portal.features.rules import Look


class FeatureVector(Base):
    """What was measured of one use; never its text.

    Args:
        values: features that were known before or while an engine answered, and later ones once they are.
        digest: keyed digest of the prompt in plain form; equal prompts have equal ones, and nobody without the key can
            try texts on it.
        license, model_id, route: whose clauses and which rules it is a matter of.
        applied: what the data plane did at once, by the id of the rule.
        look: how far looking at the whole text has come.
    """

    __tablename__ = "feature_vector"

    usage_record_id: Mapped[int] = mapped_column(ForeignKey("usage_record.id", ondelete="RESTRICT"), primary_key=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"))
    at: Mapped[datetime] = mapped_column(index=True)
    values: Mapped[dict[str, Any]] = mapped_column("feature_values", JSON_VALUE)
    digest: Mapped[str]
    license: Mapped[str] = mapped_column(default="")
    model_id: Mapped[int | None] = mapped_column(ForeignKey("gated_model.id", ondelete="RESTRICT"))
    route: Mapped[str] = mapped_column(default="")
    applied: Mapped[dict[str, Any]] = mapped_column(JSON_VALUE, default=dict)
    look: Mapped[Look] = mapped_column(enum_type(Look, "look"))
    looked_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_feature_vector_user_at", "user_id", "at"),
        Index("ix_feature_vector_look_at", "look", "at"),
    )
