"""The door to the folder of licenses: its files as plain values, or one clear line that names file, line and field."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, NoReturn

from portal.core.errors import Invalid
from portal.core.words import printable, unseen

NUMBER = re.compile(r"(0|[1-9][0-9]{0,4})(\.(0|[1-9][0-9]{0,4})){1,3}")
LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})?")
DIGEST = re.compile(r"[0-9a-f]{64}")
SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
KEY = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")
HEADER = re.compile(r"\s*(\[\[?)\s*([A-Za-z0-9_.\-]+)\s*\]\]?\s*(#.*)?")
ENTRY = re.compile(r"""\s*(?:"([^"\\]+)"|'([^']+)'|([A-Za-z0-9_-]+))\s*=""")
# No license is that long; a file that is has another purpose, and reading it would keep everybody waiting.
BYTES_MAX = 2_000_000
YEARS = range(1970, 2200)
FILE = "license.toml"
FRAME = "frame"  # what stands outside the clauses can change as well
AT_LINE = re.compile(r" \(at line ([0-9]+), column [0-9]+\)")
DOCUMENT = {"slug": str, "title": str, "spdx": str, "kind": str, "versions": list}
VERSION = {
    "number": str, "materiality": str, "effective_at": datetime, "required_by": datetime, "prevailing": str,
    "digests": dict, "summary": dict, "clauses": list,
}  # fmt: skip
DOCUMENT_OPTIONAL = {"vote_from": str}
VERSION_OPTIONAL = {"predecessor": str, "changes": dict}
CLAUSE = {"key": str, "kind": str, "label": str}
CLAUSE_OPTIONAL = {"element": str}
CHANGE = {"relation": str}
CHANGE_OPTIONAL = {"explanation": str}
KINDS = {
    str: "words in quotes", datetime: "an instant such as 2026-01-15T00:00:00Z", dict: "a table", list: "a list",
}  # fmt: skip
VOCABULARY = {
    "license kind": ("license", "use_policy", "service_terms", "privacy_notice", "conduct"),
    "materiality": ("editorial", "clarifying", "material", "material_immediate"),
    "kind": ("definition", "permission", "duty", "restriction", "right", "other"),
    "element": ("conduct", "intent"),
    "relation": ("same", "reworded", "narrowed", "widened", "moved", "added", "removed"),
}


@dataclass(frozen=True)
class ClauseEntry:
    """What the file says of one clause: its key, its printed number, what it does and what breaking it takes."""

    key: str
    label: str
    kind: str
    element: str | None


@dataclass(frozen=True)
class VersionDocument:
    """One version as its files declare it: dates, weight, clauses, and the exact bytes in each language."""

    number: str
    materiality: str
    effective_at: datetime
    required_by: datetime
    predecessor: str | None
    prevailing: str
    texts: Mapping[str, bytes]
    summary: Mapping[str, str]
    clauses: tuple[ClauseEntry, ...]
    changes: Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class LicenseDocument:
    """A license as its folder declares it; `vote_from` is the least weight whose versions need a vote, if any."""

    slug: str
    title: str
    spdx: str
    kind: str
    versions: tuple[VersionDocument, ...]
    vote_from: str | None = None


@dataclass(frozen=True)
class _Place:
    """A field of a license file, and on which line it stands."""

    file: Path
    lines: Mapping[tuple[str | int, ...], int]
    path: tuple[str | int, ...] = ()
    shown: str = ""

    def at(self, name: str | int, shown: str = "") -> "_Place":
        """Return the place of a field, or of an item of a list, under another name where one says more."""
        words = f"{self.shown}[{shown or name}]" if isinstance(name, int) else f"{self.shown}.{name}".lstrip(".")
        return replace(self, path=(*self.path, name), shown=words)

    def refuse(self, why: str) -> NoReturn:
        """Raise with file, line, field and reason; a field that is missing has the line of what it is missing in."""
        known = (self.lines[self.path[:n]] for n in range(len(self.path), 0, -1) if self.path[:n] in self.lines)
        _refuse(self.file, self.shown, why, line=next(known, 0))


