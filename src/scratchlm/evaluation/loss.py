"""Held-out loss: how well a model foretells text that it has not seen."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from scratchlm.data.rows import IGNORE
from scratchlm.model.transformer import Transformer
from scratchlm.training.objectives import (
    Objective,
    TokenBatch,
    count_targets,
    next_token_total,
)


@dataclass(frozen=True)
class HeldOut:
    """A sum of nats with its counts.

    n_bytes  UTF-8 bytes that the targets stand for; 0 where the tokenizer is not known
    """

    nats: float
    n_targets: int
    n_bytes: int

    @property
    def loss_nats(self) -> float:
        """Mean nats per token."""
        return self.nats / max(1, self.n_targets)

    @property
    def bits_per_byte(self) -> float | None:
        """Bits per byte of text: comparable between tokenizers."""
        return self.nats / math.log(2) / self.n_bytes if self.n_bytes else None

    def __str__(self) -> str:
        bits = f", {self.bits_per_byte:.4f} bits per byte" if self.bits_per_byte else ""
        return f"held-out loss {self.loss_nats:.4f} nats per token{bits}"

    def metrics(self) -> dict[str, float | None]:
        """By their names in metrics.jsonl."""
        return {"val_loss_nats": self.loss_nats, "val_bits_per_byte": self.bits_per_byte}

    def summed(self, add: Callable[..., tuple[Any, ...]]) -> "HeldOut":
        """The sum over processes, by `add`."""
        return HeldOut(*add(self.nats, self.n_targets, self.n_bytes))


@contextmanager
def evaluating(model: Transformer) -> Iterator[torch.device]:
    """Without dropout, and in its former mode afterwards; gives the device of its weights."""
    was_training = model.training
    model.eval()
    try:
        yield next(model.parameters()).device
    finally:
        model.train(was_training)


@torch.inference_mode()
def held_out_loss(
    model: Transformer,
    batches: Iterable[TokenBatch],
    byte_lengths: np.ndarray | None = None,
    total: Objective = next_token_total,
) -> HeldOut:
    """The loss over `batches`, each target counted once; dropout is off meanwhile.

    byte_lengths  (V,) int64, bytes of each id: `Tokenizer.byte_lengths()`
    total         another way to the same sum of nats
    """
    nats, n_targets, n_bytes = 0.0, 0, 0
    with evaluating(model) as device:
        for batch in batches:
            tokens, targets = batch.tokens.to(device), batch.targets.to(device)
            segments = None if batch.segments is None else batch.segments.to(device)
            nats += total(model, tokens, targets, segments).item()
            n_targets += count_targets(batch.targets)
            if byte_lengths is not None:
                kept = batch.targets[batch.targets != IGNORE].numpy()
                n_bytes += int(byte_lengths[kept].sum())
    return HeldOut(nats, n_targets, n_bytes)
