"""`tokenizer train`, `encode`, `decode` and `compare`."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from tyro.conf import Positional

from scratchlm.base.errors import ConfigError, DataError
from scratchlm.base.log import say
from scratchlm.cli.command import Command, Inline, Paths
from scratchlm.corpus.encodings import Errors
from scratchlm.recipes import tokenizer as recipe
from scratchlm.tokenizer.compare import Comparison
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.show import Group, show_tokens
from scratchlm.tokenizer.tokenizer import Tokenizer

COLOURS = ("bright_green", "bright_yellow", "bright_cyan", "bright_magenta")  # any terminal has
COLUMNS = (
    "tokenizer",
    "ids",
    "tokens",
    "bytes per token",
    "tokens per character",
    "tokens per word",
    "MB/s",
    "back",
)


@dataclass(frozen=True)
class Train(Command):
    """Learn a tokenizer from your own text.

    The folder gets a tokenizer.json, which transformers and other tools load, and its
    settings beside it. The text is read as a stream, so its size does not matter.

    Examples:
      scratchlm tokenizer train stories/ --out tok
      scratchlm tokenizer train book.txt --kind char --out tok
      scratchlm tokenizer train bundled:tang --kind sentencepiece-unigram --out tok
    """

    paths: Paths  # files (.txt .md .jsonl .parquet), folders, bundled:shakespeare or bundled:tang
    out: Path  # the folder to make
    config: Annotated[TokenizerConfig, Inline] = field(default_factory=TokenizerConfig)
    errors: Errors = "strict"  # of bytes that are no text: stop there, or replace and count them
    text_key: str = "text"  # the key of a JSON line, or Parquet column, that holds the text
    document_separator: str | None = None  # what stands between the documents of a text file
    overwrite: bool = False  # replace a tokenizer that is there already

    def run(self) -> None:
        """Train and save; the progress and a summary are said on the way."""
        recipe.train(
            self.paths,
            self.config,
            out=self.out,
            overwrite=self.overwrite,
            errors=self.errors,
            text_key=self.text_key,
            document_separator=self.document_separator,
        )
        say(f"look at it: scratchlm tokenizer encode {self.out} --show 'Some text of yours.'")


@dataclass(frozen=True)
class Encode(Command):
    """Print the ids of a text, or show the pieces that it is cut into.

    Ids come separated by spaces, one line for each document. With --show a terminal gets the
    pieces in colour, and a pipe one piece a line behind its ids. A character that takes
    several tokens is shown whole, underlined.

    Examples:
      scratchlm tokenizer encode gpt2 "The sea, the sea!"
      scratchlm tokenizer encode tok --show --file chapter.txt
      echo "To be" | scratchlm tokenizer encode tok --eos
    """

    tokenizer: Positional[str]  # a folder, tokenizer.json or .model file, or gpt2
    text: Positional[str | None] = None  # without it and without --file: standard input
    file: Path | None = None  # a file to encode instead of TEXT
    show: bool = False  # show pieces instead of ids
    bos: bool = False  # put the beginning token in front
    eos: bool = False  # put the end token behind
    allowed_special: bool = False  # names of control tokens in the text become these tokens
    strict: bool = False  # an unknown word is an error, not the unknown token

    def run(self) -> None:
        """Print each document's ids or pieces."""
        tokenizer = recipe.open_tokenizer(self.tokenizer)
        for tokens in self._encoded(tokenizer):
            if self.show:
                print_pieces(show_tokens(tokenizer, tokens), Console())
            else:
                print(*tokens)

    def _encoded(self, tokenizer: Tokenizer) -> Iterator[list[int]]:
        options = {
            "bos": self.bos,
            "eos": self.eos,
            "allowed_special": self.allowed_special,
            "strict": self.strict,
        }
        if self.file is None:
            text = read_standard_input("text") if self.text is None else self.text
            yield tokenizer.encode(text, **options)
        elif self.text is None:
            yield from recipe.encode(self.file, tokenizer, **options)
        else:
            raise ConfigError("TEXT and --file exclude each other: give one of them.")


@dataclass(frozen=True)
class Decode(Command):
    """Print the text of ids.

    Examples:
      scratchlm tokenizer decode gpt2 464 5417 0
      scratchlm tokenizer encode tok "To be" | scratchlm tokenizer decode tok
    """

    tokenizer: Positional[str]  # a folder, tokenizer.json or .model file, or gpt2
    ids: Positional[tuple[str, ...]] = ()  # without them: standard input
    skip_special: bool = False  # leave control tokens out of the text

    def run(self) -> None:
        """Print the text, with a line end behind it."""
        tokenizer = recipe.open_tokenizer(self.tokenizer)
        ids = " ".join(self.ids) or read_standard_input("ids")
        print(recipe.decode(ids, tokenizer, skip_special=self.skip_special))


@dataclass(frozen=True)
class Compare(Command):
    """Set tokenizers side by side on a text: how short they make it, and how fast.

    More bytes per token mean shorter texts for the model. "back" says whether decoding gives
    the same text again. A pipe gets columns separated by tabs.

    Examples:
      scratchlm tokenizer compare gpt2 tok --text chapter.txt
      scratchlm tokenizer compare tok-4096 tok-32000 --text stories/ --max-bytes 1000000
    """

    tokenizers: Positional[tuple[str, ...]]  # folders, tokenizer.json or .model files, or gpt2
    text: Path  # the file or folder to encode
    max_bytes: int = 10_000_000  # of text to read at most

    def run(self) -> None:
        """Print one row for each tokenizer."""
        compared = recipe.compare(self.tokenizers, self.text, max_bytes=self.max_bytes)
        print_comparison(compared, Console())


def read_standard_input(what: str) -> str:
    """All of standard input; tells a person at the keyboard how to end it.

    raises   DataError for bytes that are not UTF-8
    """
    if sys.stdin.isatty():
        say(f"type the {what}; Ctrl-D (on Windows Ctrl-Z and Enter) on an empty line ends it")
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as bad:
        raise DataError(
            f"standard input is not UTF-8 ({bad.reason} at byte {bad.start}). Save it as a file "
            "and use --file, which recognises other encodings."
        ) from None


def print_pieces(groups: list[Group], console: Console) -> None:
    """The pieces of a text: coloured on a terminal, else one a line: ids, tab, quoted text."""
    if not console.is_terminal:
        for group in groups:
            print(*group.ids, end=f"\t{group.text!r}\n")
        return
    line = Text()
    for number, group in enumerate(groups):
        style = f"black on {COLOURS[number % len(COLOURS)]}"
        style += " bold" * group.special + " underline" * (len(group.ids) > 1)
        line.append(group.visible, style)
        line.append("\n" * group.text.count("\n"))
    console.print(line)


def print_comparison(compared: list[Comparison], console: Console) -> None:
    """A table on a terminal; elsewhere one line each, its columns separated by tabs."""
    rows = [row_of(one) for one in compared]
    if not console.is_terminal:
        for row in [COLUMNS, *rows]:
            print(*row, sep="\t")
        return
    table = Table()
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in ("tokenizer", "back") else "right")
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


def row_of(one: Comparison) -> tuple[str, ...]:
    """The figures of one tokenizer as text, in the order of COLUMNS."""
    return (
        one.name,
        str(one.vocab_size),
        str(one.n_tokens),
        f"{one.bytes_per_token:.3f}",
        f"{one.tokens_per_character:.3f}",
        f"{one.tokens_per_word:.3f}",
        f"{one.encode_mb_per_s:.1f}",
        one.difference or "exact",
    )
