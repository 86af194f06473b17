"""Names of models, their lifecycle and that of their cards."""

import difflib
import re
from dataclasses import dataclass
from enum import StrEnum

from portal.audit.rules import Event
from portal.core.errors import Invalid
from portal.core.machine import Machine

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?")
RESERVED = frozenset(
    """.well-known api appeal contact datasets device disclosure healthz invite licenses log login logout
    metrics models oauth playground readyz report reset resolve settings signup spaces staff static
    transparency v1 verify""".split()  # noqa: SIM905
)

# The language of the card that counts; a card in another one renders it.
PREVAILING = "en"
LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})?")


class RepoKind(StrEnum):
    """What a repository holds; the value is how its addresses begin under ``/api``."""

    MODEL = "models"
    DATASET = "datasets"


@dataclass(frozen=True)
class ModelRenamed(Event, name="model:name:changed"):
    """A model or dataset got another name; the one before leads to it for ever."""

    to: str


class ModelState(StrEnum):
    """Whether a model is offered."""

    DRAFT = "draft"
    PUBLISHED = "published"
    WITHDRAWN = "withdrawn"


class ModelAction(StrEnum):
    """What moves a model."""

    PUBLISH = "publish"
    WITHDRAW = "withdraw"


MODEL = Machine(
    "model",
    ModelState.DRAFT,
    {
        (ModelState.DRAFT, ModelAction.PUBLISH): ModelState.PUBLISHED,
        (ModelState.DRAFT, ModelAction.WITHDRAW): ModelState.WITHDRAWN,
        (ModelState.PUBLISHED, ModelAction.WITHDRAW): ModelState.WITHDRAWN,
    },
)


class CardState(StrEnum):
    """Where a card revision is in its life."""

    DRAFT = "draft"
    PUBLISHED = "published"
    SUPERSEDED = "superseded"


class CardAction(StrEnum):
    """What moves a card revision."""

    PUBLISH = "publish"
    SUPERSEDE = "supersede"


CARD = Machine(
    "card revision",
    CardState.DRAFT,
    {
        (CardState.DRAFT, CardAction.PUBLISH): CardState.PUBLISHED,
        (CardState.PUBLISHED, CardAction.SUPERSEDE): CardState.SUPERSEDED,
    },
)


def split_name(full_name: str) -> tuple[RepoKind, str, str]:
    """Split a name as `parts_of` does and refuse what clients or routes could misread.

    Raises:
        Invalid: not two segments, characters or endings that the Hub forbids, or a reserved namespace.
    """
    kind, namespace, name = parts_of(full_name)
    for part in (namespace, name):
        if not NAME.fullmatch(part) or "--" in part or ".." in part or part.endswith(".git"):
            raise Invalid(
                "model_name",
                f"{full_name!r} is no model name: write NAMESPACE/NAME with letters, digits, '.', '_' and '-'.",
                field="model",
            )
    if namespace.lower() in RESERVED:
        raise Invalid("model_name", f"{namespace!r} is kept for the portal's own pages.", field="model")
    return kind, namespace, name


def parts_of(full_name: str) -> tuple[RepoKind, str, str]:
    """Split the name by which everybody asks, ``NS/NAME`` or ``datasets/NS/NAME``, into kind, namespace and name."""
    first, slash, rest = full_name.partition("/")
    kind = RepoKind.DATASET if slash and first == RepoKind.DATASET else RepoKind.MODEL
    namespace, _, name = (rest if kind is RepoKind.DATASET else full_name).partition("/")
    return kind, namespace, name


def named(kind: str, namespace: str, name: str) -> str:
    """Return the name by which everybody asks, from the parts of an address."""
    return f"{RepoKind.DATASET}/{namespace}/{name}" if kind == RepoKind.DATASET else f"{namespace}/{name}"


def can_be_name(namespace: str, name: str) -> bool:
    """Say whether something can be called so; what cannot may not even be text that a database takes."""
    return bool(NAME.fullmatch(namespace) and NAME.fullmatch(name))


def renamed_path(path: str, name: str) -> str:
    """Return the path of an address under another name of the model or dataset that it is about."""
    parts = [part for part in path.split("/") if part]
    rest = parts[3:] if parts[0] == RepoKind.DATASET else parts[2:]
    return "/" + "/".join([name, *rest])


def check_language(language: str) -> str:
    """Return the code of a card's language, or raise `Invalid`."""
    if not LANGUAGE.fullmatch(language):
        message = "Write the code of a language, such as fr or zh-Hant."
        raise Invalid("card_language", message, field="language")
    return language


def difference(old: str, new: str) -> list[tuple[str, str]]:
    """Return the changed lines of a card with three lines around them, as (kind, line).

    A kind is ``same``, ``added``, ``removed`` or ``gap``.
    """
    kinds = {" ": "same", "+": "added", "-": "removed", "@": "gap"}
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=3)
    return [(kinds[line[0]], line[1:]) for number, line in enumerate(lines) if number > 1]
