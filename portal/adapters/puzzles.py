"""The door to altcha: a piece of work for a browser, in place of a riddle for the person before it."""

import binascii
import hmac
import json
from base64 import b64decode
from datetime import datetime, timedelta

from altcha.v1 import SHA256, ChallengeOptions, Payload, create_challenge, verify_solution

LIFE = timedelta(minutes=30)
MOST = 50_000
FIELDS = ("algorithm", "challenge", "salt", "signature")


class Puzzles:
    """Pieces of work that a browser does in about a second, each made for one form.

    Args:
        pepper: a secret of the deployment, from which the key for signing them is drawn.
    """

    def __init__(self, pepper: bytes) -> None:
        self._key = hmac.digest(pepper, b"pieces of work for browsers", "sha256")

    def make(self, now: datetime) -> str:
        """Return a piece of work as JSON: find the number up to `maxNumber` whose digest after the salt is given."""
        options = ChallengeOptions(
            algorithm=SHA256, max_number=MOST, salt_length=16, hmac_key=self._key, expires=now + LIFE
        )
        return json.dumps(create_challenge(options).to_dict())

    def solved(self, answer: str) -> str | None:
        """Return the name of the piece of work that an answer solves, or None where it solves none in its time."""
        try:
            said = json.loads(b64decode(answer, validate=True))
        except (ValueError, binascii.Error, RecursionError):
            return None
        if not isinstance(said, dict) or not all(isinstance(said.get(name), str) for name in FIELDS):
            return None
        if said["algorithm"] != SHA256 or type(said.get("number")) is not int or not 0 <= said["number"] <= MOST:
            return None
        if not all(said[name].isascii() for name in FIELDS):
            return None
        payload = Payload(SHA256, said["challenge"], said["number"], said["salt"], said["signature"])
        fine, _ = verify_solution(payload, self._key)
        return str(said["challenge"]) if fine else None
