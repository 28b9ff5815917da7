"""Sizes: derived, refused, and read from TOML."""

import pytest

from scratchlm.base.errors import ConfigError
from scratchlm.model.config import ModelConfig


def test_zeros_are_derived():
    config = ModelConfig(family="llama", d_model=288, n_heads=8, n_kv_heads=4).resolved()
    assert (config.d_head, config.d_ff, config.norm_eps) == (36, 768, 1e-5)
    assert ModelConfig(family="gpt2", d_model=64, n_heads=4).resolved().d_ff == 256
    assert ModelConfig(family="qwen3", d_model=64, n_heads=4, d_head=32).resolved().d_head == 32


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"d_model": 100, "n_heads": 6}, "model.n_heads = 6 does not divide model.d_model = 100"),
        (
            {"d_model": 96, "n_heads": 6, "n_kv_heads": 4},
            "n_kv_heads = 4 does not divide .*1, 2, 3",
        ),
        ({"family": "gpt2", "n_kv_heads": 3}, "family gpt2 has one key/value head for each"),
        ({"family": "gpt2", "d_head": 32}, "needs n_heads \\* d_head = d_model = 384"),
        ({"d_model": 18, "n_heads": 6}, "model.d_head = 3 must be even"),
        ({"family": "llama", "d_model": 30, "n_heads": 4, "d_head": 8}, "or family qwen3"),
        ({"n_layers": 0}, "model.n_layers = 0 must be at least 1"),
        ({"dropout": 1.0}, "model.dropout = 1.0 must be in"),
        ({"family": "gpt3"}, "'gpt3' is not one of gemma3_text, gpt2"),
        ({"d_ff": -1}, "model.d_ff = -1 must not be negative"),
    ],
)
def test_impossible_sizes_name_the_setting_and_the_cure(sizes, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**sizes)
