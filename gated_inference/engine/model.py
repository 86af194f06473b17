"""Loads a BLOOM model from a folder, for this machine."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from transformers import BloomForCausalLM
from transformers.utils import logging

# Below this many parameters the work of one step is too small to share out, and 32 bits cost nothing.
TINY = 100_000_000


def load(folder: Path, *, threads: int | None = None) -> Any:
    """Return the model in evaluation mode, and set how many cores work on it.

    Raises:
        ValueError: the folder holds no BLOOM model in safetensors files.
    """
    kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    if kind != "bloom":
        raise ValueError(f"The engine runs BLOOM models, not {kind!r}")
    if not any(folder.glob("*.safetensors")):
        raise ValueError("The folder holds no safetensors files, and pickles are not loaded")
    quiet: Any = logging
    quiet.disable_progress_bar()
    bloom: Any = BloomForCausalLM
    model = bloom.from_pretrained(
        folder, dtype="auto", attn_implementation="eager", use_safetensors=True, local_files_only=True
    ).eval()
    tiny = model.num_parameters() < TINY
    torch.set_num_threads(threads or (1 if tiny else os.cpu_count() or 1))
    return model.float() if tiny else model
