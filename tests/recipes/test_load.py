"""Opening models: folders, runs, what is not a model."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from scratchlm.base.errors import CheckpointError, ConfigError
from scratchlm.checkpoint.folder import load_model, save_model, write_model_files
from scratchlm.checkpoint.state import CheckpointStore
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer
from scratchlm.recipes.load import load
from scratchlm.tokenizer.tokenizer import Tokenizer


def test_a_model_computes_and_writes(model_folder: Path) -> None:
    m = load(model_folder, device="cpu")
    assert m.tokenizer is not None
    tokens = torch.tensor([m.tokenizer.encode("ab cd")])
    assert m.model(tokens).shape == (1, 5, m.tokenizer.vocab_size)
    assert not m.model.training
    text = m.generate("ab", max_new_tokens=20, temperature=1.0, seed=1, top_k=9)
    assert len(text) == 20
    assert text == m.generate("ab", max_new_tokens=20, temperature=1.0, seed=1, top_k=9)
    streamed = list(m.stream("ab", max_new_tokens=20, temperature=1.0, seed=1, top_k=9))
    assert "".join(token.text for token in streamed) == text
    assert m.generate("", max_new_tokens=3)


def test_a_misspelt_setting_is_named(model_folder: Path) -> None:
    with pytest.raises(ConfigError, match="unknown setting max_tokens"):
        load(model_folder).generate("ab", max_tokens=3)


def test_a_long_text_is_refused_or_cut(model_folder: Path) -> None:
    m = load(model_folder)
    with pytest.raises(ConfigError, match=r"the prompt has 100 tokens.* at most 64 at a time"):
        m.generate("ab cd" * 20, max_new_tokens=1)
    assert m.generate("ab cd" * 20, max_new_tokens=1, window=True)


def test_dtype_is_as_asked(model_folder: Path) -> None:
    assert load(model_folder).model.embedding.weight.dtype == torch.float32
    assert load(model_folder, dtype="bfloat16").model.embedding.weight.dtype == torch.bfloat16


def test_a_folder_without_tokenizer_needs_it_said(model_folder: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    save_model(bare, load_model(model_folder), None)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        load(bare)
    m = load(bare, tokenizer=False)
    assert m.tokenizer is None
    assert m.model(torch.tensor([[1, 2]])).shape[:2] == (1, 2)
    with pytest.raises(ConfigError, match="loaded with tokenizer = False"):
        m.generate("ab")


def test_a_tokenizer_that_does_not_match_is_refused(model_folder: Path, tmp_path: Path) -> None:
    small = Transformer(ModelConfig("llama", 5, 64, 1, 8, 2))
    save_model(tmp_path / "mixed", small, None)
    Tokenizer.load(model_folder).save(tmp_path / "mixed")
    with pytest.raises(CheckpointError, match=r"the tokenizer has .* tokens, the model only 5"):
        load(tmp_path / "mixed")


def test_a_run_gives_its_model_else_its_best_checkpoint(model_folder: Path, tmp_path: Path) -> None:
    run, model = tmp_path / "run", load_model(model_folder)
    tokenizer = Tokenizer.load(model_folder)

    def save(step: int, *, best: bool = False) -> None:
        CheckpointStore(run).save(
            step, lambda at: write_model_files(at, model, tokenizer), {"step": step}, best=best
        )

    save(1)
    assert load(run).folder == run / "checkpoints" / "step-00000001"
    save(2, best=True)
    save(3)
    assert load(run).folder == run / "checkpoints" / "step-00000002"
    shutil.copytree(model_folder, run / "model")
    assert load(run).folder == run / "model"


def test_a_model_killed_while_it_was_replaced_is_found(model_folder: Path, tmp_path: Path) -> None:
    """Between the two renames of a save, the old model has another name."""
    run = tmp_path / "run"
    shutil.copytree(model_folder, run / ".model.retired")
    for asked in (run, run / "model"):
        assert load(asked).folder == run / ".model.retired"


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere does not exist\. Give the folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"is not a model: it has no config\.json"):
        load(tmp_path)
    file = tmp_path / "notes.txt"
    file.write_text("hello", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"notes\.txt is a file. Give the folder"):
        load(file)


def test_a_folder_without_weights_is_named(model_folder: Path, tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.mkdir()
    (part / "config.json").write_text(
        json.dumps(json.loads((model_folder / "config.json").read_text(encoding="utf-8"))),
        encoding="utf-8",
    )
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load(part)


def test_a_device_that_is_not_there_is_named(model_folder: Path) -> None:
    with pytest.raises(ConfigError, match="cuda:77"):
        load(model_folder, device="cuda:77")
