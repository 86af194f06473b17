"""What the portal's banks say of texts, in the shape that clients of moderation services know."""

from typing import Any

from gated_inference.lookout import Eyes
from gated_inference.schemas import MODEL_MAX, Refusal
from portal.banks.rules import FLAGGED

INPUTS_MAX, INPUT_MAX = 32, 100_000
NAME = "portal-banks"
# What such services call it, and the clause that stands for it here; the rest of their names is always false.
OTHERS = {"harassment": "restriction.harassment", "sexual/minors": "restriction.exploiting_minors",
          "illicit": "restriction.unlawful_use"}  # fmt: skip
UNKNOWN = (
    "harassment/threatening", "hate", "hate/threatening", "illicit/violent", "self-harm", "self-harm/instructions",
    "self-harm/intent", "sexual", "violence", "violence/graphic",
)  # fmt: skip


def inputs(value: dict[str, Any]) -> list[str]:
    """Return the texts that somebody asks about, or raise `Refusal` that names the field."""
    unknown = sorted(set(value) - {"input", "model"})
    if unknown:
        name = unknown[0][:MODEL_MAX]
        raise Refusal(400, "invalid_field", f"The field {name!r} is not supported here.", param=name)
    model = value.get("model")
    if model is not None and (not isinstance(model, str) or len(model) > MODEL_MAX):
        raise Refusal(400, "invalid_field", "model is a name, or left out: there is only one.", param="model")
    given = value.get("input")
    texts = [given] if isinstance(given, str) else given
    if isinstance(texts, list):
        texts = [one["text"] if _is_text(one) else one for one in texts]
    if not isinstance(texts, list) or not 1 <= len(texts) <= INPUTS_MAX or not all(isinstance(t, str) for t in texts):
        raise Refusal(400, "invalid_field", f"input is a text, or a list of up to {INPUTS_MAX} texts.", param="input")
    if sum(len(text) for text in texts) > INPUT_MAX:
        raise Refusal(400, "input_too_long", f"input has at most {INPUT_MAX:,} characters in all.", param="input")
    return texts


def results(eyes: Eyes, texts: list[str], request_id: str) -> dict[str, Any]:
    """Say what the banks find in texts."""
    return {
        "id": f"modr-{request_id}", "model": f"{NAME}-{eyes.banks}", "results": [_result(eyes, text) for text in texts],
    }  # fmt: skip


def _result(eyes: Eyes, text: str) -> dict[str, Any]:
    found = eyes.scanner.scores(eyes.scanner.scan(text))
    scores = {**dict.fromkeys(UNKNOWN, 0.0), **{name: found.get(key, 0.0) for name, key in OTHERS.items()}, **found}
    return {
        "flagged": any(score >= FLAGGED for score in found.values()),
        "categories": {name: score >= FLAGGED for name, score in scores.items()},
        "category_scores": scores,
        "category_applied_input_types": {name: ["text"] for name in scores},
    }


def _is_text(one: Any) -> bool:
    return isinstance(one, dict) and one.get("type") == "text" and set(one) == {"type", "text"}
