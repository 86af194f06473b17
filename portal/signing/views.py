"""The pages on which a license is signed, a person's own signatures, and the check of a receipt."""

from pathlib import Path

from flask import Blueprint, Response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from portal.clauses import service as clauses
from portal.clauses.rules import outline, side_by_side
from portal.core.clock import utcnow
from portal.core.errors import Conflict, Invalid, NotFound
from portal.licensing import service as licensing
from portal.licensing.models import LicenseVersion
from portal.proofs import service as proofs
from portal.proofs.rules import digest
from portal.signing import rules, service
from portal.signing.forms import SignForm, VerifyForm
from portal.signing.rules import Context
from portal.web.app import actor, app_service, db, request_id
from portal.web.guard import member, public

bp = Blueprint("signing", __name__)
RECEIPT_MAX = 1 << 20


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
        error.url = error.url or url_for(".sign", slug=slug, number=number, lang=_language())
        raise
    return _bind(version, form) if form.read("confirmed") else _confirm(version, form)


def _language() -> str:
    return request.args.get("lang", "")


def _elsewhere(version: LicenseVersion) -> ResponseReturnValue | None:
    """Lead on to the newest version, which is the one to sign, or to the signature there is."""
    newest = licensing.published(db(), license_id=version.license_id)[0]
    if newest.id != version.id:
        target = url_for(".sign", slug=version.license.slug, number=newest.number, lang=_language() or None)
        return redirect(target, 303)
    signature = service.signed_already(db(), by=actor(), version_id=version.id)
    return redirect(url_for(".signature", ref=signature.public_id), 303) if signature else None


def _page(version: LicenseVersion, form: SignForm, error: Invalid | None = None) -> ResponseReturnValue:
    shown = licensing.rendition(version, _language())
    ceremony = service.open_ceremony(db(), by=actor(), version_id=version.id, language=shown.language, now=utcnow())
    owed = [part for _, part in service.restrictions(db(), sha256=shown.text_sha256)]
    form.nonce.data, form.shown_digest.data, form.confirmed.data = ceremony.nonce, shown.text_sha256, ""
    change = service.change_for(db(), by=actor(), version=version, language=shown.language)
    problems = (form.problems(owed) or [(error.field or "typed_name", error.message)]) if error else []
    page = render_template(
        "signing/sign.html", version=version, shown=shown, form=form, owed=owed, change=change, consent=rules.CONSENT,
        passages=outline(clauses.text_of(db(), sha256=shown.text_sha256)), promise=rules.promise, problems=problems,
        rows=side_by_side(change.deltas) if change else [], expires_at=ceremony.expires_at,
    )  # fmt: skip
    return page, 422 if error else 200


def _confirm(version: LicenseVersion, form: SignForm) -> ResponseReturnValue:
    """Restate the sentence that binds, for a last look."""
    shown = licensing.rendition(version, _language())
    sentence = rules.binding(
        title=version.license.title, number=version.number, language=shown.language, text_sha256=shown.text_sha256,
        name=rules.plain(form.read("typed_name")),
    )  # fmt: skip
    return render_template("signing/confirm.html", version=version, shown=shown, form=form, sentence=sentence)


def _bind(version: LicenseVersion, form: SignForm) -> ResponseReturnValue:
    headers = request.headers
    context = Context(
        ip=request.remote_addr or "", user_agent=headers.get("User-Agent", ""),
        accept_language=headers.get("Accept-Language", ""), request_id=request_id(),
    )  # fmt: skip
    signature = service.sign(
        db(), by=actor(), version_id=version.id, sitting=form.sitting(), context=context, now=utcnow()
    )
    return redirect(url_for(".signature", ref=signature.public_id), 303)


@bp.get("/settings/signatures")
@member
def signatures() -> ResponseReturnValue:
    """List what the visitor has signed."""
    rows = service.signatures_of(db(), user_id=actor().id)
    return render_template("signing/signatures.html", rows=rows, licenses=licensing.licenses(db()))


@bp.get("/settings/signatures/<ref>")
@member
def signature(ref: str) -> ResponseReturnValue:
    """Show one of the visitor's signatures with its evidence and receipt."""
    found = service.own_signature(db(), by=actor(), ref=ref)
    body = service.evidence_of(db(), signature=found)
    return render_template(
        "signing/signature.html", signature=found, receipt=proofs.receipt_of(db(), subject_ref=ref),
        evidence=rules.read_evidence(body) if body else None, evidence_sha256=digest(body) if body else "",
    )  # fmt: skip


@bp.get("/settings/signatures/<ref>/receipt.pdf")
@member
def receipt(ref: str) -> ResponseReturnValue:
    """Hand out the receipt, exactly the bytes that were made once."""
    service.own_signature(db(), by=actor(), ref=ref)
    made = proofs.receipt_of(db(), subject_ref=ref)
    if made is None:
        raise NotFound("receipt_pending", "The receipt is being prepared. It is here in a few seconds.")
    folder: Path = app_service("receipts")
    file = folder / f"{made.pdf_sha256}.pdf"
    body = file.read_bytes() if file.is_file() else b""
    if digest(body) != made.pdf_sha256:
        raise NotFound("receipt_lost", "The receipt's file is missing or damaged here. Ask the operators for a copy.")
    return _download(body, "application/pdf", f"{ref}.pdf")


@bp.get("/settings/signatures/<ref>/evidence.json")
@member
def evidence(ref: str) -> ResponseReturnValue:
    """Hand out the evidence of a signature, byte for byte as it was committed to."""
    body = service.evidence_of(db(), signature=service.own_signature(db(), by=actor(), ref=ref))
    if body is None:
        raise NotFound("evidence_erased", "The personal evidence of this signature was erased.")
    return _download(body, "application/json", f"{ref}.evidence.json")


def _download(body: bytes, kind: str, name: str) -> Response:
    return Response(body, content_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})


@bp.route("/verify", methods=["GET", "POST"])
@public(writes=False)
def verify() -> ResponseReturnValue:
    """Check a receipt that somebody hands in: evidence, text and file, naming the first thing that does not hold."""
    form, result = VerifyForm(), ""
    if request.method == "POST":
        try:
            result = _verify()
        except Invalid as error:
            form.take(error)
    return render_template("signing/verify.html", form=form, result=result), 422 if form.errors else 200


def _verify() -> str:
    upload = request.files.get("file")
    body = upload.read(RECEIPT_MAX + 1) if upload else b""
    if not body or len(body) > RECEIPT_MAX:
        raise Invalid("file_missing", "Choose the PDF of a receipt, at most 1 MB.", field="file")
    return service.verify_receipt(db(), pdf_bytes=body, read_attachment=app_service("read_attachment"))
