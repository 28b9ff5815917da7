"""Tiny random models of each family, and their twins in transformers."""

import itertools

import pytest
import torch

from scratchlm.model.config import ModelConfig
from scratchlm.model.rope import RopeScaling
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

EXPERTS = {"n_experts": 5, "n_active": 2, "d_ff": 24}
SHAPES += [
    pytest.param(
        ModelConfig(
            **{
                "vocab_size": VOCAB,
                "max_seq_len": 40,
                "n_layers": 3,
                "d_model": 32,
                "n_heads": 4,
                "n_kv_heads": 2,
                "rope_theta": 5e5,
                **sizes,
            }
        ),
        id=name,
    )
    for name, sizes in {
        "gpt2-erf": {"family": "gpt2", "n_kv_heads": 0, "rope_theta": 1e4, "exact_gelu": True},
        "mistral": {"family": "mistral", "window": 7, "d_head": 12},
        "mistral-whole": {"family": "mistral", "tie_embeddings": False},
        "qwen2": {"family": "qwen2"},
        "gemma3": {
            "family": "gemma3_text",
            "window": 7,
            "global_every": 2,
            "local_rope_theta": 1e4,
            "query_scalar": 9.0,
            "d_head": 12,
        },
        "mixtral": {"family": "mixtral", **EXPERTS},
        "mixtral-window": {"family": "mixtral", **EXPERTS, "window": 7, "tie_embeddings": False},
        "qwen3-moe": {"family": "qwen3_moe", **EXPERTS, "normalise_experts": False},
        "linear": {"family": "llama", "rope_scaling": RopeScaling("linear", 4.0)},
        "dynamic": {"family": "llama", "rope_scaling": RopeScaling("dynamic", 2.0, 20)},
        "yarn": {"family": "qwen3", "rope_scaling": RopeScaling("yarn", 4.0, 10, beta_fast=4.0)},
        "llama3": {"family": "llama", "rope_scaling": RopeScaling("llama3", 8.0, 10)},
        "mistral-yarn": {
            "family": "mistral", "window": 7, "rope_scaling": RopeScaling("yarn", 4.0, 10)
        },
    }.items()
]  # fmt: skip


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
            mean = 1.0 if weight.ndim == 1 and config.family != "gemma3_text" else 0.0
            weight.normal_(mean, 0.2)
    return made.eval()


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(0, VOCAB, (3, 33), generator=torch.Generator().manual_seed(1))
