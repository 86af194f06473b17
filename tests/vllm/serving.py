"""A tiny tied BLOOM whose answers are diverse, and a real vLLM server on it, shared by two processes of the CPU."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import torch
from transformers import BloomConfig, BloomForCausalLM

from tests.engine.conftest import FOLDER
from tests.running import free_port
from tests.vllm.environment import VLLM

SERVED_AS, KEY = "tiny", "the key of the lab"
CONTEXT = 256
START = 600


def save_tiny(folder: Path) -> None:
    """Save the model: vLLM wants the output layer tied, and heads of 32 numbers at least.

    A random tied BLOOM repeats its last token for ever; wide layers above a narrow embedding keep it from that.
    """
    torch.manual_seed(2)
    config = BloomConfig(
        vocab_size=4096, hidden_size=128, n_layer=3, n_head=4, bos_token_id=1, eos_token_id=2, pad_token_id=3
    )
    model: Any = BloomForCausalLM(config).eval()
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if name.endswith("bias"):
                weights.normal_(0.0, 0.1)
            elif "word_embeddings.weight" in name:
                weights.normal_(0.0, 0.05)
            elif "layernorm" not in name and "ln_f" not in name:
                weights.normal_(0.0, 0.3)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        if (FOLDER / name).exists():
            shutil.copy(FOLDER / name, folder)


@dataclass
class Vllm:
    """A running vLLM server."""

    process: subprocess.Popen[bytes]
    base_url: str
    log: Path

    def figure(self, name: str) -> float:
        """Return one of its own figures."""
        lines = httpx.get(f"{self.base_url}/metrics", timeout=30).text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"vllm:{name}{{"))

    def until(self, name: str, wanted: float, seconds: float = 60) -> None:
        """Wait until one of its figures is as wanted."""
        deadline = time.monotonic() + seconds
        while (found := self.figure(name)) != wanted:
            assert time.monotonic() < deadline, f"{name} is {found}, not {wanted}"
            time.sleep(0.1)

    def wait_ready(self) -> None:
        deadline = time.monotonic() + START
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()[-6000:]
            try:
                if httpx.get(f"{self.base_url}/health", timeout=5).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.5)
        raise AssertionError(self.log.read_text()[-6000:])


@contextmanager
def vllm(model: Path, home: Path) -> Iterator[Vllm]:
    """Run vLLM with tensor parallel 2, each rank on a core of its own; nothing of it leaves its folder."""
    port, log = free_port(), home / "vllm.log"
    cores = sorted(os.sched_getaffinity(0))
    own = {
        "VLLM_CPU_OMP_THREADS_BIND": f"{cores[0]}|{cores[-1]}", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_API_KEY": KEY,
        "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "GLOO_SOCKET_IFNAME": "lo",
        "VLLM_CONFIG_ROOT": str(home / "config"), "VLLM_CACHE_ROOT": str(home / "cache"), "HF_HOME": str(home / "hub"),
    }  # fmt: skip
    # The CPU wheel has another name than the program `vllm` looks for, so its server is started as a module.
    command = [
        VLLM.python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--served-model-name",
        SERVED_AS, "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--max-model-len", str(CONTEXT),
        "--tensor-parallel-size", "2", "--max-num-seqs", "8",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=home, env=os.environ | own, stdout=log.open("wb"), stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        running = Vllm(process, f"http://127.0.0.1:{port}", log)
        running.wait_ready()
        yield running
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
