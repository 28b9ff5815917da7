"""The model's own facts; that it computes what it should is shown in tests/parity."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from scratchlm.model.config import ModelConfig
from scratchlm.model.lora import LoraConfig, add_adapters
from scratchlm.model.nf4 import quantise_frozen
from scratchlm.model.transformer import Transformer

FAMILIES = ["gpt2", "llama", "qwen3"]


def make(family, **sizes):
    defaults = {"vocab_size": 50, "n_layers": 3, "d_model": 32, "n_heads": 4, "max_seq_len": 16}
    model = Transformer(ModelConfig(family=family, **{**defaults, **sizes}))
    torch.manual_seed(0)
    model.initialise()
    return model


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_flops_formula_counts_what_pytorch_counts(family, tie):
    model = make(family, tie_embeddings=tie)
    tokens = torch.zeros(1, 16, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        model(tokens).sum().backward()
    # PyTorch counts the forward and backward products; attention whole, as the formula does.
    assert counter.get_total_flops() == pytest.approx(16 * model.flops_per_token(16), rel=0.12)


def adapt(model):
    add_adapters(model, LoraConfig(rank=2), torch.Generator().manual_seed(0))


def adapt_four_bits(model):
    quantise_frozen(model)
    adapt(model)


def freeze_all_but_the_end(model):
    model.requires_grad_(False)
    for part in (model.blocks[-1], model.head):
        part.requires_grad_(True)


@pytest.mark.parametrize("freeze", [adapt, adapt_four_bits, freeze_all_but_the_end])
def test_flops_of_a_model_that_is_partly_frozen(freeze):
    model = make("llama", d_model=64, tie_embeddings=False)
    whole = model.flops_per_token(16)
    freeze(model)
    tokens = torch.zeros(1, 16, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        model(tokens).sum().backward()
    found = model.flops_per_token(16)
    assert counter.get_total_flops() == pytest.approx(16 * found, rel=0.12)
    assert found < 0.8 * whole


@pytest.mark.parametrize("family", FAMILIES)
def test_zero_init_starts_every_block_as_the_identity(family):
    model = make(family, init="zero", tie_embeddings=False).eval()
    x = torch.randn(2, 8, 32)
    tokens = torch.randint(0, 50, (2, 8))
    where = model._where(x, model._positions(tokens, None, None), None, None)
    with torch.no_grad():
        assert torch.equal(model.blocks[0](x, where, None, 0), x)
        assert torch.equal(model(tokens), torch.zeros(2, 8, 50))


def test_paper_init_scales_output_projections_by_depth():
    model = make("gpt2", n_layers=8, d_model=128)
    block = model.blocks[0]
    assert block.attention.q.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert block.attention.out.weight.std().item() == pytest.approx(0.02 / 16**0.5, rel=0.05)
    assert block.ffn.down.weight.std().item() == pytest.approx(0.02 / 16**0.5, rel=0.05)
    assert block.ffn.up.bias.abs().max() == 0


def test_dropout_can_be_set_and_only_acts_in_training():
    model = make("gpt2")
    tokens = torch.randint(0, 50, (1, 16))
    model.set_dropout(0.5)
    model.train()
    assert not torch.equal(model(tokens), model(tokens))
    model.eval()
    assert torch.equal(model(tokens), model(tokens))
    assert model.config.dropout == 0.5


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_computation_keeps_float32_weights_and_gradients(family):
    model = make(family)
    exact = model(torch.arange(16)[None])
    model.compute_dtype = torch.bfloat16
    rough = model(torch.arange(16)[None])
    rough.float().square().sum().backward()
    assert rough.dtype == torch.bfloat16
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}
    torch.testing.assert_close(rough.float(), exact, rtol=0, atol=0.02)  # logits of about 0.1
