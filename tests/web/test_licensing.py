"""Reading licenses, signing one through its pages, and what can go wrong on the way."""

import re
from datetime import timedelta
from hashlib import sha256
from html import unescape
from typing import Any

import pytest
import sqlalchemy as sa
import time_machine

from portal.accounts.models import User
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.licensing.models import Ceremony, Signature
from tests import conduct, licensed
from tests.site import Client, text_of

SIGN = "/licenses/bloom-rail/1.1.0/sign"


@pytest.fixture
def ann(app: Any) -> User:
    """A person with a verified address, and the license published in both versions."""
    with transaction(app.engine) as session:
        licensed.publish(session, utcnow())
        return conduct.person(session, "ann", utcnow())


@pytest.fixture
def browser(client: Client, ann: User) -> Client:
    return client.sign_in(ann)


def fill(page: str, **changed: Any) -> dict[str, Any]:
    """Fill the form of a sign page as a careful person would."""
    form = page[page.index('id="sign"') :]
    filled: dict[str, Any] = {
        name: unescape(value) for name, value in re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', form)
    }
    boxes = re.findall(r'<input type="checkbox" id="ack-[^"]*" name="acknowledged" value="([^"]*)"', form)
    filled |= {"acknowledged": boxes, "consent_electronic": "y", "typed_name": "Ann Müller"}
    return {**filled, **changed}


def html(answer: Any) -> str:
    return str(answer.get_data(as_text=True))


def confirmation(answer: Any) -> dict[str, Any]:
    """Take over what a confirm page would send."""
    fields: dict[str, Any] = {}
    main = html(answer)[html(answer).index("<main") :]
    for name, value in re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', main):
        fields.setdefault(name, []).append(unescape(value))
    return {name: values if name == "acknowledged" else values[0] for name, values in fields.items()}


def sign(browser: Client, path: str = SIGN, **changed: Any) -> Any:
    """Sign through the pages; returns the answer to the confirmation."""
    asked = browser.post(path, data=fill(html(browser.get(path)), **changed))
    assert asked.status_code == 200, text_of(asked)
    return browser.post(path, data=confirmation(asked))


def rows(app: Any, table: Any) -> list[Any]:
    with transaction(app.engine, write=False) as session:
        return list(session.scalars(sa.select(table)))


def test_the_list_and_the_history_say_what_is_in_force(client: Client, ann: User) -> None:
    listed = text_of(client.get("/licenses/"))
    assert "In force Version 1.1.0" in listed
    assert "Version 1.0.0" not in listed
    history = text_of(client.get("/licenses/bloom-rail"))
    assert history.index("Version 1.1.0") < history.index("Version 1.0.0")
    assert "Superseded" in history
    assert "What changed since 1.0.0" in history


@pytest.mark.parametrize("language", ["en", "fr", "es", "zh"])
def test_a_text_is_shown_whole_with_an_anchor_for_each_clause(client: Client, ann: User, language: str) -> None:
    page = html(client.get(f"/licenses/bloom-rail/1.1.0?lang={language}"))
    assert f'lang="{language}"' in page
    words = re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page)))
    version = licensed.dated("1.1.0", utcnow())
    for line in version.texts[language].decode().splitlines():
        plain = re.sub(r"^#+ (\S+ )?|\{#.*\}", "", line).strip()
        assert re.sub(r"\s+", " ", plain) in words, line
    assert all(f'id="{clause.key}"' in page for clause in version.clauses)
    assert sha256(version.texts[language]).hexdigest() in page
    assert page.count("<h1") == 1


def test_the_exact_bytes_are_handed_out(client: Client, ann: User) -> None:
    answer = client.get("/licenses/bloom-rail/1.1.0/text?lang=zh")
    assert answer.data == licensed.dated("1.1.0", utcnow()).texts["zh"]
    assert answer.headers["Content-Type"] == "text/markdown; charset=utf-8"
    again = client.get("/licenses/bloom-rail/1.1.0/text?lang=zh", headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304


def test_a_difference_is_shown_word_by_word_with_its_explanation(client: Client, ann: User) -> None:
    page = html(client.get("/licenses/bloom-rail/1.0.0...1.1.0"))
    assert "2 clauses differ" in page
    assert "<ins>" in page
    assert "Widened" in page
    assert "now covers false information spread recklessly" in page
    assert "62 clauses unchanged" in page
    turned = client.get("/licenses/bloom-rail/1.1.0...1.0.0?lang=fr")
    assert turned.status_code == 303
    assert turned.headers["Location"] == "/licenses/bloom-rail/1.0.0...1.1.0?lang=fr"
    assert client.get(turned.headers["Location"]).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/licenses/none", "/licenses/bloom-rail/9.9.9", "/licenses/none/1.0.0", "/licenses/bloom-rail/1.0.0?lang=xx",
        "/licenses/bloom-rail/1.0.0...9.9.9", "/licenses/bloom-rail/1.0.0...1.0.0", "/licenses/bloom-rail/...",
        "/licenses/bloom-rail/1.1.0/text?lang=", "/licenses/bloom-rail/1.0.0...1.1.0?lang=xx", "/licenses/%F0%9F%8C%B8",
    ],
)  # fmt: skip
def test_what_is_not_there_is_not_found(client: Client, ann: User, path: str) -> None:
    expected = 200 if path.endswith("lang=") else 404
    assert client.get(path).status_code == expected


