"""The program that checks what the portal hands out, as a module, and bundles for it by the thousand."""

import importlib.util
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from typing import Any

from portal.adapters.signing_key import SigningKey
from portal.audit.rules import LicenseSigned, ReceiptMade, written
from portal.core.clock import stamp
from portal.proofs import rules
from portal.proofs.rules import Edge, canonical
from tests.check import ROOT
from tests.logged import ORIGIN

SCRIPT = ROOT / "portal" / "static" / "verify.py"
NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
LINKS = {
    "text.md": "text", "evidence.json": "evidence", "salt.hex": "evidence", "proof.tlog-proof": "proof",
    "checkpoint": "checkpoint", "event.json": "event", "event.salt.hex": "event", "signature.json": "signature",
    "vkey": "key", "receipt.pdf": "receipt", "receipt.event.json": "receipt", "receipt.event.salt.hex": "receipt",
    "receipt.proof.tlog-proof": "receipt",
}  # fmt: skip
Files = dict[str, bytes]


def load() -> Any:
    """The program as a module."""
    spec = importlib.util.spec_from_file_location("verify_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


verify = load()
# The same signature over the same bytes is checked once: ten thousand bundles share a checkpoint.
verify.ed25519 = cache(verify.ed25519)


def broken_link(files: Files, key: str | None = None) -> str:
    """The link that is named, or nothing for a bundle that holds."""
    try:
        code, _ = verify.check_bundle(files.get, key)
    except verify.Broken as error:
        return str(error.link)
    assert code == verify.HELD
    return ""


def honest(count: int, key: SigningKey) -> Iterator[Files]:
    """Bundles of made-up signatures with their receipts, which share one tree of two entries each."""
    rng = random.Random(count)
    made: list[Files] = []
    edge, nodes, leaves = Edge(), {}, []

    def enter(event: bytes) -> dict[str, bytes]:
        salt = rng.randbytes(32)
        leaves.append(sha256(salt + event).digest())
        nodes.update({(level, index): value for level, index, value in edge.add(rules.leaf_hash(leaves[-1]))})
        return {"event.json": event, "event.salt.hex": salt.hex().encode()}

    for number in range(count):
        ref, pdf = f"sig_{number}", rng.randbytes(50)
        text = f"Terms {number} — Bedingungen, 条款, شروط\n".encode() * rng.randint(1, 3)
        sha = sha256(text).hexdigest()
        evidence = canonical(
            {"receipt_id": ref, "signer": {"typed_name": rng.choice(["Ann", "李", "محمد", "Åsa 😀"])},
             "license": {"text_sha256": sha, "authoritative_sha256": sha}}
        )  # fmt: skip
        salt, at = rng.randbytes(32), stamp(NOW + timedelta(microseconds=number))
        data = {"version": "a/1", "text_sha256": sha, "annex_commitment": rules.commitment(salt, evidence)}
        signed = written(ref=f"evt_{number}", name=LicenseSigned.name, subject=ref, data=data, actor="usr_a", at=at)
        issued = written(
            ref=f"evt_r{number}", name=ReceiptMade.name, subject=ref, data={"pdf_sha256": sha256(pdf).hexdigest()},
            actor="system", at=at,
        )  # fmt: skip
        told = {
            "public_id": ref, "rendition_sha256": sha, "prevailing_sha256": sha, "signed_at": at, "version": "a/1",
            "annex_commitment": data["annex_commitment"],
        }  # fmt: skip
        made.append(
            {"text.md": text, "evidence.json": evidence, "salt.hex": salt.hex().encode(), "receipt.pdf": pdf,
             "signature.json": canonical(told), **enter(signed),
             **{f"receipt.{name}": body for name, body in enter(issued).items()}}
        )  # fmt: skip
    note = rules.checkpoint(ORIGIN, edge.size, edge.root, key)

    def proof(index: int) -> bytes:
        spans = rules.inclusion_ranges(index, edge.size)
        path = [rules.fold([nodes[place] for place in rules.cover(*span)]) for span in spans]
        return rules.proof(index, leaves[index], path, note)

    for number, files in enumerate(made):
        proofs = {"proof.tlog-proof": proof(2 * number), "receipt.proof.tlog-proof": proof(2 * number + 1)}
        yield {**files, **proofs, "checkpoint": note}
