"""A real Ray on this machine, its workers processes of their own: the same bytes as without it."""

import logging
import os
import platform
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import pytest

from scratchlm.base.errors import ConfigError, DataError, MissingExtraError
from scratchlm.cleaning.near_duplicates import (
    DuplicateSettings,
    find_clusters,
    write_signatures,
)
from scratchlm.corpus import ray_cluster
from scratchlm.corpus.executors import Scale
from scratchlm.corpus.ray_cluster import RayCluster
from scratchlm.corpus.read import Document
from scratchlm.corpus.stages import Counts, Job, in_order, run_stage
from scratchlm.corpus.store import ENDING, n_bytes, read_stored, write_documents
from scratchlm.corpus.workers import Processes
from scratchlm.recipes.clean_documents import CleanConfig, clean_documents

ray = pytest.importorskip("ray", reason="the extra `ray`")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")]

N_SHARDS = 9
WORDS = ("river", "stone", "garden", "window", "letter", "morning", "teacher", "bridge")
MOST_SECONDS = 60


HEAD = """
import ray, sys
ray.init("local", num_cpus=2, object_store_memory=80 << 20, include_dashboard=False)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of this module alone, which ends with it."""
    os.environ["RAY_AUTH_MODE"] = "disabled"  # or Ray leaves a token in the home folder
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", HEAD], encoding="utf-8", **pipes) as head:
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not find it
        try:
            yield head.stdout.readline().strip()
        finally:
            ray.shutdown()
            head.stdin.close()
            del os.environ["RAY_AUTH_MODE"]


@pytest.fixture
def cluster(address) -> RayCluster:
    """Two workers of it, to which this process stays connected from test to test."""
    if not ray.is_initialized():
        ray.init(address, log_to_driver=False, logging_level="ERROR")
    return RayCluster("auto", 2)


@pytest.fixture
def apart(address) -> str:
    """Its address, for whoever connects himself."""
    ray.shutdown()
    return address


@dataclass(frozen=True)
class Where:
    """What the jobs below depend on: `log` gets a line for each one that is begun."""

    log: str
    slow: str = ""  # the name of a shard that takes long the first time
    bad: str = ""  # the name of one that kills its process every time


def note(shard: Path, log: str) -> int:
    """Write down that a job was begun; returns how often it was."""
    with open(log, "a", encoding="utf-8") as file:
        file.write(f"{shard.name} {os.getpid()}\n")
    return Path(log).read_text("utf-8").count(shard.name)


def shout(shard: Path, out: Path, settings: Where) -> Counts:
    """Upper case, and no documents without an e."""
    times = note(shard, settings.log)
    if shard.name == settings.bad:
        os.kill(os.getpid(), signal.SIGKILL)
    counts = Counts()
    with write_documents(out) as write:
        for document in read_stored(shard):
            size = n_bytes(document.text)
            if "e" not in document.text and "\u6625" not in document.text:
                counts.drop("no e", size)
                continue
            write(Document(document.id, document.text.upper(), document.source, document.meta))
            counts.keep(size, size)
        if shard.name == settings.slow and times == 1:
            Path(f"{settings.log}.pid").write_text(str(os.getpid()))
            time.sleep(MOST_SECONDS)
    return counts


def sign(shard: Path, out: Path, _settings: Where) -> Counts:
    """The signatures of near-duplicates, as cleaning writes them."""
    counts = Counts()
    counts.n_in = counts.n_kept = write_signatures((d.text for d in read_stored(shard)), out)
    return counts


def fail(shard: Path, _out: Path, settings: Where) -> Counts:
    if "ray" in settings.bad:
        raise MissingExtraError("spacy", "spacy", "A test")
    if "disk" in settings.bad:
        raise FileNotFoundError(2, "No such file", "/somewhere")
    raise DataError(f"{shard.name}, line 3: \u574f")


def write_nothing(_shard: Path, _out: Path, _settings: Where) -> Counts:
    return Counts()


@pytest.fixture
def shards(tmp_path) -> list[Path]:
    (tmp_path / "in").mkdir()
    for n in range(N_SHARDS):
        with write_documents(tmp_path / "in" / f"{n:05}{ENDING}") as write:
            for i in range(n, 100, N_SHARDS):
                words = " ".join(f"{word}{n}-{i // 4}" for n in range(6) for word in WORDS)
                text = f"one {i} likes \u6625\u7720\u4e0d\u89c9\u6653 and {words}"
                write(Document(str(i), "a b c" if i % 7 == 0 else text, "here", {"n": i}))
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