def test_whoever_is_not_signed_in_is_led_to_sign_in_and_back(client: Client, ann: User) -> None:
    answer = client.get(SIGN)
    assert answer.status_code == 303
    assert "/login?next=" in answer.headers["Location"]
    assert not rows(client.app, Ceremony)


def test_signing_from_the_text_to_the_receipt(app: Any, browser: Client) -> None:
    page = html(browser.get(SIGN))
    assert len(re.findall(r'id="ack-', page)) == 13
    assert not re.search(r"<input[^>]* checked", page)
    asked = browser.post(SIGN, data=fill(page))
    assert "I, Ann Müller, sign the BLOOM Responsible Use License, version 1.1.0" in text_of(asked)
    assert not rows(app, Signature)
    done = browser.post(SIGN, data=confirmation(asked))
    assert done.status_code == 303
    where = done.headers["Location"]
    assert re.fullmatch(r"/settings/signatures/sig_\w+", where)
    seen = text_of(browser.get(where))
    assert "The receipt is being prepared" in seen
    assert "A.13 Malicious software" in seen
    assert browser.get(f"{where}/receipt.pdf").status_code == 404
    evidence = browser.get(f"{where}/evidence.json")
    assert evidence.json["signer"]["typed_name"] == "Ann Müller"
    assert sha256(evidence.data).hexdigest() in text_of(browser.get(where))
    assert "BLOOM Responsible Use License 1.1.0" in text_of(browser.get("/settings/signatures"))
    assert browser.get(SIGN).headers["Location"] == where


def test_a_signature_is_there_for_the_signer_alone(app: Any, browser: Client) -> None:
    where = sign(browser).headers["Location"]
    with transaction(app.engine) as session:
        bob = conduct.person(session, "bob", utcnow())
    other = Client(app).sign_in(bob)
    for path in (where, f"{where}/receipt.pdf", f"{where}/evidence.json", "/settings/signatures/sig_none"):
        assert other.get(path).status_code == 404
    assert "signed nothing yet" in text_of(other.get("/settings/signatures"))


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"acknowledged": []}, 'id="ack-restriction.unlawful_use-error"'),
        ({"consent_electronic": ""}, 'href="#consent_electronic"'),
        ({"typed_name": "  "}, 'href="#typed_name"'),
        ({"typed_name": "…"}, 'href="#typed_name"'),
        ({"typed_name": "x" * 201}, 'href="#typed_name"'),
    ],
)
def test_what_is_missing_is_named_and_all_that_was_typed_is_kept(
    app: Any, browser: Client, changed: dict[str, Any], error: str
) -> None:
    data = fill(html(browser.get(SIGN)), **changed)
    answer = browser.post(SIGN, data=data)
    assert answer.status_code == 422
    page = html(answer)
    assert error in page
    assert page.count('" checked') == len(data["acknowledged"]) + bool(data["consent_electronic"])
    assert f'value="{unescape(data["typed_name"]).strip()}"' in page or not data["typed_name"].strip()
    assert not rows(app, Signature)


@pytest.mark.threat("TM-23")
def test_one_skipped_box_is_enough_to_be_refused(app: Any, browser: Client) -> None:
    data = fill(html(browser.get(SIGN)))
    skipped = data["acknowledged"].pop(4)
    answer = browser.post(SIGN, data={**data, "confirmed": "yes"})
    assert answer.status_code == 422
    assert re.findall(r'id="ack-([^"]+)-error"', html(answer)) == [skipped]
    assert not rows(app, Signature)


@pytest.mark.threat("TM-23")
def test_sending_the_confirmation_twice_signs_once(app: Any, browser: Client) -> None:
    asked = browser.post(SIGN, data=fill(html(browser.get(SIGN))))
    first, second = (browser.post(SIGN, data=confirmation(asked)) for _ in range(2))
    assert first.headers["Location"] == second.headers["Location"]
    assert len(rows(app, Signature)) == 1


