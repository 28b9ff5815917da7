"""`bench`: how fast this machine trains and writes, as rows that can be compared and posted.

The models are those of benchmarks/shapes.py, with random weights and random ids.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from scratchlm.base import device as devices
from scratchlm.base.device import Precision
from scratchlm.base.errors import ConfigError
from scratchlm.base.progress import Progress
from scratchlm.data.loader import DataConfig
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer
from scratchlm.recipes.probe import probe_decoding, probe_training
from scratchlm.recipes.run_config import RunConfig, TextConfig
from scratchlm.training.optimizers import OptimConfig
from scratchlm.training.trainer import TrainConfig

SEQUENCES = (1, 8)  # that are written at once
WRITER = "llama288"


@dataclass(frozen=True)
class Shape:
    """A model, and the rows of one step on a CPU and on a GPU."""

    model: ModelConfig
    rows: int
    gpu_rows: int
    large: bool = False


SHAPES = {
    "char": Shape(
        ModelConfig("gpt2", vocab_size=65, max_seq_len=256, n_layers=6, d_model=384, n_heads=6),
        rows=16,
        gpu_rows=64,
    ),
    "llama288": Shape(
        ModelConfig(
            "llama",
            vocab_size=4096,
            max_seq_len=256,
            n_layers=8,
            d_model=288,
            n_heads=8,
            n_kv_heads=4,
            d_ff=768,
        ),
        rows=8,
        gpu_rows=128,
    ),
    "gpt2-124m": Shape(
        ModelConfig(
            "gpt2", vocab_size=50257, max_seq_len=1024, n_layers=12, d_model=768, n_heads=12
        ),
        rows=2,
        gpu_rows=32,
        large=True,
    ),
}


@dataclass(frozen=True)
class Row:
    """One line of the table.

    work          "train" or "write"
    n             rows of a step, or sequences that are written at once
    mfu           model flops per second / the fastest matrix product measured here, 0 to 1
    peak_memory   bytes, of a process that does nothing else, or of the GPU's tensors
    """

    work: str
    model: str
    parameters: int
    n: int
    precision: str
    tokens_per_s: float
    mfu: float
    matmul_flops: float
    peak_memory: int | None


def bench(*, seconds: float = 8.0, device: str | None = None, large: bool = False) -> list[Row]:
    """Measure training and writing on this machine; about a minute.

    seconds   of each row, its start and warm-up apart
    device    "cpu", "cuda:1", "mps"; None takes the best that is there
    large     GPT-2 124M as well: a minute more on a small CPU
    """
    return list(bench_rows(seconds=seconds, device=device, large=large))


def bench_rows(*, seconds: float, device: str | None, large: bool) -> Iterator[Row]:
    """`bench` row by row, so that an interrupted one has what was measured."""
    if not 0 < seconds < math.inf:
        raise ConfigError(f"seconds = {seconds} must be above 0, and finite.")
    where, _ = devices.choose_device(device)
    dtype, _ = devices.resolve_precision("auto", where)
    shapes = {name: shape for name, shape in SHAPES.items() if large or not shape.large}
    with Progress("measuring", len(shapes) + len(SEQUENCES), unit="rows") as progress:
        for name in shapes:
            yield _train(name, where, dtype, seconds)
            progress.advance(1)
        for n in SEQUENCES:
            yield _write(n, where, seconds)
            progress.advance(1)


def _train(name: str, where: torch.device, dtype: torch.dtype, seconds: float) -> Row:
    shape = SHAPES[name]
    n = shape.rows if where.type == "cpu" else shape.gpu_rows
    precision: Precision = "bfloat16" if dtype == torch.bfloat16 else "float32"
    config = RunConfig(
        text=TextConfig(("-",)),
        data=DataConfig(seq_len=shape.model.max_seq_len),
        model=shape.model,
        optim=OptimConfig(lr=6e-4),
        train=TrainConfig(micro_batch=n, precision=precision),
    )
    speed = probe_training(config, str(where), seconds)
    per_s = n * shape.model.max_seq_len / (speed.micro_batch + speed.update)
    parameters, flops = _size(shape.model)
    mfu = per_s * flops / speed.matmul_flops
    rate = speed.matmul_flops
    return Row("train", name, parameters, n, precision, per_s, mfu, rate, speed.peak_memory)


def _write(n: int, where: torch.device, seconds: float) -> Row:
    model = SHAPES[WRITER].model
    speed = probe_decoding(model, n, str(where), seconds)
    parameters, flops = _size(model)
    mfu = speed.tokens_per_s * flops / 3 / speed.matmul_flops  # a forward pass is a third
    per_s, rate = speed.tokens_per_s, speed.matmul_flops
    return Row("write", WRITER, parameters, n, "float32", per_s, mfu, rate, speed.peak_memory)


def _size(model: ModelConfig) -> tuple[int, float]:
    """Parameters, and operations of a training token at the whole context."""
    with torch.device("meta"):
        made = Transformer(model)
    return made.n_parameters(), made.flops_per_token(model.max_seq_len)
