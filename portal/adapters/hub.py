"""The door to huggingface-hub: fetching a model to mirror, and reading model cards with the Hub's own classes."""

# The library is imported where it is used: pages and commands that need none of it start sooner.

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

from portal.core.errors import Invalid, NotFound, PortalError, Refused, Unavailable

PICKLES = ["*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle"]
OTHER_FRAMEWORKS = ["*.h5", "*.msgpack", "*.onnx", "*.tflite"]
INDEX = re.compile(r"^model-index:[^\n]*\n(?:(?:[ \t#-][^\n]*)?\n)*", re.MULTILINE)
VALUES_MOST = 20_000
DEPTH_MOST = 20
LISTED_MOST = 8
SINGLE = ("license", "license_name", "license_link", "pipeline_tag", "library_name")
SEVERAL = ("language", "tags", "datasets", "metrics", "base_model")
LABELS = {
    "license": "License", "pipeline_tag": "Task", "library_name": "Library", "language": "Languages",
    "base_model": "Base model", "datasets": "Datasets", "tags": "Tags",
}  # fmt: skip


@dataclass(frozen=True)
class Card:
    """A model card, read.

    Args:
        body: the Markdown below the metadata.
        metadata: the metadata block, as JSON could carry it.
        facts: the part of it that readers want to see first: (name, value).
    """

    body: str
    metadata: dict[str, Any]
    facts: list[tuple[str, str]]


@lru_cache(maxsize=256)
def read_card(text: str) -> Card:
    """Read a model card; one whose metadata cannot be read is all body.

    The result is shared between callers, who must not change it.
    """
    try:
        body, metadata = _parts(text)
    except Invalid:
        return Card(text, {}, [])
    return Card(body, metadata, _facts(metadata))


def check_card(text: str) -> None:
    """Raise `Invalid`, with the line where one is known, unless the Hub's own classes can read a card."""
    _, metadata = _parts(text)
    for name in SINGLE:
        value = metadata.get(name)
        if value is not None and not isinstance(value, str):
            raise _wrong(f"{name} must be one text, not {value!r}; put it in quotes.")
    for name in SEVERAL:
        value = metadata.get(name)
        items = value if isinstance(value, list) else [value]
        wrong = [item for item in items if not isinstance(item, str)]
        if value is not None and wrong:
            raise _wrong(f"{name} must be a list of texts, and {wrong[0]!r} is none; put it in quotes.")


def _wrong(message: str) -> Invalid:
    return Invalid("card_metadata", f"The metadata of the card: {message}", field="text")


def _parts(text: str) -> tuple[str, dict[str, Any]]:
    """Split a card into body and metadata, raising `Invalid` where the Hub's classes would refuse it."""
    from huggingface_hub.repocard import REGEX_YAML_BLOCK, ModelCard  # noqa: PLC0415

    block = REGEX_YAML_BLOCK.search(text)
    if block is None:
        if text.lstrip().startswith("---"):
            raise _wrong("it begins with --- in line 1 but no later line of --- ends it.")
        return text, {}
    try:
        card = ModelCard(text)
        metadata = _jsonable(card.data.to_dict(), _Budget())  # type: ignore[no-untyped-call]
    except Invalid:
        raise
    except Exception as error:  # noqa: BLE001 - whatever the library cannot read is the editor's to mend
        raise _wrong(_explained(error, text.count("\n", 0, block.start(2)))) from None
    return str(card.text), dict(metadata)


def _explained(error: Exception, lines_before: int) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = " ".join(str(getattr(error, "problem", None) or error).partition(" Pass `ignore")[0].split())[
        :300
    ].rstrip(".")
    where = f"line {mark.line + lines_before + 1}: " if mark is not None else ""
    return f"{where}{problem or type(error).__name__}."