def read_licenses(root: Path) -> list[LicenseDocument]:
    """Read every license of a folder, in the order of their names."""
    if not root.is_dir():
        _refuse(root, "", "there is no such folder")
    found = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if any(path.name == FILE or path.suffix == ".md" for path in folder.iterdir()):
            if folder.is_symlink():
                _refuse(folder / FILE, "", "is in a folder that is a link")
            found.append(read_license(folder))
    return found


def read_license(folder: Path) -> LicenseDocument:
    """Read one license: its `license.toml` and the texts that it names.

    Raises:
        Invalid: a field is missing, unknown or of the wrong kind, what the fields say does not fit together, a text is
            missing or undeclared, or the bytes of a text are not those that the file declares.
    """
    file = folder / FILE
    words = _read(file).decode()
    try:
        table = tomllib.loads(words)
    except (ValueError, RecursionError) as error:
        at = AT_LINE.search(str(error))
        _refuse(file, "", f"cannot be read: {AT_LINE.sub('', str(error))}", line=int(at[1]) if at else 0)
    place = _Place(file, _lines(words))
    _check(place, table, DOCUMENT, DOCUMENT_OPTIONAL)
    if table["slug"] != folder.name or not SLUG.fullmatch(table["slug"]):
        place.at("slug").refuse(
            f"{_quoted(table['slug'])} is not the name of the folder in small letters, digits and hyphens"
        )
    _choose(place.at("kind"), "license kind", table["kind"])
    if "vote_from" in table:
        _choose(place.at("vote_from"), "materiality", table["vote_from"])
    versions: list[VersionDocument] = []
    for position, version in enumerate(table["versions"]):
        versions.append(_version(place.at("versions").at(position), version, versions))
    if not versions:
        place.at("versions").refuse("there must be at least one version")
    declared = {f"{version.number}.{language}.md" for version in versions for language in version.texts}
    if stray := sorted({path.name for path in folder.glob("*.md")} - declared):
        _refuse(folder / stray[0], "", "no version in license.toml declares this text")
    return LicenseDocument(
        table["slug"], table["title"], table["spdx"], table["kind"], tuple(versions), table.get("vote_from")
    )


def _version(place: _Place, table: Any, earlier: Sequence[VersionDocument]) -> VersionDocument:
    _check(place, table, VERSION, VERSION_OPTIONAL)
    number = table["number"]
    if not NUMBER.fullmatch(number):
        place.at("number").refuse(f"{_quoted(number)} is not a number such as 1.2.0")
    place = replace(place, shown=f"versions[{number}]")
    _choose(place.at("materiality"), "materiality", table["materiality"])
    texts = {
        language: _text(place.at("digests").at(language), number, language, digest)
        for language, digest in table["digests"].items()
    }
    if table["prevailing"] not in texts:
        place.at("prevailing").refuse(f"{_quoted(table['prevailing'])} has no text")
    for name, value in table["summary"].items():
        if not isinstance(value, str) or not value.strip():
            place.at("summary").at(name).refuse("must be words")
    if differ := sorted(set(table["summary"]) ^ set(texts)):
        why = f"must have each language that has a text, and no other: see {', '.join(differ)}"
        place.at("summary").refuse(why)
    version = VersionDocument(
        number=number, materiality=table["materiality"], prevailing=table["prevailing"],
        effective_at=_instant(place.at("effective_at"), table["effective_at"]),
        required_by=_instant(place.at("required_by"), table["required_by"]),
        predecessor=table.get("predecessor"), texts=texts, summary=dict(table["summary"]),
        clauses=_clauses(place.at("clauses"), table["clauses"], earlier),
        changes=_changes(place.at("changes"), table.get("changes", {})),
    )  # fmt: skip
    _check_order(place, version, earlier)
    return version


