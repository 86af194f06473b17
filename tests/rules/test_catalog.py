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
    RepoKind,
    can_be_name,
    named,
    parts_of,
    renamed_path,
    split_name,
)
from portal.core.errors import Conflict, Invalid


@pytest.mark.parametrize(
    "name", ["bigscience/bloom", "a/b", "A-1/b_2.c", "x" * 96 + "/" + "y" * 96, "static-lab/static"]
)
def test_a_good_name_is_split(name: str) -> None:
    assert named(*split_name(name)) == name
    assert split_name(f"datasets/{name}") == (RepoKind.DATASET, *name.split("/"))
    assert named(*split_name(f"datasets/{name}")) == f"datasets/{name}"


@pytest.mark.parametrize(
    "name",
    [
        "", "/", "bloom", "a/", "/b", "a/b/c", "a//b", "-a/b", "a/b-", "a/.b", "a/b.", "a/b--c", "a/b..c", "a/b.git",
        "a b/c", "a/ü", "a/b\n", "a/b\0", "x" * 97 + "/b", "a/" + "y" * 97, "a\\b/c", "%2e/x", "a/b?c", "a/٣",
        ".well-known/a",
    ],
)  # fmt: skip
def test_a_name_that_clients_or_routes_could_misread_is_refused(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        split_name(name)
    assert caught.value.field == "model"


@pytest.mark.parametrize(
    "namespace", [*sorted(RESERVED - {"datasets", ".well-known"}), "API", "Settings", "datasets/api", "Datasets"]
)
def test_namespaces_of_pages_are_kept(namespace: str) -> None:
    with pytest.raises(Invalid, match="kept for the portal's own pages"):
        split_name(f"{namespace}/model")


def test_a_name_says_of_which_kind_it_is() -> None:
    assert parts_of("lab/one") == (RepoKind.MODEL, "lab", "one")
    assert parts_of("datasets/lab/one") == (RepoKind.DATASET, "lab", "one")
    for name in ("datasets", "datasets/one", "datasets/", "lab", "", "a/b/c", "models/lab/one"):
        assert not can_be_name(*parts_of(name)[1:]), name
        with pytest.raises(Invalid):
            split_name(name)


def test_an_address_is_written_with_another_name() -> None:
    assert renamed_path("/lab/old/resolve/rel%2F1/a%20b", "lab/new") == "/lab/new/resolve/rel%2F1/a%20b"
    assert renamed_path("/datasets/lab/old/tree/main", "datasets/x/new") == "/datasets/x/new/tree/main"
    assert renamed_path("/lab/old", "lab/new") == "/lab/new"


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
