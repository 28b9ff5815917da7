"""`pretrain CONFIG.toml`: a model from a config file."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from scratchlm.base.duration import duration
from scratchlm.base.log import say
from scratchlm.base.runtime import launch
from scratchlm.checkpoint.folder import read_model_config
from scratchlm.cli.command import BEGAN, INTERRUPTED, ConfigCommand, Inline
from scratchlm.cli.plan import print_plan
from scratchlm.recipes.load import find_model
from scratchlm.recipes.plan import plan
from scratchlm.recipes.pretrain import Resume, pretrain
from scratchlm.recipes.run_config import RunConfig
from scratchlm.recipes.training_run import RunResult


@dataclass(frozen=True)
class Pretrain(ConfigCommand):
    """Train a model from scratch as a config file says, in a folder that can go on exactly.

    Each setting of the file is an option too: --train.steps 200. With the file in front,
    --help shows its values: scratchlm pretrain CONFIG.toml --help. Ctrl-C saves and leaves;
    the same command then goes on as if nothing had happened. The result is OUT/model.

    Examples:
      scratchlm pretrain configs/shakespeare-char.toml --out runs/char
      scratchlm pretrain configs/shakespeare-char.toml --out runs/char --train.steps 200
      scratchlm pretrain configs/fast.toml --out runs/fast --train.budget 10m
      scratchlm pretrain configs/gpt2-124m.toml --out runs/more --init runs/gpt2 --device cuda:1
      torchrun --nproc-per-node 4 -m scratchlm pretrain configs/gpt2-124m.toml --out runs/gpt2
      scratchlm pretrain configs/shakespeare-char.toml --out runs/char --dry-run
    """

    settings: Annotated[RunConfig, Inline]
    out: Path  # the folder of the run
    resume: Resume = "auto"  # go on with the run in OUT if there is one; never; or it must be there
    init: Path | None = None  # a model or a run to start from, instead of random weights
    device: str | None = None  # cpu, cuda, cuda:1 or mps; none: the best there is
    dry_run: bool = False  # say what the run would take as `plan` does, and write nothing

    def run(self) -> None:
        """Train, tell how good it became, and print the path of the model folder."""
        if self.dry_run:
            print_plan(plan(self._as_planned(), device=self.device))
            return
        result = pretrain(
            self.settings,
            self.out,
            resume=self.resume,
            init=self.init,
            device=self.device,
            began=BEGAN,
        )
        if result.interrupted:
            sys.exit(INTERRUPTED)
        say_ending(result)
        if launch().rank == 0:
            print(result.model)

    def _as_planned(self) -> RunConfig:
        """The settings, with the shape of the model that the run begins from."""
        if self.init is None:
            return self.settings
        model = read_model_config(find_model(self.init))
        dropout = self.settings.model.dropout
        return replace(self.settings, model=replace(model, dropout=dropout))


def say_ending(result: RunResult, hint: str = "") -> None:
    """Why a run ended, how good its model is, and what to do with it: `hint`, or to generate."""
    say(f"ended after step {result.step}: {result.reason}, {duration(result.seconds)} of training")
    if result.held_out is not None:
        say(str(result.held_out))
    say(f"try it: {hint or f'scratchlm generate {result.model}'}")