def _check_order(place: _Place, version: VersionDocument, earlier: Sequence[VersionDocument]) -> None:
    """Refuse a version that does not follow on the one before it in number, date, name and clauses."""
    if version.required_by < version.effective_at:
        place.at("required_by").refuse("must not lie before effective_at")
    before = earlier[-1] if earlier else None
    if version.predecessor != (before.number if before else None):
        wanted = f"must be {before.number}, the version before it" if before else "is for later versions only"
        place.at("predecessor").refuse(wanted)
    if before and _ordered(version.number) <= _ordered(before.number):
        place.at("number").refuse(f"must be higher than {before.number}, the version before it")
    if before and version.effective_at <= before.effective_at:
        place.at("effective_at").refuse(f"must lie after that of {before.number}, the version before it")
    known = {FRAME, *(clause.key for one in (version, *earlier) for clause in one.clauses)}
    if stray := sorted(set(version.changes) - known):
        place.at("changes").at(stray[0]).refuse("there is no such clause")
    if version.changes and not before:
        place.at("changes").refuse("is for later versions only")


def _ordered(number: str) -> list[int]:
    parts = [int(part) for part in number.split(".")]
    return parts + [0] * (4 - len(parts))


def _changes(place: _Place, tables: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    for key, change in tables.items():
        _check(place.at(key), change, CHANGE, CHANGE_OPTIONAL)
        _choose(place.at(key).at("relation"), "relation", change["relation"])
    return {key: (change["relation"], change.get("explanation", "")) for key, change in tables.items()}


def _clauses(place: _Place, tables: Sequence[Any], earlier: Sequence[VersionDocument]) -> tuple[ClauseEntry, ...]:
    kinds = {clause.key: (clause.kind, clause.element) for version in earlier for clause in version.clauses}
    keys, labels, entries = set[str](), set[str](), []
    for position, table in enumerate(tables):
        here = place.at(position)
        _check(here, table, CLAUSE, CLAUSE_OPTIONAL)
        entry = ClauseEntry(table["key"], table["label"], table["kind"], table.get("element"))
        if not KEY.fullmatch(entry.key):
            here.at("key").refuse(f"{_quoted(entry.key)} is not a key in small letters, digits, _ and dots")
        if entry.key in keys or entry.label in labels:
            name = "key" if entry.key in keys else "label"
            here.at(name).refuse(f"{_quoted(table[name])} stands twice")
        _choose(here.at("kind"), "kind", entry.kind)
        if (entry.element is not None) != (entry.kind == "restriction"):
            here.at("element").refuse("is for restrictions, and each restriction has one")
        if entry.element is not None:
            _choose(here.at("element"), "element", entry.element)
        if kinds.get(entry.key, (entry.kind, entry.element)) != (entry.kind, entry.element):
            here.at("kind").refuse(f"{entry.key} did something else in an earlier version; it needs its own key")
        keys.add(entry.key)
        labels.add(entry.label)
        entries.append(entry)
    if not entries:
        place.refuse("there must be at least one clause")
    return tuple(entries)


def _text(place: _Place, number: str, language: str, declared: Any) -> bytes:
    if not LANGUAGE.fullmatch(language):
        place.refuse(f"{_quoted(language)} is not a language code")
    if not isinstance(declared, str) or not DIGEST.fullmatch(declared):
        place.refuse("must be a SHA-256 in 64 small hex digits")
    path = place.file.parent / f"{number}.{language}.md"
    body = _read(path)
    found = sha256(body).hexdigest()
    if found != declared:
        place.refuse(f"{path.name} has the digest {found}, not the declared {declared}")
    if hidden := unseen(body.decode()):
        _refuse(path, "", f"holds {hidden[1]}, which no reader can see", line=hidden[0])
    return body


def _read(path: Path) -> bytes:
    """Return the bytes of a plain file of the folder that is UTF-8 with bare line feeds."""
    try:
        if path.resolve(strict=True) != path.parent.resolve() / path.name:
            _refuse(path, "", "is a link that leads elsewhere")
        if not path.is_file():
            _refuse(path, "", "cannot be read: it is not a plain file")
        if path.stat().st_size > BYTES_MAX:
            _refuse(path, "", f"is longer than {BYTES_MAX:,} bytes")
        body = path.read_bytes()
    except (OSError, RuntimeError) as error:
        _refuse(path, "", f"cannot be read: {getattr(error, 'strerror', None) or 'its links go round in circles'}")
    try:
        body.decode()
    except UnicodeDecodeError as error:
        _refuse(path, "", "is not UTF-8", line=body.count(b"\n", 0, error.start) + 1)
    for bad, name in ((b"\xef\xbb\xbf", "a byte order mark"), (b"\r", "a carriage return"), (b"\0", "a NUL")):
        if (at := body.find(bad)) >= 0:
            _refuse(path, "", f"holds {name}", line=body.count(b"\n", 0, at) + 1)
    return body


def _instant(place: _Place, value: datetime) -> datetime:
    if value.tzinfo is None:
        place.refuse("must name its time zone, as in 2026-01-15T00:00:00Z")
    if value.year not in YEARS:
        place.refuse(f"must lie between the years {YEARS[0]} and {YEARS[-1]}")
    return value.astimezone(UTC)


def _choose(place: _Place, name: str, value: str) -> None:
    if value not in VOCABULARY[name]:
        place.refuse(f"{_quoted(value)} is not one of {', '.join(VOCABULARY[name])}")


def _check(place: _Place, table: Any, needed: Mapping[str, type], optional: Mapping[str, type]) -> None:
    """Refuse a table that lacks a field, has one that nobody reads, or has one of the wrong kind."""
    if not isinstance(table, dict):
        place.refuse("must be a table")
    for name in needed:
        if name not in table:
            place.at(name).refuse("is missing")
    for name, value in table.items():
        kind = needed.get(name) or optional.get(name)
        if kind is None:
            place.at(name).refuse("is not a field of this file")
        if not isinstance(value, kind):
            place.at(name).refuse(f"must be {KINDS[kind]}")
        if value == "" and name not in optional:
            place.at(name).refuse("must not be empty")
        for words in (value, *value.values()) if isinstance(value, dict) else (value,):
            if isinstance(words, str) and (hidden := unseen(words)):
                place.at(name).refuse(f"holds {hidden[1]}, which no reader can see")


def _quoted(value: str) -> str:
    return f"'{printable(value, 60)}'"


def _lines(words: str) -> dict[tuple[str | int, ...], int]:
    """Return on which line each field and each table stands; tomllib does not say."""
    lines: dict[tuple[str | int, ...], int] = {}
    counts: dict[tuple[str | int, ...], int] = {}
    table: tuple[str | int, ...] = ()
    quoted = False
    for number, line in enumerate(words.split("\n"), 1):
        if not quoted and (header := HEADER.fullmatch(line)):
            table = ()
            names = header[2].split(".")
            for position, name in enumerate(names, 1):
                table = (*table, name)
                if header[1] == "[[" and position == len(names):
                    counts[table] = counts.get(table, -1) + 1
                if table in counts:
                    table = (*table, counts[table])
            lines[table] = number
        elif not quoted and line.lstrip().startswith("["):
            table = ("",)  # a header written in another way: what follows has no line rather than a wrong one
        elif not quoted and (entry := ENTRY.match(line)):
            lines.setdefault((*table, entry[1] or entry[2] or entry[3]), number)
        if (line.count('"""') + line.count("'''")) % 2:
            quoted = not quoted
    return lines


def _refuse(path: Path, field: str, why: str, line: int = 0) -> NoReturn:
    where = f"{path.parent.name}/{path.name}{f':{line}' if line else ''}"
    message = printable(f"{where}: {printable(field, 120) + ': ' if field else ''}{why}.", limit=500)
    raise Invalid("license_file", message, field=field or None)
