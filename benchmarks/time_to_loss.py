"""Seconds to a held-out loss: tiny shakespeare by characters, our recipes and nanoGPT's.

    python benchmarks/time_to_loss.py --configs configs/sprint.toml configs/fast.toml --priority

A round is a seed (nanoGPT's is fixed). Every run compiles anew, as the first on a machine does. The
validation tail, the last tenth of the text, is read once, when a run of the given length is over.
"""

import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import time_to_loss_nanogpt as nanogpt
from common import Column, Comparison, Entry, Results, Settings, must_exist, start
from process import call

COLUMNS = (
    Column("nats", "loss_nats", ".4f", spread=True),
    Column("s from process start to the last step", "wall_s", ".1f", spread=True),
    Column("s of training", "train_s", ".1f", spread=True),
    Column("s of compilation", "compile_s", ".1f"),
    Column("MB at most", "peak_memory_mb"),
)
CASE = "tiny shakespeare"


@dataclass(frozen=True)
class LossSettings(Settings):
    """What to train."""

    configs: tuple[Path, ...] = (Path("configs/sprint.toml"), Path("configs/fast.toml"))  # ours
    steps: int = 0  # of each; 0: as the config says
    compile: bool = False  # ours with torch.compile, which counts as start-up
    device: str = "cpu"  # cpu, cuda or mps
    nanogpt: Path | None = None  # a checkout of nanoGPT, whose CPU recipe is run beside ours


def main(settings: LossSettings) -> None:
    """Train everything and write the results."""
    if settings.nanogpt is not None:
        must_exist(settings.nanogpt / "train.py", settings.nanogpt / nanogpt.CONFIG)
    with tempfile.TemporaryDirectory() as folder:
        data, checkout = Path(folder) / "data", Path(folder) / "nanogpt"
        arguments = {"folder": str(data), "tokenizer": {"kind": "char"}}
        facts = call("stand_ins:shards", arguments, settings.how())
        entries = [
            Entry(CASE, f"ours, {path.stem}", partial(_learn, settings, data, path.resolve()))
            for path in settings.configs
        ]
        if settings.nanogpt is not None:
            nanogpt.copy_checkout(settings.nanogpt, checkout)
            entries.append(Entry(CASE, "nanogpt", partial(_learn_nanogpt, settings, checkout)))
        comparison = Comparison("wall_s", entries[0].side, "faster", more_is_better=False)
        results = Results("time-to-loss", settings, COLUMNS, comparison, facts=facts)
        results.measure(entries)


def _learn(settings: LossSettings, data: Path, config: Path, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as cache:
        how = settings.how(TORCHINDUCTOR_CACHE_DIR=cache)
        arguments = {"config": str(config), "data": str(data), "seed": seed}
        arguments |= {"steps": 5 if settings.quick else settings.steps, "device": settings.device}
        arguments |= {"compiled": settings.compile, "started": time.time()}
        return call("time_to_loss_ours:learn", arguments, how)


def _learn_nanogpt(settings: LossSettings, checkout: Path, _round: int) -> dict[str, Any]:
    return nanogpt.learn(checkout, settings.how(peer=True), nanogpt.TINY if settings.quick else ())


if __name__ == "__main__":
    start(main, LossSettings, __doc__)
