"""The training that the memory benchmark looks at."""

import statistics
import tempfile
from pathlib import Path
from typing import Any

from scratchlm.base.config import read_toml
from scratchlm.data.loader import SourceConfig
from scratchlm.recipes.pretrain import pretrain
from scratchlm.recipes.run_config import RunConfig
from scratchlm.training.metrics import read_metrics


def train(config: str, data: str, steps: int) -> dict[str, Any]:
    """Train by a config on other data: some steps, then one evaluation and one checkpoint."""
    settings = read_toml(RunConfig, Path(config)).replace(
        "data", sources=(SourceConfig(Path(data)),)
    )
    settings = settings.replace(
        "train", steps=steps, eval_every=steps, eval_batches=1, sample_every=0, save_every=0
    )
    with tempfile.TemporaryDirectory() as folder:
        pretrain(settings, Path(folder) / "run", device="cpu")
        lines = [line for line in read_metrics(Path(folder) / "run") if "step_ms" in line]
    return {
        "memory_mb": [line["memory_mb"] for line in lines],
        "tokens_per_s": statistics.median(line["tokens_per_s"] for line in lines),
    }
