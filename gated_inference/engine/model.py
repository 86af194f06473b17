"""Loads a BLOOM model from a folder, for this machine."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from transformers import BloomConfig, BloomForCausalLM
from transformers.utils import logging

# Below this many parameters the work of one step is too small to share out, and 32 bits cost nothing.
TINY = 100_000_000


def config_of(folder: Path) -> Any:
    """Return a model's shape.

    Raises:
        ValueError: the folder holds no BLOOM model in safetensors files.
    """
    kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    if kind != "bloom":
        raise ValueError(f"The engine runs BLOOM models, not {kind!r}")
    if not any(folder.glob("*.safetensors")):
        raise ValueError("The folder holds no safetensors files, and pickles are not loaded")
    return BloomConfig.from_pretrained(folder, attn_implementation="eager", local_files_only=True)


def is_tiny(config: Any) -> bool:
    """Say whether a model is so small that one core does best."""
    width = int(config.hidden_size)
    return width * (int(config.vocab_size) + 12 * int(config.n_layer) * width) < TINY


def load(folder: Path, *, threads: int | None = None, ranks: int = 1) -> Any:
    """Return the model in evaluation mode, or this rank's part of it, and set how many cores work on it.

    Raises:
        ValueError: the folder holds no BLOOM model in safetensors files.
    """
    config = config_of(folder)
    tiny = is_tiny(config)
    torch.set_num_threads(threads or (1 if tiny else max(1, (os.cpu_count() or 1) // ranks)))
    if ranks > 1:
        from gated_inference.engine.tensor_parallel import load_part  # noqa: PLC0415  only those who share need it

        return load_part(folder, config, torch.float32 if tiny else None)
    quiet: Any = logging
    quiet.disable_progress_bar()
    bloom: Any = BloomForCausalLM
    model = bloom.from_pretrained(
        folder, dtype="auto", attn_implementation="eager", use_safetensors=True, local_files_only=True
    ).eval()
    model = model.float() if tiny else model
    return model.cuda() if torch.cuda.is_available() else model
