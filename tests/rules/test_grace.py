"""From the day a version is in force to the day it binds: what each channel lets through, and says in its headers."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest

from gated_inference import answers
from portal.access.edge import Admission
from portal.access.rules import Action, Decision, Facts, Follows, Grace, RequirementFact, decide
from portal.core.actor import Actor
from portal.downloads import rules as hub
from portal.licensing.rules import Materiality, SignatureFact, VersionFact

START = datetime(2026, 12, 1, tzinfo=UTC)
REQUIRED = datetime(2026, 12, 31, tzinfo=UTC)
SECOND = timedelta(seconds=1)
OLD = VersionFact(1, "1.0.0", 1, Materiality.MATERIAL, START - 900 * SECOND, START - 900 * SECOND)
NEW = VersionFact(2, "2.0.0", 2, Materiality.MATERIAL, START, REQUIRED)
PAGE = "https://portal.example/licenses/rail/2.0.0/sign"
WHEN = {
    "the second before": START - SECOND, "the start": START, "within": START + (REQUIRED - START) / 2,
    "the last second": REQUIRED - SECOND, "the end": REQUIRED, "long after": REQUIRED + timedelta(days=900),
}  # fmt: skip
REACHED = {"2.0.0": START - timedelta(days=20)}


def facts(grace: Grace, *, reached: bool = True) -> Facts:
    requirement = RequirementFact(
        slug="rail", title="RAIL", follows=Follows.LICENSE, grace=grace, pinned="1.0.0", versions=(OLD, NEW),
        signatures=(SignatureFact(1, "sig_old", 1, 1),), reached=REACHED if reached else {},
    )  # fmt: skip
    return Facts(
        base_url="https://portal.example", model_name="lab/model", signed_in=True, verified=True,
        requirements=(requirement,),
    )  # fmt: skip


def inference(known: Facts, at: datetime) -> str:
    """The OpenAI-compatible address: `Sunset` says until when."""
    answer = decide(known, Action.INFER, at)
    if not answer.allowed:
        refused = answers.refusal(answer, "lab/model")
        return f"{refused.status} {refused.code}"
    fields = answers.terms(Admission(Actor(), answer, Action.INFER, "lab/model", known, license_number="rail/1.0.0"))
    sunset = [value for name, value in fields if name == "Sunset"]
    linked = ("Link", f'<{PAGE}>; rel="sunset"') in fields
    assert bool(answers.due_comment(answer)) == linked
    if sunset:
        assert parsedate_to_datetime(sunset[0]) == REQUIRED
    return "ok, sunset" if sunset and linked else "ok, to sign" if linked else "ok"


def download(known: Facts, at: datetime) -> str:
    """The Hub's address of bytes: `X-HF-Warning` says it to whoever may and to whoever may not."""
    answer = decide(known, Action.DOWNLOAD, at)
    if answer.allowed:
        fields = dict(hub.warnings(answer))
    else:
        error = hub.refusal(answer, model="lab/model", anonymous=False)
        fields = dict(error.headers)
        assert (error.status, fields["X-Error-Code"]) == (403, "GatedRepo")
    warning = fields.get("X-HF-Warning", "")
    if warning:
        assert warning.startswith("license; ")
        assert warning.endswith(PAGE)
    dated = ", by the day" if "by 2026-12-31" in warning else ", warned" if warning else ""
    return ("ok" if answer.allowed else answer.blocking[0].code) + dated


def copied(known: Facts, at: datetime) -> str:
    """The same for somebody who holds a whole copy."""
    return download(replace(known, holds_copy=True), at)


def running(known: Facts, at: datetime) -> str:
    """A stream that was admitted before."""
    return "ok" if decide(replace(known, already_running=True), Action.INFER, at).allowed else "cut"


def plain(action: Action, known: Facts, at: datetime) -> str:
    """The portal's own addresses: a reason with its date, `by`, whether it blocks or warns."""
    answer: Decision = decide(known, action, at)
    due = next((r for r in answer.reasons if r.code.startswith("signature_")), None)
    assert due is None or due.url == PAGE
    return ("ok" if answer.allowed else "no") + (f", {due.state}" if due else "")


def renewal(known: Facts, at: datetime) -> str:
    return plain(Action.RENEW, known, at)


def page(known: Facts, at: datetime) -> str:
    return plain(Action.READ, known, at)


def request(known: Facts, at: datetime) -> str:
    return plain(Action.ASK, known, at)


BEFORE, GRACE, AFTER = ("the second before",), ("the start", "within", "the last second"), ("the end", "long after")
TABLE = {
    # channel, profile: before, in grace, after
    (inference, Grace.STANDARD): ("ok", "ok, sunset", "403 signature_lapsed"),
    (inference, Grace.STRICT): ("ok", "ok, sunset", "403 signature_lapsed"),
    (running, Grace.STANDARD): ("ok", "ok", "ok"),
    (running, Grace.STRICT): ("ok", "ok", "ok"),
    (download, Grace.STANDARD): ("ok", "signature_due, by the day", "signature_lapsed, warned"),
    (download, Grace.STRICT): ("ok", "signature_due, by the day", "signature_lapsed, warned"),
    (copied, Grace.STANDARD): ("ok", "ok, by the day", "signature_lapsed, warned"),
    (copied, Grace.STRICT): ("ok", "signature_due, by the day", "signature_lapsed, warned"),
    (renewal, Grace.STANDARD): ("ok", "no, unmet", "no, unmet"),
    (renewal, Grace.STRICT): ("ok", "no, unmet", "no, unmet"),
    (request, Grace.STANDARD): ("ok", "ok, due", "no, unmet"),
    (request, Grace.STRICT): ("ok", "no, unmet", "no, unmet"),
    (page, Grace.STANDARD): ("ok", "ok, due", "ok, due"),
    (page, Grace.STRICT): ("ok", "ok, due", "ok, due"),
}
UNREACHED = {
    inference: "ok, to sign", running: "ok", copied: "ok, warned", download: "signature_due, warned",
    renewal: "no, unmet", request: "ok, due", page: "ok, due",
}  # fmt: skip


@pytest.mark.parametrize(("channel", "grace"), TABLE, ids=lambda part: getattr(part, "__name__", str(part)))
def test_each_channel_before_in_and_after_grace(channel: object, grace: Grace) -> None:
    assert callable(channel)
    for phase, expected in zip((BEFORE, GRACE, AFTER), TABLE[channel, grace], strict=True):  # type: ignore[index]
        assert {name: channel(facts(grace), WHEN[name]) for name in phase} == dict.fromkeys(phase, expected)


@pytest.mark.parametrize("channel", UNREACHED, ids=lambda channel: channel.__name__)
def test_whoever_no_news_reached_stays_in_grace_without_a_date(channel: object) -> None:
    assert callable(channel)
    known = facts(Grace.STANDARD, reached=False)
    found = {name: channel(known, WHEN[name]) for name in GRACE + AFTER}
    assert found == dict.fromkeys(GRACE + AFTER, UNREACHED[channel])  # type: ignore[index]


def test_the_table_covers_every_profile_and_action() -> None:
    assert {grace for _, grace in TABLE} == set(Grace)
    assert len({channel for channel, _ in TABLE}) == len(Action) + 2  # a copy held, and a stream that runs
