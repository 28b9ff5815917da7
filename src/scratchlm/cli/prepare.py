"""`prepare`: text to shards of token ids."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from scratchlm.base.progress import Progress
from scratchlm.cli.command import Command, Inline, Paths
from scratchlm.recipes.prepare import PrepareConfig, prepare


@dataclass(frozen=True)
class Prepare(Command):
    """Encode text into shards of token ids, which training reads without loading them.

    The folder gets train/ and val/ with the shards, the tokenizer, and a manifest with
    checksums. All of it appears at once at the end, or nothing does.

    Examples:
      scratchlm prepare stories/ --tokenizer tok --out data
      scratchlm prepare book.txt --tokenizer gpt2 --out data --split tail --val-fraction 0.05
      scratchlm prepare bundled:shakespeare --tokenizer gpt2 --out data
    """

    paths: Paths  # files (.txt .md .jsonl .parquet), folders, bundled:shakespeare or bundled:tang
    tokenizer: str  # a folder, tokenizer.json or .model file, or gpt2
    out: Path  # the folder to make
    config: Annotated[PrepareConfig, Inline] = field(default_factory=PrepareConfig)

    def run(self) -> None:
        """Encode with a progress display; the recipe says what came out."""
        with Progress("encoding") as progress:
            prepare(
                self.paths,
                self.out,
                self.tokenizer,
                config=self.config,
                progress=progress.update,
            )
