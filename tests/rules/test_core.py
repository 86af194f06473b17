"""Settings, lifecycles, names, instants and errors: what everything else stands on."""

import stat
import threading
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from pathlib import Path

import pytest

from portal.core.actor import ANONYMOUS, SYSTEM, Actor
from portal.core.clock import stamp, utcnow
from portal.core.config import NAMES, SettingError, Settings
from portal.core.db import Utc, append_only_ddl
from portal.core.errors import Conflict, Invalid, NotFound, Refused, TooMany, Unauthenticated, Unavailable
from portal.core.ids import ALPHABET, public_id
from portal.core.machine import Machine

SAFE = {
    "PORTAL_ENV": "production",
    "PORTAL_BASE_URL": "https://p.example",
    "PORTAL_MAIL_URL": "smtp://u:pw@m.example:587",
}


def read(home: Path, **environ: str) -> Settings:
    return Settings.from_env({"PORTAL_HOME": str(home), "OTHER": "x", **environ})


def test_settings_have_defaults(tmp_path: Path) -> None:
    settings = read(tmp_path)
    assert (settings.env, settings.host, settings.port, settings.durability) == (
        "development",
        "127.0.0.1",
        8000,
        "process",
    )
    assert settings.base_url == "http://127.0.0.1:8000"
    assert settings.database_url == f"sqlite:///{tmp_path / 'portal.db'}"
    assert settings.mail_url == "file:"
    assert settings.engines == "embedded"
    assert not settings.is_production
    assert not settings.is_secure


def test_keys_are_made_once_and_are_private(tmp_path: Path) -> None:
    home = tmp_path / "with spaces"
    first, second = read(home), read(home)
    assert first.secret_keys == second.secret_keys
    assert first.pepper == second.pepper
    assert first.pepper != first.secret_keys[0].encode()
    assert min(len(first.pepper), len(first.secret_keys[0])) >= 32
    for path in (home / "keys").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((home / "keys").stat().st_mode) == 0o700
    assert sorted(p.name for p in (home / "keys").iterdir()) == ["pepper", "secret"]


def test_processes_that_start_at_once_agree_on_the_keys(tmp_path: Path) -> None:
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(read(tmp_path).pepper)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_file_gives_settings_and_the_environment_overrules_it(tmp_path: Path) -> None:
    config = tmp_path / "portal.toml"
    keys = ["k" * 32, "o" * 40]
    config.write_text(f'port = 9001\nhost = "0.0.0.0"\nsecret_keys = {keys}\n')
    settings = read(tmp_path, PORTAL_CONFIG=str(config), PORTAL_PORT="9002")
    assert (settings.port, settings.host, settings.secret_keys) == (9002, "0.0.0.0", tuple(keys))
    assert settings.sources["port"] == "environment PORTAL_PORT"
    assert settings.sources["host"] == str(config)


