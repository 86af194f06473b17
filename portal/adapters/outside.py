"""The door to servers outside: those that operators name, and those that somebody else names, public ones alone.

A server that an operator named is asked with patience and a limit, follows to no other, and is left alone while it
fails. An address that came from elsewhere, such as a provider's document, leads nowhere inside.
"""

import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

import httpx2

ANSWER_MAX = 64 << 10
PATIENCE = 3.0
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 3600.0
HTTPS = 443
UNICAST = IPv6Network("2000::/3")  # all that the registry has given out (RFC 4291)
TRANSLATED = IPv6Network("64:ff9b::/96")  # an IPv4 address, as networks of IPv6 alone reach it (RFC 6052)


class OutsideError(Exception):
    """A server outside is away, slow, or answers more than it should."""


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    status: int
    body: bytes


class Server:
    """A server at an address; while it fails it is left alone for longer and longer.

    Args:
        url: where it answers; a name and a password in it are sent as the header that they stand for.
        patience: seconds that a whole answer may take.
    """

    def __init__(self, url: str, *, patience: float = PATIENCE) -> None:
        parts = urlsplit(url)
        self._auth = (parts.username or "", parts.password or "") if parts.username else None
        self.url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        self.patience = patience
        self.pause = 0.0
        self.due = 0.0

    def ready(self) -> bool:
        """Say whether it may be asked again."""
        return time.monotonic() >= self.due

    def failed(self) -> None:
        """Leave it alone for twice as long as before."""
        self.pause = min(max(self.pause * 2, FIRST_PAUSE), LONGEST_PAUSE)
        self.due = time.monotonic() + self.pause

    def answered(self) -> None:
        """It works: ask it again at once."""
        self.pause = self.due = 0.0

    def post(self, body: bytes, headers: Mapping[str, str], *, at: str = "") -> Answer:
        """Send bytes, below its address if that is said, and return the answer.

        Raises:
            OutsideError: it does not answer in time, or too much.
        """
        return self._ask("POST", at, body, headers)

    def get(self, headers: Mapping[str, str]) -> Answer:
        """Return what stands at its address.

        Raises:
            OutsideError: it does not answer in time, or too much.
        """
        return self._ask("GET", "", None, headers)

    def _ask(self, method: str, at: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        deadline, said = time.monotonic() + self.patience, b""
        try:
            with (
                httpx2.Client(timeout=httpx2.Timeout(self.patience), trust_env=False, auth=self._auth) as client,
                client.stream(method, f"{self.url}{at}", content=body, headers=dict(headers)) as answer,
            ):
                for piece in answer.iter_raw():
                    said += piece
                    if len(said) > ANSWER_MAX or time.monotonic() > deadline:
                        raise OutsideError("its answer is too long or too slow")
                return Answer(answer.status_code, said)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise OutsideError(f"{type(error).__name__}: {error}") from None


def public_address(host: str) -> str:
    """Return one address of a host, of which every address is public.

    Raises:
        OutsideError: it has none, or one that leads to this machine, its network or its neighbors.
    """
    try:
        found = socket.getaddrinfo(host, HTTPS, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise OutsideError(f"{host!r} has no address: {type(error).__name__}") from None
    addresses = [str(row[4][0]).partition("%")[0] for row in found]
    if not addresses or not all(_is_public(ip_address(one)) for one in addresses):
        raise OutsideError(f"{host!r} is not outside")
    return addresses[0]


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    """Say whether everybody may reach an address, and every IPv4 address that is wrapped in it."""
    if isinstance(address, IPv6Address):
        if address in TRANSLATED:
            return _is_public(IPv4Address(int(address) & 0xFFFFFFFF))
        wrapped = [address.sixtofour, *(address.teredo or ())]
        if address not in UNICAST or not all(_is_public(one) for one in wrapped if one is not None):
            return False
    return address.is_global and not address.is_multicast


class OutsideAlone(httpx2.BaseTransport):
    """Carries requests to servers that an operator named, and else to public ones, over https on its own port.

    The name is looked up once, and that address is called, so that a name that changes leads nowhere else; the
    certificate is that of the name.

    Args:
        named: addresses that an operator named, of which scheme, host and port count.
        inner: carries what may go out.
    """

    def __init__(self, named: Iterable[str], inner: httpx2.BaseTransport | None = None) -> None:
        self._named = {_origin(httpx2.URL(url)) for url in named}
        self._inner = inner or httpx2.HTTPTransport(trust_env=False)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request, or raise `httpx2.UnsupportedProtocol` before anything is called."""
        if _origin(request.url) not in self._named:
            host = request.url.host
            if request.url.scheme != "https" or (request.url.port or HTTPS) != HTTPS:
                raise httpx2.UnsupportedProtocol(
                    f"{request.url.scheme}, port {request.url.port}: not taken from others"
                )
            try:
                request.url = request.url.copy_with(host=public_address(host))
            except OutsideError as error:
                raise httpx2.UnsupportedProtocol(str(error)) from None
            request.extensions = {**request.extensions, "sni_hostname": host}
        return self._inner.handle_request(request)

    def close(self) -> None:
        """Let go of connections."""
        self._inner.close()


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or {"http": 80, "https": HTTPS}.get(url.scheme)
