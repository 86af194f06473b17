"""Tables of detection rules, of how their versions came into force, and of what they hit."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.catalog.models import GatedModel
from portal.clauses.models import Clause
from portal.core.change import facts
from portal.core.db import Base, append_only, enum_type, freeze
from portal.detection.rules import Mode, Move, OnMissing, RuleOutcome
from portal.exemptions.rules import Purpose


class DetectionRule(Base):
    """One version of a detection rule; nothing of it changes but how far it has come."""

    __tablename__ = "detection_rule"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    slug: Mapped[str]
    version: Mapped[int]
    title: Mapped[str]
    license: Mapped[str]
    model_id: Mapped[int | None] = mapped_column(ForeignKey("gated_model.id", ondelete="RESTRICT"))
    route: Mapped[str] = mapped_column(default="")
    condition: Mapped[str]
    on_missing: Mapped[OnMissing] = mapped_column(enum_type(OnMissing, "on_missing"))
    outcome: Mapped[RuleOutcome] = mapped_column(enum_type(RuleOutcome, "outcome"))
    weight: Mapped[int] = mapped_column(default=1)
    per_hour: Mapped[int] = mapped_column(default=0)
    accounts_per_day: Mapped[int] = mapped_column(default=0)
    owner: Mapped[str]
    reviewer: Mapped[str] = mapped_column(default="")
    reason_text: Mapped[str]
    expires_at: Mapped[datetime]
    sha256: Mapped[str]
    written_by: Mapped[str]
    written_at: Mapped[datetime]
    mode: Mapped[Mode] = mapped_column(enum_type(Mode, "mode"), default=Mode.DRAFT)
    mode_since: Mapped[datetime]

    model: Mapped[GatedModel | None] = relationship(lazy="joined")
    cited: Mapped[list["RuleClause"]] = relationship(lazy="selectin", order_by="RuleClause.clause_id")
    examples: Mapped[list["RuleExample"]] = relationship(lazy="selectin", order_by="RuleExample.number")
    purposes: Mapped[list["RulePurpose"]] = relationship(lazy="selectin", order_by="RulePurpose.purpose")

    __table_args__ = (
        UniqueConstraint("slug", "version"),
        CheckConstraint("outcome NOT IN ('allow')", name="does_something"),
        CheckConstraint("weight > 0 AND per_hour >= 0 AND accounts_per_day >= 0", name="counts"),
        CheckConstraint("owner <> reviewer", name="two_people"),
        CheckConstraint("expires_at > written_at", name="life"),
        Index(
            "uq_detection_rule_enforcing", "slug", unique=True,
            sqlite_where=text("mode = 'enforcing'"), postgresql_where=text("mode = 'enforcing'"),
        ),
    )  # fmt: skip


freeze("detection_rule", "{row}.version > 0", free=("mode", "mode_since"))


@append_only()
class RuleClause(Base):
    """A clause that a rule cites."""

    __tablename__ = "rule_clause"

    rule_id: Mapped[int] = mapped_column(ForeignKey("detection_rule.id", ondelete="RESTRICT"), primary_key=True)
    clause_id: Mapped[int] = mapped_column(ForeignKey("clause.id", ondelete="RESTRICT"), primary_key=True)

    clause: Mapped[Clause] = relationship(lazy="joined")


@append_only()
class RulePurpose(Base):
    """A purpose of declared research that a rule makes way for."""

    __tablename__ = "rule_purpose"

    rule_id: Mapped[int] = mapped_column(ForeignKey("detection_rule.id", ondelete="RESTRICT"), primary_key=True)
    purpose: Mapped[Purpose] = mapped_column(enum_type(Purpose, "purpose"), primary_key=True)


@append_only()
class RuleExample(Base):
    """A prompt that a rule has to match, or has to let pass."""

    __tablename__ = "rule_example"

    rule_id: Mapped[int] = mapped_column(ForeignKey("detection_rule.id", ondelete="RESTRICT"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    matches: Mapped[bool]
    prompt: Mapped[str]


@append_only()
class RuleMove(Base):
    """That a version of a rule came into another mode, by whom and why."""

    __tablename__ = "rule_move"

    id: Mapped[int] = mapped_column(primary_key=True)
    rule_id: Mapped[int] = mapped_column(ForeignKey("detection_rule.id", ondelete="RESTRICT"), index=True)
    move: Mapped[Move] = mapped_column(enum_type(Move, "move"))
    mode: Mapped[Mode] = mapped_column(enum_type(Mode, "mode"))
    by: Mapped[str]
    at: Mapped[datetime]
    reason: Mapped[str] = mapped_column(default="")
    proposal_id: Mapped[int | None] = mapped_column(ForeignKey("proposal.id", ondelete="RESTRICT"))


@append_only("case_id")
class Hit(Base):
    """One version of a rule matched one use; `case_id` names the case that it went into (cases lie above)."""

    __tablename__ = "hit"

    id: Mapped[int] = mapped_column(primary_key=True)
    rule_id: Mapped[int] = mapped_column(ForeignKey("detection_rule.id", ondelete="RESTRICT"))
    usage_record_id: Mapped[int] = mapped_column(ForeignKey("usage_record.id", ondelete="RESTRICT"), index=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), index=True)
    at: Mapped[datetime]
    outcome: Mapped[RuleOutcome] = mapped_column(enum_type(RuleOutcome, "outcome"))
    applied: Mapped[RuleOutcome] = mapped_column(enum_type(RuleOutcome, "applied"))
    exemption_id: Mapped[int | None] = mapped_column(ForeignKey("exemption.id", ondelete="RESTRICT"))
    case_id: Mapped[int | None] = mapped_column(index=True)

    rule: Mapped[DetectionRule] = relationship()

    __table_args__ = (
        UniqueConstraint("rule_id", "usage_record_id"),
        Index("ix_hit_rule_at", "rule_id", "at"),
        Index(
            "ix_hit_waiting", "id", sqlite_where=text("case_id IS NULL AND applied NOT IN ('allow', 'tag')"),
            postgresql_where=text("case_id IS NULL AND applied NOT IN ('allow', 'tag')"),
        ),
    )  # fmt: skip


@append_only()
class CaseFinding(Base):
    """What people found about a case that hits went into; the newest about a case counts."""

    __tablename__ = "case_finding"

    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[int] = mapped_column(index=True)
    breach: Mapped[bool]
    at: Mapped[datetime]


# The data plane looks for another set of rules whenever the number of facts moves.
facts("rule_move")
