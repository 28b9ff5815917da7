"""What training minimises: a batch and a model in, a sum of losses out, to be divided by its count.

A sum travels with its count and is divided once, over all micro-batches and processes, so that one
micro-batch of eight rows and eight of one give the same step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from scratchlm.base.log import warn
from scratchlm.data.rows import IGNORE
from scratchlm.model.transformer import Transformer
from scratchlm.training.cross_entropy import keep_out_of_graphs, linear_cross_entropy


class TokenBatch(Protocol):
    """What an objective reads of a batch (`scratchlm.data.loader.Batch` is one)."""

    @property
    def tokens(self) -> Tensor: ...
    @property
    def targets(self) -> Tensor: ...
    @property
    def segments(self) -> Tensor | None: ...


Objective = Callable[[Transformer, Tensor, Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class Goal:
    """What a run minimises: the sum of `total` over all micro-batches, divided by that of `count`.

    total      (model, tokens, targets, segments) -> a sum of nats
    count      of what a batch's sum is to be divided by: targets, pairs, weights
    measured   further sums since it was last asked, for metrics.jsonl: {name: sum}; each is
               divided by the step's count
    idle       the loss of a model that tells nothing apart: training that stays at just this
               number learns nothing
    """

    total: Objective
    count: Callable[[TokenBatch], float]
    measured: Callable[[], dict[str, float]] | None = None
    idle: float | None = None


def next_token_total(
    model: Transformer, tokens: Tensor, targets: Tensor, segments: Tensor | None
) -> Tensor:
    """Nats of the next tokens, summed over all targets that are not IGNORE.

    tokens, targets  (B, T) int64
    segments         (B, T) int64 or None
    returns          of a mixture of experts in training: with its balance, for each target
    """
    hidden = model.hidden(tokens, segments=segments)  # (B, T, D)
    total = linear_cross_entropy(hidden.flatten(0, 1), model.head.weight, targets.flatten())
    balance = model.balance_loss() if model.training else None
    return total if balance is None else total + balance * (targets != IGNORE).sum()


def count_targets(targets: Tensor) -> int:
    """How many targets carry loss."""
    return int((targets != IGNORE).sum())


NEXT_TOKEN = Goal(next_token_total, lambda batch: count_targets(batch.targets))


def in_pieces(batch: TokenBatch, n: int) -> list[tuple[Tensor, Tensor, Tensor | None]]:
    """A batch's tokens, targets and segments in at most n parts of equally many rows."""
    size = -(-len(batch.tokens) // n)
    tokens, targets = batch.tokens.split(size), batch.targets.split(size)
    segments = [None] * len(tokens) if batch.segments is None else batch.segments.split(size)
    return list(zip(tokens, targets, segments, strict=True))


class Compiled:
    """An objective through torch.compile; falls back to the plain one, with a warning."""

    def __init__(self, objective: Objective) -> None:
        keep_out_of_graphs()
        self._plain = objective
        self._call: Objective = self._first
        self._fast: Objective = torch.compile(objective, dynamic=False)

    def __call__(
        self, model: Transformer, tokens: Tensor, targets: Tensor, segments: Tensor | None
    ) -> Tensor:
        return self._call(model, tokens, targets, segments)

    def _first(
        self, model: Transformer, tokens: Tensor, targets: Tensor, segments: Tensor | None
    ) -> Tensor:
        """The first call compiles; should that fail, dropout must not have drawn anything."""
        rng = torch.get_rng_state()
        try:
            loss = self._fast(model, tokens, targets, segments)
            self._call = self._fast
        except Exception as bad:  # compilers fail in more ways than can be listed
            reason = str(bad).strip().partition("\n")[0]
            warn(f"torch.compile failed, so it is not used: {type(bad).__name__}: {reason}")
            torch.set_rng_state(rng)
            self._call = self._plain
            loss = self._plain(model, tokens, targets, segments)
        return loss
