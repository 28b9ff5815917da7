"""Rows of trees (`prefix_tree.py`) as the model reads them: a cache that says who sees whom."""

import torch
from torch import Tensor

from scratchlm.model.cache import KVCache
from scratchlm.model.transformer import Transformer

_READ_AT_ONCE = 512  # tokens of a stem: bounds the memory of the attention mask of a long one


class TreeCache(KVCache):
    """What the model asks of a cache, for rows that are read once and not gone on with.

    depths   (B, T) int64   where each token stands, the stem's tokens not counted
    ends     (B, T) int64   token i of a row is seen by those at i to ends[i] - 1
    stem     a cache of one row that stands before all of them, or None
    """

    def __init__(self, depths: Tensor, ends: Tensor, stem: KVCache | None) -> None:
        self._stem = stem
        self._longest = 0 if stem is None else stem.longest
        self._depths = depths + self._longest
        here = torch.arange(depths.shape[1], device=depths.device)
        seen = (here[:, None] >= here) & (here[:, None] < ends[:, None])  # (B, T, T)
        behind = seen.new_ones(1, 1, 1).expand(*depths.shape, self._longest)  # (B, T, stem)
        self._mask = torch.cat((behind, seen), dim=-1)[:, None]  # (B, 1, T, S)

    def positions(self, T: int) -> Tensor:  # noqa: ARG002
        """(B, T): where each token stands in its sequence."""
        return self._depths

    def mask(self, T: int) -> Tensor:  # noqa: ARG002
        """(B, 1, T, S) bool: the stem, what leads to the token, and itself."""
        return self._mask

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The stem's and the given (B, K, T, Dh), which are not kept."""
        if self._stem is None:
            return k, v
        shape = (len(k), -1, -1, -1)
        keys = self._stem.keys[layer].expand(shape), k
        values = self._stem.values[layer].expand(shape), v
        return torch.cat(keys, dim=2), torch.cat(values, dim=2)


def read_stem(model: Transformer, tokens: Tensor) -> KVCache:
    """A cache of one row that holds `tokens`, (T,) int64, and has no room for more."""
    dtype = model.compute_dtype or model.embedding.weight.dtype
    cache = KVCache(model.config, 1, len(tokens), device=tokens.device, dtype=dtype)
    for piece in tokens[None].split(_READ_AT_ONCE, dim=1):
        model.hidden(piece, cache=cache)
        cache.advance(piece.shape[1])
    return cache
