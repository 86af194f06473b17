"""Getting a receipt and its bundle, and the page where an outsider checks one."""

import io
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from portal.accounts.models import User
from portal.adapters import outside
from portal.cli import main
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.licensing.models import SignatureAnnex
from portal.main_work import Work
from portal.proofs.models import Receipt
from tests import authority, conduct, licensed
from tests.authority import Stamps
from tests.site import Client, make_app, text_of

NAME = "Ann Müller-李"


@pytest.fixture
def stamps() -> Iterator[Stamps]:
    with authority.running() as running:
        yield running


def signed(app: Any) -> tuple[User, str]:
    """A person who signed the license, and the page of the signature."""
    with transaction(app.engine) as session:
        version = licensed.publish(session, utcnow())
        ann = conduct.person(session, "ann", utcnow())
        signature = licensed.sign(session, licensed.browsing(ann), version, utcnow(), "fr")
        return ann, f"/settings/signatures/{signature.public_id}"


def check(app: Any, body: bytes) -> Any:
    """Hand in a file as somebody who never signed in."""
    stranger = Client(app)
    page = stranger.get("/verify").get_data(as_text=True)
    csrf = re.findall(r'name="csrf_token"[^>]*value="([^"]*)"', page)[0]
    data = {"csrf_token": unescape(csrf), "file": (io.BytesIO(body), "receipt.pdf")}
    return stranger.post("/verify", data=data, content_type="multipart/form-data")


def refused(app: Any, body: bytes) -> str:
    answer = check(app, body)
    assert answer.status_code == 422
    assert "This receipt holds" not in text_of(answer)
    return text_of(answer)


def test_an_outsider_is_told_what_a_receipt_proves_and_what_not(app: Any) -> None:
    ann, where = signed(app)
    browser = Client(app).sign_in(ann)
    assert browser.get(f"{where}/bundle.zip").status_code == 404
    assert Work(app.settings, app.engine).receipt()
    page = text_of(browser.get(where))
    assert "Download the receipt" in page
    assert "Everything that proves it" in page
    assert "Timestamp pending" not in page
    receipt = browser.get(f"{where}/receipt.pdf").data
    answer = check(app, receipt)
    assert answer.status_code == 200
    told = text_of(answer)
    assert "This receipt holds: BLOOM Responsible Use License, version 1.1.0, was signed on" in told
    assert "bloom-rail/1.1.0" in told
    assert "French" in told
    assert "the portal's own clock" in told
    assert "What it does not tell you" in told
    assert NAME not in told
    assert "ann@" not in told
    assert "Sealed by BLOOM Portal at 127.0.0.1" in told


