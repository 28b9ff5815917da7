"""Head and loss in chunks must be head and loss."""

import pytest
import torch
from torch.nn import functional as F

from scratchlm.data.rows import IGNORE
from scratchlm.training import cross_entropy
from scratchlm.training.cross_entropy import linear_cross_entropy


@pytest.mark.parametrize("V", [65, 3000])
@pytest.mark.parametrize("chunk", [1, 3000 * 7, 1 << 25])
def test_value_and_gradients_equal_pytorch(V, chunk, monkeypatch):
    monkeypatch.setattr(cross_entropy, "CHUNK_NUMBERS", chunk)
    g = torch.Generator().manual_seed(0)
    hidden = torch.randn(50, 32, generator=g, requires_grad=True)
    weight = torch.randn(V, 32, generator=g, requires_grad=True)
    targets = torch.randint(0, V, (50,), generator=g)
    targets[[0, 7, 49]] = IGNORE
    expected = F.cross_entropy(hidden @ weight.T, targets, reduction="sum", ignore_index=IGNORE)
    theirs = torch.autograd.grad(expected / 47, (hidden, weight))
    total = linear_cross_entropy(hidden, weight, targets)
    ours = torch.autograd.grad(total / 47, (hidden, weight))
    torch.testing.assert_close(total, expected, rtol=1e-6, atol=1e-4)
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("V", [65, 3000])
@pytest.mark.parametrize("learns", ["hidden", "weight"])
def test_what_is_frozen_gets_no_gradient_and_costs_none(V, learns, monkeypatch):
    made = []
    monkeypatch.setattr(torch.Tensor, "addmm_", lambda *_, **__: made.append("weight"))
    monkeypatch.setattr(
        torch, "mm", lambda *a, out, mm=torch.mm: made.append(out) or mm(*a, out=out)
    )
    g = torch.Generator().manual_seed(0)
    hidden = torch.randn(50, 32, generator=g, requires_grad=learns == "hidden")
    weight = torch.randn(V, 32, generator=g, requires_grad=learns == "weight")
    targets = torch.randint(0, V, (50,), generator=g)
    total = linear_cross_entropy(hidden, weight, targets)
    if V > 65:  # one product makes the logits, one each gradient; with a small V PyTorch does it
        assert len(made) == 2
        assert ("weight" in made[1:]) == (learns == "weight")
    total.backward()
    assert (hidden.grad is None) == (learns == "weight")
    assert (weight.grad is None) == (learns == "hidden")
    if learns == "hidden":
        twin = hidden.detach().clone().requires_grad_(True)
        F.cross_entropy(twin @ weight.T, targets, reduction="sum").backward()
        torch.testing.assert_close(hidden.grad, twin.grad, rtol=1e-5, atol=1e-6)


def test_rows_without_loss_count_for_nothing():
    hidden, weight = torch.randn(4, 8), torch.randn(3000, 8)
    assert linear_cross_entropy(hidden, weight, torch.full((4,), IGNORE)).item() == 0.0


def test_bfloat16_stays_close_to_float32():
    g = torch.Generator().manual_seed(1)
    hidden, weight = torch.randn(64, 32, generator=g), torch.randn(4096, 32, generator=g) * 0.1
    targets = torch.randint(0, 4096, (64,), generator=g)
    exact = linear_cross_entropy(hidden, weight, targets)
    rough = linear_cross_entropy(hidden.bfloat16(), weight, targets)
    torch.testing.assert_close(rough, exact, rtol=3e-3, atol=0)  # bfloat16 keeps 8 bits
