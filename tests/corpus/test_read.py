"""Files of every kind become documents; what cannot be read is named with file and place."""

import gzip
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scratchlm.base.errors import DataError
from scratchlm.corpus.pieces import PIECE
from scratchlm.corpus.read import Readable, Tally, find_files, read_documents


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(*paths: Path, **options):
    return list(read_documents(find_files(paths), **options))


def texts(*paths: Path, **options) -> list[str]:
    return [document.text for document in read(*paths, **options)]


def test_folders_are_read_in_one_order_with_portable_ids(tmp_path):
    for name in ("b.txt", "a/z.md", "a/b/c.txt", "a.jsonl"):
        write(tmp_path / "books" / name, json.dumps({"text": name}) if "json" in name else name)
    documents = read(tmp_path / "books")
    assert [document.id for document in documents] == [
        "books/a.jsonl:1",
        "books/a/b/c.txt",
        "books/a/z.md",
        "books/b.txt",
    ]
    assert all(Path(document.source).is_file() and document.ends for document in documents)


def test_hidden_and_other_files_are_counted(tmp_path, caplog):
    caplog.set_level(logging.INFO, "scratchlm")
    for name in ("a.txt", ".hidden.txt", ".git/b.txt", "c.png", "d.PNG", "README"):
        write(tmp_path / name, "text")
    assert [file.name for file in find_files([tmp_path])] == [f"{tmp_path.name}/a.txt"]
    assert "Passed over: 2 .png, 2 hidden, 1 without an ending." in caplog.text


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
@pytest.mark.parametrize(("n", "said"), [(1, "1 symbolic link."), (3, "3 symbolic links.")])
def test_links_that_are_not_followed_are_counted(tmp_path, caplog, n, said):
    caplog.set_level(logging.INFO, "scratchlm")
    write(tmp_path / "elsewhere" / "b.txt", "text")
    write(tmp_path / "books" / "a.txt", "text")
    for i in range(n):
        (tmp_path / "books" / f"link{i}").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "books" / "c.txt").symlink_to(tmp_path / "elsewhere" / "b.txt")
    found = find_files([tmp_path / "books"])
    assert [file.name for file in found] == ["books/a.txt", "books/c.txt"]
    assert f"Passed over: {said}" in caplog.text


def test_a_document_says_where_it_is_as_the_user_named_it(tmp_path):
    write(tmp_path / "a.jsonl", '{"text": "one"}')
    write(tmp_path / "b.txt", "two")
    assert [d.place for d in read(tmp_path)] == [
        f"{tmp_path / 'a.jsonl'}:1",
        f"{tmp_path / 'b.txt'}",
    ]


def test_a_file_given_twice_is_read_once(tmp_path):
    path = write(tmp_path / "a.txt", "text")
    assert texts(tmp_path, path) == ["text"]


@pytest.mark.parametrize("content", ["", " \n\t\n"])
def test_empty_documents_are_counted_and_left_out(tmp_path, content):
    write(tmp_path / "a.txt", content)
    write(tmp_path / "b.jsonl", '{"text": ""}\n\n{"text": "x"}\n')
    tally = Tally()
    assert texts(tmp_path, tally=tally) == ["x"]
    assert (tally.n_documents, tally.n_empty) == (1, 2)


def test_nothing_to_read_is_an_error(tmp_path):
    with pytest.raises(DataError, match="there is no text in"):
        find_files([tmp_path])
    with pytest.raises(DataError, match="does not exist"):
        find_files([tmp_path / "missing"])
    with pytest.raises(DataError, match=r"notes\.log is not a kind of file .* rename it"):
        find_files([write(tmp_path / "notes.log", "text")])


