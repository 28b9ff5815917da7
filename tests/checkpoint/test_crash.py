"""Kills and full disks at any moment cost at most the checkpoint that was being written.

Run as a program, this file is the one that gets killed: for each line on standard input, a run's
folder, it forks a child whose id it prints, and which saves step after step until it dies. So one
process pays for importing torch, and many are killed.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from scratchlm.base.errors import CheckpointError
from scratchlm.checkpoint.folder import load_model, write_model_files
from scratchlm.checkpoint.state import CheckpointStore
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and limits of POSIX")


def model_of(step: int) -> Transformer:
    """A small model whose every weight is the number of the step."""
    model = Transformer(ModelConfig(vocab_size=16, max_seq_len=8, n_layers=1, d_model=8, n_heads=2))
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(step)
    return model


def state_of(step: int) -> dict[str, Any]:
    """What is saved at a step: 200 kB, so that many kills fall into the writing."""
    return {"step": step, "moments": [torch.full((50_000,), float(step)), torch.tensor(step)]}


def save(store: CheckpointStore, step: int, *, best: bool = False) -> None:
    def fill(folder: Path) -> None:
        write_model_files(folder, model_of(step), None)

    store.save(step, fill, state_of(step), best=best)


def save_for_ever(run: Path) -> None:
    """Go on from the newest; every third step is the best so far, every fifth is saved twice."""
    store = CheckpointStore(run)
    newest = store.newest()
    step = store.load(newest)["step"] if newest else 0
    while True:
        step += 1
        for _ in range(2 if step % 5 == 0 else 1):
            save(store, step, best=step % 3 == 0)
        os.write(1, f"{step}\n".encode())


def be_killed() -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            save_for_ever(Path(line.strip()))
        os.write(1, f"pid {child}\n".encode())
        os.waitpid(child, 0)
        os.write(1, b"dead\n")


@pytest.fixture
def worker() -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    yield process
    process.kill()
    process.communicate()


def kill_while_saving(worker: subprocess.Popen, run: Path, seconds: float) -> int:
    """Let a child save for some time after its first save, kill it; the last step it told of."""
    print(run, file=worker.stdin, flush=True)
    told = 0
    child = None
    while (line := worker.stdout.readline().split()) != ["dead"]:
        assert line, "the worker died"
        if line[0] == "pid":
            child = int(line[1])
        else:
            told = int(line[0])
        if child and told:
            time.sleep(seconds)
            os.kill(child, signal.SIGKILL)
            child = None
    return told


def check(store: CheckpointStore, told: int) -> None:
    """The newest is whole, what it says it is, and not older than the last that was told of."""
    newest = store.newest()
    assert newest is not None
    state = store.load(newest)
    step = state["step"]
    assert told <= step <= told + 1
    assert all(map(torch.equal, state["moments"], state_of(step)["moments"]))
    for ours, loaded in zip(model_of(step).parameters(), load_model(newest).parameters()):
        assert torch.equal(ours, loaded)


def kill_often(worker: subprocess.Popen, run: Path, kills: int) -> None:
    draw = random.Random(0)
    store = CheckpointStore(run)
    for _ in range(kills):
        told = kill_while_saving(worker, run, draw.uniform(0, 0.15))
        check(store, told)
        if told >= 3:
            best = store.load(store.best())["step"]
            assert best in range(told - 2, told + 2)
            assert best % 3 == 0


@posix
def test_kills_lose_at_most_the_save_in_flight(worker: subprocess.Popen, tmp_path: Path):
    kill_often(worker, tmp_path, 10)


@posix
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_five_hundred_kills(worker: subprocess.Popen, tmp_path: Path):
    kill_often(worker, tmp_path, 500)


@contextmanager
def largest_file(n_bytes: int) -> Iterator[None]:
    """Let every write beyond that many bytes of a file fail, as on a full disk."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@posix
@pytest.mark.parametrize("n_bytes", [0, 100, 1500, 10_000, 150_000, 200_100])
def test_a_write_that_fails_leaves_the_last_good_one(tmp_path: Path, n_bytes: int):
    store = CheckpointStore(tmp_path)
    save(store, 1)
    with largest_file(n_bytes), pytest.raises(CheckpointError, match="step 2 could not be written"):
        save(store, 2)
    assert [path.name for path in store.folder.iterdir()] == ["step-00000001"]
    check(store, 1)
    save(store, 2)
    check(store, 2)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 700 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", str(disk)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_leaves_the_last_good_ones(small_disk: Path):
    store = CheckpointStore(small_disk)
    for step in (1, 2):  # about 220 kB each
        save(store, step)
    (small_disk / "ballast").write_bytes(bytes(100_000))
    with pytest.raises(CheckpointError, match=r"disk full: .*step 3 needs about 0\.2 MB"):
        save(store, 3)
    check(store, 2)
    (small_disk / "ballast").unlink()
    save(store, 3)
    check(store, 3)


def test_a_disk_that_fills_while_writing(small_disk: Path):
    store = CheckpointStore(small_disk)
    save(store, 1)
    with pytest.raises(CheckpointError, match=r"step 2 could not be written.*No space left"):
        store.save(2, lambda folder: (folder / "large").write_bytes(bytes(800_000)), {"step": 2})
    check(store, 1)
    assert [path.name for path in store.folder.iterdir()] == ["step-00000001"]


if __name__ == "__main__":
    be_killed()
