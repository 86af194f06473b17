"""Standing, roles, and what a person's address and profile may be."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.accounts import rules
from portal.accounts.rules import STANDING, About, Permission, Role, Standing, StandingAction
from portal.core.errors import Conflict, Invalid

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("ann@example.org", "ann@example.org"),
        (" Ann.O'Neill+x@Example.ORG ", "ann.o'neill+x@example.org"),
        ("grüße@bücher.example", None),
        ("grün@bücher.example", "grün@bücher.example"),
        ("a\u0308b@x.example", "äb@x.example"),
        ("研究@例え.テスト", "研究@例え.テスト"),
        ("a@b-c.d-e.example", "a@b-c.d-e.example"),
        ("", None),
        ("   ", None),
        ("ann", None),
        ("ann@", None),
        ("@example.org", None),
        ("ann@localhost", None),
        ("ann@example..org", None),
        ("ann..o@example.org", None),
        (".ann@example.org", None),
        ("ann.@example.org", None),
        ("ann@-example.org", None),
        ("ann@example.org-", None),
        ("a@b@example.org", None),
        ("ann smith@example.org", None),
        ('"ann"@example.org', None),
        ("ann@example.org\r\nBcc: all@example.org", None),
        ("ann@example.org,bob@example.org", None),
        ("ann\u202e@example.org", None),
        ("ann\0@example.org", None),
        ("x" * 65 + "@example.org", None),
        ("ann@" + "x" * 250 + ".org", None),
    ],
)
def test_an_address_is_stored_folded_or_refused(typed: str, stored: str | None) -> None:
    if stored is not None:
        assert rules.check_email(typed) == stored
        assert rules.fold_email(typed) == stored
        return
    with pytest.raises(Invalid) as caught:
        rules.check_email(typed)
    assert caught.value.field == "email"


@given(st.text())
def test_any_text_is_an_address_or_refused_and_folding_is_stable(text: str) -> None:
    assert rules.fold_email(rules.fold_email(text)) == rules.fold_email(text)
    try:
        email = rules.check_email(text)
    except Invalid:
        return
    assert rules.check_email(email) == email


def test_a_profile_is_tidied_and_names_the_field_at_fault() -> None:
    about = rules.check_about(name="  Jose\u0301  Núñez ", affiliation=" CNRS ", country=" fr ")
    assert about == About("José Núñez", "CNRS", "FR")
    good = {"name": "Ann", "affiliation": "Lab", "country": "NL"}
    for field, bad in [
        ("name", ""), ("name", " "), ("name", "x" * 201), ("name", "a\nb"), ("name", "a\0b"), ("name", "a\u202eb"),
        ("affiliation", ""), ("affiliation", "x" * 201), ("affiliation", "\x1b[0m"),
        ("country", ""), ("country", "F"), ("country", "FRA"), ("country", "F1"), ("country", "ÉÉ"), ("country", "ß"),
    ]:  # fmt: skip
        with pytest.raises(Invalid) as caught:
            rules.check_about(**{**good, field: bad})
        assert caught.value.field == field
    for name in ("x" * 200, "نیک\u200cفر", "山田 太郎", "O'Neill-Smith, Jr."):
        assert rules.check_name(name) == name
    assert rules.check_name("山田\u3000太郎") == "山田 太郎"


def test_changed_names_only_the_fields_that_differ() -> None:
    old = About("Ann", "Lab", "NL")
    assert rules.changed(old, old) == []
    assert rules.changed(old, About("Ann", "Lab 2", "DE")) == ["affiliation", "country"]


def test_a_suspension_whose_end_has_passed_no_longer_holds() -> None:
    later = NOW + timedelta(seconds=1)
    assert rules.held(Standing.SUSPENDED, later, NOW) is Standing.SUSPENDED
    assert rules.held(Standing.SUSPENDED, NOW, NOW) is Standing.ACTIVE
    assert rules.held(Standing.CLOSED, None, NOW) is Standing.CLOSED
    assert rules.held(Standing.ACTIVE, None, NOW) is Standing.ACTIVE


def test_the_standing_moves_as_its_table_says_and_back_from_closed_only_when_that_is_overturned() -> None:
    assert STANDING.next(Standing.ACTIVE, StandingAction.SUSPEND) is Standing.SUSPENDED
    assert STANDING.next(Standing.SUSPENDED, StandingAction.REINSTATE) is Standing.ACTIVE
    assert STANDING.next(Standing.CLOSED, StandingAction.REOPEN) is Standing.ACTIVE
    for action in set(StandingAction) - {StandingAction.REOPEN}:
        with pytest.raises(Conflict):
            STANDING.next(Standing.CLOSED, action)
    with pytest.raises(Conflict):
        STANDING.next(Standing.ACTIVE, StandingAction.REINSTATE)


def test_powers_are_the_union_of_what_roles_carry() -> None:
    assert rules.permissions_of([]) == frozenset()
    both = rules.permissions_of([Role.LICENSE_EDITOR, Role.CARD_EDITOR])
    assert {Permission.LICENSES_PUBLISH, Permission.CARDS_PUBLISH} < both
    assert Permission.PEOPLE_SANCTION not in both
    assert rules.permissions_of([Role.ADMIN]) == frozenset(p.value for p in Permission)
    assert set(rules.ROLE_PERMISSIONS) == set(Role)


def test_what_no_database_can_hold_is_known() -> None:
    assert rules.storable("grün ✓ 😀")
    assert not rules.storable("a\0b")
    assert not rules.storable("\udc80")
