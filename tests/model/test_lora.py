"""Adapters: nothing at first, the formula then, and gone without a trace."""

import copy
import math

import pytest
import torch
from torch.nn import functional as F

from scratchlm.base.errors import ConfigError
from scratchlm.data.loader import Batch
from scratchlm.model.config import ModelConfig
from scratchlm.model.lora import (
    LoraConfig,
    LoraLinear,
    adapters,
    adapters_off,
    add_adapters,
    has_adapters,
    merge_adapters,
    remove_adapters,
    trainable_parameters,
    unmerge_adapters,
)
from scratchlm.model.nf4 import NF4Linear, quantise_frozen
from scratchlm.model.transformer import Linear, Transformer
from scratchlm.training.optimizers import OptimConfig, ScheduleConfig
from scratchlm.training.trainer import TrainConfig, Trainer

V, T = 40, 12
EXPERTS = {"n_experts": 3, "n_active": 2}
FAMILIES = {"llama": {"n_kv_heads": 2}, "gpt2": {}, "gemma3_text": {}, "mixtral": EXPERTS}


def make_model(family: str = "llama", **sizes) -> Transformer:
    torch.manual_seed(0)
    sizes = {"n_layers": 2, "d_model": 32, "n_heads": 4, "d_ff": 48, **FAMILIES[family], **sizes}
    model = Transformer(ModelConfig(family=family, vocab_size=V, max_seq_len=T, **sizes))
    model.initialise()
    return model.eval()


def disturb(model: Transformer) -> None:
    """Give every B numbers, so that adapters do something."""
    g = torch.Generator().manual_seed(3)
    for _, layer in adapters(model):
        torch.nn.init.normal_(layer.lora_b, std=0.1, generator=g)


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(0, V, (3, T), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("packed", [False, True], ids=["whole", "4 bits"])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_adapters_come_merge_and_go(family, packed, tokens):
    model = make_model(family)
    if packed:
        quantise_frozen(model)
    base, before = model(tokens), copy.deepcopy(model.state_dict())
    add_adapters(model, LoraConfig(rank=4, alpha=6.0))
    assert torch.equal(model(tokens), base)
    disturb(model)
    adapted = model(tokens)
    assert (adapted - base).abs().max() > 0.05

    def is_base_inside():
        with adapters_off(model):
            return torch.equal(model(tokens), base)

    assert is_base_inside()
    merge_adapters(model)
    merged = model(tokens)
    torch.testing.assert_close(merged, adapted, rtol=1e-5, atol=1e-5)
    assert not torch.equal(merged, base)
    assert is_base_inside()
    assert torch.equal(model(tokens), merged)
    merge_adapters(model)  # once is enough
    assert torch.equal(model(tokens), merged)
    unmerge_adapters(model)
    assert torch.equal(model(tokens), adapted)

    other = copy.deepcopy(model)
    remove_adapters(other, merge=True)
    assert torch.equal(other(tokens), merged)
    assert not has_adapters(other)
    assert {type(m) for m in other.blocks.modules() if isinstance(m, Linear)} == {Linear}
    merge_adapters(model)
    remove_adapters(model, merge=False)
    assert torch.equal(model(tokens), base)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(weight.requires_grad for weight in model.parameters())


def test_names_and_weights_of_the_base_stay():
    model = make_model()
    before = {name: weight.data_ptr() for name, weight in model.named_parameters()}
    add_adapters(model, LoraConfig())
    after = {name: weight.data_ptr() for name, weight in model.named_parameters()}
    assert before.items() <= after.items()
    new = after.keys() - before.keys()
    assert new == trainable_parameters(model).keys()
    assert len(new) == 2 * 7 * 2
    assert all(name.endswith((".lora_a", ".lora_b")) for name in new)
    merge_adapters(model)
    assert model.state_dict().keys() == after.keys() | {"head.weight"}  # tied, so listed once above


@pytest.mark.parametrize("rslora", [False, True])
def test_layer_is_its_formula(rslora):
    torch.manual_seed(0)
    base = Linear(8, 6)
    a, b = torch.randn(3, 8), torch.randn(6, 3)
    layer = LoraLinear(base, a, b, alpha=5.0, rslora=rslora, drop=0.0)
    x = torch.randn(2, 4, 8, requires_grad=True)
    scale = 5.0 / (math.sqrt(3) if rslora else 3)
    expected = F.linear(x, base.weight + scale * b @ a, base.bias)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
    theirs = torch.autograd.grad(expected.square().sum(), x)[0]
    ours = torch.autograd.grad(layer(x).square().sum(), x)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])  # PyTorch's, our kernel's
