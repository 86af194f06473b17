"""The first schema."""

import sqlalchemy as sa
from alembic import op

from portal.core.change import facts_ddl, facts_start_ddl
from portal.core.db import JSON_VALUE, Utc, append_only_ddl, frozen_ddl

revision = "0001"
down_revision = None

FACTS = {
    "access_request": [
        "asked_at",
        "form_id",
        "id",
        "may_reapply_at",
        "model_id",
        "moved_at",
        "moved_by",
        "public_id",
        "purpose",
        "reason",
        "state",
        "user_id",
    ],
    "access_token": [
        "created_at",
        "expires_at",
        "grant_id",
        "hmac",
        "id",
        "last4",
        "public_id",
        "revoked_at",
        "signature_set",
        "state",
        "user_id",
    ],
    "access_token_model": ["access_token_id", "model_id"],
    "access_token_scope": ["access_token_id", "scope"],
    "annulment": ["at", "by", "id", "kind", "proposal_id", "reason_code", "signature_id"],
    "decline": ["at", "ceremony_id", "id", "reason_code"],
    "entitlement": ["access_request_id", "id", "model_id", "public_id", "user_id", "valid_from", "valid_to"],
    "entitlement_end": ["at", "by", "entitlement_id", "id", "kind"],
    "exemption": [
        "approved_at",
        "approved_by",
        "end_reason",
        "ended_at",
        "ended_by",
        "id",
        "license",
        "model_id",
        "public_id",
        "purpose",
        "safeguards",
        "user_id",
        "valid_from",
        "valid_to",
    ],
    "former_name": ["given_up_at", "id", "kind", "model_id", "name", "namespace"],
    "gated_model": ["created_at", "id", "kind", "name", "namespace", "public_id", "state"],
    "license": ["id", "kind", "slug", "spdx", "title", "vote_from"],
    "license_version": [
        "approved_by",
        "created_at",
        "created_by",
        "effective_at",
        "floor_proposal_id",
        "id",
        "license_id",
        "materiality",
        "number",
        "ordinal",
        "predecessor_id",
        "required_by",
        "state",
        "summary",
    ],
    "notice_event": ["at", "channel", "id", "notice_id", "rung"],
    "phrase_bank": [
        "added_at",
        "added_by",
        "clause",
        "id",
        "language",
        "name",
        "patterns",
        "phrases",
        "says",
        "version",
    ],
    "profile": ["affiliation", "country", "email", "locale", "name", "user_id", "verified_at"],
    "quota": ["calls", "set_at", "set_by", "text_tokens", "user_id"],
    "reconfirmation": ["id", "license_id", "model_id", "ordered_at", "ordered_by", "user_id"],
    "ref": ["commit_id", "id", "kind", "model_id", "name"],
    "release": [
        "card_revision_id",
        "id",
        "license_number",
        "license_slug",
        "model_id",
        "public_id",
        "published_at",
        "revision",
    ],
    "request_form": ["created_at", "created_by", "days", "id", "mode", "model_id", "number", "question"],
    "requirement": ["action", "follows", "grace", "id", "license_id", "model_id", "valid_from", "valid_to"],
    "retention": ["days", "model_id", "set_at", "set_by"],
    "rule_move": ["at", "by", "id", "mode", "move", "proposal_id", "reason", "rule_id"],
    "sanction": [
        "action",
        "calls",
        "confirmed_at",
        "decision_ref",
        "ended_at",
        "id",
        "kind",
        "lapses_at",
        "public_id",
        "starts_at",
        "target",
        "text_tokens",
        "until",
        "user_id",
    ],
    "signature": [
        "annex_commitment",
        "ceremony_id",
        "id",
        "method",
        "prevailing_sha256",
        "public_id",
        "rendition_id",
        "rendition_sha256",
        "signed_at",
        "user_id",
        "version_id",
    ],
    "user_account": ["created_at", "id", "public_id", "standing", "standing_ref", "standing_until"],
}
FROZEN = {
    "clause_change": (
        "clause_change",
        ["clause_id", "explanation", "from_sha256", "id", "relation", "to_sha256"],
        "EXISTS (SELECT 1 FROM rendition r JOIN license_version v ON v.id = r.version_id JOIN rendition p ON p.version_id = v.predecessor_id WHERE r.text_sha256 = {row}.to_sha256 AND p.text_sha256 = {row}.from_sha256 AND v.state NOT IN ('draft', 'in_review'))",
        [],
    ),
    "clause_text": (
        "clause_text",
        ["clause_id", "id", "label", "ordinal", "sha256", "span_end", "span_start", "text_sha256"],
        "EXISTS (SELECT 1 FROM rendition r JOIN license_version v ON v.id = r.version_id WHERE r.text_sha256 = {row}.text_sha256 AND v.state NOT IN ('draft', 'in_review'))",
        [],
    ),
    "detection_rule": (
        "detection_rule",
        [
            "accounts_per_day",
            "condition",
            "expires_at",
            "id",
            "license",
            "mode",
            "mode_since",
            "model_id",
            "on_missing",
            "outcome",
            "owner",
            "per_hour",
            "public_id",
            "reason_text",
            "reviewer",
            "route",
            "sha256",
            "slug",
            "title",
            "version",
            "weight",
            "written_at",
            "written_by",
        ],
        "{row}.version > 0",
        ["mode", "mode_since"],
    ),
    "license_version": (
        "license_version",
        [
            "approved_by",
            "created_at",
            "created_by",
            "effective_at",
            "floor_proposal_id",
            "id",
            "license_id",
            "materiality",
            "number",
            "ordinal",
            "predecessor_id",
            "required_by",
            "state",
            "summary",
        ],
        "{row}.state NOT IN ('draft', 'in_review')",
        ["effective_at", "required_by", "state"],
    ),
    "license_version_dates": (
        "license_version",
        [
            "approved_by",
            "created_at",
            "created_by",
            "effective_at",
            "floor_proposal_id",
            "id",
            "license_id",
            "materiality",
            "number",
            "ordinal",
            "predecessor_id",
            "required_by",
            "state",
            "summary",
        ],
        "{row}.state IN ('in_force', 'superseded', 'retired')",
        ["state"],
    ),
    "rendition": (
        "rendition",
        ["id", "language", "prevailing", "text_sha256", "version_id"],
        "EXISTS (SELECT 1 FROM license_version v WHERE v.id = {row}.version_id AND v.state NOT IN ('draft', 'in_review'))",
        [],
    ),
}
APPEND_ONLY = {
    "access_request_purpose": (["access_request_id", "stable_key"], []),
    "acknowledgment": (["at", "campaign_id", "shown_sha256", "user_id"], []),
    "after_review": (
        ["due_at", "finding", "overdue_at", "proposal_id", "reviewed_at", "reviewed_by", "version_id", "words"],
        ["finding", "overdue_at", "reviewed_at", "reviewed_by", "words"],
    ),
    "annulment": (["at", "by", "id", "kind", "proposal_id", "reason_code", "signature_id"], []),
    "appeal_message": (["appeal_id", "at", "author", "id", "words"], []),
    "attestation": (["answer", "at", "ceremony_id", "clause_id", "id", "kind", "wording_sha256"], []),
    "audit_event": (["actor", "at", "data", "id", "name", "public_id", "subject"], []),
    "backtest": (
        ["asked_at", "asked_by", "days", "done_at", "id", "public_id", "result", "rule_id", "since", "total", "until"],
        ["done_at", "result"],
    ),
    "backtest_part": (["backtest_id", "last_id", "looked", "tally"], []),
    "batch": (
        [
            "body",
            "case_ref",
            "confirmed_by",
            "executed_at",
            "id",
            "made_at",
            "made_by",
            "public_id",
            "sha256",
            "size",
            "undone_at",
            "undone_by",
        ],
        ["confirmed_by", "executed_at", "undone_at", "undone_by"],
    ),
    "blob": (["parameters", "sha256", "size", "stored_at"], []),
    "campaign_purpose": (["campaign_id", "stable_key"], []),
    "card_item": (["id", "kind", "line", "revision_id", "severity", "stable_key", "wording"], []),
    "card_item_clause": (["clause_id", "item_id"], []),
    "card_item_purpose": (["item_id", "purpose_id"], []),
    "card_plot": (["id", "ordinal", "revision_id", "svg", "title"], []),
    "card_review": (["at", "by", "id", "next_at", "note", "revision_id"], []),
    "case_finding": (["at", "breach", "case_id", "id"], []),
    "case_link": (["case_id", "kind", "ref"], []),
    "case_note": (["at", "author", "case_id", "id", "words"], []),
    "checkpoint": (["note", "root", "signed_at", "signer", "size", "successor"], []),
    "clause_text": (["clause_id", "id", "label", "ordinal", "sha256", "span_end", "span_start", "text_sha256"], []),
    "commit_": (["author", "created_at", "id", "message", "model_id", "parent_id", "revision", "title"], []),
    "cosignature": (["line", "size", "witness", "witnessed_at"], []),
    "daily_checkpoint": (["day", "noted_at", "size", "token"], ["token"]),
    "decline": (["at", "ceremony_id", "id", "reason_code"], []),
    "delivery": (
        [
            "access_token_id",
            "card_revision_id",
            "completed_at",
            "file_sha256",
            "id",
            "opened_at",
            "path",
            "public_id",
            "release_id",
            "signature_set",
            "size",
            "user_id",
        ],
        ["completed_at"],
    ),
    "delivery_part": (
        ["bytes_sent", "delivery_id", "finished_at", "id", "opened_at", "range_start", "request_id"],
        ["bytes_sent", "finished_at"],
    ),
    "entitlement": (["access_request_id", "id", "model_id", "public_id", "user_id", "valid_from", "valid_to"], []),
    "entitlement_end": (["at", "by", "entitlement_id", "id", "kind"], []),
    "evidence": (["body", "case_id", "id", "sha256", "taken_at", "taken_by"], []),
    "evidence_hold": (["because", "case_id", "id", "released_at", "set_at"], ["released_at"]),
    "exemption": (
        [
            "approved_at",
            "approved_by",
            "end_reason",
            "ended_at",
            "ended_by",
            "id",
            "license",
            "model_id",
            "public_id",
            "purpose",
            "safeguards",
            "user_id",
            "valid_from",
            "valid_to",
        ],
        ["end_reason", "ended_at", "ended_by"],
    ),
    "exemption_clause": (["clause_id", "exemption_id"], []),
    "exhibit": (["ceremony_id", "id", "kind", "ref", "sha256", "shown_at"], []),
    "former_name": (["given_up_at", "id", "kind", "model_id", "name", "namespace"], []),
    "hit": (
        ["applied", "at", "case_id", "exemption_id", "id", "outcome", "rule_id", "usage_record_id", "user_id"],
        ["case_id"],
    ),
    "leaf": (["commitment", "event_ref", "id", "index"], ["index"]),
    "monthly_report": (["body", "month", "published_at", "sha256"], []),
    "node": (["hash", "index", "level"], []),
    "notice_event": (["at", "channel", "id", "notice_id", "rung"], []),
    "phrase_bank": (
        ["added_at", "added_by", "clause", "id", "language", "name", "patterns", "phrases", "says", "version"],
        [],
    ),
    "preview": (
        [
            "asked_at",
            "asked_by",
            "done_at",
            "effective_at",
            "id",
            "inputs_sha256",
            "people",
            "public_id",
            "required_by",
            "result",
            "version_id",
        ],
        ["done_at", "result"],
    ),
    "preview_person": (["lot", "preview_id", "reachable", "stops_at", "user_id"], []),
    "preview_stop": (["access_token_id", "preview_id", "stops_at"], []),
    "proposal": (
        [
            "action",
            "confirmed_at",
            "confirmed_by",
            "expires_at",
            "id",
            "page",
            "payload",
            "payload_sha256",
            "proposed_at",
            "proposed_by",
            "public_id",
            "subject_ref",
        ],
        ["confirmed_at", "confirmed_by"],
    ),
    "receipt": (
        ["id", "made_at", "number", "pdf_sha256", "statement_sha256", "subject_ref", "time", "timestamped_at"],
        [],
    ),
    "reconfirmation": (["id", "license_id", "model_id", "ordered_at", "ordered_by", "user_id"], []),
    "release": (
        [
            "card_revision_id",
            "id",
            "license_number",
            "license_slug",
            "model_id",
            "public_id",
            "published_at",
            "revision",
        ],
        [],
    ),
    "request_form": (["created_at", "created_by", "days", "id", "mode", "model_id", "number", "question"], []),
    "resolution": (
        [
            "body",
            "decided_at",
            "id",
            "minutes_sha256",
            "recorded_at",
            "recorded_by",
            "shown_sha256",
            "version_id",
            "votes_abstain",
            "votes_against",
            "votes_for",
        ],
        [],
    ),
    "reveal": (["at", "case_id", "id", "public_id", "reader_id", "reason"], []),
    "revealed_text": (["request_id", "reveal_id", "user_id"], []),
    "rule_clause": (["clause_id", "rule_id"], []),
    "rule_example": (["matches", "number", "prompt", "rule_id"], []),
    "rule_move": (["at", "by", "id", "mode", "move", "proposal_id", "reason", "rule_id"], []),
    "rule_purpose": (["purpose", "rule_id"], []),
    "sanction": (
        [
            "action",
            "calls",
            "confirmed_at",
            "decision_ref",
            "ended_at",
            "id",
            "kind",
            "lapses_at",
            "public_id",
            "starts_at",
            "target",
            "text_tokens",
            "until",
            "user_id",
        ],
        ["confirmed_at", "ended_at"],
    ),
    "signature": (
        [
            "annex_commitment",
            "ceremony_id",
            "id",
            "method",
            "prevailing_sha256",
            "public_id",
            "rendition_id",
            "rendition_sha256",
            "signed_at",
            "user_id",
            "version_id",
        ],
        [],
    ),
    "signature_set": (["sha256"], []),
    "signature_set_item": (["sha256", "signature_id"], []),
    "statement_clause": (["clause_id", "statement_id"], []),
    "statement_of_reasons": (
        [
            "appeal_by",
            "automation",
            "facts",
            "id",
            "notice",
            "notice_sha256",
            "restricted",
            "signature_id",
            "source",
            "until",
            "version_id",
        ],
        [],
    ),
    "strike": (["at", "decision_ref", "id", "overruled_at", "user_id", "weight"], ["overruled_at"]),
    "text": (["body", "media_type", "sha256"], []),
    "token_sighting": (["access_token_id", "id", "place", "seen_at", "source"], []),
    "tree_entry": (["blob_sha256", "commit_id", "folder", "git_oid", "id", "lfs", "path", "size"], []),
    "usage_seal": (["day", "last_id", "number", "records", "sealed_at", "sha256"], []),
    "version_author": (["at", "author", "version_id"], []),
    "version_comment": (["at", "by", "clause_key", "id", "language", "version_id", "words"], []),
}


