"""One BLOOM model shared by several processes: each holds some attention heads and a slice of every wide layer.

The first rank decides everything. Before it touches its model it tells the others what it is about to do, in one short
plan; they do the same with their parts, and nothing else. A rank that decided alone would leave the others waiting.
"""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, distributed
from torch.distributed.tensor import DTensor, Shard
from transformers import BloomForCausalLM
from transformers.distributed.configuration_utils import DistributedConfig
from transformers.initialization import no_tie_weights

from gated_inference.engine.cache import Alone, Rows

# transformers brings no plan for BLOOM. The fused layer of queries, keys and values lies head by head, so that cutting
# it across is right; the output layer is the embedding again, and cut the same way.
PLAN = {
    "transformer.word_embeddings": "embedding_rowwise",
    "transformer.h.*.self_attention.query_key_value": "colwise",
    "transformer.h.*.self_attention.dense": "rowwise",
    "transformer.h.*.mlp.dense_h_to_4h": "colwise",
    "transformer.h.*.mlp.dense_4h_to_h": "rowwise",
    "lm_head": "colwise_gather_output",
}
FEED, KEEP, JOIN, DROP, REST = range(5)
HEAD = 4


def load_part(folder: Path, config: Any, dtype: torch.dtype | None) -> Any:
    """Return this rank's part of a model; of each file it reads only the slices that it needs.

    Args:
        dtype: what the numbers become, if not what they are in the files.

    Raises:
        ValueError: a weight is missing.
    """
    bloom: Any = BloomForCausalLM
    plan, device, mesh = bloom.prepare_distribute_model(
        DistributedConfig(tp_size=distributed.get_world_size(), tp_plan=PLAN)
    )
    with no_tie_weights(), torch.device("meta"):
        model = bloom(config).eval()
    model = bloom.maybe_distribute_model(model, plan, mesh)
    with ExitStack() as stack:
        files = [stack.enter_context(safe_open(path, "pt")) for path in sorted(folder.glob("*.safetensors"))]
        # Published BLOOMs were saved without the outer name.
        found = {
            name.removeprefix("transformer."): file.get_slice(name) for file in files for name in file.keys()  # noqa: SIM118
        }  # fmt: skip
        for name, weights in list(model.named_parameters()):
            key = name.removeprefix("transformer.")
            if key in found:
                place(model, name, weights, part_of(found[key], weights).to(device=device, dtype=dtype))
            elif name != "lm_head.weight" or not config.tie_word_embeddings:
                raise ValueError(f"The weights {key!r} are missing")
    model.tie_weights()
    correct(model, distributed.get_rank(), distributed.get_world_size())
    return model


def part_of(file: Any, weights: Tensor) -> Tensor:
    """Read this rank's slice of one tensor; the last rank's may be shorter."""
    where = [slice(None)] * weights.ndim
    if isinstance(weights, DTensor) and isinstance(cut := weights.placements[0], Shard):
        size = -(-weights.shape[cut.dim] // distributed.get_world_size())
        first = distributed.get_rank() * size
        where[cut.dim] = slice(first, first + size)
    part: Tensor = file[tuple(where)]
    return part.clone(memory_format=torch.contiguous_format)  # else it would be a view of the whole tensor in the file


def place(model: Any, name: str, weights: Tensor, own: Tensor) -> None:
    """Put weights that were read where the model has only their shape."""
    if isinstance(weights, DTensor):
        own = DTensor.from_local(
            own, weights.device_mesh, weights.placements, run_check=False, shape=weights.shape, stride=weights.stride()
        )
    module, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(module), leaf, torch.nn.Parameter(own, requires_grad=False))


def correct(model: Any, rank: int, ranks: int) -> None:
    """Tell each attention layer that it has fewer heads, and which of the heads' biases are its own."""
    for block in model.transformer.h:
        attention = block.self_attention
        attention.num_heads //= ranks
        attention.register_forward_pre_hook(biases_of(rank, ranks), with_kwargs=True)


