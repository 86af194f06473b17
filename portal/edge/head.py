"""Heads of requests and answers: what is accepted, what is passed on, and how an answer's head is written."""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from http import HTTPStatus
from ipaddress import IPv4Network, IPv6Network, ip_address

from portal.edge.routes import Alike, Headers

Fields = list[tuple[bytes, bytes]]
Networks = Sequence[IPv4Network | IPv6Network]
HEAD_MAX = 32 << 10
FIELDS_MAX = 100
TARGET_MAX = 8 << 10
HOST = re.compile(rb"[A-Za-z0-9._~:\[\]%-]*")
STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n" for s in HTTPStatus}
HOP_BY_HOP = frozenset({
    b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer",
    b"transfer-encoding", b"upgrade", b"http2-settings",
})  # fmt: skip
OURS_TO_SAY = frozenset({b"content-length", b"expect", b"forwarded", b"x-real-ip", b"x-request-id"})
FORWARDED = b"x-forwarded-"
NO_BODY = frozenset({204, 304})
# What the plane answers is read by programs; a browser that is led to it shows, runs and lends out nothing of it.
GUARD = (
    b"Content-Security-Policy: default-src 'none'; frame-ancestors 'none'; sandbox\r\n"
    b"X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nCross-Origin-Resource-Policy: same-origin\r\n"
)
HTTPS_ALONE = b"Strict-Transport-Security: max-age=31536000\r\n"


class BadHead(Exception):
    """A head that is not answered as it asks; says with which status it is refused."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def check_host(fields: Fields) -> None:
    """Raise `BadHead` unless a request names one host, and at most one authorization."""
    hosts = [value for name, value in fields if name == b"host"]
    if len(hosts) != 1 or not HOST.fullmatch(hosts[0]):
        raise BadHead(400, "A request names exactly one host.")
    if sum(name == b"authorization" for name, _ in fields) > 1:
        raise BadHead(400, "A request carries one Authorization at most.")


def check_body(fields: Fields, version: str) -> int | None:
    """Return the length of a body, or None for one in chunks; what the parser lets through is refused here."""
    length: int | None = 0
    for name, value in fields:
        if name == b"content-length":
            length = int(value)  # the parser has refused all else, and a second one
        elif name == b"transfer-encoding":
            if version != "1.1" or value.strip().lower() != b"chunked":
                raise BadHead(400, "The only transfer encoding is chunked, in HTTP/1.1.")
            length = None
    return length


def clean_path(target: bytes) -> tuple[str, str]:
    """Split a target into its path, double slashes merged, and its query; raise `BadHead` unless it is a path."""
    if not target.startswith(b"/") or b"#" in target:
        raise BadHead(400, "The target of a request is a path, with a query or none.")
    try:
        path, _, query = target.decode("ascii").partition("?")
    except UnicodeDecodeError:
        raise BadHead(400, "The target of a request is ASCII; other characters are percent-encoded.") from None
    while "//" in path:
        path = path.replace("//", "/")
    return path, query


def merged(fields: Fields) -> dict[str, str]:
    """Return fields by name, those that stand twice joined by commas."""
    found: dict[str, str] = {}
    for name, value in fields:
        key, text = name.decode("ascii"), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def _passed_on(fields: Fields, ours: Iterable[bytes]) -> Fields:
    named = {part.strip().lower() for name, value in fields if name == b"connection" for part in value.split(b",")}
    dropped = HOP_BY_HOP | (named - {b"host"}) | frozenset(ours)  # one host was asked for, one is passed on
    return [(name, value) for name, value in fields if name not in dropped]


def for_web(method: str, target: bytes, fields: Fields, *, length: int | None, ours: Headers) -> bytes:
    """Write the head of a request anew, for the control plane.

    Nothing of what the client sent is copied but method, target and fields that are the control plane's business, so
    that two parsers cannot disagree about where it ends.

    Args:
        method, target, fields: as parsed.
        length: of the body; None for chunks.
        ours: fields that only the plane may say, such as whose request it is.
    """
    lines = [f"{method} ".encode() + target + b" HTTP/1.1"]
    for name, value in _passed_on(fields, OURS_TO_SAY):
        # Servers read `_` as `-`: a field with it could pass for one of ours.
        if not name.startswith(FORWARDED) and b"_" not in name:
            lines.append(name + b": " + value)
    lines += [f"{name}: {value}".encode("latin-1") for name, value in ours]
    lines.append(b"connection: close")
    if length is None:
        lines.append(b"transfer-encoding: chunked")
    elif length or method not in {"GET", "HEAD", "OPTIONS"}:
        lines.append(b"content-length: %d" % length)
    return b"\r\n".join(lines) + b"\r\n\r\n"


def from_web(fields: Fields) -> Fields:
    """Return the fields of a control plane's answer that are the client's business; framing is said anew."""
    return _passed_on(fields, (b"content-length", b"server", b"date", b"x-request-id"))


def written(status: int, headers: Headers) -> bytes:
    """Write status line and fields of an answer, without the empty line that ends them."""
    if not isinstance(headers, Alike):
        return _written(status, tuple(headers))
    found = headers.written.get(status)
    if found is None:
        found = headers.written[status] = _written(status, tuple(headers))
    return found


@lru_cache(1_024)
def _written(status: int, headers: tuple[tuple[str, str], ...]) -> bytes:
    line = STATUS_LINES.get(status) or f"HTTP/1.1 {status} \r\n"
    text = "".join([f"{name}: {value}\r\n" for name, value in headers])
    if text.count("\n") != len(headers) or text.count("\r") != len(headers):
        raise ValueError("a field of an answer holds a line break")
    return (line + text).encode("latin-1", "replace")


def origin(peer: str, fields: Fields, trusted: Callable[[str], bool]) -> tuple[str, str]:
    """Return whose request it is, and whether it came over ``http`` or ``https``.

    Only proxies that are trusted may say; the client is the last address that no such proxy has.
    """
    if not trusted(peer):
        return peer, ""
    said = [part.strip() for name, value in fields if name == b"x-forwarded-for" for part in value.split(b",")]
    client = peer
    for part in reversed(said):
        address = part.decode("latin-1")
        if not is_address(address):
            break
        client = address
        if not trusted(address):
            break
    schemes = [value.strip().lower() for name, value in fields if name == b"x-forwarded-proto"]
    scheme = schemes[-1].decode("latin-1") if schemes and schemes[-1] in {b"http", b"https"} else ""
    return client, scheme


def is_address(text: str) -> bool:
    """Say whether a text is an address of the internet."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def trusts(networks: Networks) -> Callable[[str], bool]:
    """Return a function that says whether an address is one of a trusted proxy; a Unix socket's is."""

    def trusted(address: str) -> bool:
        if not networks or not is_address(address):
            return False
        return any(ip_address(address) in network for network in networks)

    return trusted
