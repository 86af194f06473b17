"""Pages and programs' address about use: own records, everybody's for staff, and limits."""

import re
from typing import Any

import pytest

from gated_inference.page import EngineState, PoolState
from portal.accounts.models import User
from portal.accounts.rules import Role
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.tokens import service as tokens
from portal.usage.models import UsageRecord
from portal.usage.rules import Outcome, day_of
from tests.conduct import acting
from tests.factories import Make
from tests.site import Client, text_of

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def people(app: Any) -> dict[str, User]:
    with transaction(app.engine) as session:
        make = Make(session, utcnow())
        people = {
            "ann": make.person("ann"), "bob": make.person("bob"), "mo": make.person("mo", Role.MODERATOR),
            "ad": make.person("ad", Role.ADMIN), "ed": make.person("ed", Role.CARD_EDITOR),
        }  # fmt: skip
    use(app, people["ann"], 3)
    use(
        app,
        people["ann"],
        1,
        outcome=Outcome.REFUSED,
        reason_code="signature_due",
        prompt_tokens=0,
        completion_tokens=0,
    )
    use(app, people["bob"], 2, model_name="lab/other")
    use(app, None, 1, model_name=EVIL, outcome=Outcome.REFUSED, reason_code="not_signed_in")
    return people


def use(app: Any, user: User | None, times: int, **changed: Any) -> None:
    now = utcnow()
    with transaction(app.engine) as session:
        start = session.query(UsageRecord).count()
        for number in range(start, start + times):
            kept = {
                "model_name": "lab/gated", "prompt_tokens": 10, "completion_tokens": 20, "outcome": Outcome.FINISHED,
                **changed,
            }  # fmt: skip
            session.add(
                UsageRecord(
                    request_id=f"req_{number}", user_id=user.id if user else None, action="infer", channel="openai",
                    bytes_sent=5, ms=7, day=day_of(now), started_at=now, finished_at=now, **kept,
                )
            )  # fmt: skip


def test_people_see_their_own_use_and_nobody_elses(client: Client, people: dict[str, User]) -> None:
    answer = client.sign_in(people["ann"]).get("/settings/usage")
    assert answer.status_code == 200
    seen = text_of(answer)
    for part in ("3 of 2,000", "90 of 500,000", "signature_due", "req_0", "req_3", "Requests a day"):
        assert part in seen
    assert "lab/other" not in seen
    assert not re.search(r"\breq_4\b", seen)  # the page also shows the random id of its own request
    page = answer.get_data(as_text=True)
    assert page.index("req_3") < page.index("req_0")
    assert len(re.findall(r'<th scope="row">\d{4}-\d\d-\d\d</th>', page)) == 2  # two plots, today alone


def test_without_use_the_page_says_so(client: Client, people: dict[str, User]) -> None:
    assert "You have not used a model yet" in text_of(client.sign_in(people["ed"]).get("/settings/usage"))


def test_any_page_of_the_list_is_answered(client: Client, people: dict[str, User]) -> None:
    client.sign_in(people["mo"])
    for before in ("x", "-9", "9" * 40, "0", ""):
        for page in ("/settings/usage", "/staff/usage"):
            assert client.get(f"{page}?before={before}").status_code == 200


def test_a_long_list_goes_on(app: Any, client: Client, people: dict[str, User]) -> None:
    use(app, people["ann"], 60)
    client.sign_in(people["ann"])
    first = client.get("/settings/usage").get_data(as_text=True)
    older = re.findall(r'href="([^"]*)" rel="next"', first)[0]
    second = client.get(older).get_data(as_text=True)
    both = re.findall(r"<code>req_(\d+)</code></td>", first) + re.findall(r"<code>req_(\d+)</code></td>", second)
    assert len(both) == len(set(both)) == 64
    assert 'rel="next"' not in second
    assert 'href="/settings/usage" rel="prev"' in second


@pytest.fixture
def bearer(app: Any, people: dict[str, User]) -> dict[str, str]:
    return authorization(app, people["ann"], "usage:read")


