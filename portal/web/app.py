"""One request is one transaction: returning commits, raising rolls back."""

import re
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, cast

import sqlalchemy as sa
from flask import Flask, Response, current_app, g, request
from flask.globals import request_ctx
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session
from werkzeug.exceptions import BadRequest

from portal.core.actor import ANONYMOUS, Actor
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import transaction
from portal.core.errors import Refused
from portal.core.ids import public_id
from portal.web.behind import REQUEST_ID, behind_plane
from portal.web.guard import SAFE, Kind, Mark, admit, check_origin
from portal.web.limits import Counting, check_rate

LoadActor = Callable[[Session, Any, bool], Actor]
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
STATIC = Mark(Kind.STATIC)


class _Body:
    """What a client sends; bytes that break HTTP are its fault, whatever error a server makes of them."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def read(self, size: int = -1) -> bytes:
        """Read as the server's stream does, or raise `BadRequest`."""
        try:
            return cast(bytes, self._inner.read(size))
        except Exception as error:
            raise BadRequest("The body was cut off, or its chunks are not marked as HTTP wants it.") from error


class PortalApp(Flask):
    """The control plane. An unmarked view is refused, so forgetting is safe.

    Attributes:
        engine: the database.
        settings: the portal's settings.
        load_actor: finds who calls, from (session, request, is_page).
        rates: counts who asks how often.
    """

    engine: sa.Engine
    settings: Settings
    load_actor: LoadActor
    rates: Counting

    def wsgi_app(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        """Answer one request of the server."""
        behind_plane(environ)
        environ["wsgi.input"] = _Body(environ["wsgi.input"])
        return super().wsgi_app(environ, start_response)

    def dispatch_request(self) -> ResponseReturnValue:
        """Run guard and view in one transaction."""
        if request_ctx.request.routing_exception is not None:
            self.raise_routing_exception(request)
        rule = request.url_rule
        endpoint = rule.endpoint if rule else ""
        view = self.view_functions[endpoint]
        mark = STATIC if endpoint == "static" else getattr(view, "portal_mark", None)
        if mark is None:
            raise Refused("unmarked_view", "This address is not open to anybody.")
        g.mark = mark
        if request.method == "OPTIONS" and getattr(rule, "provide_automatic_options", False):
            # Not the view's to answer: it would run what it does for a POST, without the one-time value of a form.
            return self.make_default_options_response()
        if mark.kind is Kind.STATIC:
            return cast(ResponseReturnValue, view(**(request.view_args or {})))
        _check_characters(form=not mark.streams)
        if mark.streams:
            with transaction(self.engine, write=False) as session:
                g.actor = self.load_actor(session, request, mark.is_page)
            self._count(mark)
            admit(mark, g.actor, utcnow())
            return cast(ResponseReturnValue, view(**(request.view_args or {})))
        write = request.method not in SAFE if mark.writes is None else mark.writes
        with transaction(self.engine, write=write) as session:
            g.db = session
            g.actor = ANONYMOUS if mark.clients else self.load_actor(session, request, mark.is_page)
            self._count(mark)
            check_origin(mark, request)
            admit(mark, g.actor, utcnow())
            response = self.make_response(cast(Any, view(**(request.view_args or {}))))
        self._run_afterwards()
        return response

    def _count(self, mark: Mark) -> None:
        """Refuse a caller who asks too often."""
        check_rate(
            mark, g.actor, method=request.method, address=request.remote_addr or "", settings=self.settings,
            rates=self.rates,
        )  # fmt: skip

    def _run_afterwards(self) -> None:
        todo = g.pop("afterwards", [])
        if todo:
            with transaction(self.engine) as session:
                for work in todo:
                    work(session)


def _check_characters(*, form: bool) -> None:
    """Refuse NUL, which no field needs and PostgreSQL cannot store, and lines that end within an address.

    Args:
        form: look into the body as well, where it is not taken as it comes.
    """
    for source in (request.args, request.form) if form else (request.args,):
        for name, value in source.items(multi=True):
            if "\0" in value or "\0" in name:
                raise BadRequest(f"The field {name!r} holds a NUL character.")
    if CONTROL.search(request.path):
        raise BadRequest("The address holds a control character.")


def db() -> Session:
    """Return the request's database session."""
    return cast(Session, g.db)


def brief(*, write: bool = True) -> AbstractContextManager[Session]:
    """Open a short transaction, for a view that holds none while a body comes in."""
    return transaction(cast(PortalApp, current_app).engine, write=write)


def actor() -> Actor:
    """Return who calls."""
    return cast(Actor, g.get("actor", ANONYMOUS))


def settings() -> Settings:
    """Return the portal's settings."""
    return cast(PortalApp, current_app).settings


def afterwards(work: Callable[[Session], None]) -> None:
    """Do something small in its own write transaction once the answer is made, such as noting that a page was seen."""
    if "afterwards" not in g:
        g.afterwards = []
    g.afterwards.append(work)


def request_id() -> str:
    """Return the id that names this request in answers, errors and records."""
    if "request_id" not in g:
        g.request_id = request.environ.get(REQUEST_ID) or public_id("req")
    return cast(str, g.request_id)


def stamp_request(response: Response) -> Response:
    """Name the request in its answer."""
    response.headers.setdefault("X-Request-Id", request_id())
    return response


def json_body() -> object:
    """Return what the request says in JSON, or None where it says nothing that can be read."""
    try:
        return request.get_json(silent=True)
    except RecursionError:  # nested deeper than any sender means
        return None


def app_service(name: str) -> Any:
    """Return something that `create_app` composed for views, such as a reader of cards, by name."""
    return cast(PortalApp, current_app).extensions[name]
