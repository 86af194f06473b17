"""Passwords, one-time links and their mails."""

import pytest

from portal.adapters.guessing import Guesser
from portal.core.errors import Invalid
from portal.identity import rules
from portal.identity.rules import LinkPurpose

BASE = "https://portal.example"


class Counting:
    """Hashes nothing, and counts how often it was asked."""

    def __init__(self) -> None:
        self.hashed: list[str] = []
        self.weakness = Guesser().weakness

    def hash(self, password: str) -> str:
        self.hashed.append(password)
        return "digest"


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("four words are fine", None),
        ("x" * 7 + "yzäöü..." , None),
        ("unrelated words " * 8, None),
        ("qwertyuiop12345", "password_weak"),
        ("short", "password_short"),
        ("", "password_short"),
        ("abcde" * 26, "password_long"),
        ("a" * 15, "password_weak"),
        ("abababababababab", "password_weak"),
        ("ANN.LONG.NAME@example.org", "password_weak"),
    ],
)  # fmt: skip
def test_a_password_is_long_and_no_more_is_asked(password: str, code: str | None) -> None:
    kept = {"email": "ann.long.name@example.org", "weakness": Guesser().weakness}
    if code is None:
        rules.check_password(password, **kept)
        return
    with pytest.raises(Invalid) as caught:
        rules.check_password(password, **kept)
    assert (caught.value.code, caught.value.field) == (code, "password")


def test_somebody_who_signs_up_is_checked_before_the_password_is_hashed() -> None:
    hasher = Counting()
    typed = {
        "email": "Ann@Example.org", "password": "four words are fine", "name": " Ann ", "affiliation": "Lab",
        "country": "nl", "hasher": hasher,
    }  # fmt: skip
    who = rules.applicant(**typed)  # type: ignore[arg-type]
    assert (who.email, who.about.country, who.digest) == ("ann@example.org", "NL", "digest")
    for field, bad in [("email", "ann"), ("name", ""), ("password", "short")]:
        with pytest.raises(Invalid) as caught:
            rules.applicant(**{**typed, field: bad})  # type: ignore[arg-type]
        assert caught.value.field == field
    assert hasher.hashed == ["four words are fine"]


def test_mails_say_who_sends_them_what_to_do_and_what_if_it_was_not_you() -> None:
    mails = [
        rules.compose_verify(base_url=BASE, secret="s3cret"),
        rules.compose_reset(base_url=BASE, secret="s3cret"),
        rules.compose_exists(base_url=BASE, closed=False),
        rules.compose_exists(base_url=BASE, closed=True),
        rules.compose_changed(base_url=BASE),
    ]
    for mail in mails:
        assert f"BLOOM Portal at {BASE} " in mail.body
        assert "If " in mail.body
        assert max(map(len, mail.body.splitlines())) < 200
        assert mail.secret == ("s3cret" in mail.body)
    assert f"\n{BASE}/signup/verify/s3cret\n" in mails[0].body
    assert f"\n{BASE}/reset/s3cret\n" in mails[1].body
    assert "/login" in mails[2].body
    assert "/login" not in mails[3].body


def test_a_dead_link_says_where_to_get_another() -> None:
    assert [rules.dead_link(purpose).url for purpose in LinkPurpose] == ["/settings/profile", "/reset", "/login"]
