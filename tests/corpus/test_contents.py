"""What files hold: every kind, plain, packed and in archives, and each failure with its reason."""

import bz2
import gzip
import io
import json
import lzma
import random
import tarfile
import zipfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
import zstandard

from scratchlm.corpus.contents import Item, Part, Raw, contents
from scratchlm.corpus.read import Document
from scratchlm.corpus.records import Failure, Reading
from scratchlm.corpus.shards import find_sources, plan_shards
from scratchlm.extraction.result import Hints
from scratchlm.web.warc import response_record

READING = Reading(most=1 << 20)
POEM = "床前明月光，疑是地上霜。\n举头望明月，低头思故乡。\n"
PACK = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


def zipped(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def items(folder: Path, reading: Reading = READING, **files: bytes) -> list[Item]:
    """What a folder of these files holds."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return [one for file in find_sources([folder]) for one in contents(Part(file), reading)]


def texts(*args, **files) -> dict[str, str]:
    """The text of each document, or why there is none, by the end of its id."""
    found = {}
    for one in items(*args, **files):
        name = one.id.partition("/")[2]
        assert name not in found
        if isinstance(one, Raw):
            found[name] = f"{one.kind}: {one.body.decode()}"
        else:
            found[name] = one.text if isinstance(one, Document) else one.reason
    return found


def test_kinds(tmp_path):
    found = texts(
        tmp_path,
        **{
            "a.txt": POEM.encode(),
            "b.py": b"def f():\n    return 1\n",
            "c.html": b"<p>x",
            "d.csv": b"id,text\n1,one\n2,two\n",
            "e.tsv": b"a\tb\nc\td\n",
            "f.jsonl": b'{"text": "one", "n": 1}\n\n{"text": "two"}',
            "page": b"<!doctype html><p>x",  # no ending: known by its bytes
        },
    )
    assert found == {
        "a.txt": POEM,
        "b.py": "def f():\n    return 1\n",
        "c.html": "html: <p>x",
        "d.csv:1": "one",
        "d.csv:2": "two",
        "e.tsv": "a\tb\nc\td\n",
        "f.jsonl:1": "one",
        "f.jsonl:3": "two",
        "page": "html: <!doctype html><p>x",
    }


def test_what_is_known_besides_the_text(tmp_path):
    files = {
        "a.txt": b"x",
        "b.py": b"x",
        "c.csv": b"text,n\nx,1\n",
        "d.jsonl": b'{"text":"x","n":1}',
    }
    found = items(tmp_path, **files)
    assert all(isinstance(one, Document) for one in found)
    assert [one.meta for one in found if isinstance(one, Document)] == [
        {"kind": "text"},
        {"kind": "code"},
        {"n": "1"},
        {"n": 1},
    ]
    assert found[0].source == str(tmp_path / "a.txt")


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "gb18030", "big5", "shift_jis"])
def test_encodings(tmp_path, codec):
    text = (
        "人人生而自由，在尊嚴和權利上一律平等。他們賦有理性和良心，並應以兄弟關係的精神互相對待。"
        * 3
    )
    if codec == "shift_jis":
        text = (
            "すべての人間は、生れながらにして自由であり、かつ、尊厳と権利とについて平等である。" * 3
        )
    lines = json.dumps({"text": text}, ensure_ascii=False)
    files = {"a.txt": text.encode(codec), "b.csv": f"text\n{text}\n".encode(codec)}
    if codec not in ("big5", "shift_jis"):
        files["c.jsonl"] = lines.encode(codec)
    assert set(texts(tmp_path, **files).values()) == {text}


@pytest.mark.parametrize("packing", PACK)
def test_packed_files(tmp_path, packing):
    pack = PACK[packing]
    found = texts(
        tmp_path,
        **{
            f"a.txt{packing}": pack(POEM.encode()),
            f"b.jsonl{packing}": pack(b'{"text": "one"}'),
            f"c.html{packing}": pack(b"<p>x"),
            f"d.tar{packing}": pack(tarred({"x/y.txt": b"in a tar"})),
            f"e_data{packing}": pack(tarred({"z.txt": b"like OpenWebText"})),
            f"f.jpg{packing}": pack(b"no text"),
            f"g.tsv{packing}": pack(b"text\tn\nrow, one\t1\n"),
        },
    )
    assert found == {
        f"a.txt{packing}": POEM,
        f"b.jsonl{packing}:1": "one",
        f"c.html{packing}": "html: <p>x",
        f"d.tar{packing}/x/y.txt": "in a tar",
        f"e_data{packing}/z.txt": "like OpenWebText",
        f"f.jpg{packing}": "kind not read",
        f"g.tsv{packing}:1": "row, one",
    }


def test_archives_in_archives(tmp_path):
    texts_of = {"1.txt": b"one", "2.txt": b"two"}
    subset = tarred({"urlsf_subset00-1_data.xz": lzma.compress(tarred(texts_of))})
    inner = zipped({"deep.zip": zipped({"deeper.zip": zipped({"x.txt": b"x"})})})
    found = texts(
        tmp_path,
        **{"openwebtext.tar.xz": lzma.compress(tarred({"subsets/00.tar": subset})), "z.zip": inner},
    )
    place = "openwebtext.tar.xz/subsets/00.tar/urlsf_subset00-1_data.xz"
    assert found == {
        f"{place}/1.txt": "one",
        f"{place}/2.txt": "two",
        "z.zip/deep.zip/deeper.zip/x.txt": "x",
    }
    too_deep = zipped({"1.zip": zipped({"2.zip": zipped({"3.zip": zipped({"x.txt": b"x"})})})})
    (tmp_path / "openwebtext.tar.xz").unlink()
    assert texts(tmp_path, **{"z.zip": too_deep}) == {"z.zip/1.zip/2.zip/3.zip": "nested too deep"}


def test_members_that_give_no_text(tmp_path):
    files = {
        "good.txt": b"good",
        "../../out.txt": b"harmless",
        "picture.jpg": b"\xff\xd8\xff",
        ".hidden.txt": b"x",
        "__MACOSX/._good.txt": b"x",
        "empty.txt": b"",
        "binary.txt": b"some text \0 and more",
        "table.parquet": b"PAR1",
        "page": b"<html><p>x",
        "long.html": b"x" * ((1 << 20) + 1),
    }
    assert texts(tmp_path, **{"a.zip": zipped(files)}) == {
        "a.zip/good.txt": "good",
        "a.zip/out.txt": "harmless",
        "a.zip/picture.jpg": "kind not read",
        "a.zip/.hidden.txt": "hidden",
        "a.zip/__MACOSX/._good.txt": "hidden",
        "a.zip/empty.txt": "empty",
        "a.zip/binary.txt": "binary",
        "a.zip/table.parquet": "kind not read",
        "a.zip/page": "html: <html><p>x",
        "a.zip/long.html": "too large",
    }
    assert {path.name for path in tmp_path.parent.rglob("out.txt")} == set()


def test_an_archive_that_breaks_off_keeps_what_was_in_front(tmp_path):
    body = gzip.compress(tarred({"a.txt": b"one", "b.txt": b"x" * 100_000}), 0)
    assert texts(tmp_path, **{"a.tar.gz": body[:50_000]}) == {
        "a.tar.gz/a.txt": "one",
        "a.tar.gz/b.txt": "broken archive",
        "a.tar.gz": "broken archive",
    }


def test_long_texts_are_cut_and_separated(tmp_path):
    line = "The quick brown fox jumps over the lazy dog.\n"
    whole = line * 2000
    found = texts(tmp_path, Reading(most=30_000), **{"a.txt": whole.encode()})
    assert list(found) == [f"a.txt:{n}" for n in range(1, len(found) + 1)]
    assert "".join(found.values()) == whole
    assert all(text.endswith("\n") for text in found.values())
    reading = Reading(1 << 20, document_separator="<|endoftext|>")
    found = texts(tmp_path, reading, **{"a.txt": b"one\n<|endoftext|>\ntwo\n<|endoftext|>\n"})
    assert found == {"a.txt:1": "one", "a.txt:2": "two"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "broken json"),
        (b"[1]", "broken json"),
        (b'{"txt": "x"}', "no key text"),
        (b'{"text": 5}', "no text"),
        (b'{"text": null}', "empty"),
        (b'{"text": " "}', "empty"),
        (b"[" * 100_000, "broken json"),
        (b'{"text": "x", "n": ' + b"[" * 500 + b"]" * 500 + b"}", "broken json"),
        (b'{"text": "x", "n": ' + b"9" * 5000 + b"}", "broken json"),
        (b"\xff\xff", "broken json"),
        (b'{"text": "' + b"x" * (1 << 20) + b'"}', "too large"),
    ],
)
def test_bad_lines_do_not_end_a_file(tmp_path, line, reason):
    content = b'{"text": "before"}\n' + line + b'\n{"text": "behind"}'
    assert texts(tmp_path, **{"a.jsonl": content}) == {
        "a.jsonl:1": "before",
        "a.jsonl:2": reason,
        "a.jsonl:3": "behind",
    }


def test_numbers_that_json_does_not_have(tmp_path):
    (one,) = items(tmp_path, **{"a.jsonl": b'{"text": "x", "a": NaN, "b": [Infinity]}'})
    assert isinstance(one, Document)
    assert one.meta == {"a": None, "b": [None]}


def test_texts_in_no_encoding(tmp_path):
    noise = bytes(range(128, 256)) * 30
    found = texts(
        tmp_path, **{"a.txt": noise, "b.txt": b"binary \0 text", "c.txt": b"x\xff" + b"y" * 200}
    )
    assert found["b.txt"] == "binary"
    assert found["c.txt"].count("\ufffd") <= 1
    (one,) = items(tmp_path / "one", **{"a.txt": "é".encode() * 200 + b"\xff"})
    assert isinstance(one, Document)
    assert one.meta == {"kind": "text", "n_broken": 1}


def test_a_table_that_breaks_off(tmp_path):
    content = b'id,text\n1,one\n2,"' + b"never closed\n" * 100_000
    assert texts(tmp_path, **{"a.csv": content}) == {"a.csv:1": "one", "a.csv": "broken table"}


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"text": ["one", None, "三"], "n": [1, 2, 3], "tags": [["a"], [], []]})
    parquet.write_table(table, tmp_path / "a.parquet")
    parquet.write_table(table, tmp_path / "b.parquet")
    found = items(tmp_path, **{"c.parquet": b"PAR1 and nothing"})
    assert [one.id.partition("/")[2] for one in found] == [
        *(f"{name}.parquet:{n}" for name in "ab" for n in (1, 2, 3)),
        "c.parquet",
    ]
    assert isinstance(found[0], Document)
    assert found[0].meta == {"n": 1}
    assert Counter(one.reason for one in found if isinstance(one, Failure)) == {
        "empty": 2,
        "parquet not read": 1,
    }
    found = items(tmp_path, Reading(1 << 20, text_key="words"))
    assert "it has text, n, tags" in found[0].detail


def record(url: str, body: bytes, content_type: str = "text/html", status: str = "200 OK") -> bytes:
    headers = [(b"Content-Type", content_type.encode())] if content_type else []
    date = datetime(2024, 5, 18, tzinfo=UTC)
    return response_record(url, f"HTTP/1.1 {status}", headers, body, date, "127.0.0.1")


def test_pages_of_the_web(tmp_path):
    noise = random.Random(0).randbytes(2 << 20)  # no program makes less of it
    records = {
        "html": record("https://a.example/html", b"<p>x", "text/html; charset=Big5"),
        "text": record(
            "https://a.example/text", "é".encode("latin-1") * 9, "text/plain;charset=latin1"
        ),
        "pdf": record("https://a.example/pdf", b"%PDF-1.4", "application/pdf"),
        "untold": record("https://a.example/untold", b"<!doctype html><p>x", ""),
        "noise": record("https://a.example/noise", b"\1\2", ""),
        "picture": record("https://a.example/picture", b"\xff\xd8", "image/jpeg"),
        "gone": record("https://a.example/gone", b"<p>gone", status="404 Not Found"),
        "large": record("https://a.example/large", noise),
    }
    found = items(tmp_path, **{"a.warc.gz": b"".join(records.values())})
    known = {}
    for one in found:
        if isinstance(one, Failure):
            known[one.source.rpartition("/")[2]] = f"{one.reason} {one.detail}".strip()
        elif isinstance(one, Raw):
            known[one.meta["url"].rpartition("/")[2]] = f"{one.kind} {one.hints.charset}".strip()
        else:
            known[one.meta["url"].rpartition("/")[2]] = one.text
    assert known == {
        "html": "html big5",
        "text": "é" * 9,
        "pdf": "pdf",
        "untold": "html",
        "noise": "content type",
        "picture": "content type image/jpeg",
        "gone": "http status 404",
        "a.warc.gz": "too large",
    }
    first = found[0]
    assert isinstance(first, Raw)
    assert first.hints == Hints("https://a.example/html", "big5", "2024-05-18")
    assert first.meta == {
        "url": "https://a.example/html",
        "content_type": "text/html",
        "fetched": "2024-05-18T00:00:00Z",
    }
    assert first.id == f"{tmp_path.name}/a.warc.gz:0"


def test_pieces_of_a_warc_file_have_every_record_once(tmp_path, monkeypatch):
    noise = random.Random(0).randbytes(2 << 20)
    bodies = [noise if n % 7 == 3 else f"<p>page {n}".encode() for n in range(40)]
    records = [record(f"https://a.example/{n}", body) for n, body in enumerate(bodies)]
    (tmp_path / "a.warc.gz").write_bytes(b"".join(records))
    (file,) = find_sources([tmp_path])
    whole = list(contents(Part(file), READING))
    assert Counter(type(one) for one in whole) == {Raw: 34, Failure: 6}
    monkeypatch.setattr("scratchlm.corpus.shards._BYTES", 1)
    for n_pieces in (2, 3, 11):
        monkeypatch.setattr("scratchlm.corpus.shards._PIECE", file.n_bytes // n_pieces)
        pieces = [part for (part,) in plan_shards([file])]
        assert len(pieces) >= n_pieces
        found = [one for piece in pieces for one in contents(piece, READING)]
        assert Counter(found_id(one) for one in found) == Counter(map(found_id, whole))


def found_id(one: Item) -> str:
    return f"{one.id} {one.reason if isinstance(one, Failure) else ''}"


def test_a_file_that_is_gone_is_a_failure(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"x")
    (file,) = find_sources([tmp_path])
    file.path.unlink()
    (one,) = contents(Part(file), READING)
    assert isinstance(one, Failure)
    assert one.reason == "cannot be opened"
