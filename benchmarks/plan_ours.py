"""The runs that the benchmark of `plan` plans."""

from pathlib import Path
from typing import Any

from scratchlm.base.config import read_toml, write_toml
from scratchlm.data.loader import SourceConfig
from scratchlm.recipes.plan import plan
from scratchlm.recipes.run_config import RunConfig
from stand_ins import shards


def make(
    folder: str,
    tokenizer: dict[str, Any],
    config: str,
    steps: int,
    changes: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """Write shards, and the config of a run on them that does everything twice."""
    place = Path(folder)
    place.mkdir()
    made = shards(str(place / "data"), tokenizer)
    half = max(1, steps // 2)
    settings = read_toml(RunConfig, Path(config))
    settings = settings.replace("data", sources=(SourceConfig(place / "data"),))
    settings = settings.replace("text", paths=())
    settings = settings.replace(
        "train", steps=steps, eval_every=half, eval_batches=8, sample_every=half, save_every=half
    )
    for section, values in changes.items():
        settings = settings.replace(section, **values)
    write_toml(place / "config.toml", settings)
    return made


def planned(config: str) -> dict[str, Any]:
    """What `plan` says."""
    result = plan(read_toml(RunConfig, Path(config)), device="cpu")
    return {
        "planned_s": result.times.total,
        "planned_mb": result.memory.total / 1e6,
        "parameters": result.parameters.total,
        "times": vars(result.times),
        "probe_mb": result.probe_memory / 1e6 if result.probe_memory else None,
    }
