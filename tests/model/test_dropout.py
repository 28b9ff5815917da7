"""Dropout keeps the mean, drops the share it should, and repeats with the generator's state."""

import pytest
import torch

from scratchlm.model.functional import dropout


@pytest.mark.parametrize("p", [0.1, 0.2, 0.5])
def test_share_and_mean(p):
    torch.manual_seed(0)
    y = dropout(torch.ones(1_000_003), p)
    dropped = (y == 0).float().mean().item()
    assert dropped == pytest.approx(p, abs=1 / 512 + 4 * (p / 1e6) ** 0.5)  # 1/256 steps, 4 sigma
    assert y.mean().item() == pytest.approx(1.0, abs=5e-3)
    assert len(y.unique()) == 2


@pytest.mark.parametrize(("p", "least"), [(0.999, 0.99), (0.001, 0.002)])
def test_shares_at_the_ends_stay_possible(p, least):
    dropped = (dropout(torch.ones(100_000), p) == 0).float().mean().item()
    assert dropped >= least
    assert dropped < 1


def test_the_generators_state_decides():
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first = dropout(torch.ones(1000), 0.3)
    torch.set_rng_state(state)
    assert torch.equal(first, dropout(torch.ones(1000), 0.3))


def test_gradient_is_the_mask():
    x = torch.ones(1000, requires_grad=True)
    y = dropout(x, 0.2)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
