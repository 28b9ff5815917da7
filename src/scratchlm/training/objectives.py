"""What training minimises: a batch and a model in, a sum of losses out, to be divided by its count.

A sum travels with its count and is divided once, over all micro-batches and processes, so that one
micro-batch of eight rows and eight of one give the same step.
"""

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
