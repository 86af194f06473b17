"""What a person is shown and says when signing, and the evidence that is kept of it."""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from portal.accounts.rules import Standing, standing_at
from portal.clauses.rules import Delta, Part, Passage, Relation
from portal.core.errors import Conflict, Invalid, Refused
from portal.core.networks import network_of
from portal.licensing.rules import MADE, CeremonyState, VersionState, language_name
from portal.proofs.rules import canonical, digest

SCHEMA = "portal.signature/2"
SCHEMAS = ("portal.signature/1", SCHEMA)
BOUND = "portal.bound/1"
EVIDENCE = "evidence.json"
LINE_MAX = 500
NAME_MAX = 200
CEREMONY_LIFE = timedelta(hours=2)
SALT = 32
CONSENT = (
    "I agree to sign electronically: the portal keeps a record of the exact text, of my acknowledgments and of my "
    "name, and gives me a receipt. I may ask to sign on paper instead."
)


def promise(label: str, title: str) -> str:
    """Return the sentence beside the box of a use restriction."""
    return f"I have read {label}, {title}, and I will observe it."


def binding(*, title: str, number: str, language: str, text_sha256: str, name: str) -> str:
    """Return the sentence that binds, as the last page before signing restates it."""
    return (
        f"I, {name}, sign the {title}, version {number}, in its {language_name(language)} text with the SHA-256 "
        f"{text_sha256}. From now on I am bound by it and by each of its use restrictions."
    )


def plain(words: str, limit: int = LINE_MAX) -> str:
    """Return words as evidence may hold them: in Unicode normal form C, without control characters, not too long."""
    kept = "".join(c if c.isprintable() else " " for c in words)
    return unicodedata.normalize("NFC", kept).strip()[:limit].strip()


@dataclass(frozen=True)
class Context:
    """From where a form was sent, as far as the server saw it, and which version of the portal took it.

    Args:
        app_commit: the commit of the portal's own code, where it runs from a checkout.
    """

    ip: str = ""
    user_agent: str = ""
    accept_language: str = ""
    request_id: str = ""
    app_version: str = ""
    app_commit: str | None = None

    @property
    def ip_prefix(self) -> str:
        """The network of the address: /24 or /48."""
        return network_of(self.ip)


@dataclass(frozen=True)
class Signer:
    """What must be known of a person who is about to sign."""

    by_browser: bool
    standing: Standing
    standing_until: datetime | None
    standing_ref: str | None
    verified_at: datetime | None


def check_signer(signer: Signer, now: datetime) -> None:
    """Raise unless a person may sign at all: a verified, active person at a browser, never a program."""
    if not signer.by_browser:
        raise Refused("browser_needed", "Only a person in a browser can sign. Sign in on the license's page.")
    ended = signer.standing_until is not None and signer.standing_until <= now
    standing = standing_at(signer.standing, ended)
    if standing is Standing.CLOSED:
        raise Refused("standing_closed", "This account is closed, so it cannot sign.")
    if standing is Standing.SUSPENDED:
        message = "Your account is suspended, so you cannot sign now. You can read the decision and appeal."
        raise Refused("standing_suspended", message, url=f"/appeal/{signer.standing_ref}")
    if signer.verified_at is None:
        message = "Confirm your e-mail address first; the portal sent you a link. Then open the license again."
        raise Refused("address_unverified", message, url="/settings/profile")


def difference_bytes(from_sha256: str, to_sha256: str, changes: Sequence[Delta]) -> bytes:
    """Write the difference that a signer was shown the one way that is hashed: clauses that differ, by digest."""
    rows = [
        {
            "key": change.key,
            "relation": change.relation.value,
            "old_sha256": change.old.sha256 if change.old else None,
            "new_sha256": change.new.sha256 if change.new else None,
            "explanation": plain(change.explanation, limit=100_000),
        }
        for change in changes
        if change.relation is not Relation.SAME
    ]
    return canonical({"from_sha256": from_sha256, "to_sha256": to_sha256, "clauses": rows})


def rendered_bytes(passages: Sequence[Passage]) -> bytes:
    """Write a text as the page of signing lays it out, the one way that is hashed: passage by passage, in order."""
    return canonical([{"key": p.part.key if p.part else None, "words": digest(p.words.encode())} for p in passages])


def bound(*, ceremony: str, sentence: str, text_sha256: str, owed: Sequence[Part]) -> bytes:
    """Write what a passkey signs the digest of: one sitting, its sentence, its text and what was acknowledged.

    All of it is in the evidence, too, from which anybody writes it anew.
    """
    acknowledged = [[part.key, part.sha256] for part in owed]
    words = {"schema": BOUND, "ceremony": ceremony, "sentence": sentence, "text_sha256": text_sha256}
    return canonical({**words, "acknowledged": acknowledged})


def statement(name: str, words: str, at: str) -> dict[str, Any]:
    """Return a statement that a signer made, word for word and by digest; `at` is when it reached the portal."""
    return {"id": name, "text": words, "text_sha256": digest(words.encode()), "checked_at": at}


