"""`pretrain CONFIG.toml`: a model from a config file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from scratchlm.base.log import say
from scratchlm.base.progress import duration
from scratchlm.cli.command import ConfigCommand, Inline
from scratchlm.recipes.pretrain import Resume, pretrain
from scratchlm.recipes.run_config import RunConfig


@dataclass(frozen=True)
class Pretrain(ConfigCommand):
    """Train a model from scratch as a config file says, in a folder that can go on exactly.

    Each setting of the file is an option too: --train.steps 200. With the file in front,
    --help shows its values: scratchlm pretrain CONFIG.toml --help. Ctrl-C saves and leaves;
    the same command then goes on as if nothing had happened. The result is OUT/model.

    Examples:
      scratchlm pretrain configs/shakespeare-char.toml --out runs/char
      scratchlm pretrain configs/shakespeare-char.toml --out runs/char --train.steps 200
      scratchlm pretrain configs/gpt2-124m.toml --out runs/more --init gpt2/ --device cuda:1
    """

    settings: Annotated[RunConfig, Inline]
    out: Path  # the folder of the run
    resume: Resume = "auto"  # go on with the run in OUT if there is one; never; or it must be there
    init: Path | None = None  # a model folder to start from, instead of random weights
    device: str | None = None  # cpu, cuda, cuda:1 or mps; none: the best there is

    def run(self) -> None:
        """Train, tell how good it became, and print the path of the model folder."""
        result = pretrain(
            self.settings, self.out, resume=self.resume, init=self.init, device=self.device
        )
        say(
            f"ended after step {result.step}: {result.reason}, "
            f"{duration(result.seconds)} of training"
        )
        if result.loss_nats is not None:
            bits = f", {result.bits_per_byte:.4f} bits per byte" if result.bits_per_byte else ""
            say(f"held-out loss {result.loss_nats:.4f} nats per token{bits}")
        say(f"try it: scratchlm generate {result.model}")
        print(result.model)
