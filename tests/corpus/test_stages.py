"""Stages: nothing is lost, nothing is done twice, and the bytes do not depend on the workers."""

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from scratchlm.base.errors import ConfigError, DataError, MissingExtraError
from scratchlm.base.files import beside, read_json
from scratchlm.corpus.executors import Scale
from scratchlm.corpus.read import Document
from scratchlm.corpus.stages import Counts, Job, begun, in_order, keep_apart, run_stage, stage_facts
from scratchlm.corpus.store import ENDING, n_bytes, read_stored, write_documents
from scratchlm.corpus.workers import Processes

N_SHARDS = 7


@dataclass(frozen=True)
class Odd:
    """What `keep_even` depends on."""

    step: int = 2
    dies: str = ""  # a folder: each shard kills its process once, and leaves a file there


def keep_even(shard: Path, out: Path, settings: Odd) -> Counts:
    counts = Counts()
    if settings.dies and not (Path(settings.dies) / shard.name).exists():
        (Path(settings.dies) / shard.name).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    with write_documents(out) as write:
        for document in read_stored(shard):
            if int(document.id) % settings.step:
                counts.drop("odd", n_bytes(document.text))
            else:
                write(document)
                counts.keep(n_bytes(document.text), n_bytes(document.text))
    return counts


def fail(shard: Path, _out: Path, _settings: Odd) -> Counts:
    raise DataError(f"{shard} is bad")


def die(_shard: Path, _out: Path, _settings: Odd) -> Counts:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@pytest.fixture
def shards(tmp_path) -> list[Path]:
    (tmp_path / "in").mkdir()
    for n in range(N_SHARDS):
        with write_documents(tmp_path / "in" / f"{n:05}{ENDING}") as write:
            for i in range(n, 100, N_SHARDS):
                write(Document(str(i), f"text {i} 春眠\n", "here", {"n": i, "é": None}))
    return in_order((tmp_path / "in").iterdir())


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_documents_come_back(tmp_path):
    written = [Document("1", "a\u2028b\n", "x", {"k": [1, None]}), Document("2", "", "y", {})]
    with write_documents(tmp_path / "d.jsonl.zst") as write:
        for document in written:
            write(document)
    read = list(read_stored(tmp_path / "d.jsonl.zst"))
    assert [(d.id, d.text, d.source, d.meta) for d in read] == [
        (d.id, d.text, d.source, d.meta) for d in written
    ]


def test_half_a_surrogate_pair_becomes_a_replacement(tmp_path):
    with write_documents(tmp_path / "d.jsonl.zst") as write:
        write(Document("1", "a\ud800b", "x", {}))
    assert next(read_stored(tmp_path / "d.jsonl.zst")).text == "a\ufffdb"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_file_that_is_cut_is_refused(share, shards):
    whole = shards[0].read_bytes()
    shards[0].write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=r"00000\.jsonl\.zst"):
        list(read_stored(shards[0]))


@pytest.mark.parametrize("workers", [2, 3])
def test_the_bytes_do_not_depend_on_the_workers(workers, shards, tmp_path):
    alone = run_stage("even", keep_even, shards, tmp_path / "one", Odd(), Processes(1))
    many = run_stage("even", keep_even, shards, tmp_path / "many", Odd(), Processes(workers))
    assert alone == many
    assert (alone.n_in, alone.n_kept, alone.dropped) == (100, 50, {"odd": 50})
    assert content(tmp_path / "one") == content(tmp_path / "many")
    assert read_json(tmp_path / "one" / "counts.json")["dropped"] == {"odd": 50}


