"""Frozen matrices in 4 bits a number: 4-bit NormalFloat (QLoRA, arXiv:2305.14314).

Blocks of 64 numbers are divided by the largest of them, and each is rounded to one of 16 levels,
which are quantiles of the normal distribution. With the largest numbers in 8 bits (the paper's
double quantisation) a number takes 4.13 bits, without 4.5. Plain PyTorch, on any device.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scratchlm.model.transformer import Linear, Transformer

BLOCK = 64  # numbers that share their largest
DOUBLE_BLOCK = 256  # of these largest ones, that are quantised together
# Section 3 of the paper: quantiles of N(0, 1) between .0323 and .9677, eight below 0 and nine from
# 0 on, divided by the last; as they stand in `get_4bit_type` of bitsandbytes/functional.py.
LEVELS = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
)  # fmt: skip


class NF4Weight(nn.Module):
    """A matrix in 4 bits a number.

    weight   (out, in), float; it is not kept
    double   keep the largest number of each block in 8 bits as well
    shape    (out, in)
    dtype    of `weight`
    """

    codes: Tensor  # (n / 2,) uint8: of each two numbers, the first in the upper half of a byte
    largest: Tensor  # (blocks,) float32; doubled: int8, in steps of `step` from `mean`
    step: Tensor  # (blocks / 256,) float32; doubled only, else empty
    mean: Tensor  # () float32
    pairs: Tensor  # (256,) int64: both numbers of each byte, two float32

    def __init__(self, weight: Tensor, *, double: bool) -> None:
        super().__init__()
        self.shape, self.dtype = tuple(weight.shape), weight.dtype
        codes, largest = quantise(weight)
        step, mean = largest.new_empty(0), largest.new_zeros(())
        if double:
            largest, step, mean = _quantise_largest(largest)
        levels = torch.tensor(LEVELS, device=weight.device)
        pairs = torch.stack((levels.repeat_interleave(16), levels.repeat(16)), dim=1)
        for name, value in (("codes", codes), ("largest", largest), ("step", step), ("mean", mean)):
            self.register_buffer(name, value)
        self.register_buffer("pairs", pairs.view(torch.int64).flatten(), persistent=False)

    def dequantise(self, dtype: torch.dtype) -> Tensor:
        """The matrix (out, in) that the codes stand for."""
        return _dequantise(self.shape, dtype, *self._parts())

    def product(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out), in the dtype of x; the gradient goes to x alone."""
        y: Tensor = _Product.apply(x, self.shape, *self._parts())
        return y

    def _parts(self) -> tuple[Tensor, ...]:
        return self.codes, self.largest, self.step, self.mean, self.pairs


class NF4Linear(Linear):
    """A linear layer with its matrix in 4 bits a number; its bias stays as it is."""

    def __init__(self, base: Linear, packed: NF4Weight) -> None:
        nn.Module.__init__(self)  # nn.Linear's would draw a matrix
        self.in_features, self.out_features = base.in_features, base.out_features
        self.register_parameter("weight", None)
        self.bias = base.bias
        self.packed = packed

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        y = self.packed.product(x)
        return y if self.bias is None else y + self.bias.to(x.dtype)


@torch.no_grad()
def quantise_frozen(model: Transformer, *, double: bool = True) -> None:
    """Keep the matrices of all blocks in 4 bits a number from now on, in place.

    Embedding, head, norms and the routers of experts stay as they are. What is quantised can no
    more be trained, saved as a model or taken back: adapters are added behind it
    (`model/lora.py`). One matrix at a time is held twice.

    double   keep the largest number of each block of 64 in 8 bits too
    """
    found = [(n, m) for n, m in model.blocks.named_modules() if type(m) is Linear]
    for name, linear in found:
        parent, _, own_name = name.rpartition(".")
        packed = NF4Weight(linear.weight, double=double)
        quantised = NF4Linear(linear, packed).train(linear.training)
        if quantised.bias is not None:
            quantised.bias.requires_grad_(False)
        setattr(model.blocks.get_submodule(parent), own_name, quantised)


def in_four_bits(model: nn.Module) -> int:
    """How many numbers of a model are in 4 bits, and so no parameters of PyTorch's."""
    packed = (part for part in model.modules() if isinstance(part, NF4Weight))
    return sum(math.prod(part.shape) for part in packed)


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest level to each number, once its block is divided by its largest.

    weight   any shape, read row by row; filled up with zeros to whole blocks
    returns  codes (n / 2,) uint8, two numbers a byte, and the largest (n / 64,) float32, n whole
    """
    flat = weight.detach().float().flatten()
    blocks = F.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
    largest = blocks.abs().amax(dim=1)  # (blocks,)
    levels = torch.tensor(LEVELS, device=weight.device)
    between = (levels[1:] + levels[:-1]) / 2
    scaled = blocks / largest.clamp(min=torch.finfo(torch.float32).tiny)[:, None]
    codes = torch.bucketize(scaled, between, out_int32=True).to(torch.uint8).view(-1, 2)
    return codes[:, 0] << 4 | codes[:, 1], largest


def _quantise_largest(largest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(blocks,) float32 as int8, in steps of its own for each 256, from the mean of all.

    The paper takes 8-bit floats. Even steps are nearer here: the largest of 64 normal numbers lie
    close together (measured on normal weights: off by .0012 of themselves in the mean, and by .0016
    in bitsandbytes' floats).
    """
    mean = largest.mean()
    rest = F.pad(largest - mean, (0, -len(largest) % DOUBLE_BLOCK)).view(-1, DOUBLE_BLOCK)
    step = rest.abs().amax(dim=1) / 127
    codes = (rest / step.clamp(min=torch.finfo(torch.float32).tiny)[:, None]).round()
    return codes.to(torch.int8).flatten()[: len(largest)], step, mean


def _dequantise(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    codes: Tensor,
    largest: Tensor,
    step: Tensor,
    mean: Tensor,
    pairs: Tensor,
) -> Tensor:
    if largest.dtype == torch.int8:
        steps = step.repeat_interleave(DOUBLE_BLOCK)[: len(largest)]
        largest = largest * steps + mean
    # Both numbers of a byte are moved as one of 64 bits: a quarter of the time (measured, Zen 5).
    twos = pairs.index_select(0, codes.int())  # (n / 2,)
    values = twos.view(torch.float32).view(-1, BLOCK) * largest[:, None]
    return values.flatten()[: shape[0] * shape[1]].view(shape).to(dtype)


class _Product(torch.autograd.Function):
    """x W^T, where the backward pass makes W again: what it keeps are the codes, never W."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shape: tuple[int, ...], *parts: Tensor) -> Tensor:
        ctx.shape = shape
        ctx.save_for_backward(*parts)
        return F.linear(x, _dequantise(shape, x.dtype, *parts))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        parts = ctx.saved_tensors
        dx = grads[0] @ _dequantise(ctx.shape, grads[0].dtype, *parts)
        return dx, None, *(None for _ in parts)
