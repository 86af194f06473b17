"""What the data plane says about a request that it passes on, and the path as the client wrote it."""

import re
from typing import Any

from flask import request

REQUEST_ID = "portal.request_id"


def behind_plane(environ: dict[str, Any]) -> None:
    """Take the client's address and the request's id from the data plane.

    It alone reaches the Unix socket, where a server sees no address; from anywhere else nothing of it is believed.
    """
    if not environ.get("REMOTE_ADDR"):
        environ["REMOTE_ADDR"] = environ.get("HTTP_X_FORWARDED_FOR", "")
        environ[REQUEST_ID] = environ.get("HTTP_X_REQUEST_ID", "")


def raw_path() -> str:
    """Return the path as the client wrote it, percent-encoded; servers name it differently."""
    uri = request.environ.get("RAW_URI") or request.environ.get("REQUEST_URI") or request.path
    path = str(uri).split("?", 1)[0]
    if not path.startswith("/"):  # a client that takes the portal for its proxy names the whole address
        path = re.sub("^[^/]*//[^/]*", "", path) or "/"
    while "//" in path:
        path = path.replace("//", "/")
    return path
