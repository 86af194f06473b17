"""Codes, clients and delays of signing in from a terminal."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.oauth import rules
from portal.oauth.rules import OAuthError
from portal.tokens.rules import NAME_MAX

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def test_codes_hold_no_vowels_no_digits_and_differ() -> None:
    codes = {rules.new_user_code() for _ in range(200)}
    assert len(codes) == 200
    assert not set("AEIOUY0123456789") & set("".join(codes))
    assert {len(code) for code in codes} == {8}
    assert len({rules.new_device_code() for _ in range(200)}) == 200


@given(st.text(rules.CODE_ALPHABET, min_size=8, max_size=8))
def test_a_code_is_read_however_it_is_typed(code: str) -> None:
    shown = rules.shown_code(code)
    assert (shown[4], len(shown)) == ("-", 9)
    for typed in (shown, shown.lower(), f"  {code} ", code.replace(code[:2], f"{code[:2]} ", 1), f"-{code}\t"):
        assert rules.read_user_code(typed) == code


@given(st.text())
def test_what_can_be_no_code_is_none(typed: str) -> None:
    assert rules.read_user_code(typed) == "" or len(typed) >= 8
    assert rules.read_user_code("BCDF-GHJA") == rules.read_user_code("BCDF-GHJ") == ""
    assert rules.read_user_code("B" * 10**6) == rules.read_user_code("ẞCDFGHJK") == ""


def test_only_known_clients_and_scopes_are_taken() -> None:
    for name, word in (("", "invalid_request"), ("hf", "invalid_client"), ("PORTAL-CLI", "invalid_client")):
        with pytest.raises(OAuthError) as caught:
            rules.client_name(name)
        assert (caught.value.code, caught.value.status, caught.value.field) == (word, 400, "client_id")
    assert rules.client_name("26be6b09-91c5-47da-9861-d2d2bb7a7e36") == "hf auth login"
    assert rules.read_scopes(" ") == ("inference", "weights:read")
    assert rules.read_scopes("weights:read usage:read  weights:read") == ("usage:read", "weights:read")
    with pytest.raises(OAuthError) as caught:
        rules.read_scopes("inference weights:write")
    assert (caught.value.code, caught.value.field) == ("invalid_scope", "scope")


def test_who_asks_again_sooner_than_told_is_too_fast() -> None:
    assert not rules.too_fast(None, 5, NOW)
    assert rules.too_fast(NOW, 5, NOW + timedelta(seconds=4.99))
    assert not rules.too_fast(NOW, 5, NOW + timedelta(seconds=5))


def test_ten_wrong_codes_are_free_and_then_waiting_grows() -> None:
    assert rules.wrong_delay(9, NOW, NOW) == rules.wrong_delay(10, None, NOW) == 0
    waits = [rules.wrong_delay(wrong, NOW, NOW) for wrong in (10, 11, 12, 14, 15, 10**6)]
    assert waits == [30, 60, 120, 480, 900, 900]
    assert rules.wrong_delay(10, NOW, NOW + timedelta(seconds=30)) == 0


@pytest.mark.threat("TM-26")
def test_a_program_cannot_write_its_own_sentence_on_the_page() -> None:
    agent = "unknown/None; hf_hub/2.4.0; python/3.11.7; torch/2.13.0; session_id/abc"
    assert rules.program_of(agent) == "hf_hub 2.4.0, python 3.11.7, torch 2.13.0"
    nameless = "a program that does not name itself"
    assert rules.program_of("") == rules.program_of("Press yes, says your administrator") == nameless
    assert rules.program_of("Approve this: IT department/1 " + "x" * 5000) == "department 1"


def test_an_access_token_is_named_after_its_client_and_the_day() -> None:
    names = {rules.token_name(client, NOW) for client in rules.CLIENTS}
    assert names == {"hf auth login, 2026-03-04", "portal command line, 2026-03-04"}
    assert all(len(name) <= NAME_MAX for name in names)


def test_what_reads_only_use_needs_no_signature() -> None:
    assert rules.signed_scopes(["inference"])
    assert rules.signed_scopes(["usage:read", "weights:read"])
    assert not rules.signed_scopes(["usage:read"])
