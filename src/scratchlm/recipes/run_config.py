"""The settings of a pretraining run: one TOML file, one table for each part."""

import dataclasses
from collections.abc import Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scratchlm.base.config import refuse_not_finite, to_dict
from scratchlm.base.errors import ConfigError
from scratchlm.data.loader import DataConfig
from scratchlm.model.config import ModelConfig
from scratchlm.recipes.prepare import PrepareConfig
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.training.optimizers import OptimConfig, ScheduleConfig
from scratchlm.training.parallel import ParallelConfig
from scratchlm.training.trainer import TrainConfig

CONFIG = "config.toml"


@dataclass(frozen=True)
class TextConfig:
    """Text to prepare first, when data.sources names no shards."""

    paths: tuple[str, ...] = ()  # files and folders; bundled:shakespeare and bundled:tang ship

    def __post_init__(self) -> None:
        if isinstance(self.paths, str):
            raise ConfigError(f"text.paths = {self.paths!r} must be a list: [{self.paths!r}].")


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run. A resumed run must have the same, but for what is in FREE."""

    text: TextConfig = field(default_factory=TextConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)

    def __post_init__(self) -> None:
        refuse_not_finite(self)
        for part, seed in (("train", self.train.seed), ("data", self.data.seed)):
            if seed < 0:
                raise ConfigError(f"{part}.seed = {seed} must be at least 0.")
        if not self.data.sources and not self.text.paths:
            raise ConfigError(
                "there is nothing to train on: set text.paths to files or folders of text, or "
                "data.sources to folders that `scratchlm prepare` made."
            )
        if self.data.seq_len > self.model.max_seq_len:
            raise ConfigError(
                f"data.seq_len = {self.data.seq_len} is longer than model.max_seq_len = "
                f"{self.model.max_seq_len}. Raise the second or lower the first."
            )
        timed = self.train.budget or self.train.until
        if timed and self.schedule.kind not in ("wsd", "constant"):
            raise ConfigError(
                f"schedule.kind = {self.schedule.kind!r} needs to know the number of steps, and "
                'train.budget and train.until leave it open. Set it to "wsd".'
            )

        if self.parallel.zero and self.optim.optimizer != "adamw":
            raise ConfigError(
                f"parallel.zero = {self.parallel.zero} cuts weights into parts, and "
                f"optim.optimizer = {self.optim.optimizer!r} needs whole matrices. Set it to "
                '"adamw", or take parallel.shard.'
            )
        if self.parallel.zero and self.train.precision == "float16":
            raise ConfigError(
                f"parallel.zero = {self.parallel.zero} needs train.precision bfloat16 or float32: "
                "float16's scale of the loss stays with the trainer."
            )

    def replace(self, section: str, **values: Any) -> "RunConfig":
        """A copy with settings of one section changed: `config.replace("train", steps=200)`."""
        part = dataclasses.replace(getattr(self, section), **values)
        return dataclasses.replace(self, **{section: part})


# What may differ when a run goes on: how long, how often it is looked at, and by how many.
FREE = {
    "train.steps", "train.budget", "train.until",
    "train.eval_every", "train.eval_batches", "train.sample_every",
    "train.sample_prompt", "train.sample_tokens", "train.save_every", "train.keep_last",
    "train.patience", "train.track", "train.recompute", "parallel.data", "parallel.shard",
    "parallel.zero",
    "data.workers", "prepare.workers", "prepare.overwrite",
}  # fmt: skip


def check_same(before: Any, now: Any, folder: Path, free: Set[str] = FREE) -> None:
    """Refuse to go on with a run under settings that would make it another one.

    before, now   the settings, dataclasses of one kind
    free          names of those that may differ
    raises        ConfigError naming the first that differs
    """
    old, new = _flat(to_dict(before)), _flat(to_dict(now))
    for key in sorted(old.keys() | new.keys()):
        if key not in free and old.get(key) != new.get(key):
            raise ConfigError(
                f"{folder} was begun with {key} = {old.get(key)!r}, now it is {new.get(key)!r}: "
                "it cannot go on exactly. Set it back, or begin a new run in another folder."
            )


def _flat(values: dict[str, Any], at: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{at}{key}."))
        else:
            flat[at + key] = value
    return flat
