"""The functions that a block is made of, each by our compiled kernel where that can serve.

The PyTorch code is the definition: the kernels (`native/`) equal it up to the rounding of bfloat16.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from scratchlm.native import ops

Angles = tuple[Tensor, Tensor]  # cos and sin, each (B or 1, T, 1, Dh/2)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, mean in float32."""
    if ops.usable(x):
        return ops.norm(x, weight, None, eps)
    return F.rms_norm(x, weight.shape, weight.to(x.dtype), eps)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last dimension."""
    if ops.usable(x):
        return ops.norm(x, weight, bias, eps)
    return F.layer_norm(x, weight.shape, weight.to(x.dtype), bias.to(x.dtype), eps)


def gelu(x: Tensor) -> Tensor:
    """x / 2 (1 + tanh(sqrt(2 / pi) (x + .044715 x^3))) (arXiv:1606.08415)."""
    return ops.gelu(x) if ops.usable(x) else F.gelu(x, approximate="tanh")


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up (arXiv:2002.05202)."""
    return ops.swiglu(gate, up) if ops.usable(gate) else F.silu(gate) * up


def geglu(gate: Tensor, up: Tensor) -> Tensor:
    """gelu(gate) * up, GELU in its tanh form (arXiv:2002.05202)."""
    return gelu(gate) * up


GATES = {"swiglu": swiglu, "geglu": geglu}


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x[i], x[i + Dh/2]) by its position's angle (RoPE, arXiv:2104.09864).

    x         (B, T, H, Dh)          Dh even
    cos, sin  (B or 1, T, 1, Dh/2)   of position * theta ** (-2i / Dh), radians
    returns   (B, T, H, Dh)          pair lengths unchanged

    Halves are split front/back like the Llama and Qwen checkpoints on the Hugging Face hub, not
    even/odd like the paper: mixing the two up loads without error and talks nonsense.
    """
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


def place_heads(x: Tensor, weight: Tensor | None, eps: float, angles: Angles | None) -> Tensor:
    """RMSNorm of each head, if it has a weight; then the rotation, if there are angles.

    x        (B, T, H, Dh)
    weight   (Dh,) or None
    returns  (B, T, H, Dh)
    """
    if angles is not None and ops.usable(x):
        return ops.rotate_heads(x, weight, eps, *angles)
    if weight is not None:
        x = rms_norm(x, weight, eps)
    return x if angles is None else rotate(x, *angles)


def dropout(x: Tensor, p: float) -> Tensor:
    """Zero a share `p` of x at random and scale the rest up, so that the mean stays.

    x        any shape
    returns  a new tensor of that shape and dtype

    On a CPU without our kernels eight masks are cut from each 64-bit draw of torch's default
    generator, which makes it several times faster than `F.dropout`, whose time is all spent
    drawing; the share is rounded to 1/256 there, and the scale with it.
    """
    if ops.usable(x):
        return ops.dropout(x, p)
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(x, p)
    cut = min(max(round(p * 256), 1), 255)
    n = x.numel()
    draws = torch.empty((n + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
    keep = draws.view(torch.uint8)[:n].view(x.shape) >= cut
    return x * keep.to(x.dtype).mul_(256 / (256 - cut))
