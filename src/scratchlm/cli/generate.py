"""`generate` and `chat`: text from a model."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from scratchlm.cli.command import Command, Inline
from scratchlm.generation.sampling import Sampling
from scratchlm.recipes.chat import chat
from scratchlm.recipes.generate import generate
from scratchlm.recipes.load import load

Dtype = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Generate(Command):
    """Let a model continue a prompt.

    Examples:
      scratchlm generate runs/quickstart/model --prompt "ROMEO:" --max-new-tokens 300
      scratchlm generate runs/quickstart/model --prompt FILE:opening.txt --n 3 --seed 1
      echo "To be" | scratchlm generate runs/quickstart/model --prompt - --temperature 0
    """

    model: Positional[Path]  # the folder of a model or of a run
    prompt: str = ""  # text to go on from; - reads standard input, FILE:path a file; empty: anew
    n: int = 1  # how many continuations
    sampling: Annotated[Sampling, Inline] = field(default_factory=Sampling)
    window: bool = False  # a prompt longer than the context: take its last part
    echo: bool = True  # print the prompt before each continuation
    device: str | None = None  # cpu, cuda, cuda:1 or mps; none: the best there is
    dtype: Dtype | None = None  # to compute in; none: as the weights are stored

    def run(self) -> None:
        """Write the text as it comes."""
        model = load(self.model, device=self.device, dtype=self.dtype)
        generate(model, self.prompt, self.sampling, n=self.n, window=self.window, echo=self.echo)


@dataclass(frozen=True)
class Chat(Command):
    """Write with a model in turns: arrow keys, a history, commands such as /set temperature 0.5.

    A base model, which pretraining makes, continues your text; one with a chat template answers.
    quit leaves.

    Examples:
      scratchlm chat runs/quickstart/model
      scratchlm chat runs/quickstart/model --temperature 0.5 --max-new-tokens 100
      scratchlm chat models/smollm2 --system "Answer in one sentence."
    """

    model: Positional[Path]  # the folder of a model or of a run
    sampling: Annotated[Sampling, Inline] = field(default_factory=Sampling)
    system: str = ""  # what a model with a chat template is told before everything else
    device: str | None = None  # cpu, cuda, cuda:1 or mps; none: the best there is
    dtype: Dtype | None = None  # to compute in; none: as the weights are stored

    def run(self) -> None:
        """Read lines and continue them until the user leaves."""
        model = load(self.model, device=self.device, dtype=self.dtype)
        chat(model, self.sampling, system=self.system)
