"""Attention by whichever kernel is fastest for the shape: ours, SDPA, or plain products."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from scratchlm.model.functional import Angles, dropout
from scratchlm.native import ops

# Up to this many keys two batched matrix products beat SDPA's kernel on a CPU, because its backward
# in bfloat16 leaves most of the processor idle. Measured, Zen 5, two cores, forward and backward:
# (16, 6, 256, 64) 12 ms against 33, and 7.2 by our kernel; (2, 12, 1024, 64) 106, 68 and 20.
MATMUL_MAX_KEYS = 512


@dataclass(frozen=True, slots=True)
class Where:
    """Where the tokens stand and what they may look at: made once, read by every block.

    angles    cos and sin, each (B or 1, T, 1, Dh/2), or None without RoPE
    causal    the keys are the queries' own tokens: each sees those up to itself
    segments  (B, T) int64 or None, beside `causal`: and only those of its own number
    mask      bool, broadcast to (B, 1, T, S): the same for kernels that read a mask; None: all,
              or with `causal` the plain triangle
    local     the same for layers that see a window; None where there are none
    """

    angles: Angles | None
    causal: bool
    segments: Tensor | None
    mask: Tensor | None
    local: "Where | None" = None


def attend(q: Tensor, k: Tensor, v: Tensor, where: Where, *, drop: float) -> Tensor:
    """Each query's mean of the values, weighted by softmax(q k / sqrt(Dh)) (arXiv:1706.03762).

    q        (B, T, H, Dh)
    k, v     (B, S, K, Dh)   K divides H: head h reads key/value head h // (H / K)
    drop     share of the weights zeroed (0 outside training)
    returns  (B, T, H, Dh)
    """
    if where.causal and fused(q, q.shape[-1]):
        return ops.attention(q, k, v, where.segments, drop)
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    triangle = where.causal and where.mask is None
    if q.device.type == "cpu" and q.dtype != torch.float32 and k.shape[2] <= MATMUL_MAX_KEYS:
        y = _by_matmul(q, k, v, where.mask, causal=triangle, drop=drop)
    else:
        y = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=where.mask,
            dropout_p=drop,
            is_causal=triangle,
            enable_gqa=q.shape[1] != k.shape[1],
        )
    return y.transpose(1, 2)


def fused(x: Tensor, d_head: int) -> bool:
    """Whether our kernel serves for activations like x, so that no mask is needed."""
    return d_head % 2 == 0 and ops.usable(x)


def _by_matmul(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, causal: bool, drop: float
) -> Tensor:
    """The formula as it stands; queries that share a key/value head lie under one another."""
    B, H, T, Dh = q.shape
    K, S = k.shape[1], k.shape[2]
    grouped = (q * Dh**-0.5).reshape(B, K, H // K * T, Dh)  # (B, K, H/K T, Dh)
    scores = (grouped @ k.transpose(-1, -2)).view(B, H, T, S)  # (B, H, T, S)
    if causal:
        mask = torch.ones(T, S, dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        scores = scores + torch.zeros_like(mask, dtype=q.dtype).masked_fill_(~mask, float("-inf"))
    weights = torch.softmax(scores, dim=-1)  # float32 inside
    if drop:
        weights = dropout(weights, drop)
    return (weights.view(B, K, H // K * T, S) @ v).view(B, H, T, Dh)
