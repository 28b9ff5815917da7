"""Dropout that does not wait for the random generator."""

import torch
from torch import Tensor
from torch.nn import functional as F


def dropout(x: Tensor, p: float) -> Tensor:
    """Zero a share `p` of x at random and scale the rest up, so that the mean stays.

    x        any shape
    returns  a new tensor of that shape and dtype

    On a CPU eight masks are cut from each 64-bit draw of torch's default generator, which makes it
    several times faster than `F.dropout`, whose time is all spent drawing; the share is rounded to
    1/256 there, and the scale with it.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(x, p)
    cut = min(max(round(p * 256), 1), 255)
    n = x.numel()
    draws = torch.empty((n + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
    keep = draws.view(torch.uint8)[:n].view(x.shape) >= cut
    return x * keep.to(x.dtype).mul_(256 / (256 - cut))