@pytest.mark.parametrize("text", [b"port = ", b"\xff\xfe", b"nonsense = 1\n", b"secret_keys = 5\n", b"port = [1]\n"])
def test_a_bad_file_is_one_clear_line(tmp_path: Path, text: bytes) -> None:
    config = tmp_path / "portal.toml"
    config.write_bytes(text)
    with pytest.raises(SettingError) as caught:
        read(tmp_path, PORTAL_CONFIG=str(config))
    assert str(caught.value).count("\n") == 0
    assert "portal.toml" in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"cannot read .*gone\.toml"):
        read(tmp_path, PORTAL_CONFIG=str(tmp_path / "gone.toml"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORTAL_NOTHING", "1"), ("PORTAL_PEPPER", "x"), ("PORTAL_SOURCES", "x"), ("PORTAL_ENV", "staging"),
        ("PORTAL_PORT", "x"), ("PORTAL_PORT", "0"), ("PORTAL_PORT", "65536"), ("PORTAL_PORT", ""),
        ("PORTAL_PORT", "9" * 5_000),
        ("PORTAL_HOST", ""), ("PORTAL_BASE_URL", "ftp://x"), ("PORTAL_BASE_URL", "http://"),
        ("PORTAL_BASE_URL", "http://x/path"), ("PORTAL_BASE_URL", "http://x?q=1"), ("PORTAL_BASE_URL", "http://x#f"),
        ("PORTAL_BASE_URL", "http://[::1"), ("PORTAL_BASE_URL", "http://x:99999"), ("PORTAL_BASE_URL", "http://:80"),
        ("PORTAL_BASE_URL", "http://u:p@x"), ("PORTAL_BASE_URL", ""), ("PORTAL_MAIL_URL", "smtp://"),
        ("PORTAL_MAIL_URL", "http://m"), ("PORTAL_MAIL_URL", ""), ("PORTAL_MAIL_URL", "smtp://m:0"),
        ("PORTAL_MAIL_URL", "smtp://[x"), ("PORTAL_MAIL_URL", "file:/elsewhere"), ("PORTAL_DATABASE_URL", "mysql://x"),
        ("PORTAL_DURABILITY", "none"), ("PORTAL_SECRET_KEYS", "short"), ("PORTAL_SECRET_KEYS", ""),
        ("PORTAL_SECRET_KEYS", "k" * 32 + ","), ("PORTAL_TIMESTAMP_URL", "ftp://t"), ("PORTAL_TIMESTAMP_URL", "http://[x"),
        ("PORTAL_CONTACT", "not an address"),
        ("PORTAL_CONTACT", "a@b, c@d"),
        ("PORTAL_LICENSOR", "x" * 201),
        ("PORTAL_LICENSOR", "The\nConsortium"),
        *(("PORTAL_CAMPAIGN_UNREACHED_LIMIT", value) for value in ("many", "", "nan", "1.5", "-0.1")),
    ],
)  # fmt: skip
def test_an_unknown_or_bad_setting_stops_the_start_with_its_name(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(SettingError) as caught:
        read(tmp_path, **{name: value})
    assert str(caught.value).startswith(name)
    assert "\n" not in str(caught.value)


def test_a_home_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SettingError, match="PORTAL_HOME"):
        read(tmp_path / "file")


def test_production_takes_safe_values(tmp_path: Path) -> None:
    settings = read(tmp_path, **SAFE)
    assert settings.is_production
    assert settings.is_secure


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORTAL_BASE_URL", "http://p.example"), ("PORTAL_MAIL_URL", "file:"), ("PORTAL_SECRET_KEYS", "secret")],
)
def test_production_refuses_unsafe_values(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(SettingError, match=name):
        read(tmp_path, **{**SAFE, name: value})


def test_the_address_of_an_ipv6_host_has_brackets(tmp_path: Path) -> None:
    assert read(tmp_path, PORTAL_HOST="::1").base_url == "http://[::1]:8000"
    assert read(tmp_path, PORTAL_BASE_URL="http://p.example/").base_url == "http://p.example"


def test_secrets_are_masked_where_settings_are_shown(tmp_path: Path) -> None:
    url = "postgresql+psycopg://portal:hunter2@db.example/portal"
    shown = read(tmp_path, PORTAL_DATABASE_URL=url, PORTAL_SECRET_KEYS="k" * 32, **SAFE).shown()
    text = repr(shown)
    for secret in ("hunter2", "k" * 32, ":pw@"):
        assert secret not in text
    values = {name: value for name, value, _ in shown}
    assert values["database_url"] == "postgresql+psycopg://portal:********@db.example/portal"
    assert [name for name, _, _ in shown] == list(NAMES)
    assert "pepper" not in NAMES


def test_folders_of_home_are_private_and_the_socket_stays_short(tmp_path: Path) -> None:
    settings = read(tmp_path)
    assert stat.S_IMODE(settings.folder("journal").stat().st_mode) == 0o700
    assert settings.folder("journal") == tmp_path / "journal"
    deep = read(tmp_path / ("d" * 90))
    assert len(str(deep.engine_socket)) < 100
    assert deep.engine_socket != read(tmp_path / ("e" * 90)).engine_socket
    assert Settings(home=Path("/h")).engine_socket == Path("/h/run/engine.sock")
    assert len({deep.engine_socket, deep.web_socket, deep.edge_socket}) == 3


def test_trusted_proxies_are_addresses_or_networks(tmp_path: Path) -> None:
    settings = read(tmp_path, PORTAL_TRUSTED_PROXIES="127.0.0.1, 10.1.2.3/8,::1")
    assert [str(network) for network in settings.proxies] == ["127.0.0.1/32", "10.0.0.0/8", "::1/128"]
    assert read(tmp_path).proxies == ()
    with pytest.raises(SettingError, match=r"PORTAL_TRUSTED_PROXIES .*'nginx' is no address"):
        read(tmp_path, PORTAL_TRUSTED_PROXIES="127.0.0.1,nginx")


class Light(StrEnum):
    """States of a lamp."""

    OFF = "off"
    ON = "on"


class Switch(StrEnum):
    """What moves a lamp."""

    PRESS = "press"


def test_a_lifecycle_is_its_table() -> None:
    lamp = Machine("lamp", Light.OFF, {(Light.OFF, Switch.PRESS): Light.ON})
    assert lamp.start is Light.OFF
    assert lamp.next(Light.OFF, Switch.PRESS) is Light.ON
    assert lamp.can(Light.OFF, Switch.PRESS)
    assert not lamp.can(Light.ON, Switch.PRESS)
    with pytest.raises(Conflict, match="A lamp that is on cannot press"):
        lamp.next(Light.ON, Switch.PRESS)


def test_public_ids_say_their_kind_and_nothing_else() -> None:
    made = {public_id("sig") for _ in range(500)}
    assert len(made) == 500
    for name in made:
        prefix, _, rest = name.partition("_")
        assert prefix == "sig"
        assert len(rest) == 16
        assert set(rest) <= set(ALPHABET)


def test_instants_are_aware_and_written_one_way() -> None:
    assert utcnow().tzinfo is UTC
    here = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=2)))
    assert stamp(here) == "2026-01-02T01:04:05.000006Z"


