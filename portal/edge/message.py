"""One request while it comes in, and until it is answered."""

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from portal.edge.head import (
    FIELDS_MAX,
    HEAD_MAX,
    TARGET_MAX,
    BadHead,
    Fields,
    check_body,
    check_host,
    clean_path,
    merged,
)  # fmt: skip
from portal.edge.routes import Known, Route, Routes

if TYPE_CHECKING:
    from portal.edge.answering import Answering
    from portal.edge.splice import Splice

TOO_LARGE = f"The head of a request has {HEAD_MAX} bytes and {FIELDS_MAX} fields at most."
NO_UPGRADE = "This server changes to no other protocol."


@dataclass(slots=True, eq=False)
class Message:
    """A request.

    Args:
        target, raw: as they came.
        fields, headers: the fields with names in lower case, and by name.
        size: bytes of its body so far.
        path, query: what the target names.
        length: of the body as announced; None for chunks.
        keep: whether the client wants to go on over the same connection.
        expects: the client waits to be asked for the body.
        whole: all of it is here.
        began: when its body began to come, less the time in which the plane would not take it.
        held: no more of the body is taken for now.
        route: who answers it; None for the control plane.
        body: pieces that are kept for whoever answers.
        refusal: status and sentence, if it is not answered as it asks.
        answering, splice: what answers it.
        known: what is worked out of its head; another request with the same head finds it there.
    """

    method: str = ""
    target: bytes = b""
    version: str = "1.1"
    raw: Fields = field(default_factory=list)
    fields: Fields = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    path: str = ""
    query: str = ""
    length: int | None = 0
    size: int = 0
    keep: bool = False
    expects: bool = False
    whole: bool = False
    began: float = 0.0
    held: bool = False
    route: Route | None = None
    body: list[bytes] = field(default_factory=list)
    refusal: tuple[int, str] | None = None
    answering: "Answering | None" = None
    splice: "Splice | None" = None
    known: Known = field(default_factory=dict)

    def add_target(self, part: bytes) -> None:
        """Take a piece of the target."""
        self.target += part
        if len(self.target) > TARGET_MAX:
            raise BadHead(414, "The target of this request is too long.")

    def add_field(self, name: bytes, value: bytes) -> None:
        """Take a field."""
        self.raw.append((name, value))
        if len(self.raw) > FIELDS_MAX:
            raise BadHead(431, TOO_LARGE)

    def head_complete(self, parser: Any, routes: Routes, before: "Message | None" = None) -> "Message":
        """Check the head, and find who answers; raise `BadHead` for what the parser accepts and we do not.

        A head that is byte for byte the one `before` it on the same connection need not be looked at again; returned
        is what to take for that one next time.
        """
        if parser.should_upgrade():
            raise BadHead(501, NO_UPGRADE)
        self.method, self.version = parser.get_method().decode("ascii"), parser.get_http_version()
        if before is not None and self._is_like(before):
            self.fields, self.headers, self.length = before.fields, before.headers, before.length
            self.path, self.query, self.route, self.expects = before.path, before.query, before.route, before.expects
            self.known = before.known
            return before
        if sum(len(name) + len(value) + 4 for name, value in self.raw) > HEAD_MAX:
            raise BadHead(431, TOO_LARGE)
        self.fields = [(name.lower(), value) for name, value in self.raw]
        check_host(self.fields)
        self.length = check_body(self.fields, self.version)
        self.path, self.query = clean_path(self.target)
        for name, value in self.fields:
            if name == b"expect":
                if value.lower() != b"100-continue":
                    raise BadHead(417, "The only expectation that is met is 100-continue.")
                self.expects = self.version == "1.1"
        self.route = routes.find(self.method, self.path)
        self.check_size(self.length or 0)
        self.headers = merged(self.fields)
        return replace(self, body=[])

    def again(self, body: bytes) -> "Message":
        """Return a request with the same head, whole, but for the length of its body."""
        size = len(body)
        return Message(
            self.method, self.target, self.version, self.raw, self.fields, self.headers, self.path, self.query, size,
            size, True, False, True, 0.0, False, self.route, [body], None, None, None, self.known,
        )  # fmt: skip

    @property
    def may_come_again(self) -> bool:
        """Say whether others with this head, and a body of any length, can be answered like it."""
        return self.route is not None and self.length == self.size and self.keep and not self.expects

    def _is_like(self, other: "Message") -> bool:
        return (
            self.raw == other.raw and self.target == other.target and self.method == other.method
            and self.version == other.version
        )  # fmt: skip

    def check_size(self, size: int) -> None:
        """Raise `BadHead` for a body that is too long for this address; the control plane has limits of its own."""
        limit = self.route.body_limit if self.route is not None else math.inf
        if size > limit:
            raise BadHead(413, f"A request here has {limit} bytes at most.")

    @property
    def begun(self) -> bool:
        """Whether the client has been sent anything of an answer."""
        if self.splice is not None:
            return self.splice.begun
        return self.answering is not None and self.answering.begun
