"""`corpus extract`: the text of web pages, and of files of any kind."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from scratchlm.cli.command import Command, Inline, Paths
from scratchlm.corpus.executors import Scale
from scratchlm.corpus.extract import ExtractConfig
from scratchlm.recipes.extract_documents import extract_documents


@dataclass(frozen=True)
class Extract(Command):
    """Take the text out of web pages and files of any kind.

    PATH are files, folders, or what corpus fetch made: WARC, html, pdf, docx, epub, txt, md, code,
    jsonl, parquet, csv, tsv, each also with .gz .bz2 .xz .zst, and zip and tar of these, such as
    OpenWebText's *_data.xz. A table with a column named like --text-key is a document a row, any
    other one document, unless you gave a --text-key: then it is left out. Web pages and files that
    take more time or memory than they may, and all that is broken, are counted in counts.json and
    listed in failed/, and the run goes on.

    Examples:
      scratchlm corpus extract pages/ my_folder/ --out docs
      scratchlm corpus extract openwebtext/ --out docs --workers 8
      scratchlm corpus extract reviews.csv --text-key review --out try --limit 1000
    """

    paths: Paths  # files and folders
    out: Path  # the folder to make
    config: Annotated[ExtractConfig, Inline] = field(default_factory=ExtractConfig)
    scale: Annotated[Scale, Inline] = field(default_factory=Scale)
    overwrite: bool = False  # replace a folder that this made before

    def run(self) -> None:
        """Extract, and print the folder's path."""
        extract_documents(
            self.paths, self.out, config=self.config, scale=self.scale, overwrite=self.overwrite
        )
        print(self.out)
