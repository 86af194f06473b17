"""Does in Python what the script of the report page does in a browser."""

import json
from base64 import b64encode
from hashlib import sha256
from typing import Any


def solve(work: str, **changed: Any) -> str:
    """Return the answer to a piece of work, in the form in which the page sends it."""
    asked = json.loads(work)
    number = next(
        n for n in range(asked["maxNumber"] + 1)
        if sha256(f"{asked['salt']}{n}".encode()).hexdigest() == asked["challenge"]
    )  # fmt: skip
    said = {name: asked[name] for name in ("algorithm", "challenge", "salt", "signature")} | {"number": number}
    return b64encode(json.dumps(said | changed).encode()).decode()
