"""A model folder says what ends an answer, beside what ends a text; imports keep the template."""

import json

import pytest
import torch
from transformers import AutoTokenizer, GenerationConfig

from scratchlm.checkpoint.folder import load_tokenizer, save_model
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer
from scratchlm.recipes.import_model import import_model
from scratchlm.tokenizer.chat_presets import CHATML, with_preset
from scratchlm.tokenizer.gpt2 import gpt2_tokenizer
from scratchlm.tokenizer.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def model() -> Transformer:
    torch.manual_seed(0)
    return Transformer(
        ModelConfig(family="llama", vocab_size=50259, d_model=8, n_layers=1, n_heads=1)
    )


def ends_of(folder) -> object:
    return json.loads((folder / "generation_config.json").read_text("utf-8"))["eos_token_id"]


def test_generation_ends_with_an_answer(model, tmp_path):
    tokenizer = with_preset(gpt2_tokenizer(), "chatml")
    save_model(tmp_path / "chat", model, tokenizer)
    assert ends_of(tmp_path / "chat") == [50256, tokenizer.special_tokens["<|im_end|>"]]
    assert GenerationConfig.from_pretrained(tmp_path / "chat").eos_token_id == [50256, 50258]
    assert load_tokenizer(tmp_path / "chat", model.config).chat_template == CHATML
    assert AutoTokenizer.from_pretrained(tmp_path / "chat").chat_template == CHATML


def test_one_end_is_a_number(model, tmp_path):
    for name, tokenizer in (
        ("base", gpt2_tokenizer()),
        ("alpaca", with_preset(gpt2_tokenizer(), "alpaca")),
    ):
        save_model(tmp_path / name, model, tokenizer)
        assert ends_of(tmp_path / name) == 50256
    save_model(tmp_path / "none", model, None)
    assert ends_of(tmp_path / "none") is None


def test_a_template_that_does_not_parse_is_kept_with_a_warning(model, tmp_path, caplog):
    save_model(tmp_path / "odd", model, gpt2_tokenizer().with_chat_template("{% for %}"))
    assert "chat template does not parse" in caplog.text
    assert ends_of(tmp_path / "odd") == 50256
    assert Tokenizer.load(tmp_path / "odd").chat_template == "{% for %}"


def test_an_imported_model_keeps_its_template(model, tmp_path):
    """Older folders have it in tokenizer_config.json; from here on it is a file."""
    save_model(tmp_path / "theirs", model, with_preset(gpt2_tokenizer(), "chatml"))
    (tmp_path / "theirs" / "chat_template.jinja").unlink()
    config = tmp_path / "theirs" / "tokenizer_config.json"
    values = json.loads(config.read_text("utf-8"))
    config.write_text(json.dumps(values | {"chat_template": CHATML}), encoding="utf-8")
    (tmp_path / "theirs" / "manifest.json").unlink()
    import_model(tmp_path / "theirs", tmp_path / "ours")
    assert (tmp_path / "ours" / "chat_template.jinja").read_text("utf-8") == CHATML
    assert "chat_template" not in (tmp_path / "ours" / "tokenizer_config.json").read_text("utf-8")
    assert ends_of(tmp_path / "ours") == [50256, 50258]