def upgrade() -> None:
    op.create_table(
        "answered_challenge",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_answered_challenge")),
    )
    op.create_index(op.f("ix_answered_challenge_at"), "answered_challenge", ["at"], unique=False)
    op.create_table(
        "audit_event",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("data", JSON_VALUE, nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.CheckConstraint("name <> ''", name=op.f("ck_audit_event_name_given")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_event")),
        sa.UniqueConstraint("public_id", name=op.f("uq_audit_event_public_id")),
    )
    op.create_index(op.f("ix_audit_event_actor"), "audit_event", ["actor"], unique=False)
    op.create_index(op.f("ix_audit_event_at"), "audit_event", ["at"], unique=False)
    op.create_index(op.f("ix_audit_event_name"), "audit_event", ["name"], unique=False)
    op.create_index(op.f("ix_audit_event_subject"), "audit_event", ["subject"], unique=False)
    op.create_table(
        "batch",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("made_by", sa.String(), nullable=False),
        sa.Column("made_at", Utc(), nullable=False),
        sa.Column("executed_at", Utc(), nullable=True),
        sa.Column("confirmed_by", sa.String(), nullable=True),
        sa.Column("undone_at", Utc(), nullable=True),
        sa.Column("undone_by", sa.String(), nullable=True),
        sa.Column("case_ref", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batch")),
        sa.UniqueConstraint("public_id", name=op.f("uq_batch_public_id")),
    )
    op.create_table(
        "blob",
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("stored_at", Utc(), nullable=False),
        sa.Column("parameters", JSON_VALUE, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_blob")),
    )
    op.create_table(
        "case_finding",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("case_id", sa.Integer(), nullable=False),
        sa.Column("breach", sa.Boolean(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_case_finding")),
    )
    op.create_index(op.f("ix_case_finding_case_id"), "case_finding", ["case_id"], unique=False)
    op.create_table(
        "checkpoint",
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("note", sa.LargeBinary(), nullable=False),
        sa.Column("signer", sa.LargeBinary(), nullable=False),
        sa.Column("successor", sa.LargeBinary(), nullable=True),
        sa.Column("signed_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("size", name=op.f("pk_checkpoint")),
    )
    op.create_table(
        "clause",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("family", sa.String(), nullable=False),
        sa.Column("stable_key", sa.String(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "definition",
                "permission",
                "duty",
                "restriction",
                "right",
                "other",
                name="kind",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column(
            "element",
            sa.Enum("conduct", "intent", name="element", native_enum=False, create_constraint=True, length=40),
            nullable=True,
        ),
        sa.CheckConstraint(
            "(kind = 'restriction') = (element IS NOT NULL)", name=op.f("ck_clause_restriction_element")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clause")),
        sa.UniqueConstraint("family", "stable_key", name=op.f("uq_clause_family_stable_key")),
    )
    op.create_table(
        "facts_version",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_facts_version")),
    )
    op.create_table(
        "gated_model",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum("models", "datasets", name="kind", native_enum=False, create_constraint=True, length=40),
            nullable=False,
        ),
        sa.Column("namespace", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "draft", "published", "withdrawn", name="state", native_enum=False, create_constraint=True, length=40
            ),
            nullable=False,
        ),
        sa.Column("created_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gated_model")),
        sa.UniqueConstraint("kind", "namespace", "name", name=op.f("uq_gated_model_kind_namespace_name")),
        sa.UniqueConstraint("public_id", name=op.f("uq_gated_model_public_id")),
    )
    op.create_table(
        "leaf",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("event_ref", sa.String(), nullable=False),
        sa.Column("commitment", sa.LargeBinary(), nullable=False),
        sa.Column("index", sa.BigInteger(), nullable=True),
        sa.CheckConstraint('"index" >= 0', name=op.f("ck_leaf_index")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_leaf")),
        sa.UniqueConstraint("event_ref", name=op.f("uq_leaf_event_ref")),
        sa.UniqueConstraint("index", name=op.f("uq_leaf_index")),
    )
    op.create_index(
        "ix_leaf_pending",
        "leaf",
        ["id"],
        unique=False,
        sqlite_where=sa.text('"index" IS NULL'),
        postgresql_where=sa.text('"index" IS NULL'),
    )
    op.create_table(
        "leak_report",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column(
            "source",
            sa.Enum("public", "github", name="source", native_enum=False, create_constraint=True, length=40),
            nullable=False,
        ),
        sa.Column("network", sa.String(), nullable=False),
        sa.Column("body_sha256", sa.String(), nullable=True),
        sa.Column("items", JSON_VALUE, nullable=True),
        sa.Column("ended", sa.Integer(), nullable=False),
        sa.Column("received_at", Utc(), nullable=False),
        sa.Column("settled_at", Utc(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_leak_report")),
        sa.UniqueConstraint("body_sha256", name=op.f("uq_leak_report_body_sha256")),
    )
    op.create_index(op.f("ix_leak_report_network"), "leak_report", ["network"], unique=False)
    op.create_index(op.f("ix_leak_report_settled_at"), "leak_report", ["settled_at"], unique=False)
    op.create_table(
        "license",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("slug", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("spdx", sa.String(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "license",
                "use_policy",
                "service_terms",
                "privacy_notice",
                "conduct",
                name="kind",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column(
            "vote_from",
            sa.Enum(
                "editorial",
                "clarifying",
                "material",
                "material_immediate",
                name="vote_from",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=True,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_license")),
        sa.UniqueConstraint("slug", name=op.f("uq_license_slug")),
    )
    op.create_table(
        "login_failure",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("attempt_hmac", sa.String(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_login_failure")),
    )
    op.create_index(op.f("ix_login_failure_at"), "login_failure", ["at"], unique=False)
    op.create_index(op.f("ix_login_failure_attempt_hmac"), "login_failure", ["attempt_hmac"], unique=False)
    op.create_table(
        "monthly_report",
        sa.Column("month", sa.String(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("published_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("month", name=op.f("pk_monthly_report")),
    )
    op.create_table(
        "node",
        sa.Column("level", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("level", "index", name=op.f("pk_node")),
    )
    op.create_table(
        "notice",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column("recipient_id", sa.Integer(), nullable=True),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject_ref", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("body", sa.String(), nullable=True),
        sa.Column("secret", sa.Boolean(), nullable=False),
        sa.Column("queued_at", Utc(), nullable=False),
        sa.Column("due_at", Utc(), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notice")),
        sa.UniqueConstraint("public_id", name=op.f("uq_notice_public_id")),
    )
    op.create_index("ix_notice_due", "notice", ["due_at"], unique=False, postgresql_where=sa.text("due_at IS NOT NULL"))
    op.create_index(op.f("ix_notice_recipient_id"), "notice", ["recipient_id"], unique=False)
    op.create_table(
        "phrase_bank",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("clause", sa.String(), nullable=False),
        sa.Column("says", sa.String(), nullable=False),
        sa.Column("phrases", JSON_VALUE, nullable=False),
        sa.Column("patterns", JSON_VALUE, nullable=False),
        sa.Column("added_by", sa.String(), nullable=False),
        sa.Column("added_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_phrase_bank")),
        sa.UniqueConstraint("name", "language", "version", name=op.f("uq_phrase_bank_name_language_version")),
    )
    op.create_table(
        "program",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("homepage", sa.String(), nullable=False),
        sa.Column("redirect_uris", JSON_VALUE, nullable=False),
        sa.Column("scopes", sa.String(), nullable=False),
        sa.Column("secret_hmac", sa.String(), nullable=True),
        sa.Column("secret_last4", sa.String(), nullable=True),
        sa.Column(
            "state",
            sa.Enum("live", "ended", name="state", native_enum=False, create_constraint=True, length=40),
            nullable=False,
        ),
        sa.Column("registered_by", sa.String(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("ended_at", Utc(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_program")),
        sa.UniqueConstraint("public_id", name=op.f("uq_program_public_id")),
    )
    op.create_table(
        "proposal",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("subject_ref", sa.String(), nullable=False),
        sa.Column("page", sa.String(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("payload_sha256", sa.String(), nullable=False),
        sa.Column("proposed_by", sa.String(), nullable=False),
        sa.Column("proposed_at", Utc(), nullable=False),
        sa.Column("confirmed_by", sa.String(), nullable=True),
        sa.Column("confirmed_at", Utc(), nullable=True),
        sa.Column("expires_at", Utc(), nullable=False),
        sa.CheckConstraint("(confirmed_by IS NULL) = (confirmed_at IS NULL)", name=op.f("ck_proposal_confirmed")),
        sa.CheckConstraint("confirmed_at < expires_at", name=op.f("ck_proposal_in_time")),
        sa.CheckConstraint("confirmed_by <> proposed_by", name=op.f("ck_proposal_two_people")),
        sa.CheckConstraint("expires_at > proposed_at", name=op.f("ck_proposal_life")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_proposal")),
        sa.UniqueConstraint("public_id", name=op.f("uq_proposal_public_id")),
    )
    op.create_index(op.f("ix_proposal_subject_ref"), "proposal", ["subject_ref"], unique=False)
    op.create_table(
        "receipt",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("subject_ref", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("statement_sha256", sa.String(), nullable=False),
        sa.Column("pdf_sha256", sa.String(), nullable=False),
        sa.Column("made_at", Utc(), nullable=False),
        sa.Column(
            "time",
            sa.Enum(
                "portal", "pending", "authority", name="time", native_enum=False, create_constraint=True, length=40
            ),
            nullable=False,
        ),
        sa.Column("timestamped_at", Utc(), nullable=True),
        sa.CheckConstraint("(time = 'authority') = (timestamped_at IS NOT NULL)", name=op.f("ck_receipt_timestamped")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_receipt")),
        sa.UniqueConstraint("subject_ref", "number", name=op.f("uq_receipt_subject_ref_number")),
    )
    op.create_index(op.f("ix_receipt_subject_ref"), "receipt", ["subject_ref"], unique=False)
    op.create_table(
        "signature_set",
        sa.Column("sha256", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_signature_set")),
    )
    op.create_table(
        "text",
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("media_type", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_text")),
    )
    op.create_table(
        "usage_seal",
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("last_id", sa.Integer(), nullable=False),
        sa.Column("records", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("sealed_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("day", "number", name=op.f("pk_usage_seal")),
    )
    op.create_table(
        "user_account",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column(
            "standing",
            sa.Enum(
                "active", "suspended", "closed", name="standing", native_enum=False, create_constraint=True, length=40
            ),
            nullable=False,
        ),
        sa.Column("standing_until", Utc(), nullable=True),
        sa.Column("standing_ref", sa.String(), nullable=True),
        sa.Column("created_at", Utc(), nullable=False),
        sa.CheckConstraint("(standing = 'active') = (standing_ref IS NULL)", name=op.f("ck_user_account_standing_ref")),
        sa.CheckConstraint(
            "(standing = 'suspended') = (standing_until IS NOT NULL)", name=op.f("ck_user_account_suspended_until")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_account")),
        sa.UniqueConstraint("public_id", name=op.f("uq_user_account_public_id")),
    )
    op.create_table(
        "appeal",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column("decision_ref", sa.String(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "filed", "question_open", "decided", name="state", native_enum=False, create_constraint=True, length=40
            ),
            nullable=False,
        ),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("filed_at", Utc(), nullable=False),
        sa.Column("due_at", Utc(), nullable=False),
        sa.Column("reviewer", sa.String(), nullable=True),
        sa.Column(
            "outcome",
            sa.Enum(
                "upheld", "varied", "overturned", name="outcome", native_enum=False, create_constraint=True, length=40
            ),
            nullable=True,
        ),
        sa.Column("reasons", sa.String(), nullable=True),
        sa.Column("decided_at", Utc(), nullable=True),
        sa.CheckConstraint("(state = 'decided') = (outcome IS NOT NULL)", name=op.f("ck_appeal_outcome_given")),
        sa.ForeignKeyConstraint(["user_id"], ["user_account.id"], name=op.f("fk_appeal_user_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_appeal")),
        sa.UniqueConstraint("decision_ref", name=op.f("uq_appeal_decision_ref")),
        sa.UniqueConstraint("public_id", name=op.f("uq_appeal_public_id")),
    )
    op.create_index(op.f("ix_appeal_user_id"), "appeal", ["user_id"], unique=False)
    op.create_table(
        "card_revision",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("translates_id", sa.Integer(), nullable=True),
        sa.Column("text_sha256", sa.String(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "draft", "published", "superseded", name="state", native_enum=False, create_constraint=True, length=40
            ),
            nullable=False,
        ),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("published_at", Utc(), nullable=True),
        sa.CheckConstraint("(language = 'en') = (translates_id IS NULL)", name=op.f("ck_card_revision_translates")),
        sa.ForeignKeyConstraint(
            ["model_id"], ["gated_model.id"], name=op.f("fk_card_revision_model_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["text_sha256"], ["text.sha256"], name=op.f("fk_card_revision_text_sha256"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["translates_id"], ["card_revision.id"], name=op.f("fk_card_revision_translates_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_card_revision")),
        sa.UniqueConstraint("model_id", "number", "language", name=op.f("uq_card_revision_model_id_number_language")),
        sa.UniqueConstraint("public_id", name=op.f("uq_card_revision_public_id")),
    )
    op.create_index(
        "uq_card_revision_draft",
        "card_revision",
        ["model_id", "language"],
        unique=True,
        sqlite_where=sa.text("state = 'draft'"),
        postgresql_where=sa.text("state = 'draft'"),
    )
    op.create_table(
        "case_file",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column("dedupe_key", sa.String(), nullable=False),
        sa.Column(
            "origin",
            sa.Enum(
                "rule",
                "report",
                "leak",
                "appeal",
                "staff",
                name="origin",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("subject_ref", sa.String(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=True),
        sa.Column(
            "state",
            sa.Enum(
                "open",
                "claimed",
                "awaiting_reply",
                "decided",
                "closed",
                name="state",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("severity", sa.Integer(), nullable=False),
        sa.Column("confidence", sa.Integer(), nullable=False),
        sa.Column("reach", sa.Integer(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("holder_id", sa.Integer(), nullable=True),
        sa.Column("lease_until", Utc(), nullable=True),
        sa.Column("opened_at", Utc(), nullable=False),
        sa.Column("opened_by", sa.String(), nullable=False),
        sa.Column("due_at", Utc(), nullable=False),
        sa.Column("first_action_at", Utc(), nullable=True),
        sa.Column("moved_at", Utc(), nullable=False),
        sa.CheckConstraint("(holder_id IS NULL) = (lease_until IS NULL)", name=op.f("ck_case_file_lease")),
        sa.CheckConstraint("severity BETWEEN 1 AND 4", name=op.f("ck_case_file_severity")),
        sa.ForeignKeyConstraint(
            ["holder_id"], ["user_account.id"], name=op.f("fk_case_file_holder_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_case_file_user_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_case_file")),
        sa.UniqueConstraint("dedupe_key", name=op.f("uq_case_file_dedupe_key")),
        sa.UniqueConstraint("public_id", name=op.f("uq_case_file_public_id")),
    )
    op.create_index("ix_case_file_queue", "case_file", ["state", "rank", "opened_at"], unique=False)
    op.create_index(op.f("ix_case_file_subject_ref"), "case_file", ["subject_ref"], unique=False)
    op.create_index(op.f("ix_case_file_user_id"), "case_file", ["user_id"], unique=False)
    op.create_table(
        "clause_change",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("from_sha256", sa.String(), nullable=False),
        sa.Column("to_sha256", sa.String(), nullable=False),
        sa.Column("clause_id", sa.Integer(), nullable=False),
        sa.Column(
            "relation",
            sa.Enum(
                "same",
                "reworded",
                "narrowed",
                "widened",
                "moved",
                "added",
                "removed",
                name="relation",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("explanation", sa.String(), nullable=False),
        sa.CheckConstraint("relation = 'same' OR explanation <> ''", name=op.f("ck_clause_change_explained")),
        sa.CheckConstraint("from_sha256 <> to_sha256", name=op.f("ck_clause_change_two_texts")),
        sa.ForeignKeyConstraint(
            ["clause_id"], ["clause.id"], name=op.f("fk_clause_change_clause_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["from_sha256"], ["text.sha256"], name=op.f("fk_clause_change_from_sha256"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["to_sha256"], ["text.sha256"], name=op.f("fk_clause_change_to_sha256"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clause_change")),
        sa.UniqueConstraint(
            "from_sha256", "to_sha256", "clause_id", name=op.f("uq_clause_change_from_sha256_to_sha256_clause_id")
        ),
    )
    op.create_table(
        "clause_text",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("text_sha256", sa.String(), nullable=False),
        sa.Column("clause_id", sa.Integer(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("span_start", sa.Integer(), nullable=False),
        sa.Column("span_end", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.CheckConstraint("span_start < span_end", name=op.f("ck_clause_text_span")),
        sa.ForeignKeyConstraint(
            ["clause_id"], ["clause.id"], name=op.f("fk_clause_text_clause_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["text_sha256"], ["text.sha256"], name=op.f("fk_clause_text_text_sha256"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clause_text")),
        sa.UniqueConstraint("text_sha256", "clause_id", name=op.f("uq_clause_text_text_sha256_clause_id")),
        sa.UniqueConstraint("text_sha256", "ordinal", name=op.f("uq_clause_text_text_sha256_ordinal")),
    )
    op.create_index(op.f("ix_clause_text_clause_id"), "clause_text", ["clause_id"], unique=False)
    op.create_table(
        "commit_",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("revision", sa.String(), nullable=False),
        sa.Column("parent_id", sa.Integer(), nullable=True),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"], ["gated_model.id"], name=op.f("fk_commit__model_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["parent_id"], ["commit_.id"], name=op.f("fk_commit__parent_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commit_")),
        sa.UniqueConstraint("model_id", "revision", name=op.f("uq_commit__model_id_revision")),
    )
    op.create_index(op.f("ix_commit__model_id"), "commit_", ["model_id"], unique=False)
    op.create_index(op.f("ix_commit__revision"), "commit_", ["revision"], unique=False)
    op.create_table(
        "content",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("month", sa.String(), nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column(
            "basis",
            sa.Enum("license", "consent", name="basis", native_enum=False, create_constraint=True, length=40),
            nullable=False,
        ),
        sa.Column("kept_at", Utc(), nullable=False),
        sa.Column("delete_after", Utc(), nullable=False),
        sa.Column("held_for", sa.String(), nullable=True),
        sa.CheckConstraint("delete_after > kept_at", name=op.f("ck_content_ends")),
        sa.ForeignKeyConstraint(
            ["model_id"], ["gated_model.id"], name=op.f("fk_content_model_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["user_account.id"], name=op.f("fk_content_user_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_content")),
        sa.UniqueConstraint("request_id", name=op.f("uq_content_request_id")),
    )
    op.create_index(op.f("ix_content_delete_after"), "content", ["delete_after"], unique=False)
    op.create_index(op.f("ix_content_held_for"), "content", ["held_for"], unique=False)
    op.create_index(op.f("ix_content_month"), "content", ["month"], unique=False)
    op.create_index(op.f("ix_content_user_id"), "content", ["user_id"], unique=False)
    op.create_table(
        "cosignature",
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("witness", sa.String(), nullable=False),
        sa.Column("line", sa.LargeBinary(), nullable=False),
        sa.Column("witnessed_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(["size"], ["checkpoint.size"], name=op.f("fk_cosignature_size"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("size", "witness", name=op.f("pk_cosignature")),
    )
    op.create_table(
        "daily_checkpoint",
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("noted_at", Utc(), nullable=False),
        sa.Column("token", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["size"], ["checkpoint.size"], name=op.f("fk_daily_checkpoint_size"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("day", name=op.f("pk_daily_checkpoint")),
    )
    op.create_table(
        "detection_rule",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column("slug", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("license", sa.String(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=True),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("condition", sa.String(), nullable=False),
        sa.Column(
            "on_missing",
            sa.Enum("skip", "flag", name="on_missing", native_enum=False, create_constraint=True, length=40),
            nullable=False,
        ),
        sa.Column(
            "outcome",
            sa.Enum(
                "allow",
                "tag",
                "flag",
                "warn",
                "throttle",
                "reconfirm",
                "block",
                "freeze_access_token",
                "suspend_entitlement",
                "suspend",
                name="outcome",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("weight", sa.Integer(), nullable=False),
        sa.Column("per_hour", sa.Integer(), nullable=False),
        sa.Column("accounts_per_day", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("reviewer", sa.String(), nullable=False),
        sa.Column("reason_text", sa.String(), nullable=False),
        sa.Column("expires_at", Utc(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("written_by", sa.String(), nullable=False),
        sa.Column("written_at", Utc(), nullable=False),
        sa.Column(
            "mode",
            sa.Enum(
                "draft",
                "shadow",
                "flagging",
                "enforcing",
                "retired",
                name="mode",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("mode_since", Utc(), nullable=False),
        sa.CheckConstraint("outcome NOT IN ('allow')", name=op.f("ck_detection_rule_does_something")),
        sa.CheckConstraint("expires_at > written_at", name=op.f("ck_detection_rule_life")),
        sa.CheckConstraint("owner <> reviewer", name=op.f("ck_detection_rule_two_people")),
        sa.CheckConstraint(
            "weight > 0 AND per_hour >= 0 AND accounts_per_day >= 0", name=op.f("ck_detection_rule_counts")
        ),
        sa.ForeignKeyConstraint(
            ["model_id"], ["gated_model.id"], name=op.f("fk_detection_rule_model_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_detection_rule")),
        sa.UniqueConstraint("public_id", name=op.f("uq_detection_rule_public_id")),
        sa.UniqueConstraint("slug", "version", name=op.f("uq_detection_rule_slug_version")),
    )
    op.create_index(
        "uq_detection_rule_enforcing",
        "detection_rule",
        ["slug"],
        unique=True,
        sqlite_where=sa.text("mode = 'enforcing'"),
        postgresql_where=sa.text("mode = 'enforcing'"),
    )
    op.create_table(
        "device_mistake",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_device_mistake_user_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_mistake")),
    )
    op.create_index(op.f("ix_device_mistake_at"), "device_mistake", ["at"], unique=False)
    op.create_index(op.f("ix_device_mistake_user_id"), "device_mistake", ["user_id"], unique=False)
    op.create_table(
        "exemption",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column(
            "purpose",
            sa.Enum(
                "detection_research",
                "safety_evaluation",
                "language_research",
                "domain_research",
                "teaching",
                name="purpose",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("license", sa.String(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=True),
        sa.Column("safeguards", sa.String(), nullable=False),
        sa.Column("valid_from", Utc(), nullable=False),
        sa.Column("valid_to", Utc(), nullable=False),
        sa.Column("approved_by", sa.String(), nullable=False),
        sa.Column("approved_at", Utc(), nullable=False),
        sa.Column("ended_at", Utc(), nullable=True),
        sa.Column("ended_by", sa.String(), nullable=True),
        sa.Column("end_reason", sa.String(), nullable=True),
        sa.CheckConstraint("(ended_at IS NULL) = (end_reason IS NULL)", name=op.f("ck_exemption_end_reason")),
        sa.CheckConstraint("(ended_at IS NULL) = (ended_by IS NULL)", name=op.f("ck_exemption_ended")),
        sa.CheckConstraint("valid_to > valid_from", name=op.f("ck_exemption_life")),
        sa.ForeignKeyConstraint(
            ["model_id"], ["gated_model.id"], name=op.f("fk_exemption_model_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_exemption_user_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exemption")),
        sa.UniqueConstraint("public_id", name=op.f("uq_exemption_public_id")),
    )
    op.create_index(op.f("ix_exemption_user_id"), "exemption", ["user_id"], unique=False)
    op.create_table(
        "former_name",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum("models", "datasets", name="kind", native_enum=False, create_constraint=True, length=40),
            nullable=False,
        ),
        sa.Column("namespace", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("given_up_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"], ["gated_model.id"], name=op.f("fk_former_name_model_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_former_name")),
        sa.UniqueConstraint("kind", "namespace", "name", name=op.f("uq_former_name_kind_namespace_name")),
    )
    op.create_table(
        "license_version",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("license_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.String(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "draft",
                "in_review",
                "approved",
                "scheduled",
                "in_force",
                "superseded",
                "retired",
                name="state",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column(
            "materiality",
            sa.Enum(
                "editorial",
                "clarifying",
                "material",
                "material_immediate",
                name="materiality",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=True,
        ),
        sa.Column("effective_at", Utc(), nullable=True),
        sa.Column("required_by", Utc(), nullable=True),
        sa.Column("predecessor_id", sa.Integer(), nullable=True),
        sa.Column("summary", JSON_VALUE, nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("approved_by", sa.String(), nullable=True),
        sa.Column("floor_proposal_id", sa.Integer(), nullable=True),
        sa.CheckConstraint(
            "approved_by <> created_by OR approved_by = 'system'", name=op.f("ck_license_version_two_people")
        ),
        sa.CheckConstraint(
            "state IN ('draft', 'in_review') OR approved_by IS NOT NULL", name=op.f("ck_license_version_approved")
        ),
        sa.CheckConstraint(
            "state IN ('draft', 'in_review') OR materiality IS NOT NULL", name=op.f("ck_license_version_weighed")
        ),
        sa.CheckConstraint(
            "state IN ('draft', 'in_review', 'approved') OR effective_at IS NOT NULL OR state = 'retired'",
            name=op.f("ck_license_version_dated"),
        ),
        sa.CheckConstraint(
            "state NOT IN ('draft', 'in_review', 'approved') OR effective_at IS NULL",
            name=op.f("ck_license_version_undated"),
        ),
        sa.CheckConstraint("required_by >= effective_at", name=op.f("ck_license_version_dates")),
        sa.ForeignKeyConstraint(
            ["floor_proposal_id"],
            ["proposal.id"],
            name=op.f("fk_license_version_floor_proposal_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["license_id"], ["license.id"], name=op.f("fk_license_version_license_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["predecessor_id"],
            ["license_version.id"],
            name=op.f("fk_license_version_predecessor_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_license_version")),
        sa.UniqueConstraint("license_id", "effective_at", name=op.f("uq_license_version_license_id_effective_at")),
        sa.UniqueConstraint("license_id", "number", name=op.f("uq_license_version_license_id_number")),
        sa.UniqueConstraint("license_id", "ordinal", name=op.f("uq_license_version_license_id_ordinal")),
    )
    op.create_index(
        "uq_license_version_draft",
        "license_version",
        ["license_id"],
        unique=True,
        sqlite_where=sa.text("state IN ('draft', 'in_review', 'approved')"),
        postgresql_where=sa.text("state IN ('draft', 'in_review', 'approved')"),
    )
    op.create_table(
        "linked_identity",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("linked_at", Utc(), nullable=False),
        sa.Column("last_used_at", Utc(), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_linked_identity_user_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_linked_identity")),
        sa.UniqueConstraint("issuer", "subject", name="uq_linked_identity_issuer_subject"),
        sa.UniqueConstraint("public_id", name=op.f("uq_linked_identity_public_id")),
    )
    op.create_index(op.f("ix_linked_identity_user_id"), "linked_identity", ["user_id"], unique=False)
    op.create_table(
        "login_session",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("reference_hmac", sa.String(), nullable=False),
        sa.Column("means", sa.String(), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("proved_at", Utc(), nullable=False),
        sa.Column("last_used_at", Utc(), nullable=False),
        sa.Column("ended_at", Utc(), nullable=True),
        sa.Column("user_agent", sa.String(), nullable=False),
        sa.CheckConstraint("level BETWEEN 0 AND 2", name=op.f("ck_login_session_level")),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_login_session_user_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_login_session")),
        sa.UniqueConstraint("reference_hmac", name=op.f("uq_login_session_reference_hmac")),
    )
    op.create_index(op.f("ix_login_session_user_id"), "login_session", ["user_id"], unique=False)
    op.create_table(
        "notice_event",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("notice_id", sa.Integer(), nullable=False),
        sa.Column(
            "rung",
            sa.Enum(
                "queued",
                "sent",
                "delivered",
                "bounced",
                "shown",
                "viewed",
                name="rung",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["notice_id"], ["notice.id"], name=op.f("fk_notice_event_notice_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notice_event")),
    )
    op.create_index(op.f("ix_notice_event_notice_id"), "notice_event", ["notice_id"], unique=False)
    op.create_table(
        "one_time_link",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column(
            "purpose",
            sa.Enum("verify", "reset", "staff", name="purpose", native_enum=False, create_constraint=True, length=40),
            nullable=False,
        ),
        sa.Column("hmac", sa.String(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("expires_at", Utc(), nullable=False),
        sa.Column("used_at", Utc(), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_one_time_link_user_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_one_time_link")),
        sa.UniqueConstraint("hmac", name=op.f("uq_one_time_link_hmac")),
    )
    op.create_index(op.f("ix_one_time_link_user_id"), "one_time_link", ["user_id"], unique=False)
    op.create_table(
        "passkey",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("credential_id", sa.LargeBinary(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("sign_count", sa.BigInteger(), nullable=False),
        sa.Column("synced", sa.Boolean(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("made_at", Utc(), nullable=False),
        sa.Column("last_used_at", Utc(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["user_account.id"], name=op.f("fk_passkey_user_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_passkey")),
        sa.UniqueConstraint("credential_id", name=op.f("uq_passkey_credential_id")),
        sa.UniqueConstraint("public_id", name=op.f("uq_passkey_public_id")),
    )
    op.create_index(op.f("ix_passkey_user_id"), "passkey", ["user_id"], unique=False)
    op.create_table(
        "password",
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("changed_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_password_user_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_password")),
    )
    op.create_table(
        "profile",
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("email", sa.String(), nullable=False),
        sa.Column("verified_at", Utc(), nullable=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("affiliation", sa.String(), nullable=False),
        sa.Column("country", sa.String(), nullable=False),
        sa.Column("locale", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["user_account.id"], name=op.f("fk_profile_user_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_profile")),
        sa.UniqueConstraint("email", name=op.f("uq_profile_email")),
    )
    op.create_table(
        "program_grant",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column("program_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("scopes", sa.String(), nullable=False),
        sa.Column(
            "state",
            sa.Enum("live", "ended", name="state", native_enum=False, create_constraint=True, length=40),
            nullable=False,
        ),
        sa.Column("given_at", Utc(), nullable=False),
        sa.Column("expires_at", Utc(), nullable=False),
        sa.Column("used_at", Utc(), nullable=True),
        sa.Column("ended_at", Utc(), nullable=True),
        sa.Column(
            "ending",
            sa.Enum(
                "by_person",
                "by_program",
                "program_ended",
                "code_replayed",
                "refresh_reused",
                name="ending",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=True,
        ),
        sa.ForeignKeyConstraint(
            ["program_id"], ["program.id"], name=op.f("fk_program_grant_program_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_program_grant_user_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_program_grant")),
        sa.UniqueConstraint("public_id", name=op.f("uq_program_grant_public_id")),
    )
    op.create_index(op.f("ix_program_grant_program_id"), "program_grant", ["program_id"], unique=False)
    op.create_index(op.f("ix_program_grant_user_id"), "program_grant", ["user_id"], unique=False)
    op.create_table(
        "quota",
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.Column("text_tokens", sa.Integer(), nullable=False),
        sa.Column("set_by", sa.String(), nullable=False),
        sa.Column("set_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["user_account.id"], name=op.f("fk_quota_user_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_quota")),
    )
    op.create_table(
        "reconfirmation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("license_id", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("ordered_at", Utc(), nullable=False),
        sa.Column("ordered_by", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["license_id"], ["license.id"], name=op.f("fk_reconfirmation_license_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["model_id"], ["gated_model.id"], name=op.f("fk_reconfirmation_model_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_reconfirmation_user_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reconfirmation")),
    )
    op.create_index(op.f("ix_reconfirmation_user_id"), "reconfirmation", ["user_id"], unique=False)
    op.create_table(
        "recovery_code",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("code_hmac", sa.String(), nullable=False),
        sa.Column("made_at", Utc(), nullable=False),
        sa.Column("used_at", Utc(), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_recovery_code_user_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recovery_code")),
        sa.UniqueConstraint("code_hmac", name=op.f("uq_recovery_code_code_hmac")),
    )
    op.create_index(op.f("ix_recovery_code_user_id"), "recovery_code", ["user_id"], unique=False)
    op.create_table(
        "report",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "unconfirmed",
                "attached",
                "answered",
                name="state",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("subject_ref", sa.String(), nullable=False),
        sa.Column("clause_key", sa.String(), nullable=False),
        sa.Column("locator", sa.String(), nullable=False),
        sa.Column("explanation", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=False),
        sa.Column("reporter_id", sa.Integer(), nullable=True),
        sa.Column("network", sa.String(), nullable=False),
        sa.Column("puzzle", sa.String(), nullable=True),
        sa.Column("secret_hmac", sa.String(), nullable=True),
        sa.Column("case_ref", sa.String(), nullable=True),
        sa.Column("weight", sa.Integer(), nullable=False),
        sa.Column(
            "outcome",
            sa.Enum(
                "breach", "no_breach", "open", name="outcome", native_enum=False, create_constraint=True, length=40
            ),
            nullable=True,
        ),
        sa.Column("filed_at", Utc(), nullable=False),
        sa.Column("proved_at", Utc(), nullable=True),
        sa.Column("answered_at", Utc(), nullable=True),
        sa.CheckConstraint("(state = 'answered') = (outcome IS NOT NULL)", name=op.f("ck_report_outcome_given")),
        sa.CheckConstraint("(state = 'unconfirmed') = (case_ref IS NULL)", name=op.f("ck_report_case_named")),
        sa.ForeignKeyConstraint(
            ["reporter_id"], ["user_account.id"], name=op.f("fk_report_reporter_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_report")),
        sa.UniqueConstraint("public_id", name=op.f("uq_report_public_id")),
        sa.UniqueConstraint("puzzle", name=op.f("uq_report_puzzle")),
        sa.UniqueConstraint("secret_hmac", name=op.f("uq_report_secret_hmac")),
    )
    op.create_index(op.f("ix_report_case_ref"), "report", ["case_ref"], unique=False)
    op.create_index(op.f("ix_report_email"), "report", ["email"], unique=False)
    op.create_index(op.f("ix_report_network"), "report", ["network"], unique=False)
    op.create_index(op.f("ix_report_reporter_id"), "report", ["reporter_id"], unique=False)
    op.create_index(op.f("ix_report_subject_ref"), "report", ["subject_ref"], unique=False)
    op.create_table(
        "request_form",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column(
            "mode",
            sa.Enum("off", "auto", "manual", name="mode", native_enum=False, create_constraint=True, length=40),
            nullable=False,
        ),
        sa.Column("question", sa.String(), nullable=False),
        sa.Column("days", sa.Integer(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"], ["gated_model.id"], name=op.f("fk_request_form_model_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_request_form")),
        sa.UniqueConstraint("model_id", "number", name=op.f("uq_request_form_model_id_number")),
    )
    op.create_table(
        "requirement",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column(
            "action",
            sa.Enum(
                "read",
                "ask",
                "download",
                "infer",
                "renew",
                name="action",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("license_id", sa.Integer(), nullable=False),
        sa.Column(
            "follows",
            sa.Enum("release", "license", name="follows", native_enum=False, create_constraint=True, length=40),
            nullable=False,
        ),
        sa.Column(
            "grace",
            sa.Enum("standard", "strict", name="grace", native_enum=False, create_constraint=True, length=40),
            nullable=False,
        ),
        sa.Column("valid_from", Utc(), nullable=False),
        sa.Column("valid_to", Utc(), nullable=True),
        sa.ForeignKeyConstraint(
            ["license_id"], ["license.id"], name=op.f("fk_requirement_license_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["model_id"], ["gated_model.id"], name=op.f("fk_requirement_model_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_requirement")),
    )
    op.create_index(
        "uq_requirement_open",
        "requirement",
        ["model_id", "action", "license_id"],
        unique=True,
        sqlite_where=sa.text("valid_to IS NULL"),
        postgresql_where=sa.text("valid_to IS NULL"),
    )
    op.create_table(
        "retention",
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("days", sa.Integer(), nullable=False),
        sa.Column("set_by", sa.String(), nullable=False),
        sa.Column("set_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"], ["gated_model.id"], name=op.f("fk_retention_model_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("model_id", name=op.f("pk_retention")),
    )
    op.create_table(
        "role_holding",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column(
            "role",
            sa.Enum(
                "license_editor",
                "card_editor",
                "moderator",
                "admin",
                name="role",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("granted_by", sa.String(), nullable=False),
        sa.Column("granted_at", Utc(), nullable=False),
        sa.Column("ended_at", Utc(), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_role_holding_user_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_role_holding")),
    )
    op.create_index(op.f("ix_role_holding_user_id"), "role_holding", ["user_id"], unique=False)
    op.create_index(
        "uq_role_holding_live",
        "role_holding",
        ["user_id", "role"],
        unique=True,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "salt",
        sa.Column("event_ref", sa.String(), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["event_ref"], ["audit_event.public_id"], name=op.f("fk_salt_event_ref"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("event_ref", name=op.f("pk_salt")),
    )
    op.create_table(
        "sanction",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column("decision_ref", sa.String(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "throttle",
                "reconfirm",
                "freeze_access_token",
                "limit_action",
                "suspend_entitlement",
                "revoke_entitlement",
                "suspend",
                "close",
                name="kind",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("calls", sa.Integer(), nullable=True),
        sa.Column("text_tokens", sa.Integer(), nullable=True),
        sa.Column("starts_at", Utc(), nullable=False),
        sa.Column("until", Utc(), nullable=True),
        sa.Column("lapses_at", Utc(), nullable=True),
        sa.Column("confirmed_at", Utc(), nullable=True),
        sa.Column("ended_at", Utc(), nullable=True),
        sa.CheckConstraint(
            "(until IS NULL) = (kind IN ('revoke_entitlement', 'close'))", name=op.f("ck_sanction_permanent")
        ),
        sa.CheckConstraint("lapses_at IS NULL OR until IS NOT NULL", name=op.f("ck_sanction_never_interim")),
        sa.CheckConstraint("until > starts_at", name=op.f("ck_sanction_ends")),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_sanction_user_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sanction")),
        sa.UniqueConstraint("public_id", name=op.f("uq_sanction_public_id")),
    )
    op.create_index(op.f("ix_sanction_decision_ref"), "sanction", ["decision_ref"], unique=False)
    op.create_index(op.f("ix_sanction_user_id"), "sanction", ["user_id"], unique=False)
    op.create_table(
        "strike",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("decision_ref", sa.String(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("weight", sa.Integer(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.Column("overruled_at", Utc(), nullable=True),
        sa.CheckConstraint("weight > 0", name=op.f("ck_strike_weight")),
        sa.ForeignKeyConstraint(["user_id"], ["user_account.id"], name=op.f("fk_strike_user_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_strike")),
        sa.UniqueConstraint("decision_ref", name=op.f("uq_strike_decision_ref")),
    )
    op.create_index(op.f("ix_strike_user_id"), "strike", ["user_id"], unique=False)
    op.create_table(
        "text_consent",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("given_at", Utc(), nullable=False),
        sa.Column("ended_at", Utc(), nullable=True),
        sa.ForeignKeyConstraint(
            ["model_id"], ["gated_model.id"], name=op.f("fk_text_consent_model_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_text_consent_user_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_text_consent")),
    )
    op.create_index(op.f("ix_text_consent_user_id"), "text_consent", ["user_id"], unique=False)
    op.create_index(
        "uq_text_consent_open",
        "text_consent",
        ["user_id", "model_id"],
        unique=True,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "totp_secret",
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("locked", sa.LargeBinary(), nullable=False),
        sa.Column("made_at", Utc(), nullable=False),
        sa.Column("confirmed_at", Utc(), nullable=True),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_totp_secret_user_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_totp_secret")),
    )
    op.create_table(
        "access_request",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("form_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "submitted",
                "approved",
                "rejected",
                "withdrawn",
                "reset",
                name="state",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("asked_at", Utc(), nullable=False),
        sa.Column("moved_at", Utc(), nullable=False),
        sa.Column("moved_by", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("may_reapply_at", Utc(), nullable=True),
        sa.ForeignKeyConstraint(
            ["form_id"], ["request_form.id"], name=op.f("fk_access_request_form_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["model_id"], ["gated_model.id"], name=op.f("fk_access_request_model_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_access_request_user_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_request")),
        sa.UniqueConstraint("public_id", name=op.f("uq_access_request_public_id")),
    )
    op.create_index("ix_access_request_state", "access_request", ["model_id", "state"], unique=False)
    op.create_index(op.f("ix_access_request_user_id"), "access_request", ["user_id"], unique=False)
    op.create_index(
        "uq_access_request_open",
        "access_request",
        ["user_id", "model_id"],
        unique=True,
        sqlite_where=sa.text("state = 'submitted'"),
        postgresql_where=sa.text("state = 'submitted'"),
    )
    op.create_table(
        "access_token",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("hmac", sa.String(), nullable=False),
        sa.Column("last4", sa.String(), nullable=False),
        sa.Column(
            "state",
            sa.Enum("live", "revoked", name="state", native_enum=False, create_constraint=True, length=40),
            nullable=False,
        ),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("expires_at", Utc(), nullable=False),
        sa.Column("revoked_at", Utc(), nullable=True),
        sa.Column("last_used_at", Utc(), nullable=True),
        sa.Column("signature_set", sa.String(), nullable=True),
        sa.Column("grant_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["grant_id"], ["program_grant.id"], name=op.f("fk_access_token_grant_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["signature_set"], ["signature_set.sha256"], name=op.f("fk_access_token_signature_set"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_access_token_user_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_token")),
        sa.UniqueConstraint("hmac", name=op.f("uq_access_token_hmac")),
        sa.UniqueConstraint("public_id", name=op.f("uq_access_token_public_id")),
    )
    op.create_index(op.f("ix_access_token_grant_id"), "access_token", ["grant_id"], unique=False)
    op.create_index(op.f("ix_access_token_user_id"), "access_token", ["user_id"], unique=False)
    op.create_table(
        "after_review",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("proposal_id", sa.Integer(), nullable=False),
        sa.Column("due_at", Utc(), nullable=False),
        sa.Column("overdue_at", Utc(), nullable=True),
        sa.Column("reviewed_by", sa.String(), nullable=True),
        sa.Column("reviewed_at", Utc(), nullable=True),
        sa.Column(
            "finding",
            sa.Enum("stands", "replace", name="finding", native_enum=False, create_constraint=True, length=40),
            nullable=True,
        ),
        sa.Column("words", sa.String(), nullable=True),
        sa.CheckConstraint(
            "(reviewed_at IS NULL) = (reviewed_by IS NULL) AND (reviewed_at IS NULL) = (finding IS NULL) AND (reviewed_at IS NULL) = (words IS NULL)",
            name=op.f("ck_after_review_whole"),
        ),
        sa.ForeignKeyConstraint(
            ["proposal_id"], ["proposal.id"], name=op.f("fk_after_review_proposal_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["version_id"], ["license_version.id"], name=op.f("fk_after_review_version_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_after_review")),
        sa.UniqueConstraint("proposal_id", name=op.f("uq_after_review_proposal_id")),
    )
    op.create_table(
        "appeal_message",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("appeal_id", sa.Integer(), nullable=False),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("words", sa.String(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["appeal_id"], ["appeal.id"], name=op.f("fk_appeal_message_appeal_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_appeal_message")),
    )
    op.create_index(op.f("ix_appeal_message_appeal_id"), "appeal_message", ["appeal_id"], unique=False)
    op.create_table(
        "authorization_code",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("hmac", sa.String(), nullable=False),
        sa.Column("grant_id", sa.Integer(), nullable=False),
        sa.Column("redirect_uri", sa.String(), nullable=False),
        sa.Column("challenge", sa.String(), nullable=False),
        sa.Column("nonce", sa.String(), nullable=False),
        sa.Column("expires_at", Utc(), nullable=False),
        sa.Column("used_at", Utc(), nullable=True),
        sa.ForeignKeyConstraint(
            ["grant_id"], ["program_grant.id"], name=op.f("fk_authorization_code_grant_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_authorization_code")),
        sa.UniqueConstraint("grant_id", name=op.f("uq_authorization_code_grant_id")),
        sa.UniqueConstraint("hmac", name=op.f("uq_authorization_code_hmac")),
    )
    op.create_index(op.f("ix_authorization_code_expires_at"), "authorization_code", ["expires_at"], unique=False)
    op.create_table(
        "backtest",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column("rule_id", sa.Integer(), nullable=False),
        sa.Column("days", sa.Integer(), nullable=False),
        sa.Column("since", Utc(), nullable=False),
        sa.Column("until", Utc(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("asked_by", sa.String(), nullable=False),
        sa.Column("asked_at", Utc(), nullable=False),
        sa.Column("done_at", Utc(), nullable=True),
        sa.Column("result", JSON_VALUE, nullable=True),
        sa.CheckConstraint("(done_at IS NULL) = (result IS NULL)", name=op.f("ck_backtest_done")),
        sa.CheckConstraint("until > since", name=op.f("ck_backtest_span")),
        sa.ForeignKeyConstraint(
            ["rule_id"], ["detection_rule.id"], name=op.f("fk_backtest_rule_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_backtest")),
        sa.UniqueConstraint("public_id", name=op.f("uq_backtest_public_id")),
    )
    op.create_index(op.f("ix_backtest_rule_id"), "backtest", ["rule_id"], unique=False)
    op.create_table(
        "card_item",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("revision_id", sa.Integer(), nullable=False),
        sa.Column("stable_key", sa.String(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "capability",
                "limitation",
                "risk",
                "evaluation",
                "intended_use",
                "out_of_scope",
                "misuse",
                name="kind",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column(
            "severity",
            sa.Enum("info", "caution", "safety", name="severity", native_enum=False, create_constraint=True, length=40),
            nullable=False,
        ),
        sa.Column("wording", sa.String(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["revision_id"], ["card_revision.id"], name=op.f("fk_card_item_revision_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_card_item")),
        sa.UniqueConstraint("revision_id", "stable_key", name=op.f("uq_card_item_revision_id_stable_key")),
    )
    op.create_table(
        "card_plot",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("revision_id", sa.Integer(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("svg", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["revision_id"], ["card_revision.id"], name=op.f("fk_card_plot_revision_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_card_plot")),
        sa.UniqueConstraint("revision_id", "ordinal", name=op.f("uq_card_plot_revision_id_ordinal")),
    )
    op.create_table(
        "card_review",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("revision_id", sa.Integer(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("next_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["revision_id"], ["card_revision.id"], name=op.f("fk_card_review_revision_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_card_review")),
    )
    op.create_index(op.f("ix_card_review_revision_id"), "card_review", ["revision_id"], unique=False)
    op.create_table(
        "case_link",
        sa.Column("case_id", sa.Integer(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "clause",
                "subject",
                "hit",
                "report",
                "decision",
                "appeal",
                "case",
                "record",
                "text",
                "involved",
                name="kind",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("ref", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["case_id"], ["case_file.id"], name=op.f("fk_case_link_case_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("case_id", "kind", "ref", name=op.f("pk_case_link")),
    )
    op.create_index(op.f("ix_case_link_ref"), "case_link", ["ref"], unique=False)
    op.create_table(
        "case_note",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("case_id", sa.Integer(), nullable=False),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("words", sa.String(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(["case_id"], ["case_file.id"], name=op.f("fk_case_note_case_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_case_note")),
    )
    op.create_index(op.f("ix_case_note_case_id"), "case_note", ["case_id"], unique=False)
    op.create_table(
        "content_term",
        sa.Column("content_id", sa.Integer(), nullable=False),
        sa.Column("term", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(
            ["content_id"], ["content.id"], name=op.f("fk_content_term_content_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("content_id", "term", name=op.f("pk_content_term")),
    )
    op.create_index(op.f("ix_content_term_term"), "content_term", ["term"], unique=False)
    op.create_table(
        "evidence",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("case_id", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("taken_at", Utc(), nullable=False),
        sa.Column("taken_by", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["case_id"], ["case_file.id"], name=op.f("fk_evidence_case_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evidence")),
    )
    op.create_index(op.f("ix_evidence_case_id"), "evidence", ["case_id"], unique=False)
    op.create_table(
        "evidence_hold",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("case_id", sa.Integer(), nullable=False),
        sa.Column("because", sa.String(), nullable=False),
        sa.Column("set_at", Utc(), nullable=False),
        sa.Column("released_at", Utc(), nullable=True),
        sa.ForeignKeyConstraint(
            ["case_id"], ["case_file.id"], name=op.f("fk_evidence_hold_case_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evidence_hold")),
    )
    op.create_index(op.f("ix_evidence_hold_case_id"), "evidence_hold", ["case_id"], unique=False)
    op.create_index(
        "uq_evidence_hold_open",
        "evidence_hold",
        ["case_id", "because"],
        unique=True,
        sqlite_where=sa.text("released_at IS NULL"),
        postgresql_where=sa.text("released_at IS NULL"),
    )
    op.create_table(
        "exemption_clause",
        sa.Column("exemption_id", sa.Integer(), nullable=False),
        sa.Column("clause_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["clause_id"], ["clause.id"], name=op.f("fk_exemption_clause_clause_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["exemption_id"], ["exemption.id"], name=op.f("fk_exemption_clause_exemption_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("exemption_id", "clause_id", name=op.f("pk_exemption_clause")),
    )
    op.create_table(
        "preview",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("effective_at", Utc(), nullable=False),
        sa.Column("required_by", Utc(), nullable=False),
        sa.Column("inputs_sha256", sa.String(), nullable=False),
        sa.Column("people", sa.Integer(), nullable=False),
        sa.Column("asked_by", sa.String(), nullable=False),
        sa.Column("asked_at", Utc(), nullable=False),
        sa.Column("done_at", Utc(), nullable=True),
        sa.Column("result", JSON_VALUE, nullable=True),
        sa.CheckConstraint("(done_at IS NULL) = (result IS NULL)", name=op.f("ck_preview_done")),
        sa.ForeignKeyConstraint(
            ["version_id"], ["license_version.id"], name=op.f("fk_preview_version_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_preview")),
        sa.UniqueConstraint("public_id", name=op.f("uq_preview_public_id")),
    )
    op.create_index(op.f("ix_preview_version_id"), "preview", ["version_id"], unique=False)
    op.create_table(
        "ref",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum("branch", "tag", name="kind", native_enum=False, create_constraint=True, length=40),
            nullable=False,
        ),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("commit_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["commit_id"], ["commit_.id"], name=op.f("fk_ref_commit_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["model_id"], ["gated_model.id"], name=op.f("fk_ref_model_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ref")),
        sa.UniqueConstraint("model_id", "name", name=op.f("uq_ref_model_id_name")),
    )
    op.create_table(
        "refresh_token",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("hmac", sa.String(), nullable=False),
        sa.Column("grant_id", sa.Integer(), nullable=False),
        sa.Column("expires_at", Utc(), nullable=False),
        sa.Column("used_at", Utc(), nullable=True),
        sa.ForeignKeyConstraint(
            ["grant_id"], ["program_grant.id"], name=op.f("fk_refresh_token_grant_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refresh_token")),
        sa.UniqueConstraint("hmac", name=op.f("uq_refresh_token_hmac")),
    )
    op.create_index(op.f("ix_refresh_token_grant_id"), "refresh_token", ["grant_id"], unique=False)
    op.create_table(
        "release",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("revision", sa.String(), nullable=False),
        sa.Column("card_revision_id", sa.Integer(), nullable=False),
        sa.Column("license_slug", sa.String(), nullable=False),
        sa.Column("license_number", sa.String(), nullable=False),
        sa.Column("published_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["card_revision_id"], ["card_revision.id"], name=op.f("fk_release_card_revision_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["model_id"], ["gated_model.id"], name=op.f("fk_release_model_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_release")),
        sa.UniqueConstraint("model_id", "revision", name=op.f("uq_release_model_id_revision")),
        sa.UniqueConstraint("public_id", name=op.f("uq_release_public_id")),
    )
    op.create_table(
        "rendition",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("text_sha256", sa.String(), nullable=False),
        sa.Column("prevailing", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["text_sha256"], ["text.sha256"], name=op.f("fk_rendition_text_sha256"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["version_id"], ["license_version.id"], name=op.f("fk_rendition_version_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rendition")),
        sa.UniqueConstraint("id", "text_sha256", name=op.f("uq_rendition_id_text_sha256")),
        sa.UniqueConstraint("version_id", "language", name=op.f("uq_rendition_version_id_language")),
    )
    op.create_index(
        "uq_rendition_prevailing",
        "rendition",
        ["version_id"],
        unique=True,
        sqlite_where=sa.text("prevailing"),
        postgresql_where=sa.text("prevailing"),
    )
    op.create_table(
        "resolution",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("shown_sha256", sa.String(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.Column("minutes_sha256", sa.String(), nullable=False),
        sa.Column("votes_for", sa.Integer(), nullable=False),
        sa.Column("votes_against", sa.Integer(), nullable=False),
        sa.Column("votes_abstain", sa.Integer(), nullable=False),
        sa.Column("decided_at", Utc(), nullable=False),
        sa.Column("recorded_by", sa.String(), nullable=False),
        sa.Column("recorded_at", Utc(), nullable=False),
        sa.CheckConstraint("votes_for > votes_against", name=op.f("ck_resolution_carried")),
        sa.CheckConstraint(
            "votes_for >= 0 AND votes_against >= 0 AND votes_abstain >= 0", name=op.f("ck_resolution_votes")
        ),
        sa.ForeignKeyConstraint(
            ["version_id"], ["license_version.id"], name=op.f("fk_resolution_version_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_resolution")),
        sa.UniqueConstraint("version_id", "shown_sha256", name=op.f("uq_resolution_version_id_shown_sha256")),
    )
    op.create_table(
        "reveal",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column("case_id", sa.Integer(), nullable=False),
        sa.Column("reader_id", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(["case_id"], ["case_file.id"], name=op.f("fk_reveal_case_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(
            ["reader_id"], ["user_account.id"], name=op.f("fk_reveal_reader_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reveal")),
        sa.UniqueConstraint("public_id", name=op.f("uq_reveal_public_id")),
    )
    op.create_index(op.f("ix_reveal_case_id"), "reveal", ["case_id"], unique=False)
    op.create_index(op.f("ix_reveal_reader_id"), "reveal", ["reader_id"], unique=False)
    op.create_table(
        "rule_clause",
        sa.Column("rule_id", sa.Integer(), nullable=False),
        sa.Column("clause_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["clause_id"], ["clause.id"], name=op.f("fk_rule_clause_clause_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["rule_id"], ["detection_rule.id"], name=op.f("fk_rule_clause_rule_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("rule_id", "clause_id", name=op.f("pk_rule_clause")),
    )
    op.create_table(
        "rule_example",
        sa.Column("rule_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("matches", sa.Boolean(), nullable=False),
        sa.Column("prompt", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["rule_id"], ["detection_rule.id"], name=op.f("fk_rule_example_rule_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("rule_id", "number", name=op.f("pk_rule_example")),
    )
    op.create_table(
        "rule_move",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("rule_id", sa.Integer(), nullable=False),
        sa.Column(
            "move",
            sa.Enum(
                "ship",
                "shadow",
                "flag",
                "enforce",
                "brake",
                "retire",
                name="move",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column(
            "mode",
            sa.Enum(
                "draft",
                "shadow",
                "flagging",
                "enforcing",
                "retired",
                name="mode",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("proposal_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["proposal_id"], ["proposal.id"], name=op.f("fk_rule_move_proposal_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["rule_id"], ["detection_rule.id"], name=op.f("fk_rule_move_rule_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rule_move")),
    )
    op.create_index(op.f("ix_rule_move_rule_id"), "rule_move", ["rule_id"], unique=False)
    op.create_table(
        "rule_purpose",
        sa.Column("rule_id", sa.Integer(), nullable=False),
        sa.Column(
            "purpose",
            sa.Enum(
                "detection_research",
                "safety_evaluation",
                "language_research",
                "domain_research",
                "teaching",
                name="purpose",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["rule_id"], ["detection_rule.id"], name=op.f("fk_rule_purpose_rule_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("rule_id", "purpose", name=op.f("pk_rule_purpose")),
    )
    op.create_table(
        "tree_entry",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("commit_id", sa.Integer(), nullable=False),
        sa.Column("folder", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column("path", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column("blob_sha256", sa.String(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("git_oid", sa.String(), nullable=False),
        sa.Column("lfs", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["blob_sha256"], ["blob.sha256"], name=op.f("fk_tree_entry_blob_sha256"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["commit_id"], ["commit_.id"], name=op.f("fk_tree_entry_commit_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tree_entry")),
        sa.UniqueConstraint("commit_id", "path", name=op.f("uq_tree_entry_commit_id_path")),
    )
    op.create_index(op.f("ix_tree_entry_blob_sha256"), "tree_entry", ["blob_sha256"], unique=False)
    op.create_index("ix_tree_entry_folder", "tree_entry", ["commit_id", "folder", "path"], unique=False)
    op.create_table(
        "version_author",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"], ["license_version.id"], name=op.f("fk_version_author_version_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("version_id", "author", name=op.f("pk_version_author")),
    )
    op.create_table(
        "version_comment",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("clause_key", sa.String(), nullable=False),
        sa.Column("words", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"], ["license_version.id"], name=op.f("fk_version_comment_version_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_version_comment")),
    )
    op.create_index(op.f("ix_version_comment_version_id"), "version_comment", ["version_id"], unique=False)
    op.create_table(
        "access_request_purpose",
        sa.Column("access_request_id", sa.Integer(), nullable=False),
        sa.Column("stable_key", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["access_request_id"],
            ["access_request.id"],
            name=op.f("fk_access_request_purpose_access_request_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("access_request_id", "stable_key", name=op.f("pk_access_request_purpose")),
    )
    op.create_table(
        "access_token_model",
        sa.Column("access_token_id", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["access_token_id"],
            ["access_token.id"],
            name=op.f("fk_access_token_model_access_token_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["model_id"], ["gated_model.id"], name=op.f("fk_access_token_model_model_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("access_token_id", "model_id", name=op.f("pk_access_token_model")),
    )
    op.create_table(
        "access_token_scope",
        sa.Column("access_token_id", sa.Integer(), nullable=False),
        sa.Column(
            "scope",
            sa.Enum(
                "weights:read",
                "inference",
                "usage:read",
                "weights:write",
                "requests:write",
                name="scope",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["access_token_id"],
            ["access_token.id"],
            name=op.f("fk_access_token_scope_access_token_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("access_token_id", "scope", name=op.f("pk_access_token_scope")),
    )
    op.create_table(
        "backtest_part",
        sa.Column("backtest_id", sa.Integer(), nullable=False),
        sa.Column("last_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("looked", sa.Integer(), nullable=False),
        sa.Column("tally", JSON_VALUE, nullable=False),
        sa.ForeignKeyConstraint(
            ["backtest_id"], ["backtest.id"], name=op.f("fk_backtest_part_backtest_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("backtest_id", "last_id", name=op.f("pk_backtest_part")),
    )
    op.create_table(
        "campaign",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "re_sign", "limitation", "correction", name="kind", native_enum=False, create_constraint=True, length=40
            ),
            nullable=False,
        ),
        sa.Column("version_id", sa.Integer(), nullable=True),
        sa.Column("preview_id", sa.Integer(), nullable=True),
        sa.Column("card_revision_id", sa.Integer(), nullable=True),
        sa.Column("release_id", sa.Integer(), nullable=True),
        sa.Column("words", sa.String(), nullable=False),
        sa.Column("answer_by", Utc(), nullable=True),
        sa.Column(
            "state",
            sa.Enum(
                "planned",
                "previewed",
                "running",
                "paused",
                "cut_over",
                "finished",
                "cancelled",
                name="state",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("planned_by", sa.String(), nullable=False),
        sa.Column("planned_at", Utc(), nullable=False),
        sa.Column("started_at", Utc(), nullable=True),
        sa.Column("reminded_at", Utc(), nullable=True),
        sa.Column("ended_at", Utc(), nullable=True),
        sa.CheckConstraint("(kind = 'correction') = (release_id IS NOT NULL)", name=op.f("ck_campaign_release")),
        sa.CheckConstraint("(kind = 'limitation') = (card_revision_id IS NOT NULL)", name=op.f("ck_campaign_card")),
        sa.CheckConstraint("(kind = 're_sign') = (answer_by IS NULL)", name=op.f("ck_campaign_answer_by")),
        sa.CheckConstraint("(kind = 're_sign') = (version_id IS NOT NULL)", name=op.f("ck_campaign_version")),
        sa.CheckConstraint(
            "(state IN ('finished', 'cancelled')) = (ended_at IS NOT NULL)", name=op.f("ck_campaign_ended")
        ),
        sa.CheckConstraint(
            "state NOT IN ('running', 'paused', 'cut_over') OR started_at IS NOT NULL", name=op.f("ck_campaign_started")
        ),
        sa.CheckConstraint("(version_id IS NULL) = (preview_id IS NULL)", name=op.f("ck_campaign_preview")),
        sa.ForeignKeyConstraint(
            ["card_revision_id"], ["card_revision.id"], name=op.f("fk_campaign_card_revision_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["preview_id"], ["preview.id"], name=op.f("fk_campaign_preview_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["release_id"], ["release.id"], name=op.f("fk_campaign_release_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["version_id"], ["license_version.id"], name=op.f("fk_campaign_version_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaign")),
        sa.UniqueConstraint("public_id", name=op.f("uq_campaign_public_id")),
    )
    op.create_index(op.f("ix_campaign_version_id"), "campaign", ["version_id"], unique=False)
    op.create_index(
        "uq_campaign_open",
        "campaign",
        ["version_id"],
        unique=True,
        sqlite_where=sa.text("state NOT IN ('finished', 'cancelled')"),
        postgresql_where=sa.text("state NOT IN ('finished', 'cancelled')"),
    )
    op.create_table(
        "card_item_clause",
        sa.Column("item_id", sa.Integer(), nullable=False),
        sa.Column("clause_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["clause_id"], ["clause.id"], name=op.f("fk_card_item_clause_clause_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["item_id"], ["card_item.id"], name=op.f("fk_card_item_clause_item_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("item_id", "clause_id", name=op.f("pk_card_item_clause")),
    )
    op.create_index(op.f("ix_card_item_clause_clause_id"), "card_item_clause", ["clause_id"], unique=False)
    op.create_table(
        "card_item_purpose",
        sa.Column("item_id", sa.Integer(), nullable=False),
        sa.Column("purpose_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["item_id"], ["card_item.id"], name=op.f("fk_card_item_purpose_item_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["purpose_id"], ["card_item.id"], name=op.f("fk_card_item_purpose_purpose_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("item_id", "purpose_id", name=op.f("pk_card_item_purpose")),
    )
    op.create_table(
        "ceremony",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("rendition_id", sa.Integer(), nullable=False),
        sa.Column("nonce", sa.String(), nullable=False),
        sa.Column(
            "state",
            sa.Enum("open", "signed", "declined", name="state", native_enum=False, create_constraint=True, length=40),
            nullable=False,
        ),
        sa.Column("opened_at", Utc(), nullable=False),
        sa.Column("viewed_at", Utc(), nullable=False),
        sa.Column("expires_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["rendition_id"], ["rendition.id"], name=op.f("fk_ceremony_rendition_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_ceremony_user_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["version_id"], ["license_version.id"], name=op.f("fk_ceremony_version_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ceremony")),
        sa.UniqueConstraint("nonce", name=op.f("uq_ceremony_nonce")),
        sa.UniqueConstraint("public_id", name=op.f("uq_ceremony_public_id")),
    )
    op.create_index(op.f("ix_ceremony_user_id"), "ceremony", ["user_id"], unique=False)
    op.create_table(
        "delivery",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("access_token_id", sa.Integer(), nullable=True),
        sa.Column("release_id", sa.Integer(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("file_sha256", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("signature_set", sa.String(), nullable=False),
        sa.Column("card_revision_id", sa.Integer(), nullable=False),
        sa.Column("opened_at", Utc(), nullable=False),
        sa.Column("completed_at", Utc(), nullable=True),
        sa.ForeignKeyConstraint(
            ["access_token_id"], ["access_token.id"], name=op.f("fk_delivery_access_token_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["card_revision_id"], ["card_revision.id"], name=op.f("fk_delivery_card_revision_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["release_id"], ["release.id"], name=op.f("fk_delivery_release_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["signature_set"], ["signature_set.sha256"], name=op.f("fk_delivery_signature_set"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_delivery_user_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery")),
        sa.UniqueConstraint("public_id", name=op.f("uq_delivery_public_id")),
    )
    op.create_index(op.f("ix_delivery_file_sha256"), "delivery", ["file_sha256"], unique=False)
    op.create_index(op.f("ix_delivery_release_id"), "delivery", ["release_id"], unique=False)
    op.create_index(op.f("ix_delivery_user_id"), "delivery", ["user_id"], unique=False)
    op.create_table(
        "device_code",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column("hmac", sa.String(), nullable=False),
        sa.Column("user_code", sa.String(), nullable=False),
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column("scopes", sa.String(), nullable=False),
        sa.Column("network", sa.String(), nullable=False),
        sa.Column("user_agent", sa.String(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "pending",
                "approved",
                "denied",
                "consumed",
                "expired",
                name="state",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("expires_at", Utc(), nullable=False),
        sa.Column("interval", sa.Integer(), nullable=False),
        sa.Column("last_polled_at", Utc(), nullable=True),
        sa.Column("decided_by_id", sa.Integer(), nullable=True),
        sa.Column("decided_at", Utc(), nullable=True),
        sa.Column("access_token_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["access_token_id"], ["access_token.id"], name=op.f("fk_device_code_access_token_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["decided_by_id"], ["user_account.id"], name=op.f("fk_device_code_decided_by_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_code")),
        sa.UniqueConstraint("access_token_id", name=op.f("uq_device_code_access_token_id")),
        sa.UniqueConstraint("hmac", name=op.f("uq_device_code_hmac")),
        sa.UniqueConstraint("public_id", name=op.f("uq_device_code_public_id")),
        sa.UniqueConstraint("user_code", name=op.f("uq_device_code_user_code")),
    )
    op.create_index(op.f("ix_device_code_expires_at"), "device_code", ["expires_at"], unique=False)
    op.create_index(op.f("ix_device_code_network"), "device_code", ["network"], unique=False)
    op.create_table(
        "entitlement",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("access_request_id", sa.Integer(), nullable=False),
        sa.Column("valid_from", Utc(), nullable=False),
        sa.Column("valid_to", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["access_request_id"],
            ["access_request.id"],
            name=op.f("fk_entitlement_access_request_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["model_id"], ["gated_model.id"], name=op.f("fk_entitlement_model_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_entitlement_user_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_entitlement")),
        sa.UniqueConstraint("public_id", name=op.f("uq_entitlement_public_id")),
    )
    op.create_index(op.f("ix_entitlement_access_request_id"), "entitlement", ["access_request_id"], unique=False)
    op.create_index("ix_entitlement_person", "entitlement", ["user_id", "model_id"], unique=False)
    op.create_table(
        "preview_person",
        sa.Column("preview_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column(
            "lot",
            sa.Enum(
                "must_sign",
                "behind",
                "carried_over",
                "signed",
                "untouched",
                name="lot",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("reachable", sa.Boolean(), nullable=False),
        sa.Column("stops_at", Utc(), nullable=True),
        sa.ForeignKeyConstraint(
            ["preview_id"], ["preview.id"], name=op.f("fk_preview_person_preview_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_preview_person_user_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("preview_id", "user_id", name=op.f("pk_preview_person")),
    )
    op.create_table(
        "preview_stop",
        sa.Column("preview_id", sa.Integer(), nullable=False),
        sa.Column("access_token_id", sa.Integer(), nullable=False),
        sa.Column("stops_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["access_token_id"], ["access_token.id"], name=op.f("fk_preview_stop_access_token_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["preview_id"], ["preview.id"], name=op.f("fk_preview_stop_preview_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("preview_id", "access_token_id", name=op.f("pk_preview_stop")),
    )
    op.create_table(
        "revealed_text",
        sa.Column("reveal_id", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["reveal_id"], ["reveal.id"], name=op.f("fk_revealed_text_reveal_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_revealed_text_user_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("reveal_id", "request_id", name=op.f("pk_revealed_text")),
    )
    op.create_index(op.f("ix_revealed_text_user_id"), "revealed_text", ["user_id"], unique=False)
    op.create_table(
        "token_sighting",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("access_token_id", sa.Integer(), nullable=False),
        sa.Column(
            "source",
            sa.Enum("public", "github", name="source", native_enum=False, create_constraint=True, length=40),
            nullable=False,
        ),
        sa.Column("place", sa.String(), nullable=False),
        sa.Column("seen_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["access_token_id"],
            ["access_token.id"],
            name=op.f("fk_token_sighting_access_token_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_token_sighting")),
    )
    op.create_index(op.f("ix_token_sighting_access_token_id"), "token_sighting", ["access_token_id"], unique=False)
    op.create_table(
        "upload",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("access_token_id", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("part_size", sa.BigInteger(), nullable=False),
        sa.Column("opened_at", Utc(), nullable=False),
        sa.Column("expires_at", Utc(), nullable=False),
        sa.Column("stored_at", Utc(), nullable=True),
        sa.ForeignKeyConstraint(
            ["access_token_id"], ["access_token.id"], name=op.f("fk_upload_access_token_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["model_id"], ["gated_model.id"], name=op.f("fk_upload_model_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["user_id"], ["user_account.id"], name=op.f("fk_upload_user_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_upload")),
        sa.UniqueConstraint("public_id", name=op.f("uq_upload_public_id")),
    )
    op.create_index(op.f("ix_upload_expires_at"), "upload", ["expires_at"], unique=False)
    op.create_index(op.f("ix_upload_sha256"), "upload", ["sha256"], unique=False)
    op.create_table(
        "usage_record",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=True),
        sa.Column("access_token_id", sa.Integer(), nullable=True),
        sa.Column("model_name", sa.String(), nullable=False),
        sa.Column("release_id", sa.Integer(), nullable=True),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("signature_set", sa.String(), nullable=True),
        sa.Column("card_revision_id", sa.Integer(), nullable=True),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("completion_tokens", sa.Integer(), nullable=False),
        sa.Column("bytes_sent", sa.BigInteger(), nullable=False),
        sa.Column("ms", sa.Integer(), nullable=False),
        sa.Column(
            "outcome",
            sa.Enum(
                "open",
                "finished",
                "refused",
                "invalid",
                "canceled",
                "cut",
                "engine_lost",
                "overloaded",
                "crashed",
                name="outcome",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("reason_code", sa.String(), nullable=False),
        sa.Column("server", sa.String(), nullable=False),
        sa.Column("lab", sa.String(), nullable=False),
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("started_at", Utc(), nullable=False),
        sa.Column("finished_at", Utc(), nullable=True),
        sa.ForeignKeyConstraint(
            ["access_token_id"], ["access_token.id"], name=op.f("fk_usage_record_access_token_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["card_revision_id"],
            ["card_revision.id"],
            name=op.f("fk_usage_record_card_revision_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["release_id"], ["release.id"], name=op.f("fk_usage_record_release_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["signature_set"], ["signature_set.sha256"], name=op.f("fk_usage_record_signature_set"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_usage_record_user_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage_record")),
        sa.UniqueConstraint("request_id", name=op.f("uq_usage_record_request_id")),
    )
    op.create_index(
        "ix_usage_record_day_sums",
        "usage_record",
        ["day", "outcome", "prompt_tokens", "completion_tokens", "bytes_sent"],
        unique=False,
    )
    op.create_index(op.f("ix_usage_record_lab"), "usage_record", ["lab"], unique=False)
    op.create_index(op.f("ix_usage_record_started_at"), "usage_record", ["started_at"], unique=False)
    op.create_index(
        "ix_usage_record_user_day_sums",
        "usage_record",
        ["user_id", "day", "outcome", "prompt_tokens", "completion_tokens", "bytes_sent"],
        unique=False,
    )
    op.create_index(op.f("ix_usage_record_user_id"), "usage_record", ["user_id"], unique=False)
    op.create_table(
        "acknowledgment",
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("shown_sha256", sa.String(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaign.id"], name=op.f("fk_acknowledgment_campaign_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_acknowledgment_user_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("campaign_id", "user_id", name=op.f("pk_acknowledgment")),
    )
    op.create_table(
        "attestation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("ceremony_id", sa.Integer(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "restriction", "electronic_form", name="kind", native_enum=False, create_constraint=True, length=40
            ),
            nullable=False,
        ),
        sa.Column("clause_id", sa.Integer(), nullable=True),
        sa.Column("wording_sha256", sa.String(), nullable=False),
        sa.Column("answer", sa.Boolean(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.CheckConstraint(
            "(kind = 'restriction') = (clause_id IS NOT NULL)", name=op.f("ck_attestation_restriction_clause")
        ),
        sa.ForeignKeyConstraint(
            ["ceremony_id"], ["ceremony.id"], name=op.f("fk_attestation_ceremony_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["clause_id"], ["clause.id"], name=op.f("fk_attestation_clause_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attestation")),
        sa.UniqueConstraint("ceremony_id", "kind", "clause_id", name=op.f("uq_attestation_ceremony_id_kind_clause_id")),
    )
    op.create_index(op.f("ix_attestation_ceremony_id"), "attestation", ["ceremony_id"], unique=False)
    op.create_table(
        "campaign_purpose",
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("stable_key", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaign.id"], name=op.f("fk_campaign_purpose_campaign_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("campaign_id", "stable_key", name=op.f("pk_campaign_purpose")),
    )
    op.create_table(
        "campaign_target",
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("waves", sa.Integer(), nullable=False),
        sa.Column("exempt_by", sa.String(), nullable=True),
        sa.Column("exempt_at", Utc(), nullable=True),
        sa.Column("exempt_reason", sa.String(), nullable=True),
        sa.CheckConstraint("(exempt_by IS NULL) = (exempt_at IS NULL)", name=op.f("ck_campaign_target_exempt")),
        sa.CheckConstraint(
            "(exempt_by IS NULL) = (exempt_reason IS NULL)", name=op.f("ck_campaign_target_exempt_reason")
        ),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaign.id"], name=op.f("fk_campaign_target_campaign_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_campaign_target_user_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("campaign_id", "user_id", name=op.f("pk_campaign_target")),
    )
    op.create_table(
        "decline",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("ceremony_id", sa.Integer(), nullable=False),
        sa.Column("reason_code", sa.String(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["ceremony_id"], ["ceremony.id"], name=op.f("fk_decline_ceremony_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decline")),
        sa.UniqueConstraint("ceremony_id", name=op.f("uq_decline_ceremony_id")),
    )
    op.create_table(
        "delivery_part",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("delivery_id", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("range_start", sa.BigInteger(), nullable=False),
        sa.Column("opened_at", Utc(), nullable=False),
        sa.Column("bytes_sent", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", Utc(), nullable=True),
        sa.ForeignKeyConstraint(
            ["delivery_id"], ["delivery.id"], name=op.f("fk_delivery_part_delivery_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery_part")),
        sa.UniqueConstraint("request_id", name=op.f("uq_delivery_part_request_id")),
    )
    op.create_index(op.f("ix_delivery_part_delivery_id"), "delivery_part", ["delivery_id"], unique=False)
    op.create_table(
        "entitlement_end",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("entitlement_id", sa.Integer(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum("reopened", "reset", "returned", name="kind", native_enum=False, create_constraint=True, length=40),
            nullable=False,
        ),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["entitlement_id"], ["entitlement.id"], name=op.f("fk_entitlement_end_entitlement_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_entitlement_end")),
        sa.UniqueConstraint("entitlement_id", name=op.f("uq_entitlement_end_entitlement_id")),
    )
    op.create_table(
        "exhibit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("ceremony_id", sa.Integer(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "rendition",
                "difference",
                "card_revision",
                name="kind",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("ref", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("shown_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["ceremony_id"], ["ceremony.id"], name=op.f("fk_exhibit_ceremony_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exhibit")),
        sa.UniqueConstraint("ceremony_id", "kind", "ref", name=op.f("uq_exhibit_ceremony_id_kind_ref")),
    )
    op.create_index(op.f("ix_exhibit_ceremony_id"), "exhibit", ["ceremony_id"], unique=False)
    op.create_table(
        "feature_vector",
        sa.Column("usage_record_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=True),
        sa.Column("at", Utc(), nullable=False),
        sa.Column("feature_values", JSON_VALUE, nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("license", sa.String(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=True),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("applied", JSON_VALUE, nullable=False),
        sa.Column(
            "look",
            sa.Enum("pending", "done", "lost", name="look", native_enum=False, create_constraint=True, length=40),
            nullable=False,
        ),
        sa.Column("looked_at", Utc(), nullable=True),
        sa.ForeignKeyConstraint(
            ["model_id"], ["gated_model.id"], name=op.f("fk_feature_vector_model_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["usage_record_id"],
            ["usage_record.id"],
            name=op.f("fk_feature_vector_usage_record_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_feature_vector_user_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("usage_record_id", name=op.f("pk_feature_vector")),
    )
    op.create_index(op.f("ix_feature_vector_at"), "feature_vector", ["at"], unique=False)
    op.create_index("ix_feature_vector_look_at", "feature_vector", ["look", "at"], unique=False)
    op.create_index("ix_feature_vector_user_at", "feature_vector", ["user_id", "at"], unique=False)
    op.create_table(
        "hit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("rule_id", sa.Integer(), nullable=False),
        sa.Column("usage_record_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=True),
        sa.Column("at", Utc(), nullable=False),
        sa.Column(
            "outcome",
            sa.Enum(
                "allow",
                "tag",
                "flag",
                "warn",
                "throttle",
                "reconfirm",
                "block",
                "freeze_access_token",
                "suspend_entitlement",
                "suspend",
                name="outcome",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column(
            "applied",
            sa.Enum(
                "allow",
                "tag",
                "flag",
                "warn",
                "throttle",
                "reconfirm",
                "block",
                "freeze_access_token",
                "suspend_entitlement",
                "suspend",
                name="applied",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("exemption_id", sa.Integer(), nullable=True),
        sa.Column("case_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["exemption_id"], ["exemption.id"], name=op.f("fk_hit_exemption_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["rule_id"], ["detection_rule.id"], name=op.f("fk_hit_rule_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(
            ["usage_record_id"], ["usage_record.id"], name=op.f("fk_hit_usage_record_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["user_account.id"], name=op.f("fk_hit_user_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hit")),
        sa.UniqueConstraint("rule_id", "usage_record_id", name=op.f("uq_hit_rule_id_usage_record_id")),
    )
    op.create_index(op.f("ix_hit_case_id"), "hit", ["case_id"], unique=False)
    op.create_index("ix_hit_rule_at", "hit", ["rule_id", "at"], unique=False)
    op.create_index(op.f("ix_hit_usage_record_id"), "hit", ["usage_record_id"], unique=False)
    op.create_index(op.f("ix_hit_user_id"), "hit", ["user_id"], unique=False)
    op.create_index(
        "ix_hit_waiting",
        "hit",
        ["id"],
        unique=False,
        sqlite_where=sa.text("case_id IS NULL AND applied NOT IN ('allow', 'tag')"),
        postgresql_where=sa.text("case_id IS NULL AND applied NOT IN ('allow', 'tag')"),
    )
    op.create_table(
        "near_text",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("usage_record_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.Column("part", sa.String(), nullable=False),
        sa.Column("algorithm", sa.String(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.Column("entities", sa.String(), nullable=False),
        sa.Column("script", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["usage_record_id"], ["usage_record.id"], name=op.f("fk_near_text_usage_record_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_near_text_user_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_near_text")),
    )
    op.create_index(op.f("ix_near_text_at"), "near_text", ["at"], unique=False)
    op.create_index("ix_near_text_user_entities", "near_text", ["user_id", "entities"], unique=False)
    op.create_index("uq_near_text_part", "near_text", ["usage_record_id", "part"], unique=True)
    op.create_table(
        "signature",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column("ceremony_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("rendition_id", sa.Integer(), nullable=False),
        sa.Column("rendition_sha256", sa.String(), nullable=False),
        sa.Column("prevailing_sha256", sa.String(), nullable=False),
        sa.Column("annex_commitment", sa.String(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("signed_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["ceremony_id"], ["ceremony.id"], name=op.f("fk_signature_ceremony_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["rendition_id"], ["rendition.id"], name=op.f("fk_signature_rendition_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_signature_user_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["version_id"], ["license_version.id"], name=op.f("fk_signature_version_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signature")),
        sa.UniqueConstraint("ceremony_id", name=op.f("uq_signature_ceremony_id")),
        sa.UniqueConstraint("public_id", name=op.f("uq_signature_public_id")),
    )
    op.create_index(op.f("ix_signature_user_id"), "signature", ["user_id"], unique=False)
    op.create_index(op.f("ix_signature_version_id"), "signature", ["version_id"], unique=False)
    op.create_table(
        "annulment",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("signature_id", sa.Integer(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum("withdrawn", "error", name="kind", native_enum=False, create_constraint=True, length=40),
            nullable=False,
        ),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("proposal_id", sa.Integer(), nullable=True),
        sa.Column("reason_code", sa.String(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.CheckConstraint("(kind = 'withdrawn') = (proposal_id IS NULL)", name=op.f("ck_annulment_two_people")),
        sa.ForeignKeyConstraint(
            ["proposal_id"], ["proposal.id"], name=op.f("fk_annulment_proposal_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["signature_id"], ["signature.id"], name=op.f("fk_annulment_signature_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_annulment")),
        sa.UniqueConstraint("signature_id", name=op.f("uq_annulment_signature_id")),
    )
    op.create_table(
        "near_band",
        sa.Column("value", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("near_text_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["near_text_id"], ["near_text.id"], name=op.f("fk_near_band_near_text_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("value", "near_text_id", name=op.f("pk_near_band")),
    )
    op.create_index("ix_near_band_near_text_id", "near_band", ["near_text_id"], unique=False)
    op.create_table(
        "signature_annex",
        sa.Column("signature_id", sa.Integer(), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("evidence", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["signature_id"], ["signature.id"], name=op.f("fk_signature_annex_signature_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("signature_id", name=op.f("pk_signature_annex")),
    )
    op.create_table(
        "signature_set_item",
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("signature_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["sha256"], ["signature_set.sha256"], name=op.f("fk_signature_set_item_sha256"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["signature_id"], ["signature.id"], name=op.f("fk_signature_set_item_signature_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("sha256", "signature_id", name=op.f("pk_signature_set_item")),
    )
    op.create_table(
        "statement_of_reasons",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("signature_id", sa.Integer(), nullable=False),
        sa.Column("facts", sa.String(), nullable=False),
        sa.Column(
            "automation",
            sa.Enum(
                "none", "detected", "decided", name="automation", native_enum=False, create_constraint=True, length=40
            ),
            nullable=False,
        ),
        sa.Column(
            "source",
            sa.Enum(
                "SOURCE_ARTICLE_16",
                "SOURCE_VOLUNTARY",
                "SOURCE_TYPE_OTHER_NOTIFICATION",
                name="source",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("restricted", sa.String(), nullable=False),
        sa.Column("notice", sa.String(), nullable=False),
        sa.Column("notice_sha256", sa.String(), nullable=False),
        sa.Column("until", Utc(), nullable=True),
        sa.Column("appeal_by", Utc(), nullable=False),
        sa.CheckConstraint("facts <> ''", name=op.f("ck_statement_of_reasons_facts_given")),
        sa.ForeignKeyConstraint(
            ["signature_id"], ["signature.id"], name=op.f("fk_statement_of_reasons_signature_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["version_id"], ["license_version.id"], name=op.f("fk_statement_of_reasons_version_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_statement_of_reasons")),
    )
    op.create_table(
        "case_decision",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column("case_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=True),
        sa.Column(
            "state",
            sa.Enum("in_force", "overturned", name="state", native_enum=False, create_constraint=True, length=40),
            nullable=False,
        ),
        sa.Column(
            "finding",
            sa.Enum(
                "violation",
                "none",
                "inconclusive",
                name="finding",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column(
            "intent",
            sa.Enum(
                "none",
                "negligent",
                "knowing",
                "organized",
                name="intent",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("statement_id", sa.Integer(), nullable=True),
        sa.Column("decided_by", sa.String(), nullable=False),
        sa.Column("decided_at", Utc(), nullable=False),
        sa.Column("confirmed_by", sa.String(), nullable=True),
        sa.Column("confirmed_at", Utc(), nullable=True),
        sa.Column("lapses_at", Utc(), nullable=True),
        sa.Column("lapsed_at", Utc(), nullable=True),
        sa.Column("rule_ref", sa.String(), nullable=False),
        sa.Column("batch_ref", sa.String(), nullable=False),
        sa.Column("overturned_by", sa.String(), nullable=True),
        sa.Column("overturned_at", Utc(), nullable=True),
        sa.Column("overturn_reason", sa.String(), nullable=True),
        sa.CheckConstraint(
            "(finding = 'violation') = (statement_id IS NOT NULL)", name=op.f("ck_case_decision_reasons_given")
        ),
        sa.CheckConstraint(
            "(state = 'overturned') = (overturned_at IS NOT NULL)", name=op.f("ck_case_decision_overturned")
        ),
        sa.CheckConstraint(
            "decided_by <> 'program' OR lapses_at IS NOT NULL", name=op.f("ck_case_decision_program_only_interim")
        ),
        sa.CheckConstraint("finding <> 'violation' OR user_id IS NOT NULL", name=op.f("ck_case_decision_of_somebody")),
        sa.CheckConstraint("confirmed_by <> decided_by", name=op.f("ck_case_decision_two_people")),
        sa.ForeignKeyConstraint(
            ["case_id"], ["case_file.id"], name=op.f("fk_case_decision_case_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["statement_id"],
            ["statement_of_reasons.id"],
            name=op.f("fk_case_decision_statement_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_case_decision_user_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_case_decision")),
        sa.UniqueConstraint("public_id", name=op.f("uq_case_decision_public_id")),
        sa.UniqueConstraint("statement_id", name=op.f("uq_case_decision_statement_id")),
    )
    op.create_index(op.f("ix_case_decision_batch_ref"), "case_decision", ["batch_ref"], unique=False)
    op.create_index(op.f("ix_case_decision_case_id"), "case_decision", ["case_id"], unique=False)
    op.create_index(op.f("ix_case_decision_user_id"), "case_decision", ["user_id"], unique=False)
    op.create_table(
        "statement_clause",
        sa.Column("statement_id", sa.Integer(), nullable=False),
        sa.Column("clause_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["clause_id"], ["clause.id"], name=op.f("fk_statement_clause_clause_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["statement_id"],
            ["statement_of_reasons.id"],
            name=op.f("fk_statement_clause_statement_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("statement_id", "clause_id", name=op.f("pk_statement_clause")),
    )
    _guard()


def _guard() -> None:
    dialect = op.get_bind().dialect.name
    for table, (columns, once) in APPEND_ONLY.items():
        for statement in append_only_ddl(table, columns, once, dialect):
            op.execute(statement)
    for name, (table, columns, when, free) in FROZEN.items():
        for statement in frozen_ddl(name, table=table, columns=columns, when=when, free=free, dialect=dialect):
            op.execute(statement)
    for statement in facts_start_ddl(dialect):
        op.execute(statement)
    for table, columns in FACTS.items():
        for statement in facts_ddl(table, columns, dialect):
            op.execute(statement)


def downgrade() -> None:
    op.drop_table("statement_clause")
    op.drop_index(op.f("ix_case_decision_user_id"), table_name="case_decision")
    op.drop_index(op.f("ix_case_decision_case_id"), table_name="case_decision")
    op.drop_index(op.f("ix_case_decision_batch_ref"), table_name="case_decision")
    op.drop_table("case_decision")
    op.drop_table("statement_of_reasons")
    op.drop_table("signature_set_item")
    op.drop_table("signature_annex")
    op.drop_index("ix_near_band_near_text_id", table_name="near_band")
    op.drop_table("near_band")
    op.drop_table("annulment")
    op.drop_index(op.f("ix_signature_version_id"), table_name="signature")
    op.drop_index(op.f("ix_signature_user_id"), table_name="signature")
    op.drop_table("signature")
    op.drop_index("uq_near_text_part", table_name="near_text")
    op.drop_index("ix_near_text_user_entities", table_name="near_text")
    op.drop_index(op.f("ix_near_text_at"), table_name="near_text")
    op.drop_table("near_text")
    op.drop_index(
        "ix_hit_waiting",
        table_name="hit",
        sqlite_where=sa.text("case_id IS NULL AND applied NOT IN ('allow', 'tag')"),
        postgresql_where=sa.text("case_id IS NULL AND applied NOT IN ('allow', 'tag')"),
    )
    op.drop_index(op.f("ix_hit_user_id"), table_name="hit")
    op.drop_index(op.f("ix_hit_usage_record_id"), table_name="hit")
    op.drop_index("ix_hit_rule_at", table_name="hit")
    op.drop_index(op.f("ix_hit_case_id"), table_name="hit")
    op.drop_table("hit")
    op.drop_index("ix_feature_vector_user_at", table_name="feature_vector")
    op.drop_index("ix_feature_vector_look_at", table_name="feature_vector")
    op.drop_index(op.f("ix_feature_vector_at"), table_name="feature_vector")
    op.drop_table("feature_vector")
    op.drop_index(op.f("ix_exhibit_ceremony_id"), table_name="exhibit")
    op.drop_table("exhibit")
    op.drop_table("entitlement_end")
    op.drop_index(op.f("ix_delivery_part_delivery_id"), table_name="delivery_part")
    op.drop_table("delivery_part")
    op.drop_table("decline")
    op.drop_table("campaign_target")
    op.drop_table("campaign_purpose")
    op.drop_index(op.f("ix_attestation_ceremony_id"), table_name="attestation")
    op.drop_table("attestation")
    op.drop_table("acknowledgment")
    op.drop_index(op.f("ix_usage_record_user_id"), table_name="usage_record")
    op.drop_index("ix_usage_record_user_day_sums", table_name="usage_record")
    op.drop_index(op.f("ix_usage_record_started_at"), table_name="usage_record")
    op.drop_index(op.f("ix_usage_record_lab"), table_name="usage_record")
    op.drop_index("ix_usage_record_day_sums", table_name="usage_record")
    op.drop_table("usage_record")
    op.drop_index(op.f("ix_upload_sha256"), table_name="upload")
    op.drop_index(op.f("ix_upload_expires_at"), table_name="upload")
    op.drop_table("upload")
    op.drop_index(op.f("ix_token_sighting_access_token_id"), table_name="token_sighting")
    op.drop_table("token_sighting")
    op.drop_index(op.f("ix_revealed_text_user_id"), table_name="revealed_text")
    op.drop_table("revealed_text")
    op.drop_table("preview_stop")
    op.drop_table("preview_person")
    op.drop_index("ix_entitlement_person", table_name="entitlement")
    op.drop_index(op.f("ix_entitlement_access_request_id"), table_name="entitlement")
    op.drop_table("entitlement")
    op.drop_index(op.f("ix_device_code_network"), table_name="device_code")
    op.drop_index(op.f("ix_device_code_expires_at"), table_name="device_code")
    op.drop_table("device_code")
    op.drop_index(op.f("ix_delivery_user_id"), table_name="delivery")
    op.drop_index(op.f("ix_delivery_release_id"), table_name="delivery")
    op.drop_index(op.f("ix_delivery_file_sha256"), table_name="delivery")
    op.drop_table("delivery")
    op.drop_index(op.f("ix_ceremony_user_id"), table_name="ceremony")
    op.drop_table("ceremony")
    op.drop_table("card_item_purpose")
    op.drop_index(op.f("ix_card_item_clause_clause_id"), table_name="card_item_clause")
    op.drop_table("card_item_clause")
    op.drop_index(
        "uq_campaign_open",
        table_name="campaign",
        sqlite_where=sa.text("state NOT IN ('finished', 'cancelled')"),
        postgresql_where=sa.text("state NOT IN ('finished', 'cancelled')"),
    )
    op.drop_index(op.f("ix_campaign_version_id"), table_name="campaign")
    op.drop_table("campaign")
    op.drop_table("backtest_part")
    op.drop_table("access_token_scope")
    op.drop_table("access_token_model")
    op.drop_table("access_request_purpose")
    op.drop_index(op.f("ix_version_comment_version_id"), table_name="version_comment")
    op.drop_table("version_comment")
    op.drop_table("version_author")
    op.drop_index("ix_tree_entry_folder", table_name="tree_entry")
    op.drop_index(op.f("ix_tree_entry_blob_sha256"), table_name="tree_entry")
    op.drop_table("tree_entry")
    op.drop_table("rule_purpose")
    op.drop_index(op.f("ix_rule_move_rule_id"), table_name="rule_move")
    op.drop_table("rule_move")
    op.drop_table("rule_example")
    op.drop_table("rule_clause")
    op.drop_index(op.f("ix_reveal_reader_id"), table_name="reveal")
    op.drop_index(op.f("ix_reveal_case_id"), table_name="reveal")
    op.drop_table("reveal")
    op.drop_table("resolution")
    op.drop_index(
        "uq_rendition_prevailing",
        table_name="rendition",
        sqlite_where=sa.text("prevailing"),
        postgresql_where=sa.text("prevailing"),
    )
    op.drop_table("rendition")
    op.drop_table("release")
    op.drop_index(op.f("ix_refresh_token_grant_id"), table_name="refresh_token")
    op.drop_table("refresh_token")
    op.drop_table("ref")
    op.drop_index(op.f("ix_preview_version_id"), table_name="preview")
    op.drop_table("preview")
    op.drop_table("exemption_clause")
    op.drop_index(
        "uq_evidence_hold_open",
        table_name="evidence_hold",
        sqlite_where=sa.text("released_at IS NULL"),
        postgresql_where=sa.text("released_at IS NULL"),
    )
    op.drop_index(op.f("ix_evidence_hold_case_id"), table_name="evidence_hold")
    op.drop_table("evidence_hold")
    op.drop_index(op.f("ix_evidence_case_id"), table_name="evidence")
    op.drop_table("evidence")
    op.drop_index(op.f("ix_content_term_term"), table_name="content_term")
    op.drop_table("content_term")
    op.drop_index(op.f("ix_case_note_case_id"), table_name="case_note")
    op.drop_table("case_note")
    op.drop_index(op.f("ix_case_link_ref"), table_name="case_link")
    op.drop_table("case_link")
    op.drop_index(op.f("ix_card_review_revision_id"), table_name="card_review")
    op.drop_table("card_review")
    op.drop_table("card_plot")
    op.drop_table("card_item")
    op.drop_index(op.f("ix_backtest_rule_id"), table_name="backtest")
    op.drop_table("backtest")
    op.drop_index(op.f("ix_authorization_code_expires_at"), table_name="authorization_code")
    op.drop_table("authorization_code")
    op.drop_index(op.f("ix_appeal_message_appeal_id"), table_name="appeal_message")
    op.drop_table("appeal_message")
    op.drop_table("after_review")
    op.drop_index(op.f("ix_access_token_user_id"), table_name="access_token")
    op.drop_index(op.f("ix_access_token_grant_id"), table_name="access_token")
    op.drop_table("access_token")
    op.drop_index(
        "uq_access_request_open",
        table_name="access_request",
        sqlite_where=sa.text("state = 'submitted'"),
        postgresql_where=sa.text("state = 'submitted'"),
    )
    op.drop_index(op.f("ix_access_request_user_id"), table_name="access_request")
    op.drop_index("ix_access_request_state", table_name="access_request")
    op.drop_table("access_request")
    op.drop_table("totp_secret")
    op.drop_index(
        "uq_text_consent_open",
        table_name="text_consent",
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.drop_index(op.f("ix_text_consent_user_id"), table_name="text_consent")
    op.drop_table("text_consent")
    op.drop_index(op.f("ix_strike_user_id"), table_name="strike")
    op.drop_table("strike")
    op.drop_index(op.f("ix_sanction_user_id"), table_name="sanction")
    op.drop_index(op.f("ix_sanction_decision_ref"), table_name="sanction")
    op.drop_table("sanction")
    op.drop_table("salt")
    op.drop_index(
        "uq_role_holding_live",
        table_name="role_holding",
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.drop_index(op.f("ix_role_holding_user_id"), table_name="role_holding")
    op.drop_table("role_holding")
    op.drop_table("retention")
    op.drop_index(
        "uq_requirement_open",
        table_name="requirement",
        sqlite_where=sa.text("valid_to IS NULL"),
        postgresql_where=sa.text("valid_to IS NULL"),
    )
    op.drop_table("requirement")
    op.drop_table("request_form")
    op.drop_index(op.f("ix_report_subject_ref"), table_name="report")
    op.drop_index(op.f("ix_report_reporter_id"), table_name="report")
    op.drop_index(op.f("ix_report_network"), table_name="report")
    op.drop_index(op.f("ix_report_email"), table_name="report")
    op.drop_index(op.f("ix_report_case_ref"), table_name="report")
    op.drop_table("report")
    op.drop_index(op.f("ix_recovery_code_user_id"), table_name="recovery_code")
    op.drop_table("recovery_code")
    op.drop_index(op.f("ix_reconfirmation_user_id"), table_name="reconfirmation")
    op.drop_table("reconfirmation")
    op.drop_table("quota")
    op.drop_index(op.f("ix_program_grant_user_id"), table_name="program_grant")
    op.drop_index(op.f("ix_program_grant_program_id"), table_name="program_grant")
    op.drop_table("program_grant")
    op.drop_table("profile")
    op.drop_table("password")
    op.drop_index(op.f("ix_passkey_user_id"), table_name="passkey")
    op.drop_table("passkey")
    op.drop_index(op.f("ix_one_time_link_user_id"), table_name="one_time_link")
    op.drop_table("one_time_link")
    op.drop_index(op.f("ix_notice_event_notice_id"), table_name="notice_event")
    op.drop_table("notice_event")
    op.drop_index(op.f("ix_login_session_user_id"), table_name="login_session")
    op.drop_table("login_session")
    op.drop_index(op.f("ix_linked_identity_user_id"), table_name="linked_identity")
    op.drop_table("linked_identity")
    op.drop_index(
        "uq_license_version_draft",
        table_name="license_version",
        sqlite_where=sa.text("state IN ('draft', 'in_review', 'approved')"),
        postgresql_where=sa.text("state IN ('draft', 'in_review', 'approved')"),
    )
    op.drop_table("license_version")
    op.drop_table("former_name")
    op.drop_index(op.f("ix_exemption_user_id"), table_name="exemption")
    op.drop_table("exemption")
    op.drop_index(op.f("ix_device_mistake_user_id"), table_name="device_mistake")
    op.drop_index(op.f("ix_device_mistake_at"), table_name="device_mistake")
    op.drop_table("device_mistake")
    op.drop_index(
        "uq_detection_rule_enforcing",
        table_name="detection_rule",
        sqlite_where=sa.text("mode = 'enforcing'"),
        postgresql_where=sa.text("mode = 'enforcing'"),
    )
    op.drop_table("detection_rule")
    op.drop_table("daily_checkpoint")
    op.drop_table("cosignature")
    op.drop_index(op.f("ix_content_user_id"), table_name="content")
    op.drop_index(op.f("ix_content_month"), table_name="content")
    op.drop_index(op.f("ix_content_held_for"), table_name="content")
    op.drop_index(op.f("ix_content_delete_after"), table_name="content")
    op.drop_table("content")
    op.drop_index(op.f("ix_commit__revision"), table_name="commit_")
    op.drop_index(op.f("ix_commit__model_id"), table_name="commit_")
    op.drop_table("commit_")
    op.drop_index(op.f("ix_clause_text_clause_id"), table_name="clause_text")
    op.drop_table("clause_text")
    op.drop_table("clause_change")
    op.drop_index(op.f("ix_case_file_user_id"), table_name="case_file")
    op.drop_index(op.f("ix_case_file_subject_ref"), table_name="case_file")
    op.drop_index("ix_case_file_queue", table_name="case_file")
    op.drop_table("case_file")
    op.drop_index(
        "uq_card_revision_draft",
        table_name="card_revision",
        sqlite_where=sa.text("state = 'draft'"),
        postgresql_where=sa.text("state = 'draft'"),
    )
    op.drop_table("card_revision")
    op.drop_index(op.f("ix_appeal_user_id"), table_name="appeal")
    op.drop_table("appeal")
    op.drop_table("user_account")
    op.drop_table("usage_seal")
    op.drop_table("text")
    op.drop_table("signature_set")
    op.drop_index(op.f("ix_receipt_subject_ref"), table_name="receipt")
    op.drop_table("receipt")
    op.drop_index(op.f("ix_proposal_subject_ref"), table_name="proposal")
    op.drop_table("proposal")
    op.drop_table("program")
    op.drop_table("phrase_bank")
    op.drop_index(op.f("ix_notice_recipient_id"), table_name="notice")
    op.drop_index("ix_notice_due", table_name="notice", postgresql_where=sa.text("due_at IS NOT NULL"))
    op.drop_table("notice")
    op.drop_table("node")
    op.drop_table("monthly_report")
    op.drop_index(op.f("ix_login_failure_attempt_hmac"), table_name="login_failure")
    op.drop_index(op.f("ix_login_failure_at"), table_name="login_failure")
    op.drop_table("login_failure")
    op.drop_table("license")
    op.drop_index(op.f("ix_leak_report_settled_at"), table_name="leak_report")
    op.drop_index(op.f("ix_leak_report_network"), table_name="leak_report")
    op.drop_table("leak_report")
    op.drop_index(
        "ix_leaf_pending",
        table_name="leaf",
        sqlite_where=sa.text('"index" IS NULL'),
        postgresql_where=sa.text('"index" IS NULL'),
    )
    op.drop_table("leaf")
    op.drop_table("gated_model")
    op.drop_table("facts_version")
    op.drop_table("clause")
    op.drop_table("checkpoint")
    op.drop_index(op.f("ix_case_finding_case_id"), table_name="case_finding")
    op.drop_table("case_finding")
    op.drop_table("blob")
    op.drop_table("batch")
    op.drop_index(op.f("ix_audit_event_subject"), table_name="audit_event")
    op.drop_index(op.f("ix_audit_event_name"), table_name="audit_event")
    op.drop_index(op.f("ix_audit_event_at"), table_name="audit_event")
    op.drop_index(op.f("ix_audit_event_actor"), table_name="audit_event")
    op.drop_table("audit_event")
    op.drop_index(op.f("ix_answered_challenge_at"), table_name="answered_challenge")
    op.drop_table("answered_challenge")
    if op.get_bind().dialect.name == "postgresql":
        for table in APPEND_ONLY:
            op.execute(f"DROP FUNCTION ao_{table}()")
        for name in FROZEN:
            op.execute(f"DROP FUNCTION fz_{name}()")
        op.execute("DROP FUNCTION facts_moved()")
