"""Words with one space between them: the libraries' own, line for line."""

import gzip
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlm.base.errors import ConfigError, DataError, MissingExtraError
from scratchlm.corpus.executors import Scale
from scratchlm.corpus.pieces import PIECE
from scratchlm.corpus.read import Document
from scratchlm.corpus.segment import SegmentSettings, segment
from scratchlm.corpus.store import ENDING, write_documents
from scratchlm.recipes.segment_documents import SegmentConfig, segment_documents
from scratchlm.tokenizer.words import SEGMENTERS

ENGLISH = "Don't panic, it's 3.5 km away!\n\n  He said:\t\"U.K. isn't far.\"\n"
ENGLISH_WORDS = "Do n't panic , it 's 3.5 km away !\nHe said : \" U.K. is n't far . \"\n\n"
CHINESE = (
    "\u6625\u7720\u4e0d\u89c9\u6653\uff0c\u5904\u5904\u95fb\u557c\u9e1f\u3002\n"
    "\u6211\u5728\u5317\u4eac\u5927\u5b66\u5b66\u4e60 Python 3"
)


def stored(path: Path, texts: list[str]) -> Path:
    with write_documents(path) as write:
        for number, text in enumerate(texts):
            write(Document(str(number), text, "here", {}))
    return path


def words_of(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text("utf-8") for path in sorted(folder.glob("*.tokenized.txt"))}


def test_english_words_are_spacys(tmp_path):
    pytest.importorskip("spacy")
    stored(tmp_path / f"00000{ENDING}", [ENGLISH, " \n\t", "Bye."])
    counts = segment_documents(tmp_path, tmp_path / "out", "spacy")
    assert words_of(tmp_path / "out") == {"00000.tokenized.txt": ENGLISH_WORDS + "Bye .\n\n"}
    assert (counts.n_in, counts.n_kept, counts.dropped) == (3, 2, {"no words": 1})
    assert counts.in_bytes == len(ENGLISH) + 3 + 4
    assert counts.kept_bytes == len(ENGLISH_WORDS) - 1 + len("Bye .\n")


def test_chinese_words_are_rjiebas(tmp_path):
    rjieba = pytest.importorskip("rjieba")
    stored(tmp_path / f"00000{ENDING}", [CHINESE])
    segment_documents(tmp_path, tmp_path / "out", "rjieba")
    first, second, *rest = words_of(tmp_path / "out")["00000.tokenized.txt"].split("\n")
    assert rest == ["", ""]
    cut = [rjieba.cut(line) for line in CHINESE.split("\n")]
    assert first.split(" ") == cut[0]
    assert second.split(" ") == [word for word in cut[1] if word != " "]
    assert "\u5317\u4eac\u5927\u5b66" in second.split(" ")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=4))
