"""When received ranges make a whole file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.deliveries.rules import covers_file


@pytest.mark.parametrize(
    ("spans", "size", "whole"),
    [
        ([(0, 10)], 10, True), ([(0, 9)], 10, False), ([(1, 10)], 10, False), ([(5, 10), (0, 5)], 10, True),
        ([(0, 6), (4, 10)], 10, True), ([(0, 4), (5, 10)], 10, False), ([], 10, False), ([], 0, True),
        ([(0, 0), (0, 10), (20, 30)], 10, True), ([(0, 3), (0, 10), (2, 4)], 10, True), ([(0, 20)], 10, True),
    ],
)  # fmt: skip
def test_ranges_make_a_whole_file_or_not(spans: list[tuple[int, int]], size: int, whole: bool) -> None:
    assert covers_file(spans, size) is whole


SPAN = st.tuples(st.integers(0, 12), st.integers(0, 12)).map(lambda pair: (min(pair), max(pair)))


@given(st.lists(SPAN, max_size=8), st.integers(0, 12))
def test_a_file_is_whole_exactly_if_every_byte_was_sent(spans: list[tuple[int, int]], size: int) -> None:
    sent = {byte for start, end in spans for byte in range(start, end)}
    assert covers_file(spans, size) is (set(range(size)) <= sent)
