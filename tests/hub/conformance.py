"""What each generation of Hub clients is asked to do, and how it is told in the docs."""

import os

from tests.running import ROOT

PAGE = ROOT / "docs" / "clients.md"
NOT_OFFERED = "–"

# Runs in a client's environment. Each action has a cache of its own, so that none is answered from what another left.
PROGRAM = r"""
import hashlib, inspect, os
from huggingface_hub import HfApi, HfFileSystem, hf_hub_download, snapshot_download

api, result = HfApi(), {}


def said(error):
    parts = [error, error.__cause__, error.__context__]
    return " ".join(str(part) for part in parts if part)


def action(work):
    name = work.__doc__
    cache = os.path.join(os.environ["HF_HOME"], work.__name__)
    try:
        result[name] = work(cache) or "yes"
    except AttributeError:
        result[name] = "–"
    except Exception as error:
        result[name] = f"{type(error).__name__}: {said(error)[:300]}"


def sums(folder):
    found = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(root, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, folder)] = hashlib.sha256(file.read()).hexdigest()
    return found


@action
def whoami(cache):
    "whoami"
    assert api.whoami()["name"]


@action
def info(cache):
    "model_info, with sizes, by branch, tag, short and full commit id"
    full = api.model_info(demo, files_metadata=True)
    assert full.sha and full.gated == "auto" and all(s.size for s in full.siblings)
    for revision in ("main", full.sha, full.sha[:8]):
        assert api.model_info(demo, revision=revision).sha == full.sha
    assert api.model_info(odd, revision="rel/1.0").sha


@action
def lists(cache):
    "list_models and list_datasets, by author, words and tags"
    assert demo in [m.id for m in api.list_models(author="demo", search="tiny")]
    assert [m.id for m in api.list_models(filter="text-generation", author="demo", limit=1)] == [demo]
    assert texts in [d.id for d in api.list_datasets(author="lab")]


@action
def tree(cache):
    "list_repo_tree and get_paths_info, with latest changes"
    found = list(api.list_repo_tree(odd, recursive=True, expand=True))
    assert {"sub dir", name} <= {item.path for item in found}
    assert all(getattr(item, "last_commit").title for item in found)
    assert [item.path for item in api.get_paths_info(odd, [name, "none"])] == [name]


@action
def refs(cache):
    "list_repo_refs and list_repo_commits"
    assert [t.name for t in api.list_repo_refs(odd).tags] == ["rel/1.0"]
    assert len(api.list_repo_commits(odd)) == 1


@action
def allowed(cache):
    "auth_check"
    api.auth_check(demo)


@action
def one(cache):
    "hf_hub_download, then again from the cache"
    first = hf_hub_download(demo, "config.json", cache_dir=cache)
    assert hf_hub_download(demo, "config.json", cache_dir=cache) == first and os.path.getsize(first)


@action
def snapshot(cache):
    "snapshot_download, every byte as published"
    assert sums(snapshot_download(demo, cache_dir=cache)) == demo_sums


@action
def names(cache):
    "a branch with a slash, odd names, an empty file"
    folder = snapshot_download(odd, revision="rel/1.0", cache_dir=cache)
    assert sums(folder) == odd_sums


@action
def dataset(cache):
    "snapshot_download of a dataset"
    assert sums(snapshot_download(texts, repo_type="dataset", cache_dir=cache)) == texts_sums


@action
def slash(cache):
    "an endpoint that ends in a slash"
    path = hf_hub_download(demo, "config.json", cache_dir=cache, endpoint=os.environ["HF_ENDPOINT"] + "/")
    assert os.path.getsize(path)


@action
def renamed(cache):
    "a model under the name that it had before"
    assert sums(snapshot_download(before, cache_dir=cache)) == odd_sums


@action
def filesystem(cache):
    "HfFileSystem: ls, info, a window of a file"
    files = HfFileSystem()
    assert f"{demo}/config.json" in files.ls(demo, detail=False)
    with files.open(f"{demo}/{weights}", "rb", block_size=4096) as file:
        file.seek(-10, 2)
        assert len(file.read()) == 10
    assert files.info(f"datasets/{texts}/data/train.jsonl")["size"] > 0


@action
def heads(cache):
    "get_safetensors_metadata"
    assert sum(api.get_safetensors_metadata(demo).parameter_count.values()) == parameters


@action
def unsigned(cache):
    "a download without a signature says where to sign"
    try:
        hf_hub_download(demo, "config.json", cache_dir=cache, token=unsigned_token)
    except Exception as error:
        assert type(error).__name__ == "GatedRepoError" and "/sign" in said(error), said(error)
        return type(error).__name__


@action
def missing(cache):
    "a file that is not there"
    try:
        hf_hub_download(demo, "none.json", cache_dir=cache)
    except Exception as error:
        return type(error).__name__


@action
def loaded(cache):
    "transformers: from_pretrained and generate"
    if not with_transformers:
        return "–"
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(demo, cache_dir=cache)
    model = AutoModelForCausalLM.from_pretrained(demo, cache_dir=cache)
    inputs = tokenizer("Everyone has the right to", return_tensors="pt")
    output = tokenizer.decode(model.generate(**inputs, max_new_tokens=8, do_sample=False)[0])
    assert len(output) > len("Everyone has the right to") + 3


@action
def transformers_unsigned(cache):
    "transformers without a signature says where to sign"
    if not with_transformers:
        return "–"
    from transformers import AutoConfig

    try:
        AutoConfig.from_pretrained(demo, token=unsigned_token, cache_dir=cache)
    except OSError as error:
        assert "/licenses/bloom-rail/" in str(error) and "/sign" in str(error), error
        return "OSError"
"""


def table(head: list[str], columns: dict[str, dict[str, str]], first: str) -> list[str]:
    """Write what each client does as lines of Markdown."""
    rows = list(dict.fromkeys(name for column in columns.values() for name in column))
    lines = [f"| {' | '.join([first, *head])} |", f"|{' --- |' * (len(head) + 1)}"]
    for name in rows:
        cells = [name, *(column.get(name, NOT_OFFERED) for column in columns.values())]
        lines += [f"| {' | '.join(cells)} |"]
    return lines


def _around(mark: str) -> tuple[list[str], list[str], list[str]]:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = lines.index(f"<!-- {mark} -->") + 2
    end = next(n for n in range(start, len(lines)) if not lines[n].startswith("|"))
    return lines[:start], lines[start:end], lines[end:]


def check(mark: str, rows: list[str]) -> None:
    """Compare a table with the one in the docs, or put it there where ``PORTAL_TABLE`` is set."""
    before, kept, after = _around(mark)
    if os.environ.get("PORTAL_TABLE"):
        PAGE.write_text("\n".join([*before, *rows, *after]) + "\n", encoding="utf-8")
    else:
        assert rows == kept
