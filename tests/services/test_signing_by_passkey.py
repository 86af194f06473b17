"""Signing a license with a passkey as well: what it signs, what is kept, and that anybody can check it offline."""

import base64
import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from sqlalchemy.orm import Session

from portal.adapters.passkeys import Passkeys
from portal.core.actor import Actor
from portal.core.errors import Invalid
from portal.licensing.models import LicenseVersion, Signature
from portal.passkeys.models import Passkey
from portal.signing import rules, service
from portal.signing.rules import Sitting
from portal.static import verify
from tests import conduct, licensed

BASE = "https://portal.example"
DOORS = Passkeys(BASE, "Portal")


def url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


class Device:
    """A device with a key of a kind."""

    def __init__(self, kind: str, ref: bytes) -> None:
        self.id, self.count, self.sign = ref, 0, self._make(kind)

    def _make(self, kind: str) -> Callable[[bytes], bytes]:
        if kind == "EC":
            key = ec.generate_private_key(ec.SECP256R1())
            told = key.public_key().public_numbers()
            x, y = (n.to_bytes(32, "big") for n in (told.x, told.y))
            self.cose = cbor2.dumps({1: 2, 3: -7, -1: 1, -2: x, -3: y})
            return lambda body: key.sign(body, ec.ECDSA(SHA256()))
        if kind == "OKP":
            edwards = ed25519.Ed25519PrivateKey.generate()
            self.cose = cbor2.dumps({1: 1, 3: -8, -1: 6, -2: edwards.public_key().public_bytes_raw()})
            return edwards.sign
        big = rsa.generate_private_key(65537, 2048)
        numbers = big.public_key().public_numbers()
        self.cose = cbor2.dumps({1: 3, 3: -257, -1: numbers.n.to_bytes(256, "big"), -2: b"\1\0\1"})
        return lambda body: big.sign(body, padding.PKCS1v15(), SHA256())

    def answer(self, options: str, *, flags: bytes = b"\5", **changed: Any) -> str:
        """Sign what a browser was asked for."""
        self.count += 1
        asked = {"type": "webauthn.get", "challenge": json.loads(options)["challenge"], "origin": BASE, **changed}
        client = json.dumps(asked).encode()
        device = sha256(b"portal.example").digest() + flags + self.count.to_bytes(4, "big")
        said = {
            "clientDataJSON": url(client), "authenticatorData": url(device),
            "signature": url(self.sign(device + sha256(client).digest())),
        }  # fmt: skip
        return json.dumps({"id": url(self.id), "rawId": url(self.id), "type": "public-key", "response": said})


@dataclass
class Scene:
    """Somebody at the last page before signing, with a device.

    Args:
        options: what their browser is asked.
    """

    session: Session
    by: Actor
    version: LicenseVersion
    sitting: Sitting
    device: Device
    options: str
    now: datetime

    def sign(self, credential: str) -> Signature:
        filled = replace(self.sitting, credential=credential)
        return service.sign(
            self.session, by=self.by, version_id=self.version.id, sitting=filled, context=licensed.CONTEXT,
            doors=DOORS, now=self.now,
        )  # fmt: skip


@pytest.fixture
def scene(session: Session, now: datetime) -> Callable[..., Scene]:
    """Brings somebody with a device of a kind to the last page."""
    version = licensed.publish(session, now)

    def enter(kind: str = "EC", name: str = "ann") -> Scene:
        user, device = conduct.person(session, name, now, domain="passkeys.example"), Device(kind, name.encode())
        passkey = Passkey(
            public_id=f"pky_{name}", user_id=user.id, credential_id=device.id, public_key=device.cose, sign_count=0,
            synced=False, name="Laptop", made_at=now,
        )  # fmt: skip
        session.add(passkey)
        session.flush()
        by = licensed.browsing(user)
        sitting = licensed.sitting(session, by, version, now)
        _, options = service.last_look(session, by=by, version_id=version.id, sitting=sitting, doors=DOORS, now=now)
        return Scene(session, by, version, sitting, device, options, now)

    return enter


def evidence(scene: Scene, signature: Signature) -> dict[str, Any]:
    body = service.evidence_of(scene.session, signature=signature)
    assert body is not None
    return rules.read_evidence(body)


