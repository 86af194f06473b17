"""The editors' desk as its pages are used: from a draft to an approved version, by form."""

import re
from datetime import timedelta
from html import unescape
from typing import Any

from portal.core.clock import utcnow
from tests.site import Client, text_of

DESK = "/staff/licenses/bloom-rail"
SUMMARY = {f"summary-{language}": f"New in {language}." for language in ("en", "es", "fr", "zh")}


def html(answer: Any) -> str:
    return str(answer.get_data(as_text=True))


def csrf(desk: Client) -> str:
    return unescape(re.findall(r'name="csrf_token" value="([^"]*)"', html(desk.get("/staff/licenses")))[0])


def post(desk: Client, path: str, **fields: Any) -> Any:
    return desk.post(path, data={**fields, "csrf_token": csrf(desk)})


def draft(desk: Client, number: str = "1.2.0") -> str:
    answer = post(desk, f"{DESK}/draft", number=number)
    assert answer.status_code == 303, text_of(answer)
    return str(answer.headers["Location"])


def words(desk: Client, number: str, language: str) -> str:
    page = html(desk.get(f"{DESK}/{number}/text?lang={language}"))
    return unescape(re.findall(r"<textarea[^>]*>\n(.*?)</textarea>", page, re.DOTALL)[0])


def edit(desk: Client, number: str, old: str, new: str, *languages: str) -> None:
    """Change the words of a draft; browsers send line ends their own way."""
    for language in languages or ("en", "es", "fr", "zh"):
        text = words(desk, number, language)
        assert old in text
        sent = text.replace(old, new).replace("\n", "\r\n")
        assert post(desk, f"{DESK}/{number}/text?lang={language}", text=sent).status_code == 303


def said(relation: str = "widened", key: str = "restriction.unlawful_use", why: str = "It reaches further.") -> Any:
    return {**SUMMARY, f"relation-{key}": relation, f"explanation-{key}": why, "materiality": "material"}


def ready(desk: Client, number: str = "1.2.0", weight: str = "material") -> None:
    """Make a complete draft that widens A.1."""
    draft(desk, number)
    edit(desk, number, "{#restriction.unlawful_use}\n\n", "{#restriction.unlawful_use}\n\nNever. ")
    assert post(desk, f"{DESK}/{number}/description", **{**said(), "materiality": weight}).status_code == 303


def go(client: Client, step: str, number: str = "1.2.0", **fields: Any) -> Any:
    """Take a step by its page: open it, fill it, send it."""
    return client.submit(f"{DESK}/{number}/{step}", **fields)


def vote(desk: Client) -> None:
    """Record that the licensor's body stands behind the version in review."""
    day, votes = (utcnow() - timedelta(days=1)).date().isoformat(), {"for": 9, "against": 1, "abstain": 0}
    fields = {f"votes_{side}": str(number) for side, number in votes.items()}
    sent = go(desk, "resolution", body="Steering body", decided_at=day, minutes_sha256="a" * 64, **fields)
    assert sent.status_code == 303, text_of(sent)


def approved(desk: Client, second: Client, weight: str = "material") -> None:
    ready(desk, weight=weight)
    assert go(desk, "submit").status_code == 303
    vote(desk)
    answer = go(second, "approve")
    assert answer.status_code == 303, text_of(answer)


def confirmation(answer: Any) -> dict[str, str]:
    main = html(answer)[html(answer).index("<main") :]
    return {name: unescape(value) for name, value in re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', main)}
