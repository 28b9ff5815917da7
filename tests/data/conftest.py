"""Splits from plain lists of ids, through real files."""

from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

import pytest

from scratchlm.data.shards import Shard, ShardWriter, Split

VOCAB = 70_000
MakeSplit = Callable[..., Split]


@pytest.fixture(scope="session")
def make_split(tmp_path_factory: pytest.TempPathFactory) -> MakeSplit:
    """make_split([[1, 2], [3]], shard_tokens=...) writes the documents and opens them."""
    folder, numbers = tmp_path_factory.mktemp("splits"), count()

    def make(
        documents: Sequence[Sequence[int]], shard_tokens: int = 100, vocab: int = VOCAB
    ) -> Split:
        return open_written(folder / str(next(numbers)), documents, shard_tokens, vocab)

    return make


def open_written(
    folder: Path, documents: Sequence[Sequence[int]], shard_tokens: int, vocab: int
) -> Split:
    with ShardWriter(folder, vocab, "a" * 64, shard_tokens) as writer:
        for document in documents:
            writer.add(document, n_bytes=2 * len(document))
            writer.end_document()
    return Split([Shard(path) for path in sorted(folder.iterdir())])
