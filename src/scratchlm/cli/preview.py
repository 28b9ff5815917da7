"""`preview PLACE`: what a model will see, of any run."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.text import Text

from scratchlm.base.files import check_new_file, write_json, write_text
from scratchlm.base.log import say
from scratchlm.cli.command import Command
from scratchlm.recipes import preview_facts as facts
from scratchlm.recipes.preview import preview
from scratchlm.recipes.preview_facts import SplitName
from scratchlm.recipes.preview_page import page_of
from scratchlm.recipes.preview_words import (
    checks_of,
    facts_of,
    title_of,
    title_of_part,
)

WRONG = 2  # exit status where a check found something
LEARNED = ("black on green", "black on bright_green")  # neighbours differ, so that borders show
CONTEXT = ("black on white", "black on bright_white")
SPECIAL = {True: "bold black on bright_yellow", False: "bold white on magenta"}  # learned or not
PADDING = "white on bright_black"


@dataclass(frozen=True)
class Preview(Command):
    """Show what a model will see: rows of a batch as the trainer gets them, and hard checks.

    PLACE is the folder of a run, of pretraining or of fine-tuning, before, during or after
    training; or a TOML config. Nothing is trained, and no model is loaded. Of a text that is not
    prepared yet, about the first two megabytes are looked at.

    A terminal shows what the loss asks for in green, what is only read in white, control tokens
    in magenta or yellow; a pipe gets lines that begin with "learned |", "context |", "label |"
    or "padding |", with control tokens in brackets. A line of dashes is a border in a row: what
    stands on both sides does not see each other. Facts and checks follow, each check with "ok" or
    WRONG, and the exit status is 2 where one is wrong. "-" says that a check does not apply.

    Examples:
      scratchlm preview runs/chat
      scratchlm preview configs/shakespeare-char.toml --rows 1
      scratchlm preview runs/chat --split val --batch 3 --html look.html
      scratchlm preview runs/chat --rows 0 --json facts.json
    """

    place: Annotated[Path, tyro.conf.Positional]  # a run folder, or a TOML config
    rows: int = 2  # of the batch that are shown; 0 shows facts and checks only
    batch: int = 0  # which one, from 0 on: a micro-batch of train.micro_batch rows or examples
    split: SplitName = "train"  # what is trained on, or what is held out
    json: Path | None = None  # a file for all of it, for programs
    html: Path | None = None  # a file for all of it as one page, for a browser

    def run(self) -> None:
        """Show it; the exit status is 2 where a check found something wrong."""
        for path in (self.json, self.html):
            if path is not None:
                check_new_file(path)
        made = preview(self.place, rows=self.rows, batch=self.batch, split=self.split)
        if self.json is not None:
            write_json(self.json, made.to_dict())
            say(f"written: {self.json}")
        if self.html is not None:
            write_text(self.html, page_of(made))
            say(f"written: {self.html}")
        print_preview(made, Console())
        if not made.ok:
            sys.exit(WRONG)


def print_preview(made: facts.Preview, console: Console) -> None:
    """Rows, facts and checks: coloured on a terminal, else as plain lines."""
    coloured = console.is_terminal and console.color_system is not None and not console.no_color
    print(title_of(made))
    for row in made.rows:
        print(f"\nrow {row.number:,} of {made.shown.rows:,}")
        if coloured:
            print_colours(row, console)
        else:
            print_lines(row)
    print()
    for name, value in facts_of(made):
        print(f"{name:13} {value}")
    print()
    for mark, check in checks_of(made):
        print(f"{mark:6} {check.name}: {check.detail}")


def print_lines(row: facts.ShownRow) -> None:
    """Each run of tokens of one kind as a line, broken where the text has line ends."""
    for part in row.parts:
        print(f"--- {title_of_part(part)}")
        for learned, line in lines_of(part.pieces):
            print(f"{'learned' if learned else 'context'} | {line}")
        if part.label:
            print(f"label   | {part.label}")
        if part.name == "padding":
            print(f"padding | {part.n_tokens:,} positions")


def lines_of(pieces: tuple[facts.Piece, ...]) -> Iterator[tuple[bool, str]]:
    """(learned, text) of each line."""
    for learned, run in groupby(pieces, key=lambda piece: piece.learned):
        line = ""
        for piece in run:
            line += f"[{piece.text}]" if piece.special else piece.text
            if piece.n_lines:
                yield learned, line
                line = ""
        if line:
            yield learned, line


def print_colours(row: facts.ShownRow, console: Console) -> None:
    """Tokens side by side, coloured by whether the loss asks for them."""
    for part in row.parts:
        console.print(Text(f"--- {title_of_part(part)}", "dim"), soft_wrap=True)
        line = Text()
        for number, piece in enumerate(part.pieces):
            line.append(piece.text, style_of(piece, number))
            line.append("\n" * piece.n_lines)
        if part.label:
            line.append(f" -> {part.label}", SPECIAL[True])
        if part.name == "padding":
            line.append(f" {part.n_tokens:,} x padding ", PADDING)
        console.print(line, soft_wrap=True)


def style_of(piece: facts.Piece, number: int) -> str:
    """The colours of a piece; several ids of one character are underlined."""
    if piece.special:
        return SPECIAL[piece.learned]
    underlined = " underline" * (len(piece.ids) > 1)
    return (LEARNED if piece.learned else CONTEXT)[number % 2] + underlined
