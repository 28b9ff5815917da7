"""New rows are the mean of the old ones, as transformers has it, and nothing else changes."""

import dataclasses

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from scratchlm.checkpoint.folder import load_model
from scratchlm.model.classifier import Classifier
from scratchlm.model.config import ModelConfig
from scratchlm.model.resize import resize_vocabulary
from scratchlm.model.transformer import Transformer

CONFIG = ModelConfig(family="llama", vocab_size=50, d_model=16, n_layers=1, n_heads=2)
TOKENS = torch.arange(12)[None]


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def model(request) -> Transformer:
    torch.manual_seed(0)
    return Transformer(dataclasses.replace(CONFIG, tie_embeddings=request.param)).eval()


def test_new_rows_are_the_mean(model):
    before = model(TOKENS)
    embedding, head = model.embedding.weight.clone(), model.head.weight.clone()
    tied = model.config.tie_embeddings
    resize_vocabulary(model, 53)
    after = model(TOKENS)
    assert after.shape[-1] == model.config.vocab_size == 53
    assert torch.equal(after[..., :50], before)
    torch.testing.assert_close(after[..., 50:], before.mean(dim=-1, keepdim=True).expand(1, 12, 3))
    assert (model.head.weight is model.embedding.weight) == tied
    for old, new in ((embedding, model.embedding.weight), (head, model.head.weight)):
        assert torch.equal(new[:50], old)
        torch.testing.assert_close(new[50:], old.mean(dim=0).expand(3, -1))
    assert (model.embedding.num_embeddings, model.head.out_features) == (53, 53)
    model(torch.tensor([[52]])).sum().backward()  # new parameters, which learn
    assert model.embedding.weight.grad[52].abs().sum() > 0


def test_spare_rows_are_left_alone(model):
    weights = model.embedding.weight, model.head.weight
    for size in (50, 40):
        resize_vocabulary(model, size)
    assert model.config.vocab_size == 50
    assert model.embedding.weight is weights[0]
    assert model.head.weight is weights[1]


def test_what_was_frozen_stays_frozen_and_keeps_its_dtype(model):
    model.to(torch.bfloat16).requires_grad_(False)
    resize_vocabulary(model, 51)
    assert model.embedding.weight.dtype == model.head.weight.dtype == torch.bfloat16
    assert not any(weight.requires_grad for weight in model.parameters())


def test_a_head_of_classes_keeps_its_classes(model):
    classifier = Classifier.of(model, ("a", "b"), "last")
    resize_vocabulary(classifier, 53)
    assert classifier.embedding.weight.shape == (53, 16)
    assert classifier.head.weight.shape == (2, 16)
    assert classifier.head.out_features == 2


@pytest.mark.parametrize("tied", [True, False])
def test_as_transformers(tied, tmp_path):
    """Theirs draws around the mean with a variance of 1e-9 of the covariance."""
    config = LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=tied,
    )  # fmt: skip
    torch.manual_seed(1)
    theirs = LlamaForCausalLM(config).eval()
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    resize_vocabulary(ours, 54)
    theirs.resize_token_embeddings(54, mean_resizing=True)
    torch.testing.assert_close(ours(TOKENS), theirs(TOKENS).logits, rtol=1e-5, atol=2e-4)
    torch.testing.assert_close(
        ours.embedding.weight, theirs.get_input_embeddings().weight, rtol=0, atol=1e-4
    )