@pytest.mark.parametrize("kind", ["EC", "OKP", "RSA"])
def test_anybody_can_check_what_a_passkey_signed(scene: Callable[..., Scene], kind: str) -> None:
    here = scene(kind)
    signature = here.sign(here.device.answer(here.options))
    said = evidence(here, signature)
    assert (signature.method, said["ceremony"]["method"]) == ("passkey", "passkey")
    (line,) = verify._check_passkey(said)
    assert line.endswith(f"on {BASE}")
    assert here.sign(here.device.answer(here.options)) is signature, "sent twice, signed once"


@pytest.mark.threat("TM-20")
@pytest.mark.parametrize("kind", ["EC", "OKP", "RSA"])
def test_whatever_is_changed_is_found(scene: Callable[..., Scene], kind: str) -> None:
    here = scene(kind)
    said = evidence(here, here.sign(here.device.answer(here.options)))
    changes: list[Callable[[dict[str, Any]], Any]] = [
        lambda e: e["license"].update(text_sha256="0" * 64),
        lambda e: e["ceremony"].update(id="cer_other"),
        lambda e: e["ceremony"]["acknowledgments"].pop(),
        lambda e: e["ceremony"]["acknowledgments"][0].update(wording_sha256="0" * 64),
        lambda e: e["ceremony"]["statements"][1].update(text="I sign nothing."),
        lambda e: e["ceremony"]["statements"].pop(),
        lambda e: e["ceremony"].pop("passkey"),
        lambda e: e["ceremony"]["passkey"].update(signature=url(b"\x30\6\2\1\1\2\1\1")),
        lambda e: e["ceremony"]["passkey"].update(signature=""),
        lambda e: e["ceremony"]["passkey"].update(public_key=foreign),
        lambda e: e["ceremony"]["passkey"].update(public_key={"kty": "oct"}),
        lambda e: e["ceremony"]["passkey"].update(authenticator_data=url(bytes(32) + b"\1" + bytes(4))),
        lambda e: e["ceremony"]["passkey"].update(authenticator_data="é"),
        lambda e: e["ceremony"]["passkey"].update(client_data=url(b"[]")),
        lambda e: e["ceremony"].update(passkey=7),
    ]  # fmt: skip
    there = scene(kind, "bob")
    foreign = evidence(there, there.sign(there.device.answer(there.options)))["ceremony"]["passkey"]["public_key"]
    for change in changes:
        told = copy.deepcopy(said)
        change(told)
        with pytest.raises(verify.Broken, match=r"^passkey: "):
            verify._check_passkey(told)
    assert verify._check_passkey({"ceremony": {"method": "typed_name"}}) == []


def test_a_passkey_that_signs_something_else_signs_nothing(scene: Callable[..., Scene]) -> None:
    here, there = scene(), scene(name="bob")
    foreign = Device("EC", here.device.id)
    for credential in (
        here.device.answer(there.options), there.device.answer(here.options), foreign.answer(here.options),
        here.device.answer(here.options, type="webauthn.create"), here.device.answer(here.options, origin="https://evil"),
        here.device.answer(here.options, flags=b"\1"), "{}", "x" * 50_000, "é",
    ):  # fmt: skip
        with pytest.raises(Invalid) as caught:
            here.sign(credential)
        assert caught.value.field == "credential"
    assert service.signatures_of(here.session, user_id=here.by.id) == []
    changed = replace(here, sitting=replace(here.sitting, typed_name="Somebody Else"))
    with pytest.raises(Invalid):
        changed.sign(here.device.answer(here.options))
    assert here.sign(here.device.answer(here.options)).method == "passkey"


def test_without_a_passkey_the_name_is_enough(scene: Callable[..., Scene], session: Session, now: datetime) -> None:
    here = scene()
    assert here.sign("").method == "typed_name"
    user = conduct.person(session, "eve", now, domain="passkeys.example")
    by = licensed.browsing(user)
    filled = licensed.sitting(session, by, here.version, now)
    sentence, options = service.last_look(
        session, by=by, version_id=here.version.id, sitting=filled, doors=DOORS, now=now
    )
    assert options == ""
    assert sentence.startswith("I, Ann Müller-李, sign")
