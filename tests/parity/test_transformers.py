"""Our models are those of transformers: the same folders, the same logits, both ways.

Tolerance 1e-4 in float32 (the project's promise); measured here: under 3e-6.
"""

import logging
from pathlib import Path

import pytest
import torch
import transformers

from scratchlm.base.files import read_json, write_json
from scratchlm.checkpoint.folder import load_model, load_tokenizer, save_model
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.train import train_tokenizer


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_transformers_loads_what_we_save(
    model: Transformer, tokens: torch.Tensor, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    save_model(tmp_path / "m", model, None)
    transformers.logging.enable_propagation()
    with caplog.at_level(logging.WARNING):
        twin, report = transformers.AutoModelForCausalLM.from_pretrained(
            tmp_path / "m", output_loading_info=True
        )
    assert not caplog.records
    assert not any(report.values()), report
    close(model(tokens), twin(tokens).logits)


@torch.no_grad()
def test_we_load_what_transformers_saves(
    config: ModelConfig, model: Transformer, tokens: torch.Tensor, tmp_path: Path
):
    save_model(tmp_path / "m", model, None)  # only its config.json is taken: the weights are theirs
    theirs = transformers.AutoConfig.from_pretrained(tmp_path / "m")
    torch.manual_seed(2)
    twin = transformers.AutoModelForCausalLM.from_config(theirs).eval()
    for weight in twin.parameters():
        norm = weight.ndim == 1 and config.family != "gemma3_text"
        weight.normal_(1.0 if norm else 0.0, 0.2)
    twin.save_pretrained(tmp_path / "theirs")

    loaded = load_model(tmp_path / "theirs")

    assert loaded.config == config.resolved()
    close(loaded(tokens), twin(tokens).logits)


@torch.no_grad()
def test_many_files_and_the_base_model_load(
    model: Transformer, tokens: torch.Tensor, tmp_path: Path
):
    save_model(tmp_path / "m", model, None)
    twin = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    twin.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    assert torch.equal(load_model(tmp_path / "shards")(tokens), model(tokens))

    if model.config.tie_embeddings:  # the base model has no head: names lose their prefix
        twin.base_model.save_pretrained(tmp_path / "base")
        assert torch.equal(load_model(tmp_path / "base")(tokens), model(tokens))


@torch.no_grad()
def test_old_spellings_of_config_load(model: Transformer, tokens: torch.Tensor, tmp_path: Path):
    """Before version 5: rope_theta beside rope_scaling, torch_dtype instead of dtype."""
    save_model(tmp_path, model, None)
    (tmp_path / "manifest.json").unlink()
    values = read_json(tmp_path / "config.json")
    del values["dtype"]
    if values.pop("rope_parameters", None):
        values.setdefault("rope_scaling", None)
    write_json(tmp_path / "config.json", values)
    assert torch.equal(load_model(tmp_path)(tokens), model(tokens))
    twin = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    close(model(tokens), twin(tokens).logits)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_half_precision_is_kept_and_close(
    model: Transformer, tokens: torch.Tensor, tmp_path: Path, dtype: torch.dtype
):
    save_model(tmp_path / "m", model, None, dtype=dtype)
    loaded = load_model(tmp_path / "m")
    twin = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    assert loaded.embedding.weight.dtype == twin.dtype == dtype
    wide = load_model(tmp_path / "m", dtype="float32")(tokens)
    # Both round at other places: they may differ as much as either differs from float32. The mean,
    # since a router that is rounded to another expert changes a token's logits altogether.
    error = (loaded(tokens).float() - wide).abs().mean()
    assert error <= 2 * (twin(tokens).logits.float() - wide).abs().mean()


def test_auto_tokenizer_gives_equal_ids(tmp_path: Path):
    text = "To be, or not to be: that is the question.\n\n\tWhether 'tis nobler 你好 " * 8
    tokenizer = train_tokenizer([text], TokenizerConfig(kind="bpe", vocab_size=300))
    model = Transformer(ModelConfig(vocab_size=304, n_layers=1, d_model=16, n_heads=2))
    save_model(tmp_path / "m", model, tokenizer)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "m")
    ours = load_tokenizer(tmp_path / "m", model.config)
    assert ours.hash == tokenizer.hash
    for line in (text, "unseen words, 再见 and <|endoftext|>?"):
        assert ours.encode(line, allowed_special=True) == theirs(line)["input_ids"]
    assert theirs.eos_token_id == ours.eos_id
    config = transformers.AutoConfig.from_pretrained(tmp_path / "m")
    assert (config.bos_token_id, config.eos_token_id) == (ours.bos_id, ours.eos_id)
