"""The plan: which file is in which shard."""

from pathlib import Path

import pytest

from scratchlm.base.errors import DataError
from scratchlm.corpus import shards
from scratchlm.corpus.contents import Part
from scratchlm.corpus.read import SourceFile
from scratchlm.corpus.shards import find_sources, fingerprint, plan_shards, read_plan, write_plan


def file(name: str, n_bytes: int, kind="text") -> SourceFile:
    return SourceFile(Path("folder") / name, f"folder/{name}", kind, n_bytes)


def test_small_files_are_together_and_large_ones_alone(monkeypatch):
    monkeypatch.setattr(shards, "_BYTES", 100)
    monkeypatch.setattr(shards, "_FILES", 3)
    monkeypatch.setattr(shards, "_PIECE", 1000)
    files = [
        *(file(f"a{i}", 40) for i in range(3)),
        file("b", 500, "jsonl"),
        *(file(f"c{i}", 1) for i in range(4)),
        file("d", 2500, "warc"),
        file("e", 10, "warc"),
    ]
    names = [
        [(part.file.path.name, part.start, part.end) for part in one] for one in plan_shards(files)
    ]
    assert names == [
        [("a0", 0, None), ("a1", 0, None)],
        [("b", 0, None)],
        [("a2", 0, None), ("c0", 0, None), ("c1", 0, None)],
        [("d", 0, 1250)],
        [("d", 1250, None)],
        [("c2", 0, None), ("c3", 0, None), ("e", 0, None)],
    ]


def test_a_plan_comes_back_and_stays(tmp_path):
    plan = [
        [Part(file("é\udc80.txt", 5)), Part(file("b.warc", 9, "warc"), 3, 9)],
        [Part(file("c", 1))],
    ]
    paths = write_plan(tmp_path / "plan", plan)
    assert [read_plan(path) for path in paths] == plan
    before = [path.stat().st_mtime_ns for path in paths]
    assert write_plan(tmp_path / "plan", plan[:1]) == paths
    assert [path.stat().st_mtime_ns for path in paths] == before


def test_sources(tmp_path):
    for name in ("a.pdf", "b.py", "c.jpg", "d", "out/e.txt", ".f.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"<html>" if name == "d" else b"x")
    found = find_sources([tmp_path], without=tmp_path / "out")
    assert [(one.path.name, one.kind) for one in found] == [
        ("a.pdf", "pdf"),
        ("b.py", "code"),
        ("d", "html"),
    ]
    with pytest.raises(DataError, match=r"c\.jpg is not a kind of file .* \.epub"):
        find_sources([tmp_path / "c.jpg"])


def test_a_fingerprint_tells_other_files_and_other_bytes(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"x")
    before = fingerprint(find_sources([tmp_path]))
    assert fingerprint(find_sources([tmp_path])) == before
    path.write_bytes(b"xy")
    changed = fingerprint(find_sources([tmp_path]))
    (tmp_path / "b.txt").write_bytes(b"x")
    assert len({before, changed, fingerprint(find_sources([tmp_path]))}) == 3
