"""The attention cache of rows of unequal length: padded on the left, joined and thinned between two steps."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache


class Rows:
    """Several rows of one model's cache. BLOOM takes places from the mask, so padding on the left is exact."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.device: torch.device = model.device
        self.cache: Any = DynamicCache(config=model.config)
        self.lengths: list[int] = []

    @property
    def width(self) -> int:
        """Return the length of the longest row."""
        return max(self.lengths, default=0)

    def mask(self) -> Tensor | None:
        """Return what of the cache is real, or nothing when no row is padded."""
        if min(self.lengths) == self.width:
            return None
        first = self.width - torch.tensor(self.lengths)
        return (torch.arange(self.width)[None] >= first[:, None]).long().to(self.device)

    @torch.inference_mode()
    def feed(self, ids: Tensor) -> Tensor:
        """Append as many tokens to every row, in one forward pass, and return the logits after the last."""
        self.lengths = [length + ids.shape[1] for length in self.lengths or [0] * ids.shape[0]]
        out = self.model(
            input_ids=ids.to(self.device), attention_mask=self.mask(), cache=self.cache, use_cache=True,
            logits_to_keep=1,
        )  # fmt: skip
        logits: Tensor = out.logits[:, -1].float().cpu()
        return logits

    @torch.inference_mode()
    def keep(self, places: list[int]) -> None:
        """Keep some rows, in the order given (a row may be taken more than once), and cut what now pads all."""
        old = self.width
        self.lengths = [self.lengths[place] for place in places]
        chosen = torch.tensor(places, device=self.device)
        for layer in self.cache.layers:
            layer.keys = layer.keys.index_select(0, chosen)[:, :, old - self.width :]
            layer.values = layer.values.index_select(0, chosen)[:, :, old - self.width :]

    def blank(self) -> "Rows":
        """Return no rows yet, of the same model."""
        return Rows(self.model)

    def drop(self) -> None:
        """Say that nobody needs these rows any more."""

    @staticmethod
    def joined(parts: list[Any]) -> Any:
        """Return all rows of several caches as one, and use it in their place."""
        return parts[0] if len(parts) == 1 else parts[0].merged(parts)

    @torch.inference_mode()
    def merged(self, parts: list[Any]) -> Any:
        """Return new rows made of all the parts, of which this one is the first."""
        whole = self.blank()
        whole.lengths = [length for part in parts for length in part.lengths]
        width = whole.width

        def joined(tensors: list[Tensor]) -> Tensor:
            return torch.cat([functional.pad(t, (0, 0, width - t.shape[2], 0)) for t in tensors])

        for place, layer in enumerate(whole.cache.layers):
            layers = [part.cache.layers[place] for part in parts]
            layer.update(joined([each.keys for each in layers]), joined([each.values for each in layers]))
        return whole


class Alone:
    """A model that this process has for itself: nobody else is told what happens to its rows."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def blank(self) -> Rows:
        """Return no rows yet."""
        return Rows(self.model)

    def rest(self) -> None:
        """Do nothing, from time to time, while there is nothing to do."""
