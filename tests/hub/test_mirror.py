"""Mirroring a model with the Hub's own client, here from one portal into another."""

import shutil

import pytest

from tests.hub.conftest import Hub
from tests.running import RunningPortal, free_port

DEMO = "demo/bloom-tiny"


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> RunningPortal:
    """A second portal that is not running, to mirror into."""
    portal = RunningPortal(home=tmp_path_factory.mktemp("other"), port=free_port())
    portal.cli("init", "--no-demo")
    portal.cli("licenses", "publish", "bloom-rail", "1.0.0")
    return portal


@pytest.fixture
def other(hub: Hub, ready: RunningPortal) -> RunningPortal:
    """The second portal, which takes the first for the Hub and has fetched nothing yet."""
    shutil.rmtree(ready.home / "mirror", ignore_errors=True)
    ready.extra = {"HF_ENDPOINT": hub.url}
    return ready


def test_a_model_is_fetched_and_published_under_a_license_here(hub: Hub, other: RunningPortal) -> None:
    other.extra["HF_TOKEN"] = hub.tokens["signed"]
    printed = {other.cli("models", "mirror", DEMO, "bigscience/bloom-560m") for _ in range(2)}
    assert len(printed) == 1, "a second time changes nothing"
    assert printed.pop().startswith("bigscience/bloom-560m@")
    assert (other.home / "mirror" / DEMO / "config.json").is_file()


@pytest.mark.parametrize(
    ("repository", "token", "said"),
    [
        (DEMO, "", "demo/bloom-tiny asks for consent first"),
        ("demo/none", "signed", "There is no repository demo/none"),
        ("a/../b", "", "is no repository name"),
        (DEMO, "bad", "could not be fetched"),
    ],
)
def test_what_cannot_be_fetched_is_said_in_one_line(
    hub: Hub, other: RunningPortal, repository: str, token: str, said: str
) -> None:
    if token:
        other.extra["HF_TOKEN"] = hub.tokens.get(token, "lmp_nonsense")
    with pytest.raises(AssertionError) as caught:
        other.cli("models", "mirror", repository, "bigscience/bloom-560m")
    assert said in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_hub_that_is_away_is_said_to_be(other: RunningPortal) -> None:
    other.extra["HF_ENDPOINT"] = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(AssertionError, match="could not be fetched"):
        other.cli("models", "mirror", DEMO)
