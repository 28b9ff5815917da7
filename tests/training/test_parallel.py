"""Several processes, one run: the same losses whatever their number, and resume with another one.

This file is also the program of the processes: four of them are started once, and take jobs.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scratchlm.base.config import from_dict
from scratchlm.base.errors import ConfigError
from scratchlm.checkpoint.folder import load_model
from scratchlm.recipes.pretrain import pretrain
from scratchlm.recipes.pretrain_job import PretrainJob
from scratchlm.recipes.run_config import RunConfig
from scratchlm.training.metrics import read_metrics
from scratchlm.training.objectives import NEXT_TOKEN
from scratchlm.training.parallel import ParallelConfig, own_device, share_of_step

N_PROCESSES = 4


def serve() -> None:
    """Do jobs until there are no more, one a line; each answer is a line too."""
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the run itself prints
    for line in sys.stdin:
        print(json.dumps(answer(**json.loads(line))), file=answers, flush=True)


def answer(
    rank: int, count: int, port: int, config: dict, out: str, poisoned: int | None = None
) -> dict:
    """Take part in a run as torchrun would tell; the process `poisoned` finds no finite loss."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    factor = float("nan") if rank == poisoned else 1.0
    PretrainJob.goal = replace(NEXT_TOKEN, total=lambda *batch: NEXT_TOKEN.total(*batch) * factor)
    try:
        result = pretrain(from_dict(RunConfig, config), out, device="cpu")
        return {"reason": result.reason, "step": result.step}
    except Exception as error:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        return {"error": f"{type(error).__name__}: {error}"}


