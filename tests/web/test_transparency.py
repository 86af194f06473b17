"""The monthly report as a page, for programs, for spreadsheets and for archives."""

from datetime import timedelta
from hashlib import sha256
from io import BytesIO
from typing import Any

import pytest
from pypdf import PdfReader

from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.transparency import rules, service
from tests.factories import Make
from tests.site import Client, text_of


@pytest.fixture
def month(app: Any) -> str:
    """A month that is over, of which the report is published, with the one after it."""
    with transaction(app.engine) as session:
        make = Make(session, utcnow())
        make.sign(make.person("ann"))
        rows = [service.publish(session, by=SYSTEM, now=utcnow() + timedelta(days=70)) for _ in range(2)]
    assert all(rows)
    return rows[0].month if rows[0] else ""


def test_before_the_first_month_is_over_the_page_says_so(app: Any) -> None:
    assert "The first month is not over yet" in text_of(Client(app).get("/transparency"))
    for path in ("2026-01", "2026-01.json", "x", "2026-01.exe", "9" * 100, "%00"):
        assert Client(app).get(f"/transparency/{path}").status_code in {400, 404}


def test_a_month_is_shown_and_sent_in_each_of_its_forms(app: Any, month: str) -> None:
    client = Client(app)
    body = client.get(f"/transparency/{month}.json")
    digest = sha256(body.get_data()).hexdigest()
    assert body.get_json()["month"] == month
    page = client.get(f"/transparency/{month}")
    assert digest in page.get_data(as_text=True)
    assert f"/transparency/{rules.following(month)}" in page.get_data(as_text=True)
    assert rules.following(month) in text_of(client.get("/transparency"))
    sheet = client.get(f"/transparency/{month}.csv")
    assert sheet.mimetype == "text/csv"
    assert sheet.get_data(as_text=True).startswith("month,figure,clause,sanction,origin,automated,value")
    assert client.get(f"/transparency/{month}.exe").status_code == 404


def test_the_document_is_tagged_and_for_archives(app: Any, month: str) -> None:
    answer = Client(app).get(f"/transparency/{month}.pdf")
    assert answer.mimetype == "application/pdf"
    reader = PdfReader(BytesIO(answer.get_data()))
    root: Any = reader.trailer["/Root"]
    assert root["/MarkInfo"]["/Marked"] == True  # noqa: E712 # a PDF object
    assert "/StructTreeRoot" in root
    assert b"pdfaid:part" in root["/Metadata"].get_object().get_data()
    assert month in " ".join(part.extract_text() for part in reader.pages)
