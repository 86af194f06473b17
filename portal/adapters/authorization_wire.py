"""What programs and browsers send to an authorization server, and what it answers, read and written with care."""

from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from authlib.oauth2.base import invalid_error_characters  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749 import (  # type: ignore[import-untyped]
    InvalidClientError,
    InvalidRequestError,
    OAuth2Request,
)
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload  # type: ignore[import-untyped]

FIELD_MAX = 4096


@dataclass(frozen=True)
class Call:
    """What a browser or program sent.

    Args:
        fields: of the query for a page, of the body for the rest; each with all its values.
    """

    method: str
    path: str
    fields: Mapping[str, Sequence[str]]
    headers: Mapping[str, str]


@dataclass
class Answer:
    """What is answered: a redirect if `location` is set, else a body for JSON."""

    status: int
    body: Any
    headers: dict[str, str]

    @property
    def location(self) -> str:
        """Where a browser is sent."""
        return self.headers.get("Location", "")

    @location.setter
    def location(self, value: str) -> None:
        self.headers["Location"] = value


@dataclass(frozen=True)
class Asked:
    """What a program asks a person for, found to be in order."""

    client_id: str
    redirect_uri: str
    scopes: tuple[str, ...]


class Request(OAuth2Request):  # type: ignore[misc]
    """A request as Authlib reads one; that it came over TLS is for the settings and the proxy to see to."""

    def __init__(self, call: Call) -> None:
        super().__init__(call.method, f"https://portal.invalid{call.path}", headers=dict(call.headers))
        _check_fields(call.fields)
        _check_proof(self.headers.get("Authorization", ""))
        self.payload = BasicOAuth2Payload({name: values[0] for name, values in call.fields.items() if values})

    @property
    def form(self) -> dict[str, str]:
        return dict(self.payload.data)

    @property
    def args(self) -> dict[str, str]:
        return dict(self.payload.data)


def _check_fields(fields: Mapping[str, Sequence[str]]) -> None:
    """Refuse what RFC 6749 has no place for: Authlib fails over such values once it quotes them in an error."""
    for name, values in fields.items():
        if len(values) > 1:
            raise InvalidRequestError("A parameter was sent twice; send each once.")
        if any(len(value) > FIELD_MAX or not value.isascii() or not value.isprintable() for value in values):
            raise InvalidRequestError("A parameter is too long or holds characters other than printable ASCII.")
        if name != "state" and any(invalid_error_characters(value) for value in values):
            raise InvalidRequestError("A parameter holds a quotation mark or a backslash.")


def _check_proof(header: str) -> None:
    """Refuse a name and secret that cannot be read (RFC 7617), over which Authlib fails."""
    scheme, _, said = header.partition(" ")
    try:
        readable = scheme.lower() != "basic" or b64decode(said, validate=True).decode("ascii").isprintable()
    except ValueError:
        readable = False
    if not readable:
        raise InvalidClientError("The Authorization header cannot be read.", status_code=401)


def described(message: str) -> str:
    """Return words as RFC 6749 lets an error hold them."""
    plain = message.encode("ascii", "replace").decode()
    return "".join("'" if character in '"\\' else character for character in plain if character.isprintable())
