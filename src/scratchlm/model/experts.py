"""A mixture of experts: a feed-forward of which each token passes through a part only."""

from collections.abc import Callable
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scratchlm.model.config import ModelConfig

# Rows of an expert are filled up to a multiple of this: oneDNN compiles and keeps a product for
# each number of rows that it meets, and thousands of numbers took a gigabyte (measured).
TILE = 64


class Gated(Protocol):
    """A feed-forward of three matrices, W2 (f(Wg x) * W1 x)."""

    gate: nn.Module
    up: nn.Module
    down: nn.Module
    gated: Callable[[Tensor, Tensor], Tensor]


class Experts(nn.Module):
    """A router, and experts of which it gives each token a few (arXiv:2101.03961, 2401.04088).

    expert    makes one of them from the config; it has the parts of `Gated`
    balance   after a forward pass in training: how unevenly the experts were used, 1 where evenly
    """

    def __init__(self, config: ModelConfig, expert: Callable[[ModelConfig], nn.Module]) -> None:
        super().__init__()
        self.n_active, self.normalise = config.n_active, config.normalise_experts
        self.router = nn.Linear(config.d_model, config.n_experts, bias=False)
        self.experts = nn.ModuleList(expert(config) for _ in range(config.n_experts))
        self.balance: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        tokens = x.flatten(0, 1)  # (N, D)
        logits = F.linear(tokens, self.router.weight.to(x.dtype))  # (N, E)
        shares = torch.softmax(logits.float(), dim=-1)
        weights, chosen = shares.topk(self.n_active)  # (N, n_active) each
        if self.normalise:
            weights = weights / weights.sum(-1, keepdim=True)
        owner = chosen.flatten()  # (N n_active,) the expert of each pair of token and expert
        order = owner.argsort(stable=True)
        at = order // self.n_active  # the token of each pair, those of an expert together
        counts = torch.bincount(owner, minlength=len(self.experts))
        tile = TILE if len(at) > TILE else 1  # 1 in decoding, where filling up would cost most
        sizes = -(-counts // tile) * tile
        gaps = (sizes - counts).cumsum(0) - (sizes - counts)  # empty rows before each expert's
        place = torch.arange(len(at), device=at.device) + gaps[owner[order]]
        rows = tokens.new_zeros(len(at) + tile * len(self.experts), tokens.shape[1])
        rows = rows.index_copy(0, place, tokens[at])
        y = self._run(rows, sizes.tolist())[place]
        y = y * weights.flatten()[order, None].to(x.dtype)
        if self.training:
            self.balance = self._balance(shares, counts)
        return torch.zeros_like(tokens).index_add(0, at, y).view_as(x)

    def _run(self, rows: Tensor, sizes: list[int]) -> Tensor:
        """(R, D) -> (R, D): the first sizes[0] rows by the first expert, and so on.

        An expert without rows takes part too: its gradient is 0, not absent.
        """
        experts = cast("list[Gated]", list(self.experts))
        sizes = [*sizes, len(rows) - sum(sizes)]

        def each(layers: list[nn.Module], x: Tensor) -> Tensor:
            *parts, rest = x.split(sizes)
            done = [layer(part) for layer, part in zip(layers, parts, strict=True)]
            return torch.cat([*done, done[0].new_zeros(len(rest), done[0].shape[1])])

        gate, up = each([e.gate for e in experts], rows), each([e.up for e in experts], rows)
        return each([e.down for e in experts], experts[0].gated(gate, up))

    def _balance(self, shares: Tensor, counts: Tensor) -> Tensor:
        """Equations 4 to 6 of arXiv:2101.03961, divided by the experts of each token."""
        return len(counts) * (counts / counts.sum() * shares.mean(0)).sum()
