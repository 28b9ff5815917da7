"""A batch follows from its number alone: whatever the workers, the ranks, the point of resume."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlm.base.config import from_dict
from scratchlm.base.errors import ConfigError, DataError
from scratchlm.data.loader import Batch, DataConfig, Loader, SourceConfig, open_splits
from scratchlm.data.rows import IGNORE

KINDS = ["window", "packed", "padded"]


@pytest.fixture(scope="module")
def split(make_split):
    """100 documents of 3 to 42 tokens, numbered through from 1."""
    ids = iter(range(1, 10_000))
    return make_split([[next(ids) for _ in range(3 + i % 40)] for i in range(100)], 500)


def rows_of(batch: Batch) -> list[tuple]:
    return [tuple(row) for row in batch.tokens.tolist()]


def assert_equal(a: Batch, b: Batch) -> None:
    assert torch.equal(a.tokens, b.tokens)
    assert torch.equal(a.targets, b.targets)
    assert (a.segments is None) == (b.segments is None)
    assert a.segments is None or torch.equal(a.segments, b.segments)


@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_workers_gives_the_same_batches(split, kind):
    plain = list(Loader([split], DataConfig(seq_len=16, rows=kind, workers=0), 8).batches(0, 40))
    for workers in (1, 4):
        threaded = Loader([split], DataConfig(seq_len=16, rows=kind, workers=workers), 8)
        for a, b in zip(plain, threaded.batches(0, 40), strict=True):
            assert_equal(a, b)


@given(start=st.integers(0, 500))
@settings(max_examples=20, deadline=None)
def test_a_resume_goes_on_where_it_was(split, start):
    loader = Loader([split, split], DataConfig(seq_len=16, workers=2), 8)
    resumed = Loader([split, split], DataConfig(seq_len=16, workers=1), 8).batches(start)
    for n in range(start, start + 3):
        assert_equal(next(resumed), loader.batch(n))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("train", [True, False])
def test_the_ranks_together_are_the_one_process_batch(split, kind, train):
    config = DataConfig(seq_len=16, rows=kind, last_batch="keep")
    one = Loader([split], config, 12, train=train)
    ranks = [Loader([split], config, 12, train=train, rank=r, world_size=4) for r in range(4)]
    assert one.n_batches is not None
    for n in (0, 1, one.n_batches - 1):
        dealt = [rank.batch(n) for rank in ranks]
        parts = [part for part in dealt if (part.targets != IGNORE).any()]
        assert Counter(rows_of(one.batch(n))) == sum(map(Counter, map(rows_of, parts)), Counter())
        assert all(part.tokens.shape[1] == 16 and len(part.tokens) for part in dealt)


@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_reads_each_row_once_in_a_new_order(split, kind):
    loader = Loader([split], DataConfig(seq_len=16, rows=kind, jitter=False, last_batch="keep"), 8)
    n = loader.n_batches
    assert n is not None
    epochs = [[row for k in range(n) for row in rows_of(loader.batch(e * n + k))] for e in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert epochs[0] != epochs[1]
    assert len(set(epochs[0])) == loader.n_rows


def test_the_last_short_batch_is_dropped_or_kept(split):
    kept = Loader([split], DataConfig(seq_len=16, last_batch="keep"), 8)
    dropped = Loader([split], DataConfig(seq_len=16), 8)
    assert kept.n_rows % 8
    assert (kept.n_batches, dropped.n_batches) == (-(-kept.n_rows // 8), kept.n_rows // 8)
    assert len(kept.batch(kept.n_batches - 1).tokens) == kept.n_rows % 8
    assert {len(dropped.batch(k).tokens) for k in range(2 * dropped.n_batches)} == {8}


def test_without_shuffling_rows_come_in_order(split):
    loader = Loader([split], DataConfig(seq_len=16, shuffle=False, jitter=False), 4)
    assert loader.batch(0).tokens[:, 0].tolist() == [1, 17, 33, 49]


def test_seeds_give_other_orders(split):
    first, second = (Loader([split], DataConfig(seq_len=16, seed=s), 8).batch(0) for s in (0, 1))
    assert rows_of(first) != rows_of(second)


@pytest.mark.parametrize("kind", KINDS)
def test_validation_reads_all_sources_once(make_split, kind):
    documents = [[[i * 10 + j for j in range(1, 8)] for i in range(9)], [[200, 201, 202]], [[7, 8]]]
    splits = [make_split(each) for each in documents]
    loader = Loader(splits, DataConfig(seq_len=5, rows=kind, workers=2), 4, train=False)
    n_targets = sum(int((batch.targets != IGNORE).sum()) for batch in loader.batches())
    lengths = [len(ids) for each in documents for ids in each]
    expected = sum(lengths) - (3 if kind == "window" else len(lengths))
    assert n_targets == expected
    with pytest.raises(IndexError, match="there is no batch"):
        loader.batch(loader.n_batches)


def test_sources_are_mixed_by_weight(make_split):
    splits = [make_split([[k] * 400]) for k in (1, 2, 3)]
    weighted = tuple(SourceConfig(split.shards[0].path, w) for split, w in zip(splits, (6, 3, 1)))
    loader = Loader(splits, DataConfig(sources=weighted, seq_len=8), 5)
    assert loader.n_batches is None
    seen = Counter(loader.batch(n).tokens[i, 0].item() for n in range(60) for i in range(5))
    assert seen == {1: 180, 2: 90, 3: 30}
    first = Counter(loader.batch(0).tokens[:, 0].tolist())
    assert first[1] == 3


def test_each_source_keeps_its_own_epoch(make_split):
    short, long = make_split([list(range(1, 34))]), make_split([list(range(1000, 1330))])
    loader = Loader([short, long], DataConfig(seq_len=4, jitter=False), 2)
    n_short = 8
    rows = [row for n in range(5 * n_short) for row in rows_of(loader.batch(n)) if row[0] < 1000]
    epochs = [rows[e * n_short : (e + 1) * n_short] for e in range(5)]
    assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 5


def test_fewer_rows_than_a_batch_are_refused_with_numbers(split):
    with pytest.raises(
        DataError, match=r"makes \d+ rows of 16 tokens, fewer than one batch of 999"
    ):
        Loader([split], DataConfig(seq_len=16), 999)
    kept = Loader([split], DataConfig(seq_len=16, last_batch="keep"), 999)
    assert len(kept.batch(0).tokens) == kept.n_rows


def test_batches_that_cannot_be_dealt_are_refused(split):
    with pytest.raises(ConfigError, match="a batch of 10 rows cannot be dealt evenly to 4"):
        Loader([split], DataConfig(seq_len=16), 10, world_size=4)


def test_bad_settings_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="weight 0"):
        DataConfig(sources=(SourceConfig(tmp_path, 0),))
    with pytest.raises(ConfigError, match=r"data\.workers = -1"):
        DataConfig(workers=-1)
    with pytest.raises(ConfigError, match=r"data\.rows = 'paded'"):
        DataConfig(rows="paded")
    with pytest.raises(ConfigError, match=r"data\.sources is empty"):
        open_splits(DataConfig(), "train")


def test_sources_come_from_toml_tables():
    config = from_dict(DataConfig, {"sources": [{"path": "a", "weight": 2}], "seq_len": 8})
    assert config.sources[0].path.name == "a"
    assert config.sources[0].weight == 2.0


def test_batches_end_cleanly_when_left_early(split):
    batches = Loader([split], DataConfig(seq_len=16, workers=3), 8).batches(5)
    assert next(batches).tokens.dtype == torch.int64
    batches.close()
