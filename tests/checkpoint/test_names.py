"""config.json is understood or refused by name, never ignored; every parameter has its row."""

import dataclasses
from typing import Any

import pytest
import torch

from scratchlm.base.errors import CheckpointError
from scratchlm.checkpoint.families import Row
from scratchlm.checkpoint.names import (
    NAMES,
    match_weights,
    read_config,
    weight_rows,
    write_config,
)
from scratchlm.model.config import FAMILIES, ModelConfig
from scratchlm.model.transformer import Transformer

SIZES: dict[str, Any] = {"vocab_size": 20, "n_layers": 2, "d_model": 16, "n_heads": 2}


def sizes(family: str) -> dict[str, Any]:
    return {**SIZES, "n_experts": 3} if FAMILIES[family].experts else SIZES


def written(family: str, **changes: Any) -> dict[str, Any]:
    return write_config(ModelConfig(family=family, **sizes(family))) | changes


def test_every_family_has_names():
    assert set(NAMES) == set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [True, False])
def test_every_parameter_has_one_row(family: str, tied: bool):
    config = ModelConfig(family=family, **sizes(family), tie_embeddings=tied)
    with torch.device("meta"):
        names = [name for name, _ in Transformer(config).named_parameters()]
    assert sorted(row.ours for row in weight_rows(config)) == sorted(names)


@pytest.mark.parametrize("family", FAMILIES)
def test_config_survives_the_round_trip(family: str):
    config = ModelConfig(
        family=family, **sizes(family), max_seq_len=77, d_ff=40, norm_eps=3e-5, tie_embeddings=False
    )
    assert read_config(write_config(config), "config.json") == config.resolved()


def test_dropout_goes_to_gpt2_only_and_is_not_read_back():
    gpt2 = ModelConfig(family="gpt2", **SIZES, dropout=0.2)
    values = write_config(gpt2)
    assert values["resid_pdrop"] == values["embd_pdrop"] == values["attn_pdrop"] == 0.2
    assert read_config(values, "c") == dataclasses.replace(gpt2.resolved(), dropout=0.0)
    assert write_config(ModelConfig(**SIZES, dropout=0.2))["attention_dropout"] == 0.0


@pytest.mark.parametrize(
    ("family", "field", "value", "shown"),
    [
        ("gpt2", "activation_function", "relu", "relu"),
        ("gpt2", "scale_attn_by_inverse_layer_idx", True, True),
        ("gpt2", "rope_theta", 10000.0, 10000.0),
        ("llama", "hidden_act", "gelu", "gelu"),
        ("llama", "attention_bias", True, True),
        ("llama", "rope_theta", 20000.0, 20000.0),
        ("llama", "sliding_window", 4096, 4096),
        ("llama", "quantization_config", {"bits": 4}, {"bits": 4}),
        ("qwen3", "use_sliding_window", True, True),
        (
            "qwen3",
            "layer_types",
            ["full_attention", "sliding_attention"],
            ["full_attention", "sliding_attention"],
        ),
        ("qwen3", "num_experts", 8, 8),
    ],
)
def test_what_we_do_not_compute_is_refused_by_name(family: str, field: str, value: Any, shown: Any):
    with pytest.raises(CheckpointError, match=rf"config\.json: {field}") as caught:
        read_config(written(family, **{field: value}), "config.json")
    assert repr(shown) in str(caught.value)


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"rope_type": "longrope", "factor": 8.0}, "rope_type = 'longrope' is not supported"),
        ({"rope_theta": 1e4, "partial_rotary_factor": 0.5}, "partial_rotary_factor is not"),
        ({"rope_type": "linear", "factor": 0.0}, "factor = 0.0 is not a usable number"),
        ({"rope_type": "linear", "factor": 2.0, "beta_fast": 3.0}, "beta_fast = 3.0 is not known"),
        ({"rope_type": "yarn", "type": "linear", "factor": 2.0}, "is not supported"),
        ({"rope_type": "yarn", "factor": 0.5}, "factor = 0.5 must be at least 1"),
        ({"full_attention": {"rope_theta": 1e4}}, "full_attention"),
    ],
)
def test_angles_that_we_do_not_compute_are_refused(table: dict[str, Any], complaint: str):
    with pytest.raises(CheckpointError, match=rf"c\.json: .*{complaint}"):
        read_config(written("llama", rope_parameters=table), "c.json")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vocab_size", "20"),
        ("vocab_size", 10**30),
        ("hidden_size", -16),
        ("hidden_size", 16.0),
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", True),
        ("num_attention_heads", 0),
        ("rms_norm_eps", float("nan")),
        ("rope_theta", float("inf")),
        ("rope_theta", "big"),
        ("tie_word_embeddings", 1),
        ("rope_parameters", [1]),
    ],
)
def test_unusable_values_are_refused_by_name(field: str, value: Any):
    values = written("llama")
    if field == "rope_theta":
        del values["rope_parameters"]
    with pytest.raises(CheckpointError, match=field):
        read_config(values | {field: value}, "config.json")


def test_impossible_sizes_and_families_are_refused():
    with pytest.raises(CheckpointError, match=r"(?s)c\.json.*n_heads = 3 does not divide"):
        read_config(written("llama", num_attention_heads=3, head_dim=None), "c.json")
    for family in ("mamba", None, ["llama"]):
        with pytest.raises(CheckpointError, match=r"model_type = .* is not supported"):
            read_config(written("llama", model_type=family), "c.json")
    values = written("llama")
    del values["hidden_size"]
    with pytest.raises(CheckpointError, match="no hidden_size"):
        read_config(values, "c.json")


def test_absent_fields_mean_what_transformers_takes():
    """A config.json of GPT-2's first years, and Llama's of before grouped-query attention."""
    gpt2 = {"model_type": "gpt2", "vocab_size": 9, "n_positions": 8, "n_ctx": 8, "n_layer": 1}
    gpt2 |= {"n_embd": 16, "n_head": 2, "task_specific_params": {"text-generation": {}}}
    found = read_config(gpt2, "c")
    assert found.tie_embeddings
    assert found.d_ff == 64
    llama = {"model_type": "llama", "vocab_size": 9, "hidden_size": 16, "intermediate_size": 24}
    llama |= {"num_hidden_layers": 1, "num_attention_heads": 2}
    found = read_config(llama, "c")
    assert (found.n_kv_heads, found.d_head, found.max_seq_len) == (2, 8, 2048)
    assert (found.norm_eps, found.rope_theta, found.tie_embeddings) == (1e-6, 10000.0, False)


def test_unmatched_weights_are_listed_on_both_sides():
    config = ModelConfig(**SIZES)
    present = {row.theirs for row in weight_rows(config)}
    present |= {"model.layers.0.self_attn.rotary_emb.inv_freq"}  # no parameter: not missed
    assert len(match_weights(config, present, "m")) == len(present) - 1
    present = present - {"model.norm.weight"} | {"model.final.weight"}
    with pytest.raises(CheckpointError) as caught:
        match_weights(config, present, "m")
    assert "no parameter takes: model.final.weight." in str(caught.value)
    assert "without a weight: norm.weight (their model.norm.weight)." in str(caught.value)


def test_a_tensor_that_does_not_divide_fits_no_shape_of_ours():
    row = Row("q", "qkv", parts=3)
    assert row.shape_of((6, 4)) == (2, 4)
    assert row.shape_of((7, 4)) == (-1, 4)  # though ours may have 7 rows
    assert Row("q", "qkv", transpose=True, parts=3).shape_of((4, 6)) == (2, 4)
