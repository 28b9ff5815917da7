"""SIGKILL at any moment, resume, and again: every loss and weight as if nothing had been.

Dropout, accumulation, packing, Muon, several loader threads and early stopping are all on.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from scratchlm.training.metrics import read_metrics

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")

CONFIG = """
[text]
paths = ["{text}"]
[tokenizer]
kind = "char"
[prepare]
workers = 1
[data]
seq_len = 32
rows = "packed"
workers = 3
[model]
n_layers = 2
d_model = 32
n_heads = 2
max_seq_len = 32
dropout = 0.2
[optim]
optimizer = "muon"
lr = 0.02
momentum_warmup = 20
[schedule]
kind = "wsd"
warmup = 5
[train]
steps = {steps}
micro_batch = 4
accumulate = 2
precision = "{precision}"
eval_every = 7
eval_batches = 5
sample_every = 25
save_every = 5
patience = 50
"""


def start(config: Path, run: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "scratchlm.cli.main", "pretrain", config, "--out", run]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def finish(config: Path, run: Path) -> None:
    process = start(config, run)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors.decode()


def kill_at_random(config: Path, run: Path, rng: random.Random, longest: float) -> None:
    """Start, wait for training (the first metrics of this process), kill at a random moment."""
    process = start(config, run)
    metrics = run / "metrics.jsonl"
    began = metrics.stat().st_mtime_ns if metrics.exists() else 0
    while process.poll() is None and (not metrics.exists() or metrics.stat().st_mtime_ns == began):
        time.sleep(0.002)
    time.sleep(rng.random() * longest)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def numbers(run: Path) -> list[tuple[int, str, float]]:
    """(step, what, value) of everything in the metrics that does not measure time or memory."""
    kinds = ("loss_nats", "grad_norm", "lr", "val_loss_nats", "sample", "tokens_seen")
    return [(m["step"], kind, m[kind]) for m in read_metrics(run) for kind in kinds if kind in m]


def weights(run: Path) -> dict[str, bytes]:
    return {k: v.tobytes() for k, v in load_file(run / "model" / "model.safetensors").items()}


def compare_with_unbroken(folder: Path, *, kills: int, steps: int, precision: str, seed: int):
    text = folder / "text.txt"
    rng = random.Random(seed)
    words = ["to", "be", "or", "not", "明月", "光", "that", "is"]
    text.write_text(
        "\n".join(" ".join(rng.choices(words, k=9)) for _ in range(400)), encoding="utf-8"
    )
    config = folder / "config.toml"
    config.write_text(
        CONFIG.format(text=text.as_posix(), steps=steps, precision=precision), encoding="utf-8"
    )
    finish(config, folder / "unbroken")
    for _ in range(kills):
        kill_at_random(config, folder / "killed", rng, longest=0.8)
    finish(config, folder / "killed")
    assert numbers(folder / "killed") == numbers(folder / "unbroken")
    assert weights(folder / "killed") == weights(folder / "unbroken")


def test_four_kills_leave_no_trace(tmp_path):
    compare_with_unbroken(tmp_path, kills=4, steps=60, precision="bfloat16", seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("seed", [2, 3])
def test_many_kills_leave_no_trace(tmp_path, precision, seed):
    compare_with_unbroken(tmp_path, kills=34, steps=600, precision=precision, seed=seed)
