"""Four bits: the paper's levels, the nearest of them, and products that keep no matrix."""

from statistics import NormalDist

import pytest
import torch
from torch.nn import functional as F

from scratchlm.model.config import ModelConfig
from scratchlm.model.nf4 import LEVELS, NF4Linear, NF4Weight, quantise, quantise_frozen
from scratchlm.model.transformer import Linear, Transformer


def test_levels_are_the_quantiles_of_the_paper():
    """Section 3 of arXiv:2305.14314: eight on each side of 0, evenly in probability, and 0."""
    outermost = (1 - 1 / 32 + 1 - 1 / 30) / 2  # the mean of both halves' own, .9677083
    normal = NormalDist()

    def half(n: int) -> list[float]:
        return [normal.inv_cdf(outermost - i * (outermost - 0.5) / n) for i in range(n)]

    levels = sorted([-x for x in half(7)] + [0.0] + half(8))
    torch.testing.assert_close(
        torch.tensor(LEVELS), torch.tensor(levels) / max(levels), rtol=0, atol=1e-6
    )


def by_hand(weight: torch.Tensor) -> tuple[list[int], list[float]]:
    """The level nearest to each number, by trying all; of two as near, the lower one."""
    flat = weight.flatten().tolist()
    codes, largest = [], []
    for start in range(0, len(flat), 64):
        block = flat[start : start + 64]
        top = max(abs(x) for x in block)
        largest.append(top)
        for x in block:
            share = x / top if top else 0.0
            codes.append(min(range(16), key=lambda i, s=share: (abs(LEVELS[i] - s), i)))
    return codes, largest


def unpacked(codes: torch.Tensor) -> torch.Tensor:
    return torch.stack((codes >> 4, codes & 15), dim=1).flatten()


@pytest.mark.parametrize("shape", [(8, 64), (6, 96), (5, 7), (1, 1)])
def test_codes_are_the_nearest_levels(shape):
    torch.manual_seed(0)
    weight = torch.randn(shape) * 0.02
    weight[0, 0] = 0.0
    codes, largest = quantise(weight)
    expected, tops = by_hand(weight)
    assert unpacked(codes)[: weight.numel()].tolist() == expected
    assert largest.tolist() == pytest.approx(tops)
    whole = NF4Weight(weight, double=False).dequantise(torch.float32)
    at = torch.tensor([LEVELS[i] for i in expected])
    scale = torch.tensor(tops).repeat_interleave(64)[: weight.numel()]
    assert torch.equal(whole, (at * scale).view(shape))


def test_zeros_stay_zeros():
    for double in (False, True):
        packed = NF4Weight(torch.zeros(4, 64), double=double)
        assert not packed.dequantise(torch.float32).any()


@pytest.mark.parametrize("double", [False, True])
def test_errors_and_bits_are_the_papers(double):
    """A normal number is off by about a tenth of its deviation; 4.5 bits, or 4.127 doubled."""
    torch.manual_seed(0)
    weight = torch.randn(512, 1024)
    packed = NF4Weight(weight, double=double)
    whole = packed.dequantise(torch.float32)
    error = (whole - weight).pow(2).mean().sqrt().item()
    assert 0.08 < error < 0.1
    n_bytes = sum(b.nbytes for name, b in packed.named_buffers() if name != "pairs")
    assert 8 * n_bytes / weight.numel() == pytest.approx(4.127 if double else 4.5, abs=1e-3)
    if double:
        plain = NF4Weight(weight, double=False).dequantise(torch.float32)
        assert ((whole - plain).abs().mean() / plain.abs().mean()).item() < 0.002


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("double", [False, True])
def test_product_and_gradient_are_those_of_the_whole_matrix(double, dtype):
    torch.manual_seed(0)
    packed = NF4Weight(torch.randn(24, 40), double=double)
    x = torch.randn(3, 5, 40, dtype=dtype, requires_grad=True)
    twin = x.detach().clone().requires_grad_(True)
    ours, theirs = packed.product(x), F.linear(twin, packed.dequantise(dtype))
    assert torch.equal(ours, theirs)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    torch.testing.assert_close(x.grad, twin.grad)


def test_nothing_of_the_matrixs_size_is_kept_for_the_backward_pass():
    packed = NF4Weight(torch.randn(64, 128), double=True)
    kept: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        packed.product(torch.randn(2, 128, requires_grad=True))
    assert sum(kept) < 64 * 128  # the codes take half of that, a float32 matrix four times as much
    assert kept


@torch.no_grad()
def test_model_keeps_its_names_and_most_of_its_logits():
    torch.manual_seed(0)
    model = Transformer(
        ModelConfig(family="qwen2", vocab_size=40, n_layers=2, d_model=64, n_heads=4)
    )
    model.initialise()
    tokens = torch.randint(0, 40, (2, 16))
    before = model(tokens)
    names = [name for name, _ in model.named_modules()]
    quantise_frozen(model)
    after = model(tokens)
    assert [n for n, _ in model.named_modules() if not n.endswith(".packed")] == names
    cosine = F.cosine_similarity(before, after, dim=-1)
    assert cosine.min() > 0.97
    kinds = {type(m) for m in model.blocks.modules() if isinstance(m, Linear)}
    assert kinds == {NF4Linear}
    assert type(model.head) is Linear
    biases = [w for n, w in model.named_parameters() if n.endswith("q.bias")]
    assert len(biases) == 2
    assert not any(bias.requires_grad for bias in biases)
    narrow = model.to(torch.bfloat16)  # what is counted in floats loses digits, no more
    assert F.cosine_similarity(narrow(tokens).float(), after, dim=-1).min() > 0.99


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(576, 1536), (192, 576), (64, 64)])
def test_codes_are_those_of_bitsandbytes(shape, dtype):
    functional = pytest.importorskip("bitsandbytes.functional")
    torch.manual_seed(0)
    weight = (torch.randn(shape) * 0.02).to(dtype)
    theirs, state = functional.quantize_4bit(weight, blocksize=64, quant_type="nf4")
    codes, largest = quantise(weight)
    assert torch.equal(codes, theirs.flatten())
    assert torch.equal(largest, state.absmax)
    whole = NF4Weight(weight, double=False).dequantise(dtype)
    assert torch.equal(whole, functional.dequantize_4bit(theirs, state))
