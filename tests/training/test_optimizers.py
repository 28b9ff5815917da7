"""Schedules, groups and Muon."""

import pytest
import torch

from scratchlm.base.errors import ConfigError
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer
from scratchlm.native import ops
from scratchlm.training import adamw
from scratchlm.training.muon import Muon, even_out, orthogonalise
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
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    optimizers = Optimizers(model, OptimConfig(optimizer=optimizer, weight_decay=0.5), scaler)
    groups = [group for part in optimizers.parts for group in part.param_groups]
    seen = [id(p) for group in groups for p in group["params"]]
    assert sorted(seen) == sorted(id(p) for p in model.parameters())
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    for name, weight in model.named_parameters():
        matrix = weight.ndim == 2 and name != "embedding.weight"
        assert (id(weight) in decayed) == matrix, name


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("kind", ["matrices", "norms"])
def test_frozen_weights_are_in_no_group(optimizer, kind):
    model = tiny()
    for weight in model.parameters():
        weight.requires_grad_((weight.ndim == 2) == (kind == "matrices"))
    model.embedding.weight.requires_grad_(False)
    # With a scaler, as float16 has one: it refuses an optimizer without a gradient.
    scaler = torch.amp.GradScaler("cpu", enabled=True)
    optimizers = Optimizers(model, OptimConfig(optimizer=optimizer), scaler)
    seen = [id(p) for part in optimizers.parts for p in part.weights()]
    assert sorted(seen) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    optimizers.set_step(0, 1.0)
    optimizers.backward(model(torch.zeros(1, 4, dtype=torch.int64)).square().sum())
    optimizers.step(optimizers.grad_norm())
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name]) != weight.requires_grad, name


def test_nothing_to_train_is_an_error():
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    with pytest.raises(ConfigError, match="every weight of the model is frozen"):
        Optimizers(tiny().requires_grad_(False), OptimConfig(), scaler)


def exact_muon(params, grads, buffers, squares, *, lr, momentum, decay, beta2):
    """One step by the formulas, with the SVD in the place of the iterations."""
    for p, g, buffer, square in zip(params, grads, buffers, squares, strict=True):
        buffer.lerp_(g, 1 - momentum)
        u, _, vh = torch.linalg.svd(g.lerp(buffer, momentum), full_matrices=False)
        update = u @ vh
        if beta2:
            across = 1 if p.shape[0] >= p.shape[1] else 0
            square.lerp_((update**2).mean(across, keepdim=True), 1 - beta2)
            even = update / square.sqrt()
            update = even * (update.norm() / even.norm())
        p *= 1 - lr * decay
        p -= lr * max(1, p.shape[0] / p.shape[1]) ** 0.5 * update


@pytest.mark.parametrize("native", [True, False], ids=["kernel", "PyTorch"])
@pytest.mark.parametrize("beta2", [0.0, 0.9])
def test_muon_takes_the_steps_of_its_formulas(beta2, native, monkeypatch):
    if not native:
        monkeypatch.setattr(ops, "available", lambda _: False)
    torch.manual_seed(0)
    shapes = [(8, 8), (8, 8), (32, 8), (8, 32), (70, 100), (100, 37), (5, 3)]
    ours = [torch.nn.Parameter(torch.randn(s) * 0.1) for s in shapes]
    exact = [p.detach().clone() for p in ours]
    buffers = [torch.zeros_like(p) for p in exact]
    squares = [torch.zeros((len(p), 1) if len(p) >= p.shape[1] else (1, p.shape[1])) for p in exact]
    mine = Muon([{"params": ours}], lr=0.02, weight_decay=0.1, momentum=0.9, beta2=beta2)
    for _ in range(5):
        for p in ours:
            p.grad = torch.randn_like(p)
        mine.step()
        grads = [p.grad for p in ours]
        exact_muon(exact, grads, buffers, squares, lr=0.02, momentum=0.9, decay=0.1, beta2=beta2)
    for a, b, shape in zip(ours, exact, [p.shape for p in ours], strict=True):
        # The iterations leave singular values within a tenth of 1, a step is .02 long.
        moved = 5 * 0.02 * max(1, shape[0] / shape[1]) ** 0.5
        assert torch.linalg.matrix_norm(a - b, 2) < 0.15 * moved


def test_evening_out_keeps_the_length_and_evens_the_neurons():
    torch.manual_seed(0)
    updates = torch.randn(2, 8, 4) * torch.tensor([0.1, 1, 1, 1, 1, 1, 1, 10])[:, None]
    even = even_out(updates, torch.zeros(2, 8, 1), 0.95)
    torch.testing.assert_close(even.norm(dim=(1, 2)), updates.norm(dim=(1, 2)))
    rows = even.norm(dim=2)
    torch.testing.assert_close(rows, rows.mean(1, keepdim=True).expand_as(rows))
    nothing = torch.zeros(1, 3, 3)
    assert torch.equal(even_out(nothing, torch.zeros(1, 3, 1), 0.95), nothing)


@pytest.mark.parametrize("fused", [True, False])
def test_adamw_takes_the_steps_of_pytorchs_adamw(fused, monkeypatch):
    monkeypatch.setattr(adamw, "FUSED", ("cpu",) if fused else ())
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(s)) for s in [(8, 8), (8,), (3,)]]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    settings = {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-9}

    def groups(weights):
        return [{"params": weights[:1], "weight_decay": 0.1}, {"params": weights[1:], "lr": 0.01}]

    mine = adamw.AdamW(groups(ours), **settings)
    reference = torch.optim.AdamW(groups(theirs), fused=True, weight_decay=0.0, **settings)
    for _ in range(5):
        for a, b in zip(ours[:2], theirs[:2], strict=True):  # the third has no gradient
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        mine.step()
        reference.step()
        state = mine.state_dict()
        mine = adamw.AdamW(groups(ours), **settings)
        mine.load_state_dict(state)
    assert state["state"].keys() == reference.state_dict()["state"].keys()
    for a, b in zip(ours, theirs, strict=True):
        if fused:
            assert torch.equal(a, b)
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 64, 16), (2, 16, 64), (2, 100, 37), (1, 3, 7)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape):
    torch.manual_seed(0)
    g = torch.randn(shape)
    u, _, vh = torch.linalg.svd(g, full_matrices=False)
    ours = orthogonalise(g, steps=5).float()
    values = torch.linalg.svdvals(ours)
    assert values.min() > 0.75
    assert values.max() < 1.25
    assert (ours - u @ vh).norm() < 0.15 * (u @ vh).norm()
    assert torch.equal(orthogonalise(torch.zeros(1, 4, 4)), torch.zeros(1, 4, 4).bfloat16())


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
