"""Fixtures of pages and of what programs ask for."""

from pathlib import Path
from typing import Any

import pytest

from tests.site import Client
from tests.web.shelf import Site


@pytest.fixture
def site(app: Any, client: Client, tmp_path: Path) -> Site:
    """An app with the files of a released model."""
    return Site(app, client, tmp_path)
