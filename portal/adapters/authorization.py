"""The door to Authlib's authorization server (OAuth 2.1), with each of its defaults replaced that is too weak here."""

from collections.abc import Collection, Sequence
from contextlib import contextmanager
from typing import Any, Protocol
from urllib.parse import urlsplit

from authlib.common.urls import add_params_to_uri  # type: ignore[import-untyped]
from authlib.oauth2.base import OAuth2Error  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749 import (  # type: ignore[import-untyped]
    AuthorizationServer,
    ClientMixin,
    InvalidGrantError,
    InvalidRequestError,
    InvalidScopeError,
    OAuth2Request,
)
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant, RefreshTokenGrant  # type: ignore[import-untyped]
from authlib.oauth2.rfc7009 import RevocationEndpoint  # type: ignore[import-untyped]
from authlib.oauth2.rfc7636 import CodeChallenge  # type: ignore[import-untyped]
from authlib.oauth2.rfc7662 import IntrospectionEndpoint  # type: ignore[import-untyped]
from authlib.oauth2.rfc9207 import IssuerParameter  # type: ignore[import-untyped]

from portal.adapters.authorization_wire import Answer, Asked, Call, Request, described
from portal.core.errors import PortalError

SECRET_METHODS = ("client_secret_basic", "client_secret_post")
METHODS = (*SECRET_METHODS, "none")
REFUSED_FIELDS = ("request", "request_uri", "response_mode")  # what they would change is not looked at

WORDS = {
    "invalid_grant": "This is not known here, was used before, is too old, or was ended.",
    "invalid_scope": "Ask for at least one scope, and for none that this program was not registered for.",
    "access_denied": "The person did not agree.",
}


class Program(Protocol):
    """What has to be known of a program."""

    public_id: str
    redirect_uris: list[str]
    scopes: str

    @property
    def is_public(self) -> bool:
        """Whether it has no secret."""


class Held(Protocol):
    """A code or token that a program holds, by one permission of one person."""

    client_id: str
    scopes: str
    redirect_uri: str
    challenge: str
    usable: bool


class Desk(Protocol):
    """Keeps what is handed out, within one transaction."""

    def program(self, client_id: str) -> Any:
        """Return the program of a `client_id`, if there is one."""

    def secret_holds(self, program: Any, secret: str) -> bool:
        """Say whether a program showed its secret."""

    def keep_code(self, program: Any, *, redirect_uri: str, scopes: str, challenge: str, nonce: str) -> str:
        """Let a program act for the person who agreed, and return the code that says so."""

    def take_code(self, value: str) -> Any:
        """Return what a code stands for; one that was used before ends all that came of it, and is nothing."""

    def take_refresh(self, value: str) -> Any:
        """Return what a refresh token stands for; one that was used before ends its whole family, and is nothing."""

    def issue(self, held: Any, scopes: str) -> dict[str, Any]:
        """Hand out tokens for a code or refresh token, which is used from then on."""

    def look_up(self, value: str) -> Any:
        """Return what an access token or refresh token stands for."""

    def describe(self, held: Any) -> dict[str, Any]:
        """Say of a token what its own program may know."""

    def end(self, held: Any) -> None:
        """End a token; with a refresh token, its family."""


class _Client(ClientMixin):  # type: ignore[misc]
    """A program as Authlib asks about one."""

    def __init__(self, program: Program, desk: Desk) -> None:
        self.program, self.desk, self.client_id = program, desk, program.public_id

    def get_client_id(self) -> str:
        return self.client_id

    def get_default_redirect_uri(self) -> None:
        """Guess none: a program says each time where it wants people back."""

    def get_allowed_scope(self, scope: str | None) -> str | None:
        """Return the scopes, or None, an error, for any that is not this program's; Authlib would leave it out."""
        asked = dict.fromkeys((scope or "").split())
        return " ".join(asked) if asked and set(asked) <= set(self.program.scopes.split()) else None

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri in self.program.redirect_uris

    def check_client_secret(self, client_secret: str) -> bool:
        return self.desk.secret_holds(self.program, client_secret)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:  # noqa: ARG002
        return (method == "none") == self.program.is_public

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in {"authorization_code", "refresh_token"}


class _Paper:
    """A code or token as Authlib asks about one."""

    code_challenge_method = "S256"

    def __init__(self, held: Held) -> None:
        self.held, self.code_challenge = held, held.challenge

    def get_redirect_uri(self) -> str:
        return self.held.redirect_uri

    def get_scope(self) -> str:
        return self.held.scopes

    def check_client(self, client: _Client) -> bool:
        return bool(self.held.client_id == client.client_id)

    def is_expired(self) -> bool:
        return not self.held.usable

    def is_revoked(self) -> bool:
        return not self.held.usable


