"""Intervals and tests against scipy 1.17 (its numbers are stored), and against what they promise.

wilson: scipy.stats.binomtest(k, n).proportion_ci(level, method="wilson"); mcnemar: the p-value of
scipy.stats.binomtest(min(a, b), a + b, 0.5); paired_t: scipy.stats.ttest_rel; the incomplete beta
function by scipy.stats.t.sf; bootstrap_mean: scipy.stats.bootstrap, method="percentile".
"""

import numpy as np
import pytest

from scratchlm.evaluation.statistics import (
    bootstrap_mean,
    compare_paired,
    mcnemar,
    paired_t,
    wilson,
)


@pytest.mark.parametrize(
    ("k", "n", "level", "low", "high"),
    [
        (0, 10, 0.95, 0.0, 0.27753279986288926),
        (7, 10, 0.95, 0.39677814746114526, 0.892208732593699),
        (7, 10, 0.99, 0.32002467920110256, 0.9204336834769342),
        (10, 10, 0.95, 0.7224672001371109, 1.0),
        (530, 1000, 0.95, 0.49901030909301664, 0.5607600853978499),
        (3, 67000, 0.95, 1.5228035511662686e-05, 0.00013165098823419974),
    ],
)
def test_wilson(k, n, level, low, high):
    found = wilson(k, n, level)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)


@pytest.mark.parametrize(
    ("a", "b", "p"),
    [
        (5, 12, 0.143463134765625),
        (0, 6, 0.03125),
        (40, 61, 0.046044066929342785),
        (1, 1, 1.0),
        (1200, 1350, 0.003163536948938072),
    ],
)
def test_mcnemar(a, b, p):
    assert mcnemar(a, b) == pytest.approx(p, rel=1e-9)
    assert mcnemar(b, a) == mcnemar(a, b)


def test_mcnemar_of_models_that_never_differ():
    assert mcnemar(0, 0) == 1.0


BEFORE = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]  # Hollander and Wolfe 1973, p. 29
AFTER = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]


def test_paired_t():
    differences = np.array(BEFORE) - np.array(AFTER)
    assert paired_t(differences) == pytest.approx(0.016176627434908088, rel=1e-9)


@pytest.mark.parametrize(
    ("t", "df", "p"),
    [
        (2.0, 1, 0.2951672353008665),
        (0.1, 5, 0.9242301411546604),
        (3.5, 30, 0.0014768074376442532),
        (1.96, 1000, 0.050273184955748736),
        (25.0, 12, 1.0164797615466309e-11),
    ],
)
def test_students_distribution(t, df, p):
    n = df + 1
    centred = np.arange(n) - (n - 1) / 2
    values = centred / centred.std(ddof=1) + t / np.sqrt(n)  # whose t is exactly that
    assert paired_t(values) == pytest.approx(p, rel=1e-8)


@pytest.mark.parametrize(("values", "p"), [([1.0], 1.0), ([0.0, 0.0], 1.0), ([0.5, 0.5], 0.0)])
def test_paired_t_of_what_has_no_spread(values, p):
    assert paired_t(values) == p


VALUES = [
    1.246, 2.049, 5.408, 1.575, 3.066, 1.066, 2.914, 2.341, 1.469, 1.357, 2.38, 3.38, 0.477, 1.041,
    0.742, 2.427, 0.97, 0.926, 2.961, 5.52, 0.284, 0.916, 2.585, 2.075, 4.864, 4.219, 1.912, 6.486,
    10.784, 4.519, 1.5, 6.133, 2.884, 3.875, 2.216, 2.705, 4.667, 0.821, 4.879, 1.052,
]  # fmt: skip


@pytest.mark.parametrize(
    ("repeat", "low", "high"),
    [(1, 2.21205, 3.49968), (3, 2.45697, 3.20244)],
    ids=["by counts", "by places"],
)
def test_bootstrap(repeat, low, high):
    """200,000 draws by scipy; ours of 20,000 may be off by 0.02."""
    values = [value + i * 1e-9 for i in range(repeat) for value in VALUES]
    found = bootstrap_mean(values, n_draws=20_000)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.02)
    assert bootstrap_mean(values, seed=4) == bootstrap_mean(values, seed=4)
    assert bootstrap_mean(values, seed=4) != bootstrap_mean(values, seed=5)


def test_a_bootstrap_covers_as_often_as_it_says():
    generator = np.random.default_rng(8)
    hits = 0
    for seed in range(300):
        found = bootstrap_mean(generator.random(80) < 0.3, n_draws=400, seed=seed)
        hits += found.low <= 0.3 <= found.high
    assert 0.90 <= hits / 300 <= 0.98


def test_clusters_that_are_alike_inside_widen_the_interval():
    """Ten subjects of 50 equal answers are ten answers, not 500."""
    subjects = [str(i) for i in range(10) for _ in range(50)]
    values = [float(int(s) % 2) for s in subjects]
    clustered = bootstrap_mean(values, clusters=subjects)
    plain = bootstrap_mean(values)
    assert (clustered.high - clustered.low) / (plain.high - plain.low) == pytest.approx(
        np.sqrt(50), rel=0.15
    )


def test_two_models_side_by_side():
    a = [1, 1, 0, 0, 1, 0, 1, 1]
    b = [1, 1, 1, 1, 1, 1, 0, 1]
    found = compare_paired(a, b)
    assert (found.n_worse, found.n_better, found.n_items) == (1, 3, 8)
    assert found.mean == pytest.approx(0.25)
    assert found.test == "exact McNemar test"
    assert found.p_value == pytest.approx(mcnemar(1, 3))
    losses = compare_paired(AFTER, BEFORE)
    assert losses.test == "paired t-test"
    assert losses.p_value == pytest.approx(0.016176627434908088, rel=1e-9)
    assert losses.interval.low < losses.mean < losses.interval.high
