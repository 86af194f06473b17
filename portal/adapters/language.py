"""The one door to py3langid: a hint at the language of a text, and never more than a hint."""

from functools import lru_cache
from typing import Any

LEAST, MOST = 20, 2_000


@lru_cache(1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # noqa: PLC0415 - a second to load, and rarely needed

    return LanguageIdentifier.from_model_file(MODEL_FILE)


def language_of(text: str) -> str:
    """Return the code of the language that a text seems to be written in; nothing for one that is too short."""
    if len(text) < LEAST:
        return ""
    return str(_identifier().classify(text[:MOST])[0])
