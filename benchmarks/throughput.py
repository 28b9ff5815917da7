"""Tokens per second of training: ours beside litgpt, transformers and nanoGPT.

    python benchmarks/throughput.py --peer-python PEERS/bin/python --nanogpt CHECKOUT --priority

A side is project-precision[-compiled]. As shipped, that is without an edit, run on a CPU:
litgpt-bf16-compiled, transformers-fp32, nanogpt-fp32.
"""

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from common import Column, Comparison, Entry, Results, Settings, must_exist, start
from process import call
from shapes import SHAPES, Shape, tiny

ShapeName = Literal["char", "char-dropout", "llama288", "gpt2-124m"]
Side = Literal[
    "ours-bf16-compiled",
    "ours-bf16",
    "ours-fp32",
    "litgpt-bf16-compiled",
    "litgpt-bf16",
    "transformers-bf16-compiled",
    "transformers-bf16",
    "transformers-fp32",
    "nanogpt-bf16-compiled",
    "nanogpt-bf16",
    "nanogpt-fp32",
]
N_WARMUP = 3  # steps before the clock counts: compilation, the optimizer's state, the allocator
COLUMNS = (
    Column("tokens/s", "tokens_per_s", spread=True),
    Column("MFU", "mfu", ".1%"),
    Column("ms a step", "median_step_ms", ",.1f"),
    Column("s in the first step", "first_step_s", ".1f"),
    Column("MB at most", "peak_memory_mb"),
)


@dataclass(frozen=True)
class ThroughputSettings(Settings):
    """What to compare."""

    shapes: tuple[ShapeName, ...] = get_args(ShapeName)
    sides: tuple[Side, ...] = get_args(Side)  # the first is what the others are held against
    device: str = "cpu"  # cpu, or cuda with larger batches
    nanogpt: Path | None = None  # a checkout of nanoGPT; without it, its sides are left out
    steps: int = 0  # timed steps of a measurement; 0: the shape's own number


def main(settings: ThroughputSettings) -> None:
    """Measure everything and write the results."""
    if settings.nanogpt is not None:
        must_exist(settings.nanogpt / "model.py")
    how = settings.how()
    seconds = 0.1 if settings.quick else 2.0
    facts = call(
        "throughput_ours:look_at_device", {"device": settings.device, "seconds": seconds}, how
    )
    shapes = {name: _sized(SHAPES[name], settings) for name in settings.shapes}
    for name, shape in shapes.items():
        facts[name] = call("throughput_ours:flops_per_token", {"shape": vars(shape)}, how)
    results = Results(
        "throughput",
        settings,
        COLUMNS,
        Comparison("tokens_per_s", settings.sides[0], "faster"),
        facts=facts,
        device=facts["device"],
    )
    results.measure(
        Entry(name, side, partial(_measure, settings, facts, name, shape, side))
        for name, shape in shapes.items()
        for side in settings.sides
        if _exists(side, shape, settings)
    )


def _sized(shape: Shape, settings: ThroughputSettings) -> Shape:
    shape = tiny(shape) if settings.quick else shape
    return dataclasses.replace(shape, n_steps=settings.steps) if settings.steps else shape


def _exists(side: Side, shape: Shape, settings: ThroughputSettings) -> bool:
    """litgpt has no dropout, nanoGPT no Llama."""
    if side.startswith("litgpt"):
        return not shape.dropout
    if side.startswith("nanogpt"):
        return settings.nanogpt is not None and shape.family == "gpt2"
    return True


def _measure(
    settings: ThroughputSettings,
    facts: dict[str, Any],
    name: str,
    shape: Shape,
    side: Side,
    _round: int,
) -> dict[str, Any]:
    project, precision, *compiled = side.split("-")
    arguments = {
        "shape": vars(shape),
        "precision": precision,
        "compiled": bool(compiled),
        "device": settings.device,
        "n_warmup": N_WARMUP,
    }
    if project == "ours":
        measured = call("throughput_ours:train", arguments, settings.how())
    else:
        arguments |= {"project": project, "nanogpt": str(settings.nanogpt or "")}
        measured = call("throughput_peers:train", arguments, settings.how(peer=True))
    flops = measured["tokens_per_s"] * facts[name]["flops"]
    return measured | {"mfu": flops / facts["bf16_flops"]}


if __name__ == "__main__":
    start(main, ThroughputSettings, __doc__)
