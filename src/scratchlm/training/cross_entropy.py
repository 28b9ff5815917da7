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

CHUNK_NUMBERS = 1 << 25  # logits of one chunk: 128 MB in float32


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        N, V = hidden.shape[0], weight.shape[0]
        matrix = weight.to(hidden.dtype)
        wanted = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        d_hidden = torch.empty_like(hidden) if wanted else None
        d_matrix = torch.zeros_like(matrix) if wanted else None
        total = torch.zeros(
            (),
            dtype=torch.float64 if hidden.device.type == "cpu" else torch.float32,
            device=hidden.device,
        )
        rows = max(1, CHUNK_NUMBERS // V)
        for start in range(0, N, rows):
            h, t = hidden[start : start + rows], targets[start : start + rows]
            logits = (h @ matrix.T).float()  # (n, V)
            keep = t != IGNORE
            at = t.clamp(min=0)[:, None]
            log_sum = logits.logsumexp(dim=-1, keepdim=True)  # (n, 1)
            nats = (log_sum - logits.gather(1, at))[:, 0]
            total += torch.where(keep, nats, 0.0).sum(dtype=total.dtype)
            if d_hidden is None or d_matrix is None:
                continue
            d_logits = logits.sub_(log_sum).exp_()  # softmax, in place
            d_logits.scatter_add_(1, at, torch.full_like(log_sum, -1.0))
            d_logits = d_logits.mul_(keep[:, None]).to(hidden.dtype)
            torch.mm(d_logits, matrix, out=d_hidden[start : start + rows])
            d_matrix.addmm_(d_logits.T, h)
        if wanted:
            ctx.save_for_backward(d_hidden, d_matrix)
            ctx.weight_dtype = weight.dtype
        return total.float()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        d_hidden, d_matrix = ctx.saved_tensors
        scale = grads[0]
        return (
            d_hidden * scale.to(d_hidden.dtype),
            d_matrix.to(ctx.weight_dtype).mul_(scale),
            None,
        )


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """The sum over all rows of -log softmax(hidden weight^T)[target], in nats, float32.

    hidden   (N, D)
    weight   (V, D)
    targets  (N,) int64 in [0, V), or IGNORE for a row without loss
    """
    if weight.shape[0] < 2048:  # small logits: PyTorch's own kernels are as fast and compile
        logits = F.linear(hidden, weight.to(hidden.dtype)).float()
        return F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum")
    return _LinearCrossEntropy.apply(hidden, weight, targets)
