"""Canonical bytes and commitments."""

import json
import unicodedata
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.core.errors import Invalid
from portal.proofs.rules import canonical, commitment, digest

words = st.text(st.characters(codec="utf-8"), max_size=20).map(lambda s: unicodedata.normalize("NFC", s))
names = st.text(st.characters(codec="ascii"), max_size=10)
data = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


@given(data)
def test_what_is_written_reads_back_and_is_written_the_same_again(value: Any) -> None:
    body = canonical(value)
    assert json.loads(body) == value
    assert canonical(json.loads(body)) == body


def test_keys_are_sorted_and_nothing_is_padded() -> None:
    assert canonical({"b": [1, None], "a": "é", "c": True}) == '{"a":"é","b":[1,null],"c":true}'.encode()
    assert canonical(("x",)) == b'["x"]'


@pytest.mark.parametrize(
    "value", [1.5, 2**53, -(2**53), "e\u0301", "\ud800", {"é": 1}, {1: 1}, [{"a": 0.0}], b"bytes", {"a": {1, 2}}]
)
def test_what_has_more_than_one_way_to_be_written_is_refused(value: Any) -> None:
    with pytest.raises(Invalid):
        canonical(value)


def test_a_commitment_hides_until_the_salt_is_known() -> None:
    assert commitment(b"salt", b"data") == sha256(b"saltdata").hexdigest()
    assert commitment(b"a", b"data") != commitment(b"b", b"data")
    assert digest(b"data") == sha256(b"data").hexdigest()
