"""Tiny random models of each family, and their twins in transformers."""

import itertools

import pytest
import torch

from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer

VOCAB = 53
SHAPES = [
    pytest.param(
        ModelConfig(
            family=family,
            vocab_size=VOCAB,
            max_seq_len=40,
            n_layers=3,
            d_model=32,
            n_heads=4,
            n_kv_heads=n_kv_heads,
            d_head=12 if family == "qwen3" else 0,  # 4 x 12 is not 32: its own head width
            tie_embeddings=tied,
            rope_theta=10000.0 if family == "gpt2" else 5e5,
        ),
        id=f"{family}-{n_kv_heads}kv-{'tied' if tied else 'untied'}",
    )
    for family, n_kv_heads, tied in itertools.product(
        ("gpt2", "llama", "qwen3"), (4, 2), (True, False)
    )
    if family != "gpt2" or n_kv_heads == 4
]


@pytest.fixture(params=SHAPES)
def config(request: pytest.FixtureRequest) -> ModelConfig:
    return request.param


@pytest.fixture
def model(config: ModelConfig) -> Transformer:
    """Weights far from their start, biases and norms too, so that none can be left out unseen."""
    torch.manual_seed(0)
    made = Transformer(config)
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(1.0 if weight.ndim == 1 else 0.0, 0.2)
    return made.eval()


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(0, VOCAB, (3, 33), generator=torch.Generator().manual_seed(1))