class _Challenge(CodeChallenge):  # type: ignore[misc]
    """Proof Key for Code Exchange, by S256 and for every program (RFC 7636, RFC 9700 §2.1.1)."""

    DEFAULT_CODE_CHALLENGE_METHOD = "S256"
    SUPPORTED_CODE_CHALLENGE_METHOD = ("S256",)
    CODE_CHALLENGE_METHODS = {"S256": CodeChallenge.CODE_CHALLENGE_METHODS["S256"]}

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        data = grant.request.payload.data
        if not data.get("code_challenge") or data.get("code_challenge_method") != "S256":
            raise InvalidRequestError("Send code_challenge, and code_challenge_method=S256.")
        super().validate_code_challenge(grant, redirect_uri)


class _Issuing:
    """Hands out by the desk, which keeps nothing in clear, what Authlib would make and have stored."""

    request: Any
    server: Any

    def generate_token(self, scope: str = "", **_: Any) -> dict[str, Any]:
        paper = self.request.authorization_code or self.request.refresh_token
        try:
            found: dict[str, Any] = self.server.desk.issue(paper.held, scope)
        except PortalError as error:
            raise InvalidGrantError(described(error.message)) from None
        return found

    def save_token(self, token: Any) -> None:
        """Keep nothing: the desk has."""

    def authenticate_user(self, paper: _Paper) -> Held:
        """Return whom it is about; that they may still have it is asked when it is issued."""
        return paper.held


