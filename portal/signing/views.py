"""The pages on which a license is signed, and a person's own signatures."""

from importlib.metadata import version as version_of

from flask import Blueprint, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from portal.catalog import service as catalog
from portal.catalog.models import CardRevision
from portal.catalog.rules import ModelState
from portal.clauses import service as clauses
from portal.clauses.rules import outline, side_by_side
from portal.core.clock import utcnow
from portal.core.errors import Conflict, Invalid
from portal.licensing import service as licensing
from portal.licensing.models import LicenseVersion
from portal.logins.rules import local_path
from portal.passkeys.rules import Authenticators, works_at
from portal.proofs import service as proofs
from portal.proofs.rules import digest
from portal.signing import rules, service
from portal.signing.forms import SignForm
from portal.signing.rules import Context
from portal.web.app import actor, app_service, db, request_id, settings
from portal.web.guard import member
from portal.web.headers import allow_script

bp = Blueprint("signing", __name__)
PROGRAM = version_of("bloom-portal")


@bp.route("/licenses/<slug>/<number>/sign", methods=["GET", "POST"])
@member(writes=True)
def sign(slug: str, number: str) -> ResponseReturnValue:
    """Show a version whole with one box for each use restriction; sign it once the sentence that binds is confirmed."""
    version = licensing.find_version(db(), slug=slug, number=number)
    form = SignForm()
    if request.method != "POST":
        return _elsewhere(version) or _page(version, form)
    try:
        service.check(db(), by=actor(), version_id=version.id, sitting=form.sitting(), now=utcnow())
    except Invalid as error:
        return _page(version, form, error)
    except Conflict as error:
        error.url = error.url or url_for(
            ".sign", slug=slug, number=number, lang=_language(), next=_next(), model=_model()
        )
        raise
    try:
        return _bind(version, form) if form.read("confirmed") else _confirm(version, form)
    except Invalid as error:
        return _page(version, form, error)


def _language() -> str:
    return request.args.get("lang", "")


def _next() -> str | None:
    """Return the page of ours that sent the visitor here to sign; the page of the signature leads back to it."""
    return local_path(request.args.get("next", ""), "") or None


def _model() -> str | None:
    """Return the name of the model whose page sent the visitor here to sign."""
    return request.args.get("model") or None


def _card() -> CardRevision | None:
    """Return the card of that model, which is shown beside the text and noted in the ceremony."""
    model = catalog.called(db(), full_name=_model() or "")
    return catalog.current_card(db(), model=model) if model and model.state is not ModelState.DRAFT else None


def _elsewhere(version: LicenseVersion) -> ResponseReturnValue | None:
    """Lead on to the newest version, which is the one to sign, or to the signature there is."""
    newest = licensing.published(db(), license_id=version.license_id)[0]
    if newest.id != version.id:
        slug, number = version.license.slug, newest.number
        return redirect(
            url_for(".sign", slug=slug, number=number, lang=_language() or None, next=_next(), model=_model()), 303
        )
    signature = service.signed_for_good(db(), by=actor(), version_id=version.id, now=utcnow())
    if signature is None:
        return None
    return redirect(url_for(".signature", ref=signature.public_id, next=_next()), 303)


def _page(version: LicenseVersion, form: SignForm, error: Invalid | None = None) -> ResponseReturnValue:
    shown = licensing.rendition(version, _language())
    card = _card()
    ceremony = service.open_ceremony(
        db(), by=actor(), version_id=version.id, language=shown.language, now=utcnow(),
        card_sha256=card.text_sha256 if card else None,
    )  # fmt: skip
    owed = [part for _, part in service.restrictions(db(), sha256=shown.text_sha256)]
    form.nonce.data, form.shown_digest.data, form.confirmed.data = ceremony.nonce, shown.text_sha256, ""
    change = service.change_for(db(), by=actor(), version=version, language=shown.language)
    problems = (form.problems(owed) or [(error.field or "typed_name", error.message)]) if error else []
    page = render_template(
        "signing/sign.html", version=version, shown=shown, form=form, owed=owed, change=change, consent=rules.CONSENT,
        passages=outline(clauses.text_of(db(), sha256=shown.text_sha256)), promise=rules.promise, problems=problems,
        rows=side_by_side(change.deltas) if change else [], expires_at=ceremony.expires_at, back=_next(),
        card=card, asked_for=_model(), said=catalog.items_of(db(), revision=card) if card else [],
    )  # fmt: skip
    return page, 422 if error else 200


def _confirm(version: LicenseVersion, form: SignForm) -> ResponseReturnValue:
    """Restate the sentence that binds, for a last look."""
    shown = licensing.rendition(version, _language())
    sentence, options = service.last_look(
        db(), by=actor(), version_id=version.id, sitting=form.sitting(), doors=_doors(), now=utcnow()
    )
    options = options if works_at(settings().base_url) else ""
    page = render_template(
        "signing/confirm.html", back=_next(), version=version, shown=shown, form=form, sentence=sentence,
        options=options,
    )  # fmt: skip
    return allow_script(make_response(page), "passkeys.js") if options else page


def _doors() -> Authenticators:
    found: Authenticators = app_service("passkeys")
    return found


def _bind(version: LicenseVersion, form: SignForm) -> ResponseReturnValue:
    headers = request.headers
    context = Context(
        ip=request.remote_addr or "", user_agent=headers.get("User-Agent", ""),
        accept_language=headers.get("Accept-Language", ""), request_id=request_id(), app_version=PROGRAM,
        app_commit=app_service("commit"),
    )  # fmt: skip
    signature = service.sign(
        db(), by=actor(), version_id=version.id, sitting=form.sitting(), context=context, doors=_doors(), now=utcnow()
    )
    return redirect(url_for(".signature", ref=signature.public_id, next=_next()), 303)


@bp.get("/settings/signatures")
@member
def signatures() -> ResponseReturnValue:
    """List what the visitor has signed."""
    rows = service.signatures_of(db(), user_id=actor().id)
    ended = licensing.annulments(db(), signature_ids=[row.id for row in rows])
    return render_template("signing/signatures.html", rows=rows, ended=ended, licenses=licensing.licenses(db()))


@bp.get("/settings/signatures/<ref>")
@member
def signature(ref: str) -> ResponseReturnValue:
    """Show one of the visitor's signatures with its evidence and receipt."""
    found = service.own_signature(db(), by=actor(), ref=ref)
    body = service.evidence_of(db(), signature=found)
    return render_template(
        "signing/signature.html", signature=found, back=_next(), receipt=proofs.receipt_of(db(), subject_ref=ref),
        ended=licensing.annulments(db(), signature_ids=[found.id]).get(found.id),
        evidence=rules.read_evidence(body) if body else None, evidence_sha256=digest(body) if body else "",
    )  # fmt: skip
