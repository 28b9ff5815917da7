"""Model folders: what is saved is loaded, and what is damaged, foreign or hostile is refused."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from scratchlm.base.errors import CheckpointError
from scratchlm.base.files import read_json, write_json
from scratchlm.checkpoint.folder import (
    load_model,
    load_tokenizer,
    read_model_config,
    save_model,
)
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.tokenizer.train import train_tokenizer

CONFIG = ModelConfig(vocab_size=40, max_seq_len=32, n_layers=2, d_model=16, n_heads=2)


@pytest.fixture
def model() -> Transformer:
    made = Transformer(CONFIG)
    made.initialise(torch.Generator().manual_seed(0))
    return made.eval()


@pytest.fixture
def folder(model: Transformer, tmp_path: Path) -> Path:
    """A foreign folder: without our manifest nothing but the files themselves can tell."""
    save_model(tmp_path / "m", model, None)
    (tmp_path / "m" / "manifest.json").unlink()
    return tmp_path / "m"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["to be or not to be"], TokenizerConfig(kind="char"))


def change(path: Path, **fields: Any) -> None:
    write_json(path, read_json(path) | fields)


def test_saved_model_is_loaded_bit_for_bit(
    model: Transformer, tokenizer: Tokenizer, tmp_path: Path
):
    save_model(tmp_path / "m", model, tokenizer, facts={"step": 7})
    loaded = load_model(tmp_path / "m")
    assert loaded.config == CONFIG.resolved() == read_model_config(tmp_path / "m")
    assert not loaded.training
    assert loaded.head.weight is loaded.embedding.weight
    assert read_json(tmp_path / "m" / "manifest.json")["step"] == 7
    assert load_tokenizer(tmp_path / "m", CONFIG).hash == tokenizer.hash
    assert "lm_head.weight" not in load_file(tmp_path / "m" / "model.safetensors")
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert torch.equal(loaded.inv_freq, model.inv_freq)


def test_dtype_is_kept_unless_another_is_asked_for(model: Transformer, tmp_path: Path):
    save_model(tmp_path / "m", model, None, dtype=torch.bfloat16)
    assert load_model(tmp_path / "m").embedding.weight.dtype == torch.bfloat16
    for asked in ("float32", torch.float32):
        loaded = load_model(tmp_path / "m", dtype=asked)
        assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
        assert loaded.inv_freq.dtype == torch.float32
    with pytest.raises(CheckpointError, match="dtype = 'int8' is not one of float32"):
        load_model(tmp_path / "m", dtype="int8")


def test_stored_dtype_serves_where_config_names_none(model: Transformer, tmp_path: Path):
    save_model(tmp_path / "m", model, None, dtype=torch.float16)
    (tmp_path / "m" / "manifest.json").unlink()
    change(tmp_path / "m" / "config.json", dtype=None, torch_dtype=None)
    assert load_model(tmp_path / "m").embedding.weight.dtype == torch.float16


def test_loaded_weights_do_not_need_the_file(folder: Path, model: Transformer):
    loaded = load_model(folder)
    size = (folder / "model.safetensors").stat().st_size
    (folder / "model.safetensors").write_bytes(b"\xff" * size)  # the same inode, rewritten
    assert torch.equal(loaded.embedding.weight, model.embedding.weight)


def test_an_older_folder_is_replaced_whole(model: Transformer, tmp_path: Path):
    save_model(tmp_path / "m", model, None)
    (tmp_path / "m" / "stale").touch()
    with torch.no_grad():
        model.embedding.weight.zero_()
    save_model(tmp_path / "m", model, None)
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    assert not (tmp_path / "m" / "stale").exists()
    assert not load_model(tmp_path / "m").embedding.weight.any()


def test_vocabularies_must_fit(model: Transformer, tmp_path: Path):
    large = train_tokenizer([bytes(range(33, 127)).decode()], TokenizerConfig(kind="char"))
    with pytest.raises(CheckpointError, match="tokenizer has 94 tokens, the model only 40"):
        save_model(tmp_path / "m", model, large)
    assert not list(tmp_path.iterdir())
    large.save(tmp_path)
    with pytest.raises(CheckpointError, match="tokenizer has 94 tokens, the model only 40"):
        load_tokenizer(tmp_path, CONFIG)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "model.safetensors"])
def test_a_flipped_bit_is_named(model: Transformer, tmp_path: Path, name: str):
    save_model(tmp_path, model, None)
    content = bytearray((tmp_path / name).read_bytes())
    content[-3] ^= 1 if name == "model.safetensors" else 0x10
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        load_model(tmp_path)


def test_a_second_copy_of_a_tied_head_must_be_equal(folder: Path, model: Transformer):
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, folder / "model.safetensors")
    assert torch.equal(load_model(folder).head.weight, model.head.weight)
    weights["lm_head.weight"][0, 0] += 1
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="tie_word_embeddings"):
        load_model(folder)


def test_not_a_model_folder(tmp_path: Path, folder: Path):
    with pytest.raises(
        CheckpointError, match=r"config\.json does not exist: .* not a model folder"
    ):
        load_model(tmp_path / "nothing")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors"):
        load_model(folder)
    (folder / "pytorch_model.bin").touch()
    with pytest.raises(CheckpointError, match=r"pickle, which can run any code.*save_pretrained"):
        load_model(folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "\x00\xff",
        '{"model_type": "llama"',
        "[" * 200_000,
        '{"vocab_size": ' + "9" * 5000 + "}",
        '{"a": ' * 100_000 + "1" + "}" * 100_000,
    ],
    ids=["empty", "list", "null", "bytes", "cut", "deep list", "digits", "deep object"],
)
def test_config_that_is_no_json_object(folder: Path, text: str):
    (folder / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_model(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vocab_size", 41),
        ("vocab_size", 2**31),
        ("hidden_size", 32),
        ("head_dim", 4),
        ("num_key_value_heads", 1),
        ("intermediate_size", 2**20),
        ("num_hidden_layers", 1),
        ("num_hidden_layers", 4096),
        ("tie_word_embeddings", False),
        ("dtype", ["float32"]),
        ("dtype", "int4"),
    ],
)
def test_config_that_does_not_fit_the_weights(folder: Path, field: str, value: Any):
    change(folder / "config.json", **{field: value})
    with pytest.raises(CheckpointError, match=r"config\.json|dtype"):
        load_model(folder)


def test_wrong_shape_names_the_weight_and_both_shapes(folder: Path):
    change(folder / "config.json", vocab_size=41)
    with pytest.raises(CheckpointError, match=r"embed_tokens.*\(40, 16\).*\(41, 16\)"):
        load_model(folder)


def test_cut_weights_at_any_length(folder: Path):
    content = (folder / "model.safetensors").read_bytes()
    for n in (0, 1, 7, 8, 9, 100, 2000, len(content) // 2, len(content) - 1):
        (folder / "model.safetensors").write_bytes(content[:n])
        with pytest.raises(CheckpointError, match="not a whole safetensors file"):
            load_model(folder)


@pytest.mark.parametrize("length", [0, 1, 10**6, 99_999_999, 2**40, 2**63, 2**64 - 1])
def test_header_of_absurd_size(folder: Path, length: int):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", length) + content[8:])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_model(folder)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [40, 16], "data_offsets": [0, 2**62]},
        {"dtype": "F32", "shape": [40, 16], "data_offsets": [8, 4]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F33", "shape": [1], "data_offsets": [0, 4]},
        {"shape": [1]},
        [],
    ],
)
def test_header_that_lies(folder: Path, entry: Any):
    header = json.dumps({"model.embed_tokens.weight": entry}).encode()
    content = struct.pack("<Q", len(header)) + header + bytes(4)
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_model(folder)


def test_quantised_weights_are_refused(folder: Path):
    weights = load_file(folder / "model.safetensors")
    weights = {name: weight.to(torch.int8) for name, weight in weights.items()}
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"stored as I8.*quantised"):
        load_model(folder)


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        (None, "no weight_map"),
        ({}, "no weight_map"),
        ({"a": "../m/one.safetensors"}, "no file name"),
        ({"a": "/etc/passwd"}, "no file name"),
        ({"a": "..\\one.safetensors"}, "no file name"),
        ({"a": 1}, "no file name"),
        ({"a": "absent.safetensors"}, "absent.safetensors"),
        ({"a": "one.safetensors", "b": "two.safetensors"}, "stands in another file as well"),
    ],
)
def test_index_that_lies(folder: Path, weight_map: Any, message: str):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "one.safetensors").write_bytes(content)
    (folder / "two.safetensors").write_bytes(content)
    (folder / "model.safetensors").unlink()
    write_json(folder / "model.safetensors.index.json", {"weight_map": weight_map})
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)
