"""`corpus urls` and `corpus clean`: from dumps of links to pages, from documents to good ones."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from scratchlm.cli.command import Command, Inline, Paths
from scratchlm.corpus.executors import Scale
from scratchlm.recipes.clean_documents import CleanConfig, clean_documents
from scratchlm.recipes.find_urls import UrlsConfig, find_urls


@dataclass(frozen=True)
class Urls(Command):
    """List the pages that people found worth a vote, the way WebText did.

    PATH are Pushshift's dumps of Reddit submissions, .zst .xz .bz2 .gz or JSON lines, or folders
    of them. Each address is listed once over all dumps; how many records were left out, and why,
    stands in counts.json. A dump that is cut is read to the cut.

    Examples:
      scratchlm corpus urls RS_2011-01.zst RS_2011-02.zst --out urls
      scratchlm corpus urls dumps/ --years 2016-2018 --min-score 3 --out urls
      scratchlm corpus urls RS_2011-03.zst --known urls --out urls-march
    """

    paths: Paths  # dumps, or folders of them
    out: Path  # the folder to make
    config: Annotated[UrlsConfig, Inline] = field(default_factory=UrlsConfig)
    scale: Annotated[Scale, Inline] = field(default_factory=Scale)

    def run(self) -> None:
        """List, and print the folder's path."""
        find_urls(self.paths, self.out, config=self.config, scale=self.scale)
        print(self.out)


@dataclass(frozen=True)
class Clean(Command):
    """Keep the documents that are worth training on, and say why the others went.

    FOLDER holds .jsonl.zst files, such as corpus extract makes. A recipe is a TOML file with every
    threshold and its paper; web, books, chat, code, simple and none ship, and a copy of one with
    other numbers does as well. counts.json says what became of the documents; the page that corpus
    report makes shows it.

    Examples:
      scratchlm corpus clean docs --out clean --lang en,zh --recipe web
      scratchlm corpus clean docs --out clean --recipe mine.toml --evaluation gsm8k_test.jsonl
      scratchlm corpus clean docs --out try --limit 1000
    """

    folder: tyro.conf.Positional[Path]  # of documents
    out: Path  # the folder to make
    config: Annotated[CleanConfig, Inline] = field(default_factory=CleanConfig)
    scale: Annotated[Scale, Inline] = field(default_factory=Scale)

    def run(self) -> None:
        """Clean, and print the folder's path."""
        clean_documents(self.folder, self.out, config=self.config, scale=self.scale)
        print(self.out)
