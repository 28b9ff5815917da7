"""What training minimises: a batch and a model in, a sum of losses out, to be divided by its count.

A sum travels with its count and is divided once, over all micro-batches and processes, so that one
micro-batch of eight rows and eight of one give the same step.
"""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from scratchlm.data.rows import IGNORE
from scratchlm.model.transformer import Transformer
from scratchlm.training.cross_entropy import linear_cross_entropy


class TokenBatch(Protocol):
    """What an objective reads of a batch (`scratchlm.data.loader.Batch` is one)."""

    @property
    def tokens(self) -> Tensor: ...
    @property
    def targets(self) -> Tensor: ...
    @property
    def segments(self) -> Tensor | None: ...


Objective = Callable[[Transformer, Tensor, Tensor, Tensor | None], Tensor]


def next_token_total(
    model: Transformer, tokens: Tensor, targets: Tensor, segments: Tensor | None
) -> Tensor:
    """Nats of the next tokens, summed over all targets that are not IGNORE.

    tokens, targets  (B, T) int64
    segments         (B, T) int64 or None
    """
    hidden = model.hidden(tokens, segments=segments)  # (B, T, D)
    return linear_cross_entropy(hidden.flatten(0, 1), model.head.weight, targets.flatten())


def count_targets(targets: Tensor) -> int:
    """How many targets carry loss."""
    return int((targets != IGNORE).sum())


def in_pieces(batch: TokenBatch, n: int) -> list[tuple[Tensor, Tensor, Tensor | None]]:
    """A batch's tokens, targets and segments in at most n parts of equally many rows."""
    size = -(-len(batch.tokens) // n)
    tokens, targets = batch.tokens.split(size), batch.targets.split(size)
    segments = [None] * len(tokens) if batch.segments is None else batch.segments.split(size)
    return list(zip(tokens, targets, segments, strict=True))
