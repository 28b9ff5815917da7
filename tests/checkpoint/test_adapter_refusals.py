"""Folders of adapters that are damaged, foreign or hostile: each is refused by name."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from scratchlm.base.errors import CheckpointError
from scratchlm.base.files import read_json, write_json
from scratchlm.checkpoint.adapter import load_adapter, read_adapter_config, save_adapter
from scratchlm.checkpoint.adapter_base import describe_base
from scratchlm.checkpoint.peft_config import ALL, read_peft_config
from scratchlm.model.config import ModelConfig
from scratchlm.model.lora import LoraConfig, adapters, add_adapters
from scratchlm.model.transformer import Transformer

V, T = 24, 12
SIZES = {"vocab_size": V, "max_seq_len": T, "n_layers": 2, "d_model": 16, "n_heads": 2}
LLAMA = ModelConfig(family="llama", **SIZES, n_kv_heads=1)
LORA = LoraConfig(rank=4, alpha=6.0, dropout=0.1)
TENSORS, CONFIG, OWN = "adapter_model.safetensors", "adapter_config.json", "adapter.json"


def make_model(config: ModelConfig = LLAMA) -> Transformer:
    model = Transformer(config)
    model.initialise(torch.Generator().manual_seed(0))
    return model.eval()


@pytest.fixture
def model() -> Transformer:
    return make_model()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A foreign folder: nothing of ours beside peft's two files."""
    other = make_model()
    add_adapters(other, LORA)
    for _, layer in adapters(other):
        torch.nn.init.normal_(layer.lora_b, std=0.3)
    save_adapter(tmp_path / "a", other, LORA, describe_base(other, "somewhere/tiny"))
    for name in ("manifest.json", OWN):
        (tmp_path / "a" / name).unlink()
    return tmp_path / "a"


def change(path: Path, **fields: Any) -> None:
    write_json(path, read_json(path) | fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type = 'IA3' is not supported; this program computes 'LORA'"),
        ({"use_dora": True}, "use_dora = True is not supported: this program computes plain LoRA"),
        ({"bias": "all"}, "bias = 'all' is not supported"),
        ({"lora_bias": True}, "lora_bias = True is not supported"),
        ({"trainable_token_indices": [3]}, r"trainable_token_indices = \[3\] is not supported"),
        ({"target_parameters": ["experts.down"]}, "target_parameters"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights = 'pissa' is not supported"),
        ({"use_tomorrows_trick": {"a": 1}}, "use_tomorrows_trick = {'a': 1} is not supported"),
        ({"use_rslora": "yes"}, "use_rslora = 'yes' is not supported"),
        ({"r": 0}, "r = '0' is not a whole number from 1 on"),
        ({"r": True}, "r = 'True' is not a whole number"),
        ({"r": 10**300}, "is not a whole number from 1 on"),
        ({"lora_alpha": -1}, "lora_alpha = '-1' is not a number above 0"),
        ({"lora_alpha": 10**400}, "is not a number above 0"),
        ({"lora_dropout": 1.5}, "lora_dropout = '1.5' is not a share"),
        ({"target_modules": 3}, "target_modules = '3' is not a list of names"),
        ({"layers_to_transform": ["1"]}, "layers_to_transform = .* is not a list of whole numbers"),
        ({"rank_pattern": [1]}, "rank_pattern = .* is not an object"),
        ({"rank_pattern": {"q_proj": 0}}, r"rank_pattern\['q_proj'\] = '0' is not a whole number"),
        ({"alpha_pattern": {r".*(a+)+$": 2}}, "alpha_pattern = .* is not the plain name"),
        ({"base_model_name_or_path": ["x"]}, "base_model_name_or_path = .* is not a text"),
        ({"rank_pattern": {"q_proj": 2}}, r"q_proj has A \(4, 16\) and B \(16, 4\), where rank 2"),
        ({"r": 5}, r"where rank 5 \(adapter_config.json\) and this model ask for \(5, 64\)"),
        ({"target_modules": ["q_proj"]}, "There, but not named: model.layers.0.mlp.down_proj"),
        ({"layers_to_transform": [0]}, "There, but not named: model.layers.1.mlp.down_proj"),
        ({"layers_to_transform": 1}, "There, but not named: model.layers.0.mlp.down_proj"),
    ],
)
def test_configs_that_we_do_not_compute_are_refused(fields, message, model, folder):
    change(folder / CONFIG, **fields)
    with pytest.raises(CheckpointError, match=message):
        load_adapter(model, folder)
    assert not adapters(model)
    assert all(weight.requires_grad for weight in model.parameters())


@pytest.mark.parametrize(
    "fields",
    [
        {"target_modules": ALL},
        {"target_modules": r".*_proj"},  # a regular expression, which is not run
        {"target_modules": ["q_proj", "lm_head"], "exclude_modules": ["lm_head"]},
        {"layers_to_transform": [0, 1], "layers_pattern": "layers"},
        {"alpha_pattern": {r"^model\.layers\.0\.self_attn\.q_proj$": 9}},
        {"init_lora_weights": "gaussian", "runtime_config": {"ephemeral_gpu_offload": True}},
    ],
)
def test_configs_that_we_compute_are_taken(fields, model, folder):
    change(folder / CONFIG, **fields)
    load_adapter(model, folder)
    assert len(adapters(model)) == 14
    alpha = 9.0 if "alpha_pattern" in fields else 6.0
    assert model.blocks[0].attention.q.alpha == alpha
    assert model.blocks[1].attention.q.alpha == 6.0


