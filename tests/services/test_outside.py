"""The door to servers outside: nobody but the operator leads the portal to anything inside."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest

from portal.adapters.oidc import OpenId, Provider
from portal.adapters.outside import OutsideAlone, OutsideError, Server, public_address
from portal.adapters.pdf import PdfError, render
from portal.core.errors import Unavailable

pytestmark = pytest.mark.threat("TM-32")
PUBLIC = "93.184.216.34"
LOOPBACK = [
    "127.0.0.1", "127.1", "127.0.1", "127.255.255.254", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1",
    "017700000001", "localhost", "localhost.", "LOCALHOST", "0.0.0.0", "0", "::1", "::", "::ffff:127.0.0.1",
    "::ffff:7f00:1", "::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1", "2002:7f00:1::", "①②⑦.⓪.⓪.①",
]  # fmt: skip
INSIDE = [
    "169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "fd00:ec2::254", "fe80::1", "fe80::1%lo",
    "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "192.0.0.170", "198.18.0.1", "224.0.0.1", "ff02::1",
    "255.255.255.255", "240.0.0.1", "fec0::1", "2002:a00:1::", "2001:0:a00:1:0:0:0:0",
]  # fmt: skip


class Inner(httpx2.BaseTransport):
    """Stands for the network: notes what would be called."""

    def __init__(self, status: int = 200, **headers: str) -> None:
        self.called: list[httpx2.Request] = []
        self.status, self.headers = status, headers

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.called.append(request)
        return httpx2.Response(self.status, headers=self.headers, json={"a": 1})


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Let the next look-ups of names answer in turn; return the names that were looked up."""
    asked: list[str] = []
    left = list(answers)

    def look_up(host: str, port: int, **_kept: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in left.pop(0)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


@pytest.mark.parametrize("host", LOOPBACK + INSIDE)
def test_every_spelling_of_what_lies_inside_is_refused(host: str) -> None:
    with pytest.raises(OutsideError):
        public_address(host)


@pytest.mark.parametrize("host", [PUBLIC, "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::1.1.1.1", "2002:101:101::"])
def test_a_public_address_is_outside(host: str) -> None:
    assert public_address(host)


@pytest.mark.parametrize("host", ["", "x" * 70 + ".example", "a..b", "\ud800.example"])
def test_what_has_no_address_is_refused(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if host == "":
        resolving(monkeypatch, [])
    with pytest.raises(OutsideError):
        public_address(host)


@pytest.mark.parametrize("url", [
    "https://127.0.0.1/keys", "https://[::1]/keys", "https://169.254.169.254/latest/meta-data/", "http://1.1.1.1/keys",
    "https://1.1.1.1:8443/keys", "https://1.1.1.1:22/", "file:///etc/passwd", "gopher://1.1.1.1:443/_x", "ftp://1.1.1.1/",
    "http://127.0.0.1:9/", "https://named.example:444/",
])  # fmt: skip
def test_nothing_is_called_at_addresses_that_somebody_else_names(url: str) -> None:
    inner = Inner()
    with (
        httpx2.Client(transport=OutsideAlone(["https://named.example"], inner), trust_env=False) as web,
        pytest.raises(httpx2.HTTPError),
    ):
        web.get(url)
    assert inner.called == []


def test_what_the_operator_named_may_be_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = resolving(monkeypatch)
    inner = Inner()
    with httpx2.Client(transport=OutsideAlone(["http://127.0.0.1:8080/realms/a"], inner)) as web:
        assert web.get("http://127.0.0.1:8080/keys").status_code == 200
        with pytest.raises(httpx2.HTTPError):
            web.get("http://127.0.0.1:5432/")
    assert ([str(one.url) for one in inner.called], asked) == (["http://127.0.0.1:8080/keys"], [])


def test_a_name_that_changes_meanwhile_leads_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = resolving(monkeypatch, [PUBLIC], ["127.0.0.1"], [PUBLIC, "10.0.0.1"])
    inner = Inner()
    with httpx2.Client(transport=OutsideAlone([], inner)) as web:
        assert web.get("https://rebind.example/keys").status_code == 200
        for _ in range(2):  # now inside; then one of two
            with pytest.raises(httpx2.HTTPError):
                web.get("https://rebind.example/keys")
    assert asked == ["rebind.example"] * 3
    [call] = inner.called
    assert (call.url.host, call.headers["Host"]) == (PUBLIC, "rebind.example")
    assert call.extensions["sni_hostname"] == "rebind.example"  # the certificate has to be that of the name


def test_no_redirect_is_followed() -> None:
    inner = Inner(302, Location="http://169.254.169.254/latest/meta-data/")
    with httpx2.Client(transport=OutsideAlone(["https://named.example"], inner)) as web:
        assert web.get("https://named.example/keys").status_code == 302
    assert len(inner.called) == 1


@pytest.fixture
def listening() -> Iterator[tuple[str, list[str]]]:
    """A server of this machine that redirects to itself, and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", "/inside")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()


def test_a_server_that_the_operator_named_leads_to_no_other(listening: tuple[str, list[str]]) -> None:
    url, asked = listening
    assert Server(f"{url}/keys").get({}).status == 302
    assert asked == ["/keys"]


def test_the_document_of_a_provider_leads_nowhere_inside(
    listening: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, asked = listening
    door = OpenId(Provider("campus", "Campus", "https://campus.example", "portal", "secret"))
    inside = url.replace("http://", "https://")
    document = {
        "issuer": "https://campus.example", "token_endpoint": f"{inside}/token", "jwks_uri": f"{inside}/keys",
        "authorization_endpoint": "https://campus.example/auth",
    }  # fmt: skip
    monkeypatch.setattr(door, "_metadata", document)
    monkeypatch.setattr(door, "_metadata_at", float("inf"))
    with pytest.raises(Unavailable):
        door.claims(redirect_uri="https://p.example/back", nonce="n", verifier="v" * 43, answer={"code": "c"})
    with pytest.raises(Unavailable):
        door._json(document["jwks_uri"])
    assert asked == []


@pytest.mark.parametrize("what", [
    "<img src='{url}/a.png'>", "<link rel=stylesheet href='{url}/a.css'>", "<img src='file:///etc/hostname'>",
    "<style>@import '{url}/b.css';</style>", "<img src='https://static.invalid/../../core/config.py'>",
    "<link rel=attachment href='file:///etc/passwd'>", "<object data='{url}/o'></object>",
])  # fmt: skip
def test_a_document_that_is_drawn_fetches_nothing(listening: tuple[str, list[str]], what: str) -> None:
    url, asked = listening
    with pytest.raises(PdfError):
        render(f"<html lang=en><title>x</title><body>{what.format(url=url)}</body></html>")
    assert asked == []
