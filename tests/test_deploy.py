"""The examples in `deploy/` are read by the programs that they are written for, where those are there."""

import re
import shlex
import shutil
import subprocess
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from gated_inference.engine import serve
from gated_inference.servers import read_servers
from portal.cli import main as portal
from portal.core.clock import utcnow
from tests.check import ROOT

DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
KNOWN = {"Unit", "Service", "Install"}


def started(unit: Path) -> list[str]:
    """Return the words of the command that a unit starts."""
    text = unit.read_text().replace("\\\n", " ")
    (command,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    return shlex.split(command)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_takes_the_unit(unit: Path, tmp_path: Path) -> None:
    text = unit.read_text()
    assert set(re.findall(r"^\[(\w+)\]$", text, re.MULTILINE)) == KNOWN
    assert "Restart=always" in text
    if shutil.which("systemd-analyze") is None:
        return
    # The programs lie elsewhere on this machine.
    text = re.sub(r"/srv/\S*/bin/\w+", "/bin/true", text).replace("User=portal", "").replace("User=vllm", "")
    copy = tmp_path / unit.name.replace("@", "@0")
    copy.write_text(re.sub(r"(EnvironmentFile|WorkingDirectory|ReadWritePaths)=\S+", "", text))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=60, check=False
    )
    own = [line for line in done.stderr.splitlines() if copy.name in line or str(copy) in line]
    assert (own, done.returncode) == ([], 0), done.stderr


def test_units_start_commands_that_there_are() -> None:
    starts = {unit.name: started(unit) for unit in UNITS}
    assert starts.keys() == {
        "engine.service", "portal.service", "portal@.service", "vllm.service", "vllm-node@.service"
    }  # fmt: skip
    assert starts["portal.service"][1] in portal.commands
    for name in re.findall(r"portal@(\w+)", (DEPLOY / "systemd" / "portal@.service").read_text()):
        assert name in portal.commands
    args = serve.parse(starts["engine.service"][3:])
    assert (args.ranks, args.port, args.slots) == ("auto", 8001, 16)


@pytest.mark.parametrize(("unit", "cards"), [("vllm.service", 8), ("vllm-node@.service", 16)])
def test_vllm_gets_only_as_many_sequences_as_the_memory_of_the_cards_holds(unit: str, cards: int) -> None:
    words = started(DEPLOY / "systemd" / unit)
    given = dict(pairwise(words))
    assert int(given["--tensor-parallel-size"]) * int(given.get("--pipeline-parallel-size", 1)) == cards
    usable = cards * (80 * float(given["--gpu-memory-utilization"]) - 2)  # GiB
    layers, width, weights = 70, 14336, 328
    a_token = 2 * layers * width * 2 / 2**30
    assert usable - weights >= int(given["--max-num-seqs"]) * int(given["--max-model-len"]) * a_token


def test_the_list_of_engines_is_one() -> None:
    servers = read_servers(DEPLOY / "engines.toml")
    assert {server.lab for server in servers} == {"Lab A", "Lab B"}
    assert sum(server.model == "bigscience/bloom" for server in servers) == 2


def test_nginx_takes_its_file(tmp_path: Path) -> None:
    text = (DEPLOY / "nginx" / "portal.conf").read_text()
    bare = re.sub(r"#.*", "", text)
    assert bare.count("{") == bare.count("}")
    assert all(line.strip()[-1:] in {"", ";", "{", "}"} for line in bare.splitlines())
    nginx = shutil.which("nginx")
    if nginx is None:
        return
    self_signed(tmp_path)
    text = re.sub(r"/etc/portal/tls/([\w.]+)", rf'"{tmp_path}/\1"', text)
    whole = tmp_path / "nginx.conf"
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f'{kind}_temp_path "{tmp_path}/{kind}";\n' for kind in kinds)
    whole.write_text(f'pid "{tmp_path}/pid";\nerror_log stderr;\nevents {{}}\nhttp {{\n{places}{text}\n}}\n')
    done = subprocess.run(
        [nginx, "-t", "-e", "stderr", "-c", str(whole)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr


def self_signed(folder: Path) -> None:
    """Write a key and a certificate of its own."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "portal.example.org")])
    now = utcnow()
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(1))
    (folder / "fullchain.pem").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    (folder / "privkey.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )  # fmt: skip
