"""Headers that keep browsers from doing what pages never ask them to."""

from flask import Flask, Response, g, request

from portal.core.actor import ANONYMOUS
from portal.web.app import settings
from portal.web.guard import SAFE

CSP = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; font-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)


def allow_script(answer: Response, name: str, *, calls: bool = False) -> Response:
    """Let a page run one of the portal's own scripts, and no other.

    Args:
        calls: the script may ask the portal, and nobody else.
    """
    place = f"{settings().base_url}/static/{name}"
    answer.headers["Content-Security-Policy"] = f"{CSP}; script-src {place}" + ("; connect-src 'self'" if calls else "")
    return answer


def allow_form(answer: Response, origin: str) -> Response:
    """Let the form of a page lead to another site once it is answered, and to no other than this one."""
    answer.headers["Content-Security-Policy"] = CSP.replace("form-action 'self'", f"form-action 'self' {origin}")
    return answer


def secure(app: Flask, *, https: bool) -> None:
    """Add the security headers to every answer of an app; nobody keeps a page that was made for one visitor."""

    def add(response: Response) -> Response:
        headers = response.headers
        headers.setdefault("Content-Security-Policy", CSP)
        headers.setdefault("X-Content-Type-Options", "nosniff")
        headers.setdefault("Referrer-Policy", "same-origin")
        headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
        headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        if https:
            headers.setdefault("Strict-Transport-Security", "max-age=31536000")
        mine = g.get("actor", ANONYMOUS).is_signed_in or "csrf_token" in g or request.method not in SAFE
        headers.setdefault("Cache-Control", "no-store" if mine else "no-cache")
        return response

    app.after_request(add)
