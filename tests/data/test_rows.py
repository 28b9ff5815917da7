"""Rows lose no token and no target, and never look across documents where they must not."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlm.base.errors import ConfigError, DataError
from scratchlm.data.rows import IGNORE, make_rows, make_validation_rows

KINDS = ["window", "packed", "padded"]


@st.composite
def numbered_documents(draw) -> list[list[int]]:
    """Documents whose ids are 1, 2, 3, ...: an id tells its place."""
    lengths = draw(st.lists(st.integers(1, 20), min_size=1, max_size=12))
    ids = iter(range(1, sum(lengths) + 1))
    return [[next(ids) for _ in range(length)] for length in lengths]


def pairs(rows, epoch=None):
    """All (token, target) pairs with a target."""
    found = []
    for i in range(rows.n_rows):
        row = rows.row(i, epoch)
        for token, target in zip(row.tokens.tolist(), row.targets.tolist(), strict=True):
            if target != IGNORE:
                found.append((token, target))
    return found


def pairs_within(documents):
    return [(token, target) for ids in documents for token, target in itertools.pairwise(ids)]


@given(documents=numbered_documents(), seq_len=st.integers(1, 9), shard=st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_validation_counts_every_target_exactly_once(make_split, documents, seq_len, shard):
    split = make_split(documents, shard)
    whole = [token for document in documents for token in document]
    if len(whole) > 1:
        assert pairs(make_validation_rows(split, "window", seq_len)) == list(
            itertools.pairwise(whole)
        )
        assert pairs(make_validation_rows(split, "packed", seq_len)) == pairs_within(documents)
    if pairs_within(documents):
        assert pairs(make_validation_rows(split, "padded", seq_len)) == pairs_within(documents)


@given(documents=numbered_documents(), seq_len=st.integers(1, 9), epoch=st.integers(0, 20))
@settings(max_examples=60, deadline=None)
def test_packed_epochs_lose_no_token_and_no_target(make_split, documents, seq_len, epoch):
    n_tokens = sum(map(len, documents))
    if n_tokens <= seq_len:
        return
    rows = make_rows(make_split(documents, 25), "packed", seq_len)
    seen = Counter(
        token for i in range(rows.n_rows) for token in rows.row(i, epoch).tokens.tolist() if token
    )
    assert seen == Counter(range(1, n_tokens + 1))
    assert Counter(pairs(rows, epoch)) == Counter(pairs_within(documents))


@given(documents=numbered_documents(), seq_len=st.integers(1, 9), epoch=st.integers(0, 20))
@settings(max_examples=60, deadline=None)
def test_packed_segments_are_the_documents(make_split, documents, seq_len, epoch):
    if sum(map(len, documents)) <= seq_len:
        return
    rows = make_rows(make_split(documents, 25), "packed", seq_len)
    home = {token: k for k, ids in enumerate(documents) for token in ids}
    for i in range(rows.n_rows):
        row = rows.row(i, epoch)
        segments = row.segments.tolist()
        homes = [home.get(token) for token in row.tokens.tolist()]  # None: padding
        for a in range(1, seq_len):
            follows = row.tokens[a] == row.tokens[a - 1] + 1
            same = homes[a] == homes[a - 1] and (homes[a] is None or follows)
            assert (segments[a] == segments[a - 1]) == same
        assert segments == sorted(segments)


@given(
    n_tokens=st.integers(2, 60),
    seq_len=st.integers(1, 9),
    stride=st.integers(0, 12),
    epoch=st.integers(0, 30),
)
@settings(max_examples=60, deadline=None)
def test_windows_are_slices_a_stride_apart(make_split, n_tokens, seq_len, stride, epoch):
    if n_tokens <= seq_len:
        return
    rows = make_rows(make_split([list(range(n_tokens))]), "window", seq_len, stride=stride)
    starts = []
    for i in range(rows.n_rows):
        row = rows.row(i, epoch)
        starts.append(int(row.tokens[0]))
        assert row.tokens.tolist() == list(range(starts[-1], starts[-1] + seq_len))
        assert row.targets.tolist() == list(range(starts[-1] + 1, starts[-1] + seq_len + 1))
        assert row.segments is None
    assert set(np.diff(starts)) <= {stride or seq_len}
    assert starts[0] < (stride or seq_len)


@pytest.mark.parametrize("kind", ["window", "packed"])
def test_epochs_cut_at_other_places(make_split, kind):
    split = make_split([list(range(1, 200))])
    rows = make_rows(split, kind, 16)
    firsts = {int(rows.row(0, epoch).tokens[0]) for epoch in range(40)}
    assert len(firsts) > 10
    fixed = make_rows(split, kind, 16, jitter=False)
    assert {int(fixed.row(0, epoch).tokens[0]) for epoch in range(40)} == {1}


def test_a_stride_below_the_length_makes_overlapping_rows(make_split):
    rows = make_rows(make_split([list(range(10))]), "window", 4, stride=1, jitter=False)
    assert rows.n_rows == 6
    assert rows.row(5, 0).targets.tolist() == [6, 7, 8, 9]


def test_padded_rows_hold_one_document_each(make_split):
    rows = make_validation_rows(make_split([[1, 2, 3], [4], [5, 6, 7, 8, 9, 10]]), "padded", 4)
    got = [
        (rows.row(i, None).tokens.tolist(), rows.row(i, None).targets.tolist()) for i in range(3)
    ]
    assert rows.n_rows == 3
    assert got == [
        ([1, 2, 0, 0], [2, 3, IGNORE, IGNORE]),
        ([5, 6, 7, 8], [6, 7, 8, 9]),
        ([9, 0, 0, 0], [10, IGNORE, IGNORE, IGNORE]),
    ]


def test_packed_rows_by_hand(make_split):
    rows = make_validation_rows(make_split([[1, 2, 3], [4, 5], [6]]), "packed", 4)
    first, second = rows.row(0, None), rows.row(1, None)
    assert first.tokens.tolist() == [1, 2, 3, 4]
    assert first.targets.tolist() == [2, 3, IGNORE, 5]  # the row's last target is in the next row
    assert first.segments.tolist() == [0, 0, 0, 1]
    assert second.tokens.tolist() == [5, 6, 0, 0]
    assert second.targets.tolist() == [IGNORE] * 4
    assert second.segments.tolist() == [0, 1, 2, 2]


@pytest.mark.parametrize("kind", ["window", "packed"])
def test_text_shorter_than_a_row_is_refused(make_split, kind):
    with pytest.raises(DataError, match=r"holds 8 tokens, but one row needs 9 .* to at most 7"):
        make_rows(make_split([list(range(8))]), kind, 8)
    assert make_rows(make_split([list(range(9))]), kind, 8).n_rows >= 1


def test_one_token_documents_cannot_be_padded_rows(make_split):
    with pytest.raises(DataError, match="nothing to predict"):
        make_rows(make_split([[1], [2]]), "padded", 8)


def test_impossible_settings_are_refused(make_split):
    split = make_split([list(range(50))])
    with pytest.raises(ConfigError, match=r"data\.seq_len = 0"):
        make_rows(split, "window", 0)
    with pytest.raises(ConfigError, match=r"data\.stride = 4: only"):
        make_rows(split, "packed", 8, stride=4)
    with pytest.raises(ConfigError, match=r"data\.stride = -1"):
        make_rows(split, "window", 8, stride=-1)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_long_integers_of_full_length(make_split, kind):
    row = make_rows(make_split([list(range(1, 30))]), kind, 16).row(0, 0)
    parts = [row.tokens, row.targets] + ([row.segments] if row.segments is not None else [])
    assert all(part.shape == (16,) and part.dtype == np.int64 for part in parts)
