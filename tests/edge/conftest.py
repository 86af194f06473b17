"""Fixtures of the data plane."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edge.desk import Desk, make_template
from tests.edge.ground import World, own_world


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database to copy."""
    return make_template(tmp_path_factory.mktemp("desk") / "portal.db")


@pytest.fixture
def desk(tmp_path: Path, template: Path) -> Iterator[Desk]:
    """The gate in front of a fake engine."""
    desk = Desk(tmp_path, template)
    yield desk
    desk.close()


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A database with a released model, and its bytes."""
    world = own_world(tmp_path_factory.mktemp("resolve"))
    yield world
    world.close()
    world.engine.dispose()


@pytest.fixture
def world(ground: World) -> Iterator[World]:
    """The data plane with an empty journal; people and models of other tests stay as noise."""
    world = World(ground.engine, ground.store)
    yield world
    world.close()
