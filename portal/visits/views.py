"""The way to an identity provider and back, opening an account with what it states, and the list of linked ones."""

from functools import partial
from typing import Any

import flask
from flask import Blueprint, flash, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response

from portal.accounts.rules import check_about, check_email
from portal.core.clock import utcnow
from portal.core.errors import PortalError, Unavailable
from portal.identity.rules import Applicant
from portal.logins.rules import local_path, new_secret
from portal.logins.views import agent, enter
from portal.providers import rules
from portal.providers import service as providers
from portal.providers.rules import Claims, Door, Provider, Visit
from portal.visits import service
from portal.visits.forms import JoinForm
from portal.web.app import actor, afterwards, app_service, brief, db, settings
from portal.web.guard import member, public

bp = Blueprint("visits", __name__)
VISIT, JOINING = "provider_visit", "provider_claims"  # in the browser's signed form cookie


@bp.get("/login/with/<slug>")
@public
def start(slug: str) -> ResponseReturnValue:
    """Send a visitor to a provider to sign in, or somebody who is signed in to prove once more that it is they."""
    provider = rules.named(app_service("providers"), slug)
    target = local_path(request.args.get("next", ""))
    if actor().is_fresh(utcnow()):
        return redirect(target, 303)
    return redirect(_begin(provider, target=target), 303)


@bp.post("/settings/identities/link/<slug>")
@member(writes=False, fresh=True)
def start_link(slug: str) -> ResponseReturnValue:
    """Send somebody who is signed in to a provider, to link who they are there.

    The way there is a page that goes on by itself: browsers let no form lead to another site.
    """
    provider = rules.named(app_service("providers"), slug)
    address = _begin(provider, target="/settings/identities", owner=actor().public_id)
    answer = make_response(render_template("providers/go.html", provider=provider, address=address))
    answer.headers["Refresh"] = f"0; url={address}"
    return answer


def _begin(provider: Provider, *, target: str, owner: str = "") -> str:
    visit = Visit(
        provider.slug, state=new_secret(), nonce=new_secret(), verifier=new_secret(), next=target, owner=owner,
        began=int(utcnow().timestamp()),
    )  # fmt: skip
    flask.session[VISIT] = rules.packed(visit)
    door: Door = app_service("provider_doors")[provider.slug]
    return door.address(redirect_uri=_back(provider), state=visit.state, nonce=visit.nonce, verifier=visit.verifier)


def _back(provider: Provider) -> str:
    return f"{settings().base_url}{url_for('visits.back', slug=provider.slug)}"


@bp.get("/login/with/<slug>/back")
@public
def back(slug: str) -> ResponseReturnValue:
    """Take what a provider answers, once, and sign in, link, or offer to open an account."""
    provider, kept = rules.named(app_service("providers"), slug), flask.session.pop(VISIT, None)
    try:
        visit = rules.returning(kept, slug=slug, state=request.args.get("state", ""), now=utcnow())
        door: Door = app_service("provider_doors")[slug]
        said = door.claims(
            redirect_uri=_back(provider), nonce=visit.nonce, verifier=visit.verifier, answer=request.args.to_dict()
        )
        claims = Claims(**said)
        if visit.owner:
            return _link(provider, claims, visit)
    except Unavailable:
        raise
    except PortalError as error:
        with brief() as session:
            providers.note_refusal(session, by=actor(), slug=slug, reason=error.code, now=utcnow())
        page = render_template("providers/refused.html", provider=provider, error=error, owner=bool(actor().user_id))
        return page, error.status
    return _come_in(provider, claims, visit)


def _link(provider: Provider, claims: Claims, visit: Visit) -> Response:
    """Link an identity to whoever began the visit; a person who is signed in anew meanwhile begins again."""
    if actor().public_id != visit.owner or not actor().is_fresh(utcnow()):
        raise rules.refused("provider_owner_other", "You are not signed in as the person who began this any more.")
    with brief() as session:
        service.link(session, by=actor(), claims=claims, provider=provider, base_url=settings().base_url, now=utcnow())
    flash(f"Your account at {provider.name} opens this account from now on.", "success")
    return redirect(url_for(".identities"), 303)


def _come_in(provider: Provider, claims: Claims, visit: Visit) -> Response:
    with brief() as session:
        found = service.sign_in(
            session, claims=claims, provider=provider, user_agent=agent(), pepper=settings().pepper, now=utcnow()
        )
    if found is None:
        flask.session[JOINING] = [provider.slug, claims.issuer, claims.subject, claims.name, claims.email,
                                  int(utcnow().timestamp())]  # fmt: skip
        return redirect(url_for(".join"), 303)
    value, owes = found
    return enter(redirect(url_for("factors.second", next=visit.next) if owes else visit.next, 303), value)


@bp.route("/signup/with", methods=["GET", "POST"])
@public(writes=False)  # as signing up with a password: written afterwards, and the answer is the same for any address
def join() -> ResponseReturnValue:
    """Open an account for an identity that has none, or say how to link it to the one that its owner has."""
    claims, provider = _joining()
    form = JoinForm(data={"name": claims.name, "email": claims.email})
    if form.validate_on_submit():
        about = check_about(name=form.read("name"), affiliation=form.read("affiliation"), country=form.read("country"))
        who = Applicant(check_email(form.read("email")), about, digest="")
        afterwards(
            partial(
                service.sign_up, who=who, claims=claims, pepper=settings().pepper, base_url=settings().base_url,
                now=utcnow(),
            )
        )  # fmt: skip
        flask.session.pop(JOINING, None)
        return redirect(url_for("identity.sign_up_sent"), 303)
    page = render_template("providers/join.html", form=form, provider=provider, claims=claims)
    return page, 422 if form.errors else 200


def _joining() -> tuple[Claims, Provider]:
    """Return what a provider stated a moment ago to this browser, which alone may open an account with it."""
    kept: Any = flask.session.get(JOINING)
    if not isinstance(kept, list) or utcnow().timestamp() - kept[-1] > rules.VISIT_LIFE.total_seconds():
        raise rules.refused("provider_visit_old", "That was too long ago.")
    slug, issuer, subject, name, email, _ = kept
    return Claims(issuer, subject, name, email), rules.named(app_service("providers"), slug)


@bp.get("/settings/identities")
@member
def identities() -> ResponseReturnValue:
    """List the identities that open the visitor's account, and where more can be linked."""
    rows = providers.identities_of(db(), user_id=actor().id)
    return render_template("providers/identities.html", rows=rows, names=_names())


@bp.post("/settings/identities/unlink")
@member(fresh=True)
def unlink() -> ResponseReturnValue:
    """Let an identity no longer open the visitor's account."""
    ref = request.form.get("ref", "")
    names, rows = _names(), providers.identities_of(db(), user_id=actor().id)
    name = next((names.get(row.issuer, row.issuer) for row in rows if row.public_id == ref), "")
    service.unlink(db(), by=actor(), ref=ref, name=name, base_url=settings().base_url, now=utcnow())
    flash(f"Your account at {name} no longer opens this account. Other browsers are signed out.", "success")
    return redirect(url_for(".identities"), 303)


def _names() -> dict[str, str]:
    return {one.issuer: one.name for one in app_service("providers")}
