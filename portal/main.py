"""The control plane, composed: every package's pages, and what they need from below and from outside."""

from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit

from flask import Flask, Request
from sqlalchemy.orm import Session

from gated_inference import openapi as inference_api
from gated_inference.page import Inside
from portal.adapters import authority, authorization, hub, markup, oidc, pades, pdf, seal_key
from portal.adapters.guessing import Guesser
from portal.adapters.hashing import Hasher
from portal.adapters.month_keys import MonthKeys
from portal.adapters.passkeys import Passkeys
from portal.adapters.puzzles import Puzzles
from portal.adapters.rates import Rates
from portal.adapters.scanner_keys import ScannerKeys
from portal.adapters.signing_key import open_key
from portal.adapters.squares import square_code
from portal.adapters.statement_keys import StatementKeys
from portal.adapters.vault import Vault
from portal.catalog import service as catalog
from portal.core.actor import ANONYMOUS, Actor
from portal.core.build import commit
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import make_engine
from portal.downloads import api as hub_api
from portal.files.service import Store
from portal.grants import rules as grants
from portal.logins.views import cookie_actor
from portal.proofs.rules import origin_of, vkey
from portal.tokens import service as tokens
from portal.uploads.service import Receiver
from portal.web import app as web
from portal.web import errors, headers, openapi, templating
from portal.web.app import PortalApp

PAGES = (
    "access.views", "access.api", "accounts.views", "accounts.staff", "audit.staff", "catalog.views",
    "cards.views", "cards.staff", "families.views",
    "deliveries.views", "deliveries.staff", "downloads.views", "downloads.api", "factors.views", "identity.views",
    "logins.views", "licensing.views", "visits.views",
    "drafting.staff", "publishing.staff", "reviews.staff", "annulments.views", "annulments.staff", "signing.views",
    "redress.views", "cases.staff", "casework.staff", "batches.staff", "suggestions.staff",
    "oauth.views", "oauth.api", "grants.views", "grants.api", "grants.staff", "people.staff", "campaigns.staff",
    "acknowledgments.staff", "acknowledgments.views",
    "proofs.api", "receipts.views", "reports.views", "reports.staff", "contents.staff", "reveals.views",
    "reveals.staff", "tokens.api", "transparency.views", "uploads.api", "releases.staff",
    "requests.views", "requests.staff", "requests.api", "usage.views", "usage.staff", "usage.api", "witnesses.api",
    "rulebook.staff", "exemptions.staff", "playground.views",
)  # fmt: skip
FORM_LIMIT = 2 << 20


def create_app(settings: Settings) -> PortalApp:
    """Build the control plane over the configured database."""
    app = PortalApp(__name__, static_url_path="/static")
    app.settings = settings
    app.engine = make_engine(settings.database_url)
    app.load_actor = _load_actor(settings)
    app.rates = Rates()
    app.config.update(
        SECRET_KEY=settings.secret_keys[0], SECRET_KEY_FALLBACKS=list(settings.secret_keys[1:]),
        MAX_CONTENT_LENGTH=FORM_LIMIT, MAX_FORM_MEMORY_SIZE=FORM_LIMIT, MAX_FORM_PARTS=500,
        WTF_CSRF_TIME_LIMIT=12 * 3600, SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_NAME="__Host-portal_form" if settings.is_secure else "portal_form",
        SESSION_COOKIE_SECURE=settings.is_secure, SESSION_COOKIE_SAMESITE="Lax",
    )  # fmt: skip
    if settings.is_production:
        app.config["TRUSTED_HOSTS"] = [urlsplit(settings.base_url).netloc]
    app.url_map.strict_slashes = False
    errors.install(app)
    hub_api.install(app)
    templating.install(app, markdown=markup.markdown, card=markup.card)
    headers.secure(app, https=settings.is_secure)
    app.after_request(web.stamp_request)
    for name in PAGES:
        app.register_blueprint(import_module(f"portal.{name}").bp)
    app.extensions.update(
        hasher=Hasher(guesser=Guesser(Path(settings.password_list) if settings.password_list else None)),
        passkeys=Passkeys(settings.base_url, templating.PORTAL_NAME), vault=Vault(settings.pepper, "factors"),
        square_code=square_code, pdf=pdf.render, read_attachment=pdf.attachment, read_card=hub.read_card,
        check_card=hub.check_card, store=Store(settings.folder("blobs")),
        license_asked_for=catalog.asking_for, receipts=settings.folder("receipts"),
    )  # fmt: skip
    app.extensions["month_keys"] = MonthKeys(settings.home / "keys" / "months", settings.pepper)
    app.extensions["authorization"] = authorization.Door(settings.base_url, grants.SCOPES)
    app.extensions["statement_keys"] = StatementKeys(settings.home / "keys" / "statements")
    app.extensions["puzzles"] = Puzzles(settings.pepper)
    app.extensions["scanner_keys"] = ScannerKeys(settings.scanner_keys)
    providers = app.extensions["providers"] = oidc.read_providers(settings.providers)
    app.extensions["provider_doors"] = oidc.open_doors(providers)
    app.jinja_env.globals["providers"] = providers
    app.extensions["receiver"] = Receiver(app.extensions["store"])
    seal = app.extensions["seal"] = seal_key.open_seal(settings, now=utcnow())
    roots = authority.read_roots(settings.timestamp_root)
    app.extensions["check_seal"] = lambda body: pades.verify(body, seal.trusted, roots)
    log_key = app.extensions["log_key"] = open_key(settings.home)

    def log_vkey() -> bytes:
        """Asked each time, since the key may be handed over while this runs."""
        return f"{vkey(origin_of(settings.base_url), log_key.public)}\n".encode()

    app.extensions["vkey"] = log_vkey
    app.extensions["commit"] = commit()
    app.extensions["inside"] = Inside(settings.edge_socket)
    app.extensions["close"] = [app.engine.dispose]
    openapi.mount(app, inference_api.paths())
    return app


def _load_actor(settings: Settings) -> web.LoadActor:
    def load(session: Session, request: Request, is_page: bool) -> Actor:
        if is_page:
            return cookie_actor(session, request, settings, utcnow())
        authorization = request.headers.get("Authorization")
        if authorization is None:
            return ANONYMOUS
        return tokens.actor_of(session, authorization=authorization, pepper=settings.pepper, now=utcnow())

    return load


def close(app: Flask) -> None:
    """Close what an app holds open."""
    for step in app.extensions.get("close", []):
        step()
