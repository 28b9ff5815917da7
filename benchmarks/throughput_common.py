"""What both sides of the throughput benchmark share: the batches, and what is reported."""

import statistics
from typing import Any

import torch
from torch import Tensor

from shapes import Shape

N_BATCHES = 4


def random_batches(shape: Shape, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """A few (tokens, targets) of random ids, each (B, T) int64 on the CPU, alike for every side."""
    rows = shape.cuda_batch if device.type == "cuda" else shape.batch
    generator = torch.Generator().manual_seed(0)
    size = (N_BATCHES, rows, shape.seq_len + 1)
    ids = torch.randint(shape.vocab_size, size, generator=generator)
    return [(row[:, :-1].contiguous(), row[:, 1:].contiguous()) for row in ids]


def report(step_ms: list[float], n_warmup: int, n_tokens: int, device: str) -> dict[str, Any]:
    """What a measurement says: its steps, their median as tokens/s, memory, library, threads.

    step_ms    of all steps; the first `n_warmup` do not count
    n_tokens   in one step
    """
    median = statistics.median(step_ms[n_warmup:])
    facts: dict[str, Any] = {
        "tokens_per_s": n_tokens / median * 1e3,
        "median_step_ms": median,
        "first_step_s": step_ms[0] / 1e3,
        "warmup_ms": step_ms[:n_warmup],
        "step_ms": step_ms[n_warmup:],
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    if torch.device(device).type == "cuda":
        facts["peak_memory_mb"] = torch.cuda.max_memory_allocated(device) / 1e6
    return facts
