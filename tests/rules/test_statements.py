"""What every notice says, until when one may contest it, and its public form."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.sanctions.rules import Measure, SanctionKind, sentence
from portal.statements import rules
from portal.statements.rules import Automation, Citation, NoticePreview, Source, StatementFact

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
CLAUSE = Citation(
    1, "restriction.malware", "A.13", "Malicious software", "You do not write it.\n\nNot even once.",
    "https://p.example/licenses/l/1.0.0#restriction.malware",
)  # fmt: skip


@given(st.datetimes(datetime(2020, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)))
def test_the_window_to_appeal_is_183_days_and_ends_with_a_day(at: datetime) -> None:
    deadline = rules.appeal_deadline(at)
    assert timedelta(days=183) < deadline - at <= timedelta(days=184)
    assert (deadline.hour, deadline.minute, deadline.second, deadline.microsecond) == (0, 0, 0, 0)


def notice(**changed: Any) -> str:
    measure = Measure(SanctionKind.SUSPEND, datetime(2026, 12, 1, tzinfo=UTC))
    given = {
        "ref": "dec_x", "base_url": "https://p.example", "signed": "The License, version 1.0.0, on 1 October 2026",
        "citations": [CLAUSE], "facts": "Line one.\r\nLine two.\n", "automation": Automation.NONE, "lapses_at": None,
        "restricted": [sentence(measure, target="", base_url="https://p.example")], "strike": 0,
        "appeal_by": datetime(2027, 5, 5, tzinfo=UTC),
    }  # fmt: skip
    return rules.compose_notice(**{**given, **changed})


def test_a_notice_says_what_until_when_why_who_and_how_to_contest() -> None:
    text = notice()
    for part in (
        "suspended until 1 December 2026, 00:00 UTC",
        "The License, version 1.0.0, on 1 October 2026",
        "A.13 Malicious software\n> You do not write it.\n>\n> Not even once.\n",
        "https://p.example/licenses/l/1.0.0#restriction.malware",
        "Line one.\nLine two.",
        "A person decided this. No part of the decision was automated.",
        "You can sign in",
        "https://p.example/appeal/dec_x until the end of 4 May 2027 (UTC)",
    ):
        assert part in text
    assert "\r" not in text


def test_a_notice_says_what_a_program_did_when_it_lapses_and_what_it_counts() -> None:
    text = notice(automation=Automation.DECIDED, lapses_at=NOW + timedelta(hours=72), strike=8, restricted=[])
    for part in (
        "no person has looked at it yet",
        "5 November 2026, 12:00 UTC",
        "This counts 8",
        "Nothing. This tells",
    ):
        assert part in text
    assert "a person looked at it and decided" in notice(automation=Automation.DETECTED)


def test_the_digest_of_a_notice_covers_every_word() -> None:
    preview = NoticePreview("dec_x", notice(), NOW, 1, 1, ())
    assert preview.sha256 == sha256(notice().encode()).hexdigest()


def test_the_next_reference_moves_with_each_decision_and_person() -> None:
    refs = {rules.decision_ref(signature, n) for signature in ("sig_a", "sig_b") for n in range(50)}
    assert len(refs) == 100
    assert all(ref.startswith("dec_") and len(ref) == 20 for ref in refs)
    assert rules.decision_ref("sig_a", 3) == rules.decision_ref("sig_a", 3)


@pytest.mark.parametrize("kind", SanctionKind)
@pytest.mark.parametrize("automation", Automation)
def test_the_public_form_has_the_fields_of_the_database_and_no_facts(
    kind: SanctionKind, automation: Automation
) -> None:
    fact = StatementFact("dec_x", NOW, (kind,), NOW, "The License 1.0.0", (CLAUSE,), automation, Source.OWN)
    row = rules.public_form(fact)
    assert (row["decision_provision"] is None) != (row["decision_account"] is None)
    assert len(row["incompatible_content_ground"]) <= 500
    assert row["automated_decision"].startswith("AUTOMATED_DECISION_")
    assert row["source_type"] == "SOURCE_VOLUNTARY"
    assert "Line one" not in str(row)
