"""Documents are drawn from the portal's own files alone, and their attachments read back."""

import logging

import pytest
from pypdf import PdfReader

from portal.adapters import pdf
from portal.core.errors import Unavailable

PAGE = (
    '<!doctype html><html lang="fr"><head><title>Un titre</title>{}</head><body><h1>Un texte 文本</h1>{}</body></html>'
)


def test_a_document_is_tagged_and_for_archives_and_holds_its_fonts() -> None:
    from io import BytesIO

    body = pdf.render(PAGE.format("", ""), attachments=[pdf.Attached("a.json", b"{}", "Data")])
    reader = PdfReader(BytesIO(body))
    assert reader.trailer["/Root"]["/MarkInfo"]["/Marked"] == True  # noqa: E712
    assert reader.trailer["/Root"]["/Lang"] == "fr"
    assert reader.metadata is not None
    assert reader.metadata.title == "Un titre"
    assert b"pdfaid:part" in body or "pdfaid" in str(reader.xmp_metadata.stream.get_data())  # type: ignore[union-attr]
    fonts = [font.get_object() for page in reader.pages for font in page["/Resources"]["/Font"].values()]
    for font in fonts:
        descriptor = font["/DescendantFonts"][0].get_object()["/FontDescriptor"].get_object()
        assert any(key.startswith("/FontFile") for key in descriptor)
    assert "文本" in reader.pages[0].extract_text()
    assert pdf.attachment(body, "a.json") == b"{}"
    assert pdf.attachment(body, "b.json") is None


@pytest.mark.parametrize(
    "address",
    [
        "http://example.com/x.css", "file:///etc/passwd", "../templates/error.html", "//example.com/x.css", "no.css",
        "ftp://static.invalid/pdf.css", "https://static.invalid/%2e%2e/main.py", "data:text/css,body{color:red}",
    ],
)  # fmt: skip
def test_a_document_loads_nothing_but_the_portals_own_files(address: str) -> None:
    with pytest.raises(pdf.PdfError):
        pdf.render(PAGE.format(f'<link rel="stylesheet" href="{address}">', ""))


def test_the_style_of_documents_is_found(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "weasyprint")
    assert pdf.render(PAGE.format('<link rel="stylesheet" href="pdf.css">', ""))
    assert not caplog.records


@pytest.mark.parametrize(
    "body", [b"", b"%PDF-1.7\n", b"x" * 1000, b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\ntrailer<</Root 1 0 R>>"]
)
def test_what_is_no_pdf_has_no_attachments(body: bytes) -> None:
    assert pdf.attachment(body, "evidence.json") is None


def test_without_the_native_library_only_documents_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    real = builtins.__import__

    def missing(name: str, *rest: object) -> object:
        if name == "weasyprint":
            raise OSError("cannot load library 'libpango-1.0-0'")
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(Unavailable) as caught:
        pdf.render(PAGE.format("", ""))
    assert caught.value.code == "pdf_unavailable"