def authorization(app: Any, user: User, scope: str) -> dict[str, str]:
    with transaction(app.engine) as session:
        _, secret = tokens.issue(
            session, by=acting(user), owner_id=user.id, name="tests", scopes=[scope], model_ids=[], days=1,
            pepper=app.settings.pepper, now=utcnow(),
        )  # fmt: skip
    return {"Authorization": f"Bearer {secret}"}


def test_programs_read_their_persons_use_page_by_page(app: Any, bearer: dict[str, str]) -> None:
    answer = app.test_client().get("/api/usage?limit=3", headers=bearer)
    assert answer.status_code == 200
    rows = answer.get_json()
    assert [row["request_id"] for row in rows] == ["req_3", "req_2", "req_1"]
    assert rows[1] | {"started_at": "", "finished_at": ""} == {
        "request_id": "req_2", "started_at": "", "finished_at": "", "model": "lab/gated", "action": "infer",
        "channel": "openai", "outcome": "finished", "reason_code": "", "prompt_tokens": 10, "completion_tokens": 20,
        "bytes_sent": 5, "ms": 7, "signature_set": None,
    }  # fmt: skip
    following = re.fullmatch(r'<(http://127\.0\.0\.1:8000/api/usage\?[^>]*)>; rel="next"', answer.headers["Link"])
    assert following is not None
    last = app.test_client().get(following[1].removeprefix("http://127.0.0.1:8000"), headers=bearer)
    assert [row["request_id"] for row in last.get_json()] == ["req_0"]
    assert "Link" not in last.headers
    assert len(app.test_client().get("/api/usage", headers=bearer).get_json()) == 4


def test_bad_numbers_are_named(app: Any, bearer: dict[str, str]) -> None:
    for name in ("limit", "before"):
        for value in ("0", "-1", "x", "", "1.5", "9" * 5_000, "٣", " 1"):
            answer = app.test_client().get("/api/usage", query_string={name: value}, headers=bearer)
            assert (answer.status_code, answer.get_json()["field"]) == (422, name), value
            assert answer.content_type == "application/problem+json"


def test_programs_need_the_scope(app: Any, client: Client, people: dict[str, User]) -> None:
    http = app.test_client()
    assert http.get("/api/usage").status_code == 401
    assert http.get("/api/usage", headers={"Authorization": "Bearer lmp_x"}).status_code == 401
    refused = http.get("/api/usage", headers=authorization(app, people["ann"], "inference"))
    assert (refused.status_code, refused.get_json()["code"]) == (403, "scope_missing")
    assert client.sign_in(people["ann"]).get("/api/usage").status_code == 401


def test_staff_see_everybodys_use(client: Client, people: dict[str, User]) -> None:
    answer = client.sign_in(people["mo"]).get("/staff/usage")
    seen = text_of(answer)
    for part in ("lab/gated", "lab/other", EVIL, "Ann", "Bob", "not signed in", "Requests a day", "Text tokens a day"):
        assert part in seen
    assert EVIL not in answer.get_data(as_text=True)


def test_staff_filter_by_person_model_and_outcome(client: Client, people: dict[str, User]) -> None:
    cases = [
        ("user=ann@conduct.example", {"0", "1", "2", "3"}), ("user=ANN@conduct.example&outcome=refused", {"3"}),
        ("model=lab/other", {"4", "5"}), ("outcome=refused", {"3", "6"}), ("user=nobody", set()),
        ("user=no@one.example", set()), ("outcome=nix", set()), ("model=%25", set()), ("user=%F0%9F%8C%B8", set()),
    ]  # fmt: skip
    client.sign_in(people["mo"])
    for query, there in cases:
        answer = client.get(f"/staff/usage?{query}")
        assert answer.status_code == 200
        assert set(re.findall(r"<code>req_(\d+)</code></td>", answer.get_data(as_text=True))) == there, query
        assert ("No record fits this filter" in text_of(answer)) is (not there)


