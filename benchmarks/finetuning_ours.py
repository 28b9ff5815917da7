"""The fine-tuning that the benchmark looks at."""

import dataclasses
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from scratchlm.base.device import DTYPES, resolve_precision
from scratchlm.checkpoint.folder import load_model
from scratchlm.evaluation.classification import ClassScores
from scratchlm.evaluation.preference import PreferenceScores
from scratchlm.recipes.answers import answer_all
from scratchlm.recipes.finetune import finetune, prepare_lesson
from scratchlm.recipes.finetune_config import (
    ClassifyConfig,
    DpoConfig,
    FinetuneConfig,
    SftConfig,
)
from scratchlm.recipes.finetune_job import FinetuneJob
from scratchlm.recipes.load import find_model
from scratchlm.recipes.run_hooks import Score
from scratchlm.training.metrics import read_metrics
from scratchlm.training.parallel import Processes

KINDS: dict[str, Any] = {"classify": ClassifyConfig, "sft": SftConfig, "dpo": DpoConfig}
MORE: dict[str, dict[str, Any]] = {
    "classify": {"test": 0.2, "epochs": 1.0},  # the goal is ten minutes, testing included
    "sft": {},
    "dpo": {"skip_bad": True},  # six records have equal answers
}


def learn(
    method: str, data: str, model: str, lora: bool, seed: int, limit: int = 0
) -> dict[str, Any]:
    """Fine-tune with the method's usual settings; then what the model does on held-out examples.

    limit   first lines of a table, or records of a JSON list; 0: all
    """
    with tempfile.TemporaryDirectory() as folder:
        source = _first(Path(data), limit, Path(folder)) if limit else Path(data)
        config: FinetuneConfig = KINDS[method](Path(model), (source,), lora=lora, **MORE[method])
        config = dataclasses.replace(config, train=dataclasses.replace(config.train, seed=seed))
        out = Path(folder) / "run"
        before = _before(config, out)
        start = time.perf_counter()
        result = finetune(config, out, device="cpu")
        facts: dict[str, Any] = {"wall_s": time.perf_counter() - start, **_score(before, "before")}
        assert result.held_out is not None
        facts |= _score(result.held_out, "after")
        lines = [line for line in read_metrics(out) if "step_ms" in line]
        facts |= {
            "steps": result.step,
            "tokens_per_s": statistics.median(line["tokens_per_s"] for line in lines),
            "memory_mb": max(line["memory_mb"] for line in lines),
        }
        if method == "classify":
            test = json.loads((out / "test.json").read_text("utf-8"))
            facts |= {"accuracy": 100 * test["accuracy"], "f1": test["f1"], "texts": test["texts"]}
        if method == "sft":
            facts |= _answers(config, out)
        return facts


def _first(path: Path, n: int, folder: Path) -> Path:
    """The first records of a file, in a file of its own."""
    short = folder / path.name
    if path.suffix == ".json":
        short.write_text(json.dumps(json.loads(path.read_text("utf-8"))[: n // 4]), "utf-8")
    else:
        with path.open(encoding="utf-8") as lines:
            short.write_text("".join(itertools.islice(lines, n)), encoding="utf-8")
    return short


def _before(config: FinetuneConfig, out: Path) -> Score:
    """The held-out score of the model before it has learned anything."""
    device = torch.device("cpu")
    config, lesson = prepare_lesson(config)
    dtype, _ = resolve_precision("auto", device)
    name = next(name for name, kind in DTYPES.items() if kind == dtype)
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, precision=name))
    base = find_model(config.model)
    job = FinetuneJob(config, base, lesson, out, Processes.alone())
    model = job.make_model(None, device)
    model.compute_dtype = dtype
    assert job.validation is not None
    return job.score(model, job.validation.batches())


def _score(score: Score, when: str) -> dict[str, Any]:
    found: dict[str, Any] = {when: score.loss_nats}
    if when == "after" and isinstance(score, PreferenceScores):
        found |= {"right": 100 * score.reward_accuracy, "margin": score.reward_margin}
    if when == "after" and isinstance(score, ClassScores):
        found["validation_accuracy"] = 100 * score.accuracy
    return found


def _answers(config: FinetuneConfig, out: Path) -> dict[str, Any]:
    """The share of greedy answers to all held-out questions that the end token ends."""
    _, lesson = prepare_lesson(config)
    assert lesson.speaker is not None
    model = load_model(out / "model")
    answers = answer_all(
        model, lesson.tokenizer, lesson.speaker.template, lesson.held_out, n_tokens=256
    )
    n_ended = sum(answer.ended for answer in answers)
    return {"ended": 100 * n_ended / len(answers), "answers": len(answers)}
