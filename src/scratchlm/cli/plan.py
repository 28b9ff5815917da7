"""`plan CONFIG.toml`: what a run will take, before it."""

import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from scratchlm.cli.command import ConfigCommand, Inline
from scratchlm.recipes.plan import plan
from scratchlm.recipes.plan_facts import Plan
from scratchlm.recipes.run_config import RunConfig

INDENT = 31  # of what stands behind the numbers
PARTS = {  # of the memory, in words
    "process": "the program",
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimizer",
    "copies": "weights' copies",
    "activations": "activations",
    "loss": "head and loss",
    "temporary": "temporary",
    "holes": "holes between them",
    "saving": "the copy that is saved",
}


@dataclass(frozen=True)
class PlanRun(ConfigCommand):
    """Say what a run will take: parameters, tokens, memory, disk, time; and what would help.

    Measures a few real training steps here and writes nothing. With --on it plans for hardware
    that is not here, from published rates. Each setting of the file is an option too.

    Examples:
      scratchlm plan configs/shakespeare-char.toml
      scratchlm plan configs/fast.toml --train.steps 5000 --probe-seconds 10
      scratchlm plan configs/gpt2-124m.toml --on a100x8
    """

    settings: Annotated[RunConfig, Inline]
    on: str | None = None  # hardware to plan for: h200, h100, a100x8, rtx4090, t4, m2-max, ...
    probe_seconds: float = 5.0  # how long to measure here, after a warm-up of two steps
    device: str | None = None  # cpu, cuda, cuda:1 or mps; none: the best there is

    def run(self) -> None:
        """Plan, and print the table."""
        made = plan(self.settings, self.on, device=self.device, probe_seconds=self.probe_seconds)
        print_plan(made)


def print_plan(made: Plan) -> None:
    """The table and the advice, on standard output."""
    width = max(60, shutil.get_terminal_size((100, 24)).columns)
    print(f"{'hardware':11} {made.hardware}")
    for name, value, details in rows(made):
        lines = textwrap.wrap(details, width - INDENT)
        print(f"{name:11} {value:>17}  {lines[0]}")
        for line in lines[1:]:
            print(" " * INDENT + line)
    for title, sentences in (("notes", made.notes), ("advice", made.advice)):
        if sentences:
            print(f"\n{title}")
        for sentence in sentences:
            print(textwrap.fill(sentence, width, initial_indent="- ", subsequent_indent="  "))


def rows(made: Plan) -> Iterator[tuple[str, str, str]]:
    """(what, how much, details) of each line."""
    train, parts = made.config.train, made.parameters
    head = f"head {parts.head:,}" if parts.head > 2 * made.config.model.d_model else "head tied"
    yield (
        "parameters",
        f"{parts.total:,}",
        f"embedding {parts.embedding:,}, blocks {parts.blocks:,}, {head}",
    )
    yield "tokens", f"{made.tokens:,}", _tokens(made)
    yield (
        "work",
        f"{_scaled(made.flops)}FLOP",
        f"{made.flops / made.tokens / 1e6:,.1f} MFLOP a token",
    )
    yield "memory", _bytes(made.memory.total), _memory(made)
    disk = made.disk
    shards = f"shards {_bytes(disk.shards)}, " if disk.shards else ""
    yield (
        "disk",
        _bytes(disk.total),
        f"{shards}checkpoints {_bytes(disk.checkpoints)}, model {_bytes(disk.model)}",
    )
    yield "time", rough(made.times.total), _times(made)
    if made.bits_per_byte and made.loss_nats:
        yield (
            "loss",
            f"~{made.loss_nats:.2f} nats",
            f"a token, {made.bits_per_byte:.2f} bits per byte, held out: by the rule for build's "
            "recipe, which is within a fifth on texts like those it was fitted to",
        )
    source = "measured here" if made.measured else "assumed"
    yield (
        "speed",
        f"{made.tokens_per_s:,.0f} tokens/s",
        f"{rough(made.step_s)} a step, MFU {made.mfu:.0%} of {_scaled(made.matmul_flops)}FLOP/s in "
        f"{train.precision}, {source}",
    )


def _tokens(made: Plan) -> str:
    steps = made.config.train.steps
    text = f"{steps:,} steps of {made.tokens // steps:,}"
    if made.readings is None:
        return text
    of = made.text.train
    return f"{text}; {made.readings:,.1f} readings of {of:,} ({made.text.source})"


def _memory(made: Plan) -> str:
    parts = [
        f"{word} {_bytes(size)}"
        for part, word in PARTS.items()
        if (size := vars(made.memory)[part])
    ]
    text = f"peak {made.memory.moment}: {', '.join(parts)}"
    if made.probe_memory:
        text += f"; {_bytes(made.probe_memory)} in the measured run, which saved nothing"
    return text + (f"; there are {_bytes(made.memory_limit)}" if made.memory_limit else "")


def _times(made: Plan) -> str:
    names = ("training", "evaluations", "samples", "saves", "start", "compilation")
    words = {"start": "start-up"}
    times = {name: getattr(made.times, name) for name in names}
    return ", ".join(f"{words.get(k, k)} {rough(v)}" for k, v in times.items() if v)


def rough(seconds: float) -> str:
    """A time that nobody needs to the second: 42 s, 12 minutes, 3.6 hours, 18 days, 2.1 years."""
    for size, unit in ((365.25 * 86400, "years"), (86400, "days"), (3600, "hours")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:,.1f} {unit}"
    if seconds >= 100:
        return f"{seconds / 60:.1f} minutes"
    return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.2g} s"


def _bytes(n: float) -> str:
    return f"{n / 1e9:,.2f} GB" if n >= 1e9 else f"{n / 1e6:,.0f} MB"


def _scaled(n: float) -> str:
    """A number with the prefix of its unit: 5.8 P."""
    for prefix, size in (("Z", 1e21), ("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9)):
        if n >= size:
            return f"{n / size:,.1f} {prefix}"
    return f"{n / 1e6:,.1f} M"
