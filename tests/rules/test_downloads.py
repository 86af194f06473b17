"""Headers, ranges, names and refusals in the words of the Hub protocol."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.access.rules import Action, Decision, Reason
from portal.core.errors import NotFound, TooMany, Unauthenticated
from portal.downloads import rules
from portal.downloads.rules import HubError, Span
from portal.files.rules import Entry

SHA1, SHA256 = "a" * 40, "b" * 64
SMALL = Entry("sub dir/config.json", 120, SHA1, SHA256, lfs=False)
LARGE = Entry("model.safetensors", 7_000_000_000, SHA1, SHA256, lfs=True)
AT = datetime(2026, 1, 2, 3, 4, 5, 6789, tzinfo=UTC)
SIGN = "https://portal.example/licenses/bloom-rail/1.1.0/sign"
UNSIGNED = Reason("signature_missing", 4, True, "You have not signed BLOOM RAIL 1.1.0.", "Read and sign it.", SIGN)
ANONYMOUS = Reason("not_signed_in", 1, True, "You are not signed in.", "Sign in.", "https://portal.example/login")
DUE = Reason("signature_due", 4, False, "Sign 1.1.0 by 2026-02-01.", "See what changed.", SIGN, AT)


def decision(*reasons: Reason) -> Decision:
    return Decision(Action.DOWNLOAD, reasons)


def refused(*reasons: Reason, anonymous: bool = False) -> HubError:
    return rules.refusal(decision(*reasons), model="demo/m", anonymous=anonymous)


def of(code: str, stage: int, message: str = "No.", **kept: Any) -> Reason:
    return Reason(code, stage, True, message, **kept)


def test_a_missing_signature_is_gated_and_names_the_page_where_to_sign() -> None:
    error = refused(UNSIGNED)
    headers = dict(error.headers)
    assert (error.status, headers["X-Error-Code"]) == (403, "GatedRepo")
    assert headers["X-Error-Message"].startswith("Access to model demo/m is restricted.")
    assert SIGN in headers["X-Error-Message"]
    assert headers["X-HF-Warning"].startswith("license; ")
    assert SIGN in headers["X-HF-Warning"]
    assert "WWW-Authenticate" not in headers


def test_without_a_token_the_refusal_is_a_401_that_still_warns_of_the_signature() -> None:
    error = refused(ANONYMOUS, UNSIGNED, anonymous=True)
    headers = dict(error.headers)
    assert (error.status, headers["X-Error-Code"], headers["WWW-Authenticate"]) == (401, "GatedRepo", "Bearer")
    assert "log in" in headers["X-Error-Message"] or "not signed in" in headers["X-Error-Message"]
    assert SIGN in headers["X-HF-Warning"]


@pytest.mark.parametrize("code", ["access_token_invalid", "access_token_expired", "access_token_revoked"])
def test_an_unusable_token_gets_exactly_the_words_that_clients_look_for(code: str) -> None:
    error = refused(of(code, 3))
    assert error.status == 401
    assert dict(error.headers)["X-Error-Message"] == "Invalid credentials in Authorization header"
    assert "X-Error-Code" not in dict(error.headers)


def test_a_hidden_model_looks_missing() -> None:
    for anonymous, status, message in (
        (True, 401, "Invalid username or password."),
        (False, 404, "Repository not found"),
    ):
        error = refused(of("model_not_found", 2), anonymous=anonymous)
        assert (error.status, error.hub_code, error.message) == (status, "RepoNotFound", message)


def test_what_the_model_itself_forbids_comes_before_what_the_person_lacks() -> None:
    gone = refused(ANONYMOUS, of("model_withdrawn", 2), UNSIGNED, anonymous=True)
    assert (gone.status, gone.hub_code, gone.message) == (403, "", "Access to this resource is disabled.")
    empty = refused(ANONYMOUS, of("model_without_weights", 2, "No weights.", remedy_text="See the card.", url="u"))
    assert (empty.status, empty.hub_code, empty.message) == (404, "RevisionNotFound", "No weights. See the card. u")


def test_a_used_up_quota_says_when_to_come_back() -> None:
    headers = dict(refused(of("quota_calls", 6, "Used up.", retry_after=90)).headers)
    assert headers["Retry-After"] == "90"
    assert headers["RateLimit"] == '"resolvers";r=0;t=90'
    assert "X-Error-Code" not in headers


def test_a_refusal_without_a_signature_in_it_warns_of_its_first_reason() -> None:
    error = refused(of("standing_suspended", 1, "Suspended.", remedy_text="Appeal.", url="https://x/appeal"))
    assert dict(error.headers)["X-HF-Warning"] == "license; Suspended. Appeal: https://x/appeal"


def test_errors_of_use_cases_are_said_in_the_words_of_the_hub() -> None:
    def said(error: Any, *, anonymous: bool = False) -> tuple[int, str, str]:
        known = rules.translated(error, anonymous=anonymous)
        return known.status, known.hub_code, known.message

    assert said(NotFound("revision_not_found", "Invalid rev id: x")) == (404, "RevisionNotFound", "Invalid rev id: x")
    assert said(NotFound("entry_not_found", "none")) == (404, "EntryNotFound", "none")
    assert said(NotFound("model_not_found", "x"), anonymous=True)[:2] == (401, "RepoNotFound")
    assert said(NotFound("model_without_weights", "No weights.")) == (404, "RevisionNotFound", "No weights.")
    assert said(Unauthenticated("access_token_expired", "x")) == (401, "", rules.INVALID_CREDENTIALS)
    assert said(rules.entry_missing(SHA1)) == (404, "EntryNotFound", "Entry not found")
    assert said(NotFound("else", "Else.")) == (404, "", "Else.")
    assert rules.translated(TooMany("limit", "Wait.", retry_after=3), anonymous=False).retry_after == 3


def test_a_database_that_is_away_is_a_503_that_says_when_to_come_back() -> None:
    headers = dict(rules.database_away().headers)
    assert (rules.database_away().status, headers["Retry-After"]) == (503, "5")
    assert "does not answer just now" in headers["X-Error-Message"]


def test_a_missing_file_names_its_commit_so_that_clients_can_remember() -> None:
    assert ("X-Repo-Commit", SHA1) in rules.entry_missing(SHA1).headers
    assert rules.revision_missing("v9").message == "Invalid rev id: v9"


def test_warnings_are_sent_with_the_file_only_when_something_is_due() -> None:
    assert rules.warnings(decision(DUE)) == [
        ("X-HF-Warning", f"license; Sign 1.1.0 by 2026-02-01. See what changed: {SIGN}")
    ]
    assert rules.warnings(decision()) == []


@given(st.text())
def test_a_header_is_one_line_of_printable_latin_1(text: str) -> None:
    line = rules.one_line(text)
    assert len(line) <= rules.LINE_MAX
    assert line.encode("latin-1").decode("latin-1") == line
    assert all(c.isprintable() for c in line)


@pytest.mark.parametrize(
    ("raw", "parts"),
    [
        ("/demo/m/resolve/main/config.json", ("demo/m", "main", "config.json")),
        ("//demo/m/resolve/rel%2F1.0/sub%20dir/a%2Bb%20%231.txt", ("demo/m", "rel/1.0", "sub dir/a+b #1.txt")),
        ("/demo/m/resolve/main/d\u00c3\u00a9", ("demo/m", "main", "d\u00e9")),
        ("/demo/m/resolve/main/d\u4e2d", ("demo/m", "main", "d\u4e2d")),
        ("/demo/m/resolve/main/%FF", ("demo/m", "main", "\ufffd")),
    ],
)
def test_a_slash_within_a_revision_is_told_from_one_after_it(raw: str, parts: tuple[str, ...]) -> None:
    assert rules.split_resolve(raw) == parts


@pytest.mark.parametrize("raw", ["/demo/m/resolve/main", "/demo/m/raw/main/x", "/"])
def test_what_names_no_file_is_a_missing_entry(raw: str) -> None:
    with pytest.raises(HubError, match="Entry not found"):
        rules.split_resolve(raw)


def test_the_revision_of_other_addresses_stands_after_a_fixed_number_of_segments() -> None:
    assert rules.after("/api/models/tree/tree/tree/rel%2F1/a/b%2Fc", 5) == ("rel/1", "a/b/c")
    assert rules.after("/demo/m/tree", 3) == ("main", "")


def test_a_large_file_has_its_sha_256_as_etag_and_linked_size() -> None:
    headers = dict(rules.file_headers(LARGE, SHA1))
    assert headers["ETag"] == headers["X-Linked-Etag"] == f'"{SHA256}"'
    assert headers["X-Linked-Size"] == "7000000000"
    assert headers["X-Repo-Commit"] == SHA1
    assert not any(name.lower().startswith("x-xet") for name in headers)


def test_a_regular_file_has_its_git_object_id_as_etag_and_is_never_shown_in_place() -> None:
    headers = dict(rules.file_headers(SMALL, SHA1))
    assert headers["ETag"] == f'"{SHA1}"'
    assert "X-Linked-Size" not in headers
    assert headers["Content-Disposition"].startswith("attachment; ")


@pytest.mark.threat("TM-31")
def test_a_file_name_cannot_break_out_of_its_header() -> None:
    assert rules.disposition('a"\r\n\u00e9%.txt') == (
        "attachment; filename*=UTF-8''a%22%0D%0A%C3%A9%25.txt; filename=\"a_____.txt\";"
    )


@pytest.mark.parametrize(
    ("header", "span"),
    [
        (None, Span(0, 10, partial=False)),
        ("items=0-1", Span(0, 10, partial=False)),
        ("bytes=0-0", Span(0, 1, partial=True)),
        ("bytes=3-", Span(3, 7, partial=True)),
        ("Bytes = 3-".replace(" ", ""), Span(3, 7, partial=True)),
        ("bytes=3-99", Span(3, 7, partial=True)),
        ("bytes=-4", Span(6, 4, partial=True)),
        ("bytes=-99", Span(0, 10, partial=True)),
        ("bytes=10-", None),
        ("bytes=5-4", None),
        ("bytes=-0", None),
        ("bytes=0-1,3-4", None),
        ("bytes=", None),
        ("bytes=a-b", None),
        (f"bytes={'9' * 30}-", None),
    ],
)
def test_one_range_in_bytes_is_served_and_what_cannot_be_met_is_not(header: str | None, span: Span | None) -> None:
    assert rules.span_of(header, 10) == span


def test_an_empty_file_has_no_range() -> None:
    assert rules.span_of(None, 0) == Span(0, 0, partial=False)
    assert rules.span_of("bytes=0-", 0) is None
    assert rules.span_of("bytes=-5", 0) is None


def test_if_range_with_other_bytes_asks_for_the_whole_file() -> None:
    assert rules.span_of("bytes=3-", 10, if_range='"new"', etag='"old"') == Span(0, 10, partial=False)
    assert rules.span_of("bytes=3-", 10, if_range='W/"old"', etag='"old"') == Span(0, 10, partial=False)
    assert rules.span_of("bytes=3-", 10, if_range='"old"', etag='"old"') == Span(3, 7, partial=True)


@given(st.integers(0, 500), st.integers(0, 600), st.integers(0, 600))
def test_a_range_never_leaves_the_file(size: int, first: int, last: int) -> None:
    for header in (f"bytes={first}-{last}", f"bytes={first}-", f"bytes=-{last}"):
        span = rules.span_of(header, size)
        if span is not None:
            assert span.length > 0
            assert 0 <= span.start < span.start + span.length <= size


def test_only_a_partial_answer_says_which_bytes_it_has() -> None:
    assert Span(3, 4, partial=True).content_range(10) == [("Content-Range", "bytes 3-6/10")]
    assert Span(0, 10, partial=False).content_range(10) == []


def test_flags_are_read_as_both_client_generations_write_them() -> None:
    assert [rules.wants(v) for v in ("true", "True", "1", "False", "0", "", None)] == [True] * 3 + [False] * 4


def test_numbers_of_a_query_are_cut_and_nonsense_is_refused_by_name() -> None:
    assert rules.whole(None, "limit", 50, 100) == rules.whole("", "limit", 50, 100) == 50
    assert rules.whole("7", "limit", 50, 100) == 7
    assert rules.whole("900", "limit", 50, 100) == 100
    for wrong in ("-1", "x", "1.5", "\u00b2", "9" * 40, "1e3"):
        with pytest.raises(HubError, match="limit") as caught:
            rules.whole(wrong, "limit", 50, 100)
        assert caught.value.status == 400


def test_pages_follow_each_other_without_gap_or_repetition() -> None:
    rows, seen, start = list(range(10)), [], 0
    while start is not None:
        part, start = rules.page(rows, start, 4)
        seen += part
    assert seen == rows
    assert rules.page(rows, 0, 0) == ([0], 1)
    assert rules.page(rows, 99, 4) == ([], None)


def test_the_name_of_a_token_at_a_client_is_plain_and_its_own() -> None:
    assert rules.client_name("My laptop] \u00e9", "tok_1") == "My-laptop-tok_1"
    assert rules.client_name("\u4e2d\u6587", "tok_1") == "tok_1"


def test_journal_lines_of_a_delivery_hold_what_the_ledger_reads() -> None:
    line = rules.delivery_started(
        request_id="req_1", at=AT, user_id=1, access_token_id=2, release_id=3, entry=LARGE, range_start=4,
        signature_ids=[6, 5], card_revision_id=7,
    )  # fmt: skip
    assert line == {
        "kind": "delivery_started", "id": "req_1", "at": AT.isoformat(), "user_id": 1, "access_token_id": 2,
        "release_id": 3, "path": LARGE.path, "file_sha256": SHA256, "size": LARGE.size, "range_start": 4,
        "signature_ids": [5, 6], "card_revision_id": 7,
    }  # fmt: skip
    assert rules.delivery_finished(request_id="req_1", at=AT, bytes_sent=8) == {
        "kind": "delivery_finished", "id": "req_1", "at": AT.isoformat(), "bytes_sent": 8,
    }  # fmt: skip
