"""How fast BLiMP and LAMBADA are scored beside lm-evaluation-harness, and whether equally.

    python benchmarks/evaluation.py --model SMOLLM2 --data DATA --peer-python PEERS/bin/python

Every side gets the same contexts and continuations and returns their log-probabilities, in float32
on the CPU; the time is from the first request to the last answer, encoding included, loading the
model not. The harness runs its own backend for transformers (HFLM) with batches of 16, and with
batch_size="auto". Then the answers of the last rounds are compared item by item: an item differs
where the sides disagree on whether it is right, and its margin is how far the right choice is from
the best other one.
"""

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from common import Column, Comparison, Entry, Results, Settings, must_exist, start
from process import MeasurementError, call
from scratchlm.base.errors import ConfigError
from scratchlm.base.files import read_json

COLUMNS = (
    Column("seconds", "seconds", ".1f", spread=True),
    Column("requests/s", "requests_per_s", ",.0f"),
    Column("right", "right", ".2%"),
    Column("perplexity", "perplexity", ".3f"),
    Column("items that differ", "n_differ", ",.0f"),
    Column("their largest margin", "largest_margin", ".1e"),
    Column("largest difference in nats", "largest_difference", ".1e"),
    Column("MB of memory at most", "peak_memory_mb"),
)
SIDES = {"lm-eval, 16": 16, "lm-eval, auto": "auto"}


@dataclass(frozen=True)
class EvaluationSettings(Settings):
    """What to score."""

    model: Path | None = None  # a model folder that transformers can load as well
    data: Path | None = None  # a folder that holds blimp and lambada, as `corpus get` brings them
    pairs: int = 100  # of each of BLiMP's 67 paradigms; 0: all 1,000
    passages: int = 500  # of LAMBADA; 0: all 5,153
    sides: tuple[str, ...] = tuple(SIDES)  # beside ours


def main(settings: EvaluationSettings) -> None:
    """Measure everything and write the results."""
    if settings.model is None or settings.data is None:
        raise ConfigError("--model and --data are missing: name a model folder and the data.")
    must_exist(settings.model, settings.data)
    limits = {"blimp": settings.pairs, "lambada": settings.passages}
    if settings.quick:
        limits = {"blimp": 1, "lambada": 8}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        asked = {"data": str(settings.data), "limits": limits, "out": folder}
        facts = call("evaluation_ours:write_requests", asked, settings.how())
        entries = []
        for task in limits:
            for side in ("ours", *settings.sides):
                entries.append(Entry(task, side, partial(_score, settings, task, side, place)))
            for side in settings.sides:
                compared = partial(_compare, task, side, place)
                entries.append(Entry(task, f"ours and {side}", compared))
        comparison = Comparison("seconds", "ours", "faster", more_is_better=False)
        Results("evaluation", settings, COLUMNS, comparison, facts=facts).measure(entries)


def _score(
    settings: EvaluationSettings, task: str, side: str, place: Path, _round: int
) -> dict[str, Any]:
    asked = {
        "model": str(settings.model),
        "requests": str(place / f"{task}.json"),
        "out": str(place / f"{task} by {side}.json"),
    }
    if side == "ours":
        return call("evaluation_ours:score", asked, settings.how())
    asked["batch_size"] = SIDES[side]  # type: ignore[assignment]
    how = settings.how(peer=True, HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="true")
    return call("evaluation_peers:score_by_hflm", asked, how)


def _compare(task: str, side: str, place: Path, _round: int) -> dict[str, Any]:
    """What the newest answers of ours and of another side have in common."""
    files = [place / f"{task} by {one}.json" for one in ("ours", side)]
    if not all(file.is_file() for file in files):
        raise MeasurementError("there are no answers to compare yet")
    ours, theirs = (read_json(file, MeasurementError) for file in files)
    differ = [
        {"item": a["id"], "ours": a["margin"], "theirs": b["margin"]}
        for a, b in zip(ours, theirs, strict=True)
        if a["right"] != b["right"]
    ]
    nats = [
        abs(x - y)
        for a, b in zip(ours, theirs, strict=True)
        for x, y in zip(a["nats"], b["nats"], strict=True)
    ]
    margins = [abs(one[name]) for one in differ for name in ("ours", "theirs")]
    return {
        "n_items": len(ours),
        "n_differ": len(differ),
        "differ": differ,
        "largest_margin": max(margins, default=0.0),
        "largest_difference": max(nats),
    }


if __name__ == "__main__":
    start(main, EvaluationSettings, __doc__)
