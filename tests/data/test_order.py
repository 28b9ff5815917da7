"""Shuffles are permutations, mixtures keep their shares."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchlm.data.order import Mixture, draw, mix, permute


@given(n=st.integers(1, 3000), key=st.integers(0, 2**64 - 1))
def test_permute_is_a_permutation(n, key):
    assert sorted(permute(np.arange(n), n, key).tolist()) == list(range(n))


@given(n=st.integers(1, 2**40), key=st.integers(0, 2**64 - 1), data=st.data())
def test_permute_answers_for_any_few_positions(n, key, data):
    positions = np.array(
        data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=8, unique=True))
    )
    together = permute(positions, n, key)
    assert ((together >= 0) & (together < n)).all()
    assert len(set(together.tolist())) == len(positions)
    assert [permute(positions[i : i + 1], n, key)[0] for i in range(len(positions))] == list(
        together
    )


@pytest.mark.parametrize("n", [7, 33])
def test_every_thing_lands_everywhere_equally_often(n):
    times = 1000
    counts = np.zeros((n, n))
    for k in range(times):
        counts[np.arange(n), permute(np.arange(n), n, mix(k))] += 1
    # six standard deviations of a binomial: one false alarm in 10**9, a bias of 40 % is seen
    assert abs(counts - times / n).max() < 6 * (times / n) ** 0.5


def test_draws_follow_from_their_numbers():
    assert mix(1, 2) == mix(1, 2)
    assert len({mix(1, 2), mix(2, 1), mix(1), mix(1, 2, 0)}) == 4
    assert {draw(3, k) for k in range(50)} == {0, 1, 2}


@given(weights=st.lists(st.integers(1, 60), min_size=1, max_size=6))
def test_mixtures_keep_each_share_within_one_row(weights):
    mixture = Mixture(weights)
    total = sum(weights)
    before = [0] * len(weights)
    for n in range(1, 2 * total):
        counts = mixture.counts(n)
        assert sum(counts) == n
        assert sum(after - c for after, c in zip(counts, before, strict=True)) == 1
        assert min(after - c for after, c in zip(counts, before, strict=True)) >= 0
        for count, weight in zip(counts, weights, strict=True):
            assert abs(count - n * weight / total) < 1
        before = counts


def test_weights_are_proportions():
    assert Mixture([0.7, 0.2, 0.1]).parts == [7, 2, 1]
    assert Mixture([30, 10]).parts == [3, 1]
    assert sum(Mixture([1, 2**0.5]).parts) == 10_000
    assert Mixture([1e-9, 1]).parts[0] == 1  # rounded, but never left out
