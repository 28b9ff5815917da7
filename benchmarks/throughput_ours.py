"""Our side of the throughput benchmark: `Trainer`, as `scratchlm pretrain` uses it."""

import logging
from collections.abc import Iterator
from itertools import count
from typing import Any

import torch

from scratchlm.base.device import Precision, choose_device, matmul_flops
from scratchlm.base.log import LOGGER
from scratchlm.data.loader import Batch
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer
from scratchlm.training.optimizers import OptimConfig, ScheduleConfig
from scratchlm.training.trainer import TrainConfig, Trainer
from shapes import Shape
from throughput_common import random_batches, report

PRECISIONS: dict[str, Precision] = {"fp32": "float32", "bf16": "bfloat16"}


def model_config(shape: Shape) -> ModelConfig:
    """The shape in our words."""
    return ModelConfig(
        family=shape.family,
        vocab_size=shape.vocab_size,
        max_seq_len=shape.seq_len,
        n_layers=shape.n_layers,
        d_model=shape.d_model,
        n_heads=shape.n_heads,
        n_kv_heads=shape.n_kv_heads,
        d_ff=shape.d_ff,
        dropout=shape.dropout,
    )


class RefuseWarnings(logging.Handler):
    """A run that warns has fallen back, as when torch.compile fails: it measures something else."""

    def emit(self, record: logging.LogRecord) -> None:
        """Raise what is said."""
        raise RuntimeError(record.getMessage())


def train(
    shape: dict[str, Any], precision: str, compiled: bool, device: str, n_warmup: int
) -> dict[str, Any]:
    """Time whole steps of our trainer with AdamW and clipping."""
    LOGGER.addHandler(RefuseWarnings(logging.WARNING))
    size, where = Shape(**shape), torch.device(device)
    torch.manual_seed(0)
    model = Transformer(model_config(size))
    model.initialise()
    batches = [Batch(tokens, targets) for tokens, targets in random_batches(size, where)]
    step_ms: list[float] = []

    def endless(start: int) -> Iterator[Batch]:
        return (batches[n % len(batches)] for n in count(start))

    def note(trainer: Trainer) -> None:
        assert trainer.last is not None
        step_ms.append(trainer.last.step_ms)

    trainer = Trainer(
        model.to(where),
        endless,
        TrainConfig(
            steps=n_warmup + size.n_steps,
            micro_batch=len(batches[0].tokens),
            precision=PRECISIONS[precision],
            compile=compiled,
        ),
        OptimConfig(lr=6e-4),
        ScheduleConfig(kind="constant"),
        seq_len=size.seq_len,
        hooks=[(1, note)],
    )
    trainer.run()
    return report(step_ms, n_warmup, batches[0].tokens.numel(), device)


def look_at_device(device: str, seconds: float) -> dict[str, Any]:
    """The device's name, and the most bfloat16 FLOP/s that a matrix product reaches on it."""
    where, _ = choose_device(device)
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else ""
    return {"device": name, "bf16_flops": matmul_flops(where, torch.bfloat16, seconds)}


def flops_per_token(shape: dict[str, Any]) -> dict[str, Any]:
    """Floating-point operations of one training token, the same count for every side."""
    size = Shape(**shape)
    with torch.device("meta"):
        model = Transformer(model_config(size))
    return {"flops": model.flops_per_token(size.seq_len), "parameters": model.n_parameters()}
