"""The door to WebAuthn: what browsers are asked for a passkey, and whether what they answer holds."""

from urllib.parse import urlsplit

import webauthn
from webauthn.helpers import (
    base64url_to_bytes,
    bytes_to_base64url,
    decode_credential_public_key,
    parse_authentication_credential_json,
    parse_client_data_json,
    parse_registration_credential_json,
)
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.decode_credential_public_key import (
    DecodedEC2PublicKey,
    DecodedOKPPublicKey,
    DecodedRSAPublicKey,
)
from webauthn.helpers.structs import (
    AttestationConveyancePreference,
    AuthenticatorSelectionCriteria,
    CredentialDeviceType,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

ED25519 = 32


class PasskeyError(ValueError):
    """What a browser sent in a passkey's name does not hold."""


class Passkeys:
    """Speaks for one portal: its host is what passkeys are bound to, its address where they may be used.

    Whatever a parser makes of hostile bytes is a `PasskeyError`.

    Args:
        base_url: the address people see.
        name: how browsers call the portal.
    """

    def __init__(self, base_url: str, name: str) -> None:
        self._origin = base_url
        self._host = urlsplit(base_url).hostname or ""
        self._name = name

    def ask_for_new(self, *, handle: str, name: str, shown: str, challenge: bytes, known: list[bytes]) -> str:
        """Return the options with which a browser makes a passkey, as JSON."""
        options = webauthn.generate_registration_options(
            rp_id=self._host, rp_name=self._name, user_id=handle.encode(), user_name=name, user_display_name=shown,
            challenge=challenge, attestation=AttestationConveyancePreference.NONE,
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
            ),
            exclude_credentials=[PublicKeyCredentialDescriptor(id=one) for one in known],
        )  # fmt: skip
        return webauthn.options_to_json(options)

    def ask_for_use(self, *, challenge: bytes, known: list[bytes]) -> str:
        """Return the options with which a browser uses a passkey, one of some or any, as JSON."""
        options = webauthn.generate_authentication_options(
            rp_id=self._host, challenge=challenge, user_verification=UserVerificationRequirement.REQUIRED,
            allow_credentials=[PublicKeyCredentialDescriptor(id=one) for one in known],
        )  # fmt: skip
        return webauthn.options_to_json(options)

    def read_challenge(self, credential: str) -> bytes:
        """Return the challenge that a browser's answer says it is for."""
        try:
            try:
                body = parse_authentication_credential_json(credential).response.client_data_json
            except webauthn.helpers.exceptions.WebAuthnException:
                body = parse_registration_credential_json(credential).response.client_data_json
            return parse_client_data_json(body).challenge
        except Exception:  # noqa: BLE001
            raise PasskeyError from None

    def read_id(self, credential: str) -> bytes:
        """Return which passkey a browser's answer says it is from."""
        try:
            return base64url_to_bytes(parse_authentication_credential_json(credential).id)
        except Exception:  # noqa: BLE001
            raise PasskeyError from None

    def check_new(self, credential: str, *, challenge: bytes) -> tuple[bytes, bytes, int, bool]:
        """Check a passkey that a browser made for a challenge, on a device that checked who uses it.

        Returns:
            Its id, its public key, how often it was used, and whether other devices have it, too.
        """
        try:
            made = webauthn.verify_registration_response(
                credential=credential, expected_challenge=challenge, expected_rp_id=self._host,
                expected_origin=self._origin, require_user_verification=True,
            )  # fmt: skip
        except Exception:  # noqa: BLE001
            raise PasskeyError from None
        synced = made.credential_device_type is CredentialDeviceType.MULTI_DEVICE
        return made.credential_id, made.credential_public_key, made.sign_count, synced

    def read_proof(self, credential: str) -> dict[str, bytes]:
        """Return what a passkey signed, and its signature, as anybody may check them: WebAuthn's own three parts."""
        try:
            said = parse_authentication_credential_json(credential).response
        except Exception:  # noqa: BLE001
            raise PasskeyError from None
        parts = {"authenticator_data": said.authenticator_data, "client_data": said.client_data_json}
        return {**parts, "signature": said.signature}

    def read_key(self, public_key: bytes) -> dict[str, str]:
        """Return a public key as a JWK (RFC 7517), if it is of a kind that anybody can check without a library."""
        key = decode_credential_public_key(public_key)
        if isinstance(key, DecodedEC2PublicKey) and key.alg == COSEAlgorithmIdentifier.ECDSA_SHA_256:
            return {"kty": "EC", "crv": "P-256", "x": bytes_to_base64url(key.x), "y": bytes_to_base64url(key.y)}
        if isinstance(key, DecodedOKPPublicKey) and key.alg == COSEAlgorithmIdentifier.EDDSA and len(key.x) == ED25519:
            return {"kty": "OKP", "crv": "Ed25519", "x": bytes_to_base64url(key.x)}
        if isinstance(key, DecodedRSAPublicKey) and key.alg == COSEAlgorithmIdentifier.RSASSA_PKCS1_v1_5_SHA_256:
            return {"kty": "RSA", "n": bytes_to_base64url(key.n), "e": bytes_to_base64url(key.e)}
        raise PasskeyError

    def check_use(self, credential: str, *, challenge: bytes, public_key: bytes, sign_count: int) -> tuple[int, bool]:
        """Check what a passkey signed; one whose counter fell is refused, since then there are two of it.

        Returns:
            How often it was used, which synced ones never count, and whether other devices have it, too.
        """
        try:
            used = webauthn.verify_authentication_response(
                credential=credential, expected_challenge=challenge, expected_rp_id=self._host,
                expected_origin=self._origin, credential_public_key=public_key,
                credential_current_sign_count=sign_count, require_user_verification=True,
            )  # fmt: skip
        except Exception:  # noqa: BLE001
            raise PasskeyError from None
        return used.new_sign_count, used.credential_device_type is CredentialDeviceType.MULTI_DEVICE