@pytest.mark.threat("TM-20")
def test_a_receipt_that_was_touched_is_refused_by_name(app: Any) -> None:
    ann, where = signed(app)
    Work(app.settings, app.engine).receipt()
    browser = Client(app).sign_in(ann)
    receipt = browser.get(f"{where}/receipt.pdf").data
    assert "was added to this file after it was sealed" in refused(app, receipt + b"\n%")
    middle = bytearray(receipt)
    middle[len(middle) // 2] ^= 1
    assert "was changed after it was sealed" in refused(app, bytes(middle))
    assert "Choose the PDF" in refused(app, b"")
    assert "bears no seal" in refused(app, b"%PDF-1.7 nothing")
    assert "at most 1 MB" in refused(app, b"x" * ((1 << 20) + 1))
    with transaction(app.engine) as session:
        session.execute(sa.text("DROP TRIGGER ao_receipt_delete"))
        session.execute(sa.delete(Receipt))
    assert "is not one that was issued" in refused(app, receipt)
    assert browser.get(f"{where}/receipt.pdf").status_code == 404


def test_a_damaged_file_is_not_handed_out(app: Any) -> None:
    ann, where = signed(app)
    Work(app.settings, app.engine).receipt()
    browser = Client(app).sign_in(ann)
    for file in app.extensions["receipts"].glob("*.pdf"):
        file.write_bytes(b"damaged")
    assert browser.get(f"{where}/receipt.pdf").status_code == 404
    assert browser.get(f"{where}/bundle.zip").status_code == 404


def test_after_erasure_a_receipt_still_holds(app: Any) -> None:
    ann, where = signed(app)
    Work(app.settings, app.engine).receipt()
    browser = Client(app).sign_in(ann)
    receipt = browser.get(f"{where}/receipt.pdf").data
    with transaction(app.engine) as session:
        session.execute(sa.delete(SignatureAnnex))
    assert "was erased here on request" in text_of(check(app, receipt))
    assert browser.get(f"{where}/evidence.json").status_code == 404
    assert browser.get(f"{where}/bundle.zip").status_code == 404
    assert "was erased" in text_of(browser.get(where))


def test_a_bundle_is_checked_offline_by_the_program_inside_it(app: Any, tmp_path: Path) -> None:
    ann, where = signed(app)
    work, browser = Work(app.settings, app.engine), Client(app).sign_in(ann)
    work.receipt()

    def fetch() -> tuple[bytes, subprocess.CompletedProcess[str]]:
        body = browser.get(f"{where}/bundle.zip").data
        (tmp_path / "bundle.zip").write_bytes(body)
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            (tmp_path / "verify.py").write_bytes(archive.read("verify.py"))
        command = [sys.executable, "-I", "verify.py", "bundle.zip", "--key", Client(app).get("/log/vkey").text.strip()]
        return body, subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    _, done = fetch()
    assert done.returncode == 3, done.stderr + done.stdout
    work.log()
    body, done = fetch()
    assert done.returncode == 0, done.stderr + done.stdout
    assert browser.get(f"{where}/bundle.zip").data == body
    with transaction(app.engine) as session:
        other = conduct.person(session, "bob", utcnow())
    bob = Client(app).sign_in(other)
    for name in ("bundle.zip", "receipt.pdf", "evidence.json"):
        assert bob.get(f"{where}/{name}").status_code == 404


def test_the_command_line_checks_a_receipt_too(
    app: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORTAL_HOME", str(tmp_path))
    ann, where = signed(app)
    Work(app.settings, app.engine).receipt()
    file = tmp_path / "receipt.pdf"
    file.write_bytes(Client(app).sign_in(ann).get(f"{where}/receipt.pdf").data)

    def verify() -> tuple[int, str]:
        with pytest.raises(SystemExit) as caught:
            main(["receipts", "verify", str(file)])
        told = capsys.readouterr()
        return int(caught.value.code or 0), told.out + told.err

    status, line = verify()
    assert status == 0
    assert f"{where.rpartition('/')[2]}: holds. bloom-rail/1.1.0 in 'fr'" in line
    file.write_bytes(file.read_bytes() + b"%")
    assert verify() == (1, "portal: Something was added to this file after it was sealed.\n")


def test_a_wrong_seal_stops_the_start_with_one_line(
    app: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORTAL_HOME", str(tmp_path))
    none = str(tmp_path / "none.pem")
    for name, value, why in (
        ("PORTAL_SEAL_PKCS12", none, f"{none} cannot be read: No such file or directory"),
        ("PORTAL_TIMESTAMP_ROOT", none, f"{none} cannot be read: No such file or directory"),
        ("PORTAL_WITNESSES", "x", "'x' is not written KEY ADDRESS"),
    ):
        with monkeypatch.context() as changed:
            changed.setenv(name, value)
            for command in ("serve", "web", "work"):
                with pytest.raises(SystemExit) as caught:
                    main([command])
                assert caught.value.code == 2
                assert capsys.readouterr().err == f"portal: {name}: {why}\n"


@pytest.mark.threat("TM-20")
def test_the_command_says_one_thing_about_any_file(tmp_path: Path, stamps: Stamps) -> None:
    """In a process of its own: what libraries would say beside it must not be there either."""
    app = make_app(tmp_path, PORTAL_TIMESTAMP_URL=stamps.url)
    signed(app)
    work = Work(app.settings, app.engine)
    assert work.sealer.authority is not None
    work.sealer.authority.server.patience = 60.0
    work.receipt()
    (made,) = app.extensions["receipts"].glob("*.pdf")
    body, file, root = made.read_bytes(), tmp_path / "receipt.pdf", tmp_path / "root.pem"
    root.write_bytes(app.extensions["seal"].pem)  # somebody else's root
    start = body.index(b"/Contents <3")
    for changed, code, why in (
        (body, 0, f" by {authority.NAME}."),
        (body[: start + 600] + b"00" + body[start + 602 :], 1, "portal: This file"),
        (body.replace(b"startxref", b"startxxef"), 1, "portal: This file was changed"),
        (b"%PDF-1.7\nscribble", 1, "portal: This file bears no seal"),
    ):  # fmt: skip
        file.write_bytes(changed)
        command = [sys.executable, "-m", "portal.cli", "receipts", "verify", str(file)]
        environ = {**os.environ, "PORTAL_HOME": str(app.settings.home), "PORTAL_TIMESTAMP_ROOT": str(root)}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        assert why in said
        assert said.count("\n") == 1, said
    app.engine.dispose()


def test_the_certificate_of_the_seal_is_for_everybody(app: Any) -> None:
    answer = Client(app).get("/verify/certificate.pem")
    certificate = x509.load_pem_x509_certificates(answer.data)[0]
    shown = text_of(Client(app).get("/verify"))
    assert certificate.fingerprint(hashes.SHA256()).hex() in shown


@pytest.mark.threat("TM-25")
def test_while_the_authority_is_away_the_timestamp_is_pending_and_then_it_comes(
    tmp_path: Path, stamps: Stamps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside, "FIRST_PAUSE", 600.0)  # longer than this can take on any machine
    app = make_app(tmp_path, PORTAL_TIMESTAMP_URL=stamps.url)
    ann, where = signed(app)
    browser, work = Client(app).sign_in(ann), Work(app.settings, app.engine)
    stamps.mood = "error"
    assert work.receipt()
    first = browser.get(f"{where}/receipt.pdf").data
    assert "Timestamp pending" in text_of(browser.get(where))
    assert "This receipt holds" in text_of(check(app, first))
    assert not work.receipt(), "the authority is left alone for a while"
    assert work.sealer.authority is not None
    work.sealer.authority.server.due = 0.0
    assert work.receipt(), "asked again, in vain"
    assert not work.receipt()
    assert browser.get(f"{where}/receipt.pdf").data == first
    stamps.mood, work.sealer.authority.server.due, work.sealer.authority.server.patience = "well", 0.0, 20.0
    assert work.receipt()
    assert not work.receipt()
    assert "Timestamp pending" not in text_of(browser.get(where))
    second = browser.get(f"{where}/receipt.pdf").data
    assert second != first
    assert f"by {authority.NAME}" in text_of(check(app, second))
    assert "file 2 of this receipt supersedes it" in text_of(check(app, first))
    assert len(list(app.extensions["receipts"].glob("*.pdf"))) == 2
    app.engine.dispose()