def evidence(
    *,
    ref: str,
    license_: Mapping[str, Any],
    parts: Sequence[Part],
    owed: Sequence[Part],
    sentence: str,
    signer: Mapping[str, Any],
    ceremony: Mapping[str, Any],
    context: Context,
    previous: str | None,
    previous_receipt_sha256: str | None = None,
) -> bytes:
    """Write the evidence of one signature in canonical form; the same bytes are hashed, printed and handed out.

    Args:
        ref: public id of the signature.
        license_: which text was shown, by digest.
        parts: all clauses of that text.
        owed: its use restrictions, each acknowledged by its own box.
        sentence: the sentence that binds, as it was shown last.
        signer: who signed; what the portal does not know of them is None.
        ceremony: when it was shown and signed, and what else was shown.
        context: from where the form was sent.
        previous: public id of the person's signature before this one.
        previous_receipt_sha256: the newest file of its receipt, if one was made already.
    """
    acknowledged = [
        {
            "number": part.label,
            "key": part.key,
            "title": part.title,
            "wording_sha256": part.sha256,
            "at": ceremony["signed_at"],
            "value": True,
        }
        for part in owed
    ]
    at = ceremony["signed_at"]
    said = [statement("electronic_form", CONSENT, at), statement("binding", sentence, at)]
    numbered = [{"number": part.label, "key": part.key, "sha256": part.sha256} for part in parts]
    return canonical(
        {
            "schema": SCHEMA,
            "receipt_id": ref,
            "license": {**license_, "clauses": numbered},
            "signer": {key: plain(value) if isinstance(value, str) else value for key, value in signer.items()},
            "ceremony": {**ceremony, "acknowledgments": acknowledged, "statements": said},
            "context": {
                "ip": plain(context.ip),
                "ip_prefix": context.ip_prefix,
                "user_agent": plain(context.user_agent),
                "accept_language": plain(context.accept_language),
                "request_id": plain(context.request_id),
            },
            "consent_to_electronic": True,
            "previous_signature": previous,
            "previous_receipt_sha256": previous_receipt_sha256,
            "app": {"version": plain(context.app_version), "commit": context.app_commit},
        }
    )


def read_evidence(body: bytes) -> dict[str, Any]:
    """Read evidence back, refusing what is not written in its canonical form."""
    try:
        found = json.loads(body)
        same = canonical(found) == body and found["schema"] in SCHEMAS
        names = (found["receipt_id"], found["license"]["text_sha256"], found["license"]["language"])
    except (ValueError, TypeError, KeyError, RecursionError, Invalid):
        same, names = False, (None, None, None)
    if not same or not all(isinstance(name, str) for name in names):
        raise Invalid(
            "evidence_unreadable", "The evidence in this file is not written as the portal writes it.", field="file"
        )
    return dict(found)


@dataclass(frozen=True)
class Sitting:
    """What a person sent when signing, beside what the ceremony holds.

    Args:
        nonce: the one-time value of the form.
        shown_digest: SHA-256 of the text that the form showed.
        acknowledged: stable keys of the ticked restrictions.
        consent_electronic: the separate box for the electronic form.
        typed_name: the name as typed.
        credential: what a passkey answered that signs as well; empty where none does.
    """

    nonce: str
    shown_digest: str
    acknowledged: frozenset[str]
    consent_electronic: bool
    typed_name: str
    credential: str = ""


@dataclass(frozen=True)
class CeremonyFact:
    """What `check_signable` needs to know of the ceremony."""

    nonce: str
    state: CeremonyState
    expires_at: datetime
    shown_digest: str
    restrictions: tuple[str, ...]
    version_state: VersionState
    is_newest: bool


def check_signable(ceremony: CeremonyFact, sitting: Sitting, now: datetime) -> None:
    """Raise unless everything that makes a signature binding is there; the only such check."""
    if ceremony.state is not CeremonyState.OPEN or sitting.nonce != ceremony.nonce:
        raise Conflict("ceremony_used", "This form was already used. Open the license again to sign.")
    if now >= ceremony.expires_at:
        raise Conflict("ceremony_expired", "This form is more than two hours old. Open the license again to sign.")
    if ceremony.version_state in {*MADE, VersionState.RETIRED} or not ceremony.is_newest:
        raise Conflict("version_not_signable", "A newer version of this license is out. Open it and sign that one.")
    if sitting.shown_digest != ceremony.shown_digest:
        raise Conflict("text_changed", "The text in this form is not the text on record. Open the license again.")
    missing = [key for key in ceremony.restrictions if key not in sitting.acknowledged]
    if missing:
        raise Invalid(
            "restriction_unticked",
            f"Acknowledge each use restriction: {len(missing)} still unticked.",
            field=missing[0],
        )
    if not sitting.consent_electronic:
        raise Invalid("consent_missing", "Tick the box that accepts the electronic form.", field="consent_electronic")
    if not any(character.isalnum() for character in sitting.typed_name):
        raise Invalid("name_missing", "Type your name to sign.", field="typed_name")
    if len(sitting.typed_name) > NAME_MAX:
        raise Invalid("name_long", f"A name has at most {NAME_MAX} characters.", field="typed_name")
