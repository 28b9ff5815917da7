"""How far `plan` is from what a run then takes: time, from process to model, and peak memory.

    python benchmarks/plan.py --rounds 5 --priority

Each round plans a run and then runs it, in processes of their own: some steps of a config on tiny
shakespeare, with two evaluations, two samples and two checkpoints. Shards are made beforehand.
"""

import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from common import Column, Entry, Results, Settings, start
from process import ROOT, call, run

COLUMNS = (
    Column("time: measured / planned", "time_ratio", ".3f", spread=True),
    Column("s planned", "planned_s", ".1f", spread=True),
    Column("s measured", "measured_s", ".1f", spread=True),
    Column("memory: measured / planned", "memory_ratio", ".3f", spread=True),
    Column("MB planned", "planned_mb"),
    Column("MB measured", "peak_memory_mb"),
    Column("parameters", "parameters"),
)


@dataclass(frozen=True)
class Case:
    """A config, and how much of it is run.

    changes   of its sections, as `RunConfig.replace` takes them: {"train": {"steps": 40}}
    """

    config: str
    steps: int
    tokenizer: dict[str, Any]
    changes: dict[str, dict[str, Any]]


BPE = {"kind": "bpe", "vocab_size": 2048}
CASES = {
    "1.8M": Case("fast", 1200, {"kind": "char"}, {}),
    "7M": Case("tinystories-llama", 40, {"kind": "sentencepiece-bpe", "vocab_size": 4096}, {}),
    "26M": Case("medium", 12, BPE, {}),
    "124M": Case(
        "gpt2-124m",
        6,
        {"kind": "gpt2"},
        {"train": {"micro_batch": 2, "accumulate": 2, "compile": False}},
    ),
}


@dataclass(frozen=True)
class PlanSettings(Settings):
    """What to plan."""

    rounds: int = 5  # plans, each followed by its run
    sizes: tuple[str, ...] = tuple(CASES)  # of these


def main(settings: PlanSettings) -> None:
    """Measure everything and write the results."""
    with tempfile.TemporaryDirectory() as folder:
        entries = []
        for name in settings.sizes:
            case = CASES[name]
            place = Path(folder) / case.config
            arguments = {
                "folder": str(place),
                "tokenizer": case.tokenizer,
                "config": str(ROOT / "configs" / f"{case.config}.toml"),
                "steps": 2 if settings.quick else case.steps,
                "changes": case.changes,
            }
            call("plan_ours:make", arguments, settings.how())
            entries.append(Entry(name, case.config, partial(_measure, settings, place)))
        Results("plan", settings, COLUMNS).measure(entries)


def _measure(settings: PlanSettings, place: Path, number: int) -> dict[str, Any]:
    config = str(place / "config.toml")
    planned = call("plan_ours:planned", {"config": config}, settings.how())
    out = str(place / f"run-{number}")
    command = [sys.executable, "-m", "scratchlm", "pretrain", config, "--out", out]
    ended = run([*command, "--device", "cpu"], settings.how())
    assert ended.peak_memory_mb is not None
    return {
        **planned,
        "measured_s": ended.seconds,
        "time_ratio": ended.seconds / planned["planned_s"],
        "peak_memory_mb": ended.peak_memory_mb,
        "memory_ratio": ended.peak_memory_mb / planned["planned_mb"],
    }


if __name__ == "__main__":
    start(main, PlanSettings, __doc__)
