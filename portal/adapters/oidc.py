"""The door to identity providers: OpenID Connect through Authlib and joserfc, and GitHub, which speaks OAuth alone."""

import json
import time
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
from authlib.common.errors import AuthlibBaseError  # type: ignore[import-untyped]
from authlib.integrations.httpx_client import OAuth2Client  # type: ignore[import-untyped]
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from portal.adapters.outside import OutsideAlone
from portal.core.clock import utcnow
from portal.core.config import SettingError
from portal.core.errors import PortalError, Unavailable

ORCID, GITHUB = "https://orcid.org", "https://github.com"
ALGORITHMS = ("RS256", "ES256", "PS256", "EdDSA")
TEXT_MAX = 200
PATIENCE = 5.0
ANSWER_MAX = 1 << 20
KEPT_S = 3600.0
ASKED_AGAIN_S = 30.0
LEEWAY_S = 60
SUBJECT_MAX = 255
GITHUB_API = "https://api.github.com/user"
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "orcid": {"name": "ORCID", "issuer": ORCID, "scopes": ["openid"], "algorithms": ["RS256"]},
    "huggingface": {"name": "Hugging Face", "issuer": "https://huggingface.co"},
    "google": {"name": "Google", "issuer": "https://accounts.google.com", "algorithms": ["RS256"]},
    "github": {"name": "GitHub", "issuer": GITHUB, "scopes": ["read:user"]},
}
NEEDED, TEXTS, LISTS = ("name", "issuer", "client_id"), ("client_secret", "domain"), ("scopes", "algorithms")


@dataclass(frozen=True)
class Provider:
    """A place where people prove who they are, as the operator names it.

    Args:
        slug: its name in addresses.
        name: how pages call it.
        issuer: what it calls itself (`iss`); with the subject, it makes an identity.
        client_id, client_secret: what this portal is to it.
        scopes: what it is asked for.
        algorithms: signatures that its statements may bear.
        domain: only people of this Google Workspace domain (`hd`), if one is named.
    """

    slug: str
    name: str
    issuer: str
    client_id: str
    client_secret: str = ""
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    algorithms: tuple[str, ...] = ALGORITHMS
    domain: str = ""

    @property
    def speaks_openid(self) -> bool:
        """Say whether it signs a statement of who the person is; GitHub only answers a question."""
        return self.issuer != GITHUB


def read_providers(path: str) -> tuple[Provider, ...]:
    """Read the operator's file of providers: a TOML table each, of which ORCID and the like are known in advance.

    Raises:
        SettingError: names the file, the table and what is wrong with it.
    """
    if not path:
        return ()
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingError(f"PORTAL_PROVIDERS: cannot read {path}: {error}") from None
    found = tuple(_provider(f"{path}: [{slug}]", slug, table) for slug, table in tables.items())
    issuers = [one.issuer for one in found]
    if twice := next((issuer for issuer in issuers if issuers.count(issuer) > 1), None):
        raise SettingError(f"{path}: {twice} is there twice; an identity could not be told from another")
    return found


def _provider(where: str, slug: str, table: Any) -> Provider:
    if not isinstance(table, dict) or not (slug.isascii() and slug.replace("-", "").isalnum()):
        raise SettingError(f"{where}: must be a table with a name of letters, digits and hyphens")
    values = {**PRESETS.get(slug, {}), **table}
    if unknown := sorted(set(values) - {*NEEDED, *TEXTS, *LISTS}):
        raise SettingError(f"{where}: there is no {unknown[0]!r}; there are {', '.join((*NEEDED, *TEXTS, *LISTS))}")
    if missing := [key for key in NEEDED if not values.get(key)]:
        raise SettingError(f"{where}: {missing[0]} is missing")
    values = {key: _value(f"{where}: {key}", key, value) for key, value in values.items()}
    parts, values["issuer"] = urlsplit(values["issuer"]), values["issuer"].rstrip("/")
    if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "localhost"}:
        raise SettingError(f"{where}: issuer must be an https:// address")
    if weak := set(values.get("algorithms", ())) - set(ALGORITHMS):
        raise SettingError(f"{where}: algorithms may be {', '.join(ALGORITHMS)}, not {min(weak)}")
    return Provider(slug=slug, **values)


