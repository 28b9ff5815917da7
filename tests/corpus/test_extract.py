"""The stage `extract`: nothing is lost, and the bytes depend on the documents alone."""

import gzip
import io
import json
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from scratchlm.base.errors import ConfigError
from scratchlm.corpus import extract as stage
from scratchlm.corpus.contents import Raw
from scratchlm.corpus.executors import Scale
from scratchlm.corpus.extract import FAILED, ExtractConfig, documents_of, taken_apart
from scratchlm.corpus.read import Document
from scratchlm.corpus.records import Failure
from scratchlm.corpus.stages import counts_of, in_order
from scratchlm.corpus.store import read_stored
from scratchlm.corpus.verdicts import Verdicts
from scratchlm.extraction.result import Hints, Unreadable
from scratchlm.recipes.extract_documents import extract_documents

TEXT = "The harbour was full of boats that morning, and the men who had been out all night talked. "
CHINESE = (
    "那天早上港口里停满了船，出海一夜的人们三三两两地站着，谈论着天气，那天气比谁预料的都要坏。"
)


def page(number: int) -> bytes:
    text = (TEXT if number % 2 else CHINESE) * 4
    body = f"<p>{text}</p><p>{number}</p>"
    return f"<html><title>Page {number}</title><body>{body}</body></html>".encode()


def word_file(text: str) -> bytes:
    space = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    xml = f'<w:document xmlns:w="{space}"><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:document>'
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as package:
        package.writestr("word/document.xml", xml)
    return file.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


