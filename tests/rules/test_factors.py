"""One-time codes, recovery codes, and what passkeys are asked to sign."""

from base64 import b32decode
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from portal.core.errors import Invalid
from portal.factors import rules
from portal.passkeys import rules as passkeys
from portal.passkeys.rules import Purpose

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
SEED = b"12345678901234567890"
PEPPER = b"p" * 32


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (59, "94287082"), (1111111109, "07081804"), (1111111111, "14050471"), (1234567890, "89005924"),
        (2000000000, "69279037"), (20000000000, "65353130"),
    ],
)  # fmt: skip
def test_codes_are_those_of_the_standard(seconds: int, code: str) -> None:
    # RFC 6238, appendix B, SHA-1; the last six of its eight digits.
    assert rules.code_at(SEED, seconds // 30) == code[2:]


def test_a_code_counts_in_its_half_minute_and_its_neighbors_and_once() -> None:
    here = rules.step_at(NOW)
    for drift in (-2, -1, 0, 1, 2):
        code = rules.code_at(SEED, here + drift)
        found = rules.matching_step(SEED, code, now=NOW, after=0)
        assert found == (here + drift if abs(drift) < 2 else None)
        assert rules.matching_step(SEED, code, now=NOW, after=here + drift) is None
    for bad in ("", "000000", "12345", "é" * 6, "\ud800" * 6, rules.code_at(SEED, here) + "0"):
        assert rules.matching_step(SEED, bad, now=NOW, after=0) is None


def test_an_app_reads_the_seed_from_the_square_and_people_by_groups() -> None:
    address = urlsplit(rules.seed_address(SEED, account="ann+é@example.org", issuer="portal.example:8000"))
    query = parse_qs(address.query, strict_parsing=True)
    assert (address.scheme, address.netloc) == ("otpauth", "totp")
    assert b32decode(query["secret"][0]) == SEED == b32decode(rules.seed_text(SEED).replace(" ", ""))
    assert query["issuer"] == ["portal.example:8000"]
    assert len(rules.new_seed()) == 20
    assert rules.new_seed() != rules.new_seed()


def test_recovery_codes_differ_and_are_never_taken_for_an_apps() -> None:
    made = [code for _ in range(50) for code in rules.new_codes()]
    assert len(set(made)) == len(made) == 500
    assert not any(rules.is_app_code(rules.tidy_code(code)) for code in made)
    assert rules.tidy_code(f" {made[0].upper().replace('-', ' ')}\n") == made[0].replace("-", "")
    assert rules.is_app_code(rules.tidy_code(" 123 456 "))
    assert not rules.is_app_code("١٢٣٤٥٦")


def test_mails_about_factors_say_what_to_do_if_it_was_not_you() -> None:
    base = "https://portal.example"
    for mail in (
        rules.compose_added(base_url=base, what="A passkey"),
        rules.compose_removed(base_url=base, what="A passkey"),
        rules.compose_used(base_url=base, left=3),
    ):
        assert "If it was not you" in mail.body
        assert f"{base}/reset " in mail.body
        assert not mail.secret
        assert max(map(len, mail.body.splitlines())) < 250


def test_a_challenge_serves_one_purpose_one_person_and_ten_minutes() -> None:
    def check(given: bytes, **other: object) -> None:
        kept = {"purpose": Purpose.PROVE, "about": "usr_a", "pepper": PEPPER, "now": NOW, **other}
        passkeys.check_challenge(given, kept.pop("purpose"), **kept)  # type: ignore[arg-type]

    asked = passkeys.challenge(Purpose.PROVE, about="usr_a", pepper=PEPPER, now=NOW)
    assert asked != passkeys.challenge(Purpose.PROVE, about="usr_a", pepper=PEPPER, now=NOW)
    life, second = passkeys.CHALLENGE_LIFE, timedelta(seconds=1)
    check(asked)
    check(asked, now=NOW + life - second)
    others = [
        {"purpose": Purpose.SIGN_IN}, {"about": "usr_b"}, {"about": ""}, {"pepper": b"q" * 32}, {"now": NOW + life},
        {"now": NOW - 2 * second},
    ]  # fmt: skip
    for other in others:
        with pytest.raises(Invalid):
            check(asked, **other)
    for place in range(len(asked)):
        with pytest.raises(Invalid):
            check(asked[:place] + bytes([asked[place] ^ 1]) + asked[place + 1 :])
    for bad in (b"", asked[:-1], asked + b"\0", b"\0" * 5000):
        with pytest.raises(Invalid):
            check(bad)


@pytest.mark.parametrize(
    ("address", "works"),
    [
        ("https://portal.example", True),
        ("http://localhost:8000", True),
        ("http://portal.localhost", True),
        ("http://127.0.0.1:8000", False),
        ("https://192.0.2.1", False),
        ("https://[2001:db8::1]", False),
        ("http://portal.example", False),
    ],
)
def test_passkeys_need_a_name_and_a_safe_way_to_it(address: str, works: bool) -> None:
    assert passkeys.works_at(address) is works
