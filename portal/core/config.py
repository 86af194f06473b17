"""Every setting once: where it comes from, what it may be, and what is refused."""

import os
import re
import secrets
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from hashlib import sha256
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from portal.core.actor import Level

ENVIRONMENTS = ("development", "production")
DURABILITIES = ("process", "power-loss")
STAFF_FACTORS = ("required", "offered")
SECRET_NAMES = frozenset({"secret_keys", "database_url", "mail_url", "seal_passphrase", "timestamp_url"})
HIDDEN = frozenset({"secret_keys", "seal_passphrase"})
TEXTS = ("providers", "seal_pkcs12", "seal_passphrase", "mail_reports", "timestamp_root", "witnesses", "judges")
COUNTS = ("upload_file_gb", "upload_commit_mb", "entries_per_minute", "pages_per_minute", "calls_per_minute")
SOCKET_LIMIT = 100
KEY_LENGTH = 32
PORT_MAX = 65535
NAME_MAX = 200
COUNT_MAX = 100_000


class SettingError(Exception):
    """A setting that is unknown or cannot be; the message names it and says what it may be."""


@dataclass(frozen=True)
class Settings:
    """The portal's settings, read once at start and passed on.

    Args:
        env: ``development`` or ``production``; production refuses unsafe values.
        home: the directory of all state.
        host, port: where the portal listens.
        base_url: the address people see, without a trailing slash.
        database_url: SQLAlchemy URL.
        mail_url: ``file:`` or ``smtp://user:password@host:port``.
        mail_reports: Maildir where the mail server leaves what becomes of mail; empty where nothing is asked for.
        engines: ``embedded``, or the path of a TOML file of OpenAI-compatible servers.
        durability: ``process`` or ``power-loss``.
        trusted_proxies: addresses or networks, separated by commas, that may say whose request they pass on.
        staff_factors: ``required`` or ``offered``: whether staff need a second factor to act; production requires it.
        providers: the path of a TOML file of identity providers with which people may sign in; empty for none.
        entries_per_minute: attempts to sign in or up, and the like, of one neighborhood of network addresses.
        pages_per_minute, calls_per_minute: pages of one person, and calls of one access token, beside model output.
        password_list: file of known passwords, as SHA-1 in order, that nobody may choose; empty for none.
        secret_keys: keys that sign cookies and forms; the first signs, all verify.
        seal_pkcs12: PKCS#12 file with the key and certificate that seal receipts; empty for a key made at first start.
        seal_passphrase: opens that file.
        timestamp_url: timestamp authority (RFC 3161) that confirms times of seals and checkpoints; empty for none.
        timestamp_root: PEM file with the certificates to one of which that authority has to lead up; empty for any.
        witnesses: who vouches for the log, ``KEY ADDRESS`` each, separated by commas; empty for nobody.
        log_mail: address to which the checkpoint of each day is mailed; empty for none.
        licensor: the body that gives out the license, as pages name it; empty where nobody is named yet.
        contact: mail address for questions, reports of misuse and signing on paper; empty where there is none yet.
        campaign_unreached_limit: largest share (0 to 1) of those a campaign asks whom nothing reached, for a cut-over.
        upload_file_gb: the largest file that staff may upload; Hub clients download no larger one.
        upload_commit_mb: the most bytes that one commit may carry itself, beside large files sent before.
        scanner_keys: address of the keys with which the secret scanning of GitHub signs leaked access tokens; empty
            where this portal is no partner of it.
        judges: file that lists outside judges, which are then sent the texts of requests; empty for none.
        pepper: key of the access-token digests.
        sources: setting → where its value came from.
    """

    env: str = "development"
    home: Path = Path("var")
    host: str = "127.0.0.1"
    port: int = 8000
    base_url: str = "http://127.0.0.1:8000"
    database_url: str = ""
    mail_url: str = "file:"
    mail_reports: str = ""
    engines: str = "embedded"
    durability: str = "process"
    trusted_proxies: tuple[str, ...] = ()
    staff_factors: str = "offered"
    providers: str = ""
    password_list: str = ""
    entries_per_minute: int = 30
    pages_per_minute: int = 600
    calls_per_minute: int = 6000
    secret_keys: tuple[str, ...] = ()
    seal_pkcs12: str = ""
    seal_passphrase: str = ""
    timestamp_url: str = ""
    timestamp_root: str = ""
    witnesses: str = ""
    log_mail: str = ""
    licensor: str = ""
    contact: str = ""
    campaign_unreached_limit: float = 0.05
    upload_file_gb: int = 50
    upload_commit_mb: int = 512
    scanner_keys: str = ""
    judges: str = ""
    pepper: bytes = b""
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_production(self) -> bool:
        """Say whether unsafe values are refused."""
        return self.env == "production"

    @property
    def is_secure(self) -> bool:
        """Say whether people reach the portal over https."""
        return self.base_url.startswith("https://")

    @property
    def staff_level(self) -> Level:
        """How firmly staff must prove who they are before their roles carry any power."""
        return Level.TWO if self.staff_factors == "required" else Level.ONE

    @property
    def engine_socket(self) -> Path:
        """The Unix socket of the embedded engine."""
        return self._socket("engine")

    @property
    def web_socket(self) -> Path:
        """The Unix socket of the control plane."""
        return self._socket("web")

    @property
    def edge_socket(self) -> Path:
        """The Unix socket on which the data plane answers the portal's own processes."""
        return self._socket("edge")

    @property
    def text_socket(self) -> Path:
        """The Unix socket on which background work takes the texts that it looks at."""
        return self._socket("texts")

    @property
    def proxies(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The networks of trusted proxies."""
        return tuple(ip_network(text, strict=False) for text in self.trusted_proxies)

    def _socket(self, name: str) -> Path:
        """Return the place of a Unix socket: in `home`, or in a private temporary folder if that is too long."""
        path = self.home / "run" / f"{name}.sock"
        if len(os.fsencode(path)) <= SOCKET_LIMIT:
            return path
        folder = sha256(os.fsencode(self.home)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"portal-{os.getuid()}-{folder}" / f"{name}.sock"

    def folder(self, name: str) -> Path:
        """Return a folder of `home`, made private if it is new."""
        path = self.home / name
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path

    def shown(self) -> list[tuple[str, str, str]]:
        """Return (name, value, source) of each setting, secrets masked."""
        rows = []
        for name in NAMES:
            value = getattr(self, name)
            text = ",".join(value) if isinstance(value, tuple) else str(value)
            rows.append((name, _mask(name, text), self.sources.get(name, "default")))
        return rows

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """Read settings from the environment and the file named by ``PORTAL_CONFIG``.

        Raises:
            SettingError: a setting is unknown, invalid, or unsafe in production.
        """
        environ = os.environ if environ is None else environ
        values, sources = _collect(environ)
        return _check(values, sources)


NAMES = tuple(f.name for f in fields(Settings) if f.name not in {"pepper", "sources"})


def _mask(name: str, text: str) -> str:
    if name not in SECRET_NAMES:
        return text
    if name in HIDDEN:
        return "********" if text else ""
    parts = urlsplit(text)
    return text.replace(f":{parts.password}@", ":********@") if parts.password else text


def _collect(environ: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    if config := environ.get("PORTAL_CONFIG"):
        try:
            table = tomllib.loads(Path(config).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:  # not readable, not UTF-8, or not TOML
            raise SettingError(f"PORTAL_CONFIG: cannot read {config}: {error}") from None
        for name, value in table.items():
            values[name], sources[name] = value, config
    for key, text in environ.items():
        if key.startswith("PORTAL_") and key != "PORTAL_CONFIG":
            name = key.removeprefix("PORTAL_").lower()
            values[name], sources[name] = text, f"environment {key}"
    if unknown := sorted(set(values) - set(NAMES)):
        raise SettingError(f"{_label(unknown[0], sources)}: no such setting; `portal settings` lists them")
    return values, sources


def _label(name: str, sources: Mapping[str, str]) -> str:
    return f"PORTAL_{name.upper()} ({sources.get(name, 'default')})"


def _bad(name: str, why: str, sources: Mapping[str, str]) -> SettingError:
    return SettingError(f"{_label(name, sources)}: {why}")


def _check(values: dict[str, Any], sources: dict[str, str]) -> Settings:
    env = _one_of("env", ENVIRONMENTS, values, sources)
    host, port = str(values.get("host", "127.0.0.1")), _port(values, sources)
    if not host:
        raise _bad("host", "must name an address to listen on", sources)
    shown_host = f"[{host}]" if ":" in host else host
    base_url = str(values.get("base_url", f"http://{shown_host}:{port}")).rstrip("/")
    mail_url = str(values.get("mail_url", "file:"))
    _check_addresses(base_url, mail_url, env, sources)
    timestamp_url, scanner_keys = (_address(name, values, sources) for name in ("timestamp_url", "scanner_keys"))
    home = Path(str(values.get("home", "var"))).expanduser().resolve()
    database_url = str(values.get("database_url", f"sqlite:///{home / 'portal.db'}"))
    if not database_url.startswith(("sqlite:///", "postgresql+psycopg://")):
        raise _bad("database_url", "must start with sqlite:/// or postgresql+psycopg://", sources)
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        keys, pepper = _keys(values.get("secret_keys"), home), _key_file(home, "pepper").encode()
    except OSError as error:
        raise _bad("home", f"cannot keep keys in {home}: {error.strerror}", sources) from None
    if not keys or any(len(key) < KEY_LENGTH for key in keys):
        raise _bad("secret_keys", f"each key needs at least {KEY_LENGTH} characters", sources)
    plain: dict[str, Any] = {name: str(values.get(name, "")) for name in TEXTS}
    plain |= {name: _count(name, getattr(Settings, name), values, sources) for name in COUNTS}
    return Settings(
        env=env, home=home, host=host, port=port, base_url=base_url, database_url=database_url, mail_url=mail_url,
        engines=str(values.get("engines", "embedded")), durability=_one_of("durability", DURABILITIES, values, sources),
        trusted_proxies=_networks(values, sources), secret_keys=keys,
        staff_factors=_staff_factors(env, values, sources), password_list=_password_list(values, sources),
        pepper=pepper, sources=sources, timestamp_url=timestamp_url, scanner_keys=scanner_keys,
        log_mail=_mail("log_mail", values, sources), contact=_mail("contact", values, sources),
        licensor=_named("licensor", values, sources), **plain,
        campaign_unreached_limit=_share("campaign_unreached_limit", 0.05, values, sources),
    )  # fmt: skip


def _staff_factors(env: str, values: dict[str, Any], sources: Mapping[str, str]) -> str:
    if env != "production":
        return _one_of("staff_factors", STAFF_FACTORS[::-1], values, sources)
    if (chosen := _one_of("staff_factors", STAFF_FACTORS, values, sources)) != "required":
        raise _bad("staff_factors", "production requires a second factor of staff", sources)
    return chosen


def _password_list(values: dict[str, Any], sources: Mapping[str, str]) -> str:
    if (path := str(values.get("password_list", ""))) and not Path(path).is_file():
        raise _bad("password_list", f"there is no file {path}", sources)
    return path


def _one_of(name: str, known: tuple[str, ...], values: dict[str, Any], sources: Mapping[str, str]) -> str:
    value = str(values.get(name, known[0]))
    if value not in known:
        raise _bad(name, f"{value!r} is not one of {', '.join(known)}", sources)
    return value


def _mail(name: str, values: dict[str, Any], sources: Mapping[str, str]) -> str:
    address = str(values.get(name, ""))
    if address and not re.fullmatch(r"[^@\s,]+@[^@\s,]+", address):
        raise _bad(name, "must be one mail address", sources)
    return address


def _named(name: str, values: dict[str, Any], sources: Mapping[str, str]) -> str:
    words = str(values.get(name, "")).strip()
    if len(words) > NAME_MAX or not words.isprintable():
        raise _bad(name, f"must be a name of at most {NAME_MAX} characters on one line", sources)
    return words


def _share(name: str, default: float, values: dict[str, Any], sources: Mapping[str, str]) -> float:
    try:
        share = float(values.get(name, default))
    except (TypeError, ValueError):
        raise _bad(name, f"{values[name]!r} is not a number", sources) from None
    if not 0 <= share <= 1:  # neither is "nan"
        raise _bad(name, f"{share} is not between 0 and 1", sources)
    return share


def _networks(values: dict[str, Any], sources: Mapping[str, str]) -> tuple[str, ...]:
    given = values.get("trusted_proxies", "")
    texts = [str(text).strip() for text in (given if isinstance(given, list) else str(given).split(","))]
    for text in filter(None, texts):
        try:
            ip_network(text, strict=False)
        except ValueError:
            raise _bad("trusted_proxies", f"{text!r} is no address and no network", sources) from None
    return tuple(filter(None, texts))


def _port(values: dict[str, Any], sources: Mapping[str, str]) -> int:
    try:
        port = int(values.get("port", 8000))
    except (TypeError, ValueError):
        raise _bad("port", f"{values['port']!r} is not a number", sources) from None
    if not 0 < port <= PORT_MAX:
        raise _bad("port", f"{port} is not between 1 and {PORT_MAX}", sources)
    return port


def _count(name: str, default: int, values: dict[str, Any], sources: Mapping[str, str]) -> int:
    text = str(values.get(name, default))
    if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) <= COUNT_MAX):
        raise _bad(name, f"{text[:40]!r} is no whole number from 1 to {COUNT_MAX:,}", sources)
    return int(text)


def _check_addresses(base_url: str, mail_url: str, env: str, sources: Mapping[str, str]) -> None:
    if not _is_base(base_url):
        raise _bad("base_url", f"{base_url!r} is not http(s)://host[:port] without a path", sources)
    if mail_url != "file:" and not _is_mail_server(mail_url):
        raise _bad("mail_url", "must be file: or smtp://user:password@host:port", sources)
    if env == "production" and not base_url.startswith("https://"):
        raise _bad("base_url", "production needs an https:// address", sources)
    if env == "production" and mail_url == "file:":
        raise _bad("mail_url", "production needs smtp://…; file: is for development", sources)


def _address(name: str, values: dict[str, Any], sources: Mapping[str, str]) -> str:
    url = str(values.get(name, ""))
    if url and not _is_address(url):
        raise _bad(name, "must be an http(s):// address", sources)
    return url


def _is_address(url: str) -> bool:
    """Say whether a URL names something on the web."""
    try:
        parts = urlsplit(url)
        named = parts.hostname and parts.port != 0
    except ValueError:
        return False
    return url.startswith(("http://", "https://")) and bool(named)


def _is_base(url: str) -> bool:
    """Say whether a URL names a site and nothing in it."""
    try:
        parts = urlsplit(url)
        named = parts.hostname and parts.port != 0 and parts.username is None
    except ValueError:
        return False
    return url.startswith(("http://", "https://")) and bool(named) and not parts.path + parts.query + parts.fragment


def _is_mail_server(url: str) -> bool:
    """Say whether a URL names a mail server."""
    try:
        parts = urlsplit(url)
        named = parts.hostname and parts.port != 0
    except ValueError:
        return False
    return url.startswith(("smtp://", "smtps://")) and bool(named)


def _keys(given: Any, home: Path) -> tuple[str, ...]:
    if given is None:
        return (_key_file(home, "secret"),)
    return tuple(map(str, given)) if isinstance(given, list) else tuple(str(given).split(","))


def _key_file(home: Path, name: str) -> str:
    """Read a key, or make it; two processes that start at once end up with the same one."""
    folder = home / "keys"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / name
    if not path.exists():
        draft = folder / f".{name}.{secrets.token_hex(8)}"
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(48), encoding="ascii")
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text(encoding="ascii")