def wait_for(condition, seconds: float = MOST_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "that did not happen"
        time.sleep(0.01)


def slow_pid(settings: Where) -> int:
    """The process of the slow job, once it is at work."""
    file = Path(f"{settings.log}.pid")
    wait_for(lambda: file.exists() and file.read_text())
    return int(file.read_text())


def test_a_cluster_writes_what_processes_write(apart, shards, where, tmp_path):
    on_ray = run_stage("shout", shout, shards, tmp_path / "ray", where, RayCluster(apart, 0))
    pids = {line.split()[1] for line in Path(where.log).read_text("utf-8").splitlines()}
    assert str(os.getpid()) not in pids
    assert len(pids) > 1
    for n in (1, 2, 8):
        here = run_stage("shout", shout, shards, tmp_path / f"{n}", where, Processes(n))
        assert here == on_ray
        assert content(tmp_path / f"{n}") == content(tmp_path / "ray")
    assert (on_ray.n_in, on_ray.dropped) == (100, {"no e": 15})


def test_near_duplicates_are_the_same(cluster, shards, where, tmp_path):
    found = []
    for name, who in (("ray", cluster), ("here", Processes(2))):
        out = tmp_path / name
        run_stage("sign", sign, shards, out, where, who, ending=".signatures")
        paths = sorted(out.glob("*.signatures"))
        clusters = find_clusters(paths, tmp_path, DuplicateSettings())
        found.append((clusters.leader.tolist(), content(out)))
    assert found[0] == found[1]
    assert len(set(found[0][0])) < 60  # of 100


@pytest.mark.usefixtures("shards", "cluster")
def test_cleaning_as_a_whole_is_the_same(tmp_path):
    counts = {}
    for name, scale in (("ray", Scale(2, "ray")), ("here", Scale(2))):
        config = CleanConfig(recipe="chat")
        counts[name] = clean_documents(tmp_path / "in", tmp_path / name, config=config, scale=scale)
    assert counts["ray"] == counts["here"]
    assert counts["ray"].dropped["duplicate: similar"] > 40
    for path in (tmp_path / "here").iterdir():
        assert path.read_bytes() == (tmp_path / "ray" / path.name).read_bytes()


def test_a_worker_that_is_killed_is_replaced(cluster, shards, tmp_path):
    where = Where(str(tmp_path / "log"), slow=shards[4].name)
    Thread(target=lambda: os.kill(slow_pid(where), signal.SIGKILL)).start()
    counts = run_stage("shout", shout, shards, tmp_path / "out", where, cluster)
    assert begun(where) == {shard.name: 1 + (shard == shards[4]) for shard in shards}
    whole = run_stage("shout", shout, shards, tmp_path / "whole", where, Processes(1))
    assert counts == whole
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_the_shard_that_kills_its_worker_is_named(cluster, shards, tmp_path):
    where = Where(str(tmp_path / "log"), bad=shards[1].name)
    with pytest.raises(DataError, match=rf"{where.bad}: a worker process died 3 times .*Ray says"):
        run_stage("shout", shout, shards, tmp_path / "out", where, cluster)
    assert begun(where)[where.bad] == 3


@pytest.mark.parametrize(
    ("kind", "error", "said"),
    [
        ("data", DataError, r"^0000\d\.jsonl\.zst, line 3: \u574f$"),
        ("ray", MissingExtraError, r'^A test needs .*pip install "scratchlm\[spacy\]"$'),
        ("disk", FileNotFoundError, r"No such file: '/somewhere'"),
    ],
)
def test_an_error_stays_what_it_is(cluster, kind, error, said, shards, tmp_path):
    with pytest.raises(error, match=said) as raised:
        run_stage("fail", fail, shards, tmp_path / "out", Where("", bad=kind), cluster)
    assert type(raised.value) is error


def test_who_takes_no_more_results_ends_what_runs(apart, shards, tmp_path):
    where = Where(str(tmp_path / "log"), slow=shards[1].name)
    jobs = [Job(shout, shard, tmp_path / shard.name, where) for shard in shards]
    results = RayCluster(apart, 2).run(jobs)
    next(results)
    pid = slow_pid(where)
    results.close()
    wait_for(lambda: not is_alive(pid))
    assert len(begun(where)) < N_SHARDS


@pytest.mark.usefixtures("cluster")
def test_not_more_than_so_many_at_a_time(shards, where, tmp_path):
    jobs = [Job(shout, shard, tmp_path / shard.name, where) for shard in shards]
    for n_done, (job, _) in enumerate(RayCluster("auto", 1).run(jobs), 1):
        assert job is jobs[n_done - 1]
        assert sum(begun(where).values()) == n_done


def test_paths_begin_where_the_user_is(cluster, shards, where, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [shard.relative_to(tmp_path) for shard in shards]
    counts = run_stage("shout", shout, names, Path("out"), where, cluster)
    assert counts.n_in == 100
    assert len(content(tmp_path / "out")) == N_SHARDS


def test_a_machine_that_does_not_see_a_shard_is_named(cluster, shards, where, tmp_path):
    gone = tmp_path / "in" / "gone.jsonl.zst"
    jobs = [Job(shout, gone, tmp_path / "x", where), Job(shout, shards[0], tmp_path / "y", where)]
    said = rf"^{platform.node()} does not see {gone}\. .*disk that all machines"
    with pytest.raises(DataError, match=said):
        list(cluster.run(jobs))


def test_what_is_written_must_be_seen_here(cluster, shards, where, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_cluster, "_LATE_SECONDS", 0.1)
    with pytest.raises(DataError, match=r"0\.jsonl\.zst was written by a machine .*not see it"):
        run_stage("none", write_nothing, shards[:1], tmp_path / "out", where, cluster)


def test_another_version_of_scratchlm_is_refused(cluster, shards, where, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_cluster, "__version__", "99.0")
    with pytest.raises(ConfigError, match=r"this machine has 99\.0: .*Install the same version"):
        run_stage("shout", shout, shards, tmp_path / "out", where, cluster)


DRIVER = """
import sys, time
from dataclasses import dataclass
from pathlib import Path
from scratchlm.base.log import show_log
from scratchlm.corpus.executors import Scale
from scratchlm.corpus.stages import Counts, in_order, run_stage
from scratchlm.corpus.store import n_bytes, read_stored, write_documents

@dataclass(frozen=True)
class Settings:
    log: str

def work(shard, out, settings):
    with open(settings.log, "a") as log:
        log.write(f"{shard.name} 0\\n")
    counts = Counts()
    with write_documents(out) as write:
        for document in read_stored(shard):
            write(document)
            counts.keep(n_bytes(document.text), n_bytes(document.text))
        time.sleep(0.3)
    return counts

if __name__ == "__main__":
    show_log()
    out, on, address = sys.argv[1:]
    shards = in_order(Path("in").iterdir())
    run_stage("w", work, shards, Path(out), Settings("log"), Scale(2, on, address).executor())
"""


def drive(folder: Path, out: str, on: str, address: str = "auto") -> subprocess.Popen:
    """A user's own script, begun in a folder."""
    (folder / "driver.py").write_text(DRIVER, encoding="utf-8")
    command = [sys.executable, "driver.py", out, on, address]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, encoding="utf-8")


def n_done(out: Path) -> int:
    """How many shards of a folder have their mark."""
    return len(list((out / ".done").glob("0*.json")))


def n_raylets() -> int:
    """Ray's own processes on this machine, one for each cluster."""
    names = (path.read_bytes().split(b"\0")[0] for path in Path("/proc").glob("[0-9]*/cmdline"))
    return sum(name.endswith(b"/raylet") for name in names)


@pytest.mark.usefixtures("shards")
@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_a_driver_that_ends_mid_way_goes_on(how, address, where, tmp_path):
    first = drive(tmp_path, "out", "ray", address)
    wait_for(lambda: n_done(tmp_path / "out") >= 3)
    first.send_signal(getattr(signal, how))
    first.communicate()
    assert first.returncode != 0
    before = [path.stem for path in (tmp_path / "out" / ".done").glob("0*.json")]
    assert 3 <= len(before) < N_SHARDS
    second = drive(tmp_path, "out", "ray", address)
    assert "2 processors of 1 machine." in second.communicate()[1]
    assert second.returncode == 0
    assert {begun(where)[f"{name}{ENDING}"] for name in before} == {1}
    here = drive(tmp_path, "here", "here")
    here.communicate()
    assert content(tmp_path / "here") == content(tmp_path / "out")


@pytest.mark.usefixtures("shards")
@pytest.mark.parametrize("how", ["SIGKILL", None])
def test_a_cluster_of_this_machine_alone_ends_with_the_jobs(how, tmp_path):
    others = n_raylets()
    driver = drive(tmp_path, "out", "ray", "local")
    wait_for(lambda: n_done(tmp_path / "out") >= 1)
    assert n_raylets() == others + 1
    if how:
        driver.send_signal(getattr(signal, how))
    assert "Ray cluster local: 2 processors of 1 machine." in driver.communicate()[1]
    assert (driver.returncode == 0) == (how is None)
    wait_for(lambda: n_raylets() == others)


@pytest.mark.usefixtures("shards")
def test_a_cluster_that_is_not_there_is_one_clear_error(tmp_path):
    said = drive(tmp_path, "out", "ray", "127.0.0.1:1").communicate()[1]
    assert "ConfigError: the Ray cluster at '127.0.0.1:1' cannot be used (" in said
    assert "ray start --head" in said


def test_whoever_was_connected_stays_so(cluster, shards, where, tmp_path, caplog):
    caplog.set_level(logging.INFO, "scratchlm")
    counts = run_stage("shout", shout, shards, tmp_path / "out", where, cluster)
    assert counts.n_in == 100
    assert "the cluster that this process is connected to, 2 processors of 1 mach" in caplog.text
    assert ray.is_initialized()
