"""The shape of access tokens, and what a new one may be like."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.core.errors import Invalid
from portal.tokens import rules
from portal.tokens.rules import ALPHABET, TokenState, check_new, checksum, mint, same, sealed, unusable, well_formed

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)


def test_an_access_token_has_its_shape() -> None:
    value = mint()
    assert len(value) == 53
    assert value.startswith("lmp_")
    assert set(value[4:]) <= set(ALPHABET)
    assert well_formed(value)
    assert len({mint() for _ in range(200)}) == 200


def test_the_largest_and_smallest_secret_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    for byte in (b"\0", b"\xff"):
        monkeypatch.setattr(rules.secrets, "token_bytes", lambda n, byte=byte: byte * n)
        assert len(mint()) == 53
        assert well_formed(mint())


@given(st.integers(4, 52), st.sampled_from(ALPHABET))
def test_any_one_wrong_character_is_found_without_a_look_up(place: int, character: str) -> None:
    value = mint()
    if value[place] != character:
        assert not well_formed(value[:place] + character + value[place + 1 :])


@given(st.text())
def test_any_other_text_is_no_access_token(text: str) -> None:
    assert not well_formed(text)


@pytest.mark.parametrize("change", [str.upper, str.lower, lambda v: "hf_" + v[3:], lambda v: v + "0", lambda v: v[:-1]])
def test_another_form_of_an_access_token_is_none(change: object) -> None:
    assert not well_formed(change(mint()))  # type: ignore[operator]


def test_non_ascii_of_the_right_length_is_no_access_token() -> None:
    body = "lmp_" + "é" * 43
    assert not well_formed(body + checksum(body))


def test_an_access_token_ends_at_its_instant_and_a_revoked_one_before() -> None:
    assert unusable(TokenState.LIVE, NOW + timedelta(microseconds=1), NOW) is None
    assert unusable(TokenState.LIVE, NOW, NOW) == "access_token_expired"
    assert unusable(TokenState.REVOKED, NOW + timedelta(days=1), NOW) == "access_token_revoked"
    assert unusable(TokenState.REVOKED, NOW - timedelta(days=1), NOW) == "access_token_revoked"


def test_what_is_stored_depends_on_the_pepper() -> None:
    value = mint()
    assert len(sealed(value, b"a")) == 64
    assert sealed(value, b"a") == sealed(value, b"a")
    assert sealed(value, b"a") != sealed(value, b"b")
    assert same("ab", "ab")
    assert not same("ab", "ac")


@pytest.mark.parametrize("days", [1, 90, 365])
@pytest.mark.parametrize("name", ["laptop", "é" * 80, "  two words "])
def test_a_good_access_token_may_be_made(name: str, days: int) -> None:
    check_new(name, ["inference", "weights:read", "usage:read"], days)


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("name", {"name": ""}), ("name", {"name": "  "}), ("name", {"name": "x" * 81}), ("name", {"name": "a\0b"}),
        ("name", {"name": "a\nb"}), ("name", {"name": "\u202eabc"}), ("name", {"name": "\ud800"}),
        ("scopes", {"scopes": []}), ("scopes", {"scopes": ["inference", "everything"]}), ("scopes", {"scopes": [""]}),
        ("days", {"days": 0}), ("days", {"days": -1}), ("days", {"days": 366}), ("days", {"days": 10**30}),
    ],
)  # fmt: skip
def test_a_bad_access_token_is_refused_with_the_field_named(field: str, changed: dict[str, object]) -> None:
    good: dict[str, object] = {"name": "laptop", "scopes": ["inference"], "days": 30}
    with pytest.raises(Invalid) as caught:
        check_new(**{**good, **changed})  # type: ignore[arg-type]
    assert caught.value.field == field
