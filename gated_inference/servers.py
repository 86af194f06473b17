"""Which servers run engines, by the settings."""

import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from portal.core.config import SettingError, Settings
from portal.edge.address import Address

FIELDS = {"model": str, "url": str, "key": str, "weight": (int, float), "lab": str, "name": str, "limit": int}
LIMIT = 1_024


@dataclass(frozen=True)
class Server:
    """An OpenAI-compatible server for one model, or, where `model` is empty, for whatever it says it has.

    `name` is what the server calls the model, `lab` whose it is, `weight` how much it can do beside the others, and
    `limit` how many requests it is given at once.
    """

    address: Address
    model: str = ""
    name: str = ""
    key: str = ""
    weight: float = 1.0
    lab: str = ""
    limit: int = LIMIT

    @property
    def headers(self) -> list[tuple[str, str]]:
        """What each request to it carries."""
        return [("Authorization", f"Bearer {self.key}")] if self.key else []

    @cached_property
    def title(self) -> str:
        """How records and pages call it."""
        return "embedded" if self.address.uds is not None else self.address.authority


def servers_of(settings: Settings) -> list[Server]:
    """Return the servers that the settings name."""
    if settings.engines == "embedded":
        return [Server(Address(uds=settings.engine_socket))]
    return read_servers(Path(settings.engines))


def read_servers(path: Path) -> list[Server]:
    """Read a file of ``[[servers]]``, or raise `SettingError` that names what is wrong in it."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingError(f"PORTAL_ENGINES: cannot read {path}: {error}") from None
    entries = table.get("servers")
    if set(table) != {"servers"} or not isinstance(entries, list) or not entries:
        raise SettingError(f"PORTAL_ENGINES: {path} holds one [[servers]] for each server, and nothing else")
    return [_server(entry, f"PORTAL_ENGINES: {path}, server {number}") for number, entry in enumerate(entries, 1)]


def _server(entry: dict[str, Any], where: str) -> Server:
    for name, value in entry.items():
        if name not in FIELDS or isinstance(value, bool) or not isinstance(value, FIELDS[name]):  # type: ignore[arg-type]
            raise SettingError(f"{where}: {name} is not known, or not of its kind")
    if not entry.get("model") or not entry.get("url"):
        raise SettingError(f"{where}: needs model and url")
    weight = float(entry.get("weight", 1.0))
    if not 0 < weight <= 1_000:  # noqa: PLR2004
        raise SettingError(f"{where}: weight is greater than 0 and at most 1000")
    limit = entry.get("limit", LIMIT)
    if not 0 < limit <= LIMIT:
        raise SettingError(f"{where}: limit is at least 1 and at most {LIMIT}")
    try:
        address = Address.parse(entry["url"])
    except ValueError as error:
        raise SettingError(f"{where}: url: {error}") from None
    kept = {name: entry[name] for name in ("model", "key", "lab") if name in entry}
    return Server(address, name=entry.get("name", entry["model"]), weight=weight, limit=limit, **kept)
