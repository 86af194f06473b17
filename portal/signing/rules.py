"""What a person is shown and says when signing, and the evidence that is kept of it."""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from portal.accounts.rules import Standing, standing_at
from portal.clauses.rules import Delta, Part, Relation
from portal.core.errors import Invalid, Refused
from portal.licensing.rules import language_name
from portal.proofs.rules import canonical, digest

SCHEMA = "portal.signature/1"
EVIDENCE = "evidence.json"
LINE_MAX = 500
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
    """From where a form was sent, as far as the server saw it."""

    ip: str = ""
    user_agent: str = ""
    accept_language: str = ""
    request_id: str = ""


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


def statement(name: str, words: str) -> dict[str, Any]:
    """Return a statement that a signer made, word for word and by digest."""
    return {"id": name, "text": words, "text_sha256": digest(words.encode())}


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
) -> bytes:
    """Write the evidence of one signature in canonical form; the same bytes are hashed, printed and handed out.

    Args:
        ref: public id of the signature.
        license_: which text was shown, by digest.
        parts: all clauses of that text.
        owed: its use restrictions, each acknowledged by its own box.
        sentence: the sentence that binds, as it was shown last.
        signer: who signed.
        ceremony: when it was shown and signed, and what else was shown.
        context: from where the form was sent.
        previous: public id of the person's signature before this one.
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
    said = [statement("electronic_form", CONSENT), statement("binding", sentence)]
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
                "user_agent": plain(context.user_agent),
                "accept_language": plain(context.accept_language),
                "request_id": plain(context.request_id),
            },
            "consent_to_electronic": True,
            "previous_signature": previous,
        }
    )


def read_evidence(body: bytes) -> dict[str, Any]:
    """Read evidence back, refusing what is not written in its canonical form."""
    try:
        found = json.loads(body)
        same = canonical(found) == body and found["schema"] == SCHEMA
        names = (found["receipt_id"], found["license"]["text_sha256"], found["license"]["language"])
    except (ValueError, TypeError, KeyError, RecursionError, Invalid):
        same, names = False, (None, None, None)
    if not same or not all(isinstance(name, str) for name in names):
        raise Invalid(
            "evidence_unreadable", "The evidence in this file is not written as the portal writes it.", field="file"
        )
    return dict(found)