class Pool:
    """Processes that are started once, since each needs seconds to import PyTorch."""

    def __init__(self) -> None:
        self.workers = [
            subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # The kernels serve whole weights alone, and round otherwise than PyTorch.
                env={**os.environ, "OMP_NUM_THREADS": "1", "SCRATCHLM_NATIVE": "off"},
                encoding="utf-8",
            )
            for _ in range(N_PROCESSES)
        ]

    def begin(self, count: int, config: dict, out: Path, **options) -> None:
        """Let so many processes begin `pretrain`."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        for rank, worker in enumerate(self.workers[:count]):
            job = {"rank": rank, "count": count, "port": port, "config": config, "out": str(out)}
            worker.stdin.write(json.dumps({**job, **options}) + "\n")
            worker.stdin.flush()

    def answers(self, count: int) -> list[dict]:
        """What came of the run in each of the processes."""
        return [json.loads(worker.stdout.readline()) for worker in self.workers[:count]]

    def pretrain(self, count: int, config: dict, out: Path, **options) -> list[dict]:
        """`begin`, and wait for the `answers`."""
        self.begin(count, config, out, **options)
        return self.answers(count)

    def losses(self, count: int, config: dict, out: Path) -> list[dict]:
        """The metrics of a run that must succeed."""
        answers = self.pretrain(count, config, out)
        assert all("error" not in answer for answer in answers), answers
        return read_metrics(out)


@pytest.fixture(scope="module")
def pool():
    pool = Pool()
    yield pool
    for worker in pool.workers:
        worker.kill()
        worker.communicate()


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    """Documents of 1 to 30 characters: padded rows, each with another number of targets."""
    path = tmp_path_factory.mktemp("text") / "short.jsonl"
    documents = ["abcdefgh ijklmnopqrst uvwxyz!"[: 1 + (i * i) % 30] for i in range(400)]
    path.write_text("".join(json.dumps({"text": d}) + "\n" for d in documents), encoding="utf-8")
    return path


def make_config(text: Path, **sections) -> dict:
    config = {
        "text": {"paths": [str(text)]},
        "tokenizer": {"kind": "char"},
        "prepare": {"workers": 1, "val_fraction": 0.1},
        "data": {"seq_len": 16, "rows": "padded"},
        "model": {"n_layers": 2, "d_model": 32, "n_heads": 2, "max_seq_len": 16},
        "schedule": {"warmup": 2},
        "optim": {"lr": 1e-3},
        "train": {
            "steps": 6,
            "micro_batch": 4,
            "accumulate": 2,
            "precision": "float32",
            "eval_every": 3,
            "save_every": 3,
        },
    }
    for section, values in sections.items():
        config[section] = {**config.get(section, {}), **values}
    return config


def measured(metrics: list[dict], name: str) -> torch.Tensor:
    return torch.tensor([line[name] for line in metrics if name in line], dtype=torch.float64)


MUON = {"optimizer": "muon", "lr": 0.02}
SPREADS = {
    "2 copies": (2, {}),
    "4 copies": (4, {}),
    "2 shards": (2, {"shard": 2}),
    "4 shards": (4, {"data": 1, "shard": 0}),
    "2 copies of 2 shards": (4, {"shard": 2}),
}


SLOW = [("muon", "2 copies"), ("muon", "4 copies"), ("muon", "4 shards"), ("adamw", "4 shards")]
RUNS = [
    pytest.param(optimizer, spread, marks=[pytest.mark.slow] * ((optimizer, spread) in SLOW))
    for optimizer in ("adamw", "muon")
    for spread in SPREADS
]


@pytest.fixture(scope="module")
def alone(pool, text, tmp_path_factory):
    """The config and the metrics of a run on one process, for each optimizer."""
    runs = {}
    for name, optim in (("adamw", {}), ("muon", MUON)):
        config = make_config(text, optim=optim)
        runs[name] = config, pool.losses(1, config, tmp_path_factory.mktemp(name) / "run")
    return runs


@pytest.mark.parametrize(("optimizer", "spread"), RUNS)
def test_any_number_of_processes_gives_the_same_losses(alone, optimizer, spread, pool, tmp_path):
    config, expected = alone[optimizer]
    count, parallel = SPREADS[spread]
    metrics = pool.losses(count, {**config, "parallel": parallel}, tmp_path / "run")
    # Muon makes its steps orthogonal in bfloat16: a gradient that is rounded to the other side
    # moves a weight by 2**-8 of its step. One process that adds in another order differs as much
    # (measured: 2.4e-4 in the loss and 1.4e-3 in the norm within six steps).
    atol = 5e-3 if optimizer == "muon" else 1e-5
    for name in ("loss_nats", "val_loss_nats", "grad_norm"):
        a, b = measured(expected, name), measured(metrics, name)
        torch.testing.assert_close(a, b, rtol=0, atol=atol)
    first_steps = (measured(m, "loss_nats")[:2] for m in (expected, metrics))
    torch.testing.assert_close(*first_steps, rtol=0, atol=1e-5)
    for name in ("tokens_seen", "lr"):
        assert torch.equal(measured(expected, name), measured(metrics, name))


ROWS = {  # how four processes share the rows of a step, and a short batch that leaves some none
    "whole micro-batches": {"train": {"micro_batch": 1, "accumulate": 4}},
    "rows": {"train": {"micro_batch": 4, "accumulate": 1}},
    "a short batch": {
        "train": {"micro_batch": 8, "accumulate": 1, "steps": 46, "save_every": 0},
        "data": {"last_batch": "keep"},
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("spread", ["4 copies", "2 copies of 2 shards"])
def test_the_losses_are_the_same_however_the_rows_are_dealt(rows, spread, pool, text, tmp_path):
    config = make_config(text, **ROWS[rows])
    expected = pool.losses(1, config, tmp_path / "alone")
    count, parallel = SPREADS[spread]
    metrics = pool.losses(count, {**config, "parallel": parallel}, tmp_path / "run")
    for name in ("loss_nats", "val_loss_nats"):
        a, b = measured(expected, name), measured(metrics, name)
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4 if rows == "a short batch" else 1e-5)


def test_a_run_goes_on_with_any_other_number_of_processes(pool, text, tmp_path):
    config = make_config(text, schedule={"kind": "constant"}, train={"save_every": 1})
    expected = pool.losses(1, config, tmp_path / "alone")
    order = ["4 shards", "2 copies", "2 copies of 2 shards", "alone", "2 shards", "4 copies"]
    for step, spread in enumerate(order, 1):
        count, parallel = SPREADS.get(spread, (1, {}))
        part = {**config, "parallel": parallel, "train": {**config["train"], "steps": step}}
        metrics = pool.losses(count, part, tmp_path / "run")
    for name in ("loss_nats", "grad_norm"):
        a, b = measured(expected, name), measured(metrics, name)
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
    weights = [load_model(tmp_path / run / "model").state_dict() for run in ("alone", "run")]
    for name, weight in weights[0].items():  # 1e-4: a tenth of one of Adam's steps
        torch.testing.assert_close(weight, weights[1][name], rtol=0, atol=1e-4, msg=name)


@pytest.mark.parametrize("spread", [pytest.param("2 copies", marks=pytest.mark.slow), "2 shards"])
def test_a_run_goes_on_exactly_with_as_many_processes(spread, pool, text, tmp_path):
    config = make_config(text, model={"dropout": 0.2}, schedule={"kind": "constant"}, optim=MUON)
    count, config["parallel"] = SPREADS[spread]
    expected = pool.losses(count, config, tmp_path / "unbroken")
    for steps in (3, 6):
        config["train"] = {**config["train"], "steps": steps}
        metrics = pool.losses(count, config, tmp_path / "broken")
    for name in ("loss_nats", "val_loss_nats", "grad_norm"):
        assert torch.equal(measured(expected, name), measured(metrics, name)), name


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGTERM to a handler")
def test_a_signal_to_one_process_stops_all_after_the_same_step(pool, text, tmp_path):
    config = make_config(text, train={"steps": 100_000, "eval_every": 0, "save_every": 0})
    out = tmp_path / "run"
    pool.begin(2, config, out)
    while len(read_metrics(out)) < 3:
        time.sleep(0.05)
    pool.workers[1].send_signal(signal.SIGTERM)
    answers = pool.answers(2)
    step = read_metrics(out)[-1]["step"]
    assert answers == [{"reason": "SIGTERM", "step": step}] * 2
    assert [path.name for path in (out / "checkpoints").iterdir()] == [f"step-{step:08d}"]


@pytest.mark.parametrize("spread", ["2 copies", "2 shards"])
def test_a_loss_that_is_not_finite_on_one_process_stops_all(spread, pool, text, tmp_path):
    config = make_config(text)
    count, config["parallel"] = SPREADS[spread]
    answers = pool.pretrain(count, config, tmp_path / "run", poisoned=1)
    assert answers[0]["error"].startswith("NonFiniteError: step 1 was not taken: the loss is not")
    assert answers[0] == answers[1]
    [kept] = (tmp_path / "run" / "nonfinite").iterdir()
    assert len(json.loads(kept.read_text("utf-8"))) == 8  # rows of both


@pytest.mark.parametrize(
    ("values", "count", "error"),
    [
        ({"data": 2, "shard": 2}, 2, r"parallel.data = 2 and parallel.shard = 2 do not make 2 pro"),
        ({"shard": 2}, 1, r"parallel.data = 0 and .* do not make 1 processes.*torchrun"),
        ({"shard": 3}, 4, r"the other to one of 1, 2, 4\."),
        ({"data": 0, "shard": 0}, 1, r"are both 0: set one of them"),
        ({"data": -1}, 1, r"parallel.data = -1 must not be negative"),
    ],
)
def test_processes_that_cannot_be_arranged_are_refused(values, count, error):
    with pytest.raises(ConfigError, match=error):
        ParallelConfig(**values).resolved(count)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12))
def test_every_row_of_a_step_is_dealt_once(micro_batch, accumulate, count):
    if micro_batch * accumulate % count:
        with pytest.raises(ConfigError, match=r"cannot be dealt evenly to \d+ processes. Make it"):
            share_of_step(micro_batch, accumulate, 0, count)
        return
    shares = [share_of_step(micro_batch, accumulate, rank, count) for rank in range(count)]
    dealt = [
        (n, row)
        for share in shares
        for n in range(share.first, accumulate, share.every)
        for row in range(share.rank, micro_batch, share.of)
    ]
    assert sorted(dealt) == [(n, row) for n in range(accumulate) for row in range(micro_batch)]


@pytest.mark.parametrize("wanted", ["cuda:1", "mps"])
def test_several_processes_are_not_put_on_one_device(wanted, monkeypatch):
    for name, value in {"RANK": 1, "LOCAL_RANK": 1, "WORLD_SIZE": 2, "MASTER_ADDR": "::1"}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(ConfigError, match=rf"device = '{wanted}' cannot be that of 2 processes"):
        own_device(wanted)
    assert own_device("cpu") == "cpu"


def test_without_a_launcher_a_device_is_left_as_it_is(monkeypatch):
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    assert own_device("cuda:1") == "cuda:1"
    assert own_device(None) is None


if __name__ == "__main__":
    serve()
