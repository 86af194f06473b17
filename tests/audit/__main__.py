"""Runs other people's tools over the code, the locked packages and a running portal.

    python -m tests.audit [code | sbom | supply | fuzz | probe]…     all of them, or only some

Each part prints what it found in one line, and the command ends with 1 if that is more than is taken. The tools lie in
`.venvs`, installed on first use; none of them is a dependency, since some come under licenses that the portal's own
packages may not have.
"""

import json
import re
import subprocess
import sys
import tempfile
import venv
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.check import ROOT
from tests.member import PASSWORD, Browser, add_member
from tests.running import RunningPortal

TOOLS = {
    "audit": ("bandit==1.9.*", "pip-audit==2.10.*", "pip-licenses==5.*", "cyclonedx-bom==7.*", "schemathesis==4.32.*"),
    "semgrep": ("semgrep==1.*",),
    "wapiti": ("wapiti3>=3.2,<4",),
}
CODE = ("portal", "gated_inference", "app.py")
REFUSED = re.compile(r"\bA?GPL|SSPL|BUSL|Commons Clause", re.IGNORECASE)
ALSO = re.compile(r"LGPL|Lesser|MPL|Mozilla|MIT|BSD|Apache", re.IGNORECASE)
PROBED = (
    "backup,cookieflags,crlf,csp,csrf,exec,file,htaccess,http_headers,methods,permanentxss,redirect,sql,ssrf,xss,xxe"
)
LOW = {0, 1}
RULES = Path(__file__).with_name("rules.yml")
LOCK, SBOM = ROOT / "requirements.lock", ROOT / "build" / "sbom.json"


def tool(name: str, home: str) -> str:
    """Return where a tool lies, installed on first use."""
    folder = ROOT / ".venvs" / home
    if not (folder / "bin" / name).exists():
        venv.create(folder, with_pip=True)
        subprocess.run([folder / "bin" / "pip", "install", "--quiet", *TOOLS[home]], check=True)
    return str(folder / "bin" / name)


def run(*command: str, timeout: int = 900) -> subprocess.CompletedProcess[str]:
    """Run a tool and keep what it says."""
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)


def code() -> list[str]:
    """Read the code: nothing high by bandit, nothing by the rules of this project."""
    done = run(tool("bandit", "audit"), "-q", "-r", *CODE, "-f", "json")
    found = json.loads(done.stdout)["results"]
    print(f"bandit: {dict(Counter(each['issue_severity'] for each in found))}")
    bad = [
        f"{each['filename']}:{each['line_number']} {each['test_id']}"
        for each in found
        if each["issue_severity"] == "HIGH"
    ]
    flags = ("--metrics", "off", "--disable-version-check", "--quiet", "--json")
    done = run(tool("semgrep", "semgrep"), "scan", "--config", str(RULES), *flags, *CODE)
    hits = json.loads(done.stdout)["results"]
    print(f"semgrep: {len(hits)} findings by the rules of tests/audit/rules.yml")
    return bad + [f"{each['path']}:{each['start']['line']} {each['check_id']}" for each in hits]


def sbom() -> list[str]:
    """Write the bill of materials of the locked packages."""
    SBOM.parent.mkdir(exist_ok=True)
    run(tool("cyclonedx-py", "audit"), "requirements", str(LOCK), "--output-reproducible", "-o", str(SBOM))
    print(f"sbom: {len(json.loads(SBOM.read_text())['components'])} components in {SBOM.relative_to(ROOT)} (CycloneDX)")
    return []