def test_long_texts_come_in_pieces(tmp_path):
    line = "The quick brown fox jumps over the lazy dog.\n"
    whole = line * (5 * PIECE // 2 // len(line))
    documents = read(write(tmp_path / "a.txt", whole))
    assert len(documents) == 3
    assert [document.ends for document in documents] == [False, False, True]
    assert {document.id for document in documents} == {"a.txt"}
    assert all(document.text.endswith("\n") for document in documents)
    assert "".join(document.text for document in documents) == whole


def test_separators_divide_a_file(tmp_path):
    path = write(tmp_path / "a.txt", "One.\n<|endoftext|>\nTwo.\n\n<|endoftext|>\n")
    documents = read(path, document_separator="<|endoftext|>")
    assert [(d.id, d.text) for d in documents] == [("a.txt:1", "One."), ("a.txt:2", "Two.")]
    assert texts(path) == ["One.\n<|endoftext|>\nTwo.\n\n<|endoftext|>\n"]


def test_encodings_are_tallied_and_named(tmp_path, caplog):
    caplog.set_level(logging.INFO, "scratchlm")
    poem = "床前明月光，疑是地上霜。\n"
    for codec in ("utf-8", "utf-16", "gb18030"):
        write(tmp_path / f"{codec}.txt", poem.encode(codec))
    tally = Tally()
    assert texts(tmp_path, tally=tally) == [poem] * 3
    tally.report()
    assert "1 file read as GB18030" in caplog.text
    assert "1 file read as UTF-16" in caplog.text
    assert "UTF-8" not in caplog.text


def test_bytes_that_decode_as_nothing_are_an_error_or_counted(tmp_path, caplog):
    path = write(tmp_path / "a.txt", b"good \xff\xfe bad")
    with pytest.raises(DataError, match=r'a\.txt, byte 5: .* set errors = "replace"'):
        read(path)
    tally = Tally()
    assert texts(path, errors="replace", tally=tally) == ["good \ufffd\ufffd bad"]
    tally.report()
    assert "2 places could not be decoded" in caplog.text


def test_json_lines_keep_their_other_keys(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "one\\u2028", "url": "u"}\r\n{"text": "two"}')
    documents = read(path)
    assert [(d.id, d.text, d.meta) for d in documents] == [
        ("a.jsonl:1", "one\u2028", {"url": "u"}),
        ("a.jsonl:2", "two", {}),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{oops", r"a\.jsonl, line 2, column 2: not valid JSON \(Expecting [^()]*\)\.$"),
        ("[1, 2]", r"line 2: not a JSON object"),
        ('{"body": "x", "id": 3}', r"line 2: the key 'text' is missing.* keys 'body', 'id'"),
        ('{"text": 3}', r"line 2: the key 'text' is not text but 3"),
        ('{"text": "a\\ud800b"}', r"line 2: '\\ud800' at character 1 is half of a surrogate"),
        ("[" * 100_000, r"line 2: not valid JSON"),
        ("1" * 5000, r"line 2: not valid JSON"),
    ],
)
def test_bad_json_lines_are_named(tmp_path, line, message):
    path = write(tmp_path / "a.jsonl", '{"text": "fine"}\n' + line + "\n")
    with pytest.raises(DataError, match=message):
        read(path)


def test_half_surrogates_can_be_replaced(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "a\\ud800b\\ud83d\\ude00"}')
    tally = Tally()
    assert texts(path, errors="replace", tally=tally) == ["a\ufffdb\N{GRINNING FACE}"]
    assert tally.n_replaced == 1


def test_compressed_files_are_read(tmp_path):
    write(tmp_path / "a.jsonl.gz", gzip.compress(b'{"text": "one"}\n'))
    write(
        tmp_path / "b.txt.gz", gzip.compress("二月春风似剪刀，不知细叶谁裁出。".encode("gb18030"))
    )
    assert texts(tmp_path) == ["one", "二月春风似剪刀，不知细叶谁裁出。"]
    cut = write(tmp_path / "c.txt.gz", gzip.compress(b"text" * 999)[:-9])
    with pytest.raises(DataError, match=r"c\.txt\.gz is not a whole gzip file"):
        read(cut)


def test_parquet_columns_are_read(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    rows = [f"text {i}" for i in range(600)] + ["", None]
    parquet.write_table(arrow.table({"body": rows, "n": list(range(602))}), path)
    tally = Tally()
    assert texts(path, text_key="body", tally=tally) == rows[:600]
    assert tally.n_empty == 2
    with pytest.raises(DataError, match=r"no column 'text'; it has body, n"):
        read(path)
    with pytest.raises(DataError, match="row 1: the column holds int, not text"):
        read(path, text_key="n")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read(write(tmp_path / "b.parquet", b"PAR1 nonsense"))


def test_parquet_without_pyarrow_says_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from scratchlm.corpus.read import find_files, read_documents\n"
        "list(read_documents(find_files([sys.argv[1]])))"
    )
    path = write(tmp_path / "a.parquet", b"PAR1")
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert 'pip install "scratchlm[parquet]"' in done.stderr


def test_reading_needs_little_memory(tmp_path):
    """40 MB of text through a process that is at most 30 MB larger for it."""
    path = tmp_path / "a.txt"
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(400):
            file.write("床前明月光，疑是地上霜。\n" * 2700)
    code = (
        "import sys; from scratchlm.base.runtime import peak_memory\n"
        "from scratchlm.corpus.read import find_files, read_documents\n"
        "before = peak_memory()\n"
        "n = sum(len(d.text) for d in read_documents(find_files([sys.argv[1]])))\n"
        "print(n, (peak_memory() or 0) - (before or 0))"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, check=True)
    n_chars, grown = map(int, done.stdout.split())
    assert n_chars == 400 * 2700 * 13
    assert grown < 30e6


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(DataError, match=r"pipe\.txt is neither a file nor a folder"):
        find_files([tmp_path / "pipe.txt"])


def test_no_paths_at_all():
    with pytest.raises(DataError, match=r"there is nothing to read: name a file or a folder"):
        find_files([])


def test_a_folder_that_is_left_out_whole_is_named(tmp_path):
    write(tmp_path / "a.txt", "text")
    with pytest.raises(DataError, match=r"no text in .* outside of .*, the folder to make"):
        find_files([tmp_path], without=tmp_path)


def test_accounts_of_our_stages_are_no_text(tmp_path):
    for name in ("pages/journal.tsv", "pages/urls.tsv", "mine/journal.tsv", "mine/failed/a.jsonl",
                 "docs/00000.jsonl.zst", "docs/failed/00000.jsonl", "begun/00000.jsonl.zst",
                 "begun/failed/00000.jsonl"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / name, "x")
    write(tmp_path / "pages" / "fetch.json", "{}")
    write(tmp_path / "docs" / "counts.json", "{}")
    (tmp_path / "begun" / ".done").mkdir()
    found = find_files([tmp_path], Readable(lambda _: "text"))
    names = {one.path.relative_to(tmp_path).as_posix() for one in found}
    assert names == {
        "pages/fetch.json", "mine/journal.tsv", "mine/failed/a.jsonl", "docs/00000.jsonl.zst",
        "docs/counts.json", "begun/00000.jsonl.zst",
    }  # fmt: skip
