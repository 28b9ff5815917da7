"""Peak memory: training as configs/tinystories-llama.toml says, and writing with its model.

    python benchmarks/memory.py

Tiny shakespeare stands in for TinyStories; five steps, an evaluation and a checkpoint are all that
memory depends on. torch.compile's helper processes, where a config asks for it, are not counted.
"""

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from common import Column, Entry, Results, Settings, must_exist, start
from process import ROOT, call, run
from startup import generate_command, llama_7m

N_STEPS = 5
N_TOKENS = 200
COLUMNS = (
    Column("MB at most", "peak_memory_mb", spread=True),
    Column("tokens/s", "tokens_per_s"),
)


@dataclass(frozen=True)
class MemorySettings(Settings):
    """What to train."""

    config: Path = ROOT / "configs" / "tinystories-llama.toml"  # a config with a trained tokenizer


def main(settings: MemorySettings) -> None:
    """Measure everything and write the results."""
    must_exist(settings.config)
    with tempfile.TemporaryDirectory() as folder:
        data, model = str(Path(folder) / "data"), str(Path(folder) / "model")
        tokenizer = llama_7m()["tokenizer"]
        call("stand_ins:shards", {"folder": data, "tokenizer": tokenizer}, settings.how())
        facts = call("stand_ins:random_model", {"folder": model, **llama_7m()}, settings.how())
        entries = [
            Entry("train", "ours", partial(_train, settings, data)),
            Entry("generate", "ours", partial(_generate, settings, model)),
        ]
        Results("memory", settings, COLUMNS, facts=facts).measure(entries)


def _train(settings: MemorySettings, data: str, _round: int) -> dict[str, Any]:
    arguments = {"config": str(settings.config), "data": data, "steps": N_STEPS}
    return call("memory_ours:train", arguments, settings.how())


def _generate(settings: MemorySettings, model: str, _round: int) -> dict[str, Any]:
    return run(generate_command(model, N_TOKENS), settings.how()).numbers()


if __name__ == "__main__":
    start(main, MemorySettings, __doc__)