@pytest.fixture
def sources(tmp_path) -> Path:
    folder = tmp_path / "sources"
    folder.mkdir()
    for number in range(12):
        (folder / f"page{number:02}.html").write_bytes(page(number))
    files = {
        "a.txt": CHINESE.encode(),
        "code.py": b"def f(x):\n\treturn x\n",
        "letter.docx": word_file("Dear reader"),
        "lines.jsonl": b'{"text": "one"}\n{"text": 2}\n{"text": "three", "url": "u"}\n',
        "broken.pdf": b"%PDF-1.4\nnothing",
        "empty.html": b"",
        "many.tar.gz": tarred({"x/1.html": page(101), "2.txt": b"two", "3.jpg": b"\xff\xd8"}),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


KEPT = 12 + 3 + 2 + 2
DROPPED = {"no text": 1, "broken pdf": 1, "empty": 1, "kind not read": 1}


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def documents(folder: Path) -> list[Document]:
    return [one for path in in_order(folder.iterdir()) for one in read_stored(path)]


def failures(folder: Path) -> list[dict]:
    paths = sorted((folder / FAILED).glob("*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text("utf-8").splitlines()]


def test_everything_is_kept_or_counted(sources, tmp_path):
    counts = extract_documents(sources, tmp_path / "docs", scale=Scale(1))
    assert (counts.n_in, counts.n_kept) == (KEPT + 4, KEPT)
    assert counts.dropped == DROPPED
    assert counts_of(tmp_path / "docs") == counts
    found = {one.id: one for one in documents(tmp_path / "docs")}
    assert len(found) == KEPT
    assert found["sources/code.py"].text == "def f(x):\n\treturn x\n"
    assert found["sources/letter.docx"].text == "Dear reader"
    one = found["sources/page01.html"]
    assert TEXT.strip() in one.text
    assert (one.meta["title"], one.meta["kind"]) == ("Page 1", "html")
    assert one.source == str(sources / "page01.html")
    assert found["sources/many.tar.gz/x/1.html"].meta["title"] == "Page 101"
    assert found["sources/lines.jsonl:3"].meta == {"url": "u"}
    failed = {one["id"]: one["reason"] for one in failures(tmp_path / "docs")}
    assert failed == {
        "sources/lines.jsonl:2": "no text",
        "sources/broken.pdf": "broken pdf",
        "sources/empty.html": "empty",
        "sources/many.tar.gz/3.jpg": "kind not read",
    }
    assert not (tmp_path / ".docs.work").exists()


def test_the_bytes_do_not_depend_on_the_workers(sources, tmp_path, monkeypatch):
    monkeypatch.setattr("scratchlm.corpus.shards._FILES", 4)
    folders = [tmp_path / f"docs{n}" for n in (1, 2, 8)]
    for folder, n in zip(folders, (1, 2, 8)):
        extract_documents(sources, folder, scale=Scale(n))
    first, *others = map(content, folders)
    assert len(in_order(folders[0].iterdir())) > 3
    assert all(other == first for other in others)


KILLED = """
import sys
from scratchlm.corpus import shards
from scratchlm.corpus.executors import Scale
from scratchlm.recipes.extract_documents import extract_documents
shards._FILES = 4
extract_documents(sys.argv[1], sys.argv[2], scale=Scale(1))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_run_that_is_killed_goes_on_to_the_same_bytes(sources, tmp_path, monkeypatch):
    monkeypatch.setattr("scratchlm.corpus.shards._FILES", 4)
    extract_documents(sources, tmp_path / "whole", scale=Scale(1))
    out = tmp_path / "killed"
    command = [sys.executable, "-c", KILLED, str(sources), str(out)]
    for n_done in (1, 2):
        process = subprocess.Popen(command)
        while process.poll() is None and len(list(out.glob(".done/0*.json"))) < n_done:
            time.sleep(0.01)
        time.sleep(0.05 * n_done)  # into the next one
        process.kill()
        process.wait()
    assert not (out / "manifest.json").exists()
    subprocess.run(command, check=True)
    assert content(out) == content(tmp_path / "whole")


def test_only_shards_that_are_not_done_are_done_again(sources, tmp_path, monkeypatch):
    monkeypatch.setattr("scratchlm.corpus.shards._FILES", 5)
    extract_documents(sources, tmp_path / "whole", scale=Scale(1))
    done: Counter[str] = Counter()
    allowed = [2]

    def some(shard: Path, *rest):
        if done.total() == allowed[0]:
            raise KeyboardInterrupt
        done[shard.name] += 1
        return stage.extract_shard(shard, *rest)

    monkeypatch.setattr("scratchlm.recipes.extract_documents.extract_shard", some)
    out = tmp_path / "docs"
    for allowed[0] in (2, 3):
        with pytest.raises(KeyboardInterrupt):
            extract_documents(sources, out, scale=Scale(1))
    allowed[0] = 100
    extract_documents(sources, out, scale=Scale(1))
    assert content(out) == content(tmp_path / "whole")
    assert set(done.values()) == {1}


def test_other_sources_or_settings_do_not_go_on_in_a_folder(sources, tmp_path):
    out = tmp_path / "docs"
    extract_documents(sources, out, config=ExtractConfig(limit=3))
    with pytest.raises(ConfigError, match=r"exists\. Name another .* --overwrite"):
        extract_documents(sources, out)
    (sources / "new.txt").write_text("new", encoding="ascii")
    counts = extract_documents(sources, out, overwrite=True, scale=Scale(1))
    assert counts.n_kept == KEPT + 1
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").touch()
    with pytest.raises(ConfigError, match="holds something else"):
        extract_documents(sources, tmp_path / "mine", overwrite=True)


def test_a_dry_run_takes_the_first_documents(sources, tmp_path):
    extract_documents(sources, tmp_path / "all", scale=Scale(1))
    counts = extract_documents(sources, tmp_path / "docs", config=ExtractConfig(limit=7))
    assert counts.n_in == 7
    first = [one.id for one in documents(tmp_path / "all")][: counts.n_kept]
    assert [one.id for one in documents(tmp_path / "docs")] == first


def test_the_folder_that_is_written_is_no_source(sources):
    counts = extract_documents(sources, sources / "docs", scale=Scale(1))
    assert counts == extract_documents(sources, sources / "docs", scale=Scale(1), overwrite=True)


def test_large_shards_become_several_files(tmp_path, monkeypatch):
    lines = [json.dumps({"text": f"{n} {TEXT}"}) for n in range(100)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="ascii")
    monkeypatch.setattr(stage, "_FILE_BYTES", 3000)
    out = tmp_path / "docs"
    extract_documents(tmp_path / "a.jsonl", out, scale=Scale(1))
    names = [path.name for path in in_order(out.iterdir())]
    assert names[:3] == ["00000.jsonl.zst", "00000_001.jsonl.zst", "00000_002.jsonl.zst"]
    assert [one.id for one in documents(out)] == [f"a.jsonl:{n}" for n in range(1, 101)]
    monkeypatch.undo()
    extract_documents(tmp_path / "a.jsonl", out, scale=Scale(1), overwrite=True)
    assert len(in_order(out.iterdir())) == 1


class Strict:
    """A sandbox in which a page with "slow" in it takes too long."""

    def __init__(self) -> None:
        self.tried: Counter[bytes] = Counter()

    def extract(self, _kind, body, _hints, _mode):
        self.tried[body] += 1
        raise Unreadable("time limit" if b"slow" in body else "no text")


def test_what_ran_into_a_limit_is_not_tried_again(tmp_path):
    raws = [
        Raw(name, "s", "html", body, Hints(), {}) for name, body in (("a", b"slow"), ("b", b"x"))
    ]
    sandbox = Strict()
    for _ in range(3):
        verdicts = Verdicts(tmp_path / "v", tmp_path / "older")
        found = [taken_apart(raw, "main", sandbox, verdicts) for raw in raws]
        assert [one.reason for one in found] == ["time limit", "no text"]
    assert sandbox.tried == {b"slow": 1, b"x": 3}
    other = replace(raws[0], body=b"slow, and changed")
    assert isinstance(taken_apart(other, "main", sandbox, verdicts), Failure)
    assert sandbox.tried[other.body] == 1


SLOW = "<w:tbl><w:tr><w:tc>" * 20_000 + "<w:p><w:r><w:t>" + "x " * 50_000


@pytest.mark.skipif(sys.platform != "linux", reason="limits of other systems differ")
def test_a_verdict_outlives_the_run(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "docs"
    folder.mkdir()
    space = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    end = "</w:t></w:r></w:p>" + "</w:tc></w:tr></w:tbl>" * 20_000
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr("word/document.xml", f'<d xmlns:w="{space}">{SLOW}{end}</d>')
    (folder / "slow.docx").write_bytes(file.getvalue())
    (folder / "good.html").write_bytes(page(1))
    config = ExtractConfig(time_limit=0.5)
    began = time.monotonic()
    counts = extract_documents(folder, out, config=config, scale=Scale(1))
    assert counts.dropped == {"time limit": 1}
    first, before = time.monotonic() - began, content(out)
    assert failures(out)[0]["digest"]
    assert extract_documents(folder, out, config=config, scale=Scale(1), overwrite=True) == counts
    assert content(out) == before
    more = ExtractConfig(time_limit=0.6)  # another limit: it is tried again
    assert extract_documents(folder, out, config=more, overwrite=True).dropped == counts.dropped
    assert first < 30


def test_documents_as_a_stream(sources, tmp_path):
    extract_documents(sources, tmp_path / "docs", scale=Scale(1))
    stored = [(one.id, one.text, one.source, one.meta) for one in documents(tmp_path / "docs")]
    for workers in (1, 3):
        dropped: Counter[str] = Counter()
        stream = documents_of([sources], workers=workers, dropped=dropped)
        assert [(one.id, one.text, one.source, one.meta) for one in stream] == stored
        assert dropped == DROPPED
    assert len(list(documents_of([sources], ExtractConfig(limit=2)))) <= 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"time_limit": 0}, r"extract\.time_limit = 0 must be at least 0\.1"),
        ({"time_limit": float("nan")}, r"extract\.time_limit = nan"),
        ({"memory_mb": 10}, r"extract\.memory_mb = 10 must be at least 300"),
        ({"max_mb": 0}, r"extract\.max_mb = 0"),
        ({"limit": -1}, r"extract\.limit = -1"),
        ({"document_separator": ""}, r"extract\.document_separator is empty"),
        ({"text_key": ""}, r"extract\.text_key is empty"),
    ],
)
def test_settings_that_make_no_sense(values, message):
    with pytest.raises(ConfigError, match=message):
        ExtractConfig(**values)


def test_a_named_column_that_is_not_there_is_no_document(tmp_path):
    (tmp_path / "a.csv").write_text("id,review\n1,Good.\n")
    out = tmp_path / "docs"
    config = ExtractConfig(text_key="reveiw")
    assert extract_documents(tmp_path / "a.csv", out, config=config).dropped == {
        "no column reveiw": 1
    }
    assert failures(out)[0]["detail"] == "but id, review"
    config = ExtractConfig(text_key="review")
    extract_documents(tmp_path / "a.csv", out, config=config, overwrite=True)
    assert [one.text for one in documents(out)] == ["Good."]


def test_a_page_of_broken_characters_is_none(tmp_path):
    packed = gzip.compress(page(1))  # of a server that forgot to say so, cut
    (tmp_path / "a.html").write_bytes(b"<html><body><p>" + packed[10:-9] + b"</p></body></html>")
    counts = extract_documents(tmp_path / "a.html", tmp_path / "docs")
    assert counts.dropped == {"unknown encoding": 1}
    few = page(1).replace(b"all night talked", "all night t\ufffdlked".encode(), 1)
    (tmp_path / "b.html").write_bytes(few)
    extract_documents(tmp_path / "b.html", tmp_path / "few")
    assert [one.meta["n_broken"] for one in documents(tmp_path / "few")] == [1]


def test_its_own_output_is_no_source(sources, tmp_path):
    out = tmp_path / "docs"
    extract_documents(sources, out)
    before = content(out)
    with pytest.raises(ConfigError, match=r"docs, which is to be read, is the folder to make"):
        extract_documents([sources, out], out, overwrite=True)
    assert content(out) == before
