"""`classify`: which class texts are of."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from scratchlm.base.errors import ConfigError
from scratchlm.cli.command import Command
from scratchlm.corpus.read import find_files, read_documents
from scratchlm.recipes.classify import TextClassifier, Verdict


@dataclass(frozen=True)
class Classify(Command):
    """Say which class texts are of, by a model that `finetune classify` made.

    Texts are words on the command line, or with --lines a file with one text in each line; "-"
    reads lines from standard input. For each text a line goes to standard output: the class, its
    probability and the text, parted by tabs; with --json an object.

    Examples:
      scratchlm classify runs/spam "WINNER!! Call now to claim your prize"
      scratchlm classify runs/spam --lines messages.txt > classes.tsv
      cat messages.txt | scratchlm classify runs/spam --lines - --json
    """

    model: Annotated[Path, tyro.conf.Positional]  # a classifier, or the run that made it
    texts: Annotated[tuple[str, ...], tyro.conf.Positional] = ()  # texts to look at
    lines: str = ""  # a file of texts, one a line; "-" is standard input
    json: bool = False  # objects with the probabilities of all classes
    device: str | None = None  # cpu, cuda, cuda:1 or mps; none: the best there is

    def run(self) -> None:
        """Print a line for each text."""
        if bool(self.texts) == bool(self.lines):
            raise ConfigError('give a text, or --lines FILE ("-" for standard input).')
        classifier = TextClassifier.load(self.model, device=self.device)
        kept: list[str] = []

        def noted() -> Iterator[str]:
            for text in self.texts or self._read():
                kept.append(text)
                yield text

        for verdict in classifier.stream(noted()):
            print(self._line(kept.pop(0), verdict), flush=sys.stdout.isatty())

    def _read(self) -> Iterator[str]:
        """Lines that are not empty."""
        if self.lines == "-":
            rows: Iterator[str] = iter(sys.stdin)
        else:
            pieces = (d.text for d in read_documents(find_files([Path(self.lines)])))
            rows = (row for piece in pieces for row in piece.splitlines())
        for row in rows:
            if text := row.strip():
                yield text

    def _line(self, text: str, verdict: Verdict) -> str:
        if self.json:
            facts = {"text": text, "label": verdict.label, "probabilities": verdict.probabilities}
            return json.dumps(facts, ensure_ascii=False)
        shown = " ".join(text.split())
        return f"{verdict.label}\t{verdict.probability:.4f}\t{shown}"
