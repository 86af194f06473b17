"""Families of models: siblings of several sizes, what each takes to run, and which license they share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GIB = 1 << 30
# Bytes that one parameter takes. The one rule for memory: parameters times this, for the weights alone.
BYTES = {"fp32": 4.0, "bf16": 2.0, "int8": 1.0, "int4": 0.5}
PARAMETERS_MAX = 10**15
NAME_MAX = 100


@dataclass(frozen=True)
class Place:
    """Where a model stands in its family, as its card's metadata says under ``portal``."""

    family: str
    parameters: int
    license: str
    source: str

    @property
    def size(self) -> str:
        """The number of parameters as people say it."""
        if self.parameters >= 10**9:
            return f"{self.parameters / 10**9:.3g} B"
        return f"{self.parameters / 10**6:.3g} M"


def place_of(metadata: Mapping[str, Any]) -> Place | None:
    """Return where a model stands in its family; None where its card names none, or no number of parameters."""
    said = metadata.get("portal")
    if not isinstance(said, dict):
        return None
    family, parameters = said.get("family"), said.get("parameters")
    if not isinstance(family, str) or not family.strip() or len(family) > NAME_MAX:
        return None
    if not isinstance(parameters, int) or isinstance(parameters, bool) or not 0 < parameters < PARAMETERS_MAX:
        return None
    words = {name: said[name] if isinstance(said.get(name), str) else "" for name in ("license", "source")}
    return Place(family.strip(), parameters, words["license"], words["source"])


def memory(parameters: int) -> dict[str, float]:
    """Return how many GiB the weights take, by precision; cache and the rest of a server come on top."""
    return {precision: parameters * size / GIB for precision, size in BYTES.items()}
