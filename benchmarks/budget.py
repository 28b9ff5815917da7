"""`build --budget` beside fixed configs that are given the same time, on several texts.

    python benchmarks/budget.py --texts bundled:shakespeare bundled:tang code.txt --budgets 3m

The last tenth of each text is held out from all sides and read once, at the end. A round is a seed.
Fixed configs hold and cool by the clock as `build` does; model, vocabulary and batch are fixed. A
vocabulary of characters is learned from the whole text, since it could not write the tail else.
Each text and budget has results of its own.
"""

import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from common import Column, Comparison, Entry, Results, Settings, must_exist, start
from process import call
from scratchlm.base.duration import parse_duration
from scratchlm.corpus import bundled

COLUMNS = (
    Column("bits per byte", "bits_per_byte", ".4f", spread=True),
    Column("s from process start to the model", "wall_s", ".1f", spread=True),
    Column("share of the budget", "share", ".3f", spread=True),
    Column("expected bits per byte", "expected", ".2f"),
    Column("parameters", "parameters"),
    Column("steps", "steps"),
)


@dataclass(frozen=True)
class BudgetSettings(Settings):
    """What to train on, and how long."""

    texts: tuple[str, ...] = ("bundled:shakespeare", "bundled:tang")  # files, or bundled:NAME
    budgets: tuple[str, ...] = ("3m",)  # of all of it: 3m, 10m
    configs: tuple[Path, ...] = (Path("configs/fast.toml"), Path("configs/prepared.toml"))  # fixed


def main(settings: BudgetSettings) -> None:
    """Train everything and write the results."""
    must_exist(*settings.configs)
    sides = {"build": ""} | {c.stem: str(c.resolve()) for c in settings.configs}
    comparison = Comparison("bits_per_byte", "build", "lower", more_is_better=False)
    with tempfile.TemporaryDirectory() as folder:
        for text in settings.texts:
            name = text.removeprefix("bundled:").rpartition("/")[2].removesuffix(".txt")
            files = _divide(bundled.resolve(text), Path(folder) / name)
            for budget in settings.budgets:
                entries = [
                    Entry(f"{name}, {budget}", side, partial(_learn, settings, files, budget, toml))
                    for side, toml in sides.items()
                ]
                results = Results(f"budget-{name}-{budget}", settings, COLUMNS, comparison)
                results.measure(entries)


def _divide(path: Path, folder: Path) -> dict[str, str]:
    """Write the text's first nine tenths and its last into two files; returns their places."""
    text = path.read_text(encoding="utf-8")
    folder.mkdir()
    cut = int(0.9 * len(text))
    for name, part in (("train", text[:cut]), ("tail", text[cut:])):
        (folder / f"{name}.txt").write_text(part, encoding="utf-8")
    return {"text": str(folder / "train.txt"), "tail": str(folder / "tail.txt")}


def _learn(
    settings: BudgetSettings, files: dict[str, str], budget: str, config: str, seed: int
) -> dict[str, Any]:
    budget = "15s" if settings.quick else budget
    arguments = {**files, "budget": budget, "config": config, "seed": seed, "started": time.time()}
    found = call("budget_ours:learn", arguments, settings.how())
    return {**found, "share": found["wall_s"] / parse_duration(budget)}


if __name__ == "__main__":
    start(main, BudgetSettings, __doc__)