def with_index(text: str, index: list[dict[str, Any]]) -> str:
    """Return a card with another ``model-index`` in its metadata; all else stays as it was written."""
    import yaml  # type: ignore[import-untyped] # noqa: PLC0415
    from huggingface_hub.repocard import REGEX_YAML_BLOCK  # noqa: PLC0415

    copied = json.loads(json.dumps(index))  # tables that are one and the same would be written as references
    made = yaml.safe_dump({"model-index": copied}, sort_keys=False, allow_unicode=True, width=1_000)
    block = REGEX_YAML_BLOCK.search(text)
    if block is None:
        return f"---\n{made}---\n\n{text}"
    kept = INDEX.sub("", f"{block[2].rstrip()}\n")
    return f"{text[: block.start(2)]}{kept}{made}{text[block.end(2) :].lstrip(chr(10))}"


class _Budget:
    """Bounds what a few lines of YAML can unfold to."""

    def __init__(self) -> None:
        self.left = VALUES_MOST

    def spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise _wrong(f"it holds more than {VALUES_MOST:,} values.")


def _jsonable(value: Any, budget: _Budget, depth: int = 0) -> Any:
    budget.spend()
    if depth > DEPTH_MOST:
        raise _wrong("it is nested too deeply.")
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item, budget, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_jsonable(item, budget, depth + 1) for item in value]
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float):
        return value if value - value == 0 else str(value)  # JSON knows neither infinity nor NaN
    return value if value is None or isinstance(value, str | bool | int) else str(value)


def _facts(metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    shown = dict(metadata)
    if isinstance(metadata.get("license_name"), str):
        shown["license"] = metadata["license_name"]
    return [(label, text) for name, label in LABELS.items() if (text := _short(shown.get(name)))]


def _short(value: Any) -> str:
    """Write a value on one line; long lists end with how many more there are."""
    items = [str(item) for item in value if item is not None] if isinstance(value, list) else [str(value or "")]
    if len(items) > LISTED_MOST:
        return f"{len(items)}: {', '.join(items[:LISTED_MOST])} and {len(items) - LISTED_MOST} more"
    return ", ".join(items)


def mirror(hf_repo: str, folder: Path) -> Path:
    """Fetch a repository of the Hub (or of ``HF_ENDPOINT``) into a folder, resuming what an earlier try left.

    Weights that can run code, and those of other frameworks, are left out where safetensors are offered.
    """
    from huggingface_hub import HfApi, snapshot_download  # noqa: PLC0415

    try:
        files = [item.rfilename for item in HfApi().model_info(hf_repo).siblings or ()]
        safe = any(name.endswith(".safetensors") for name in files)
        target = folder / hf_repo
        skipped = PICKLES + OTHER_FRAMEWORKS if safe else []
        return Path(snapshot_download(hf_repo, local_dir=target, ignore_patterns=skipped))
    except Exception as error:
        known = next(_translated(error, hf_repo), None)
        if known is None:
            raise
        raise known from error


def _translated(error: Exception, hf_repo: str) -> Iterator[PortalError]:
    """Say in one line what kept a repository from being fetched."""
    from huggingface_hub import errors  # noqa: PLC0415

    said = " ".join(str(error).split())[:300]
    if isinstance(error, errors.HFValidationError):
        yield Invalid("repository", f"{hf_repo!r} is no repository name: write NAMESPACE/NAME.", field="hf_repo")
    if isinstance(error, errors.GatedRepoError):
        yield Refused("repository_gated", f"{hf_repo} asks for consent first; give it there and set HF_TOKEN. {said}")
    if isinstance(error, errors.RepositoryNotFoundError):
        yield NotFound("repository_not_found", f"There is no repository {hf_repo}, or HF_TOKEN may not see it.")
    if isinstance(error, errors.HfHubHTTPError | errors.LocalEntryNotFoundError | OSError) or _is_network(error):
        yield Unavailable("repository_unreachable", f"{hf_repo} could not be fetched: {said}. Run the command again.")


def _is_network(error: Exception) -> bool:
    return type(error).__module__.split(".")[0] in {"httpx", "httpx2", "httpcore", "httpcore2"}
