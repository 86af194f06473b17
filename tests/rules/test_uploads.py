"""Addresses that are signed, lines of a commit, and the tree they make: rules alone."""

from dataclasses import replace

import pytest

from portal.core.errors import PortalError
from portal.files.rules import Entry
from portal.uploads import rules
from portal.uploads.rules import Add, Delete, Ticket

TICKET = Ticket("upl_a", 0, 1000, "usr_a", "0" * 64, 5)


def entry(path: str) -> Entry:
    return Entry(path, 1, "1" * 40, "2" * 64)


@pytest.mark.threat("TM-16")
def test_an_address_is_good_for_exactly_what_it_was_made_for() -> None:
    seal = TICKET.seal("new key")
    TICKET.check(seal, ["other", "new key"], 999.9)
    changed = [
        replace(TICKET, ref="upl_b"), replace(TICKET, part=1), replace(TICKET, expires=2000),
        replace(TICKET, person="usr_b"), replace(TICKET, digest="1" * 64), replace(TICKET, size=6),
    ]  # fmt: skip
    for other in changed:
        with pytest.raises(PortalError) as caught:
            other.check(seal, ["new key"], 0)
        assert caught.value.code == "upload_signature"
    with pytest.raises(PortalError, match="not made here"):
        TICKET.check(seal, ["another key"], 0)
    with pytest.raises(PortalError, match="expired"):
        TICKET.check(seal, ["new key"], 1000)


@pytest.mark.parametrize("size", [rules.PART + 1, 3 * rules.PART, 5 * rules.PART + 7, 700 << 30])
def test_parts_make_up_the_file(size: int) -> None:
    part = rules.divided(size, ["basic", "multipart"])
    parts = rules.part_sizes(size, part)
    assert sum(parts) == size
    assert 1 < len(parts) <= rules.PARTS_MOST
    assert set(parts[:-1]) == {part}
    assert 0 < parts[-1] <= part
    assert rules.divided(size, ["basic"]) == rules.divided(rules.PART, ["multipart"]) == 0
    assert rules.part_sizes(size, 0) == [size]


def test_changes_are_made_in_their_order() -> None:
    before = [entry("a"), entry("b/c"), entry("b/d"), entry("bc")]
    after = rules.changed(before, [Delete("b", folder=True), entry("b"), Delete("a"), entry("e/f")])
    assert set(after) == {"b", "bc", "e/f"}
    for gone in (Delete("none"), Delete("none", folder=True), Delete("b"), Delete("a", folder=True)):
        with pytest.raises(PortalError) as caught:
            rules.changed(before, [gone])
        assert caught.value.code == "entry_not_found"


@pytest.mark.parametrize(
    "paths", [("a", "A"), ("é", "e\u0301"), ("x", "x/y"), ("X/y", "x"), ("a/b", "A/c"), ("straße", "STRASSE")]
)
def test_files_that_some_disks_cannot_tell_apart_are_refused(paths: tuple[str, str]) -> None:
    for order in (paths, paths[::-1]):
        with pytest.raises(PortalError) as caught:
            rules.check_distinct(order)
        assert caught.value.code == "path_collision"
    rules.check_distinct(["a/b", "a/c", "ab", "b"])


def test_a_body_is_cut_into_lines_wherever_its_pieces_end() -> None:
    body = b"one\n\ntwo\nthree"
    for size in range(1, len(body) + 1):
        pieces = [body[start : start + size] for start in range(0, len(body), size)]
        assert list(rules.lines_of(pieces)) == [b"one", b"", b"two", b"three"]
    for pieces in ([b"x" * rules.LINE_MOST, b"xx"], [b"x" * (rules.LINE_MOST + 1) + b"\n"]):
        with pytest.raises(PortalError, match="Send the file by LFS"):
            list(rules.lines_of(pieces))


def test_operations_are_read_as_clients_write_them() -> None:
    assert rules.operation_of("file", {"path": "a", "content": "eA==", "encoding": "base64"}) == Add("a", content=b"x")
    assert rules.operation_of("lfsFile", {"path": "a", "oid": "0" * 64}) == Add("a", "0" * 64)
    assert rules.operation_of("lfsFile", {"path": "a", "oid": "0" * 64, "size": 5}) == Add("a", "0" * 64, 5)
    assert rules.operation_of("deletedFolder", {"path": "a/"}) == Delete("a", folder=True)
    assert rules.header_of({"summary": "S", "description": "D"}).message == "S\n\nD"
    assert rules.header_of({}).message == ""


@pytest.mark.parametrize("agent", ["unknown/None; hf_hub/1.0.0; x", "hf_hub/2.4.0"])
def test_clients_that_try_xet_are_known_by_their_version(agent: str) -> None:
    assert rules.tries_xet(agent)
    assert not rules.tries_xet(agent.replace("hf_hub/1", "hf_hub/0").replace("hf_hub/2", "hf_hub/0"))
