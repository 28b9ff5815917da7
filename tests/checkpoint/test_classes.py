"""Classifiers are folders that transformers opens as ...ForSequenceClassification, and reverse."""

import json

import pytest
import torch

from scratchlm.base.errors import CheckpointError
from scratchlm.checkpoint.folder import load_classifier, load_model, save_model
from scratchlm.model.classifier import Classifier
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer

LABELS = ("ham", "spam", "垃圾")
TEXT = torch.tensor([[5, 3, 9, 1, 7]])


def made(family: str) -> Classifier:
    torch.manual_seed(0)
    base = Transformer(
        ModelConfig(family, vocab_size=23, n_layers=2, d_model=32, n_heads=2, max_seq_len=16)
    )
    base.initialise()
    return Classifier.of(base, LABELS, "last").eval()


def scores(model: Classifier) -> torch.Tensor:
    at = torch.zeros_like(TEXT, dtype=torch.bool)
    at[0, -1] = True
    return model.scores(TEXT, at)


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3"])
def test_transformers_says_the_same_and_we_read_what_it_writes(family, tmp_path):
    from transformers import AutoModelForSequenceClassification

    model = made(family)
    save_model(tmp_path / "ours", model, None)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "ours").eval()
    assert tuple(theirs.config.id2label.values()) == LABELS
    with torch.no_grad():
        torch.testing.assert_close(scores(model), theirs(TEXT).logits, rtol=1e-4, atol=1e-5)
    theirs.save_pretrained(tmp_path / "theirs")
    again = load_classifier(tmp_path / "theirs")
    assert again.class_names == LABELS
    assert torch.equal(scores(again), scores(load_classifier(tmp_path / "ours")))


def test_pooling_is_kept(tmp_path):
    base = made("llama")
    base.pooling = "mean"
    save_model(tmp_path / "mean", base, None)
    assert load_classifier(tmp_path / "mean").pooling == "mean"


def test_the_two_kinds_of_model_are_told_apart(tmp_path):
    save_model(tmp_path / "classes", made("llama"), None)
    with pytest.raises(
        CheckpointError, match=r"classifier \(ham, spam, 垃圾\).*scratchlm classify"
    ):
        load_model(tmp_path / "classes")
    language = Transformer(ModelConfig("llama", 23, 16, 1, 32, 2))
    language.initialise()
    save_model(tmp_path / "language", language, None)
    with pytest.raises(CheckpointError, match="scratchlm finetune classify"):
        load_classifier(tmp_path / "language")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("id2label", {"0": "a", "2": "b"}, "does not number the classes from 0"),
        ("id2label", [], "does not number the classes"),
        ("scratchlm_pooling", "max", "not one of last, mean"),
    ],
)
def test_damaged_labels_are_refused(field, value, message, tmp_path):
    save_model(tmp_path / "model", made("llama"), None)
    file = tmp_path / "model" / "config.json"
    values = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps({**values, field: value}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        load_classifier(tmp_path / "model")
