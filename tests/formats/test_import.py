"""What is imported lands where nothing is lost, with the tokenizer that was asked for."""

import json
from pathlib import Path

import pytest
import torch

from scratchlm.base.errors import CheckpointError, ConfigError
from scratchlm.checkpoint.folder import load_model, save_model
from scratchlm.formats.llama2c_write import write_tokenizer
from scratchlm.recipes.import_model import import_model
from scratchlm.recipes.inspect import inspect
from scratchlm.recipes.load import load
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.tokenizer.train import train_tokenizer

TEXT = "To be, or not to be: that is the question. 春眠不觉晓。\n" * 9


@pytest.fixture(scope="module")
def words() -> Tokenizer:
    config = TokenizerConfig(kind="sentencepiece-bpe", vocab_size=300)
    return train_tokenizer([TEXT], config)


@pytest.fixture
def folder(make_model, words, tmp_path) -> Path:
    save_model(tmp_path / "model", make_model(family="llama"), words)
    return tmp_path / "model"


def test_a_folder_comes_back_equal(folder, tmp_path):
    result = import_model(folder, tmp_path / "out")
    assert result.has_tokenizer
    assert result.dtype == "float32"
    tokens = torch.randint(0, 300, (1, 20))
    assert torch.equal(load_model(result.model)(tokens), load_model(folder)(tokens))


def test_a_run_means_its_model(folder, tmp_path):
    (tmp_path / "run").mkdir()
    folder.rename(tmp_path / "run" / "model")
    assert import_model(tmp_path / "run", tmp_path / "out").has_tokenizer


def test_a_file_in_the_place_is_left_alone(folder, tmp_path):
    (tmp_path / "notes.txt").write_text("important")
    for place in ("notes.txt", "notes.txt/model"):
        with pytest.raises(ConfigError, match=r"notes\.txt.*Name another"):
            import_model(folder, tmp_path / place, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "important"


def test_only_a_model_folder_is_replaced(folder, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("important")
    with pytest.raises(ConfigError, match="holds something else, so it is not replaced"):
        import_model(folder, tmp_path / "mine", overwrite=True)
    import_model(folder, tmp_path / "out")
    with pytest.raises(ConfigError, match="give --overwrite"):
        import_model(folder, tmp_path / "out")
    import_model(folder, tmp_path / "out", overwrite=True)
    (tmp_path / "out" / "notes.txt").write_text("important")
    with pytest.raises(ConfigError, match=r"holds notes\.txt, which would go with the old model"):
        import_model(folder, tmp_path / "out", overwrite=True)
    with pytest.raises(ConfigError, match="is the model itself"):
        import_model(folder, folder, overwrite=True)


def test_a_disk_that_is_too_small_is_seen_before(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(ConfigError, match=r"will have 1 MB, and its disk has 0 MB left"):
        import_model(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_that_are_no_numbers_are_refused(make_model, tmp_path):
    model = make_model(family="llama")
    model.norm.weight.data[3] = float("nan")
    save_model(tmp_path / "m", model, None)
    with pytest.raises(CheckpointError, match=r"norm\.weight is not made of numbers"):
        import_model(tmp_path / "m", tmp_path / "out")
    model.norm.weight.data[3] = 1e6
    save_model(tmp_path / "m", model, None)
    with pytest.raises(CheckpointError, match=r"too large for torch\.float16: give --dtype bfloat"):
        import_model(tmp_path / "m", tmp_path / "out", dtype="float16")
    assert not (tmp_path / "out").exists()


def test_the_tokenizer_that_is_given_is_taken(folder, words, tmp_path):
    write_tokenizer(words, tmp_path / "tokenizer.bin", 300)
    words.save(tmp_path / "apart")
    letters = {chr(65 + i): i for i in range(40)}
    (tmp_path / "letters.json").write_text(json.dumps({"stoi": letters}))
    kinds = {
        "tokenizer.bin": "sentencepiece-bpe",
        "apart": "sentencepiece-bpe",
        "apart/tokenizer.json": "sentencepiece-bpe",
        "apart/tokenizer.model": "sentencepiece-bpe",
        "letters.json": "char",
    }
    for name, kind in kinds.items():
        result = import_model(folder, tmp_path / "out", tokenizer=tmp_path / name, overwrite=True)
        taken = Tokenizer.load(result.model)
        assert taken.kind == kind
        assert taken.begins == name.endswith((".bin", ".model"))


def test_a_tokenizer_that_does_not_fit_is_refused(folder, tmp_path):
    with pytest.raises(CheckpointError, match=r"A tokenizer is a folder or a tokenizer\.json"):
        import_model(folder, tmp_path / "out", tokenizer=tmp_path / "none")
    with pytest.raises(CheckpointError, match="50257 tokens, the model only 300"):
        import_model(folder, tmp_path / "out", tokenizer="gpt2")


def test_without_a_tokenizer_it_is_said_how_to_get_one(make_model, tmp_path):
    save_model(tmp_path / "m", make_model(family="llama"), None)
    made = import_model(tmp_path / "m", tmp_path / "out")
    assert not made.has_tokenizer
    with pytest.raises(CheckpointError, match="import the model once more with --tokenizer"):
        load(made.model)


def test_inspect_says_what_there_is(folder):
    facts = inspect(folder)
    assert facts.total == sum(facts.parameters.values()) == load_model(folder).n_parameters()
    assert facts.tokenizer == "sentencepiece-bpe, 300 ids"
    assert facts.stored == "float32"
    assert facts.cache == 2 * 2 * 2 * 64  # keys and values, two bytes, two layers, 64 wide


def test_empty_files_and_names_are_said_to_be(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"m\.gguf is empty"):
        inspect(tmp_path / "m.gguf")
    with pytest.raises(ConfigError, match="the source is empty"):
        inspect("")
