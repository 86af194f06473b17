"""The shipped license texts are whole, and the reader of license folders refuses what is not."""

import re
import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from portal.adapters.texts import LicenseDocument, read_license, read_licenses
from portal.clauses.rules import ClauseKind, Element, Relation, Sign, check_change, compare, keyed, suggest
from portal.core.errors import Invalid
from portal.licensing.rules import WEIGHT, Materiality, materiality_floor
from tests.licensed import FOLDER

LANGUAGES = {"en", "fr", "es", "zh"}
HAN = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture(scope="module")
def document() -> LicenseDocument:
    return read_license(FOLDER)


def test_every_digest_is_that_of_the_bytes(document: LicenseDocument) -> None:
    declared = re.findall(r'^(\w\w) = "([0-9a-f]{64})"$', (FOLDER / "license.toml").read_text(), re.MULTILINE)
    files = [sha256((FOLDER / f"{v.number}.{language}.md").read_bytes()).hexdigest()
             for v in document.versions for language, _ in declared[:4]]  # fmt: skip
    assert [digest for _, digest in declared] == files
    assert len(files) == 8


def test_each_version_has_each_language_with_the_same_clauses(document: LicenseDocument) -> None:
    assert [v.number for v in document.versions] == ["1.0.0", "1.1.0"]
    for version in document.versions:
        assert set(version.texts) == LANGUAGES
        assert version.prevailing == "en"
        listed = [(c.key, c.label) for c in version.clauses]
        for language, body in version.texts.items():
            assert [(p.key, p.label) for p in keyed(body.decode())] == listed, language


def test_the_list_of_clauses_says_what_each_does(document: LicenseDocument) -> None:
    for version in document.versions:
        for clause in version.clauses:
            assert (clause.element is not None) == (ClauseKind(clause.kind) is ClauseKind.RESTRICTION)
            assert clause.element is None or Element(clause.element)
        restrictions = [c for c in version.clauses if c.kind == "restriction"]
        assert [c.label for c in restrictions] == [f"A.{n}" for n in range(1, 14)]


def test_the_restrictions_cover_what_such_a_license_must(document: LicenseDocument) -> None:
    keys = {c.key.removeprefix("restriction.") for c in document.versions[-1].clauses}
    assert keys >= {
        "false_information_to_harm", "undisclosed_machine_text", "impersonation", "harassment", "discrimination",
        "exploiting_minors", "automated_decision", "medical_advice", "justice_and_migration", "personal_data",
        "malware", "unlawful_use",
    }  # fmt: skip


def test_the_translations_are_translations(document: LicenseDocument) -> None:
    for version in document.versions:
        english = {p.key: p for p in keyed(version.texts["en"].decode())}
        for language in LANGUAGES - {"en"}:
            for part in keyed(version.texts[language].decode()):
                assert part.body != english[part.key].body, (language, part.key)
                assert bool(HAN.search(part.body)) == (language == "zh"), (language, part.key)
        assert len({version.summary[language] for language in LANGUAGES}) == 4


def test_each_change_is_described_as_the_words_bear_it_out(document: LicenseDocument) -> None:
    old, new = document.versions
    assert new.predecessor == old.number
    kinds = {c.key: ClauseKind(c.kind) for c in new.clauses}
    for language in LANGUAGES:
        deltas = compare(keyed(old.texts[language].decode()), keyed(new.texts[language].decode()))
        assert {d.key for d in deltas} == set(new.changes)
        for delta in deltas:
            relation, explanation = new.changes[delta.key]
            check_change(delta, Relation(relation), explanation)
        floor = materiality_floor([(kinds[key], Relation(relation)) for key, (relation, _) in new.changes.items()])
        assert floor is Materiality.MATERIAL
        assert WEIGHT[Materiality(new.materiality)] >= WEIGHT[floor]
    assert new.changes["restriction.false_information_to_harm"][0] == "widened"


def test_what_the_words_suggest_is_the_same_in_each_language(document: LicenseDocument) -> None:
    old, new = document.versions
    for language in LANGUAGES:
        found = suggest(keyed(old.texts[language].decode()), keyed(new.texts[language].decode()))
        assert [(s.sign, s.relation, s.new[0].key) for s in found] == [
            (Sign.REACH, Relation.WIDENED, "duty.mark_changes"),
            (Sign.REACH, Relation.WIDENED, "restriction.false_information_to_harm"),
        ], language


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "bloom-rail"
    shutil.copytree(FOLDER, folder)
    return folder


def refused(folder: Path) -> str:
    with pytest.raises(Invalid) as caught:
        read_license(folder)
    assert caught.value.message.startswith("bloom-rail/")
    return caught.value.message


