"""The log-probability of each target, where a sum is not enough; logits never all exist."""

from typing import Any

import torch
from torch import Tensor

from scratchlm.training.cross_entropy import CHUNK_NUMBERS


def target_log_probs(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """log softmax(hidden weight^T)[target] of each row, in nats, float32.

    hidden    (N, D)
    weight    (V, D)
    targets   (N,) int64 in [0, V)
    returns   (N,)
    """
    found: Tensor = _TargetLogProbs.apply(hidden, weight, targets)
    return found


class _TargetLogProbs(torch.autograd.Function):
    """Chunk after chunk; the backward pass computes the logits again, from what came in."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        ctx.save_for_backward(hidden, weight, targets)
        matrix = weight.to(hidden.dtype)
        found = torch.empty(len(hidden), device=hidden.device)
        for rows in _chunks(hidden, weight):
            log_p = (hidden[rows] @ matrix.T).float().log_softmax(dim=-1)  # (n, V)
            found[rows] = log_p.gather(1, targets[rows, None])[:, 0]
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None]:
        hidden, weight, targets = ctx.saved_tensors
        (grad,) = grads
        matrix = weight.to(hidden.dtype)
        d_hidden = torch.empty_like(hidden)
        d_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        for rows in _chunks(hidden, weight):
            d_logits = -(hidden[rows] @ matrix.T).float().softmax(dim=-1)  # (n, V)
            d_logits.scatter_add_(1, targets[rows, None], torch.ones_like(d_logits[:, :1]))
            d_logits = (d_logits * grad[rows, None]).to(hidden.dtype)
            d_hidden[rows] = d_logits @ matrix
            if d_weight is not None:
                d_weight += d_logits.T @ hidden[rows]
        return d_hidden, d_weight, None


def _chunks(hidden: Tensor, weight: Tensor) -> list[slice]:
    size = max(1, CHUNK_NUMBERS // weight.shape[0])
    return [slice(start, start + size) for start in range(0, len(hidden), size)]
