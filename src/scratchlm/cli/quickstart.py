"""`quickstart` and `build`: the whole path in one command."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scratchlm.cli.command import Command, Paths
from scratchlm.recipes.build import build
from scratchlm.recipes.pretrain import Resume
from scratchlm.recipes.quickstart import Corpus, quickstart


@dataclass(frozen=True)
class Quickstart(Command):
    """Train a small model on a text that ships with the program, and let it write.

    About three minutes on two processor cores: tokenizer, training, two samples, the
    held-out loss, and what to try next. The model is OUT/model.

    Examples:
      scratchlm quickstart
      scratchlm quickstart --corpus tang --out runs/tang
    """

    out: Path = Path("runs/quickstart")  # the folder of the run
    corpus: Corpus = "shakespeare"  # plays in English, or tang: classical Chinese poems
    steps: int = 0  # of training; 0: the recipe's own number
    resume: Resume = "auto"  # go on with the run in OUT if there is one; never; or it must be there
    device: str | None = None  # cpu, cuda, cuda:1 or mps; none: the best there is

    def run(self) -> None:
        """Train, print the samples and the next commands."""
        quickstart(
            self.out,
            corpus=self.corpus,
            steps=self.steps,
            resume=self.resume,
            device=self.device,
        )


@dataclass(frozen=True)
class Build(Command):
    """Make a tokenizer and a model from any text of yours, with settings that suit it.

    Looks at the text and the machine, chooses, and says why. The model is OUT/model. Any
    language; what is read as which encoding is said.

    Examples:
      scratchlm build notes/ --out runs/notes
      scratchlm build novel.txt letters.jsonl --out runs/mine --tokenizer bpe
    """

    paths: Paths  # text files (.txt .md .jsonl .parquet), folders of them, or bundled:shakespeare
    out: Path  # the folder of the run
    tokenizer: Literal["auto", "char", "bpe"] = "auto"  # characters suit a small text, bpe any
    steps: int = 0  # of training; 0: as many as suit the text and the machine
    resume: Resume = "auto"  # go on with the run in OUT if there is one; never; or it must be there
    device: str | None = None  # cpu, cuda, cuda:1 or mps; none: the best there is

    def run(self) -> None:
        """Build, and print the path of the model folder."""
        result = build(
            self.paths,
            self.out,
            tokenizer=self.tokenizer,
            steps=self.steps,
            resume=self.resume,
            device=self.device,
        )
        print(result.model)
