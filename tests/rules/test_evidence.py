"""What a receipt prints recomputes to the digest of its evidence, also from the words on its pages alone."""

import json
import re
import unicodedata
import zipfile
from datetime import datetime
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypdf import PdfReader

from portal.clauses.rules import Part, outline
from portal.core.errors import Invalid
from portal.proofs.rules import canonical, digest
from portal.receipts import rules
from portal.receipts.service import Order
from portal.signing import rules as signing
from portal.signing.rules import Context
from tests import sealing

PART = Part("restriction.spam", "A.1", "Spam", 0, 10, "No spam.")
AT = "2026-11-02T12:00:00.000007Z"
TEXT = "# Title\n\nWords before.\n\n### A.1 Spam {#restriction.spam}\n\nNo spam.\n"
NAMES = [
    "Ann Mu\u0308ller", "Zoe\u0308 O\u2019Neill-S\u0327ims\u0327ek", "\u0645\u062d\u0645\u062f \u0639\u0644\u064a",
    "\u05d3\u05d5\u05d3 Levi", "\u738b\u5c0f\u660e", "Nguye\u0302\u0303n Thi\u0323 fi ffl",
    "\u1e9b\u0323 \u00c5 \u212b",
    "Ann  \u00a0 B " + "c " * 180, 'A "quoted" \\u0041 \\ name', "x" * 200, "§ a.b = 1", "\U0001d49c \U0001f600",
]  # fmt: skip


def evidence(name: str, agent: str = "Firefox") -> bytes:
    """Evidence as a signature keeps it."""
    typed = signing.plain(name)
    sentence = signing.binding(title="License", number="1.0.0", language="ar", text_sha256="ab" * 32, name=typed)
    return signing.evidence(
        ref="sig_x", parts=[PART] * 3, owed=[PART], sentence=sentence, previous=None,
        license_={
            "slug": "l", "title": "License", "version": "1.0.0", "text_sha256": "ab" * 32, "language": "ar",
            "authoritative_language": "en", "authoritative_sha256": "cd" * 32,
            "rendered_sha256": digest(signing.rendered_bytes(outline(TEXT))),
        },
        signer={
            "user_id": "usr_x", "typed_name": typed, "account_name": name, "email": "a@example.org",
            "email_verified_at": None, "affiliation": "\u0645\u0639\u0647\u062f", "country": "NL",
        },
        ceremony={"id": "cer_x", "offered_at": AT, "signed_at": AT, "method": "typed_name", "exhibits": []},
        context=Context("2001:db8::7", agent, "ar,en;q=0.5", "req_x", "1"),
    )  # fmt: skip


def words(document: bytes) -> list[str]:
    """The words of each page."""
    return [page.extract_text() for page in PdfReader(BytesIO(document)).pages]


def copied_off(pages: list[str]) -> str:
    """The words of the last pages of a document, as a person with patience would copy them."""
    start = next(n for n, page in enumerate(pages) if page.startswith("The evidence, line by line"))
    return "\n".join(pages[start:])


@pytest.mark.invariant("INV-31")
@pytest.mark.threat("TM-22")
@pytest.mark.parametrize("name", NAMES)
def test_the_words_of_a_printed_receipt_give_the_digest_that_is_on_it(name: str) -> None:
    body = evidence(name, agent="Agent  with   gaps " * 12)
    document = sealing.draw(Order(1, "sig_x", body))
    pages = words(document)
    again = rules.retyped(copied_off(pages))
    assert again == body
    assert digest(again) in re.sub(r"\s", "", "".join(pages))
    assert AT in pages[0], "with its microseconds"


@pytest.mark.threat("TM-22")
def test_a_name_is_printed_as_it_is_hashed() -> None:
    body = evidence(NAMES[0])
    document = sealing.draw(Order(1, "sig_x", body))
    first = words(document)[0]
    typed = json.loads(body)["signer"]["typed_name"]
    assert typed == unicodedata.normalize("NFC", NAMES[0])
    assert typed in first
    for name in (NAMES[4], NAMES[5]):
        shown = words(sealing.draw(Order(1, "sig_x", evidence(name))))[0]
        assert json.loads(evidence(name))["signer"]["typed_name"] in unicodedata.normalize("NFC", shown)


@pytest.mark.threat("TM-22")
def test_a_receipt_prints_every_value_of_its_evidence() -> None:
    values = Order(1, "sig_x", evidence("Ann")).values
    printed = {field.path: field.value for field in values["fields"]}
    assert rules.rebuild(printed.items()) == evidence("Ann")
    assert values["stated"] == json.loads(evidence("Ann"))


