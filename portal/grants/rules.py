"""Permissions by which programs act for people: what each scope opens, how long it lasts, and what ends it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from portal.audit.rules import Event
from portal.core.errors import Refused
from portal.core.machine import Machine
from portal.oauth.rules import DEVICE_GRANT
from portal.tokens.rules import Scope

REFRESH_PREFIX = "lmr_"
CODE_LIFE = timedelta(minutes=2)
ACCESS_LIFE = timedelta(hours=1)
REFRESH_LIFE = timedelta(days=30)
OPENID, PASSPORT = "openid", "ga4gh_passport_v1"
STATEMENT_LIFE = timedelta(hours=1)
VISA = "vnd.ga4gh.visa+jwt"
KEYS_PATH = "/oauth/jwks"
SCOPE_WORDS = {
    Scope.WEIGHTS_READ.value: "Download files of models and datasets that you may download yourself",
    Scope.INFERENCE.value: "Have models write texts, as far as you may yourself; it counts against your quota",
    Scope.USAGE_READ.value: "Read which models you used, when and how much; never what you wrote",
    OPENID: "Know who you are here: your public id and nothing more",
    PASSPORT: "Know which licenses you are bound by and since when, in statements that anybody can check",
}
SCOPES = tuple(SCOPE_WORDS)
GRANT_TYPES = ("authorization_code", "refresh_token", DEVICE_GRANT)
TOKEN_SCOPES = frozenset(scope.value for scope in Scope)


class GrantState(StrEnum):
    """Whether a program may act by a permission."""

    LIVE = "live"
    ENDED = "ended"


class GrantAction(StrEnum):
    """What happens to a permission."""

    END = "end"


GRANT = Machine(
    "permission of a program", GrantState.LIVE, {(GrantState.LIVE, GrantAction.END): GrantState.ENDED}
)  # fmt: skip


class Ending(StrEnum):
    """Why a permission ended: somebody wanted it, or a secret was shown twice and so is in other hands, too."""

    BY_PERSON = "by_person"
    BY_PROGRAM = "by_program"
    PROGRAM_ENDED = "program_ended"
    CODE_REPLAYED = "code_replayed"
    REFRESH_REUSED = "refresh_reused"


@dataclass(frozen=True)
class GrantGiven(Event, name="oauth:grant:given"):
    """A person let a program act for them, within these scopes."""

    program: str
    scopes: str


@dataclass(frozen=True)
class GrantEnded(Event, name="oauth:grant:ended"):
    """A permission ended with all tokens that came of it; `reason` says why."""

    program: str
    reason: str


def granted_scopes(scopes: str) -> list[str]:
    """Return those scopes of a permission that access tokens carry; the rest is about who the person is."""
    return [scope for scope in scopes.split() if scope in TOKEN_SCOPES]


def check_scopes(scopes: str, needed: str) -> None:
    """Raise unless a permission goes as far as telling a program who its person is."""
    if needed not in scopes.split():
        raise Refused("scope_missing", f"Ask the person for the scope {needed} first.")


def identity(*, issuer: str, subject: str, program: str, nonce: str, now: datetime) -> dict[str, Any]:
    """Return what a program is told of who let it act (OpenID Connect Core 1.0, section 2)."""
    claims = _statement(issuer, subject, now) | {"aud": program}
    return claims | {"nonce": nonce} if nonce else claims


def visa(
    *, issuer: str, subject: str, license_url: str, signed_at: datetime, now: datetime, ref: str
) -> dict[str, Any]:
    """Return the statement that a person is bound by a license (GA4GH Passport 1.2, `AcceptedTermsAndPolicies`).

    Args:
        license_url: the permanent address of the version that the person signed.
        ref: public id of the signature; nobody finds anything by it but the signer.
    """
    about = {
        "type": "AcceptedTermsAndPolicies", "asserted": int(signed_at.timestamp()), "value": license_url,
        "source": issuer, "by": "self",
    }  # fmt: skip
    return _statement(issuer, subject, now) | {"jti": f"{ref}.{int(now.timestamp())}", "ga4gh_visa_v1": about}


def _statement(issuer: str, subject: str, now: datetime) -> dict[str, Any]:
    at = int(now.timestamp())
    return {"iss": issuer, "sub": subject, "iat": at, "exp": at + int(STATEMENT_LIFE.total_seconds())}


def openid_metadata(base_url: str) -> dict[str, Any]:
    """Return what programs can find out that want to know who people are (OpenID Connect Discovery 1.0)."""
    return metadata(base_url) | {
        "userinfo_endpoint": f"{base_url}/oauth/userinfo",
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "claims_supported": ["sub", PASSPORT],
        "claim_types_supported": ["normal"],
        "request_uri_parameter_supported": False,
    }


def metadata(base_url: str) -> dict[str, Any]:
    """Return what programs can find out about this authorization server (RFC 8414)."""
    secret = ["client_secret_basic", "client_secret_post"]
    return {
        "issuer": base_url,
        "authorization_endpoint": f"{base_url}/oauth/authorize",
        "token_endpoint": f"{base_url}/oauth/token",
        "device_authorization_endpoint": f"{base_url}/oauth/device",
        "revocation_endpoint": f"{base_url}/oauth/revoke",
        "introspection_endpoint": f"{base_url}/oauth/introspect",
        "jwks_uri": f"{base_url}{KEYS_PATH}",
        "scopes_supported": list(SCOPES),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": list(GRANT_TYPES),
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": [*secret, "none"],
        "revocation_endpoint_auth_methods_supported": [*secret, "none"],
        "introspection_endpoint_auth_methods_supported": secret,
        "authorization_response_iss_parameter_supported": True,
        "service_documentation": f"{base_url}/settings/programs",
    }
