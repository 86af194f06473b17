"""The tree, its proofs and its checkpoints, against the definitions of RFC 9162 written down naively."""

import random
from base64 import b64decode
from collections.abc import Sequence
from functools import cache
from hashlib import sha256

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from portal.core.errors import Invalid
from portal.proofs import rules
from portal.proofs.rules import Edge

SIZES = st.integers(1, 300)


def root(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 9162, 2.1.1."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + root(leaves[:k]) + root(leaves[k:])).digest()


def path(m: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PATH of RFC 9162, 2.1.3.1."""
    if len(leaves) == 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m < k:
        return [*path(m, leaves[:k]), root(leaves[k:])]
    return [*path(m - k, leaves[k:]), root(leaves[:k])]


def subproof(m: int, leaves: Sequence[bytes], whole: bool = True) -> list[bytes]:
    """PROOF and SUBPROOF of RFC 9162, 2.1.4.1."""
    if m == len(leaves):
        return [] if whole else [root(leaves)]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m <= k:
        return [*subproof(m, leaves[:k], whole), root(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), root(leaves[:k])]


@cache
def entries(size: int) -> tuple[bytes, ...]:
    return tuple(f"entry {n}".encode() for n in range(size))


def grown(size: int) -> tuple[Edge, dict[tuple[int, int], bytes]]:
    edge, nodes = Edge(), {}
    for entry in entries(size):
        nodes |= {(level, index): value for level, index, value in edge.add(rules.leaf_hash(entry))}
    return edge, nodes


def roots(nodes: dict[tuple[int, int], bytes], ranges: list[tuple[int, int]]) -> list[bytes]:
    return [rules.fold([nodes[place] for place in rules.cover(start, end)]) for start, end in ranges]


# The eight entries that implementations of RFC 6962 share, and the roots over the first n of them.
SHARED = ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
SHARED_ROOTS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)


def test_known_roots_come_out() -> None:
    edge = Edge()
    found = [edge.root.hex()]
    for entry in SHARED:
        edge.add(rules.leaf_hash(bytes.fromhex(entry)))
        found.append(edge.root.hex())
    assert tuple(found) == SHARED_ROOTS


@given(SIZES)
def test_the_root_is_that_of_the_definition(size: int) -> None:
    edge, nodes = grown(size)
    assert edge.root == root(entries(size))
    assert len(nodes) == 2 * size - size.bit_count()
    assert nodes[0, size - 1] == rules.leaf_hash(entries(size)[-1])


@given(SIZES, st.data())
def test_inclusion_is_proved_as_defined(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    _, nodes = grown(size)
    proof = roots(nodes, rules.inclusion_ranges(index, size))
    assert proof == path(index, entries(size))
    leaf = rules.leaf_hash(entries(size)[index])
    assert rules.included_root(leaf, index, size, proof) == root(entries(size))
    assert rules.included_root(leaf, index, size, [*proof, leaf]) is None
    assert rules.included_root(leaf, size, size, proof) is None
    assert rules.included_root(leaf, -1, size, proof) is None
    if proof:
        changed = [*proof]
        changed[data.draw(st.integers(0, len(proof) - 1))] = leaf
        assert rules.included_root(leaf, index, size, changed) != root(entries(size))


@given(SIZES, SIZES)
def test_consistency_is_proved_as_defined(one: int, other: int) -> None:
    old, new = sorted((one, other))
    _, nodes = grown(new)
    proof = roots(nodes, rules.consistency_ranges(old, new))
    assert proof == subproof(old, entries(new))
    before, after = root(entries(old)), root(entries(new))
    assert rules.is_consistent(old, new, before, after, proof)
    assert not rules.is_consistent(old, new, after, before, proof) or old == new
    assert not rules.is_consistent(old, new, before, after, [*proof, before])
    assert not rules.is_consistent(old, new, sha256(before).digest(), after, proof)
    assert not rules.is_consistent(old, new, before, sha256(after).digest(), proof)
    assert old == new or not rules.is_consistent(new, old, after, before, proof)
    for at in range(len(proof)):
        changed = [*proof[:at], sha256(proof[at]).digest(), *proof[at + 1 :]]
        assert not rules.is_consistent(old, new, before, after, changed)


def test_every_log_begins_with_the_empty_one() -> None:
    assert rules.is_consistent(0, 5, rules.EMPTY_ROOT, root(entries(5)), [])
    assert not rules.is_consistent(0, 5, root(entries(1)), root(entries(5)), [])
    assert rules.fold([]) == rules.EMPTY_ROOT


def test_a_tree_goes_on_from_its_edge() -> None:
    whole, nodes = grown(100)
    for size in range(100):
        edge = Edge(size, [nodes[place] for place in rules.cover(0, size)])
        for entry in entries(100)[size:]:
            edge.add(rules.leaf_hash(entry))
        assert edge.root == whole.root


class Key:
    """A log key made for the test."""

    def __init__(self, seed: int = 1) -> None:
        self.key = Ed25519PrivateKey.from_private_bytes(random.Random(seed).randbytes(32))
        self.public = self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def sign(self, body: bytes) -> bytes:
        return self.key.sign(body)

    def holds(self, signature: bytes, body: bytes, by: bytes | None = None) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(by or self.public).verify(signature, body)
        except InvalidSignature:
            return False
        return True


def test_a_checkpoint_reads_back_and_is_signed_by_its_key_alone() -> None:
    note = rules.checkpoint("log.example", 12, b"r" * 32, Key())
    head = rules.read_checkpoint(note)
    assert (head.origin, head.size, head.root) == ("log.example", 12, b"r" * 32)
    assert note.startswith(head.body)
    assert rules.is_signed(head, Key())
    assert not rules.is_signed(head, Key(2))
    witnessed = note + "— witness.example AAAAAAAA\n".encode()
    assert rules.is_signed(rules.read_checkpoint(witnessed), Key())
    forged = note + note.splitlines(keepends=True)[-1].replace(b"+", b"/", 1)
    twice = rules.read_checkpoint(forged)
    assert len(twice.signatures) == 2


def test_any_other_byte_in_a_checkpoint_unmakes_it() -> None:
    note = rules.checkpoint("log.example", 12, b"r" * 32, Key())
    for at in range(len(note)):
        changed = note[:at] + bytes([note[at] ^ 1]) + note[at + 1 :]
        try:
            assert not rules.is_signed(rules.read_checkpoint(changed), Key()), at
        except Invalid:
            continue


@pytest.mark.parametrize(
    "note",
    [
        b"", b"\n\n", b"\xff", b"a\n1\n\n", b"a\n01\nAAAA\n\n\xe2\x80\x94 a AAAA\n",
        b"a\n-1\n" + b"A" * 43 + b"=\n\n\xe2\x80\x94 a AAAA\n",
        b"a\n1\n" + b"A" * 43 + b"=\n\n\xe2\x80\x94 a AAAA",
        b"a\n1\n" + b"A" * 43 + b"=\n\n- a AAAA\n",
        b"a\n1\n" + b"A" * 43 + b"=\n\n\xe2\x80\x94  AAAA\n",
        b"a\n1\n" + b"A" * 43 + b"=\n\n\xe2\x80\x94 a b AAAA\n",
        b"a\n1\n" + b"A" * 42 + b"B=\n\n\xe2\x80\x94 a AAAA\n",
    ],
)  # fmt: skip
def test_what_is_no_checkpoint_is_refused(note: bytes) -> None:
    with pytest.raises(Invalid):
        rules.read_checkpoint(note)


def test_a_key_is_written_as_verifiers_of_notes_read_it() -> None:
    # The key of the Go checksum database, as published.
    published = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
    name, _, data = published.split("+", 2)
    assert rules.vkey(name, b64decode(data)[1:]) == published


def test_a_log_is_named_by_the_host_of_its_portal() -> None:
    assert rules.origin_of("https://Portal.Example:8443") == "portal.example"
    assert rules.origin_of("http://[::1]:80") == "::1"
    assert rules.origin_of("portal") == "portal"


def test_a_proof_is_written_in_the_common_format() -> None:
    note = rules.checkpoint("log.example", 3, b"r" * 32, Key())
    text = rules.proof(1, b"entry", [b"a" * 32, b"b" * 32], note).decode()
    lines = text.split("\n")
    assert lines[:3] == ["c2sp.org/tlog-proof@v1", "extra ZW50cnk=", "index 1"]
    assert [b64decode(line) for line in lines[3:5]] == [b"a" * 32, b"b" * 32]
    assert "\n".join(lines[6:]).encode() == note
    assert lines[5] == ""


@pytest.mark.parametrize(
    ("number", "width", "written"),
    [(0, 256, "000"), (5, 3, "005.p/3"), (1234067, 256, "x001/x234/067"), (1000, 255, "x001/000.p/255")],
)
def test_tiles_are_numbered_in_groups_of_three_digits(number: int, width: int, written: str) -> None:
    assert rules.tile_path(number, width) == written
    assert rules.read_tile_path(written) == (number, width)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "0",
        "0000",
        "x000/001",
        "x001",
        "000.p/0",
        "000.p/256",
        "000.p/999",
        "000.p/01",
        "../000",
        "٠٠٠",
        "x1/000",
        "000/",
    ],
)
def test_a_tile_has_one_address(path: str) -> None:
    assert rules.read_tile_path(path) is None
