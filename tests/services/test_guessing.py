"""How easily a password is guessed, and a list of known ones of whatever size."""

from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.adapters.guessing import GUESSED, KNOWN, Guesser, listed
from portal.adapters.hashing import IN_ALL, Hasher
from portal.core.errors import Unavailable

SIGNS = "4@8({[<369&#!1|l0$5+7%2/"


def line(password: str, count: str = ":1") -> str:
    return sha1(password.encode("utf-8", "surrogatepass")).hexdigest().upper() + count


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("four words are fine", ""),
        ("\ud800" * 10 + "unpaired halves", ""),
        ("passwordpassword", GUESSED),
        ("qwertyuiop12345", GUESSED),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", GUESSED),
        ("lovelacelovelace", GUESSED),
        ("", GUESSED),
    ],
)
def test_what_is_tried_first_is_no_password(password: str, why: str) -> None:
    assert Guesser().weakness(password, ["ann.lovelace@example.org"]) == why


def test_a_known_password_is_no_password_however_hard_to_guess(tmp_path: Path) -> None:
    path = tmp_path / "known.txt"
    path.write_text("\n".join(sorted(line(p) for p in ("four words are fine", "x", "y"))) + "\n")
    guesser = Guesser(path)
    assert guesser.weakness("four words are fine", []) == KNOWN
    assert guesser.weakness("five other words are fine", []) == ""


@settings(max_examples=60)
@given(st.sets(st.text(max_size=8), max_size=40), st.booleans(), st.sampled_from(["", ":1", ":24", ":1234567"]))
def test_a_list_holds_what_is_in_it_and_nothing_else(known: set[str], ended: bool, count: str) -> None:
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(sorted(line(p, count) for p in known)) + ("\n" if ended and known else ""))
        file.flush()
        path = Path(file.name)
        assert all(listed(path, p) for p in known)
        assert not any(listed(path, p + "else") for p in known if p + "else" not in known)
        assert not listed(path, "nothing like it")


def test_few_wait_for_their_turn_and_the_rest_is_told_at_once() -> None:
    hasher = Hasher(at_once=1, wait=60)
    digest = hasher.hash("x")
    with hasher._turn():
        for _ in range(IN_ALL - 1):
            assert hasher._queue.acquire(blocking=False)  # as if they waited
        with pytest.raises(Unavailable):
            hasher.verify(digest, "x")
        for _ in range(IN_ALL - 1):
            hasher._queue.release()
    assert hasher.verify(digest, "x")


def test_whoever_waits_for_a_digest_leaves_connections_to_those_who_read(app: Any) -> None:
    pool = app.engine.pool
    assert pool.size() + pool._max_overflow >= IN_ALL + 5


def test_no_password_takes_long_to_judge() -> None:
    # What zxcvbn does is a product over the signs that can stand for letters; counted, since clocks differ.
    from zxcvbn import matching

    tried = matching.enumerate_l33t_subs(matching.relevant_l33t_subtable(SIGNS, matching.L33T_TABLE))
    assert len(tried) <= 8
