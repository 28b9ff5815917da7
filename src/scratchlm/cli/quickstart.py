"""`quickstart` and `build`: the whole path in one command."""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from scratchlm.cli.command import BEGAN, INTERRUPTED, Command, Paths
from scratchlm.cli.plan import print_plan
from scratchlm.cli.pretrain import say_ending
from scratchlm.recipes.build import build, choose_for
from scratchlm.recipes.plan import plan
from scratchlm.recipes.pretrain import Resume
from scratchlm.recipes.quickstart import Corpus, quickstart
from scratchlm.recipes.sources import DOCUMENTS, as_text


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
        result = quickstart(
            self.out,
            corpus=self.corpus,
            steps=self.steps,
            resume=self.resume,
            device=self.device,
        )
        if result.interrupted:
            sys.exit(INTERRUPTED)


@dataclass(frozen=True)
class Build(Command):
    """Make a tokenizer and a model from any files of yours, in the time that you have.

    Takes text, web pages, PDF, Word, e-books, tables, code and archives of these. Looks at the
    text, measures this machine for a few seconds, chooses, and says why and what loss to expect.
    The model is OUT/model. Any language. Ctrl-C saves and leaves; the same command then goes on,
    with what is left of the time.

    Examples:
      scratchlm build notes/ --out runs/notes --budget 20m
      scratchlm build notes/ --out runs/notes --until 18:00
      scratchlm build novel.txt letters.jsonl --out runs/mine --tokenizer bpe
      scratchlm build bundled:tang --out runs/tang
      scratchlm build notes/ --out runs/notes --dry-run
    """

    paths: Paths  # files and folders of any kind, bundled:shakespeare or bundled:tang
    out: Path  # the folder of the run
    budget: str = ""  # how long all of it may take: 90s, 20m, 2h; none: ten minutes on a CPU
    until: str = ""  # or when it shall have ended: 18:00, or 2026-11-21 18:00
    tokenizer: Literal["auto", "char", "bpe"] = "auto"  # characters suit a tiny text, bpe any
    steps: int = 0  # of training, instead of a time; 0: as many as the time allows
    seed: int = 1337  # of the first weights and the order of the text
    resume: Resume = "auto"  # go on with the run in OUT if there is one; never; or it must be there
    device: str | None = None  # cpu, cuda, cuda:1 or mps; none: the best there is
    dry_run: bool = False  # choose, say what the run would take as `plan` does, and write nothing

    def run(self) -> None:
        """Build, and print the path of the model folder; or print the plan."""
        options: dict[str, Any] = {
            "budget": self.budget,
            "until": self.until,
            "tokenizer": self.tokenizer,
            "steps": self.steps,
            "seed": self.seed,
            "resume": self.resume,
            "device": self.device,
            "began": BEGAN,
        }
        if self.dry_run:
            with tempfile.TemporaryDirectory() as folder:
                paths = as_text(self.paths, Path(folder) / DOCUMENTS)
                config = choose_for(paths, self.out, **options).config
                print_plan(plan(config, device=self.device))
            return
        result = build(self.paths, self.out, **options)
        if result.interrupted:
            sys.exit(INTERRUPTED)
        say_ending(result)
        print(result.model)
