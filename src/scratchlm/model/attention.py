"""Attention by whichever of PyTorch's kernels is faster for the shape."""

import torch
from torch import Tensor
from torch.nn import functional as F

from scratchlm.model.dropout import dropout

# Up to this many keys two batched matrix products beat SDPA's kernel on a CPU, because its backward
# in bfloat16 leaves most of the processor idle. Measured, Zen 5, two cores, forward and backward:
# (16, 6, 256, 64) 16 ms against 37; (2, 12, 1024, 64) 154 against 67.
MATMUL_MAX_KEYS = 512


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, causal: bool, drop: float
) -> Tensor:
    """Each query's mean of the values, weighted by softmax(q k / sqrt(Dh)) (arXiv:1706.03762).

    q        (B, H, T, Dh)
    k, v     (B, K, S, Dh)   K divides H: head h reads key/value head h // (H / K)
    mask     None, or bool, broadcast to (B, 1, T, S): True where a query may look
    causal   query t sees keys 0..t (then S = T and mask must be None)
    drop     share of the weights zeroed (0 outside training)
    returns  (B, H, T, Dh)
    """
    if q.device.type == "cpu" and q.dtype != torch.float32 and k.shape[2] <= MATMUL_MAX_KEYS:
        return _by_matmul(q, k, v, mask, causal=causal, drop=drop)
    return F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=mask,
        dropout_p=drop,
        is_causal=causal,
        enable_gqa=q.shape[1] != k.shape[1],
    )


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
