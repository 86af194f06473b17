"""The door to PDF: documents drawn from the portal's own pages and styles, and what is attached to them read back."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from mimetypes import guess_type
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pypdf import PdfReader
from pypdf.errors import PyPdfError

from portal.adapters.squares import square_code
from portal.core.errors import Unavailable

# What is wrong with a file is said by whoever asked, once.
logging.getLogger("pypdf").addHandler(logging.NullHandler())
ROOT = Path(__file__).resolve().parent.parent
STATIC = ROOT / "static"
TEMPLATES = ROOT / "templates" / "pdf"
# A host that can never exist: it stands for the folder of static files, and nothing is asked of the network.
HOST = "static.invalid"
EVIDENCE = "evidence.json"


class PdfError(Exception):
    """A document asked for something from outside the portal's own styles."""


@dataclass(frozen=True)
class Attached:
    """A file that travels inside a document."""

    name: str
    body: bytes
    description: str


def _library() -> ModuleType:
    """Load WeasyPrint, which needs the native library Pango; without it only documents are missing, not the portal."""
    try:
        import weasyprint  # noqa: PLC0415
    except OSError:
        message = "Documents need the Pango library, which is missing here: `python -m tests.native pango` says how."
        raise Unavailable("pdf_unavailable", message) from None
    return weasyprint  # type: ignore[no-any-return] # the library is untyped


@lru_cache(maxsize=1)
def _own_files() -> Any:
    """Return a fetcher of the portal's static files by name, and of nothing from the network or elsewhere."""
    urls = _library().urls

    class OwnFiles(urls.URLFetcher):  # type: ignore[misc, name-defined]
        """Hands out static files."""

        def fetch(self, url: str, _headers: object = None) -> Any:
            """Return a static file, or refuse."""
            parts = urlsplit(url)
            path = (STATIC / unquote(parts.path).lstrip("/")).resolve()
            if (parts.scheme, parts.netloc) != ("https", HOST) or not path.is_relative_to(STATIC) or not path.is_file():
                raise urls.FatalURLFetchingError(f"a document may not load {url[:200]}")
            kind = guess_type(path.name)[0] or "application/octet-stream"
            return urls.URLFetcherResponse(url, path.read_bytes(), {"Content-Type": kind})

    return OwnFiles()


def render(html: str, *, attachments: Sequence[Attached] = ()) -> bytes:
    """Draw a page as a PDF for archives (PDF/A-3a): tagged, with its fonts and attachments inside.

    Raises:
        PdfError: the page asks for anything but the portal's own static files.
        Unavailable: the native library is missing.
    """
    library = _library()
    page = library.HTML(string=html, base_url=f"https://{HOST}/", url_fetcher=_own_files())
    files = [
        library.Attachment(string=file.body, name=file.name, description=file.description, relationship="Data")
        for file in attachments
    ]
    try:
        return bytes(page.write_pdf(pdf_variant="pdf/a-3a", attachments=files))
    except library.urls.FatalURLFetchingError as error:
        raise PdfError(str(error)) from None


def receipt(evidence: bytes, **values: Any) -> bytes:
    """Draw the receipt of a signature with its evidence inside, without a web request around it."""
    daily = values.get("daily")
    code = square_code(daily.text) if daily else None
    html = _templates().get_template("receipt.html").render(**{**values, "daily": daily, "code": code})
    return render(html, attachments=[Attached(EVIDENCE, evidence, "What this receipt states, as it was hashed")])


@lru_cache(maxsize=1)
def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip


def attachment(pdf: bytes, name: str) -> bytes | None:
    """Return the one file of that name inside a PDF; None if there is none, or if these bytes are no PDF."""
    try:
        found = PdfReader(BytesIO(pdf)).attachments.get(name, [])
    except (PyPdfError, ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError, OSError):
        return None
    return bytes(found[0]) if len(found) == 1 else None
