"""A model of 330 GB in 72 shards, and one of 10,000 files: described without reading a shard, listed page by page."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from portal.core.actor import SYSTEM
from portal.files import service as files
from portal.files.service import Staged
from portal.storage.service import Reading
from tests.factories import CARD, staged_of
from tests.planes import data_plane
from tests.web.shelf import Site

SHARDS, SHARD = 72, 4_600_000_000
MANY = 10_000
OPENED: list[str] = []
WATCHING: list[str] = []


def _watch(event: str, args: tuple[Any, ...]) -> None:
    if WATCHING and event == "open" and isinstance(args[0], str) and args[0].startswith(WATCHING[0]):
        OPENED.append(args[0])


sys.addaudithook(_watch)


@contextmanager
def opened(site: Site) -> Iterator[list[str]]:
    """The stored files that anything opens meanwhile."""
    OPENED.clear()
    WATCHING.append(str(site.app.extensions["store"].root / "sha256"))
    try:
        yield OPENED
    finally:
        WATCHING.clear()


@contextmanager
def asked(site: Site) -> Iterator[list[str]]:
    """What the database is asked meanwhile."""
    questions: list[str] = []

    def note(_c: object, _cursor: object, statement: str, *_rest: object) -> None:
        questions.append(statement)

    sa.event.listen(site.app.engine, "before_cursor_execute", note)
    try:
        yield questions
    finally:
        sa.event.remove(site.app.engine, "before_cursor_execute", note)


def release(site: Site, name: str, staged: list[Staged]) -> None:
    from portal.access import service as access
    from portal.catalog import service as catalog

    with site.make() as make:
        model, license_ = make.model(name), make.license()
        commit = files.commit_files(
            make.session, model_id=model.id, staged=staged, message="Large", by=SYSTEM, now=make.now
        )
        access.require_license(make.session, model_id=model.id, license_id=license_.id, now=make.now)
        catalog.release(
            make.session, model=model, revision=commit.revision, license_slug=license_.slug, license_number="2.0.0",
            by=SYSTEM, now=make.now,
        )  # fmt: skip


@pytest.fixture
def bloom(site: Site) -> Site:
    """A site with a model of the size of BLOOM: its shards are holes on the disk, and their digests made up."""
    store = site.app.extensions["store"]
    shards = []
    for number in range(1, SHARDS + 1):
        digest = f"{number:02x}" * 32
        store.path(digest).parent.mkdir(parents=True, exist_ok=True)
        with store.path(digest).open("wb") as shard:
            shard.truncate(SHARD)
        path = f"model_{number:05}-of-{SHARDS:05}.safetensors"
        shards.append(Staged(path, digest, SHARD, f"{number:040x}", lfs=True, parameters={"BF16": SHARD // 2}))
    release(site, "big/bloom", [*shards, staged_of("README.md", CARD.encode())])
    return site


def test_a_repository_of_330_gb_is_described_listed_and_looked_through_without_opening_a_shard(bloom: Site) -> None:
    api, total = "/api/models/big/bloom", SHARDS * SHARD
    _, key = bloom.person("ann")
    with data_plane(bloom.app.settings) as plane, opened(bloom) as touched:
        info = bloom.json(f"{api}?blobs=true")
        assert info["usedStorage"] == total + len(CARD.encode())
        assert info["safetensors"]["total"] == total // 2
        assert sum(s["size"] for s in info["siblings"] if "lfs" in s) == total
        tree = bloom.json(f"{api}/tree/main?recursive=true&expand=true")
        assert len(tree) == SHARDS + 1
        last = tree[-1]["path"]
        assert bloom.client.post(f"{api}/paths-info/main", json={"paths": [last]}).get_json()[0]["size"] == SHARD
        page = bloom.client.get("/big/bloom/tree/main").get_data(as_text=True)
        assert page.count(".safetensors</a>") == SHARDS
        for path in (
            "/big/bloom",
            "/big/bloom/commits/main",
            f"{api}/refs",
            f"{api}/commits/main",
            "/api/models?full=1",
        ):
            assert bloom.client.get(path).status_code == 200
        head = plane.head(f"/big/bloom/resolve/main/{last}", headers=key)
        assert (head.status_code, head.headers["Content-Length"]) == (200, str(SHARD))
        store, reading = bloom.app.extensions["store"], Reading(bloom.app.extensions["store"])
        assert {reading.flaw(f"{n:02x}" * 32, SHARD, contents=False) for n in range(1, SHARDS + 1)} == {None}
    assert touched == []
    with data_plane(bloom.app.settings) as plane, opened(bloom) as touched:
        tail = plane.get(f"/big/bloom/resolve/main/{last}", headers={**key, "Range": "bytes=-8"})
        assert (tail.status_code, tail.content) == (206, bytes(8))
        assert tail.headers["Content-Range"] == f"bytes {SHARD - 8}-{SHARD - 1}/{SHARD}"
    assert touched == [str(store.path(f"{SHARDS:02x}" * 32))], "the watch sees what is opened"


def pages(site: Site, path: str) -> Iterator[list[dict[str, Any]]]:
    while path:
        answer = site.client.get(path)
        assert answer.status_code == 200
        yield answer.get_json()
        link = answer.headers.get("Link", "")
        path = link.partition(">")[0].removeprefix(f"<{site.app.settings.base_url}") if link else ""


def test_ten_thousand_files_cost_each_page_as_few_questions_and_rows_as_ten(site: Site) -> None:
    names = [f"data/{n % 100:02}/part-{n:05}.bin" for n in range(MANY)]
    release(site, "big/many", [staged_of(name, name.encode()) for name in names])
    release(site, "big/few", [staged_of(name, name.encode()) for name in names[:10]])
    for query in ("recursive=true", "recursive=true&expand=true", "expand=true"):
        counts = []
        for model in ("few", "many"):
            with asked(site) as questions:
                assert site.client.get(f"/api/models/big/{model}/tree/main?{query}").status_code == 200
            counts.append(len(questions))
            of_trees = [q for q in questions if "FROM tree_entry" in q and "tree_entry.git_oid" in q]
            assert all("LIMIT" in q or "tree_entry.path IN" in q for q in of_trees), of_trees
        assert counts[0] == counts[1] < 25, (query, counts)
    seen: list[str] = []
    for rows in pages(site, "/api/models/big/many/tree/main?recursive=true"):
        assert len(rows) <= 1000
        seen += [row["path"] for row in rows]
    folders = {"data", *(f"data/{n:02}" for n in range(100))}
    assert seen == sorted({*names, *folders})
    assert len(site.json("/api/models/big/many")["siblings"]) == MANY


def test_a_folder_of_many_files_is_read_in_pages_by_people_too(site: Site) -> None:
    names = [f"part-{n:03} é&.bin" for n in range(250)]
    release(site, "big/flat", [staged_of(name, name.encode()) for name in names])
    path, seen = "/big/flat/tree/main", []
    while path:
        html = site.client.get(path).get_data(as_text=True)
        seen += re.findall(r'<th scope="row"><a href="[^"]+">([^<]+)</a>', html)
        following = re.findall(r'href="(/big/flat/tree/main\?after=[^"]+)"', html)
        path = following[0].replace("&amp;", "&") if following else ""
    assert seen == [name.replace("&", "&amp;") for name in names]
