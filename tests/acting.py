"""A program of somebody else that asks people to let it act for them, as such programs are written."""

import base64
import hashlib
import secrets
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.grants.rules import SCOPES
from portal.programs import service as programs
from tests.site import Client

BACK = "https://notebook.example/back"


def challenge_of(verifier: str) -> str:
    """Return the S256 challenge of a verifier (RFC 7636)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


@dataclass
class Acting:
    """The program.

    Args:
        app: the control plane that it talks to.
        client_id, secret: what it was given when it was registered; a public one has no secret.
    """

    app: Any
    client_id: str
    secret: str

    @classmethod
    def registered(
        cls, app: Any, *, name: str = "Notebook", keeps_secret: bool = True, scopes: Any = SCOPES
    ) -> "Acting":
        """Register a program."""
        with transaction(app.engine) as session:
            program, secret = programs.register(
                session, name=name, homepage="https://notebook.example", redirect_uris=BACK, scopes=scopes,
                known=SCOPES, keeps_secret=keeps_secret, by=SYSTEM, pepper=app.settings.pepper, now=utcnow(),
            )  # fmt: skip
            return cls(app, program.public_id, secret)

    def asks(self, **changed: Any) -> tuple[str, str]:
        """Return the address to which it sends a person, and the verifier that it keeps; None leaves a field out."""
        verifier = secrets.token_urlsafe(32)
        fields = {
            "response_type": "code", "client_id": self.client_id, "redirect_uri": BACK, "scope": "weights:read",
            "state": "its state", "code_challenge": challenge_of(verifier), "code_challenge_method": "S256", **changed,
        }  # fmt: skip
        return "/oauth/authorize?" + urlencode({k: v for k, v in fields.items() if v is not None}, doseq=True), verifier

    def let(self, person: Client, decision: str = "allow", **changed: Any) -> tuple[dict[str, str], str]:
        """Have a person decide; return what comes back to it, and its verifier."""
        address, verifier = self.asks(**changed)
        answer = person.submit(address, decision=decision)
        assert answer.status_code == 303, answer.get_data(as_text=True)
        assert answer.location.startswith(f"{BACK}?"), answer.location
        return dict(parse_qsl(urlsplit(answer.location).query)), verifier

    def post(self, path: str, *, way: str = "basic", **fields: Any) -> Any:
        """Send it a form, proving who it is: ``basic``, ``post`` or, with its name alone, ``none``."""
        headers = {}
        if way == "basic":
            headers["Authorization"] = "Basic " + base64.b64encode(f"{self.client_id}:{self.secret}".encode()).decode()
        else:
            fields = {
                "client_id": self.client_id,
                **({"client_secret": self.secret} if way == "post" else {}),
                **fields,
            }
        return self.app.test_client().post(path, data=fields, headers=headers)

    def exchange(self, code: str, verifier: str, *, way: str = "basic", **changed: Any) -> Any:
        """Exchange a code."""
        fields = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": verifier,
            **changed,
        }  # fmt: skip
        return self.post("/oauth/token", way=way, **{k: v for k, v in fields.items() if v is not None})

    def refresh(self, refresh_token: str, *, way: str = "basic", **more: Any) -> Any:
        """Ask for the next tokens."""
        return self.post("/oauth/token", way=way, grant_type="refresh_token", refresh_token=refresh_token, **more)

    def tokens(self, person: Client, *, way: str = "basic", **changed: Any) -> dict[str, Any]:
        """Go the whole way and return the tokens."""
        back, verifier = self.let(person, **changed)
        answer = self.exchange(back["code"], verifier, way=way)
        assert answer.status_code == 200, answer.json
        return dict(answer.json)

    def introspect(self, token: str) -> dict[str, Any]:
        """Ask what a token is good for."""
        answer = self.post("/oauth/introspect", token=token)
        assert answer.status_code == 200, answer.json
        return dict(answer.json)

    def works(self, access_token: str) -> bool:
        """Say whether an access token is known to the portal."""
        answer = self.app.test_client().get("/api/whoami-v2", headers={"Authorization": f"Bearer {access_token}"})
        assert answer.status_code in {200, 401}
        return bool(answer.status_code == 200)
