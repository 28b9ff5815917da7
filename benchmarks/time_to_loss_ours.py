"""Our side of the time-to-loss benchmark: the recipe of a config file."""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from scratchlm.base.config import read_toml
from scratchlm.checkpoint.folder import load_model
from scratchlm.data.loader import Loader, SourceConfig, open_splits
from scratchlm.evaluation.loss import held_out_loss
from scratchlm.recipes.pretrain import pretrain
from scratchlm.recipes.run_config import RunConfig
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.training.metrics import read_metrics


def learn(
    config: str, data: str, seed: int, steps: int, started: float, device: str, compiled: bool
) -> dict[str, Any]:
    """Train without a look at the validation tail, then read all of it once.

    config    the TOML file
    data      the folder of shards, in the place of its text
    steps     of the whole run: its schedule ends there; 0: as the config says
    started   `time.time()` when this process was started
    returns   wall_s: from `started` to the written model, imports and all; train_s: the steps;
              compile_s: what the first took above the median
    """
    sources = (SourceConfig(Path(data)),)
    settings = read_toml(RunConfig, Path(config)).replace("data", sources=sources, seed=seed)
    settings = settings.replace(
        "train",
        steps=steps or settings.train.steps,
        seed=seed,
        eval_every=0,
        save_every=0,
        compile=compiled,
    )
    with tempfile.TemporaryDirectory() as folder:
        result = pretrain(settings, Path(folder) / "run", device=device)
        wall = time.time() - started
        step_ms = [line["step_ms"] for line in read_metrics(Path(folder) / "run")]
        model = load_model(result.model)
    compile_s = (step_ms[0] - statistics.median(step_ms)) / 1e3
    tail = Loader(open_splits(settings.data, "val"), settings.data, 64, train=False)
    held_out = held_out_loss(model, tail.batches(), Tokenizer.load(Path(data)).byte_lengths())
    return {
        "seed": seed,
        "steps": len(step_ms),
        "train_s": result.seconds - compile_s,
        "compile_s": compile_s,
        "wall_s": wall,
        "loss_nats": held_out.loss_nats,
        "bits_per_byte": held_out.bits_per_byte,
        "n_targets": held_out.n_targets,
        "parameters": model.n_parameters(),
        "step_ms": step_ms,
    }
