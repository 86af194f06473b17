"""Which programs may be registered, and what each permission opens."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.core.errors import Invalid
from portal.grants.rules import SCOPE_WORDS, SCOPES, granted_scopes
from portal.programs import rules
from portal.tokens.rules import STAFF_SCOPES

GOOD = ["https://a.example/back", "https://a.example:8443/b?c=d", "http://127.0.0.1:8765/back", "http://[::1]:1/"]
BAD = [
    "http://a.example/back", "http://localhost:8765/back", "http://127.0.0.1.evil.example/", "https:///back", "https://",
    "https://a.example/back#here", "https://user@a.example/", "https://user:word@a.example/", "//a.example/back",
    "javascript:alert(1)", "data:text/html,x", "a.example/back", "https://a.example/b ack", "https://a.example/\u202e",
    "https://a.example:99999/", "https://a.example\\@evil.example/", "https://*.a.example/" + "x" * 500, "ftp://a.example/",
    "http://2130706433/back", 'https://a.example/"', "https://a.example/<x>",
]  # fmt: skip


@pytest.mark.threat("TM-26")
@pytest.mark.parametrize("address", BAD)
def test_addresses_that_could_lead_elsewhere_are_not_registered(address: str) -> None:
    with pytest.raises(Invalid) as caught:
        rules.check_redirect_uris(f"{GOOD[0]}\n{address}")
    assert caught.value.field == "redirect_uris"


def test_addresses_are_kept_as_they_are_written() -> None:
    assert rules.check_redirect_uris(" " + "\n\n".join([*GOOD, GOOD[0]])) == tuple(GOOD)
    with pytest.raises(Invalid):
        rules.check_redirect_uris("\n")
    with pytest.raises(Invalid):
        rules.check_redirect_uris("\n".join(f"https://a.example/{n}" for n in range(rules.MOST_URIS + 1)))


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_no_text_breaks_the_checks(text: str) -> None:
    for check in (rules.check_redirect_uris, rules.check_homepage, rules.check_name):
        with suppress(Invalid):
            check(text)


def test_names_and_pages() -> None:
    assert rules.check_name("Notebook") == "Notebook"
    for bad in ("", "x" * 61, "two\nlines", "\u202eevil"):
        with pytest.raises(Invalid):
            rules.check_name(bad)
    with pytest.raises(Invalid):
        rules.check_homepage("http://a.example")


def test_scopes_keep_their_order_and_none_is_for_staff() -> None:
    assert rules.check_scopes(SCOPES[::-1], SCOPES) == SCOPES
    for bad in ([], ["weights:write"], ["other"]):
        with pytest.raises(Invalid):
            rules.check_scopes(bad, SCOPES)
    assert not set(SCOPES) & {scope.value for scope in STAFF_SCOPES}
    assert set(SCOPE_WORDS) == set(SCOPES)
    assert granted_scopes("weights:read openid") == ["weights:read"]
