"""A folder of licenses that is not right stops `portal licenses sync` with one line, and nothing is changed."""

import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from sqlalchemy.orm import Session

from portal import setup
from portal.adapters import texts
from portal.clauses.models import Clause, Text
from portal.clauses.rules import FRAME, ClauseKind, Element, Relation, keyed
from portal.cli import main
from portal.core.config import Settings
from portal.core.db import make_engine
from portal.core.errors import Invalid
from portal.core.words import unseen
from portal.licensing.models import License, LicenseVersion
from portal.licensing.rules import LicenseKind, Materiality
from portal.migrations import upgrade
from tests.licensed import FOLDER, shipped

Break = Callable[[Path], Any]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A portal's home with an empty database, which stays empty."""
    home = tmp_path_factory.mktemp("home")
    engine = make_engine(Settings.from_env({"PORTAL_HOME": str(home)}).database_url)
    upgrade(engine)
    engine.dispose()
    return home


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the shipped license, in a folder of licenses of its own."""
    monkeypatch.setattr(setup, "LICENSES", tmp_path / "licenses")
    shutil.copytree(FOLDER, tmp_path / "licenses" / "bloom-rail")
    return tmp_path / "licenses" / "bloom-rail"


def sync(home: Path) -> Result:
    """Run the command as an operator does."""
    kept = {name: None for name in os.environ if name.startswith("PORTAL_")}
    return CliRunner().invoke(main, ["licenses", "sync"], env={**kept, "PORTAL_HOME": str(home)})


def rows(home: Path) -> list[str]:
    """Everything in the database."""
    with sqlite3.connect(home / "portal.db") as connection:
        return list(connection.iterdump())


def change(old: str, new: str, times: int = 1) -> Break:
    """Replace words of license.toml."""

    def edit(folder: Path) -> None:
        text = (folder / "license.toml").read_text()
        assert old in text
        (folder / "license.toml").write_bytes(text.replace(old, new, times).encode())

    return edit


def rewrite(edit: Callable[[bytes], bytes], name: str = "1.0.0.fr.md") -> Break:
    """Replace the bytes of a text, and declare their new digest."""

    def both(folder: Path) -> None:
        body = (folder / name).read_bytes()
        new = edit(body)
        assert new != body
        (folder / name).write_bytes(new)
        change(sha256(body).hexdigest(), sha256(new).hexdigest())(folder)

    return both


def put(old: str, new: str, name: str = "1.0.0.fr.md") -> Break:
    """Replace words of a text, and declare its new digest."""
    return rewrite(lambda body: body.replace(old.encode(), new.encode(), 1), name)


def link(name: str, target: str) -> Break:
    """Put a link in the place of a file."""

    def edit(folder: Path) -> None:
        (folder.parent.parent / "outside.md").write_bytes((folder / name).read_bytes())
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return edit


def pipe(folder: Path) -> None:
    """Put something in the place of a text that would keep its reader waiting forever."""
    (folder / "1.0.0.fr.md").unlink()
    os.mkfifo(folder / "1.0.0.fr.md")


def whole(body: bytes) -> Break:
    """Replace license.toml."""
    return lambda folder: (folder / "license.toml").write_bytes(body)


FIRST = "effective_at = 2026-01-15T00:00:00Z"
CLAUSE = '[[versions.clauses]]\nkey = "preamble.purpose"\nkind = "other"\nlabel = "P.1"\n'
TOML = r"bloom-rail/license\.toml"
FRENCH = r"bloom-rail/1\.0\.0\.fr\.md"
CASES: dict[str, tuple[Break, str]] = {
    "a key is missing": (change(FIRST, ""), rf"{TOML}:6: versions\[0\]\.effective_at: is missing"),
    "the title is missing": (change("title =", "#"), rf"{TOML}: title: is missing"),
    "a key is unknown": (change(FIRST, f"{FIRST}\ncolor = 1"), rf"{TOML}:10: versions\[0\]\.color: is not a field"),
    "a number is a number": (change('"1.0.0"', "1"), rf"{TOML}:7: versions\[0\]\.number: must be words in quotes"),
    "a clause key stands twice": (
        change(CLAUSE, CLAUSE * 2),
        rf"{TOML}:30: .*clauses\[1\]\.key: 'preamble.purpose' st",
    ),
    "a clause number stands twice": (
        change('"P.2"', '"P.1"'),
        rf"{TOML}:33: .*clauses\[1\]\.label: 'P.1' stands twice",
    ),
    "a clause key is none": (change('"preamble.purpose"', '"Pre amble"'), rf"{TOML}:26: .*'Pre amble' is not a key"),
    "a clause is listed only": (
        change(CLAUSE, CLAUSE + CLAUSE.replace("purpose", "extra").replace("P.1", "P.0")),
        r"bloom-rail/1\.0\.0\.en\.md: There is no clause preamble\.extra, although",
    ),
    "a clause is in the text only": (
        change(CLAUSE, ""),
        r"bloom-rail/1\.0\.0\.en\.md: Line 9: preamble\.purpose is not l",
    ),
    "a clause has two numbers": (put("### P.1", "### P.9"), rf"{FRENCH}: Line 9: preamble\.purpose is numbered P\.9"),
    "a key stands twice in a text": (
        put("{#preamble.model_card}", "{#preamble.purpose}"),
        rf"{FRENCH}: The clause key preamble\.purpose on line 15 st",
    ),
    "a heading has no key": (put(" {#preamble.model_card}", ""), rf"{FRENCH}: Give each clause .* line 15 is ### P\.2"),
    "a kind of clause is unknown": (
        change('kind = "other"', 'kind = "odd"'),
        rf"{TOML}:27: .*kind: 'odd' is not one of",
    ),
    "an element where none belongs": (
        change('kind = "other"', 'kind = "other"\nelement = "intent"'),
        rf"{TOML}:28: .*element: is for restrictions",
    ),
    "an element is unknown": (change('element = "intent"', 'element = "odd"'), rf"{TOML}:\d+: .*element: 'odd' is not"),
    "a clause changes its kind": (
        lambda folder: [
            change(CLAUSE, "@")(folder),
            change(CLAUSE, CLAUSE.replace("other", "duty"))(folder),
            change("@", CLAUSE)(folder),
        ],
        rf"{TOML}:\d+: versions\[1\.1\.0\]\.clauses\[0\]\.kind: preamble\.purpose did something else",
    ),
    "a digest is wrong": (
        lambda folder: (folder / "1.0.0.fr.md").write_text("x"),
        rf"{TOML}:15: .*digests\.fr: 1\.0\.0\.fr\.md has the dig",
    ),
    "a byte order mark": (rewrite(lambda body: b"\xef\xbb\xbf" + body), rf"{FRENCH}:1: holds a byte order mark"),
    "Windows line ends": (rewrite(lambda body: body.replace(b"\n", b"\r\n")), rf"{FRENCH}:1: holds a carriage return"),
    "a text of 5 MB": (rewrite(lambda body: body + b"x" * 5_000_000), rf"{FRENCH}: is longer than 2,000,000 bytes"),
    "a text of 500,000 letters": (
        rewrite(lambda body: body + b"x" * 500_000),
        rf"{FRENCH}: A text has between 1 and 400",
    ),
    "an empty text": (rewrite(lambda _: b""), rf"{FRENCH}: A text has between"),
    "bad UTF-8 in a text": (rewrite(lambda body: body.replace(b"\n\n", b"\n\n\xff", 1)), rf"{FRENCH}:3: is not UTF-8"),
    "a NUL in a text": (put("\n\n", "\n\n\0"), rf"{FRENCH}:3: holds a NUL"),
    "a right-to-left mark": (put("\n\n", "\n\n\u200f"), rf"{FRENCH}:3: holds U\+200F RIGHT-TO-LEFT MARK"),
    "an override of direction": (put("\n\n", "\n\n\u202e"), rf"{FRENCH}:3: holds U\+202E"),
    "an isolate": (put("\n\n", "\n\n\u2066"), rf"{FRENCH}:3: holds U\+2066"),
    "a space of no width": (put("\n\n", "\n\n\u200b"), rf"{FRENCH}:3: holds U\+200B ZERO WIDTH SPACE"),
    "a mark in the title": (change("BLOOM Resp", "BLOOM\\u202e Resp"), rf"{TOML}:2: title: holds U\+202E"),
    "a NUL in a summary": (change('en = "First', 'en = "\\u0000First'), rf"{TOML}:\d+: .*summary: holds U\+0000"),
    "two prevailing texts": (
        change('prevailing = "en"', 'prevailing = "en"\nprevailing = "fr"'),
        rf"{TOML}:12: cannot be read: Cannot overwr",
    ),
    "a list of prevailing texts": (
        change('ling = "en"', 'ling = ["en", "fr"]'),
        rf"{TOML}:11: .*prevailing: must be words",
    ),
    "the prevailing text has no file": (
        change('ling = "en"', 'ling = "de"'),
        rf"{TOML}:11: .*prevailing: 'de' has no text",
    ),
    "a text has no file": (
        lambda folder: (folder / "1.0.0.fr.md").unlink(),
        rf"{FRENCH}: cannot be read: No such file",
    ),
    "a text that nobody declares": (
        lambda folder: (folder / "9.md").write_text("x"),
        r"bloom-rail/9\.md: no version in",
    ),
    "signing before it is in force": (
        change("required_by = 2026-01-15", "required_by = 2026-01-14"),
        rf"{TOML}:10: .*required_by: must not lie before",
    ),
    "a later version in force earlier": (
        lambda folder: [
            change(FIRST, "effective_at = 2027-01-15T00:00:00Z")(folder),
            change("required_by = 2026-01-15", "required_by = 2027-01-15")(folder),
        ],
        rf"{TOML}:\d+: versions\[1\.1\.0\]\.effective_at: must lie after that of 1\.0\.0",
    ),
    "a date without a time": (
        change(FIRST, "effective_at = 2026-01-15"),
        rf"{TOML}:9: .*effective_at: must be an instant",
    ),
    "a date without a zone": (change(FIRST, FIRST[:-1]), rf"{TOML}:9: .*effective_at: must name its time zone"),
    "a date that no calendar has": (
        change(FIRST, "effective_at = 2026-02-30T00:00:00Z"),
        rf"{TOML}:9: cannot be read: Inv",
    ),
    "a date that no computer has": (
        change(FIRST, "effective_at = 0001-01-01T00:00:00+23:59"),
        rf"{TOML}:9: .*effective_at: must lie between the years",
    ),
    "an unknown predecessor": (
        change('predecessor = "1.0.0"', 'predecessor = "0.9"'),
        rf"{TOML}:\d+: .*predecessor: must",
    ),
    "a first version with one": (
        change("materiality", 'predecessor = "0.9"\nmateriality'),
        rf"{TOML}:8: .*predecessor: is f",
    ),
    "a number twice": (
        lambda folder: [change('number = "1.1.0"', 'number = "1.0.0"')(folder), twice(folder)],
        rf"{TOML}:\d+: versions\[1\.0\.0\]\.number: must be higher than 1\.0\.0",
    ),
    "a number that is none": (change('"1.0.0"', '"one"'), rf"{TOML}:7: versions\[0\]\.number: 'one' is not a number"),
    "a number that is huge": (change('"1.0.0"', f'"1.{"9" * 5000}"'), rf"{TOML}:7: .*number: '1\.9+…' is not a number"),
    "a language without a summary": (
        lambda folder: (folder / "license.toml").write_text(
            re.sub(r'^fr = "Prem.*\n', "", (folder / "license.toml").read_text(), flags=re.MULTILINE)
        ),
        rf"{TOML}:19: .*summary: must have each language that has a text, and no other: see fr",
    ),
    "votes from a weight that is none": (
        change('vote_from = "material"', 'vote_from = "heavy"'),
        rf"{TOML}:5: vote_from: 'heavy' is not one of",
    ),
    "a weight that is none": (
        change('materiality = "material"', 'materiality = "heavy"'),
        rf"{TOML}:8: .*materiality: 'heavy' is not one of",
    ),
    "a license of no kind": (
        change('kind = "license"', 'kind = "odd"'),
        rf"{TOML}:4: kind: 'odd' is not one of license",
    ),
    "a relation that is none": (
        change('relation = "same"', 'relation = "odd"'),
        rf"{TOML}:\d+: .*relation: 'odd' is not",
    ),
    "a relation that is not borne out": (
        change('relation = "same"', 'relation = "widened", explanation = "x"'),
        rf"{TOML}: versions\[1\.1\.0\]\.changes: preamble\.purpose cannot be widened: its words say that it is same",
    ),
    "a change of no clause": (
        change('"preamble.purpose" = {', '"preamble.odd" = {'),
        rf"{TOML}:\d+: .*there is no such cl",
    ),
    "changes of a first version": (
        change(
            "[versions.summary]", '[versions.changes]\n"preamble.purpose" = { relation = "same" }\n\n[versions.summary]'
        ),
        rf"{TOML}:19: .*changes: is for later versions only",
    ),
    "a file that is no TOML": (change("[[versions]]", "[[versions"), rf"{TOML}:6: cannot be read: Expected"),
    "bad UTF-8 in the file": (whole(b'slug = "a"\ntitle = "\xff"\n'), rf"{TOML}:2: is not UTF-8"),
    "a byte order mark in the file": (whole(b"\xef\xbb\xbfslug = 1\n"), rf"{TOML}:1: holds a byte order mark"),
    "Windows line ends in the file": (whole(b'slug = "a"\r\n'), rf"{TOML}:1: holds a carriage return"),
    "brackets without end": (whole(b"a = " + b"[" * 100_000), rf"{TOML}: cannot be read"),
    "a number of 5,000 digits": (whole(b"a = " + b"9" * 5000), rf"{TOML}: cannot be read: Exceeds"),
    "a file of 3 MB": (whole(b"#" * 3_000_000), rf"{TOML}: is longer than 2,000,000 bytes"),
    "a key that breaks the line": (
        change("slug =", '"a\\nb\\u202e" = 1\nslug ='),
        rf"{TOML}: a<U\+000A>b<U\+202E>: is not a field",
    ),
    "a key without end": (change("slug =", f"{'k' * 3000} = 1\nslug ="), rf"{TOML}:1: k{{120}}…: is not a field"),
    "a folder by another name": (
        lambda folder: folder.rename(folder.parent / "other"),
        r"other/license\.toml:1: slug: ",
    ),
    "no license.toml": (lambda folder: (folder / "license.toml").unlink(), rf"{TOML}: cannot be read: No such file"),
    "a link to a file outside": (link("1.0.0.fr.md", "../../outside.md"), rf"{FRENCH}: is a link that leads elsewhere"),
    "the file is a link": (link("license.toml", "../../outside.md"), rf"{TOML}: is a link that leads elsewhere"),
    "a link to itself": (link("1.0.0.fr.md", "1.0.0.fr.md"), rf"{FRENCH}: cannot be read: "),
    "a link to nothing": (link("1.0.0.fr.md", "nowhere"), rf"{FRENCH}: cannot be read: No such file"),
    "a pipe": (pipe, rf"{FRENCH}: cannot be read: it is not a plain file"),
    "a folder that is a link": (
        lambda folder: (folder.parent / "linked").symlink_to(folder),
        r"linked/license\.toml: is in a folder that is a link",
    ),
    "no folder at all": (lambda folder: shutil.rmtree(folder.parent), r"licenses: there is no such folder"),
}


def twice(folder: Path) -> None:
    """Give the second version the texts of the first."""
    text = (folder / "license.toml").read_text()
    for language in ("en", "fr", "es", "zh"):
        one, other = (sha256((folder / f"{n}.{language}.md").read_bytes()).hexdigest() for n in ("1.0.0", "1.1.0"))
        text = text.replace(other, one)
    (folder / "license.toml").write_text(text)


@pytest.mark.parametrize("name", CASES)
def test_what_is_not_right_stops_the_command_and_changes_nothing(name: str, home: Path, folder: Path) -> None:
    broken, line = CASES[name]
    before = rows(home)
    broken(folder)
    result = sync(home)
    assert result.exit_code == 1, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    assert re.match(rf"portal: (.*/)?{line}", result.stderr), result.stderr
    assert result.stderr.count("\n") == 1
    assert unseen(result.stderr) is None
    assert rows(home) == before


def test_what_is_right_is_drafted_and_then_stays(tmp_path: Path, folder: Path) -> None:
    engine = make_engine(Settings.from_env({"PORTAL_HOME": str(tmp_path)}).database_url)
    upgrade(engine)
    engine.dispose()
    first = sync(tmp_path)
    assert (first.exit_code, first.stderr) == (0, "")
    assert "bloom-rail 1.0.0: drafted" in first.stdout
    after = rows(tmp_path)
    assert sync(tmp_path).exit_code == 0
    assert rows(tmp_path) == after


def test_one_bad_license_among_good_ones_stops_all(session: Session, now: datetime, folder: Path) -> None:
    shutil.copytree(folder, folder.parent / "zoo-rail")
    file = folder.parent / "zoo-rail" / "license.toml"
    file.write_text(file.read_text().replace('slug = "bloom-rail"', 'slug = "zoo-rail"').replace('"P.2"', '"P.7"'))

    def counts() -> list[int | None]:
        tables = (License, LicenseVersion, Text, Clause)
        return [session.scalar(sa.select(sa.func.count()).select_from(table)) for table in tables]

    before = counts()
    with pytest.raises(Invalid) as caught:
        setup.sync_licenses(session, now=now, publish=True)
    assert caught.value.message.startswith("zoo-rail/1.0.0.en.md: Line 15: preamble.model_card is numbered P.2")
    assert counts() == before


def test_what_only_the_records_can_tell_names_the_file_too(session: Session, now: datetime, folder: Path) -> None:
    kind = ClauseKind.DUTY
    session.add(Clause(family="bloom-rail", stable_key="preamble.purpose", kind=kind, element=None))
    session.flush()
    with pytest.raises(Invalid) as caught:
        setup.sync_licenses(session, now=now)
    assert caught.value.message.startswith("bloom-rail/license.toml: versions[1.0.0]: preamble.purpose is on record as")


def test_the_words_of_the_file_are_those_of_the_rules() -> None:
    for name, values in {
        "license kind": LicenseKind, "materiality": Materiality, "kind": ClauseKind, "element": Element,
        "relation": Relation,
    }.items():  # fmt: skip
        assert texts.VOCABULARY[name] == tuple(values)
    assert texts.FRAME == FRAME


def test_the_shipped_texts_have_one_outline_and_nothing_that_no_reader_sees() -> None:
    for version in shipped().versions:
        outlines = {tuple((p.key, p.label) for p in keyed(body.decode())) for body in version.texts.values()}
        assert len(outlines) == 1
        assert len(version.texts) == 4
        for words in (*(body.decode() for body in version.texts.values()), *version.summary.values()):
            assert unseen(words) is None


def test_lines_are_found_in_any_way_of_writing_toml() -> None:
    lines = texts._lines(
        'a = 1\n"b.c" = 2\nd = """\n[x]\ne = 1\n"""\n[t."q.r"]\nf = 1\n[[v]]\n[v.s]\ng=1\n[[v]]\nh = 1\n'
    )
    assert lines == {("a",): 1, ("b.c",): 2, ("d",): 3, ("", "f"): 8, ("v", 0): 9, ("v", 0, "s"): 10,
                     ("v", 0, "s", "g"): 11, ("v", 1): 12, ("v", 1, "h"): 13}  # fmt: skip
