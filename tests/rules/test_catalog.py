"""Names of models, and the lives of models and cards."""

import pytest

from portal.catalog.rules import (
    CARD,
    MODEL,
    RESERVED,
    CardAction,
    CardState,
    ModelAction,
    ModelState,
    split_name,
)
from portal.core.errors import Conflict, Invalid


@pytest.mark.parametrize(
    "name", ["bigscience/bloom", "a/b", "A-1/b_2.c", "x" * 96 + "/" + "y" * 96, "static-lab/static"]
)
def test_a_good_name_is_split(name: str) -> None:
    assert "/".join(split_name(name)) == name


@pytest.mark.parametrize(
    "name",
    [
        "", "/", "bloom", "a/", "/b", "a/b/c", "a//b", "-a/b", "a/b-", "a/.b", "a/b.", "a/b--c", "a/b..c", "a/b.git",
        "a b/c", "a/ü", "a/b\n", "a/b\0", "x" * 97 + "/b", "a/" + "y" * 97, "a\\b/c", "%2e/x", "a/b?c", "a/٣",
    ],
)  # fmt: skip
def test_a_name_that_clients_or_routes_could_misread_is_refused(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        split_name(name)
    assert caught.value.field == "model"


@pytest.mark.parametrize("namespace", [*sorted(RESERVED), "API", "Settings"])
def test_namespaces_of_pages_are_kept(namespace: str) -> None:
    with pytest.raises(Invalid, match="kept for the portal's own pages"):
        split_name(f"{namespace}/model")


def test_a_model_is_published_once_and_may_be_withdrawn() -> None:
    assert MODEL.next(ModelState.DRAFT, ModelAction.PUBLISH) is ModelState.PUBLISHED
    for state in (ModelState.DRAFT, ModelState.PUBLISHED):
        assert MODEL.next(state, ModelAction.WITHDRAW) is ModelState.WITHDRAWN
    for state, action in ((ModelState.WITHDRAWN, ModelAction.PUBLISH), (ModelState.PUBLISHED, ModelAction.PUBLISH)):
        with pytest.raises(Conflict, match="cannot publish"):
            MODEL.next(state, action)


def test_a_card_revision_is_published_and_superseded_and_never_comes_back() -> None:
    assert CARD.next(CardState.DRAFT, CardAction.PUBLISH) is CardState.PUBLISHED
    assert CARD.next(CardState.PUBLISHED, CardAction.SUPERSEDE) is CardState.SUPERSEDED
    assert not any(CARD.can(CardState.SUPERSEDED, action) for action in CardAction)
