"""`evaluate` end to end on a tiny model: own records, texts, another model, and what cannot be."""

import json
from pathlib import Path

import pytest
import torch

from scratchlm.base.errors import ConfigError, DataError
from scratchlm.checkpoint.folder import save_model
from scratchlm.cli.main import main
from scratchlm.evaluation.summary import load_evaluation
from scratchlm.model.classifier import Classifier
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer
from scratchlm.recipes.evaluate import EvaluateConfig, evaluate
from scratchlm.recipes.export_model import export_model
from scratchlm.tokenizer.gpt2 import gpt2_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("evaluate")
    tokenizer = gpt2_tokenizer()
    for seed, name in enumerate(("one", "other")):
        torch.manual_seed(seed)
        model = Transformer(ModelConfig("llama", tokenizer.vocab_size, 64, 1, 16, 2))
        model.initialise()
        save_model(place / name, model, tokenizer)
    save_model(place / "classes", Classifier.of(model, ("ham", "spam"), "last"), tokenizer)
    records = [
        {"prompt": "The sky is", "choices": ["blue", "green"], "answer": 0},
        {"prompt": "草是", "choices": ["蓝的", "绿的"], "answer": "绿的"},
    ] * 6
    lines = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records)
    (place / "own.jsonl").write_text(lines, encoding="utf-8")
    (place / "text.txt").write_text("To be, or not to be. 生存还是毁灭。\n" * 60, encoding="utf-8")
    rows = [f"{'spam' if i % 2 else 'ham'}\tmessage {i}\n" for i in range(10)]
    (place / "labels.tsv").write_text("".join(rows), encoding="utf-8")
    return place


def test_two_models_on_records_and_a_text(folder, tmp_path, capsys):
    words = ["--data", str(folder / "own.jsonl"), str(folder / "text.txt")]
    words += ["--against", str(folder / "other"), "--json", str(tmp_path / "e.json")]
    words += ["--html", str(tmp_path / "e.html"), "--language", "zh"]
    assert main(["evaluate", str(folder / "one"), *words]) == 0
    shown = capsys.readouterr().out
    found = load_evaluation(tmp_path / "e.json")
    (task,) = found.tasks
    assert (task.name, task.scores[0].metric, task.scores[0].n) == ("own", "acc", 12)
    assert found.texts[0].n_bytes > 0
    assert {one.name for one in found.comparisons} == {"own", str(folder / "text.txt")}
    assert "own" in shown
    assert "<script" not in (tmp_path / "e.html").read_text("utf-8")


def test_a_classifier_is_asked_for_labels(folder):
    found = evaluate(folder / "classes", EvaluateConfig(data=(folder / "labels.tsv",)))
    (task,) = found.tasks
    assert task.confusion is not None
    assert sum(map(sum, task.confusion.matrix)) == task.scores[0].n == 10


def test_a_classifier_is_not_exported(folder, tmp_path):
    with pytest.raises(ConfigError, match="is a classifier, and the other programs write text"):
        export_model(folder / "classes", tmp_path / "x.gguf")
    assert not (tmp_path / "x.gguf").exists()


def test_a_classifier_finds_the_labels_that_it_knows(folder, tmp_path):
    path = tmp_path / "few.tsv"
    path.write_text("hello there\tspam\nwin cash\tspam\n", encoding="utf-8")
    (task,) = evaluate(folder / "classes", EvaluateConfig(data=(path,))).tasks
    assert sum(task.confusion.matrix[1]) == 2
    path.write_text("hello there\tspam\nwin cash\teggs\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"few\.tsv:2: the label 'eggs' is unknown"):
        evaluate(folder / "classes", EvaluateConfig(data=(path,)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "there is nothing to ask"),
        (["--tasks", "blimb"], "Did you mean blimp?"),
        (["--tasks", "blimp"], "task blimp needs the folder with its data: name it with --folder"),
        (["--data", "{folder}/none.txt"], "none.txt"),
        (["--data", "{folder}/own.jsonl", "--judge", "http://127.0.0.1:1"], "belong together"),
        (["--data", "{folder}/own.jsonl", "--against", "{folder}/classes"], "is a classifier"),
        (["--data", "{folder}/own.jsonl", "--limit", "-1"], "limit = -1"),
        (["--data", "{folder}/own.jsonl", "--json", "{folder}/own.jsonl/a"], "cannot be written"),
    ],
)
def test_what_cannot_be_is_one_error(folder, words, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    filled = [word.format(folder=folder) for word in words]
    assert main(["evaluate", str(folder / "one"), *filled]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
