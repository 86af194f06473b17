"""The ladder that a notice climbs, and when sending is tried again."""

from portal.notices.rules import MAX_TRIES, ORDER, REACHED, Rung, highest, retry_seconds


def test_the_highest_rung_counts() -> None:
    assert highest([Rung.SENT, Rung.QUEUED]) is Rung.SENT
    assert highest([Rung.SHOWN, Rung.BOUNCED, Rung.SENT]) is Rung.SHOWN
    assert list(ORDER) == list(Rung)


def test_what_was_only_sent_has_not_reached_anybody() -> None:
    assert frozenset({Rung.DELIVERED, Rung.SHOWN, Rung.VIEWED}) == REACHED


def test_trying_again_takes_longer_each_time_and_at_most_an_hour() -> None:
    waits = [retry_seconds(n) for n in range(MAX_TRIES + 10)]
    assert waits[:4] == [5, 5, 10, 20]
    assert waits == sorted(waits)
    assert waits[-1] == 3600
