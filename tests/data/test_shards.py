"""Shards keep every id and document end, and refuse every damaged byte."""

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlm.base.errors import DataError
from scratchlm.base.files import write_manifest
from scratchlm.data.shards import (
    FORMAT,
    VERSION,
    Shard,
    ShardWriter,
    dtype_for,
    is_shards_folder,
    open_shards,
)

DOCUMENTS = st.lists(st.lists(st.integers(0, 69_999), min_size=1, max_size=12), min_size=1)


def write_folder(folder: Path, documents: list[list[int]], tokenizer_hash: str = "a" * 64) -> Path:
    with ShardWriter(folder / "train", 300, tokenizer_hash, shard_tokens=50) as writer:
        for document in documents:
            writer.add(document, n_bytes=len(document))
            writer.end_document()
    write_manifest(folder, FORMAT, VERSION)
    return folder


@given(documents=DOCUMENTS, shard_tokens=st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_split_returns_what_was_written(make_split, documents, shard_tokens):
    split = make_split(documents, shard_tokens)
    whole = [token for document in documents for token in document]
    assert split.n_tokens == len(whole)
    assert split.n_documents == len(documents)
    assert split.n_bytes == 2 * len(whole)
    assert split.read(0, len(whole)).tolist() == whole
    assert (
        split.read(len(whole) // 3, len(whole) // 2).tolist()
        == whole[len(whole) // 3 : len(whole) // 2]
    )
    spans = [split.document_span(i) for i in range(len(documents))]
    assert [whole[start:stop] for start, stop in spans] == documents
    assert split.document_lengths().tolist() == [len(document) for document in documents]
    start, stop = len(whole) // 4, len(whole)
    expected = [end for _, end in spans if start < end < stop]
    assert split.ends_within(start, stop).tolist() == expected


def test_small_vocabularies_take_two_bytes_an_id(make_split):
    assert dtype_for(65_536) == "uint16"
    assert dtype_for(65_537) == "uint32"
    assert make_split([[65_535]], vocab=65_536).read(0, 1).tolist() == [65_535]
    assert make_split([[65_536]], vocab=65_537).read(0, 1).tolist() == [65_536]


def test_documents_are_never_cut_by_a_shard_end(make_split):
    split = make_split([[1] * 7, [2] * 7, [3] * 30, [4]], shard_tokens=10)
    assert [shard.header.n_tokens for shard in split.shards] == [14, 30, 1]


def test_an_id_outside_the_vocabulary_is_refused(tmp_path):
    with (
        pytest.raises(DataError, match=r"not all in \[0, 10\)"),
        ShardWriter(tmp_path, 10, "") as w,
    ):
        w.add([3, 10])
    with pytest.raises(DataError, match=r"ids from -1 to 3"), ShardWriter(tmp_path, 10, "") as w:
        w.add([3, -1])
    assert not list(tmp_path.iterdir())


def test_an_error_while_writing_leaves_only_whole_shards(tmp_path):
    def write_and_stop():
        with ShardWriter(tmp_path, 10, "", shard_tokens=2) as writer:
            writer.add([1, 2, 3])
            writer.end_document()
            writer.add([4])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_stop()
    assert [path.name for path in tmp_path.iterdir()] == ["00000.shard"]
    assert Shard(tmp_path / "00000.shard").tokens.tolist() == [1, 2, 3]


def test_every_flipped_bit_is_seen(tmp_path):
    folder = write_folder(tmp_path, [[i % 300 for i in range(40)]])
    path = folder / "train" / "00000.shard"
    whole = path.read_bytes()
    draw = random.Random(0)
    places = [*range(300), *draw.sample(range(300, len(whole)), 150)]
    for place in places:
        path.write_bytes(
            whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :]
        )
        with pytest.raises(DataError, match=r"00000\.shard"):
            open_shards(folder)
    path.write_bytes(whole)
    open_shards(folder)


@pytest.mark.parametrize("size", [0, 7, 4095, 4096, 4100, -1])
def test_a_cut_shard_is_refused(tmp_path, size):
    folder = write_folder(tmp_path, [[1, 2, 3]])
    path = folder / "train" / "00000.shard"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match=r"cut short|not a token shard"):
        open_shards(folder, verify=False)


def test_another_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("scratchlm.data.shards.VERSION", 2)
    folder = write_folder(tmp_path, [[1, 2, 3]])
    monkeypatch.undo()
    with pytest.raises(DataError, match="format version 2; this program reads version 1"):
        Shard(folder / "train" / "00000.shard")


def test_another_tokenizer_is_refused_and_named(tmp_path):
    folder = write_folder(tmp_path, [[1, 2, 3]], tokenizer_hash="a" * 64)
    with pytest.raises(DataError, match=r"tokenizer aaaaaaaaaaaa, but tokenizer bbbbbbbbbbbb"):
        open_shards(folder, tokenizer_hash="b" * 64)


def test_shards_of_two_tokenizers_are_refused(tmp_path):
    folder = write_folder(tmp_path, [[1] * 50])
    with ShardWriter(tmp_path / "other", 300, "b" * 64) as writer:
        writer.add([1])
    (tmp_path / "other" / "00000.shard").rename(folder / "train" / "00001.shard")
    write_manifest(folder, FORMAT, VERSION)
    with pytest.raises(DataError, match="with one tokenizer"):
        open_shards(folder)


def test_folders_that_are_no_shards_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"has no manifest\.json"):
        open_shards(tmp_path)
    assert not is_shards_folder(tmp_path)
    folder = write_folder(tmp_path / "data", [[1, 2]])
    assert is_shards_folder(folder)
    with pytest.raises(DataError, match="has no val split"):
        open_shards(folder, "val")
    (folder / "train" / "00000.shard").unlink()
    with pytest.raises(DataError, match=r"00000\.shard is missing"):
        open_shards(folder)


def test_reading_more_than_there_is_fails(make_split):
    with pytest.raises(IndexError):
        make_split([[1, 2, 3]]).read(0, 4)


def test_shards_import_without_torch():
    code = (
        "import sys; sys.modules['torch'] = None; import scratchlm.data.rows, scratchlm.corpus.read"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_ids_come_as_copies(make_split):
    split = make_split([[1, 2, 3]])
    ids = split.read(0, 3)
    ids[:] = 9
    assert split.read(0, 3).tolist() == [1, 2, 3]
    assert ids.dtype == np.int64
