"""Files of every kind become records that know their place."""

import gzip
import json
import logging
from pathlib import Path

import pytest

from scratchlm.base.errors import DataError
from scratchlm.base.zstd import zstandard
from scratchlm.examples.records import Record, collect, read_records
from scratchlm.examples.skipped import BadRecord, Skipped

TWO = [{"q": "What is one?", "a": "1"}, {"q": "二是什么？", "a": "第二个数"}]
LINES = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in TWO)
KINDS = {
    "a.json": json.dumps(TWO, ensure_ascii=False, indent=2),
    "b.json": LINES,
    "c.json": json.dumps({"data": TWO}, ensure_ascii=False),
    "d.jsonl": LINES,
    "e.ndjson": LINES.replace("\n", "\r\n"),
    "f.csv": "q,a\nWhat is one?,1\n二是什么？,第二个数\n",
    "g.tsv": "q\ta\nWhat is one?\t1\n二是什么？\t第二个数\n",
    "h": "q\ta\nWhat is one?\t1\n二是什么？\t第二个数\n",
    "i.txt": "q\ta\nWhat is one?\t1\n二是什么？\t第二个数\n",
}


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def values(path: Path, **options) -> list[dict]:
    return [record.values for record in read_records([path], **options)]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
def test_every_kind_gives_the_same_records(name, packing, tmp_path):
    if packing and Path(name).suffix in ("", ".txt"):
        pytest.skip("these are recognised by their contents")
    content = KINDS[name].encode()
    if packing == ".gz":
        content = gzip.compress(content)
    elif packing:
        compress = zstandard("testing").ZstdCompressor().compress
        content = compress(content[:40]) + compress(content[40:])  # in two frames
    assert values(write(tmp_path / (name + packing), content)) == TWO


