"""DeepSpeed's ZeRO: the losses of one process, and checkpoints that need no DeepSpeed."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scratchlm.base.config import from_dict, write_toml
from scratchlm.base.errors import ConfigError, MissingExtraError
from scratchlm.base.runtime import Launch
from scratchlm.recipes.run_config import RunConfig
from scratchlm.training.metrics import read_metrics
from scratchlm.training.parallel import ParallelConfig, Processes

THERE = importlib.util.find_spec("deepspeed") is not None
installed = pytest.mark.skipif(not THERE, reason="DeepSpeed is not installed")


def make_config(**sections) -> RunConfig:
    config = {
        "text": {"paths": ["bundled:shakespeare"]},
        "tokenizer": {"kind": "char"},
        "data": {"seq_len": 16},
        "model": {"n_layers": 2, "d_model": 32, "n_heads": 2, "max_seq_len": 16},
        "optim": {"lr": 1e-3},
        "schedule": {"kind": "constant", "warmup": 2},
        "train": {
            "steps": 8,
            "micro_batch": 4,
            "accumulate": 2,
            "precision": "float32",
            "eval_every": 4,
            "eval_batches": 2,
            "save_every": 4,
        },
    }
    for section, values in sections.items():
        config[section] = {**config.get(section, {}), **values}
    return from_dict(RunConfig, config)


def pretrain(folder: Path, config: RunConfig, count: int) -> list[dict]:
    """The metrics of a run of so many processes."""
    write_toml(folder / "config.toml", config)
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    words = ["-m", "scratchlm", "pretrain", "config.toml", "--out", "run", "--device", "cpu"]
    ended = subprocess.run(
        [sys.executable, *(torchrun if count > 1 else []), *words],
        cwd=folder,
        # The kernels serve whole weights alone, and round otherwise than PyTorch.
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1", "SCRATCHLM_NATIVE": "off"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip().endswith(str(Path("run/model")))
    return read_metrics(folder / "run")


def measured(metrics: list[dict], name: str) -> torch.Tensor:
    return torch.tensor([line[name] for line in metrics if name in line], dtype=torch.float64)


@installed
@pytest.mark.slow
@pytest.mark.parametrize(("count", "stage"), [(2, 1), (4, 2)])
def test_losses_and_norms_are_those_of_one_process(count, stage, tmp_path):
    (tmp_path / "one").mkdir()
    one = pretrain(tmp_path / "one", make_config(), 1)
    shared = pretrain(tmp_path, make_config(parallel={"zero": stage}), count)
    for name in ("loss_nats", "val_loss_nats", "grad_norm"):
        torch.testing.assert_close(measured(one, name), measured(shared, name), rtol=0, atol=1e-5)


@installed
@pytest.mark.slow
def test_a_run_goes_on_with_another_stage_and_without(tmp_path):
    (tmp_path / "unbroken").mkdir()
    unbroken = pretrain(tmp_path / "unbroken", make_config(train={"steps": 12}), 1)
    pretrain(tmp_path, make_config(train={"steps": 4}), 1)
    pretrain(tmp_path, make_config(parallel={"zero": 2}), 2)
    metrics = pretrain(tmp_path, make_config(train={"steps": 12}), 1)
    a, b = measured(unbroken, "loss_nats"), measured(metrics, "loss_nats")
    torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("sections", "complaint"),
    [
        ({"optim": {"optimizer": "muon"}}, r"parallel\.zero = 1 cuts weights into parts"),
        ({"train": {"precision": "float16"}}, "needs train.precision bfloat16 or float32"),
    ],
)
def test_what_zero_cannot_do_is_refused(sections, complaint):
    with pytest.raises(ConfigError, match=complaint):
        make_config(parallel={"zero": 1}, **sections)


def test_zero_and_shared_weights_exclude_each_other():
    with pytest.raises(ConfigError, match=r"parallel\.zero = 2 and parallel\.shard = 2 exclude"):
        ParallelConfig(shard=2, zero=2)


@pytest.mark.skipif(THERE, reason="DeepSpeed is installed")
def test_a_missing_deepspeed_says_what_to_install(monkeypatch):
    monkeypatch.setattr(Processes, "_meet", lambda _: None)
    with pytest.raises(MissingExtraError, match=r'pip install "scratchlm\[deepspeed\]"'):
        Processes(ParallelConfig(zero=1), Launch(0, 0, 2), torch.device("cpu"))
