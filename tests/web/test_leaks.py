"""Where leaked access tokens are reported: the public door, and the one for signed lists of GitHub."""

import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from portal.adapters.scanner_keys import FRESH, PAUSE, ScannerKeys, read_keys
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.tokens import service
from portal.tokens.models import AccessToken, LeakReport
from portal.tokens.rules import LEAKS_PER_HOUR, TokenState, mint
from tests.factories import Make
from tests.site import Client, make_app, text_of

DOOR = "/api/credentials/secret-scanning"
pytestmark = pytest.mark.threat("TM-15")


class Github:
    """Publishes keys, as GitHub does, and signs lists."""

    def __init__(self) -> None:
        self.keys = {"k1": ec.generate_private_key(ec.SECP256R1())}
        self.asked = 0
        self.body: bytes | None = None
        github = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                github.asked += 1
                body = github.body if github.body is not None else github.listed()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/meta/public_keys/secret_scanning"

    def listed(self) -> bytes:
        rows = [{"key_identifier": name, "key": _pem(key), "is_current": True} for name, key in self.keys.items()]
        return json.dumps({"public_keys": rows}).encode()

    def sign(self, body: bytes, key: str = "k1") -> dict[str, str]:
        signature = self.keys[key].sign(body, ec.ECDSA(SHA256()))
        return {
            "Github-Public-Key-Identifier": key, "Github-Public-Key-Signature": b64encode(signature).decode(),
            "Content-Type": "application/json",
        }  # fmt: skip


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.fixture
def github() -> Iterator[Github]:
    stand_in = Github()
    yield stand_in
    stand_in.server.shutdown()
    stand_in.server.server_close()


@pytest.fixture
def scanned(tmp_path: Path, github: Github) -> Iterator[Any]:
    """An app that knows where the keys are published."""
    app = make_app(tmp_path, PORTAL_SCANNER_KEYS=github.url)
    yield app
    app.engine.dispose()


def minted(app: Any) -> tuple[Any, str]:
    """A person and the secret of an access token of theirs."""
    with transaction(app.engine) as session:
        make = Make(session, utcnow())
        user = make.person("leaky")
        token, secret = service.issue(
            session, by=SYSTEM, owner_id=user.id, name="laptop", scopes=["inference"], model_ids=[], days=30,
            pepper=app.settings.pepper, now=utcnow(),
        )  # fmt: skip
    assert token.state is TokenState.LIVE
    return user, secret


def settle(app: Any) -> None:
    with transaction(app.engine) as session:
        service.settle_leaks(session, by=SYSTEM, base_url=app.settings.base_url, now=utcnow())


def states(app: Any) -> list[TokenState]:
    with transaction(app.engine, write=False) as session:
        return list(session.scalars(sa.select(AccessToken.state)))


def reports(app: Any) -> int:
    with transaction(app.engine, write=False) as session:
        return session.scalar(sa.select(sa.func.count()).select_from(LeakReport)) or 0


def sent(app: Any, value: Any, github: Github, **changed: str) -> Any:
    body = json.dumps(value).encode()
    return app.test_client().post(DOOR, data=body, headers=github.sign(body) | changed)


def entry(secret: str, url: str = "https://github.com/ann/notes/blob/1/a.py") -> dict[str, str]:
    return {"token": secret, "type": "bloom_portal_access_token", "url": url, "source": "content"}


@contextmanager
def statements(app: Any) -> Iterator[list[str]]:
    """Collect what is asked of the database meanwhile."""
    seen: list[str] = []

    def note(_c: Any, _u: Any, statement: str, _p: Any, _x: Any, _m: bool) -> None:
        seen.append(statement)

    sa.event.listen(app.engine, "before_cursor_execute", note)
    yield seen
    sa.event.remove(app.engine, "before_cursor_execute", note)


def test_neither_answer_nor_work_says_which_secrets_are_real(app: Any) -> None:
    _, secret = minted(app)
    answers, work = [], []
    for values in ([secret, mint()], [mint(), mint()], ["", "x"], [secret, secret]):
        with statements(app) as seen:
            answers.append(app.test_client().post("/api/credentials/revoke", json={"credentials": values}))
        work.append(seen)
    assert [a.status_code for a in answers] == [202] * 4
    assert len({a.get_data() for a in answers}) == 1
    assert len({tuple(sorted(set(dict(a.headers)) - {"X-Request-Id"})) for a in answers}) == 1
    assert work[0] == work[1] == work[2] == work[3]
    assert not any("FROM access_token" in statement or "UPDATE access_token" in statement for statement in work[0])
    settle(app)
    assert states(app) == [TokenState.REVOKED]


def test_the_public_door_takes_a_thousand_and_is_limited_for_each_network(app: Any) -> None:
    door = "/api/credentials/revoke"
    too_many = app.test_client().post(door, json={"credentials": ["x"] * 1001})
    assert (too_many.status_code, too_many.get_json()["field"]) == (422, "credentials")
    for _ in range(LEAKS_PER_HOUR):
        assert app.test_client().post(door, json={"credentials": ["x"] * 1000}).status_code == 202
    refused = app.test_client().post(door, json={"credentials": []})
    assert (refused.status_code, int(refused.headers["Retry-After"]) > 0) == (429, True)
    elsewhere = {"environ_base": {"REMOTE_ADDR": "198.51.100.9"}}
    assert app.test_client().post(door, json={"credentials": []}, **elsewhere).status_code == 202


