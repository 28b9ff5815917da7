"""Schedules, groups and Muon."""

import pytest
import torch

from scratchlm.base.errors import ConfigError
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer
from scratchlm.training.muon import Muon, orthogonalise
from scratchlm.training.optimizers import OptimConfig, Optimizers, ScheduleConfig, lr_factor


def tiny(**sizes) -> Transformer:
    sizes = {"vocab_size": 20, "n_layers": 2, "d_model": 16, "n_heads": 2, **sizes}
    return Transformer(ModelConfig(**sizes))


def test_schedules_at_their_corners():
    cosine = ScheduleConfig(kind="cosine", warmup=10, floor=0.1)
    assert lr_factor(cosine, 0, 110) == pytest.approx(0.1)  # the first of ten steps up
    assert lr_factor(cosine, 9, 110) == lr_factor(cosine, 10, 110) == 1.0
    assert lr_factor(cosine, 60, 110) == pytest.approx(0.55)
    assert lr_factor(cosine, 110, 110) == pytest.approx(0.1)
    wsd = ScheduleConfig(kind="wsd", warmup=0, floor=0.0, cooldown=0.5)
    assert [lr_factor(wsd, step, 100) for step in (0, 50, 75, 100)] == [1, 1, 0.5, 0]
    linear = ScheduleConfig(kind="linear", floor=0.2)
    assert [lr_factor(linear, s, 10) for s in (0, 5, 10)] == pytest.approx([1, 0.6, 0.2])
    assert lr_factor(ScheduleConfig(kind="constant"), 99, 100) == 1.0


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_every_weight_is_in_one_group_and_only_matrices_decay(tie, optimizer):
    model = tiny(tie_embeddings=tie)
    optimizers = Optimizers(model, OptimConfig(optimizer=optimizer, weight_decay=0.5))
    groups = [group for part in optimizers.parts for group in part.param_groups]
    seen = [id(p) for group in groups for p in group["params"]]
    assert sorted(seen) == sorted(id(p) for p in model.parameters())
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    for name, weight in model.named_parameters():
        matrix = weight.ndim == 2 and name != "embedding.weight"
        assert (id(weight) in decayed) == matrix, name


def test_muon_takes_the_steps_of_pytorchs_muon():
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(s) * 0.1) for s in [(8, 8), (8, 8), (32, 8), (8, 32)]]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    mine = Muon(ours, lr=0.02, weight_decay=0.1, momentum=0.95)
    reference = torch.optim.Muon(
        theirs, lr=0.02, weight_decay=0.1, momentum=0.95, nesterov=True, adjust_lr_fn="original"
    )
    for _ in range(5):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        mine.step()
        reference.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-3)  # bfloat16 products, five steps of .02


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 64, 16), (2, 16, 64)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape):
    values = torch.linalg.svdvals(orthogonalise(torch.randn(shape), steps=5).float())
    assert values.min() > 0.4
    assert values.max() < 1.3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": 0.0}, "optim.lr = 0.0 must be above 0"),
        ({"beta2": 1.0}, "optim.beta2 = 1.0 must be in"),
        ({"grad_clip": -1.0}, "optim.grad_clip = -1.0 must not be negative"),
        ({"ns_steps": 0}, "optim.ns_steps = 0 must be at least 1"),
    ],
)
def test_impossible_settings_are_named(values, message):
    with pytest.raises(ConfigError, match=message):
        OptimConfig(**values)