def supply() -> list[str]:
    """Look at the locked packages: licenses and known vulnerabilities."""
    locked = {line.partition("==")[0].casefold().replace("_", "-") for line in LOCK.read_text().split() if "==" in line}
    done = run(tool("pip-licenses", "audit"), f"--python={sys.executable}", "--format=json", "--with-system")
    rows = [row for row in json.loads(done.stdout) if row["Name"].casefold().replace("_", "-") in locked]
    bad = [
        f"{row['Name']}: {row['License']}"
        for row in rows
        if REFUSED.search(row["License"]) and not ALSO.search(row["License"])
    ]
    print(f"licenses: {len(rows)} of {len(locked)} locked packages, {len(bad)} that may not be here")
    flags = ("--no-deps", "--disable-pip", "--progress-spinner", "off", "-f", "json")
    done = run(tool("pip-audit", "audit"), "-r", str(LOCK), *flags)
    looked = json.loads(done.stdout or '{"dependencies": []}')["dependencies"]
    known = [each for each in looked if "skip_reason" not in each]
    bad += [f"{each['name']} {each['version']}: {each['vulns'][0]['id']}" for each in known if each["vulns"]]
    # A registry that tells nothing about vulnerabilities would otherwise look like a clean result.
    print(f"vulnerabilities: {len(known)} of {len(locked)} packages could be looked up")
    return bad if known else [*bad, "vulnerabilities: the advisories of PyPI could not be reached; nothing was checked"]


def fuzz() -> list[str]:
    """Send whatever the OpenAPI document allows, and what it does not, to a running portal: no failure of ours."""
    with tempfile.TemporaryDirectory() as folder, RunningPortal.start(Path(folder)) as portal:
        add_member(portal, "fuzz@audit.example")
        for role in ("admin", "card_editor"):
            portal.cli("staff", "add", "fuzz@audit.example", "--role", role)
        scopes = [part for scope in ("usage:read", "weights:write", "requests:write") for part in ("--scope", scope)]
        token = portal.cli("tokens", "issue", "fuzz@audit.example", "--name", "fuzz", *scopes).split()[-1]
        done = run(
            tool("schemathesis", "audit"), "run", f"{portal.base_url}/api/openapi.json", "-H",
            f"Authorization: Bearer {token}", "--checks", "not_a_server_error,status_code_conformance",
            "--max-examples", "60", "--continue-on-failure", "--workers", "2", "--request-timeout", "30",
        )  # fmt: skip
    cases = re.findall(r"(\d+) generated", done.stdout)
    print(f"schemathesis: {cases[-1] if cases else 0} cases, exit {done.returncode}")
    return [] if done.returncode == 0 and cases else [done.stdout[-3_000:] + done.stderr[-1_000:]]


def probe() -> list[str]:
    """Attack the pages of a running portal as somebody who is signed in: nothing above low."""
    with (
        tempfile.TemporaryDirectory() as folder,
        RunningPortal.start(Path(folder)) as portal,
        Browser(portal.base_url) as browser,
    ):
        add_member(portal, "probe@audit.example")
        browser.sign_in("probe@audit.example", PASSWORD)
        cookie = "; ".join(f"{name}={value}" for name, value in browser.http.cookies.items())
        report = Path(folder) / "report.json"
        away = [part for path in ("logout", "settings/security/end") for part in ("-x", f"{portal.base_url}/{path}")]
        run(
            tool("wapiti", "wapiti"), "-u", f"{portal.base_url}/", "-H", f"Cookie: {cookie}", *away, "-m", PROBED,
            "--scope", "folder", "-d", "4", "--max-scan-time", "180", "--max-attack-time", "60", "--flush-session",
            "--no-bugreport", "-f", "json", "-o", str(report), timeout=2_400,
        )  # fmt: skip
        told: dict[str, Any] = json.loads(report.read_text())
    found = [(kind, each) for kind, all_ in told["vulnerabilities"].items() for each in all_]
    print(f"wapiti: {told['infos']['crawled_pages_nbr']} pages, {dict(Counter(kind for kind, _ in found))}")
    return [f"{kind}: {each['info']} at {each['path']}" for kind, each in found if each["level"] not in LOW]


PARTS: dict[str, Callable[[], list[str]]] = {
    "code": code, "sbom": sbom, "supply": supply, "fuzz": fuzz, "probe": probe,
}  # fmt: skip


def main(names: list[str]) -> None:
    """Run the parts and print what is more than is taken."""
    faults = [fault for name in names or PARTS for fault in PARTS[name]()]
    print("\n".join(faults) or "nothing above what is taken")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
