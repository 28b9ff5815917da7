"""`bench`: this machine's speed, as a table to post."""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from scratchlm import __version__
from scratchlm.base import device as devices
from scratchlm.base.files import make_parent, write_json
from scratchlm.base.log import say
from scratchlm.base.runtime import describe_machine
from scratchlm.cli.command import INTERRUPTED, Command
from scratchlm.native.library import describe as describe_kernels
from scratchlm.recipes.bench import Row, bench_rows

HEAD = ("work", "model", "at once", "precision", "tokens/s", "MFU", "peak memory")


@dataclass(frozen=True)
class Bench(Command):
    """Measure how fast this machine trains and writes, as a table that you can post.

    Takes about a minute, in which nothing else should run. MFU is the share of the fastest
    matrix product that is measured here. Ctrl-C prints what was measured so far.

    Examples:
      scratchlm bench
      scratchlm bench --large --seconds 20 --json bench.json
    """

    seconds: float = 8.0  # of each row, start and warm-up apart
    large: bool = False  # train GPT-2 124M as well
    device: str | None = None  # cpu, cuda, cuda:1 or mps; none: the best there is
    json: Path | None = None  # a file for the same numbers

    def run(self) -> None:
        """Measure, and print the table."""
        if self.json is not None:
            make_parent(self.json)
        rows: list[Row] = []
        interrupted = False
        try:
            for row in bench_rows(seconds=self.seconds, device=self.device, large=self.large):
                rows.append(row)
        except KeyboardInterrupt:
            interrupted = True
            say("interrupted: these rows were measured")
        facts = machine_facts(self.device)
        print("\n".join([*facts.values(), "", *table(rows)]))
        if self.json is not None:
            write_json(self.json, {**facts, "rows": [dataclasses.asdict(row) for row in rows]})
        if interrupted:
            sys.exit(INTERRUPTED)


def machine_facts(device: str | None) -> dict[str, str]:
    """What the numbers hold for: machine, device, versions, kernels."""
    where, _ = devices.choose_device(device)
    on_gpu = where.type == "cuda"
    name = f"{where}: {torch.cuda.get_device_name(where)}" if on_gpu else str(where)
    versions = f"scratchlm {__version__}, PyTorch {torch.__version__}"
    facts = {"machine": describe_machine(), "device": name, "versions": versions}
    return facts if on_gpu else {**facts, "kernels": f"kernels: {describe_kernels()}"}


def table(rows: list[Row]) -> list[str]:
    """The rows as lines of Markdown."""
    lines = [HEAD, tuple("---" for _ in HEAD)]
    for row in rows:
        memory = f"{row.peak_memory / 1e6:,.0f} MB" if row.peak_memory else "not known"
        unit = "rows" if row.work == "train" else "texts" if row.n > 1 else "text"
        mfu = f"{row.mfu:.1%} of {row.matmul_flops / 1e12:,.2f} TFLOP/s"
        model = f"{row.model}, {row.parameters / 1e6:,.1f}M"
        n = f"{row.n} {unit}"
        lines.append((row.work, model, n, row.precision, f"{row.tokens_per_s:,.0f}", mfu, memory))
    return [f"| {' | '.join(cells)} |" for cells in lines]
