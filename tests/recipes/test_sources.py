"""Files of any kind as text: extracted once, anew when they change, and never where all is text."""

import zipfile
from pathlib import Path

import pytest

from scratchlm.base.errors import DataError
from scratchlm.corpus.read import find_files, read_documents
from scratchlm.recipes.sources import as_text

STORY = "The old bridge was closed in winter, and the village waited for spring. " * 5


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "a.txt").write_text("春眠不覺曉，處處聞啼鳥。\n", encoding="utf-8")
    (folder / "b.html").write_text(f"<html><body><article><p>{STORY}</p></article></body></html>")
    with zipfile.ZipFile(folder / "c.zip", "w") as archive:
        archive.writestr("inside.py", "print('hello')\n")
    return folder


def texts(paths: list) -> dict[str, str]:
    return {document.meta["id"]: document.text for document in read_documents(find_files(paths))}


def test_text_stays_where_it_is(folder, tmp_path):
    given = [folder / "a.txt", "bundled:tang"]
    assert as_text(given, tmp_path / "documents") == given
    assert as_text(str(folder / "a.txt"), tmp_path / "documents") == [str(folder / "a.txt")]
    assert not (tmp_path / "documents").exists()


def test_files_of_all_kinds_become_documents(folder, tmp_path):
    [out] = as_text(folder, tmp_path / "documents")
    assert texts([out]) == {
        "mine/a.txt": "春眠不覺曉，處處聞啼鳥。\n",
        "mine/b.html": STORY.strip(),
        "mine/c.zip/inside.py": "print('hello')\n",
    }


def test_what_was_extracted_is_taken_again_until_it_changes(folder, tmp_path):
    [out] = as_text(folder, tmp_path / "documents")
    shard = next(out.glob("*.zst"))
    before = shard.stat().st_mtime_ns
    assert as_text([folder], out) == [out]
    assert shard.stat().st_mtime_ns == before
    (folder / "a.txt").write_text("another text\n", encoding="utf-8")
    as_text([folder], out)
    assert texts([out])["mine/a.txt"] == "another text\n"


def test_the_size_of_documents_is_that_of_their_text(folder, tmp_path):
    [out] = as_text(folder, tmp_path / "documents")
    expected = sum(len(text.encode()) for text in texts([out]).values())
    assert sum(file.n_bytes for file in find_files([out])) == pytest.approx(expected, rel=0.01)


def test_paths_that_hold_nothing_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"nowhere does not exist"):
        as_text(tmp_path / "nowhere", tmp_path / "documents")
