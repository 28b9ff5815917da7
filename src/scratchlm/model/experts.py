"""A mixture of experts: a feed-forward of which each token passes through a part only."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scratchlm.model.config import ModelConfig


class Experts(nn.Module):
    """A router, and experts of which it gives each token a few (arXiv:2101.03961, 2401.04088).

    expert    makes one of them from the config
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
        y = torch.zeros_like(tokens)
        for e, expert in enumerate(self.experts):  # an idle one too: its gradient is 0, not absent
            at, nth = torch.where(chosen == e)
            y = y.index_add(0, at, expert(tokens[at]) * weights[at, nth, None].to(x.dtype))
        if self.training:
            self.balance = self._balance(shares, chosen)
        return y.view_as(x)

    def _balance(self, shares: Tensor, chosen: Tensor) -> Tensor:
        """Equations 4 to 6 of arXiv:2101.03961, divided by the experts of each token."""
        n_experts = len(self.experts)
        counts = torch.zeros(n_experts, device=shares.device)
        counts = counts.index_add(
            0, chosen.flatten(), torch.ones_like(shares[:, 0]).repeat_interleave(self.n_active)
        )
        return n_experts * (counts / counts.sum() * shares.mean(0)).sum()
