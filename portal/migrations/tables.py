"""Imports every package's tables, so that the metadata is whole."""

from importlib import import_module
from pkgutil import iter_modules

import portal


def load_tables() -> None:
    """Import ``models`` of each package that has tables."""
    for package in iter_modules(portal.__path__):
        name = f"portal.{package.name}"
        if package.ispkg and any(m.name == "models" for m in iter_modules(import_module(name).__path__)):
            import_module(f"{name}.models")
