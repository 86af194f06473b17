"""What a receipt prints, what a bundle holds, and what may be concluded from a receipt that holds."""

import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import Any, Protocol

from portal.core.errors import Invalid
from portal.proofs.rules import canonical

LINE = 124
FIELD = re.compile(r"§ (\S+) = (.*)")
EPOCH = (1980, 1, 1, 0, 0, 0)
README = """\
This bundle proves one signature of a license, without asking the portal for anything.

  python verify.py bundle.zip --key VKEY

VKEY is the public key of the portal's log; get it from somewhere else than this bundle, such as a colleague or an
earlier visit to /log/vkey. verify.py needs nothing but Python; read it before you trust it. With --witness KEY it also
demands the word of a witness of the log, and with --pdf it checks the seal of the receipt itself (through pyHanko).

receipt.pdf         the sealed receipt; any PDF reader checks its seal
certificate.pem     the certificate of the seal as this portal gives it, and earlier ones
evidence.json       what was signed, by whom, when and how; personal, so give it only to whom it concerns
salt.hex            with evidence.json it makes the commitment that the signature keeps
text.md             the exact text that was signed
signature.json      the signature as the portal keeps it
event.json          the entry of the log, and event.salt.hex, which makes it recognizable
proof.tlog-proof    the proof that the entry is in the log, under the signed checkpoint
receipt.*           the same for the entry that tells which file the receipt is
checkpoint          that checkpoint by itself, with the words of witnesses
handover.*          the checkpoint by which an earlier key handed the log over to the next one, if there was one
vkey                the log's public key as this portal gives it

Without proofs and checkpoint the entries were not in the log yet; download the bundle again in a minute.
"""


class Seen(Protocol):
    """What a check of a seal says: the first thing that does not hold with its code, or by whom and when it is."""

    @property
    def problem(self) -> str: ...

    @property
    def code(self) -> str: ...

    @property
    def timestamp(self) -> datetime | None: ...

    @property
    def authority(self) -> str: ...

    @property
    def pinned(self) -> bool: ...

    @property
    def by(self) -> str: ...


@dataclass(frozen=True)
class Field:
    """One line of the evidence as it is printed: where it stands, and its value in pieces that fit on a line."""

    path: str
    lines: tuple[str, ...]

    @property
    def value(self) -> Any:
        """The value, put together again."""
        return json.loads("".join(self.lines))


def printed(evidence: bytes) -> list[Field]:
    """Return all fields of evidence as they are printed, so that whoever copies them off paper gets the same digest.

    What is no plain ASCII is written as JSON escapes, so that no font, ligature or direction of writing can blur it.
    """
    return [
        Field(path, _pieces(value, LINE - len(f"§ {path} = "))) for path, value in _leaves("", json.loads(evidence))
    ]


