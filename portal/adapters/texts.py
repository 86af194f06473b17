"""The door to the folder of licenses: its files as plain values, or one clear line that names file and field."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, NoReturn

from portal.core.errors import Invalid

NUMBER = re.compile(r"[0-9]+(\.[0-9]+){1,3}")
LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})?")
DIGEST = re.compile(r"[0-9a-f]{64}")
SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
DOCUMENT = {"slug": str, "title": str, "spdx": str, "kind": str, "versions": list}
VERSION = {
    "number": str, "materiality": str, "effective_at": datetime, "required_by": datetime, "prevailing": str,
    "digests": dict, "summary": dict, "clauses": list,
}  # fmt: skip
VERSION_OPTIONAL = {"predecessor": str, "changes": dict}
CLAUSE = {"key": str, "kind": str, "label": str}
CLAUSE_OPTIONAL = {"element": str}
CHANGE = {"relation": str}
CHANGE_OPTIONAL = {"explanation": str}


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
    """A license as its folder declares it."""

    slug: str
    title: str
    spdx: str
    kind: str
    versions: tuple[VersionDocument, ...]


def read_licenses(root: Path) -> list[LicenseDocument]:
    """Read every license of a folder, in the order of their names."""
    if not root.is_dir():
        _refuse(root, "", "there is no such folder")
    return [read_license(path.parent) for path in sorted(root.glob("*/license.toml"))]


def read_license(folder: Path) -> LicenseDocument:
    """Read one license: its `license.toml` and the texts that it names.

    Raises:
        Invalid: a field is missing, unknown or of the wrong kind, a text is missing or undeclared, or the bytes of a
            text are not those that the file declares.
    """
    file = folder / "license.toml"
    try:
        table = tomllib.loads(file.read_bytes().decode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        _refuse(file, "", f"cannot be read: {error}")
    _check(file, "", table, DOCUMENT, {})
    if table["slug"] != folder.name or not SLUG.fullmatch(table["slug"]):
        _refuse(file, "slug", f"{table['slug']!r} is not the name of the folder in small letters, digits and hyphens")
    versions = []
    for position, version in enumerate(table["versions"]):
        versions.append(_version(file, f"versions[{position}]", version))
    numbers = [version.number for version in versions]
    if not numbers or len(set(numbers)) != len(numbers):
        _refuse(file, "versions", "there must be at least one version, and each number only once")
    declared = {f"{version.number}.{language}.md" for version in versions for language in version.texts}
    if stray := sorted({path.name for path in folder.glob("*.md")} - declared):
        _refuse(folder / stray[0], "", "no version in license.toml declares this text")
    return LicenseDocument(table["slug"], table["title"], table["spdx"], table["kind"], tuple(versions))


def _version(file: Path, where: str, table: Any) -> VersionDocument:
    _check(file, where, table, VERSION, VERSION_OPTIONAL)
    number = table["number"]
    if not NUMBER.fullmatch(number):
        _refuse(file, f"{where}.number", f"{number!r} is not a number such as 1.2.0")
    where = f"versions[{number}]"
    texts = {
        language: _text(file, f"{where}.digests.{language}", number, language, digest)
        for language, digest in table["digests"].items()
    }
    if table["prevailing"] not in texts:
        _refuse(file, f"{where}.prevailing", f"{table['prevailing']!r} has no text")
    for name, value in table["summary"].items():
        if not isinstance(value, str) or not value.strip():
            _refuse(file, f"{where}.summary.{name}", "must be words")
    if set(table["summary"]) != set(texts):
        _refuse(file, f"{where}.summary", "must have each language that has a text, and no other")
    changes = {}
    for key, change in table.get("changes", {}).items():
        _check(file, f"{where}.changes.{key}", change, CHANGE, CHANGE_OPTIONAL)
        changes[key] = (change["relation"], change.get("explanation", ""))
    return VersionDocument(
        number=number, materiality=table["materiality"], prevailing=table["prevailing"],
        effective_at=_instant(file, f"{where}.effective_at", table["effective_at"]),
        required_by=_instant(file, f"{where}.required_by", table["required_by"]),
        predecessor=table.get("predecessor"), texts=texts, summary=dict(table["summary"]),
        clauses=_clauses(file, where, table["clauses"]), changes=changes,
    )  # fmt: skip


def _clauses(file: Path, where: str, tables: Sequence[Any]) -> tuple[ClauseEntry, ...]:
    entries = []
    for position, table in enumerate(tables):
        _check(file, f"{where}.clauses[{position}]", table, CLAUSE, CLAUSE_OPTIONAL)
        entries.append(ClauseEntry(table["key"], table["label"], table["kind"], table.get("element")))
    if not entries:
        _refuse(file, f"{where}.clauses", "there must be at least one clause")
    return tuple(entries)


def _text(file: Path, where: str, number: str, language: str, declared: Any) -> bytes:
    if not LANGUAGE.fullmatch(language):
        _refuse(file, where, f"{language!r} is not a language code")
    if not isinstance(declared, str) or not DIGEST.fullmatch(declared):
        _refuse(file, where, "must be a SHA-256 in 64 small hex digits")
    path = file.parent / f"{number}.{language}.md"
    try:
        body = path.read_bytes()
        words = body.decode()
    except OSError as error:
        _refuse(path, "", f"cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        _refuse(path, "", "is not UTF-8")
    found = sha256(body).hexdigest()
    if found != declared:
        _refuse(file, where, f"{path.name} has the digest {found}, not the declared {declared}")
    if "\0" in words or "\r" in words or words.startswith("\ufeff"):
        _refuse(path, "", "holds a NUL, a carriage return or a byte order mark")
    return body


def _instant(file: Path, where: str, value: datetime) -> datetime:
    if value.tzinfo is None:
        _refuse(file, where, "must name its time zone, as in 2026-01-15T00:00:00Z")
    return value.astimezone(UTC)


def _check(file: Path, where: str, table: Any, needed: Mapping[str, type], optional: Mapping[str, type]) -> None:
    """Refuse a table that lacks a field, has one that nobody reads, or has one of the wrong kind."""
    prefix = f"{where}." if where else ""
    if not isinstance(table, dict):
        _refuse(file, where, "must be a table")
    for name in needed:
        if name not in table:
            _refuse(file, f"{prefix}{name}", "is missing")
    for name, value in table.items():
        kind = needed.get(name) or optional.get(name)
        if kind is None:
            _refuse(file, f"{prefix}{name}", "is not a field of this file")
        if not isinstance(value, kind):
            _refuse(file, f"{prefix}{name}", f"must be a {kind.__name__}")
        if value == "" and name not in optional:
            _refuse(file, f"{prefix}{name}", "must not be empty")


def _refuse(path: Path, field: str, why: str) -> NoReturn:
    place = f"{path.parent.name}/{path.name}"
    raise Invalid("license_file", f"{place}: {field + ': ' if field else ''}{why}.", field=field or None)