def test_the_plot_of_one_person_counts_only_them(client: Client, people: dict[str, User]) -> None:
    client.sign_in(people["mo"])
    page = client.get(f"/staff/usage?user={people['bob'].public_id}").get_data(as_text=True)
    today = day_of(utcnow())
    figures = re.findall(rf'<th scope="row">{today}</th><td><data value="(\d+)"', page)
    assert figures == ["2", "60"]
    whole = client.get("/staff/usage").get_data(as_text=True)
    assert re.findall(rf'<th scope="row">{today}</th><td><data value="(\d+)"', whole)[0] == "7"


def test_the_filter_is_kept_from_page_to_page(app: Any, client: Client, people: dict[str, User]) -> None:
    use(app, people["ann"], 105)
    use(app, people["bob"], 5)
    page = client.sign_in(people["mo"]).get("/staff/usage?model=lab%2Fgated").get_data(as_text=True)
    older = re.findall(r'href="([^"]*)" rel="next"', page)[0].replace("&amp;", "&")
    assert "model=lab" in older
    rest = client.get(older).get_data(as_text=True)
    assert len(re.findall(r"<code>req_\d+</code></td>", page + rest)) == 100 + 14


def test_only_who_may_read_use_does(client: Client, people: dict[str, User]) -> None:
    for who, status in (("ann", 403), ("ed", 403), ("mo", 200), ("ad", 200)):
        assert client.sign_in(people[who]).get("/staff/usage").status_code == status


def test_an_admin_sets_a_persons_limits(client: Client, people: dict[str, User]) -> None:
    path = f"/staff/usage/quota/{people['ann'].public_id}"
    client.sign_in(people["ad"])
    assert "3 of 2,000" in text_of(client.get(path))
    done = client.submit(path, calls="5", text_tokens="1000")
    assert (done.status_code, done.headers["Location"]) == (303, path)
    assert "3 of 5" in text_of(client.get(path))
    assert "90 of 1,000" in text_of(client.sign_in(people["ann"]).get("/settings/usage"))
    assert path in client.sign_in(people["ad"]).get("/staff/usage?user=ann@conduct.example").get_data(as_text=True)
    assert client.sign_in(people["mo"]).get(path).status_code == 403


def test_bad_limits_are_answered_with_the_field_named(client: Client, people: dict[str, User]) -> None:
    path = f"/staff/usage/quota/{people['ann'].public_id}"
    client.sign_in(people["ad"])
    for field in ("calls", "text_tokens"):
        for value in ("", "-1", "x", "1000000001", "9" * 6_000, "1e3"):
            answer = client.submit(path, **{"calls": "5", "text_tokens": "5", field: value})
            assert answer.status_code == 422
            assert f'id="{field}-error"' in answer.get_data(as_text=True)


def test_limits_of_nobody_are_not_found(client: Client, people: dict[str, User]) -> None:
    assert client.sign_in(people["ad"]).get("/staff/usage/quota/usr_nobody").status_code == 404


STATE = PoolState(
    (
        EngineState("gpu.north", "north", ("lab/gated", "<b>"), 2.0, 30, 7, healthy=True, problem="", leaving=False),
        EngineState("gpu.south", "", (), 1.0, 8, 0, healthy=False, problem="answered 500", leaving=False),
    ),
    {"lab/gated": 3},
)


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        (STATE, ("gpu.north north lab/gated, <b> well 7 30 2", "left alone answered 500", "3 requests wait")),
        (None, ("The data plane does not answer just now", "/readyz")),
    ],
)
def test_staff_see_how_the_engines_do(
    app: Any, client: Client, people: dict[str, User], state: PoolState | None, shown: tuple[str, ...]
) -> None:
    use(app, people["ann"], 2, server="gpu.north", lab="north")
    app.extensions["inside"].engines = lambda: state
    answer = client.sign_in(people["mo"]).get("/staff/engines")
    seen = text_of(answer)
    assert answer.status_code == 200
    for part in (*shown, "north gpu.north 2 60 0"):
        assert part in seen
    assert client.sign_in(people["ann"]).get("/staff/engines").status_code == 403
