"""What fine-tuning makes of a real model: spam, answers, preferences; and how long it takes.

    python benchmarks/finetuning.py --model SMOLLM2 --sms SMSSpamCollection \
        --instructions instruction-data.json --preferences instruction-data-with-preference.json \
        --own RUN --rounds 1

Each line is one `scratchlm finetune` with its usual settings, up to the written model (and its test
on a fifth of the texts); spam is read once (`--epochs 1 --test 0.2`). `--own` is a
small model of yours, for comparison. After training on instructions, all held-out questions are
answered greedily: the share that the end token ends is counted.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from common import Column, Entry, Results, Settings, must_exist, start
from process import call

COLUMNS = (
    Column("s", "wall_s", ".0f", spread=True),
    Column("held-out loss before, nats", "before", ".4f"),
    Column("after", "after", ".4f"),
    Column("accuracy, %", "accuracy", ".2f"),
    Column("F1", "f1", ".4f"),
    Column("answers that ended, %", "ended", ".1f"),
    Column("pairs the right way round, %", "right", ".1f"),
    Column("tokens/s", "tokens_per_s"),
    Column("MB at most", "memory_mb"),
)


@dataclass(frozen=True)
class FinetuningSettings(Settings):
    """Which model, and what it learns."""

    model: Path = Path("models/smollm2")  # SmolLM2-135M-Instruct, imported
    own: Path | None = None  # a small model of ours, for comparison
    sms: Path | None = None  # SMSSpamCollection
    instructions: Path | None = None  # Raschka's 1,100 instructions
    preferences: Path | None = None  # the same with chosen and rejected answers
    threads: int = 0  # of PyTorch; 0: as many as it likes
    timeout: float = 7200.0  # seconds after which one measurement is given up


def main(settings: FinetuningSettings) -> None:
    """Fine-tune everything and write the results."""
    given = [settings.sms, settings.instructions, settings.preferences]
    must_exist(settings.model, *(path for path in (*given, settings.own) if path))
    models = {settings.model.name: settings.model}
    if settings.own:
        models[f"own {settings.own.name}"] = settings.own
    entries = []
    for name, model in models.items():
        for lora in (True, False) if settings.own != model else (False,):
            side = f"{name}, {'LoRA' if lora else 'all weights'}"
            for case, job in _jobs(settings, lora).items():
                job = {**job, "model": str(model.resolve()), "lora": lora}
                entries.append(Entry(case, side, partial(_learn, settings, job)))
    Results("finetuning", settings, COLUMNS).measure(entries)


def _jobs(settings: FinetuningSettings, lora: bool) -> dict[str, dict[str, Any]]:
    """What is learned, by the name of the case; of adapters all, of all weights what is usual."""
    jobs: dict[str, dict[str, Any]] = {}
    limit = 400 if settings.quick else 0
    if (settings.sms and lora) or (settings.sms and settings.own):
        jobs["SMS spam"] = {"method": "classify", "data": str(settings.sms.resolve())}
    if settings.instructions:
        jobs["instructions"] = {"method": "sft", "data": str(settings.instructions.resolve())}
    if settings.preferences and lora:
        jobs["preferences"] = {"method": "dpo", "data": str(settings.preferences.resolve())}
    return {case: {**job, "limit": limit} for case, job in jobs.items()}


def _learn(settings: FinetuningSettings, job: dict[str, Any], number: int) -> dict[str, Any]:
    environment = {"OMP_NUM_THREADS": str(settings.threads)} if settings.threads else {}
    how = settings.how(**environment)
    return call("finetuning_ours:learn", {**job, "seed": 1337 + number}, how)


if __name__ == "__main__":
    start(main, FinetuningSettings, __doc__)