def test_words_and_documents_come_back(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("words")
    shard = stored(folder / f"00000{ENDING}", texts)
    counts = segment(shard, folder / "out.txt", SegmentSettings("rjieba"))
    written = (folder / "out.txt").read_bytes().decode("utf-8")
    split = SEGMENTERS["rjieba"].split
    lines = [[list(split(line)) for line in text.split("\n")] for text in texts]
    flat = [" ".join(word for line in text for word in line).split() for text in lines]
    flat = [words for words in flat if words]
    assert [document.split() for document in written.split("\n\n")[:-1]] == flat
    assert counts.n_kept == len(flat)
    assert counts.n_in == len(texts)
    for line in written.split("\n"):
        assert line.split(" ") == (line.split() or [""])


def test_files_of_text_are_read_too(tmp_path):
    pytest.importorskip("spacy")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("One two.<|endoftext|>\nThree", encoding="utf-8")
    (tmp_path / "in" / "b.jsonl").write_text(json.dumps({"story": "Four"}) + "\n", encoding="utf-8")
    (tmp_path / "in" / "c.txt.gz").write_bytes(gzip.compress("Caf\u00e9s\u3000five".encode()))
    config = SegmentConfig(document_separator="<|endoftext|>", text_key="story")
    counts = segment_documents(
        [tmp_path / "in"], tmp_path / "out", "spacy", config=config, scale=Scale(1)
    )
    assert list(words_of(tmp_path / "out").values()) == [
        "One two .\n\nThree\n\n",
        "Four\n\n",
        "Caf\u00e9s five\n\n",
    ]
    assert counts.n_kept == 4


def test_a_long_line_comes_in_pieces_and_stays_one(tmp_path):
    text = "word, " * (PIECE // 3)
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    counts = segment(tmp_path / "a.txt", tmp_path / "out", SegmentSettings("spacy"))
    assert (tmp_path / "out").read_text("utf-8") == "word , " * (PIECE // 3 - 1) + "word ,\n\n"
    assert (counts.n_in, counts.in_bytes) == (1, len(text))


def test_the_workers_change_no_byte_and_a_limit_holds(tmp_path):
    (tmp_path / "in").mkdir()
    for n in range(3):
        stored(tmp_path / "in" / f"{n:05}{ENDING}", [f"{CHINESE} {n} {i}" for i in range(20)])
    alone = segment_documents(tmp_path / "in", tmp_path / "1", "rjieba", scale=Scale(1))
    two = segment_documents(tmp_path / "in", tmp_path / "2", "rjieba", scale=Scale(2))
    assert alone == two
    assert words_of(tmp_path / "1") == words_of(tmp_path / "2")
    few = segment_documents(
        tmp_path / "in", tmp_path / "few", "rjieba", config=SegmentConfig(limit=2), scale=Scale(1)
    )
    assert few.n_in == 6
    for name, text in words_of(tmp_path / "few").items():
        assert words_of(tmp_path / "1")[name].startswith(text)


def test_a_folder_is_replaced_when_told(tmp_path):
    shard = stored(tmp_path / f"00000{ENDING}", [CHINESE])
    segment_documents(shard, tmp_path / "out", "rjieba")
    with pytest.raises(ConfigError, match="exists"):
        segment_documents(shard, tmp_path / "out", "rjieba")
    stored(shard, ["\u8bd7"])
    config = SegmentConfig(overwrite=True)
    segment_documents(shard, tmp_path / "out", "rjieba", config=config)
    assert words_of(tmp_path / "out") == {"00000.tokenized.txt": "\u8bd7\n\n"}


def test_what_cannot_be_is_refused_before_any_work(tmp_path, monkeypatch):
    shard = stored(tmp_path / f"00000{ENDING}", [CHINESE])
    with pytest.raises(ConfigError, match="segmenter = 'jieba' is not one of spacy"):
        segment_documents(shard, tmp_path / "out", "jieba")
    with pytest.raises(ConfigError, match=r"limit = -1 must be at least 0\."):
        SegmentConfig(limit=-1)
    with pytest.raises(DataError, match=r"none does not exist\."):
        segment_documents(tmp_path / "none", tmp_path / "out", "rjieba")
    with pytest.raises(DataError, match="there is nothing to read"):
        segment_documents([], tmp_path / "out", "rjieba")
    monkeypatch.setitem(sys.modules, "rjieba", None)
    with pytest.raises(MissingExtraError, match=r'pip install "scratchlm\[zh\]"'):
        segment_documents(shard, tmp_path / "out", "rjieba")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["document_separator", "text_key"])
def test_empty_settings(name):
    with pytest.raises(ConfigError, match=f"{name} is empty: leave it out, or name one"):
        SegmentConfig(**{name: ""})


def test_its_own_input_is_not_replaced(tmp_path):
    (tmp_path / "docs").mkdir()
    stored(tmp_path / "docs" / f"00000{ENDING}", ["One."])
    with pytest.raises(ConfigError, match=r"docs, which is to be read, is the folder to make"):
        segment_documents(
            tmp_path / "docs", tmp_path / "docs", "rjieba", config=SegmentConfig(overwrite=True)
        )
    assert (tmp_path / "docs" / f"00000{ENDING}").is_file()
