"""The spread of bits per byte: its formula, drawn samples, and what cannot be compared."""

import math
from dataclasses import replace

import numpy as np
import pytest

from scratchlm.evaluation.bits import bits_difference, bits_interval, linear_bits
from scratchlm.evaluation.perplexity import TextLoss


def loss_of(nats, n_bytes, window_nats=(), window_bytes=()):
    return TextLoss(
        nats=float(np.sum(nats)),
        n_targets=100,
        n_bytes=int(np.sum(n_bytes)),
        n_documents=len(nats),
        document_nats=np.asarray(nats, float),
        document_bytes=np.asarray(n_bytes, np.int64),
        window_nats=np.asarray(window_nats, float),
        window_bytes=np.asarray(window_bytes, np.int64),
    )


def draw(generator, n):
    n_bytes = generator.integers(200, 9000, n)
    return n_bytes * generator.normal(0.9, 0.2, n), n_bytes


def test_the_mean_of_the_values_is_the_ratio_of_the_sums():
    nats, n_bytes = draw(np.random.default_rng(0), 50)
    assert linear_bits(nats, n_bytes).mean() == pytest.approx(
        nats.sum() / math.log(2) / n_bytes.sum()
    )


def test_the_interval_is_that_of_drawing_documents_anew():
    generator = np.random.default_rng(1)
    nats, n_bytes = draw(generator, 80)
    chosen = generator.integers(0, 80, (20_000, 80))  # the bootstrap of the ratio itself
    ratios = nats[chosen].sum(1) / math.log(2) / n_bytes[chosen].sum(1)
    low, high = np.quantile(ratios, (0.025, 0.975))
    found = bits_interval(loss_of(nats, n_bytes))
    assert found.low == pytest.approx(low, abs=0.1 * (high - low))
    assert found.high == pytest.approx(high, abs=0.1 * (high - low))


def test_the_interval_holds_the_true_value_as_often_as_it_says():
    generator, held, n = np.random.default_rng(2), 0, 300
    for _ in range(n):
        found = bits_interval(loss_of(*draw(generator, 40)))
        held += found.low <= 0.9 / math.log(2) <= found.high
    assert 0.89 <= held / n <= 0.98  # 95 %, less what a bootstrap of 40 lacks


def test_few_documents_leave_it_to_their_windows():
    generator = np.random.default_rng(3)
    nats, n_bytes = draw(generator, 40)
    one = loss_of([nats.sum()], [n_bytes.sum()], nats, n_bytes)
    assert bits_interval(one) == bits_interval(loss_of(nats, n_bytes))
    assert bits_interval(loss_of([9.0], [9], [1.0] * 9, [1] * 9)) is None
    assert bits_interval(loss_of([9.0], [0], [1.0] * 40, [0] * 40)) is None


def test_two_models_are_compared_text_by_text():
    generator = np.random.default_rng(4)
    nats, n_bytes = draw(generator, 60)
    better = nats - n_bytes * generator.normal(0.01, 0.01, 60)  # far less than texts differ
    a, b = loss_of(nats, n_bytes), loss_of(better, n_bytes)
    found = bits_difference(a, b)
    assert found.mean == pytest.approx(b.bits_per_byte - a.bits_per_byte)
    assert found.interval.high < 0
    assert found.p_value < 1e-6
    assert (found.n_items, found.n_better) == (60, int((better > nats).sum()))
    assert bits_interval(a).low < b.bits_per_byte < bits_interval(a).high
    same = bits_difference(a, a)
    assert (same.mean, same.p_value) == (0, 1)


def test_windows_are_paired_where_they_are_the_same():
    generator = np.random.default_rng(5)
    nats, n_bytes = draw(generator, 30)
    a = loss_of([nats.sum()], [n_bytes.sum()], nats, n_bytes)
    b = replace(a, document_nats=a.document_nats * 0.9, window_nats=a.window_nats * 0.9)
    assert bits_difference(a, b).mean == pytest.approx(-0.1 * a.bits_per_byte)
    assert bits_difference(a, replace(b, window_bytes=n_bytes + 1)) is None  # another tokenizer
    assert bits_difference(a, loss_of(nats, n_bytes)) is None  # another text


def test_documents_without_a_target_for_one_model_are_left_out():
    generator = np.random.default_rng(6)
    nats, n_bytes = draw(generator, 20)
    shorter = n_bytes.copy()
    shorter[3] = 0
    assert bits_difference(loss_of(nats, n_bytes), loss_of(nats, shorter)).n_items == 19