def test_what_is_done_is_not_done_again(shards, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(DataError, match="is bad"):
        run_stage("even", fail, shards, out, Odd(), Processes(1))
    run = Processes(1)
    done: list[str] = []

    class Some:
        def run(self, jobs):
            for job, counts in run.run(jobs):
                if len(done) == 3:
                    raise KeyboardInterrupt
                done.append(job.shard.name)
                yield job, counts

    with pytest.raises(KeyboardInterrupt):
        run_stage("even", keep_even, shards, out, Odd(), Some())
    left: list[Job] = []

    class Rest:
        def run(self, jobs):
            left.extend(jobs)
            return run.run(jobs)

    counts = run_stage("even", keep_even, shards, out, Odd(), Rest())
    assert len(left) == N_SHARDS - 3
    assert counts.n_in == 100
    whole = run_stage("even", keep_even, shards, tmp_path / "whole", Odd(), Processes(1))
    assert counts == whole
    assert content(out) == content(tmp_path / "whole")


def test_other_settings_are_refused(shards, tmp_path):
    with pytest.raises(DataError):
        run_stage("even", fail, shards, tmp_path / "out", Odd(), Processes(1))
    with pytest.raises(ConfigError, match="or with other settings"):
        run_stage("even", keep_even, shards, tmp_path / "out", Odd(3), Processes(1))
    run_stage("even", keep_even, shards, tmp_path / "out", Odd(), Processes(1))
    with pytest.raises(ConfigError, match="exists"):
        run_stage("even", keep_even, shards, tmp_path / "out", Odd(), Processes(1))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(ConfigError, match="holds something else"):
        run_stage("even", keep_even, shards, tmp_path / "mine", Odd(), Processes(1))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of POSIX")
def test_workers_that_die_are_replaced(shards, tmp_path):
    (tmp_path / "dead").mkdir()
    once = Odd(dies=str(tmp_path / "dead"))
    counts = run_stage("even", keep_even, shards[:2], tmp_path / "out", once, Processes(2))
    assert counts.n_in == 30
    with pytest.raises(DataError, match="a worker process died 3 times"):
        run_stage("even", die, shards[:2], tmp_path / "never", Odd(), Processes(2))


def test_a_kill_at_the_very_end_loses_nothing(shards, tmp_path, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("scratchlm.corpus.stages.write_manifest", killed)
        with pytest.raises(KeyboardInterrupt):
            run_stage("even", keep_even, shards, out, Odd(), Processes(1))
    (out / ".00001.jsonl.zst.1.partial").touch()  # of a worker that was killed
    jobs: list[Job] = []

    class Rest:
        def run(self, left):
            jobs.extend(left)
            yield from ()

    run_stage("even", keep_even, shards, out, Odd(), Rest())
    assert not jobs
    whole = tmp_path / "whole"
    run_stage("even", keep_even, shards, whole, Odd(), Processes(1))
    assert content(out) == content(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "whole"]


def test_a_folder_is_not_made_of_itself(tmp_path):
    (tmp_path / "docs" / "more").mkdir(parents=True)
    keep_apart(tmp_path / "docs" / "out", [tmp_path / "docs"])  # beneath it is fine
    keep_apart(tmp_path / "docs2", [tmp_path / "docs"])
    with pytest.raises(ConfigError, match=r"which is to be read, is the folder to make"):
        keep_apart(tmp_path / "docs", [tmp_path / "docs" / "more" / ".."])
    with pytest.raises(
        ConfigError, match=r"more, which is to be read, lies in .*docs, the folder to m"
    ):
        keep_apart(tmp_path / "docs", [tmp_path / "docs" / "more"])


def test_what_a_kill_left_behind_a_finished_stage_goes(tmp_path, shards):
    out = tmp_path / "out"
    run_stage("even", keep_even, shards, out, Odd(), Processes(1))
    beside(out, "done").mkdir()
    with pytest.raises(ConfigError, match="out exists"):
        run_stage("even", keep_even, shards, out, Odd(), Processes(1))
    assert not beside(out, "done").exists()


def test_a_cluster_without_its_library_is_refused_at_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"scratchlm\[ray\]"):
        Scale(on="ray").executor()


def test_a_run_that_does_nothing_leaves_nothing(tmp_path, shards):
    """So that, its fault mended, the same command is not told of other settings."""
    out, work = tmp_path / "out", tmp_path / "work"
    with pytest.raises(DataError, match="is bad"), begun(out, {"a": 1}, work):
        run_stage("fail", fail, shards, work / "first", Odd(), Processes(1))
    assert not out.exists()
    assert not work.exists()


def test_a_run_that_is_stopped_is_told_to_go_on(tmp_path, shards, caplog):
    out = tmp_path / "out"

    def stop(_: Counts) -> Counts:
        raise KeyboardInterrupt

    with (
        caplog.at_level("INFO"),
        pytest.raises(KeyboardInterrupt),
        begun(out, stage_facts("even", Odd()), out),
    ):
        run_stage("even", keep_even, shards, out, Odd(), Processes(1), last=stop)
    assert "out is not finished: the same command goes on where it stopped." in caplog.text
    assert len(list((out / ".done").glob("0*.json"))) == N_SHARDS