def test_dropout_is_before_the_adapter_alone_and_keeps_the_mean(dtype):
    torch.manual_seed(0)
    layer = LoraLinear(
        Linear(64, 4), torch.randn(8, 64), torch.randn(4, 8), alpha=8.0, rslora=False, drop=0.25
    )
    x = torch.randn(1, 64, dtype=dtype)
    plain = layer.eval()(x).float()
    layer.train()
    many = layer(x.expand(20_000, 64)).float()
    assert many.std(dim=0).min() > 1
    # The mean of 20,000 draws of a deviation of about 25 lies within .18; five of these.
    torch.testing.assert_close(many.mean(dim=0, keepdim=True), plain, rtol=0.02, atol=0.9)
    layer.on = False
    assert torch.equal(layer(x), F.linear(x, layer.weight.to(dtype), layer.bias.to(dtype)))


def test_first_numbers_are_those_of_the_paper_and_of_the_seed():
    first, second = make_model(), make_model()
    for model in (first, second):
        add_adapters(model, LoraConfig(rank=16), torch.Generator().manual_seed(7))
    for (name, layer), (_, other) in zip(adapters(first), adapters(second), strict=True):
        bound = layer.in_features**-0.5  # kaiming_uniform_(a=sqrt(5)), as peft calls it
        assert 0.9 * bound < layer.lora_a.abs().max() <= bound, name
        assert not layer.lora_b.any()
        assert layer.lora_a.dtype == layer.lora_b.dtype == torch.float32
        assert torch.equal(layer.lora_a, other.lora_a)


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        (("attention",), {"q", "k", "v", "out"}),
        (("ffn",), {"gate", "up", "down"}),
        (("q", "ffn"), {"q", "gate", "up", "down"}),
        (("v",), {"v"}),
    ],
)
def test_layers_are_chosen_by_name(layers, names):
    model = make_model()
    add_adapters(model, LoraConfig(layers=layers))
    assert {name.rpartition(".")[2] for name, _ in adapters(model)} == names
    assert len(adapters(model)) == 2 * len(names)