WORDS = st.text(max_size=300).map(signing.plain) | st.text(' ab\\"\u00e9', max_size=300).map(signing.plain)
KEYS = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
LEAVES = WORDS | st.integers(-(2**53) + 1, 2**53 - 1) | st.booleans() | st.none()
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=20
)


@pytest.mark.parametrize("before", range(4))
@pytest.mark.parametrize("words", ["c " * 180, "cc  c " * 90, '"\\ ' * 120])
def test_no_line_begins_or_ends_with_a_space_that_paper_would_lose(before: int, words: str) -> None:
    body = canonical({"a": "x" * before + words})
    (field,) = rules.printed(body)
    assert len(field.lines) > 2
    for line in field.lines:
        assert line == line.strip() != ""
    assert rules.rebuild([(field.path, field.value)]) == body


@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=6))
def test_any_evidence_is_put_together_from_its_lines(value: dict[str, Any]) -> None:
    body = canonical(value)
    fields = rules.printed(body)
    for field in fields:
        assert "  " not in "".join(field.lines)
        for line in field.lines:
            assert line.isascii()
            assert line == line.strip() != ""
            assert len(line) <= rules.LINE
    assert rules.rebuild((field.path, field.value) for field in fields) == body


def test_where_a_form_was_sent_from_is_told_by_its_network_too() -> None:
    assert Context("192.0.2.77").ip_prefix == "192.0.2.0/24"
    assert Context("2001:db8:1:2::7").ip_prefix == "2001:db8:1::/48"
    assert Context("").ip_prefix == ""
    assert Context("unix:").ip_prefix == ""


def test_how_a_text_was_laid_out_is_hashed_passage_by_passage() -> None:
    rows = json.loads(signing.rendered_bytes(outline(TEXT)))
    assert [row["key"] for row in rows] == [None, "restriction.spam"]
    assert rows[0]["words"] == digest(b"# Title\n\nWords before.")


def test_a_bundle_is_the_same_bytes_whatever_the_order() -> None:
    one = rules.bundle({"b": b"2", "a": b"1" * 100})
    assert one == rules.bundle({"a": b"1" * 100, "b": b"2"})
    with zipfile.ZipFile(BytesIO(one)) as archive:
        assert archive.namelist() == ["a", "b"]
        assert archive.testzip() is None


def finding(**changed: Any) -> rules.Finding:
    said: dict[str, Any] = {
        "ref": "sig_x", "version": "l/1.0.0", "title": "License", "language": "en", "text_sha256": "ab" * 32,
        "signed_at": datetime(2026, 11, 2), "number": 1, "newest": 1, "timestamp": None, "authority": "", "by": "P",
        "pinned": False, "erased": False,
    }  # fmt: skip
    return rules.Finding(**{**said, **changed})


def test_what_can_and_cannot_be_concluded_is_said() -> None:
    plain = finding()
    assert len(plain.shown) == 3
    assert "No timestamp authority" in plain.open[-1]
    stamped = finding(timestamp=datetime(2026, 11, 2), number=1, newest=2, erased=True)
    assert len(stamped.shown) == 4
    assert len(stamped.open) == 5


def test_what_is_not_as_it_was_printed_is_named() -> None:
    lines = [f"§ {field.path} = " + "\n".join(field.lines) for field in rules.printed(evidence("Ann"))]
    assert rules.retyped("\n".join(["A page", *lines, "Page 3 of 4"])) == evidence("Ann")
    for text, path in (("", "…"), ("words", "…"), ("\n".join([*lines[:3], '§ a.b = "open']), "a.b"),
                       ("\n".join([lines[0], '§ a.b = "open', *lines]), "a.b")):  # fmt: skip
        with pytest.raises(Invalid) as caught:
            rules.retyped(text)
        assert f"§ {path} =" in caught.value.message


def test_evidence_of_the_form_before_this_one_is_still_read() -> None:
    found = json.loads(evidence("Ann"))
    del found["app"]["commit"]
    for name in ("idp", "orcid", "verified_name"):
        found["signer"].pop(name, None)
    earlier = canonical({**found, "schema": "portal.signature/1"})
    assert signing.read_evidence(earlier)["receipt_id"] == "sig_x"
    assert rules.rebuild((f.path, f.value) for f in rules.printed(earlier)) == earlier
