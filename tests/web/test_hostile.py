"""Requests that no browser and no client sends: odd methods, broken framing, bodies that are too deep."""

import io
from typing import Any

import pytest

from portal.accounts.models import User
from portal.core.clock import utcnow
from portal.core.db import transaction
from tests.factories import Make
from tests.site import Client

DEEP = b"[" * 200_000


class BrokenStream:
    """A body of which the server says, while it is read, that it breaks HTTP."""

    def read(self, _size: int = -1) -> bytes:
        raise RuntimeError("Invalid chunk size: b'zz'")  # servers have errors of their own for this


@pytest.fixture
def ann(app: Any, client: Client) -> Client:
    with transaction(app.engine) as session:
        found: User = Make(session, utcnow()).person("ann")
    return client.sign_in(found)


@pytest.mark.parametrize("method", ["OPTIONS", "HEAD"])
@pytest.mark.parametrize("path", ["/logout", "/settings/security/end", "/settings/verify-address"])
def test_a_method_without_the_value_of_a_form_changes_nothing(ann: Client, method: str, path: str) -> None:
    other = Client(ann.app).sign_in(_same_person(ann))
    ann.http.open(path, method=method)
    assert ann.get("/settings/").status_code == 200
    assert other.get("/settings/").status_code == 200


def _same_person(client: Client) -> User:
    with transaction(client.app.engine, write=False) as session:
        return session.query(User).filter(User.profile.has(name="Ann")).one()


@pytest.mark.parametrize("path", ["/", "/logout", "/api/credentials/revoke", "/static/portal.css"])
def test_options_lists_methods_without_asking_the_view(app: Any, path: str) -> None:
    answer = app.test_client().open(path, method="OPTIONS")
    assert answer.status_code == 200
    assert "OPTIONS" in answer.headers["Allow"]
    assert answer.get_data() == b""


@pytest.mark.parametrize("path", ["/login", "/api/credentials/revoke"])
def test_a_body_that_breaks_http_is_the_senders_fault(app: Any, path: str) -> None:
    given = {"wsgi.input": BrokenStream(), "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    kind = "application/json" if path != "/login" else "application/x-www-form-urlencoded"
    answer = app.test_client().post(path, content_type=kind, environ_overrides=given)
    assert answer.status_code == 400


def test_a_body_without_a_length_is_still_read(app: Any) -> None:
    given = {"wsgi.input": io.BytesIO(b'{"credentials": []}'), "wsgi.input_terminated": True}
    answer = app.test_client().post(
        "/api/credentials/revoke", content_type="application/json", environ_overrides=given
    )  # fmt: skip
    assert answer.status_code == 202


@pytest.mark.threat("TM-33")
def test_json_nested_too_deep_is_refused_by_name(app: Any, site: Any) -> None:
    for path in ("/api/credentials/revoke", "/api/models/lab/one/paths-info/main"):
        answer = app.test_client().post(path, data=DEEP, content_type="application/json")
        assert 400 <= answer.status_code < 500, path
    del site


def test_a_client_that_takes_the_portal_for_its_proxy_is_answered(app: Any, site: Any) -> None:
    del site
    for path in ("/lab/one/tree/main", "/api/models/lab/one/tree/main"):
        plain = app.test_client().get(path)
        whole = app.test_client().get(path, environ_overrides={"RAW_URI": f"http://portal.example{path}"})
        assert (whole.status_code, len(whole.get_data())) == (plain.status_code, len(plain.get_data())), path
