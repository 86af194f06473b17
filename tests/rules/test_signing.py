"""Who may sign, the words that bind, and how evidence is written and read back."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from portal.accounts.rules import Standing
from portal.clauses.rules import Delta, Part, Relation
from portal.core.errors import Conflict, Invalid, PortalError, Refused
from portal.licensing.rules import CeremonyState, VersionState
from portal.signing import rules
from portal.signing.rules import Context, Signer

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
PART = Part("restriction.spam", "A.1", "Spam", 0, 10, "No spam.")
SIGNER: dict[str, Any] = {
    "by_browser": True, "standing": Standing.ACTIVE, "standing_until": None, "standing_ref": None, "verified_at": NOW,
}  # fmt: skip
SUSPENDED: dict[str, Any] = {
    "standing": Standing.SUSPENDED, "standing_until": NOW + timedelta(1), "standing_ref": "san_x",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "code", "url"),
    [
        ({}, "", None),
        ({**SUSPENDED, "standing_until": NOW}, "", None),
        ({"by_browser": False}, "browser_needed", None),
        ({"standing": Standing.CLOSED, "standing_ref": "x"}, "standing_closed", None),
        (SUSPENDED, "standing_suspended", "/appeal/san_x"),
        ({"verified_at": None}, "address_unverified", "/settings/profile"),
    ],
)
def test_who_may_sign(changed: dict[str, Any], code: str, url: str | None) -> None:
    signer = Signer(**{**SIGNER, **changed})
    if not code:
        rules.check_signer(signer, NOW)
        return
    with pytest.raises(Refused) as caught:
        rules.check_signer(signer, NOW)
    assert (caught.value.code, caught.value.url) == (code, url)


def test_words_in_evidence_are_plain() -> None:
    assert rules.plain("  e\u0301\x00\n\u202ea ") == "é   a"
    assert rules.plain("x" * 600) == "x" * 500
    assert rules.plain("\ud800x") == "x"


def written(**changed: Any) -> bytes:
    given: dict[str, Any] = {
        "ref": "sig_1", "license_": {"slug": "l", "text_sha256": "t", "language": "en"}, "parts": [PART],
        "owed": [PART], "sentence": "I sign.", "signer": {"typed_name": "e\u0301", "email_verified_at": None},
        "ceremony": {"signed_at": "now"}, "context": Context("ip", "agent", "en", "req"), "previous": None,
    }  # fmt: skip
    return rules.evidence(**{**given, **changed})


def test_evidence_reads_back() -> None:
    found = rules.read_evidence(written())
    assert found["license"]["clauses"] == [{"number": "A.1", "key": "restriction.spam", "sha256": PART.sha256}]
    assert found["ceremony"]["acknowledgments"][0]["wording_sha256"] == PART.sha256
    assert [row["id"] for row in found["ceremony"]["statements"]] == ["electronic_form", "binding"]
    assert found["signer"]["typed_name"] == "é"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'{"schema":"other"}', b"\xff", written() + b" ", written(ref=1), b"[" * 100_000,
        written().replace(b"portal.signature/2", b"portal.signature/3"), b'{"schema": "portal.signature/2"}',
    ],
)  # fmt: skip
def test_evidence_that_is_not_as_the_portal_writes_it_is_refused(body: bytes) -> None:
    with pytest.raises(Invalid):
        rules.read_evidence(body)


def test_a_difference_is_hashed_without_what_stayed() -> None:
    same = Delta("a", Relation.SAME, PART, PART)
    changed = Delta("b", Relation.WIDENED, PART, None, "More.")
    assert rules.difference_bytes("x", "y", [same, changed]) == rules.difference_bytes("x", "y", [changed])
    assert b'"old_sha256":"' in rules.difference_bytes("x", "y", [changed])
    assert b'"old_sha256":null' in rules.difference_bytes("x", "y", [Delta("c", Relation.ADDED, None, PART)])


def test_the_sentence_that_binds_names_person_text_and_digest() -> None:
    sentence = rules.binding(title="License", number="1.0", language="fr", text_sha256="ab" * 32, name="Ann")
    for part in ("I, Ann,", "License, version 1.0", "French", "ab" * 32):
        assert part in sentence


CEREMONY = rules.CeremonyFact(
    nonce="n", state=CeremonyState.OPEN, expires_at=NOW + timedelta(hours=1), shown_digest="d",
    restrictions=("a", "b"), version_state=VersionState.IN_FORCE, is_newest=True,
)  # fmt: skip
SITTING = rules.Sitting("n", "d", frozenset({"a", "b"}), consent_electronic=True, typed_name="Ann")


def test_a_sitting_in_which_all_is_there_may_be_signed() -> None:
    rules.check_signable(CEREMONY, SITTING, NOW)
    rules.check_signable(replace(CEREMONY, version_state=VersionState.SCHEDULED), SITTING, NOW)


@pytest.mark.parametrize(
    ("ceremony", "sitting", "code"),
    [
        ({"state": CeremonyState.SIGNED}, {}, "ceremony_used"),
        ({}, {"nonce": "m"}, "ceremony_used"),
        ({"expires_at": NOW}, {}, "ceremony_expired"),
        ({"is_newest": False}, {}, "version_not_signable"),
        ({"version_state": VersionState.DRAFT}, {}, "version_not_signable"),
        ({"version_state": VersionState.APPROVED}, {}, "version_not_signable"),
        ({"version_state": VersionState.RETIRED}, {}, "version_not_signable"),
        ({"state": CeremonyState.DECLINED}, {}, "ceremony_used"),
        ({}, {"shown_digest": "e"}, "text_changed"),
        ({}, {"acknowledged": frozenset({"a"})}, "restriction_unticked"),
        ({}, {"acknowledged": frozenset({"a", "c"})}, "restriction_unticked"),
        ({}, {"consent_electronic": False}, "consent_missing"),
        ({}, {"typed_name": "  "}, "name_missing"),
        ({}, {"typed_name": "\u200b…"}, "name_missing"),
        ({}, {"typed_name": "x" * 201}, "name_long"),
    ],
)
def test_each_thing_that_is_missing_is_refused(ceremony: dict[str, Any], sitting: dict[str, Any], code: str) -> None:
    with pytest.raises(PortalError) as caught:
        rules.check_signable(replace(CEREMONY, **ceremony), replace(SITTING, **sitting), NOW)
    assert caught.value.code == code
    assert isinstance(caught.value, Invalid if caught.value.field else Conflict)
