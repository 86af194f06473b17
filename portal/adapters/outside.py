"""The door to servers that operators name: asked with patience and a limit, and left alone while they fail."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

ANSWER_MAX = 64 << 10
PATIENCE = 3.0
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 3600.0


class OutsideError(Exception):
    """A server outside is away, slow, or answers more than it should."""


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    status: int
    body: bytes


class Server:
    """A server at an address; while it fails it is left alone for longer and longer.

    Args:
        url: where it answers; a name and a password in it are sent as the header that they stand for.
        patience: seconds that a whole answer may take.
    """

    def __init__(self, url: str, *, patience: float = PATIENCE) -> None:
        parts = urlsplit(url)
        self._auth = (parts.username or "", parts.password or "") if parts.username else None
        self.url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        self.patience = patience
        self.pause = 0.0
        self.due = 0.0

    def ready(self) -> bool:
        """Say whether it may be asked again."""
        return time.monotonic() >= self.due

    def failed(self) -> None:
        """Leave it alone for twice as long as before."""
        self.pause = min(max(self.pause * 2, FIRST_PAUSE), LONGEST_PAUSE)
        self.due = time.monotonic() + self.pause

    def answered(self) -> None:
        """It works: ask it again at once."""
        self.pause = self.due = 0.0

    def post(self, body: bytes, headers: Mapping[str, str], *, at: str = "") -> Answer:
        """Send bytes, below its address if that is said, and return the answer.

        Raises:
            OutsideError: it does not answer in time, or too much.
        """
        return self._ask("POST", at, body, headers)

    def get(self, headers: Mapping[str, str]) -> Answer:
        """Return what stands at its address.

        Raises:
            OutsideError: it does not answer in time, or too much.
        """
        return self._ask("GET", "", None, headers)

    def _ask(self, method: str, at: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        deadline, said = time.monotonic() + self.patience, b""
        try:
            with (
                httpx.Client(timeout=httpx.Timeout(self.patience), trust_env=False, auth=self._auth) as client,
                client.stream(method, f"{self.url}{at}", content=body, headers=dict(headers)) as answer,
            ):
                for piece in answer.iter_raw():
                    said += piece
                    if len(said) > ANSWER_MAX or time.monotonic() > deadline:
                        raise OutsideError("its answer is too long or too slow")
                return Answer(answer.status_code, said)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise OutsideError(f"{type(error).__name__}: {error}") from None
