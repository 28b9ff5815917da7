"""Our side of the time-to-loss benchmark: the recipe of `scratchlm quickstart`."""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from scratchlm.checkpoint.folder import load_model
from scratchlm.data.loader import Loader, SourceConfig, open_splits
from scratchlm.evaluation.loss import held_out_loss
from scratchlm.recipes.pretrain import pretrain
from scratchlm.recipes.quickstart import quickstart_config
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.training.metrics import read_metrics


def learn(
    data: str, seed: int, steps: int, started: float, device: str, compiled: bool
) -> dict[str, Any]:
    """Train without a look at the validation tail, then read all of it once.

    data      the folder of shards
    steps     of the whole run: its schedule ends there
    started   `time.time()` when this process was started
    returns   train_s: the steps; compile_s: what the first took above the median; other_s: all the
              rest up to the written model: imports, opening the data, saving
    """
    sources = (SourceConfig(Path(data)),)
    config = quickstart_config().replace("data", sources=sources, seed=seed)
    config = config.replace(
        "train", steps=steps, seed=seed, eval_every=0, save_every=0, compile=compiled
    )
    with tempfile.TemporaryDirectory() as folder:
        result = pretrain(config, Path(folder) / "run", device=device)
        wall = time.time() - started
        step_ms = [line["step_ms"] for line in read_metrics(Path(folder) / "run")]
        model = load_model(result.model)
    compile_s = (step_ms[0] - statistics.median(step_ms)) / 1e3
    tail = Loader(open_splits(config.data, "val"), config.data, 64, train=False)
    held_out = held_out_loss(model, tail.batches(), Tokenizer.load(Path(data)).byte_lengths())
    return {
        "seed": seed,
        "steps": steps,
        "train_s": result.seconds - compile_s,
        "compile_s": compile_s,
        "other_s": wall - result.seconds,
        "loss_nats": held_out.loss_nats,
        "bits_per_byte": held_out.bits_per_byte,
        "n_targets": held_out.n_targets,
        "parameters": model.n_parameters(),
        "step_ms": step_ms,
    }
