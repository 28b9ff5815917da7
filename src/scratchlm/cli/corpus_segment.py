"""`corpus segment`: the words of documents, apart."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from scratchlm.cli.command import Command, Inline, Paths
from scratchlm.corpus.executors import Scale
from scratchlm.corpus.segment import SegmenterName
from scratchlm.recipes.segment_documents import SegmentConfig, segment_documents


@dataclass(frozen=True)
class Segment(Command):
    """Cut the words of documents apart, as the tutorials' .tokenized.txt have them.

    One space stands between two words, one line of words for each line of text, an empty line
    behind each document. spacy cuts English by spaCy's rules (no model is needed), rjieba Chinese.

    Examples:
      scratchlm corpus segment clean --with spacy --out tokenized
      scratchlm corpus segment poems.txt --with rjieba --out tokenized
      scratchlm corpus segment stories.txt --with spacy --out try --limit 100
    """

    paths: Paths  # folders of .jsonl.zst documents, or text files, JSON lines, Parquet
    out: Path  # the folder to make
    segmenter: Annotated[SegmenterName, tyro.conf.arg(name="with")]  # for English, for Chinese
    config: Annotated[SegmentConfig, Inline] = field(default_factory=SegmentConfig)
    scale: Annotated[Scale, Inline] = field(default_factory=Scale)

    def run(self) -> None:
        """Cut, and print the folder's path."""
        segment_documents(
            self.paths, self.out, self.segmenter, config=self.config, scale=self.scale
        )
        print(self.out)
