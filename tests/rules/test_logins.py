"""Login sessions, secrets, delays, and where a sign-in may lead."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.core.actor import Level
from portal.core.errors import TooMany
from portal.core.networks import network_of
from portal.logins import rules
from portal.logins.rules import ABSOLUTE, IDLE, Secret

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
BASE = "https://portal.example"


@pytest.mark.parametrize("is_staff", [False, True])
def test_a_login_session_ends_when_unused_and_when_old(is_staff: bool) -> None:
    def alive(age: timedelta, unused: timedelta) -> bool:
        return rules.session_alive(
            created_at=NOW - age, last_used_at=NOW - unused, level=Level.ONE, is_staff=is_staff, now=NOW
        )

    second = timedelta(seconds=1)
    assert alive(timedelta(0), timedelta(0))
    assert alive(IDLE[is_staff], IDLE[is_staff] - second)
    assert not alive(IDLE[is_staff], IDLE[is_staff])
    assert alive(ABSOLUTE[is_staff] - second, second)
    assert not alive(ABSOLUTE[is_staff], second)


def test_a_login_session_that_waits_for_its_second_factor_does_so_for_ten_minutes() -> None:
    for is_staff in (False, True):
        kept = {"created_at": NOW, "last_used_at": NOW, "level": Level.NONE, "is_staff": is_staff}
        assert rules.session_alive(**kept, now=NOW + timedelta(minutes=10) - timedelta(seconds=1))
        assert not rules.session_alive(**kept, now=NOW + timedelta(minutes=10))


@pytest.mark.threat("TM-28")
def test_the_delay_grows_and_never_locks_anybody_out() -> None:
    def delays(after: float) -> list[int]:
        return [rules.login_delay(n, NOW, NOW + timedelta(seconds=after)) for n in (0, 4, 5, 6, 8, 11, 10_000)]

    assert delays(0) == [0, 0, 1, 2, 8, 60, 60]
    assert delays(0.5) == [0, 0, 1, 2, 8, 60, 60]
    assert delays(60) == [0] * 7
    assert rules.login_delay(9, None, NOW) == 0
    rules.check_delay(4, NOW, NOW)
    with pytest.raises(TooMany) as caught:
        rules.check_delay(8, NOW, NOW)
    assert caught.value.retry_after == 8


def test_a_sealed_secret_differs_by_kind_value_and_pepper() -> None:
    made = {
        rules.sealed(kind, value, pepper)
        for kind in Secret
        for value in ("a", "b", "\ud800", "")
        for pepper in (b"p", b"q")
    }
    assert len(made) == len(Secret) * 4 * 2
    assert rules.new_secret() != rules.new_secret()
    assert len(rules.new_secret()) == 43


def test_a_network_is_a_neighborhood_of_addresses() -> None:
    assert network_of("192.0.2.77") == network_of("192.0.2.1") == "192.0.2.0/24"
    assert network_of("2001:db8:1:2::3") == "2001:db8:1::/48"
    assert network_of("") == network_of("unix:/tmp/x") == ""


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/", "/"),
        ("/demo/bloom-tiny?a=b#c", "/demo/bloom-tiny?a=b#c"),
        ("/licenses/x/1.0.0/sign", "/licenses/x/1.0.0/sign"),
        ("/loginx", "/loginx"),
        ("/é", "/é"),
        ("", "/"),
        ("settings", "/"),
        ("//evil.example", "/"),
        ("///evil.example", "/"),
        ("/\\evil.example", "/"),
        ("\\\\evil.example", "/"),
        ("/a\\b", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/\t/evil.example", "/"),
        ("/\r\nSet-Cookie: a=b", "/"),
        ("/\0", "/"),
        (" /a", "/"),
        ("/a b", "/"),
        ("/login?next=/login", "/"),
        ("/logout", "/"),
        ("/" + "x" * 2000, "/"),
    ],
)
def test_signing_in_leads_only_to_pages_of_this_portal(target: str, path: str) -> None:
    assert rules.local_path(target) == path


@given(st.text())
def test_wherever_signing_in_leads_a_browser_stays_on_this_host(target: str) -> None:
    from urllib.parse import urljoin, urlsplit

    path = rules.local_path(target)
    assert urlsplit(urljoin(BASE + "/login", path)).netloc == "portal.example"


@pytest.mark.parametrize(
    ("agent", "device"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605 Version/18 Safari/605", "Safari on macOS"),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537 Chrome/140 Safari/537 Edg/140", "Edge on Windows"),
        ("Mozilla/5.0 (Linux; Android 15) AppleWebKit/537 Chrome/140 Mobile Safari/537", "Chrome on Android"),
        ("Firefox", "Firefox"),
        ("Windows", "Windows"),
        ("", "A browser that does not name itself"),
    ],
)
def test_a_browser_is_named_in_words(agent: str, device: str) -> None:
    assert rules.device_of(agent) == device
