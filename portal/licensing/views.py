"""Pages of licenses: their history, each text clause by clause, and what changed between two versions."""

import re

from flask import Blueprint, Response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from portal.clauses import service as clauses
from portal.clauses.rules import Relation, outline, side_by_side
from portal.core.clock import utcnow
from portal.core.errors import NotFound
from portal.licensing import rules, service
from portal.web.app import actor, db
from portal.web.guard import public

bp = Blueprint("licensing", __name__)
REFERENCE = re.compile(r"req_[0-9a-z]{1,40}")


@bp.app_template_filter("language")
def language(code: str) -> str:
    """Name a language in English."""
    return rules.language_name(code)


def states(license_id: int) -> dict[int, str]:
    """Return the state of each published version by the clock, by the version's id."""
    facts = service.versions_for(db(), license_ids=[license_id]).get(license_id, [])
    return {fact.id: rules.state_at(facts, fact.id, utcnow()).value for fact in facts}


def signed(license_id: int) -> dict[int, str]:
    """Return the visitor's signatures of a license: public id by version."""
    if not actor().is_signed_in:
        return {}
    facts = service.signatures_for(db(), user_id=actor().id, license_ids=[license_id]).get(license_id, [])
    return {fact.version_id: fact.public_id for fact in rules.live(facts, utcnow())}


@bp.get("/contact")
@public
def contact() -> ResponseReturnValue:
    """Say who gives out the license, where to write about what, how to report misuse and how to sign on paper."""
    about = request.args.get("about", "")
    return render_template(
        "licensing/contact.html", rows=[row for row, versions in service.licenses(db()) if versions],
        about=about if REFERENCE.fullmatch(about) else "",
    )  # fmt: skip


@bp.get("/licenses/")
@public
def index() -> ResponseReturnValue:
    """List licenses with the version in force and what comes next."""
    rows = [(row, versions, states(row.id), signed(row.id)) for row, versions in service.licenses(db()) if versions]
    return render_template("licensing/index.html", rows=rows)


@bp.get("/licenses/<slug>")
@public
def history(slug: str) -> ResponseReturnValue:
    """Show the versions of a license, newest first."""
    found = service.find_license(db(), slug=slug)
    versions = service.published(db(), license_id=found.id)
    return render_template(
        "licensing/history.html", license=found, versions=versions, states=states(found.id), signed=signed(found.id)
    )


@bp.get("/licenses/<slug>/<number>")
@public
def version(slug: str, number: str) -> ResponseReturnValue:
    """Show a version's text clause by clause, in one of its languages."""
    if "..." in number:
        return _compare(slug, *number.split("...", 1))
    found = service.find_version(db(), slug=slug, number=number)
    shown = service.rendition(found, request.args.get("lang", ""))
    text = clauses.text_of(db(), sha256=shown.text_sha256)
    earlier = next(
        iter(v for v in service.published(db(), license_id=found.license_id) if v.ordinal < found.ordinal), None
    )
    look = service.second_look(db(), version=found)
    return render_template(
        "licensing/version.html", version=found, shown=shown, passages=outline(text), earlier=earlier,
        state=states(found.license_id)[found.id], signed=signed(found.license_id).get(found.id),
        newest=service.published(db(), license_id=found.license_id)[0],
        vote=service.resolution_of(db(), version=found), look=look,
        look_state=rules.review_state_at(look.due_at, look.reviewed_at, utcnow()).value if look else "",
    )  # fmt: skip


@bp.get("/licenses/<slug>/<number>/text")
@public
def text(slug: str, number: str) -> ResponseReturnValue:
    """Hand out the exact bytes of a text, whose SHA-256 is what people sign."""
    found = service.find_version(db(), slug=slug, number=number)
    shown = service.rendition(found, request.args.get("lang", ""))
    answer = Response(
        clauses.text_of(db(), sha256=shown.text_sha256).encode(), content_type="text/markdown; charset=utf-8"
    )
    answer.headers["Content-Disposition"] = f'inline; filename="{slug}-{number}.{shown.language}.md"'
    answer.set_etag(shown.text_sha256)
    return answer.make_conditional(request)


def _compare(slug: str, first: str, second: str) -> ResponseReturnValue:
    """Show clause by clause what changed between two versions, the earlier one on the left."""
    old = service.find_version(db(), slug=slug, number=first)
    new = service.find_version(db(), slug=slug, number=second)
    lang = request.args.get("lang", "")
    if old.ordinal >= new.ordinal:
        if old is new:
            raise NotFound("versions_equal", f"Name two different versions of {slug}.")
        return redirect(url_for(".version", slug=slug, number=f"{second}...{first}", lang=lang or None), 303)
    shown = service.rendition(new, lang)
    deltas = service.difference(db(), old=old, new=new, language=lang)
    changed = sum(delta.relation is not Relation.SAME for delta in deltas)
    return render_template(
        "licensing/compare.html", old=old, new=new, shown=shown, rows=side_by_side(deltas), changed=changed,
        read=service.counterpart(old, shown),
    )  # fmt: skip