DIGEST = "95486a69add43dd0b78eb23896147031babdea1f4d6da7845753893a2860255a"


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ('slug = "bloom-rail"', 'slug = "other"', "slug"),
        ('title = "BLOOM', 'titel = "BLOOM', "title: is missing"),
        ('spdx = "LicenseRef-bloom-rail"', 'spdx = ""', "spdx: must not be empty"),
        ('kind = "license"', "kind = 1", "kind: must be words in quotes"),
        ('kind = "license"\n', 'kind = "license"\nextra = 1\n', "extra: is not a field"),
        ('number = "1.0.0"', 'number = "one"', "versions[0].number"),
        ('number = "1.1.0"', 'number = "1.0.0"', "versions[1.0.0].digests"),
        ("effective_at = 2026-01-15T00:00:00Z", 'effective_at = "soon"', "versions[0].effective_at"),
        ("effective_at = 2026-01-15T00:00:00Z", "effective_at = 2026-01-15T00:00:00", "time zone"),
        ('prevailing = "en"', 'prevailing = "de"', "prevailing"),
        (f'en = "{DIGEST}"', f'en = "{"0" * 64}"', "versions[1.0.0].digests.en: 1.0.0.en.md has the digest"),
        (f'en = "{DIGEST}"', 'en = "short"', "versions[1.0.0].digests.en"),
        (f'en = "{DIGEST}"', "en = 1", "versions[1.0.0].digests.en"),
        (f'en = "{DIGEST}"', f'EN = "{DIGEST}"', "is not a language code"),
        (f'en = "{DIGEST}"', f'en = "{DIGEST}"\nde = "{DIGEST}"', "1.0.0.de.md: cannot be read"),
        ('[versions.summary]\nen = "First', '[versions.summary]\nde = "First', "summary: must have each language"),
        ('[versions.summary]\nen = "First', '[versions.summary]\nde = 1\nen = "First', "summary.de: must be words"),
        ('key = "preamble.purpose"\nkind', 'key = "preamble.purpose"\ncolor = "red"\nkind', "clauses[0].color"),
        ('"preamble.purpose" = { relation', '"preamble.purpose" = { relatoin', "changes.preamble.purpose.relation"),
        ('"preamble.purpose" = { relation = "same" }', '"preamble.purpose" = "same"', "must be a table"),
        ("[[versions]]", "[[versions", "cannot be read"),
    ],
)
def test_a_file_that_is_not_right_is_refused_by_name_and_field(copy: Path, old: str, new: str, place: str) -> None:
    file = copy / "license.toml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    assert place in refused(copy)


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"\xff\xfe", "is not UTF-8"),
        (b"a\r\nb", "carriage return"),
        (b"a\0", "NUL"),
        (b"\xef\xbb\xbfa", "byte order mark"),
    ],
)
def test_bytes_that_are_no_plain_text_are_refused(copy: Path, body: bytes, place: str) -> None:
    (copy / "1.0.0.en.md").write_bytes(body)
    file = copy / "license.toml"
    file.write_text(file.read_text().replace(DIGEST, sha256(body).hexdigest()))
    assert place in refused(copy)


def test_a_text_that_nobody_declares_and_a_missing_one_are_refused(copy: Path) -> None:
    (copy / "2.0.0.en.md").write_text("Stray.")
    assert "2.0.0.en.md: no version" in refused(copy)
    (copy / "2.0.0.en.md").unlink()
    (copy / "1.0.0.fr.md").unlink()
    assert "1.0.0.fr.md: cannot be read" in refused(copy)


def test_a_file_without_versions_or_clauses_is_refused(copy: Path) -> None:
    file = copy / "license.toml"
    head = file.read_text().split("[[versions]]")[0]
    for path in copy.glob("*.md"):
        path.unlink()
    file.write_text(head + "versions = []\n")
    assert "at least one version" in refused(copy)
    file.write_text(head + "versions = [1]\n")
    assert "versions[0]: must be a table" in refused(copy)
    table = (
        '{number = "1.0", materiality = "material", effective_at = 2026-01-01T00:00:00Z, summary = {en = "x"},'
        f'required_by = 2026-01-01T00:00:00Z, prevailing = "en", digests = {{en = "{sha256(b"x").hexdigest()}"}},'
        "clauses = []}"
    )
    (copy / "1.0.en.md").write_bytes(b"x")
    file.write_text(f"{head}versions = [{table}]\n")
    assert "versions[1.0].clauses" in refused(copy)


def test_a_folder_of_licenses_is_read_in_order(tmp_path: Path, copy: Path) -> None:
    (tmp_path / "not-a-license").mkdir()
    assert [d.slug for d in read_licenses(tmp_path)] == ["bloom-rail"]
    with pytest.raises(Invalid):
        read_licenses(tmp_path / "nowhere")
    with pytest.raises(Invalid):
        read_license(tmp_path / "not-a-license")
