"""Files of torch.save are read without running them; tutorials' checkpoints give their models."""

import collections
import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from scratchlm.base.errors import CheckpointError
from scratchlm.checkpoint.folder import load_model
from scratchlm.formats.gguf_names import interleave
from scratchlm.formats.torch_file import Lazy, Record, open_torch
from scratchlm.formats.tutorials import open_source
from scratchlm.model.transformer import Transformer
from scratchlm.recipes.import_model import import_model


class GPTConfig:
    """A class that the reader does not have."""

    def __init__(self) -> None:
        self.n_layer = 3


class Bomb:
    """Leaves a file behind when it is unpickled the usual way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_are_those_that_were_saved(zipped, tmp_path):
    base = torch.randn(7, 5)
    saved = {
        "float": base,
        "view": base[1:3, ::2],
        "turned": base.T,
        "half": torch.randn(3).half(),
        "brain": torch.randn(2, 3, 4).bfloat16(),
        "long": torch.arange(9),
        "empty": torch.empty(0, 4),
        "scalar": torch.tensor(2.5),
        "weight": torch.nn.Parameter(torch.randn(4)),
        "nested": [{"a": (1, None, "b")}, torch.float16],
    }
    saved = collections.OrderedDict(saved)
    torch.save(saved, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
    with open_torch(tmp_path / "m.pt") as found:
        assert found["nested"] == saved["nested"]
        for name, tensor in saved.items():
            if isinstance(tensor, torch.Tensor):
                assert isinstance(found[name], Lazy)
                assert found[name].shape == tuple(tensor.shape)
                assert torch.equal(found[name].read(), tensor)


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_is_run_and_classes_are_records(zipped, tmp_path):
    trap = tmp_path / "trap"
    saved = {"config": GPTConfig(), "bomb": Bomb(trap), "w": torch.ones(2)}
    torch.save(saved, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
    with open_torch(tmp_path / "m.pt") as found:
        assert isinstance(found["config"], Record)
        assert found["config"].fields == {"n_layer": 3}
        assert found["config"].class_name.endswith(".GPTConfig")
        assert isinstance(found["bomb"], Record)
        assert found["w"].read().tolist() == [1, 1]
    assert not trap.exists()


def broken_files(folder: Path) -> dict[str, Path]:
    torch.save({"w": torch.randn(100)}, folder / "whole.pt")
    whole = (folder / "whole.pt").read_bytes()
    contents = {
        "empty": b"",
        "short": whole[:50],
        "half": whole[: len(whole) // 2],
        "text": b"PK not a zip",
        "pickle": pickle.dumps({"model": 1}),
        "opcode": b"\x80\x02\xff",
    }
    for name, content in contents.items():
        (folder / f"{name}.pt").write_bytes(content)
    with zipfile.ZipFile(folder / "other.pt", "w") as archive:
        archive.writestr("readme", "no tensors")
    with (
        zipfile.ZipFile(folder / "whole.pt") as old,
        zipfile.ZipFile(folder / "packed.pt", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    return {name: folder / f"{name}.pt" for name in [*contents, "other", "packed"]}


@pytest.mark.parametrize(
    "name", ["empty", "short", "half", "text", "pickle", "opcode", "other", "packed"]
)
def test_damaged_and_foreign_files_give_our_error(name, tmp_path):
    path = broken_files(tmp_path)[name]
    with pytest.raises(CheckpointError), open_torch(path) as found:
        found["w"].read()


def nanogpt(model: Transformer, *, bias: bool, prefix: str = "") -> dict:
    """What nanoGPT's train.py saves."""
    c, state = model.config, {}
    ours = dict(model.named_parameters())
    plain = {
        "transformer.wte": "embedding",
        "transformer.wpe": "positions",
        "transformer.ln_f": "norm",
    }
    for i in range(c.n_layers):
        h = f"transformer.h.{i}"
        plain |= {
            f"{h}.ln_1": f"blocks.{i}.attention_norm",
            f"{h}.attn.c_proj": f"blocks.{i}.attention.out",
            f"{h}.ln_2": f"blocks.{i}.ffn_norm",
            f"{h}.mlp.c_fc": f"blocks.{i}.ffn.up",
            f"{h}.mlp.c_proj": f"blocks.{i}.ffn.down",
        }
    for kind in ("weight", "bias") if bias else ("weight",):
        for theirs, name in plain.items():
            if f"{name}.{kind}" in ours:
                state[f"{theirs}.{kind}"] = ours[f"{name}.{kind}"]
        for i in range(c.n_layers):
            parts = [ours[f"blocks.{i}.attention.{x}.{kind}"] for x in "qkv"]
            state[f"transformer.h.{i}.attn.c_attn.{kind}"] = torch.cat(parts)
    state["lm_head.weight"] = state["transformer.wte.weight"]
    state["transformer.h.0.attn.bias"] = torch.ones(1, 1, 4, 4)
    sizes = {"n_layer": c.n_layers, "n_head": c.n_heads, "n_embd": c.d_model, "dropout": 0.0}
    sizes |= {"block_size": c.max_seq_len, "vocab_size": c.vocab_size, "bias": bias}
    state = {f"{prefix}{name}": weight.detach() for name, weight in state.items()}
    return {"model": state, "model_args": sizes, "iter_num": 5, "config": {"a": 1}}


