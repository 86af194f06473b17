"""The log as outsiders read it: tiles, entries, the key and those before it, in the formats of c2sp.org."""

from flask import Blueprint, Response
from flask.typing import ResponseReturnValue

from portal.core.errors import NotFound
from portal.proofs import service
from portal.proofs.rules import HIGHEST_LEVEL, read_tile_path
from portal.web.app import app_service, db
from portal.web.guard import public

bp = Blueprint("proofs_api", __name__)
FOR_EVER = "public, max-age=31536000, immutable"
NOT_LONG = "public, max-age=10"
HIGHEST_TILE = 2**54  # with 256 entries each, what a database can number


def answer(body: bytes | None, content_type: str, caching: str) -> Response:
    """Return bytes of the log, or say that they are not there."""
    if body is None:
        raise NotFound("not_in_log", "The log has nothing there, or no checkpoint covers it yet.")
    return Response(body, content_type=content_type, headers={"Cache-Control": caching})


@bp.get("/log/vkey")
@public
def vkey() -> ResponseReturnValue:
    """Give the public key that verifies checkpoints."""
    return answer(app_service("vkey")(), "text/plain; charset=utf-8", NOT_LONG)


@bp.get("/log/handover/<key_id>")
@public
def handover(key_id: str) -> ResponseReturnValue:
    """Give the checkpoint by which an earlier key, named by its number, handed the log over to the next one."""
    found = service.handover(db(), by=key_id)
    return answer(found.note if found else None, "text/plain; charset=utf-8", FOR_EVER)


@bp.get("/log/tile/entries/<path:place>")
@public
def entries(place: str) -> ResponseReturnValue:
    """Give the commitments of a tile, each after its length in two bytes."""
    found = read_tile_path(place)
    body = service.entries(db(), number=found[0], width=found[1]) if found and found[0] < HIGHEST_TILE else None
    return answer(body, "application/octet-stream", FOR_EVER)


@bp.get("/log/tile/<int:level>/<path:place>")
@public
def tile(level: int, place: str) -> ResponseReturnValue:
    """Give the hashes of a tile: whole for ever, or as wide as the newest checkpoint covers it."""
    found = read_tile_path(place)
    known = found and level <= HIGHEST_LEVEL and found[0] < HIGHEST_TILE
    body = service.tile(db(), level=level, number=found[0], width=found[1]) if found and known else None
    return answer(body, "application/octet-stream", FOR_EVER)
