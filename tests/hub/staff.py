"""Staff who upload with Hub clients, and files for them to upload."""

import json
import struct
from pathlib import Path
from typing import Any

from tests.running import RunningPortal

NO_XET = {"HF_HUB_DISABLE_XET": "1"}
CARD = "---\nlicense: other\nlanguage: [en]\n---\n\n# A model\n\nIt writes.\n"


def staff_token(portal: RunningPortal, email: str, *scopes: str, role: str = "card_editor") -> str:
    """Make a member of staff by the command line, and an access token of theirs."""
    portal.cli("staff", "add", email, "--role", role, "--name", email.partition("@")[0])
    flags = [part for scope in scopes or ("weights:write",) for part in ("--scope", scope)]
    return portal.cli("tokens", "issue", email, "--name", "upload", *flags).strip()


def safetensors(parameters: int, fill: int = 0) -> bytes:
    """The bytes of a safetensors file with one tensor of so many parameters in F32."""
    tensor = {"dtype": "F32", "shape": [parameters], "data_offsets": [0, 4 * parameters]}
    head = json.dumps({"weight": tensor}).encode()
    return struct.pack("<Q", len(head)) + head + bytes([fill]) * (4 * parameters)


def write(folder: Path, **files: Any) -> Path:
    """Make a folder with files; a double underscore in a name is a dot, two dots a folder."""
    for name, content in files.items():
        path = folder / name.replace("___", "/").replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else str(content).encode())
    return folder
