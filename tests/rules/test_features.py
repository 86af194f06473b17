"""What is measured of a use: counts over time, networks, and the vector."""

import random

import pytest

from portal.core.networks import network_of
from portal.features.rules import (
    FEATURES,
    HEAD,
    TAIL,
    Kind,
    Networks,
    Pace,
    Phase,
    Window,
    inline_text,
    value,
)

T0 = 1_700_000_000.0
DAY = 86_400


def test_every_feature_says_what_it_is_and_what_stands_for_it_when_it_is_missing() -> None:
    types = {Kind.NUMBER: (int, float), Kind.FLAG: (bool,), Kind.TEXT: (str,), Kind.SET: (frozenset,)}
    for name, feature in FEATURES.items():
        assert feature.name == name
        assert feature.says
        assert isinstance(feature.default, types[feature.kind]), name
        assert feature.may_refuse == (feature.phase in {Phase.INLINE, Phase.OUTPUT}), name
    assert FEATURES["phrases"].key("news") == 'phrases("news")'
    assert value({'phrases("news")': 2}, "phrases", "news") == 2
    assert value({}, "lang") == ""


@pytest.mark.parametrize("seed", range(5))
def test_a_window_counts_what_lies_within_it(seed: int) -> None:
    chance, window = random.Random(seed), Window(6, 10)
    past: list[tuple[float, str, int]] = []
    at = T0
    for _ in range(300):
        at += chance.choice([0, 0.5, 7, 31])
        key, count = chance.choice("ab"), chance.randint(1, 3)
        past.append((at, key, count))
        oldest = int(at // 10) - 6
        wanted = sum(n for then, k, n in past if k == key and int(then // 10) > oldest)
        assert window.add(key, count, at) == wanted
        assert window.total("nobody", at) == 0


def test_a_window_stays_bounded_and_survives_a_clock_that_goes_back() -> None:
    window = Window(60, 1, keys=100)
    for number in range(1_000):
        window.add(number, 1, T0 + number / 50)
    assert len(window._totals) <= 151
    assert window.add("back", 1, T0 - 1_000) == 1


@pytest.mark.threat("TM-09")
def test_a_person_is_measured_by_their_own_habit() -> None:
    pace = Pace()
    pace.load_days([(1, T0 + day * DAY, 10) for day in range(-10, 0)])
    seen = [pace.see(1, 50, f"d{number}", T0 + number) for number in range(80)]
    assert seen[9]["vel_ratio_28d"] == 1.0
    assert seen[79]["vel_ratio_28d"] == 8.0
    assert (seen[59]["vel_req_1m"], seen[79]["vel_req_1m"], seen[79]["vel_tokens_24h"]) == (60, 60, 4_000)
    assert "vel_ratio_28d" not in pace.see(2, 1, "x", T0), "who is new has no habit"


def test_equal_prompts_of_anybody_are_counted_for_an_hour() -> None:
    pace = Pace()
    assert "dup_exact_1h" not in pace.see(1, 1, "same", T0)
    assert pace.see(2, 1, "same", T0 + 1)["dup_exact_1h"] == 1
    assert pace.see(1, 1, "same", T0 + 1_800)["dup_exact_1h"] == 2
    assert "dup_exact_1h" not in pace.see(1, 1, "same", T0 + 9_000)


def test_counters_are_rebuilt_from_what_was_recorded() -> None:
    pace = Pace()
    pace.load_uses([(1, T0 - 7_200, 5), (1, T0 - 60, 5)])
    pace.load_texts([("same", T0 - 60)])
    seen = pace.see(1, 10, "same", T0)
    assert (seen["vel_req_1h"], seen["vel_req_24h"], seen["vel_tokens_24h"], seen["dup_exact_1h"]) == (2, 3, 20, 1)


@pytest.mark.threat("TM-13")
def test_an_access_token_in_twelve_networks_is_seen_and_one_in_two_is_not() -> None:
    networks = Networks()
    for number in range(12):
        seen = networks.begin(7, network_of(f"10.{number}.0.1"), T0 + number)
        if number % 2:
            networks.end(7, network_of(f"10.{number}.0.1"))
    assert seen["token_prefixes"] == 7
    assert seen["token_prefixes_1h"] == 12
    for number in range(200):
        seen = networks.begin(8, network_of(f"10.0.{number % 2}.{number}"), T0 + number)
    assert seen == {"token_prefixes": 2, "token_prefixes_1h": 2}
    for number in range(200):
        networks.end(8, network_of(f"10.0.{number % 2}.{number}"))
    assert 8 not in networks._now


def test_networks_are_named_by_their_prefix() -> None:
    assert network_of("192.0.2.77") == "192.0.2.0/24"
    assert network_of("::ffff:192.0.2.77") == "192.0.2.0/24"
    assert network_of("2001:db8:1:2::3") == "2001:db8:1::/48"
    assert network_of("") == network_of("not an address") == ""


def test_of_a_long_prompt_both_ends_are_looked_at() -> None:
    text = "a" * HEAD + "m" * 9_000 + "z" * TAIL
    seen = inline_text(text)
    assert seen.startswith("a" * HEAD)
    assert seen.endswith("z" * TAIL)
    assert "m" not in seen
    assert inline_text("short") == "short"
