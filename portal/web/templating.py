"""What every template may use: names, filters and the request's actor."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from flask import Flask
from flask_wtf.csrf import generate_csrf
from markupsafe import Markup

from portal.core.clock import stamp
from portal.web.app import actor, request_id, settings

PORTAL_NAME = "BLOOM Portal"


def _scrolling(html: str) -> str:
    """Let what is too wide scroll by itself, also for whoever has no more than a keyboard."""
    html = html.replace("<pre>", '<pre tabindex="0">')
    if html.count("<table>") != html.count("</table>"):
        return html
    wide = '<div class="table-wrap" role="region" tabindex="0" aria-label="Table"><table>'
    return html.replace("<table>", wide).replace("</table>", "</table></div>")


def install(app: Flask, *, markdown: Callable[[str], str], card: Callable[[str], str]) -> None:
    """Give an app's templates their globals and filters.

    Args:
        app: the control plane.
        markdown, card: turn Markdown, and that of a model card, into HTML that is safe to show.
    """

    def context() -> dict[str, Any]:
        known = settings()
        return {
            "actor": actor(), "request_id": request_id(), "portal_name": PORTAL_NAME, "licensor": known.licensor,
            "contact": known.contact,
        }  # fmt: skip

    def safe(render: Callable[[str], str]) -> Callable[[str], Markup]:
        # The renderer sanitizes, and drawings are the portal's own; nothing else in it marks text as safe.
        return lambda text: Markup(_scrolling(render(text)))  # noqa: S704

    def as_stamp(moment: datetime | None) -> str:
        return stamp(moment) if moment else ""

    app.context_processor(context)
    app.jinja_env.globals["csrf_token"] = generate_csrf
    app.jinja_env.filters.update(markdown=safe(markdown), card=safe(card), drawing=safe(str))
    app.jinja_env.filters["stamp"] = as_stamp
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