def test_actors_know_what_they_are() -> None:
    assert not ANONYMOUS.is_signed_in
    assert not SYSTEM.is_signed_in
    assert Actor(user_id=3, permissions=frozenset({"x"})).is_staff
    assert not Actor(user_id=3).is_staff
    assert Actor(user_id=3).id == 3
    with pytest.raises(RuntimeError):
        _ = ANONYMOUS.id


def test_each_kind_of_error_has_one_status() -> None:
    kinds = {Invalid: 422, NotFound: 404, Conflict: 409, Unauthenticated: 401, Unavailable: 503, Refused: 403}
    for kind, status in kinds.items():
        error = kind("a_code", "A sentence.")
        assert (error.status, error.code, str(error)) == (status, "a_code", "A sentence.")
    assert TooMany("x", "y", retry_after=3).retry_after == 3
    refused = Refused("x", "y", reasons=["a"], status=429, retry_after=5, url="/z")
    assert (refused.reasons, refused.status, refused.retry_after, refused.url) == (("a",), 429, 5, "/z")


def test_a_naive_time_does_not_reach_the_database() -> None:
    class Dialect:
        name = "sqlite"

    naive = datetime(2026, 1, 1)
    with pytest.raises(ValueError, match="naive"):
        Utc().process_bind_param(naive, Dialect())  # type: ignore[arg-type]
    assert Utc().process_bind_param(None, Dialect()) is None  # type: ignore[arg-type]
    assert Utc().process_result_value(None, Dialect()) is None  # type: ignore[arg-type]
    assert Utc().process_result_value(naive, Dialect()) == naive.replace(tzinfo=UTC)  # type: ignore[arg-type]


def test_the_guard_of_a_table_names_each_column() -> None:
    update, delete = append_only_ddl("t", ["a", "b"], ["b"], "sqlite")
    assert 'NEW."a" IS NOT OLD."a" OR (OLD."b" IS NOT NULL AND NEW."b" IS NOT OLD."b")' in update
    assert "BEFORE DELETE ON t" in delete
    assert len(append_only_ddl("t", ["a"], [], "postgresql")) == 4