class _CodeGrant(_Issuing, AuthorizationCodeGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS = METHODS

    def create_authorization_response(self, redirect_uri: str, grant_user: Any) -> Any:
        self.redirect_uri = redirect_uri
        return super().create_authorization_response(redirect_uri, grant_user)

    def generate_authorization_code(self) -> str:
        data, client = self.request.payload.data, self.request.client
        code: str = self.server.desk.keep_code(
            client.program, redirect_uri=self.redirect_uri, scopes=self.request.scope,
            challenge=data["code_challenge"], nonce=data.get("nonce", ""),
        )  # fmt: skip
        return code

    def save_authorization_code(self, code: str, request: Any) -> None:
        """Keep nothing: the desk has."""

    def query_authorization_code(self, code: str, client: _Client) -> _Paper | None:
        held = self.server.desk.take_code(code)
        return _Paper(held) if held is not None and held.client_id == client.client_id else None

    def delete_authorization_code(self, authorization_code: _Paper) -> None:
        """Delete nothing: the desk keeps a used code, to know it again."""


class _RefreshGrant(_Issuing, RefreshTokenGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS = METHODS
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> _Paper | None:
        held = self.server.desk.take_refresh(refresh_token)
        return _Paper(held) if held is not None else None

    def revoke_old_credential(self, refresh_token: _Paper) -> None:
        """Revoke nothing: the desk did when it issued the next one."""


class _TokenField:
    """Takes a token without asking which kind it is said to be."""

    server: Any

    def check_params(self, request: Any, client: Any) -> None:  # noqa: ARG002
        if not request.form.get("token"):
            raise InvalidRequestError("Send token.")

    def query_token(self, token: str, hint: str | None) -> _Paper | None:  # noqa: ARG002
        held = self.server.desk.look_up(token)
        return _Paper(held) if held is not None else None


class _Revocation(_TokenField, RevocationEndpoint):  # type: ignore[misc]
    CLIENT_AUTH_METHODS = METHODS

    def revoke_token(self, token: _Paper, request: Any) -> None:  # noqa: ARG002
        self.server.desk.end(token.held)


class _Introspection(_TokenField, IntrospectionEndpoint):  # type: ignore[misc]
    CLIENT_AUTH_METHODS = SECRET_METHODS

    def check_permission(self, token: _Paper, client: _Client, request: Any) -> bool:  # noqa: ARG002
        return token.check_client(client)

    def introspect_token(self, token: _Paper) -> dict[str, Any]:
        found: dict[str, Any] = self.server.desk.describe(token.held)
        return found


class _Issuer(IssuerParameter):  # type: ignore[misc]
    def __init__(self, issuer: str) -> None:
        self.issuer = issuer

    def get_issuer(self) -> str:
        return self.issuer


class Server(AuthorizationServer):  # type: ignore[misc]
    """Answers programs for one portal, within one transaction.

    Args:
        desk: keeps what is handed out.
        issuer: the portal's address.
        scopes: all that there are.
    """

    def __init__(self, desk: Desk, *, issuer: str, scopes: Collection[str]) -> None:
        super().__init__(scopes_supported=list(scopes))
        self.desk, self.issuer = desk, issuer
        self.register_grant(_CodeGrant, [_Challenge()])
        self.register_grant(_RefreshGrant)
        self.register_endpoint(_Revocation)
        self.register_endpoint(_Introspection)
        self.register_extension(_Issuer(issuer))

    def asked(self, call: Call) -> Asked | Answer:
        """Return what a program asks a person for, or where the browser goes back to with what is wrong with it.

        Raises:
            PortalError: program or address are not known here, so nobody is sent anywhere.
        """
        with _shown():
            try:
                grant = self._consent(call)
            except OAuth2Error as error:
                if not error.redirect_uri:
                    raise
                return self._named(self.handle_error_response(None, error))
        scopes = tuple(grant.request.scope.split())
        return Asked(grant.request.client.client_id, grant.redirect_uri, scopes)

    def answer(self, call: Call, *, agreed: bool) -> Answer:
        """Send the browser back with a code, or with the word that the person did not agree."""
        with _shown():
            grant = self._consent(call)
            found: Answer = self.create_authorization_response(grant.request, True if agreed else None, grant)
            return found

    def _consent(self, call: Call) -> Any:
        grant = self.get_consent_grant(call)
        fields = grant.request.payload.data
        if wrong := [name for name in REFUSED_FIELDS if fields.get(name, "query") != "query"]:
            error = InvalidRequestError(f"{wrong[0]} cannot be taken.")
        elif fields.get("prompt") == "none":  # each time, a person is asked
            error = OAuth2Error("A person has to agree.", error="interaction_required")
        else:
            return grant
        error.redirect_uri, error.state = grant.redirect_uri, fields.get("state")
        raise error

    def _named(self, answer: Answer) -> Answer:
        answer.location = add_params_to_uri(answer.location, {"iss": self.issuer})
        return answer

    def token(self, call: Call) -> Answer:
        """Exchange a code or a refresh token."""
        return self._spoken(self.create_token_response, call)

    def revoke(self, call: Call) -> Answer:
        """End a token (RFC 7009)."""
        return self._spoken(self.create_endpoint_response, "revocation", call)

    def introspect(self, call: Call) -> Answer:
        """Say what a token is good for (RFC 7662)."""
        return self._spoken(self.create_endpoint_response, "introspection", call)

    def _spoken(self, work: Any, *args: Any) -> Answer:
        try:
            found: Answer = work(*args)
        except OAuth2Error as error:  # raised before Authlib listens: while the request is read
            found = self.handle_error_response(None, error)
        return found

    def query_client(self, client_id: str) -> _Client | None:
        program = self.desk.program(client_id)
        return _Client(program, self.desk) if program is not None else None

    def create_oauth2_request(self, request: Call | OAuth2Request) -> OAuth2Request:
        return Request(request) if isinstance(request, Call) else request

    def handle_error_response(self, request: Any, error: OAuth2Error) -> Answer:
        error.description = error.description or WORDS.get(error.error, "This was refused.")
        found: Answer = super().handle_error_response(request, error)
        return found

    def handle_response(self, status: int, body: Any, headers: Any) -> Answer:
        return Answer(status, body, dict(headers))

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Send none."""

    def validate_requested_scope(self, scope: str) -> None:
        if set((scope or "").split()) - set(self.scopes_supported):
            raise InvalidScopeError(f"Ask for scopes among {', '.join(self.scopes_supported)}.")


@contextmanager
def _shown() -> Any:
    """Make of what is wrong with a page's address an error that the page shows."""
    try:
        yield
    except OAuth2Error as error:
        message = error.description or "What this program asks for cannot be read."
        raise PortalError("program_request_refused", f"{message} Nothing was sent anywhere.") from None


class Door:
    """What pages need of this module for one portal.

    Args:
        issuer: the portal's address.
        scopes: all that programs may ask for.
    """

    def __init__(self, issuer: str, scopes: Sequence[str]) -> None:
        self._issuer, self._scopes = issuer, tuple(scopes)

    def call(self, request: Any, *, of_body: bool) -> Call:
        """Return what a browser or program sent, with all values of each field of the body, or of the address."""
        fields = (request.form if of_body else request.args).to_dict(flat=False)
        return Call(request.method, request.path, fields, dict(request.headers))

    def server(self, desk: Desk) -> Server:
        """Return what answers programs within one transaction."""
        return Server(desk, issuer=self._issuer, scopes=self._scopes)

    def origin_of(self, address: str) -> str:
        """Return scheme, host and port of an address, as a browser's policy names where a form may lead."""
        parts = urlsplit(address)
        return f"{parts.scheme}://{parts.netloc}"
