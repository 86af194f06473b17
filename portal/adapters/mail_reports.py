"""Reading what mail servers report of messages that they took, from the Maildir where such mail is left."""

import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from pathlib import Path

SIZE_MAX = 1 << 20
REF = re.compile(r"\bntc_[a-z0-9]{16}\b")


@dataclass(frozen=True)
class Report:
    """What became of one message.

    Args:
        ref: public id of the notice. It is random and stands in nothing but its message, so whoever names it is a
            server on the way, or the recipient.
        delivered: it arrived; otherwise it came back.
    """

    ref: str
    delivered: bool


def read_report(body: bytes) -> Report | None:
    """Read a delivery status notification (RFC 3464); None for all other mail, and for what settles nothing.

    A message that was delayed, relayed to a server that reports nothing, or sent on to a list is neither delivered nor
    come back. Delivered counts as soon as one place that the address leads to took it.
    """
    message = message_from_bytes(body)
    if message.get_content_type() != "multipart/report":
        return None
    blocks = [block for part in _parts(message, "message/delivery-status") for block in _blocks(part)]
    actions = {str(block.get("Action", "")).split(";")[0].strip().lower() for block in blocks}
    ref = _ref(message, blocks)
    if not ref or not actions & {"delivered", "failed"}:
        return None
    return Report(ref, "delivered" in actions)


def _ref(message: Message, blocks: list[Message]) -> str:
    """Return the envelope id that a report names, or what the head of the returned message calls itself."""
    named = [str(block.get("Original-Envelope-Id", "")) for block in blocks]
    returned = (*_parts(message, "message/rfc822"), *_parts(message, "text/rfc822-headers"))
    named += [str(head.get("Message-ID", "")) for part in returned for head in _blocks(part)]
    return next((found.group() for name in named if (found := REF.search(name))), "")


def _parts(message: Message, kind: str) -> Iterator[Message]:
    """Yield the parts of a report of one kind, but none of the message that it returns."""
    payload = message.get_payload()
    if isinstance(payload, list):
        yield from (part for part in payload if isinstance(part, Message) and part.get_content_type() == kind)


def _blocks(part: Message) -> list[Message]:
    """Return the heads that a part holds: of a message, of its recipients, or of what is returned."""
    payload = part.get_payload()
    if isinstance(payload, list):
        return [block for block in payload if isinstance(block, Message)]
    text = part.get_payload(decode=True)
    return [message_from_bytes(text.lstrip())] if isinstance(text, bytes) else []


class Reports:
    """The Maildir of reports: new mail in ``new``, and what was looked at in ``cur``.

    Args:
        folder: where it lies; empty for none.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder) if folder else None

    def waiting(self, *, limit: int) -> list[Path]:
        """Return some of the mail that was not looked at yet, oldest names first; none while there is no Maildir."""
        if self.folder is None or not (self.folder / "new").is_dir():
            return []
        return sorted(path for path in (self.folder / "new").iterdir() if not path.name.startswith("."))[:limit]

    def read(self, path: Path) -> Report | None:
        """Read one mail; what is no plain file, too long or beyond understanding says nothing."""
        try:
            known = path.lstat()
            if not stat.S_ISREG(known.st_mode) or known.st_size > SIZE_MAX:
                return None
            return read_report(path.read_bytes())
        except Exception:  # noqa: BLE001 - anybody may write to that address
            return None

    def done(self, path: Path) -> None:
        """Put a mail aside as looked at; somebody may have moved it meanwhile."""
        seen = path.parent.parent / "cur"
        with suppress(FileNotFoundError):
            seen.mkdir(exist_ok=True)
            path.rename(seen / f"{path.name.partition(':')[0]}:2,S")