def test_a_signed_list_ends_access_tokens_and_their_row_shows_where(scanned: Any, github: Github) -> None:
    user, secret = minted(scanned)
    assert sent(scanned, [entry(secret, "https://github.com/<script>alert(1)</script>")], github).status_code == 202
    settle(scanned)
    assert states(scanned) == [TokenState.REVOKED]
    page = Client(scanned).sign_in(user).get("/settings/tokens")
    assert "<script>alert" not in page.get_data(as_text=True)
    seen = text_of(page)
    assert "Revoked" in seen
    assert "Found in public" in seen
    assert "https://github.com/<script>alert(1)</script>" in seen


def test_the_same_signed_list_again_changes_nothing(scanned: Any, github: Github) -> None:
    _, secret = minted(scanned)
    body = json.dumps([entry(secret)]).encode()
    head = github.sign(body)
    answers = [scanned.test_client().post(DOOR, data=body, headers=head) for _ in range(3)]
    assert [a.status_code for a in answers] == [202] * 3
    assert len({a.get_data() for a in answers}) == 1
    assert reports(scanned) == 1


@pytest.mark.parametrize("changed", [
    {"Github-Public-Key-Identifier": "k2"}, {"Github-Public-Key-Identifier": ""}, {"Github-Public-Key-Signature": ""},
    {"Github-Public-Key-Signature": "é"}, {"Github-Public-Key-Signature": "AAAA"},
    {"Github-Public-Key-Signature": b64encode(b"0" * 70).decode()},
])  # fmt: skip
def test_what_is_not_signed_so_is_refused(scanned: Any, github: Github, changed: dict[str, str]) -> None:
    _, secret = minted(scanned)
    answer = sent(scanned, [entry(secret)], github, **changed)
    assert (answer.status_code, answer.get_json()["code"]) == (400, "signature_invalid")
    assert reports(scanned) == 0


def test_a_signature_over_other_bytes_or_by_another_key_is_refused(scanned: Any, github: Github) -> None:
    _, secret = minted(scanned)
    body = json.dumps([entry(secret)]).encode()
    head = github.sign(body)
    assert scanned.test_client().post(DOOR, data=body + b" ", headers=head).status_code == 400
    github.keys["k2"] = ec.generate_private_key(ec.SECP256R1())
    assert scanned.test_client().post(
        DOOR, data=body, headers=github.sign(body, "k2") | {"Github-Public-Key-Identifier": "k1"}
    ).status_code == 400  # fmt: skip
    assert reports(scanned) == 0


def test_ten_thousand_entries_are_taken(scanned: Any, github: Github) -> None:
    _, secret = minted(scanned)
    rows = [entry(mint(), f"https://github.com/ann/notes/blob/{n}/{'a' * 100}.py") for n in range(9_999)]
    assert sent(scanned, [*rows, entry(secret)], github).status_code == 202
    settle(scanned)
    assert states(scanned) == [TokenState.REVOKED]


@pytest.mark.parametrize("value", [None, {}, 1, "x", ["x"], [[]], [None]])
def test_a_signed_body_of_another_shape_is_a_plain_error(scanned: Any, github: Github, value: Any) -> None:
    assert sent(scanned, value, github).status_code == 400


@pytest.mark.parametrize("row", [{}, {"token": 1}, {"token": None, "url": []}, {"token": "\ud800", "url": "\0"}])
def test_odd_entries_are_taken_and_name_nothing(scanned: Any, github: Github, row: Any) -> None:
    assert sent(scanned, [row], github).status_code == 202
    settle(scanned)


def test_without_an_address_of_keys_no_signature_holds(app: Any, github: Github) -> None:
    assert sent(app, [], github).status_code == 400
    assert github.asked == 0


def test_keys_are_fetched_when_needed_and_not_for_every_made_up_one(github: Github) -> None:
    at = [0.0]
    keys = ScannerKeys(github.url, clock=lambda: at[0])

    def holds(name: str, by: str = "k1") -> bool:
        return keys.holds(name, github.sign(b"x", by)["Github-Public-Key-Signature"], b"x")

    assert [holds("k1"), holds("k1"), holds("no"), holds("never")] == [True, True, False, False]
    assert github.asked == 1
    github.keys["k2"] = ec.generate_private_key(ec.SECP256R1())
    assert not holds("k2", "k2")
    at[0] = PAUSE
    assert holds("k2", "k2")
    assert github.asked == 2
    at[0] += FRESH
    github.body = b"away"
    assert holds("k1")  # what is known stays known while nothing better comes
    at[0] += FRESH
    github.body, github.keys = None, {"k2": github.keys["k2"]}
    assert not keys.holds("k1", "AAAA", b"x")
    assert github.asked == 4


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"public_keys": 1}', b'{"public_keys": [{"key": "x"}]}', b"\xff"]
)
def test_a_list_of_keys_that_is_none_is_no_list(body: bytes) -> None:
    with pytest.raises(ValueError):
        read_keys(body)


def test_only_keys_on_p_256_count() -> None:
    key = _pem(ec.generate_private_key(ec.SECP384R1()))
    rows = [{"key_identifier": "k", "key": key}, {"key_identifier": "l"}, 1]
    assert read_keys(json.dumps({"public_keys": rows}).encode()) == {}