def rewrite(folder: Path, edit: Any) -> None:
    tensors = load_file(folder / TENSORS)
    edit(tensors)
    save_file(tensors, folder / TENSORS)


Q = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop(f"{Q}.lora_B.weight"), r"missing, or not of these: .*q_proj.lora_B"),
        (lambda t: t.update({f"{Q}.lora_magnitude_vector": torch.ones(16)}), "lora_magnitude_vec"),
        (lambda t: t.update({"q_proj.lora_A.weight": torch.ones(4, 16)}), "q_proj"),
        (lambda t: t.update({f"{Q}.lora_A.weight": torch.ones(4, 8)}), r"A \(4, 8\) and B"),
        (lambda t: t.update({f"{Q}.lora_A.weight": torch.ones(4, 16, 1)}), r"A \(4, 16, 1\)"),
        (lambda t: t.update({f"{Q}.lora_B.weight": torch.ones(8, 4)}), "trained on"),
        (lambda t: t.update({f"{Q}.lora_A.weight": torch.ones(4, 16).byte()}), "stored as U8"),
        (lambda t: t.update({"x.weight": torch.ones(2)}), "holds x.weight, for which this model"),
        (
            lambda t: t.update(
                {"base_model.model.lm_head.lora_A.weight": torch.ones(4, 16)}
            ),
            "the adapter of lm_head belongs to no layer that can have one here. The base that it "
            r"was trained on \(adapter_config.json names it 'somewhere/tiny'\) is needed",
        ),
        (lambda t: [t.pop(name) for name in list(t)], "holds no adapter"),
        (
            lambda t: t.update({"base_model.model.lm_head.weight": torch.ones(V, 16)}),
            "has a head of its own, and this model takes the embedding for it",
        ),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_are_refused(edit, message, model, folder):
    rewrite(folder, edit)
    with pytest.raises(CheckpointError, match=message):
        load_adapter(model, folder)
    assert not adapters(model)


@torch.no_grad()
def test_names_without_the_head_of_the_base_are_read(model, folder):
    """Trained on transformers' class without a head."""
    twin = make_model(model.config)
    load_adapter(twin, folder)
    rewrite(
        folder,
        lambda t: [t.update({n.replace(".model.model.", ".model."): t.pop(n)}) for n in list(t)],
    )
    load_adapter(model, folder)
    tokens = torch.randint(0, V, (3, T))
    assert torch.equal(model(tokens), twin(tokens))


def test_folders_that_are_none_or_pickles_are_named(model, folder, tmp_path):
    with pytest.raises(CheckpointError, match=r"has no adapter_config.json: it is not the folder"):
        read_adapter_config(tmp_path)
    (folder / TENSORS).write_bytes(b"\xff" * 100)
    with pytest.raises(CheckpointError, match=r"is not a whole safetensors file"):
        load_adapter(model, folder)
    (folder / TENSORS).unlink()
    with pytest.raises(CheckpointError, match=r"has no adapter_model.safetensors: it was only"):
        load_adapter(model, folder)
    (folder / "adapter_model.bin").touch()
    with pytest.raises(CheckpointError, match=r"adapter_model.bin is a pickle"):
        load_adapter(model, folder)


@pytest.mark.parametrize(
    "values",
    [
        {"parts": {}},
        {"parts": []},
        {"parts": {"x": [1]}},
        {"parts": {"x": {"ranks": [-1], "alpha": 1.0}}},
        {"parts": {"x": {"ranks": [1], "alpha": -1.0}}},
        {"parts": {}, "base": {"name": "x", "sha256": "y", "config": {}}},
        {"parts": {}, "base": {"name": 1, "sha256": "y", "config": {}}},
        {"parts": {}, "classes": []},
    ],
)
def test_our_own_file_is_read_with_distrust(values, model, folder):
    write_json(folder / OWN, values)
    with pytest.raises(CheckpointError, match=OWN):
        load_adapter(model, folder)


def test_parts_that_do_not_add_up_are_refused(tmp_path):
    model = make_model(ModelConfig(family="gpt2", **SIZES))
    base = describe_base(model, "here")
    add_adapters(model, LORA)
    save_adapter(tmp_path / "a", model, LORA, base)
    (tmp_path / "a" / "manifest.json").unlink()
    parts = read_json(tmp_path / "a" / OWN)["parts"]
    wrong = {"ranks": [4, 4], "alpha": 6.0}
    change(tmp_path / "a" / OWN, parts=parts | {"transformer.h.1.attn.c_attn": wrong})
    with pytest.raises(
        CheckpointError, match=r"has rank 12, and is said to have parts of \(4, 4\)"
    ):
        load_adapter(make_model(model.config), tmp_path / "a")


def test_peft_config_names_what_it_says(folder):
    read = read_peft_config(folder)
    assert (read.base, read.task, read.rank, read.alpha) == ("somewhere/tiny", "CAUSAL_LM", 4, 6.0)
