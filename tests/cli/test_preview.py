"""`preview PLACE` at the command line: lines, colours, files, exit status."""

import io
import json
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from scratchlm.cli import preview as verb
from scratchlm.cli.main import main
from scratchlm.recipes.prepare import PrepareConfig, prepare
from scratchlm.recipes.preview import preview
from scratchlm.recipes.preview_facts import Part, Piece, ShownRow
from scratchlm.recipes.preview_page import page_of
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.train import train_tokenizer

HOSTILE = (
    "<script>alert(1)</script> \x1b[31mred\x1b[0m \u202eevil [bold]b[/bold] {{ 7 * 7 }} 春眠\n"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A config on hostile text, in padded rows."""
    folder = tmp_path_factory.mktemp("preview")
    lines = (json.dumps({"text": f"{n} {HOSTILE}"}) + "\n" for n in range(20))
    (folder / "text.jsonl").write_text("".join(lines), encoding="utf-8")
    config = PrepareConfig(split="document", val_fraction=0.0)
    tokenizer = train_tokenizer([HOSTILE] * 20, TokenizerConfig(vocab_size=290))
    prepare(folder / "text.jsonl", folder / "data", tokenizer, config=config)
    (folder / "run.toml").write_text(
        f'[data]\nsources = [{{path = "{(folder / "data").as_posix()}"}}]\nseq_len = 80\n'
        'rows = "padded"\n[model]\nmax_seq_len = 80\n[train]\nmicro_batch = 4\n',
        encoding="utf-8",
    )
    return folder / "run.toml"


def test_lines_of_a_pipe(place, capsys):
    assert main(["preview", str(place), "--rows", "1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{place}: pretraining, train, batch 0 of 5 in an epoch, step 1\n")
    lines = out.splitlines()
    assert any(re.fullmatch(r"context \| \d+", line) for line in lines)
    (learned,) = [line for line in lines if "<script>" in line]
    assert re.match(r"learned \| \d? ?<script>alert", learned)
    assert learned.endswith(r"{{ 7 * 7 }} 春眠\n")
    assert r"\x1b[31mred\x1b[0m \u202eevil [bold]b[/bold]" in learned
    assert "learned | [<|endoftext|>]" in lines
    assert any(re.fullmatch(r"padding \| \d+ positions", line) for line in lines)
    assert "\x1b" not in out
    assert "ok     end token in the loss: it closes 19 documents" in out
    assert re.search(r"^tokenizer +bpe, SHA-256 [0-9a-f]{16}$", out, re.MULTILINE)


def test_colours_of_a_terminal(place):
    stream = io.StringIO()
    terminal = Console(file=stream, force_terminal=True, color_system="standard", width=60)
    made = preview(place, rows=1)
    verb.print_colours(made.rows[0], terminal)
    shown = stream.getvalue()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert r"\x1b[31mred\x1b[0m \u202eevil [bold]b[/bold]" in plain
    assert "\x1b[30;42m" in shown or "\x1b[30;102m" in shown  # learned is green
    assert "\x1b[1;30;103m<|endoftext|>" in shown  # a control token that is learned
    assert "x padding" in plain
    assert len([line for line in plain.splitlines() if "春眠" in line]) == 1  # no line is broken


def test_a_label_and_split_characters():
    piece = Piece("\ufffd", (5,), False)
    whole = Piece("春", (5, 6), True)
    row = ShownRow(1, (Part("f:1", "", (piece, whole), 3, 1, "spam"),))
    assert verb.style_of(whole, 0) == "black on green underline"
    assert verb.style_of(piece, 1) == "black on bright_white"
    stream = io.StringIO()
    verb.print_colours(row, Console(file=stream, force_terminal=True, color_system="standard"))
    assert "-> spam" in stream.getvalue()


def test_a_terminal_without_colours_gets_lines(place, capsys):
    stream = io.StringIO()
    dull = Console(file=stream, force_terminal=True, color_system=None)
    verb.print_preview(preview(place, rows=1), dull)
    assert "learned | " in capsys.readouterr().out
    assert stream.getvalue() == ""


class Reader(HTMLParser):
    """The elements, classes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements, self.classes, self.attributes, self.text = set(), set(), set(), ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.classes |= {word for name, value in attrs if name == "class" for word in value.split()}

    def handle_data(self, data):
        self.text += data


def test_the_page_shows_hostile_text_as_text(place, tmp_path):
    assert main(["preview", str(place), "--html", str(tmp_path / "new" / "look.html")]) == 0
    page = (tmp_path / "new" / "look.html").read_text("utf-8")
    assert page == page_of(preview(place))
    reader = Reader(page)
    assert not reader.elements & {"script", "img", "link", "iframe", "a", "bold"}
    assert not {name for name in reader.attributes if name.startswith("on") or name == "style"}
    assert "<script>alert(1)</script>" in reader.text
    assert "{{ 7 * 7 }}" in reader.text
    assert "\u202e" not in page
    assert {"learned", "context", "special", "padding", "ok"} <= reader.classes
    assert "default-src 'none'" in page.replace("&#39;", "'")
    assert "http" not in page.replace("http-equiv", "")


def test_the_file_for_programs(place, tmp_path, capsys):
    assert main(["preview", str(place), "--rows", "0", "--json", str(tmp_path / "p.json")]) == 0
    facts = json.loads((tmp_path / "p.json").read_text("utf-8"))
    assert facts["ok"] is True
    assert facts["rows"] == []
    assert facts["shown"]["rows"] == 4
    assert facts["vocabulary"]["n_ids"] == 290
    assert {check["ok"] for check in facts["checks"]} == {True}
    assert "learned |" not in capsys.readouterr().out


def test_what_is_wrong_ends_with_2(place, tmp_path, capsys):
    small = place.read_text("utf-8").replace("[model]\n", "[model]\nvocab_size = 280\n")
    (tmp_path / "small.toml").write_text(small, encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["preview", str(tmp_path / "small.toml"), "--json", str(tmp_path / "p.json")])
    assert ended.value.code == 2
    assert "WRONG  ids below the vocabulary: model.vocab_size = 280" in capsys.readouterr().out
    assert json.loads((tmp_path / "p.json").read_text("utf-8"))["ok"] is False


def test_errors_end_with_2(place, tmp_path, capsys):
    for words, said in [
        ([str(tmp_path / "nowhere")], "does not exist. Give a run folder, or a TOML config."),
        ([str(place), "--html", str(tmp_path)], "is a folder. Name a file."),
        ([str(place), "--split", "val"], "has no val split"),
        ([str(place), "--batch", "-1"], "batch = -1 must not be negative."),
    ]:
        assert main(["preview", *words]) == 2
        assert said in capsys.readouterr().err