@torch.no_grad()
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("prefix", ["", "_orig_mod."])
def test_nanogpt(bias, prefix, make_model, tmp_path):
    model = make_model(family="gpt2", exact_gelu=True)
    if not bias:
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.zero_()
    torch.save(nanogpt(model, bias=bias, prefix=prefix), tmp_path / "ckpt.pt")
    letters = dict(enumerate([chr(65 + i) for i in range(300)]))
    meta = {"vocab_size": 300, "itos": letters, "stoi": {c: i for i, c in letters.items()}}
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps(meta))
    with open_source(tmp_path / "ckpt.pt") as source:
        assert source.config == model.config
        assert source.tokenizer().encode("BAC") == [1, 0, 2]
        for name, weight in model.named_parameters():
            assert torch.equal(source.weights[name](), weight)


@torch.no_grad()
def test_a_pickled_config_and_a_json_of_characters(make_model, tmp_path):
    model = make_model(family="gpt2", exact_gelu=True, tie_embeddings=False)
    saved = nanogpt(model, bias=True)
    saved["model"]["lm_head.weight"] = model.head.weight.detach()
    config = GPTConfig()
    config.__dict__.update(saved.pop("model_args"))
    state = {k.removeprefix("transformer."): w for k, w in saved.pop("model").items()}
    torch.save({"model_state_dict": state, "config": config, "epoch": 3}, tmp_path / "best.pt")
    letters = {chr(65 + i): i for i in range(300)}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"vocab": letters}))
    with open_source(tmp_path / "best.pt") as source:
        assert source.config == model.config
        assert source.tokenizer().encode("BAC") == [1, 0, 2]
        for name, weight in model.named_parameters():
            assert torch.equal(source.weights[name](), weight)


@torch.no_grad()
def test_llama2c(make_model, tokens, tmp_path):
    model = make_model(family="llama", n_kv_heads=2)
    c = model.config
    names = {
        "attention.q": "attention.wq", "attention.k": "attention.wk",
        "attention.v": "attention.wv", "attention.out": "attention.wo",
        "ffn.gate": "feed_forward.w1", "ffn.up": "feed_forward.w3", "ffn.down": "feed_forward.w2",
        "attention_norm": "attention_norm", "ffn_norm": "ffn_norm",
    }  # fmt: skip
    state = {"tok_embeddings.weight": model.embedding.weight, "norm.weight": model.norm.weight}
    state["output.weight"] = model.embedding.weight
    ours = dict(model.named_parameters())
    for i in range(c.n_layers):
        for name, theirs in names.items():
            whole = f"blocks.{i}.{name}.weight"
            state[f"layers.{i}.{theirs}.weight"] = interleave(c, whole, ours[whole])
    sizes = {"dim": c.d_model, "n_layers": c.n_layers, "n_heads": c.n_heads, "multiple_of": 32}
    sizes |= {"n_kv_heads": 2, "vocab_size": c.vocab_size, "max_seq_len": c.max_seq_len}
    state = {f"_orig_mod.{name}": weight.detach() for name, weight in state.items()}
    torch.save({"model": state, "model_args": sizes}, tmp_path / "ckpt.pt")
    result = import_model(tmp_path / "ckpt.pt", tmp_path / "out")

    loaded = load_model(result.model)
    assert loaded.config == c
    assert torch.equal(loaded(tokens), model(tokens))


def test_other_checkpoints_are_refused(make_model, tmp_path):
    torch.save({"state": 1}, tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match="no model_args"), open_source(tmp_path / "m.pt"):
        pass
    whole = nanogpt(make_model(family="gpt2"), bias=True)
    del whole["model"]["transformer.h.1.ln_1.weight"]
    torch.save(whole, tmp_path / "n.pt")
    with (
        pytest.raises(
            CheckpointError, match=r"without a weight: blocks\.1\.attention_norm\.weight"
        ),
        open_source(tmp_path / "n.pt"),
    ):
        pass