def biases_of(rank: int, ranks: int) -> Any:
    """Return a hook that keeps one rank's heads of the biases by which BLOOM knows places."""

    def keep(attention: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        heads, alibi = attention.num_heads, kwargs["alibi"]
        each = alibi.unflatten(0, (-1, heads * ranks))
        return args, kwargs | {"alibi": each[:, rank * heads : (rank + 1) * heads].flatten(0, 1)}

    return keep


class Channel:
    """Carries the first rank's plans to the others: which rows, and what is done with them.

    Args:
        group: those who talk, over what the computer's processors share.
        longest: how many numbers a plan may hold at most.
        patience: for so many seconds one waits for another, who then counts as stuck.
    """

    def __init__(self, group: distributed.ProcessGroup, longest: int, patience: float) -> None:
        self.group = group
        self.patience = timedelta(seconds=patience)
        self.plan = torch.zeros(HEAD + longest, dtype=torch.int64)
        self.numbers: Iterator[int] = itertools.count()

    def say(self, kind: int, number: int, values: list[int], rows: int = 0) -> None:
        """Tell all other ranks what to do with some rows."""
        self.plan[: HEAD + len(values)] = torch.tensor([kind, number, rows, len(values), *values])
        distributed.broadcast(self.plan, 0, group=self.group)

    def hear(self) -> tuple[int, int, list[int], int]:
        """Wait for what the first rank is about to do."""
        distributed.broadcast(self.plan, 0, group=self.group)
        kind, number, rows, length = self.plan[:HEAD].tolist()
        return kind, number, self.plan[HEAD : HEAD + length].tolist(), rows

    def meet(self) -> None:
        """Wait until all are here. A plan alone reaches also a rank that has got stuck: its socket keeps it."""
        distributed.monitored_barrier(self.group, timeout=self.patience)


class LedRows(Rows):
    """Rows of the first rank: the others are told of all that happens to them."""

    def __init__(self, model: Any, channel: Channel) -> None:
        super().__init__(model)
        self.channel = channel
        self.number = next(channel.numbers)

    def blank(self) -> "LedRows":
        """Return no rows yet, in the same hands."""
        return LedRows(self.model, self.channel)

    def feed(self, ids: Tensor) -> Tensor:
        """Append tokens on all ranks."""
        self.channel.say(FEED, self.number, ids.flatten().tolist(), ids.shape[0])
        return super().feed(ids)

    def keep(self, places: list[int]) -> None:
        """Keep some rows on all ranks."""
        self.channel.say(KEEP, self.number, places)
        super().keep(places)

    def merged(self, parts: list[Any]) -> Any:
        """Put rows together on all ranks."""
        whole = super().merged(parts)
        self.channel.say(JOIN, whole.number, [part.number for part in parts])
        return whole

    def drop(self) -> None:
        """Forget these rows on all ranks."""
        self.channel.say(DROP, self.number, [])


class Lead(Alone):
    """The first rank's hold on a model that it shares with others."""

    def __init__(self, model: Any, channel: Channel) -> None:
        super().__init__(model)
        self.channel = channel

    def blank(self) -> Rows:
        """Return no rows yet, of which the others will be told."""
        return LedRows(self.model, self.channel)

    def rest(self) -> None:
        """See that all ranks are there, while there is nothing to do."""
        self.channel.say(REST, 0, [])
        self.channel.meet()


def follow(model: Any, channel: Channel) -> None:
    """Do what the first rank says, for ever: an end of the first rank is the end of this process."""
    held: dict[int, Rows] = {}
    while True:
        kind, number, values, rows = channel.hear()
        if kind == FEED:
            held.setdefault(number, Rows(model)).feed(torch.tensor(values).view(rows, -1))
        elif kind == KEEP:
            held[number].keep(values)
        elif kind == JOIN:
            held[number] = Rows.joined([held.pop(part) for part in values])
        elif kind == DROP:
            held.pop(number, None)
        else:
            channel.meet()