def gradients(model: Transformer, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(tokens).float().square().mean().backward()
    held = {n: w.grad.clone() for n, w in model.named_parameters() if w.grad is not None}
    assert held.keys() == trainable_parameters(model).keys()  # and none of what is frozen
    return held


@pytest.mark.parametrize("packed", [False, True], ids=["whole", "4 bits"])
@pytest.mark.parametrize("family", FAMILIES)
def test_recomputed_equals_plain(family, packed, tokens):
    model = make_model(family)
    if packed:
        quantise_frozen(model)
    add_adapters(model, LoraConfig(rank=4))
    disturb(model)
    model.train()
    plain = gradients(model, tokens)
    model.recompute = True
    again = gradients(model, tokens)
    assert all(torch.equal(again[name], plain[name]) for name in plain)


@pytest.mark.parametrize("packed", [False, True], ids=["whole", "4 bits"])
def test_compiled_in_one_piece_equals_plain(packed, tokens):
    model = make_model(n_layers=1)
    if packed:
        quantise_frozen(model)
    add_adapters(model, LoraConfig(rank=4))
    disturb(model)
    model.train()
    expected, plain = model(tokens), gradients(model, tokens)
    model.zero_grad()
    logits = torch.compile(model, backend="aot_eager", fullgraph=True)(tokens)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    logits.square().mean().backward()
    for name, weight in trainable_parameters(model).items():
        torch.testing.assert_close(weight.grad, plain[name], rtol=1e-4, atol=1e-6, msg=name)


def test_base_in_bfloat16_computes_what_float32_does_in_bfloat16(tokens):
    """The weights are rounded once, at the start or in each product."""
    wide = make_model()
    narrow = copy.deepcopy(wide)
    for weight in narrow.parameters():  # as load_model does; not the angles
        weight.data = weight.data.bfloat16()
    for model in (wide, narrow):
        add_adapters(model, LoraConfig(rank=4), torch.Generator().manual_seed(0))
        disturb(model)
        model.compute_dtype = torch.bfloat16
        assert {w.dtype for w in trainable_parameters(model).values()} == {torch.float32}
    assert torch.equal(narrow(tokens), wide(tokens))


def test_off_is_undone_after_an_error(tokens):
    model = make_model()
    add_adapters(model, LoraConfig(rank=4))
    disturb(model)
    adapted = model(tokens)
    with pytest.raises(KeyError), adapters_off(model), adapters_off(model):
        raise KeyError
    assert torch.equal(model(tokens), adapted)


def train(model, steps, state=None, **optim) -> tuple[list[float], dict]:
    def batches(start):
        for n in range(start, 100):
            rows = torch.randint(0, V, (4, T + 1), generator=torch.Generator().manual_seed(n))
            yield Batch(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())

    losses: list[float] = []
    trainer = Trainer(
        model,
        batches,
        TrainConfig(steps=steps, micro_batch=4, precision="float32"),
        OptimConfig(lr=1e-2, **optim),
        ScheduleConfig(kind="constant"),
        seq_len=T,
        hooks=[(1, lambda t: losses.append(t.last.loss_nats))],
    )
    if state:
        trainer.load_state_dict(state)
    trainer.run()
    return losses[: steps - (state["step"] if state else 0)], trainer.state_dict()


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_only_adapters_are_trained_and_a_resumed_run_is_exact(optimizer):
    model = make_model()
    frozen = {name: weight.clone() for name, weight in model.named_parameters()}
    add_adapters(model, LoraConfig(rank=4, dropout=0.1), torch.Generator().manual_seed(0))
    unbroken = copy.deepcopy(model)
    torch.manual_seed(5)  # of dropout
    first, state = train(model, 4, optimizer=optimizer)
    n_states = sum(len(part["state"]) for part in state["optimizers"])
    assert n_states == len(trainable_parameters(model))
    held = dict(model.named_parameters())
    assert all(torch.equal(held[name], weight) for name, weight in frozen.items())
    assert all(layer.lora_b.any() for _, layer in adapters(model))
    torch.manual_seed(99)
    rest, _ = train(model, 8, state, optimizer=optimizer)
    torch.manual_seed(5)
    assert first + rest == train(unbroken, 8, optimizer=optimizer)[0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rank": 0}, "rank = 0 must be at least 1"),
        ({"alpha": 0.0}, "alpha = 0.0 must be above 0"),
        ({"alpha": math.nan}, "alpha = nan must be above 0"),
        ({"dropout": 1.0}, r"lora_dropout = 1.0 must be in \[0, 1\)"),
        ({"layers": ()}, r"lora_layers = \[\] must be some of attention, ffn, all, q, k"),
        ({"layers": ("q", "q_proj")}, r"lora_layers = \['q', 'q_proj'\] must be some of"),
    ],
)
def test_impossible_settings_are_named(fields, message):
    with pytest.raises(ConfigError, match=message):
        LoraConfig(**fields)


@pytest.mark.parametrize(
    ("family", "fields", "message"),
    [
        ("gpt2", {"layers": ("q", "gate")}, "family gpt2 has no 'gate'. Use some of down, k, out"),
        ("mixtral", {"rslora": True, "rank": 4}, "Without it, alpha = 64 is the same"),
        ("mixtral", {"layers": ("gate", "down")}, "gate and up of experts have adapters both or"),
    ],
)
def test_what_a_family_has_not_is_named(family, fields, message):
    model = make_model(family)
    with pytest.raises(ConfigError, match=message):
        add_adapters(model, LoraConfig(**fields))
    assert all(weight.requires_grad for weight in model.parameters())
    assert not has_adapters(model)


def test_experts_may_have_rslora_on_attention_and_routers_never_have_any():
    model = make_model("mixtral")
    add_adapters(model, LoraConfig(layers=("attention",), rslora=True))
    remove_adapters(model, merge=False)
    add_adapters(model, LoraConfig())
    names = {name for name, _ in adapters(model)}
    assert "blocks.1.ffn.experts.2.gate" in names
    assert not any("router" in name for name in names)
    assert not any(w.requires_grad for n, w in model.named_parameters() if "router" in n)


def test_adapters_are_not_put_on_adapters():
    model = make_model()
    add_adapters(model, LoraConfig())
    with pytest.raises(ConfigError, match="the model has adapters already"):
        add_adapters(model, LoraConfig())


def test_four_bits_stay_below_adapters():
    model = make_model()
    quantise_frozen(model)
    add_adapters(model, LoraConfig())
    remove_adapters(model, merge=False)
    assert isinstance(model.blocks[0].attention.q, NF4Linear)