@pytest.mark.parametrize("changed", [{"nonce": "n" * 43}, {"nonce": ""}, {"shown_digest": "0" * 64}])
@pytest.mark.threat("TM-23")
def test_a_form_that_is_not_the_one_handed_out_is_refused(app: Any, browser: Client, changed: dict[str, Any]) -> None:
    answer = browser.post(SIGN, data=fill(html(browser.get(SIGN)), confirmed="yes", **changed))
    assert answer.status_code == 409
    assert f'href="{SIGN}' in html(answer)
    assert not rows(app, Signature)


@pytest.mark.threat("TM-23")
def test_the_form_of_somebody_else_is_refused(app: Any, browser: Client) -> None:
    theirs = fill(html(browser.get(SIGN)))
    with transaction(app.engine) as session:
        bob = conduct.person(session, "bob", utcnow())
    other = Client(app).sign_in(bob)
    own = fill(html(other.get(SIGN)))
    answer = other.post(SIGN, data={**own, "nonce": theirs["nonce"], "confirmed": "yes"})
    assert answer.status_code == 409
    assert not rows(app, Signature)


@pytest.mark.threat("TM-23")
def test_a_form_older_than_two_hours_is_refused_and_opening_again_helps(app: Any, browser: Client) -> None:
    data = fill(html(browser.get(SIGN)), confirmed="yes")
    with time_machine.travel(utcnow() + timedelta(hours=2, seconds=1)):
        assert browser.post(SIGN, data=data).status_code == 409
        fresh = fill(html(browser.get(SIGN)))
        assert fresh["nonce"] != data["nonce"]
        assert browser.post(SIGN, data=fresh).status_code == 200


@pytest.mark.threat("TM-18")
def test_a_newer_version_meanwhile_refuses_the_old_form(app: Any, client: Client) -> None:
    with transaction(app.engine) as session:
        licensed.publish(session, utcnow(), "1.0.0")
        user = conduct.person(session, "ann", utcnow())
    browser = client.sign_in(user)
    old = "/licenses/bloom-rail/1.0.0/sign"
    data = fill(html(browser.get(old)), confirmed="yes")
    with transaction(app.engine) as session:
        licensed.publish(session, utcnow(), "1.1.0")
    answer = browser.post(old, data=data)
    assert answer.status_code == 409
    assert "newer version" in text_of(answer)
    led = browser.get(f"{old}?lang=fr")
    assert (led.status_code, led.headers["Location"]) == (303, f"{SIGN}?lang=fr")


def test_signing_again_shows_what_changed_since_the_own_signature(app: Any, client: Client) -> None:
    with transaction(app.engine) as session:
        licensed.publish(session, utcnow(), "1.0.0")
        user = conduct.person(session, "ann", utcnow())
    browser = client.sign_in(user)
    assert sign(browser, "/licenses/bloom-rail/1.0.0/sign").status_code == 303
    with transaction(app.engine) as session:
        licensed.publish(session, utcnow(), "1.1.0")
    assert "See what changed since you signed" in text_of(browser.get("/settings/signatures"))
    page = text_of(browser.get(f"{SIGN}?lang=es"))
    assert page.index("What changed since you signed 1.0.0") < page.index("The text")
    done = sign(browser, f"{SIGN}?lang=es")
    assert done.status_code == 303
    seen = text_of(browser.get(done.headers["Location"]))
    assert "What changed since you signed before" in seen
    assert "Spanish" in seen


def test_people_who_may_not_sign_are_told_what_to_do(app: Any, client: Client, ann: User) -> None:
    with transaction(app.engine) as session:
        session.get_one(User, ann.id).profile.verified_at = None
    answer = client.sign_in(ann).get(SIGN)
    assert answer.status_code == 403
    assert "Confirm your e-mail address" in text_of(answer)
    with transaction(app.engine) as session:
        session.execute(
            sa.update(User).values(standing="suspended", standing_ref="san_x", standing_until=utcnow() + timedelta(1))
        )
    answer = client.get(SIGN)
    assert answer.status_code == 403
    assert 'href="/appeal/san_x"' in html(answer)


@pytest.mark.parametrize(
    "value", ["\0", "\ud7ff" * 300, "'; --", "<script>alert(1)</script>", "\u200b", "a\u0301" * 90]
)
def test_odd_words_are_taken_or_refused_but_never_break_the_page(app: Any, browser: Client, value: str) -> None:
    answer = browser.post(SIGN, data=fill(html(browser.get(SIGN)), typed_name=value, confirmed="yes"))
    assert answer.status_code in {303, 400, 422}
    assert "<script>alert" not in html(answer)


def test_a_visitor_is_offered_to_sign(client: Client, ann: User) -> None:
    assert "Sign this version" in text_of(client.get("/licenses/bloom-rail/1.1.0"))
