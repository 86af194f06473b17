"""What has to be decided by name before a commit is put before readers."""

from collections.abc import Sequence
from dataclasses import dataclass

from portal.audit.rules import Event
from portal.files.rules import is_pickle


@dataclass(frozen=True)
class PicklesAllowed(Event, name="model:pickle:allowed"):
    """Weights that can run code on loading were let into a release, each file by name; `names` is their digest."""

    revision: str
    count: int
    names: str


def pickles_alone(paths: Sequence[str]) -> list[str]:
    """Return the weights that can run code on loading, where a commit has no others; empty where it has safetensors."""
    if any(path.lower().endswith(".safetensors") for path in paths):
        return []
    return [path for path in paths if is_pickle(path)]