def _leaves(path: str, value: Any) -> Iterable[tuple[str, Any]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    items: list[tuple[Any, Any]] = list(pairs)
    if not items or (path and not any(isinstance(item, dict | list) for _, item in items)):
        yield path, value
        return
    for name, item in items:
        yield from _leaves(f"{path}.{name}" if path else str(name), item)


def _pieces(value: Any, room: int) -> tuple[str, ...]:
    """Cut JSON into lines, the first one shorter; none begins or ends with a space, which paper would lose."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    text = text.replace("\x7f", "\\u007f").replace("  ", " \\u0020")
    lines: list[str] = []
    start = 0
    while start < len(text):
        end = min(start + (LINE if lines else max(room, LINE // 2)), len(text))
        end -= text[end - 1] == " "
        if text[end : end + 1] == " ":
            text = f"{text[:end]}\\u0020{text[end + 1 :]}"
        lines.append(text[start:end])
        start = end
    return tuple(lines)


def retyped(text: str) -> bytes:
    """Put evidence together from the lines of a printed receipt, copied off the page by hand or by machine.

    What stands between the fields, such as page numbers, is passed over.

    Raises:
        Invalid: names the field that does not read as it was printed.
    """
    found: list[tuple[str, Any]] = []
    path, value = "", ""
    for line in text.splitlines():
        if start := FIELD.match(line):
            if path:
                break
            path, value = start.groups()
        elif path:
            value += line
        try:
            found += [(path, json.loads(value))] if path else []
        except ValueError:
            continue
        path = ""
    if path or not found:
        raise Invalid(
            "evidence_untyped", f"The line § {path[:100] or '…'} = … is missing, or is not as it was printed."
        )
    return rebuild(found)


def rebuild(fields: Iterable[tuple[str, Any]]) -> bytes:
    """Put evidence together from its printed fields.

    Args:
        fields: (path, value) of each.
    """
    whole: dict[str, Any] = {}
    for path, value in fields:
        *parents, last = path.split(".")
        place = whole
        for name in parents:
            place = place.setdefault(name, {})
        place[last] = value
    return canonical(_with_lists(whole))


def _with_lists(value: Any) -> Any:
    """Turn what is numbered from 0 on back into lists; a key of evidence is never a number."""
    if not isinstance(value, dict):
        return value
    if value and all(name.isdecimal() for name in value):
        return [_with_lists(value[str(number)]) for number in range(len(value))]
    return {name: _with_lists(item) for name, item in value.items()}


def bundle(files: Mapping[str, bytes]) -> bytes:
    """Pack files so that the same ones always make the same bytes."""
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = 0o644 << 16
            entry.create_system = 3
            archive.writestr(entry, files[name], compress_type=zipfile.ZIP_DEFLATED, compresslevel=9)
    return out.getvalue()


@dataclass(frozen=True)
class Finding:
    """What a receipt that holds says, without anything personal.

    Args:
        ref: the signature.
        version: the license version, ``slug/number``.
        title: the license.
        language: of the text that was signed.
        text_sha256: that text.
        signed_at: when, by the portal's clock.
        number: which file of the receipt this is.
        newest: the number of the newest one.
        timestamp: when the file existed, as an authority confirms.
        authority: who confirms it.
        pinned: whether that authority leads up to a root that the operators of the portal chose.
        by: whose seal it bears.
        erased: whether the portal has erased its own copy of the evidence.
    """

    ref: str
    version: str
    title: str
    language: str
    text_sha256: str
    signed_at: datetime
    number: int
    newest: int
    timestamp: datetime | None
    authority: str
    pinned: bool
    by: str
    erased: bool

    @property
    def shown(self) -> list[str]:
        """What can be concluded."""
        rows = [
            "This file is, byte for byte, one that this portal made and sealed.",
            "On that day somebody who was signed in to the account that the receipt names was shown this text, "
            "acknowledged each of its use restrictions, typed the name on the receipt and confirmed it.",
            "The text with this digest is on record here, unchanged.",
        ]
        if self.timestamp is not None:
            rows.append("A timestamp authority outside the portal confirms that the sealed file existed at that time.")
        return rows

    @property
    def open(self) -> list[str]:
        """What cannot be concluded."""
        rows = [
            "Who the person is. The portal confirmed that they read mail at an address, not the name they typed.",
            "Whether they may use a model today. A newer version may have to be signed, access may have ended, and "
            "the signature may have been annulled; the portal tells that to the person and to its staff.",
        ]
        if self.timestamp is None:
            rows.append("The time, beyond the portal's own clock. No timestamp authority confirms it in this file.")
        elif self.pinned:
            rows.append("Whether to trust the timestamp authority. It leads up to the root that the portal's operators "
                        "chose; they did not choose it for you.")  # fmt: skip
        else:
            rows.append("Whether to trust the timestamp authority; it is named above for you to judge.")
        if self.number < self.newest:
            rows.append(f"Anything against it from its age: file {self.newest} of this receipt supersedes it.")
        if self.erased:
            rows.append("The personal evidence was erased here on request; this file still carries its own copy.")
        return rows


def broken(code: str, message: str) -> Invalid:
    """Return the error that names what about a receipt does not hold."""
    return Invalid(code, message, field="file")
