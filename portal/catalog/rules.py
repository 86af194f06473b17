"""Names of models, their lifecycle and that of their cards."""

import re
from enum import StrEnum

from portal.core.errors import Invalid
from portal.core.machine import Machine

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?")
RESERVED = frozenset(
    """api appeal contact datasets device disclosure healthz invite licenses log login logout metrics models oauth
    playground readyz report reset resolve settings signup spaces staff static transparency v1 verify""".split()  # noqa: SIM905
)


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


def split_name(full_name: str) -> tuple[str, str]:
    """Split ``namespace/name`` and refuse what clients or routes could misread.

    Raises:
        Invalid: not two segments, characters or endings that the Hub forbids, or a reserved namespace.
    """
    namespace, slash, name = full_name.partition("/")
    for part in (namespace, name):
        if not NAME.fullmatch(part) or "--" in part or ".." in part or part.endswith(".git"):
            raise Invalid(
                "model_name",
                f"{full_name!r} is no model name: write NAMESPACE/NAME with letters, digits, '.', '_' and '-'.",
                field="model",
            )
    if not slash or namespace.lower() in RESERVED:
        raise Invalid("model_name", f"{namespace!r} is kept for the portal's own pages.", field="model")
    return namespace, name
