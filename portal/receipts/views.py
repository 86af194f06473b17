"""The files of a person's own signatures, and the page where anybody checks a receipt."""

from pathlib import Path

from flask import Blueprint, Response, render_template, request
from flask.typing import ResponseReturnValue

from portal.core.errors import Invalid, NotFound
from portal.proofs import service as proofs
from portal.receipts import service
from portal.receipts.forms import VerifyForm
from portal.receipts.rules import Finding
from portal.signing import service as signing
from portal.web.app import actor, app_service, db
from portal.web.guard import member, public

bp = Blueprint("receipts", __name__)
RECEIPT_MAX = 1 << 20
VERIFIER = Path(__file__).resolve().parent.parent / "static" / "verify.py"


def _download(body: bytes, kind: str, name: str) -> Response:
    return Response(body, content_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})


def _file(pdf_sha256: str) -> bytes:
    folder: Path = app_service("receipts")
    path = folder / f"{pdf_sha256}.pdf"
    return service.refuse_lost(path.read_bytes() if path.is_file() else b"", pdf_sha256)


@bp.get("/settings/signatures/<ref>/receipt.pdf")
@member
def receipt(ref: str) -> ResponseReturnValue:
    """Hand out the newest file of the receipt, exactly the bytes that were made once."""
    signing.own_signature(db(), by=actor(), ref=ref)
    made = proofs.receipt_of(db(), subject_ref=ref)
    if made is None:
        raise NotFound("receipt_pending", "The receipt is being prepared. It is here in a few seconds.")
    return _download(_file(made.pdf_sha256), "application/pdf", f"{ref}.pdf")


@bp.get("/settings/signatures/<ref>/evidence.json")
@member
def evidence(ref: str) -> ResponseReturnValue:
    """Hand out the evidence of a signature, byte for byte as it was committed to."""
    body = signing.evidence_of(db(), signature=signing.own_signature(db(), by=actor(), ref=ref))
    if body is None:
        raise NotFound("evidence_erased", "The personal evidence of this signature was erased.")
    return _download(body, "application/json", f"{ref}.evidence.json")


@bp.get("/settings/signatures/<ref>/bundle.zip")
@member
def bundle(ref: str) -> ResponseReturnValue:
    """Hand out all that proves a signature, with the program that checks it offline."""
    found = signing.own_signature(db(), by=actor(), ref=ref)
    body = service.bundle(
        db(), signature=found, read_file=_file, vkey=app_service("vkey")(), verifier=VERIFIER.read_bytes(),
        certificate=app_service("seal").pem,
    )  # fmt: skip
    return _download(body, "application/zip", f"{ref}.bundle.zip")


@bp.route("/verify", methods=["GET", "POST"])
@public(writes=False)
def verify() -> ResponseReturnValue:
    """Check a receipt that somebody hands in: seal, evidence, text and file; names the first that does not hold."""
    form, finding = VerifyForm(), None
    if request.method == "POST":
        try:
            finding = _verify()
        except Invalid as error:
            form.take(error)
    page = render_template("receipts/verify.html", form=form, finding=finding, seal=app_service("seal"))
    return page, 422 if form.errors else 200


def _verify() -> Finding:
    upload = request.files.get("file")
    body = upload.read(RECEIPT_MAX + 1) if upload else b""
    if not body or len(body) > RECEIPT_MAX:
        raise Invalid("file_missing", "Choose the PDF of a receipt, at most 1 MB.", field="file")
    return service.verify(
        db(), pdf=body, check_seal=app_service("check_seal"), read_attachment=app_service("read_attachment")
    )


@bp.get("/verify/certificate.pem")
@public
def certificate() -> ResponseReturnValue:
    """Hand out the certificate of the seal, and earlier ones after it, for those who check receipts offline."""
    return _download(app_service("seal").pem, "application/x-pem-file", "portal-seal.pem")