def _value(where: str, key: str, value: Any) -> Any:
    if key in LISTS and isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return tuple(value)
    if key not in LISTS and isinstance(value, str):
        return value
    raise SettingError(f"{where} must be {'a list of words' if key in LISTS else 'text in quotes'}")


def open_doors(providers: tuple[Provider, ...]) -> "dict[str, OpenId | GitHub]":
    """Return what talks to each provider, by its name in addresses."""
    return {one.slug: OpenId(one) if one.speaks_openid else GitHub(one) for one in providers}


class _Web:
    """One exchange with a provider, within limits of time and size, which follows no redirect."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider

    def _client(self, redirect_uri: str) -> OAuth2Client:
        return OAuth2Client(
            self.provider.client_id, self.provider.client_secret or None, scope=" ".join(self.provider.scopes),
            redirect_uri=redirect_uri, code_challenge_method="S256", timeout=PATIENCE, trust_env=False,
            transport=self._carrier(),
        )  # fmt: skip

    def _carrier(self) -> OutsideAlone:
        """Return what carries requests: the provider's document may name other servers, but none inside."""
        return OutsideAlone([self.provider.issuer, GITHUB_API])

    def _json(self, url: str, *, token: str = "") -> dict[str, Any]:
        headers = {"Accept": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        body = b""
        try:
            with (
                httpx2.Client(timeout=PATIENCE, trust_env=False, transport=self._carrier()) as web,
                web.stream("GET", url, headers=headers) as answer,
            ):
                for piece in answer.iter_bytes() if answer.is_success else ():
                    body += piece
                    if len(body) > ANSWER_MAX:
                        raise self._away()
            found = json.loads(body)
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise self._away()
        return found

    def _exchange(self, endpoint: str, redirect_uri: str, verifier: str, answer: Mapping[str, str]) -> dict[str, Any]:
        """Exchange a code for tokens (RFC 6749 §4.1.3, RFC 7636 §4.5)."""
        if error := answer.get("error"):
            what = "You did not agree there." if error == "access_denied" else f"{self.provider.name} refused."
            raise refused("provider_refused", what)
        if not answer.get("code"):
            raise refused("provider_code_missing", f"The answer of {self.provider.name} holds no code.")
        try:
            with self._client(redirect_uri) as web:
                return dict(
                    web.fetch_token(
                        endpoint, grant_type="authorization_code", code=answer["code"], code_verifier=verifier,
                        redirect_uri=redirect_uri,
                    )
                )  # fmt: skip
        except (AuthlibBaseError, ValueError, TypeError, KeyError):
            raise refused("provider_code_refused", f"{self.provider.name} does not accept the code any more.") from None
        except (httpx2.HTTPError, httpx2.InvalidURL):
            raise self._away() from None

    def _said(self, subject: str, name: Any, email: Any) -> dict[str, str]:
        return {"issuer": self.provider.issuer, "subject": subject, "name": _text(name), "email": _text(email)}

    def _away(self) -> Unavailable:
        message = f"{self.provider.name} does not answer as it should. Try again later, or sign in another way."
        return Unavailable("provider_away", message)


class OpenId(_Web):
    """A provider of OpenID Connect, found by its issuer (OpenID Connect Discovery 1.0)."""

    def __init__(self, provider: Provider) -> None:
        super().__init__(provider)
        self._metadata: dict[str, Any] = {}
        self._metadata_at = self._keys_at = float("-inf")
        self._keys = KeySet([])

    def address(self, *, redirect_uri: str, state: str, nonce: str, verifier: str) -> str:
        """Return the page of the provider."""
        more = {"hd": self.provider.domain} if self.provider.domain else {}
        url, _ = self._client(redirect_uri).create_authorization_url(
            self._known("authorization_endpoint"), state=state, nonce=nonce,
            code_verifier=verifier, **more,
        )  # fmt: skip
        return str(url)

    def claims(self, *, redirect_uri: str, nonce: str, verifier: str, answer: Mapping[str, str]) -> dict[str, str]:
        """Exchange the code and check the statement (OpenID Connect Core 1.0 §3.1.3.7)."""
        told = answer.get("iss")  # RFC 9207: which provider answers, against one that passes on another's answer
        asked = self._look().get("authorization_response_iss_parameter_supported") is True
        if (told is None and asked) or (told is not None and told.rstrip("/") != self.provider.issuer):
            raise refused("provider_issuer_other", "The answer comes from another provider.")
        tokens = self._exchange(self._known("token_endpoint"), redirect_uri, verifier, answer)
        found = self._checked(str(tokens.get("id_token", "")), nonce)
        domain = self.provider.domain
        if domain and found.get("hd") != domain:
            raise refused("provider_domain_other", f"Only accounts of {domain} can be used here.")
        return self._said(found["sub"], found.get("name"), found.get("email"))

    def _checked(self, statement: str, nonce: str) -> dict[str, Any]:
        try:
            token = self._opened(statement)
            rules = jwt.JWTClaimsRegistry(
                now=int(utcnow().timestamp()), leeway=LEEWAY_S, sub={"essential": True}, exp={"essential": True},
                iat={"essential": True}, nonce={"essential": True, "value": nonce},
                aud={"essential": True, "value": self.provider.client_id},
            )  # fmt: skip
            rules.validate(token.claims)
        except (JoseError, ValueError, TypeError, KeyError):
            raise self._unproved() from None
        claims = dict(token.claims)
        audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        meant = claims.get("azp", self.provider.client_id) == self.provider.client_id and set(audience) <= {
            self.provider.client_id
        }
        subject = claims["sub"]
        right = isinstance(subject, str) and 0 < len(subject) <= SUBJECT_MAX and subject.isprintable()
        if not meant or not right or str(claims.get("iss", "")).rstrip("/") != self.provider.issuer:
            raise self._unproved()
        return claims

    def _opened(self, statement: str) -> jwt.Token:
        """Check a statement's signature by the keys at hand, and once more by new ones if a key is unknown."""
        algorithms = list(self.provider.algorithms)
        with suppress(JoseError, ValueError):
            return jwt.decode(statement, self._keys, algorithms=algorithms)
        if time.monotonic() - self._keys_at > ASKED_AGAIN_S or not self._keys.keys:
            self._keys = KeySet.import_key_set(self._json(self._known("jwks_uri")))  # type: ignore[arg-type]
            self._keys_at = time.monotonic()
        return jwt.decode(statement, self._keys, algorithms=algorithms)

    def _look(self) -> dict[str, Any]:
        if time.monotonic() - self._metadata_at > KEPT_S:
            found = self._json(f"{self.provider.issuer}/.well-known/openid-configuration")
            if str(found.get("issuer", "")).rstrip("/") != self.provider.issuer:
                raise self._away()
            self._metadata, self._metadata_at = found, time.monotonic()
        return self._metadata

    def _known(self, what: str) -> str:
        url = self._look().get(what)
        own = urlsplit(self.provider.issuer).scheme
        if not isinstance(url, str) or urlsplit(url).scheme not in {"https", own}:
            raise self._away()
        return url

    def _unproved(self) -> Exception:
        return refused("provider_statement_refused", f"What {self.provider.name} states does not prove who you are.")


class GitHub(_Web):
    """GitHub, which answers who holds a token instead of signing a statement."""

    def address(self, *, redirect_uri: str, state: str, nonce: str, verifier: str) -> str:  # noqa: ARG002 - signed nowhere
        """Return the page of GitHub."""
        url, _ = self._client(redirect_uri).create_authorization_url(
            f"{self.provider.issuer}/login/oauth/authorize", state=state, code_verifier=verifier
        )
        return str(url)

    def claims(
        self,
        *,
        redirect_uri: str,
        nonce: str,  # noqa: ARG002 - as above
        verifier: str,
        answer: Mapping[str, str],
    ) -> dict[str, str]:
        """Exchange the code and ask who the person is."""
        tokens = self._exchange(f"{self.provider.issuer}/login/oauth/access_token", redirect_uri, verifier, answer)
        found = self._json(GITHUB_API, token=str(tokens.get("access_token", "")))
        if not isinstance(found.get("id"), int):
            raise self._away()
        return self._said(str(found["id"]), found.get("name") or found.get("login"), found.get("email"))


def refused(code: str, why: str) -> PortalError:
    """Return the error for an answer that is not taken."""
    return PortalError(code, f"{why} Start again from the sign-in page.", url="/login")


def _text(value: Any) -> str:
    """Return a claim as text that can be shown and stored."""
    return value[:TEXT_MAX] if isinstance(value, str) and value.isprintable() else ""
