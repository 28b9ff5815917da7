"""The steps by hand, as a user types them: text, shards, training, samples, chat."""

import io
import sys

import pytest

from scratchlm.cli.main import main

CONFIG = """
[text]
paths = ["text.txt"]
[tokenizer]
kind = "char"
[data]
seq_len = 16
[model]
n_layers = 1
d_model = 16
n_heads = 2
max_seq_len = 16
[train]
steps = 4
micro_batch = 2
precision = "float32"
eval_every = 4
save_every = 4
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a text, a config, and the run that `pretrain` made of them."""
    place = tmp_path_factory.mktemp("path")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        (place / "text.txt").write_text("the ship and the sea\n" * 200, encoding="utf-8")
        (place / "small.toml").write_text(CONFIG, encoding="utf-8")
        assert main(["pretrain", "small.toml", "--out", "run"]) == 0
    return place


@pytest.fixture(autouse=True)
def inside(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    capsys.readouterr()


def test_pretrain_prints_the_model_folder_and_says_the_loss(capsys):
    assert main(["pretrain", "small.toml", "--out", "again", "--train.steps", "2"]) == 0
    shown = capsys.readouterr()
    assert shown.out.replace("\\", "/") == "again/model\n"
    assert "ended after step 2: all steps done" in shown.err
    assert "held-out loss" in shown.err


def test_pretrain_goes_on_with_more_steps(capsys):
    assert main(["pretrain", "small.toml", "--out", "run", "--train.steps", "6"]) == 0
    assert "after step 4" in capsys.readouterr().err


def test_pretrain_names_a_misspelt_setting(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["pretrain", "small.toml", "--out", "x", "--train.stepz", "6"])
    assert ended.value.code == 2
    assert "--train.steps" in capsys.readouterr().err


def test_generate_continues_the_prompt(capsys):
    words = ["generate", "run", "--prompt", "the s", "--max-new-tokens", "9", "--seed", "1"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert text.startswith("the s")
    assert len(text) >= 14
    assert main([*words, "--no-echo"]) == 0
    assert f"the s{capsys.readouterr().out}" == text


def test_generate_refuses_what_is_no_model(capsys):
    assert main(["generate", "text.txt"]) == 2
    assert "error: text.txt is a file" in capsys.readouterr().err


def test_generate_names_an_impossible_setting(capsys):
    assert main(["generate", "run", "--temperature", "-1"]) == 2
    assert "error: temperature = -1.0 must be" in capsys.readouterr().err


def test_chat_reads_a_pipe_until_quit(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("the\nquit\nunread\n"))
    assert main(["chat", "run", "--max-new-tokens", "5"]) == 0
    assert "base model" in capsys.readouterr().out


def test_prepare_makes_shards_that_pretrain_reads(capsys):
    assert main(["tokenizer", "train", "text.txt", "--kind", "char", "--out", "tok"]) == 0
    assert main(["prepare", "text.txt", "--tokenizer", "tok", "--out", "data"]) == 0
    assert "encoding done: 4.2 kB" in capsys.readouterr().err
    (source,) = [line for line in CONFIG.splitlines() if line.startswith("paths")]
    config = CONFIG.replace(f"[text]\n{source}\n", "").replace(
        "[data]", '[[data.sources]]\npath = "data"\n[data]'
    )
    with open("shards.toml", "w", encoding="utf-8") as file:
        file.write(config)
    assert main(["pretrain", "shards.toml", "--out", "run2"]) == 0


def test_prepare_refuses_a_folder_in_use(capsys):
    assert main(["prepare", "text.txt", "--tokenizer", "gpt2", "--out", "run"]) == 2
    assert "error: run " in capsys.readouterr().err


def test_build_and_quickstart_tell_what_they_take(capsys):
    for verb in ("build", "quickstart"):
        with pytest.raises(SystemExit) as ended:
            main([verb, "--help"])
        assert ended.value.code == 0
    assert "--corpus {shakespeare,tang}" in capsys.readouterr().out
