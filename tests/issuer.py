"""An identity provider (OpenID Connect) on a free port of this machine, which can also lie in every way."""

import base64
import hashlib
import hmac
import json
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
from joserfc import jwt
from joserfc.jwk import RSAKey

from portal.core.clock import utcnow
from tests.running import free_port, wait_until

CLIENT, SECRET = "portal", "its secret"


class Issuer:
    """The provider.

    Attributes:
        url: what it calls itself.
        subject, name, email: who signs in there.
        lies: claims of the statement that are not what they should be.
        metadata_lies: the same of its metadata.
        key: what it signs with; `known` is what its key set shows.
        algorithm: how it signs; ``none`` and ``HS256`` as an attacker would.
        away: it answers everything with 503.
        says_issuer: the answer names its issuer (RFC 9207).
    """

    def __init__(self) -> None:
        self.url = ""
        self.subject, self.name, self.email = "0000-0002-1825-0097", "Josiah Carberry", "josiah@example.org"
        self.lies: dict[str, Any] = {}
        self.metadata_lies: dict[str, Any] = {}
        self.algorithm, self.away, self.says_issuer = "RS256", False, ""
        self.codes: dict[str, dict[str, str]] = {}
        self.rotate()

    def rotate(self, *, shown: bool = True) -> None:
        """Sign with another key from now on."""
        self.key = RSAKey.generate_key(2048, {"kid": secrets.token_hex(4), "use": "sig", "alg": "RS256"})
        if shown:
            self.known = self.key

    def metadata(self) -> dict[str, Any]:
        """Where everything is."""
        found = {
            "issuer": self.url, "authorization_endpoint": f"{self.url}/auth", "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
        }  # fmt: skip
        if self.says_issuer:
            found["authorization_response_iss_parameter_supported"] = True  # type: ignore[assignment]
        return {**found, **self.metadata_lies}

    def agree(self, address: str) -> str:
        """Be the person at the provider's page: return the address that the browser is sent back to."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        assert (asked["response_type"], asked["client_id"]) == ("code", CLIENT)
        assert (asked["code_challenge_method"], len(asked["code_challenge"])) == ("S256", 43)
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        answer = {"code": code, "state": asked["state"], **({"iss": self.says_issuer} if self.says_issuer else {})}
        return f"{asked['redirect_uri']}?{urlencode(answer)}"

    def tokens(self, form: dict[str, str]) -> dict[str, Any] | None:
        """Exchange a code once, for whoever holds the verifier and the secret."""
        asked = self.codes.pop(form.get("code", ""), None)
        if asked is None or form.get("redirect_uri") != asked["redirect_uri"]:
            return None
        made = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if made.rstrip(b"=").decode() != asked["code_challenge"]:
            return None
        return {"access_token": "at", "token_type": "Bearer", "id_token": self.statement(asked.get("nonce", ""))}

    def statement(self, nonce: str) -> str:
        """State who signed in."""
        now = int(utcnow().timestamp())
        claims = {
            "iss": self.url, "sub": self.subject, "aud": CLIENT, "exp": now + 300, "iat": now, "nonce": nonce,
            "name": self.name, "email": self.email, **self.lies,
        }  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        head = {"alg": self.algorithm, "kid": self.key.kid}
        if self.algorithm == "none":
            return f"{joined(head, claims)}."
        if self.algorithm == "HS256":  # the public key taken for a shared secret
            secret = self.known.as_pem(private=False)
            return signed(head, claims, lambda said: hmac.digest(secret, said, "sha256"))
        if self.algorithm == "jku":  # "my keys are over there"
            other = RSAKey.generate_key(2048, {"kid": "evil"})
            lies: dict[str, Any] = {"jku": f"{self.url}/evil", "jwk": other.as_dict(private=False)}
            return jwt.encode({"alg": "RS256", "kid": "evil", **lies}, claims, other)
        return jwt.encode(head, claims, self.key)


def joined(*parts: Any) -> str:
    """Return the parts of a statement as they are signed."""
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)


def signed(head: Any, claims: Any, sign: Callable[[bytes], bytes]) -> str:
    """Return a statement with a signature that no library would make."""
    said = joined(head, claims)
    return f"{said}.{base64.urlsafe_b64encode(sign(said.encode())).rstrip(b'=').decode()}"


@contextmanager
def running() -> Iterator[Issuer]:
    """Run a provider."""
    issuer = Issuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            pages: dict[str, Callable[[], dict[str, Any]]] = {
                "/.well-known/openid-configuration": issuer.metadata,
                "/user": lambda: {"id": 583231, "login": "octocat", "name": None, "email": None},
                "/keys": lambda: {"keys": [issuer.known.as_dict(private=False)]},
            }
            made = pages.get(urlsplit(self.path).path)
            self.answer(None if made is None else made())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            wanted = "Basic " + base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
            right = self.headers.get("Authorization") == wanted
            self.answer(issuer.tokens(form) if right else None, missing=400)

        def answer(self, what: dict[str, Any] | None, missing: int = 404) -> None:
            status = 503 if issuer.away else missing if what is None else 200
            body = json.dumps(what if status == 200 else {"error": "invalid_grant"}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        issuer.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield issuer
        server.shutdown()
        thread.join()


@contextmanager
def mock_process() -> Iterator[str]:
    """Run `oidc-provider-mock` as a process of its own, and return what it calls itself."""
    port = free_port()
    url = f"http://localhost:{port}"
    command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: answers(f"{url}/.well-known/openid-configuration"))
            yield url
        finally:
            process.kill()


def answers(url: str) -> bool:
    """Say whether a server is there."""
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


def agree_at_mock(address: str, subject: str) -> str:
    """Sign in at the page of `oidc-provider-mock` as a browser would, and return where it sends the browser back."""
    answer = httpx.post(address, data={"sub": subject})
    assert answer.is_redirect, answer.text
    return str(answer.headers["Location"])
