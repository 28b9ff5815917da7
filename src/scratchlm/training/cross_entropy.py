"""Head and cross-entropy in one piece, so that the logits of a big vocabulary never all exist.

The plain way holds logits, their float32 copy, the softmax and its gradient: for GPT-2's 50,257
words over half a megabyte for each token. Here rows are done in chunks: logits, loss and gradient
of one chunk, then the next. The gradient is found in the forward pass, as in cut-cross-entropy
(arXiv:2411.09009), so the backward pass only scales it.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from scratchlm.data.rows import IGNORE
from scratchlm.native import ops

PLAIN_BELOW = 2048  # words: without our kernel, small logits go through PyTorch's, which compile
CHUNK_NUMBERS = 1 << 25  # logits that exist at a time: 64 MB in bfloat16
# On a CPU the softmax works on so many numbers at a time, which stay in the cache: for 50,257 words
# a fifth of the time of a whole chunk (measured, Zen 5, two cores).
CACHE_NUMBERS = 1 << 22
ALIGN = 64  # a matrix product over 50,257 words takes a fourth longer than over 50,304


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """The sum over all rows of -log softmax(hidden weight^T)[target], in nats, float32.

    hidden   (N, D)
    weight   (V, D)
    targets  (N,) int64 in [0, V), or IGNORE for a row without loss
    """
    if weight.shape[0] < PLAIN_BELOW and not ops.usable(hidden):
        logits = F.linear(hidden, weight.to(hidden.dtype)).float()
        return F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum")
    return _in_chunks(hidden, weight, targets)


def _in_chunks(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    total: Tensor = _LinearCrossEntropy.apply(hidden, weight, targets)
    return total


def keep_out_of_graphs() -> None:
    """Before torch.compile: leave the chunks to run as they are, or writes in place become copies.

    Not as a decorator, which would load the compiler, most of a second, at every start.
    """
    global _in_chunks
    _in_chunks = torch.compiler.disable(_in_chunks)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        N, V = hidden.shape[0], weight.shape[0]
        # Rows of zeros fill up the matrix: their logits and gradients are zero by themselves.
        matrix = F.pad(weight.to(hidden.dtype), (0, 0, 0, -V % ALIGN))  # (Va, D)
        hidden_learns, weight_learns, _ = ctx.needs_input_grad  # a frozen head does not
        d_hidden = torch.empty_like(hidden) if hidden_learns else None
        d_matrix = torch.empty_like(matrix) if weight_learns else None
        ctx.save_for_backward(d_hidden, None if d_matrix is None else d_matrix[:V])
        ctx.weight_dtype = weight.dtype
        rows = max(1, min(N, CHUNK_NUMBERS // V))
        logits = torch.empty(rows, matrix.shape[0], dtype=hidden.dtype, device=hidden.device)
        total = torch.zeros((), device=hidden.device)
        for start in range(0, N, rows):
            chunk = slice(start, min(start + rows, N))
            part = logits[: chunk.stop - start]  # (n, Va)
            torch.mm(hidden[chunk], matrix.T, out=part)
            total += _nats_and_gradient(part, V, targets[chunk])
            if d_hidden is not None:
                torch.mm(part, matrix, out=d_hidden[chunk])
            if d_matrix is not None:
                d_matrix.addmm_(part.T, hidden[chunk], beta=int(start > 0))
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        d_hidden, d_matrix = ctx.saved_tensors
        scale = grads[0]
        return (
            None if d_hidden is None else d_hidden * scale.to(d_hidden.dtype),
            None if d_matrix is None else d_matrix.to(ctx.weight_dtype) * scale,
            None,
        )


def _nats_and_gradient(logits: Tensor, V: int, targets: Tensor) -> Tensor:
    """The summed loss of (n, Va) logits, whose first V columns become their own gradient."""
    if ops.usable(logits):
        return ops.cross_entropy_(logits, V, targets).sum()
    rows = max(1, CACHE_NUMBERS // V) if logits.device.type == "cpu" else logits.shape[0]
    total = torch.zeros((), device=logits.device)
    for z, t in zip(logits[:, :V].split(rows), targets.split(rows), strict=True):
        ignored = t == IGNORE
        at = t.masked_fill(ignored, 0)[:, None]  # (n, 1)
        log_p = z.float().log_softmax(dim=-1)  # (n, V)
        nats = -log_p.gather(1, at)[:, 0]
        total += nats.masked_fill(ignored, 0.0).sum()
        p = log_p.exp_()
        p.scatter_add_(1, at, torch.full_like(nats, -1.0)[:, None])
        z.copy_(p.masked_fill_(ignored[:, None], 0.0))
    return total