def test_parquet_with_lists_of_messages(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [
        {"messages": [{"role": "user", "content": "你好"}], "n": 1},
        {"messages": [], "n": None},
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    records = list(read_records([tmp_path / "a.parquet"]))
    assert [record.values for record in records] == rows
    assert records[1].place == f"{tmp_path / 'a.parquet'}, row 2"
    write(tmp_path / "b.parquet", b"PAR1 no")
    with pytest.raises(DataError, match=r"b\.parquet cannot be read as Parquet"):
        values(tmp_path / "b.parquet")


@pytest.mark.parametrize("name", ["a.json", "d.jsonl", "f.csv", "g.tsv"])
@pytest.mark.parametrize(
    "codec", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "gb18030"]
)
def test_encodings_are_recognised(name, codec, tmp_path, caplog):
    caplog.set_level(logging.INFO, "scratchlm")
    assert values(write(tmp_path / name, KINDS[name].encode(codec))) == TWO
    assert ("is read as" in caplog.text) == (codec != "utf-8-sig")


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_what_cannot_be_decoded_names_the_byte(name, tmp_path):
    content = "caf\u00e9 ol\u00e9".encode("latin-1") * 3
    path = write(tmp_path / name, gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(DataError, match=r"a\.jsonl.*, byte 3: .* Convert the file to UTF-8"):
        values(path)


def test_binary_and_damaged_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"a\.csv holds NUL bytes"):
        values(write(tmp_path / "a.csv", b"a,b\n\0\1\2\0\0"))
    with pytest.raises(DataError, match=r"b\.csv\.gz cannot be unpacked: .* Fetch it again"):
        values(write(tmp_path / "b.csv.gz", gzip.compress(b"a,b\n1,2\n" * 99)[:-12]))


def test_places(tmp_path):
    for name in ("a.json", "b.json", "c.json", "d.jsonl", "f.csv"):
        write(tmp_path / name, KINDS[name])
    records = read_records([tmp_path])
    last = {one.file.name: one.place.replace(str(one.file), one.file.name) for one in records}
    assert last == {
        "a.json": "a.json, record 2 (line 6)",
        "b.json": "b.json:2",
        "c.json": "c.json, record 2",
        "d.jsonl": "d.jsonl:2",
        "f.csv": "f.csv:3",
    }


def test_folders_are_walked_in_order_and_others_are_said(tmp_path, caplog):
    caplog.set_level(logging.INFO, "scratchlm")
    for name in ("b/z.jsonl", "b/a.json", "a.csv"):
        write(tmp_path / name, {"b/a.json": "[{}]", "a.csv": "x\n1\n"}.get(name, "{}"))
    for name in ("LICENSE", "notes.md", "c.png", "d.txt", "e"):
        write(tmp_path / name, "\0\0" if name == "e" else "text\n")
    places = [record.file.relative_to(tmp_path).as_posix() for record in read_records([tmp_path])]
    assert places == ["a.csv", "b/a.json", "b/z.jsonl"]
    assert "Passed over: 1 .md, 1 .png, 1 .txt, 2 without an ending." in caplog.text


@pytest.mark.parametrize("name", ["a.docx", "a.txt", "a", "a.parquet.gz", "a.bz2"])
def test_other_files_are_refused_by_name(name, tmp_path):
    with pytest.raises(DataError, match=r"must end in one of \.json .*Tables with tabs, as many"):
        values(write(tmp_path / name, "text\n"))


@pytest.mark.parametrize(
    ("name", "content"), [("a.json", "[]"), ("a.jsonl", "\n\n"), ("a.csv", ""), ("a.tsv", "a\tb\n")]
)
def test_a_file_without_records_is_an_error(name, content, tmp_path):
    with pytest.raises(DataError, match=rf"{name} holds no records"):
        values(write(tmp_path / name, content))


BAD = {
    "a.jsonl": ('{"a": 1}\n{"a":\n[1]\nnull\n', ":2: column 6 is not valid JSON"),
    "b.json": ('[{"a": 1}, 7,\n"x", null]', r", record 2 \(line 1\): not an object .* but int"),
    "c.csv": ("a,b\n1,2\n3\n4,5,6\n7,8,9\n", ":3: it has 1 cells, and line 1 has 2"),
    "d.tsv": ("a\tb\n1\t2\n3\n4\t5\t6\n7\t8\t9\n", ":3: it has 1 cells, and line 1 has 2"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_is_one_error_that_names_its_place(name, tmp_path):
    content, said = BAD[name]
    path = write(tmp_path / name, content)
    with pytest.raises(BadRecord, match=rf"{name}{said}.*\. Mend it, or give --skip-bad"):
        values(path)


@pytest.mark.parametrize("name", BAD)
def test_bad_records_are_counted_when_asked_for(name, tmp_path):
    skipped = Skipped()
    (good,) = values(write(tmp_path / name, BAD[name][0]), skipped=skipped)
    assert good in ({"a": 1}, {"a": "1", "b": "2"})
    assert skipped.counts.total() == 3


def test_the_tally_is_said_once(caplog):
    skipped = Skipped()
    skipped.report(7, "texts")
    assert not caplog.text
    for i in range(5):
        skipped.add(BadRecord(f"a.csv:{i}", "empty text", "the text is empty"))
    skipped.add(BadRecord("b.csv:9", "empty label", "the label is empty"))
    skipped.report(1200, "texts")
    assert [record.getMessage() for record in caplog.records] == [
        "1,200 texts; 6 bad records left out: empty text (5: a.csv:0; a.csv:1; a.csv:2; ...), "
        "empty label (1: b.csv:9)."
    ]
    with pytest.raises(DataError, match=r"there are no texts to use\. 6 bad records left out: emp"):
        skipped.report(0, "texts")


def test_a_table_has_names_for_its_columns(tmp_path):
    path = write(tmp_path / "a.csv", " q ,,a\n1,2,3\n")
    assert values(path) == [{"q": "1", "2": "2", "a": "3"}]
    assert values(path, is_header=lambda *_: False)[1] == {"1": "1", "2": "2", "3": "3"}
    with pytest.raises(DataError, match=r"b\.csv:1: two columns are named 'q'"):
        values(write(tmp_path / "b.csv", "q,a,q\n1,2,3\n"))


def test_collect_skips_only_bad_records():
    records = [Record({"n": n}, Path("a"), n) for n in range(1, 4)]

    def make(record: Record) -> list[int]:
        if record.number == 2:
            raise BadRecord(record.place, "two", "it is two")
        return [record.number] * 2

    skipped = Skipped()
    assert list(collect(records, make, skipped)) == [1, 1, 3, 3]
    assert skipped.counts == {"two": 1}
    with pytest.raises(BadRecord, match="a:2: it is two"):
        list(collect(records, make, None))
    with pytest.raises(ZeroDivisionError):
        list(collect(records, lambda record: [1 // (record.number - 2)], skipped))
