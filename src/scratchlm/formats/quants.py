"""The numbers of GGUF tensors: blocks of a few bits with scales, turned into floats.

A row is cut into blocks; each holds its scales and its numbers of 4 to 8 bits. The layouts are
those of ggml (github.com/ggml-org/ggml, src/ggml-quants.c); tests hold them against the `gguf`
package.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

HALF = 2  # bytes of a float16


@dataclass(frozen=True)
class Quant:
    """A type of tensor: `size` numbers in a block of `n_bytes`.

    read   (N, n_bytes) uint8 -> (N, size) floats
    """

    name: str
    size: int
    n_bytes: int
    read: Callable[[Tensor], Tensor]


def _halves(blocks: Tensor, at: int) -> Tensor:
    """(N, 1) float32: the float16 that begins at that byte of each block."""
    return blocks[:, at : at + HALF].contiguous().view(torch.float16).float()


def _nibbles(packed: Tensor) -> Tensor:
    """(N, n) bytes -> (N, 2 n): all low halves, then all high ones."""
    return torch.cat((packed & 15, packed >> 4), dim=1)


def _fifth_bits(blocks: Tensor, at: int) -> Tensor:
    """(N, 32): the bits of the four bytes from `at` on, each as 16 or 0."""
    shifts = torch.arange(8, dtype=torch.uint8)
    return ((blocks[:, at : at + 4, None] >> shifts & 1) << 4).flatten(1)


def _float32(blocks: Tensor) -> Tensor:
    return blocks.view(torch.float32)


def _float16(blocks: Tensor) -> Tensor:
    return blocks.view(torch.float16)


def _bfloat16(blocks: Tensor) -> Tensor:
    return blocks.view(torch.bfloat16)


def _q8_0(blocks: Tensor) -> Tensor:
    return blocks[:, HALF:].view(torch.int8) * _halves(blocks, 0)


def _q4_0(blocks: Tensor) -> Tensor:
    return (_nibbles(blocks[:, HALF:]).to(torch.int8) - 8) * _halves(blocks, 0)


def _q4_1(blocks: Tensor) -> Tensor:
    return _nibbles(blocks[:, 4:]) * _halves(blocks, 0) + _halves(blocks, HALF)


def _q5_0(blocks: Tensor) -> Tensor:
    numbers = _nibbles(blocks[:, 6:]) | _fifth_bits(blocks, HALF)
    return (numbers.to(torch.int8) - 16) * _halves(blocks, 0)


def _q5_1(blocks: Tensor) -> Tensor:
    numbers = _nibbles(blocks[:, 8:]) | _fifth_bits(blocks, 4)
    return numbers * _halves(blocks, 0) + _halves(blocks, HALF)


def _scales_and_least(packed: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 12) bytes -> twice (N, 8, 1) of six bits: scales of the parts, and what is taken off."""
    low, mid, high = packed.unflatten(1, (3, 4)).unbind(1)
    scales = torch.cat((low & 63, high & 15 | low >> 6 << 4), dim=1)
    least = torch.cat((mid & 63, high >> 4 | mid >> 6 << 4), dim=1)
    return scales[..., None], least[..., None]


def _by_parts(blocks: Tensor, numbers: Tensor) -> Tensor:
    """Q4_K and Q5_K: (N, 8, 32) numbers, with two scales of the block and two of each part."""
    scales, least = _scales_and_least(blocks[:, 4:16])
    d, d_least = _halves(blocks, 0)[..., None], _halves(blocks, HALF)[..., None]
    return (d * scales * numbers - d_least * least).flatten(1)


def _pairs(packed: Tensor) -> Tensor:
    """(N, 128) bytes -> (N, 8, 32): of each 32 bytes the low halves, then the high ones."""
    quarters = packed.unflatten(1, (4, 1, 32))
    return torch.cat((quarters & 15, quarters >> 4), dim=2).flatten(1, 2)


def _q4_k(blocks: Tensor) -> Tensor:
    return _by_parts(blocks, _pairs(blocks[:, 16:]))


def _q5_k(blocks: Tensor) -> Tensor:
    shifts = torch.arange(8, dtype=torch.uint8)[:, None]
    fifth = (blocks[:, None, 16:48] >> shifts & 1) << 4  # (N, 8, 32): a bit of each byte per part
    return _by_parts(blocks, _pairs(blocks[:, 48:]) | fifth)


def _q6_k(blocks: Tensor) -> Tensor:
    low = blocks[:, :128].unflatten(1, (2, 1, 64))  # of each half of the block
    low = torch.cat((low & 15, low >> 4), dim=2).flatten(2).unflatten(2, (4, 32))  # (N, 2, 4, 32)
    shifts = torch.tensor([0, 2, 4, 6], dtype=torch.uint8)[:, None]
    high = blocks[:, 128:192].unflatten(1, (2, 1, 32)) >> shifts & 3
    numbers = (low | high << 4).to(torch.int8) - 32
    scales = blocks[:, 192:208].view(torch.int8)[..., None]  # (N, 16, 1)
    d = _halves(blocks, 208)[..., None]
    return (d * scales * numbers.flatten(1).unflatten(1, (16, 16))).flatten(1)


# The number of the type in a file -> the type
QUANTS = {
    0: Quant("F32", 1, 4, _float32),
    1: Quant("F16", 1, 2, _float16),
    2: Quant("Q4_0", 32, 18, _q4_0),
    3: Quant("Q4_1", 32, 20, _q4_1),
    6: Quant("Q5_0", 32, 22, _q5_0),
    7: Quant("Q5_1", 32, 24, _q5_1),
    8: Quant("Q8_0", 32, 34, _q8_0),
    12: Quant("Q4_K", 256, 144, _q4_k),
    13: Quant("Q5_K", 256, 176, _q5_k),
    14: Quant("Q6_K", 256, 210, _q6_k),
    30: Quant("BF16", 1, 2, _bfloat16),
}
