"""Starting and stopping processes, charging CPU time and memory to them, calling the load generator, and the peers."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.running import ROOT, free_port

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"
TARGET_CORE, LOAD_CORE = "0", "1"
TICKS = os.sysconf("SC_CLK_TCK")
TEXT = "Write one sentence about a fox that jumps over a dog, and then repeat it several times."
NGINX = """{user} worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 8192; }}
http {{ access_log off; {temporary} keepalive_requests 100000000; sendfile on; tcp_nopush on;
  upstream engine {{ server 127.0.0.1:{engine}; keepalive 1024; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{port} backlog=4096;
    location = /health {{ return 200 "ok"; }}
    location /static/ {{ alias "{static}/"; }}
    location / {{
      proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }} }} }}
"""
LITELLM = """model_list:
{models}
litellm_settings: {{telemetry: false, set_verbose: false, request_timeout: 600, num_retries: 0}}
general_settings: {{master_key: "os.environ/LITELLM_MASTER_KEY", disable_error_logs: true}}
"""
ENTRY = (
    '  - {{model_name: "{name}", litellm_params: {{model: "text-completion-openai/{name}", '
    'api_base: "http://127.0.0.1:{engine}/v1", api_key: x}}}}'
)


def build() -> None:
    """Compile the engine and the load generator."""
    subprocess.run(["make", "-s", "-C", str(HERE)], check=True)


def spawn(
    command: list[Any], core: str, env: dict[str, str] | None = None, log: Path | str = os.devnull, **more: Any
) -> subprocess.Popen[bytes]:
    """Start a process on a core."""
    environ = {**os.environ, **(env or {})}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)  # some peers import anew for each request without a bytecode cache
    full = ["taskset", "-c", core, *map(str, command)]
    with Path(log).open("ab") as file:
        return subprocess.Popen(
            full, env=environ, stdout=file, stderr=file, stdin=subprocess.DEVNULL, start_new_session=True, **more
        )


def tree(pid: int) -> list[int]:
    """Return a process and all that it started."""
    found, todo = [], [pid]
    while todo:
        found.append(one := todo.pop())
        with suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                todo += [int(child) for child in (task / "children").read_text().split()]
    return found


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started."""
    pids = tree(process.pid)
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(6)
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait(3)


def cpu_seconds(pids: list[int]) -> float:
    """Return user and system time of processes, and of children that they have reaped."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += sum(int(ticks) for ticks in fields[11:15])
    return total / TICKS


def pss_mb(pids: list[int]) -> float:
    """Return the memory of processes; what they share counts once."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total / 1024


def wait_idle(pid: int, limit: float = 10.0) -> None:
    """Wait until a process rests: some go on with requests whose clients have left."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        before = cpu_seconds(tree(pid))
        time.sleep(0.25)
        if cpu_seconds(tree(pid)) - before < 0.04:
            return


def body_file(folder: Path | str, model: str, *, stream: bool) -> str:
    """Write the body of a request."""
    body = {"model": model, "max_tokens": 64, "temperature": 0.7, "prompt": TEXT}
    path = Path(folder) / f"body-{model.replace('/', '_')}-{int(stream)}.json"
    path.write_text(json.dumps(body | ({"stream": True, "stream_options": {"include_usage": True}} if stream else {})))
    return str(path)


def load(port: int, path: str, token: str, *, connections: int, seconds: float, body: str) -> dict[str, Any]:
    """Ask as fast as it is answered, over so many connections; a body "-" asks for a page."""
    command = [str(BUILD / "load"), str(port), path, str(connections), str(seconds), body, token]
    done = subprocess.run(
        ["taskset", "-c", LOAD_CORE, *command], capture_output=True, text=True, timeout=seconds + 60, check=True
    )
    return dict(json.loads(done.stdout))


def fetch(port: int, path: str, token: str, *, local: Path, mode: str, count: int, discard: bool) -> dict[str, Any]:
    """Fetch a file whole, by ranges or in pieces of 10 MiB, and compare what comes with the file itself."""
    command = [str(BUILD / "fetch"), str(port), path, str(local), mode, str(count), token, str(10 << 20)]
    environ = {**os.environ, **({"FETCH_DISCARD": "1"} if discard else {})}
    done = subprocess.run(
        ["taskset", "-c", LOAD_CORE, *command], capture_output=True, text=True, timeout=300, check=True, env=environ
    )
    return dict(json.loads(done.stdout))


def wait_ready(port: int, path: str, token: str, body: str = "", timeout: float = 120) -> str:
    """Wait until an address answers 200; return what it says instead when the time is over."""
    end, error = time.monotonic() + timeout, ""
    data = Path(body).read_bytes() if body else None
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    while time.monotonic() < end:
        try:
            request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers)
            with urllib.request.urlopen(request, timeout=5) as answer:
                answer.read()
                return ""
        except urllib.error.HTTPError as refused:
            error = f"{refused.code} {refused.read(300)!r}"
        except OSError as problem:
            error = repr(problem)
        time.sleep(0.2)
    return error


def find_nginx() -> str | None:
    """Return where nginx is."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def find_litellm() -> str | None:
    """Return where LiteLLM is: in an environment of its own, never the product's."""
    own = ROOT / ".venvs/litellm/bin/litellm"
    return os.environ.get("LITELLM") or (str(own) if own.exists() else None)


def start_nginx(folder: Path, engine: int, static: Path | None = None) -> tuple[subprocess.Popen[bytes], int, str]:
    """Start a bare proxy of one worker: no check, no log; it sends the files of a folder as well."""
    port = free_port()
    parts = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{part}_temp_path {folder}/{part};" for part in parts)
    user = "user root;" if os.geteuid() == 0 else ""
    conf = folder / "nginx.conf"
    conf.write_text(
        NGINX.format(user=user, folder=folder, temporary=temporary, engine=engine, port=port, static=static or folder)
    )
    log = folder / "nginx.log"
    process = spawn([find_nginx(), "-e", log, "-c", conf, "-g", "daemon off;"], TARGET_CORE, log=log)
    if error := wait_ready(port, "/health", "x", timeout=10):
        stop(process)
        sys.exit(f"nginx does not start: {error}\n{log.read_text()[-400:]}")
    return process, port, "x"


def start_litellm(
    folder: Path, engine: int, path: str, models: tuple[str, ...]
) -> tuple[subprocess.Popen[bytes], int, str]:  # fmt: skip
    """Start the fastest LiteLLM that still checks a key: one worker, no database, no retries, no log."""
    port, key, conf, log = free_port(), "sk-" + os.urandom(32).hex(), folder / "litellm.yaml", folder / "litellm.log"
    entries = "\n".join(ENTRY.format(name=name, engine=engine) for name in models)
    conf.write_text(LITELLM.format(models=entries))
    environ = {
        "LITELLM_MASTER_KEY": key, "LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "NO_DOCS": "True",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONPATH": "",
    }  # fmt: skip
    command = [find_litellm(), "--config", conf, "--host", "127.0.0.1", "--port", port, "--num_workers", "1"]
    process = spawn(command, TARGET_CORE, environ, log)
    if error := wait_ready(port, path, key, body_file(folder, models[0], stream=False)):
        stop(process)
        sys.exit(f"LiteLLM does not start: {error}\n{log.read_text()[-600:]}")
    return process, port, key
