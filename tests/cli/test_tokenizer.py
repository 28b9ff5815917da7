"""`tokenizer train|encode|decode|compare` at the command line."""

import io
import os
import re
import subprocess
import sys

import pytest
from rich.console import Console

from scratchlm.cli import tokenizer as verbs
from scratchlm.cli.main import main
from scratchlm.recipes import tokenizer as recipe
from scratchlm.recipes.tokenizer import open_tokenizer

TEXT = "The ship sailed at dawn.\nNobody saw the ship sail.\n" * 40


@pytest.fixture
def tok(tmp_path, capsys):
    """A small byte-level tokenizer, trained by the verb itself."""
    (tmp_path / "sea.txt").write_text(TEXT, encoding="utf-8")
    words = ["tokenizer", "train", str(tmp_path / "sea.txt"), "--vocab-size", "280"]
    assert main([*words, "--out", str(tmp_path / "tok")]) == 0
    capsys.readouterr()
    return tmp_path / "tok"


def type_in(monkeypatch, text, encoding="utf-8"):
    stdin = io.TextIOWrapper(io.BytesIO(text.encode(encoding)), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", stdin)


def test_train_tells_what_it_does_and_what_is_next(tmp_path, capsys):
    (tmp_path / "sea.txt").write_text(TEXT, encoding="utf-8")
    out = tmp_path / "tok"
    words = ["tokenizer", "train", str(tmp_path / "sea.txt"), "--kind", "char", "--out", str(out)]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "learning the vocabulary done: 2.0 kB" in shown.err
    assert f"{out}: char tokenizer with {len(set(TEXT))} ids" in shown.err
    assert f"scratchlm tokenizer encode {out} --show" in shown.err


def test_train_refuses_an_unknown_kind(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["tokenizer", "train", "x.txt", "--kind", "bep", "--out", str(tmp_path)])
    assert ended.value.code == 2
    assert "bep" in capsys.readouterr().err


def test_encode_prints_ids_separated_by_spaces(capsys):
    assert main(["tokenizer", "encode", "gpt2", "The sea!"]) == 0
    assert capsys.readouterr().out == "464 5417 0\n"


def test_encode_puts_the_end_token_behind(capsys):
    assert main(["tokenizer", "encode", "gpt2", "The sea!", "--bos", "--eos"]) == 0
    assert capsys.readouterr().out == "50256 464 5417 0 50256\n"


def test_encode_reads_standard_input(tok, monkeypatch, capsys):
    type_in(monkeypatch, "The ship")
    assert main(["tokenizer", "encode", str(tok)]) == 0
    ids = [int(word) for word in capsys.readouterr().out.split()]
    assert open_tokenizer(tok).decode(ids) == "The ship"


def test_encode_reads_a_file_of_documents(tmp_path, capsys):
    (tmp_path / "two.jsonl").write_text('{"text": "The sea!"}\n{"text": "!"}\n', encoding="utf-8")
    assert main(["tokenizer", "encode", "gpt2", "--file", str(tmp_path / "two.jsonl")]) == 0
    assert capsys.readouterr().out == "464 5417 0\n0\n"


def test_encode_takes_one_source_only(capsys):
    assert main(["tokenizer", "encode", "gpt2", "text", "--file", "file.txt"]) == 2
    assert "error: TEXT and --file exclude each other" in capsys.readouterr().err


def test_special_tokens_are_text_unless_allowed(capsys):
    main(["tokenizer", "encode", "gpt2", "<|endoftext|>"])
    assert len(capsys.readouterr().out.split()) > 1
    main(["tokenizer", "encode", "gpt2", "<|endoftext|>", "--allowed-special"])
    assert capsys.readouterr().out == "50256\n"


def test_input_that_is_not_utf8_names_the_byte(monkeypatch, capsys):
    type_in(monkeypatch, "床前明月光", "gb18030")
    assert main(["tokenizer", "encode", "gpt2"]) == 2
    assert "error: standard input is not UTF-8" in capsys.readouterr().err


def test_decode_undoes_encode(tok, monkeypatch, capsys):
    main(["tokenizer", "encode", str(tok), "床前明月光 and the sea"])
    ids = capsys.readouterr().out
    assert main(["tokenizer", "decode", str(tok), *ids.split()]) == 0
    assert capsys.readouterr().out == "床前明月光 and the sea\n"
    type_in(monkeypatch, ids)
    assert main(["tokenizer", "decode", str(tok)]) == 0
    assert capsys.readouterr().out == "床前明月光 and the sea\n"


def test_decode_can_leave_control_tokens_out(capsys):
    main(["tokenizer", "decode", "gpt2", "464", "50256", "--skip-special"])
    assert capsys.readouterr().out == "The\n"


def test_pieces_in_a_pipe_are_one_a_line(capsys):
    assert main(["tokenizer", "encode", "gpt2", "The sea 霜", "--show"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [text for _, text in lines] == ["'The'", "' sea'", "' 霜'"]
    assert [int(i) for ids, _ in lines for i in ids.split()] == open_tokenizer("gpt2").encode(
        "The sea 霜"
    )


def test_pieces_on_a_terminal_are_coloured_and_whole():
    tokenizer = open_tokenizer("gpt2")
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, color_system="truecolor", width=80)
    groups = verbs.show_tokens(tokenizer, tokenizer.encode("The sea\n霜[b]"))
    verbs.print_pieces(groups, console)
    text = screen.getvalue()
    assert "霜" in text
    assert "\ufffd" not in text
    assert text.count("\x1b[4;") == 1  # the one character of several tokens is underlined
    assert len(set(re.findall(r"\x1b\[[\d;]*(10\d)m", text))) == 4


def test_compare_in_a_pipe_is_tabs(tok, tmp_path, capsys):
    words = ["tokenizer", "compare", "gpt2", str(tok), "--text", str(tmp_path / "sea.txt")]
    assert main(words) == 0
    head, gpt2, ours = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert head[:3] == ["tokenizer", "ids", "tokens"]
    assert gpt2[:2] == ["gpt2", "50257"]
    assert ours[:2] == [str(tok), "280"]
    assert (gpt2[-1], ours[-1]) == ("exact", "exact")


def test_compare_on_a_terminal_is_a_table(tmp_path):
    (tmp_path / "sea.txt").write_text(TEXT, encoding="utf-8")
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    verbs.print_comparison(recipe.compare(["gpt2"], tmp_path / "sea.txt"), console)
    assert "gpt2" in screen.getvalue()
    assert "exact" in screen.getvalue()
    assert "─" in screen.getvalue()


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of POSIX")
def test_encode_and_decode_make_a_pipeline():
    verb = f"{sys.executable} -m scratchlm tokenizer"
    line = f"printf '霜 and sea' | {verb} encode gpt2 | {verb} decode gpt2"
    answer = subprocess.run(line, shell=True, capture_output=True, encoding="utf-8", env=os.environ)
    assert answer.stdout == "霜 and sea\n"
    assert answer.stderr == ""
