"""`torchrun ... -m scratchlm pretrain`, as a user starts it: what is printed, and a kill."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scratchlm.base.files import read_json
from scratchlm.checkpoint.folder import load_model
from scratchlm.training.metrics import read_metrics

pytestmark = pytest.mark.slow

CONFIG = """
[text]
paths = ["bundled:shakespeare"]
[tokenizer]
kind = "char"
[prepare]
split = "tail"
[data]
seq_len = 16
[model]
n_layers = 1
d_model = 32
n_heads = 2
max_seq_len = 16
dropout = 0.1
[schedule]
kind = "constant"
[train]
steps = 20
micro_batch = 4
precision = "float32"
eval_batches = 2
eval_every = 10
save_every = 5
"""


def torchrun(folder: Path, *options: str) -> subprocess.Popen[str]:
    (folder / "config.toml").write_text(CONFIG, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = ["-m", "scratchlm", "pretrain", "config.toml", "--out", "run", "--device", "cpu"]
    return subprocess.Popen(
        [*command, *words, *options],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


@pytest.mark.parametrize("shard", ["1", "2"])
def test_two_processes_train_one_model_and_speak_once(shard, tmp_path):
    process = torchrun(tmp_path, "--parallel.shard", shard)
    out, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    assert Path(out.strip()) == Path("run/model")
    for once in ("device: cpu", "training done: 20 steps", "ended after step 20"):
        assert errors.count(once) == 1, errors
    assert "Traceback" not in errors
    assert "Warning" not in errors
    facts = read_json(tmp_path / "run" / "run.json")
    assert facts["processes"] == {"data": 2 // int(shard), "shard": int(shard)}
    assert load_model(tmp_path / "run" / "model").n_parameters() == facts["parameters"]


def test_an_error_of_the_settings_is_told_once(tmp_path):
    process = torchrun(tmp_path, "--train.micro-batch", "3")
    _, errors = process.communicate(timeout=200)
    assert process.returncode != 0
    assert len(re.findall(r"error: a step of 3 rows .* cannot be dealt evenly", errors)) == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_process_ends_the_others_and_the_run_goes_on_exactly(tmp_path):
    (tmp_path / "unbroken").mkdir()
    process = torchrun(tmp_path / "unbroken", "--parallel.shard", "2")
    assert process.wait(timeout=200) == 0
    process = torchrun(tmp_path, "--parallel.shard", "2", "--train.steps", "1000000")
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not metrics.exists() or len(read_metrics(tmp_path / "run")) < 7:
        time.sleep(0.01)
    os.kill(youngest_child(process.pid), signal.SIGKILL)
    _, errors = process.communicate(timeout=100)
    assert process.returncode != 0
    assert "SIGKILL" in errors
    process = torchrun(tmp_path, "--parallel.shard", "2")
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    assert "resuming from" in errors
    runs = tmp_path / "run", tmp_path / "unbroken" / "run"
    losses = [[line.get("loss_nats") for line in read_metrics(run)] for run in runs]
    assert losses[0] == losses[1]


def youngest_child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()[-1])
