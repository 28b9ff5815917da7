"""Processes of this machine: their number changes no byte, and whoever dies is replaced."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from multiprocessing import active_children
from pathlib import Path
from threading import Thread
from types import ModuleType

import pytest

from scratchlm.base.errors import ConfigError, DataError, MissingExtraError
from scratchlm.base.runtime import cpu_count
from scratchlm.corpus.executors import Scale
from scratchlm.corpus.ray_cluster import RayCluster
from scratchlm.corpus.read import Document
from scratchlm.corpus.stages import Counts, Job, in_order, run_stage
from scratchlm.corpus.store import ENDING, n_bytes, read_stored, write_documents
from scratchlm.corpus.workers import Processes

N_SHARDS = 9
KILLS = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of POSIX")


@dataclass(frozen=True)
class Where:
    """What the jobs below depend on: `log` gets a line for each one that is begun."""

    log: str
    slow: str = ""  # the name of a shard that takes long the first time
    bad: str = ""  # the name of one that kills its process every time


def shout(shard: Path, out: Path, settings: Where) -> Counts:
    """Upper case, and no documents without an e."""
    with open(settings.log, "a", encoding="utf-8") as log:
        log.write(f"{shard.name} {os.getpid()}\n")
    if shard.name == settings.bad:
        os.kill(os.getpid(), signal.SIGKILL)
    first_time = Path(settings.log).read_text("utf-8").count(shard.name) == 1
    counts = Counts()
    with write_documents(out) as write:
        for document in read_stored(shard):
            size = n_bytes(document.text)
            if "e" not in document.text and "\u6625" not in document.text:
                counts.drop("no e", size)
                continue
            write(Document(document.id, document.text.upper(), document.source, document.meta))
            counts.keep(size, size)
        if shard.name == settings.slow and first_time:
            Path(f"{settings.log}.pid").write_text(str(os.getpid()))
            time.sleep(60)
    return counts


@pytest.fixture
def shards(tmp_path) -> list[Path]:
    (tmp_path / "in").mkdir()
    for n in range(N_SHARDS):
        with write_documents(tmp_path / "in" / f"{n:05}{ENDING}") as write:
            for i in range(n, 100, N_SHARDS):
                text = "a b c" if i % 7 == 0 else f"one {i}\n\u6625\u7720\u4e0d\u89c9\u6653\n"
                write(Document(str(i), text, "here", {"n": i}))
    return in_order((tmp_path / "in").iterdir())


@pytest.fixture
def where(tmp_path) -> Where:
    return Where(str(tmp_path / "log"))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".json"}


def begun(settings: Where) -> Counter[str]:
    """How often each shard was begun."""
    lines = Path(settings.log).read_text("utf-8").splitlines()
    return Counter(line.split()[0] for line in lines)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be asked how it ended does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def wait_for(condition, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "that did not happen"
        time.sleep(0.01)


@pytest.mark.parametrize("n", [2, 8])
def test_the_number_of_processes_changes_no_byte(n, shards, where, tmp_path):
    alone = run_stage("shout", shout, shards, tmp_path / "alone", where, Processes(1))
    many = run_stage("shout", shout, shards, tmp_path / "many", where, Processes(n))
    assert alone == many
    assert (alone.n_in, alone.dropped) == (100, {"no e": 15})
    assert content(tmp_path / "alone") == content(tmp_path / "many")


@KILLS
def test_a_worker_that_is_killed_leaves_no_trace(shards, tmp_path):
    where = Where(str(tmp_path / "log"), slow=shards[4].name)
    pid_file = Path(f"{where.log}.pid")

    def kill() -> None:
        wait_for(pid_file.exists)
        wait_for(lambda: pid_file.read_text() != "")
        os.kill(int(pid_file.read_text()), signal.SIGKILL)

    Thread(target=kill).start()
    out = tmp_path / "out"
    counts = run_stage("shout", shout, shards, out, where, Processes(2))
    times = begun(where)
    assert times[shards[4].name] == 2
    assert sum(times.values()) <= N_SHARDS + 2  # itself, and the one beside it
    whole = run_stage("shout", shout, shards, tmp_path / "whole", where, Processes(1))
    assert counts == whole
    assert content(out) == content(tmp_path / "whole")
    assert not [path for path in tmp_path.rglob("*.partial") if path.parent == out]


@KILLS
@pytest.mark.parametrize("at", [0, 5])
def test_the_shard_that_kills_its_worker_is_named_and_no_other(at, shards, tmp_path):
    where = Where(str(tmp_path / "log"), bad=shards[at].name)
    with pytest.raises(DataError, match=rf"{where.bad}: a worker process died 3 times .*--workers"):
        run_stage("shout", shout, shards, tmp_path / "out", where, Processes(3))
    assert begun(where)[where.bad] == 3


@KILLS
def test_no_job_is_lost_when_a_worker_dies_between_two(shards, where, tmp_path):
    jobs = [Job(shout, shard, tmp_path / shard.name, where) for shard in shards]
    done = []
    for job, _ in Processes(2).run(jobs):
        done.append(job)
        if len(done) == 2:
            for worker in active_children():
                worker.kill()
                worker.join()
            time.sleep(0.3)  # by then the pool knows
    assert set(done) == set(jobs)
    assert len(done) == N_SHARDS


def test_who_takes_no_more_results_ends_the_processes(shards, tmp_path):
    where = Where(str(tmp_path / "log"), slow=shards[1].name)
    jobs = [Job(shout, shard, tmp_path / shard.name, where) for shard in shards]
    results = Processes(2).run(jobs)
    next(results)
    results.close()
    assert not active_children()


DRIVER = """
import os, sys, time
from pathlib import Path
from scratchlm.corpus.stages import Counts, Job
from scratchlm.corpus.workers import Processes

def work(shard, out, settings):
    Path(settings, str(os.getpid())).touch()
    time.sleep(60)

if __name__ == "__main__":
    pids = sys.argv[1]
    jobs = [Job(work, Path(str(n)), Path(str(n)), pids) for n in range(4)]
    for _ in Processes(2).run(jobs): pass
"""


@KILLS
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_workers_end_with_their_parent(how, tmp_path):
    (tmp_path / "driver.py").write_text(DRIVER, encoding="utf-8")
    (tmp_path / "pids").mkdir()
    command = [sys.executable, tmp_path / "driver.py", tmp_path / "pids"]
    driver = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: len(list((tmp_path / "pids").iterdir())) == 2)
    finally:
        driver.send_signal(getattr(signal, how))
    assert driver.wait(20) != 0
    pids = [int(path.name) for path in (tmp_path / "pids").iterdir()]
    wait_for(lambda: not any(map(is_alive, pids)))


def test_options_become_an_executor(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))  # it is only asked for
    assert Scale(3).executor().n == 3
    assert Scale().executor().n == cpu_count()
    cluster = Scale(2, "ray", "local").executor()
    assert isinstance(cluster, RayCluster)
    assert (cluster.n, cluster.address) == (2, "local")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((-1,), r"workers = -1 must be at least 0\."),
        ((1, "here", "10.0.0.1:6379"), r"that of a Ray cluster: give --on ray as well\."),
    ],
)
def test_options_that_cannot_be_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        Scale(*options)


def test_a_cluster_needs_its_library(monkeypatch, shards, where, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r'pip install "scratchlm\[ray\]"'):
        run_stage("shout", shout, shards, tmp_path / "out", where, Scale(2, "ray").executor())
