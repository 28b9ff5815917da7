"""Keys and values of the tokens read so far, so that each new token costs one step."""

import torch
from torch import Tensor

from scratchlm.model.config import ModelConfig


class KVCache:
    """Room for `size` tokens of B sequences, which may have read different numbers of tokens.

    keys, values   per layer (B, K, size, Dh)
    lengths        (B,) int64 on the model's device: tokens read by each sequence
    """

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        size: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        shape = (batch, config.n_kv_heads, size, config.d_head)
        self.size = size
        self.keys = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.n_layers)]
        self.values = [torch.zeros_like(k) for k in self.keys]
        self.lengths = torch.zeros(batch, dtype=torch.int64, device=device)
        self._even = True  # all lengths equal: slices instead of scattered writes
        self._longest = 0

    @property
    def longest(self) -> int:
        """The most tokens that any of the sequences has read."""
        return self._longest

    def positions(self, T: int) -> Tensor:
        """(B, T): where the next T tokens of each sequence stand; (1, T) when all are even."""
        lengths = self.lengths[:1] if self._even else self.lengths
        return lengths[:, None] + torch.arange(T, device=lengths.device)

    def mask(self, T: int) -> Tensor | None:
        """(B or 1, 1, T, S) bool: what the next T tokens may look at; None if everything there."""
        if self._even and T == 1:
            return None
        seen = torch.arange(self._longest + T, device=self.lengths.device)
        return (seen <= self.positions(T)[..., None])[:, None]

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write the next (B, K, T, Dh) and return all so far, (B, K, S, Dh), S = longest + T."""
        T = k.shape[2]
        end = self._longest + T
        for store, new in ((self.keys[layer], k), (self.values[layer], v)):
            if self._even:
                store[:, :, self._longest : end] = new.to(store.dtype)
            else:
                at = self.positions(T)[:, None, :, None].expand_as(new)  # (B, K, T, Dh)
                store.scatter_(2, at, new.to(store.dtype))
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def advance(self, counts: int | Tensor) -> None:
        """Count the tokens just written: one number for all, or (B,) of the true lengths.

        What was written beyond a sequence's own count is padding: the next tokens overwrite it.
        """
        self.lengths = self.lengths + counts
        if isinstance(counts, int):
            self._longest += counts
        else:
            self._longest = int(self.lengths.max())
            self._even = bool((self.lengths == self._longest).all())

    def select(self, rows: Tensor) -> None:
        """Keep, repeat or drop sequences: row i becomes the old row rows[i]; (n,) int64."""
        self.keys = [k[rows] for k in self.keys]
        self.values = [v[rows] for v in self.values]
        self.lengths = self.lengths[rows]
        self._longest = int(self.lengths.max()) if len(rows) else 0
        self._even = bool((self.lengths == self._longest).all())
