"""How sure a score is, and whether two models differ: intervals, and tests on the same items.

All of it is written out from the formulas that are named, and compared with scipy and statsmodels
in the tests.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

_DRAWS = 2000  # of a bootstrap: the ends of its interval then move by a thirtieth of its width
_AT_ONCE = 1 << 22  # numbers of one batch of draws


@dataclass(frozen=True)
class Interval:
    """Where the true value lies with a probability of `level`, in the frequentist's sense."""

    low: float
    high: float
    level: float = 0.95


@dataclass(frozen=True)
class Difference:
    """Model b less model a, on the same items.

    mean      of the differences
    p_value   how likely a difference at least so large would be if the models were alike
    test      which test says so
    n_worse   items on which b is below a; n_better likewise
    """

    mean: float
    interval: Interval
    p_value: float
    test: str
    n_items: int
    n_worse: int
    n_better: int


def wilson(n_right: int, n: int, level: float = 0.95) -> Interval:
    """The score interval of a proportion (Wilson 1927, doi:10.1080/01621459.1927.10502953).

    It stays between 0 and 1, and holds for few items and for proportions near either end, where
    the usual p +- z sqrt(p (1 - p) / n) does not.
    """
    assert 0 <= n_right <= n
    assert n > 0
    z = NormalDist().inv_cdf((1 + level) / 2)
    p = n_right / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low = 0.0 if n_right == 0 else max(0.0, middle - half)
    high = 1.0 if n_right == n else min(1.0, middle + half)
    return Interval(low, high, level)


def bootstrap_mean(
    values: Sequence[float] | np.ndarray,
    *,
    clusters: Sequence[str] | None = None,
    level: float = 0.95,
    seed: int = 0,
    n_draws: int = _DRAWS,
) -> Interval:
    """The percentile interval of a mean (Efron 1979, doi:10.1214/aos/1176344552).

    clusters   of each value the group that it belongs to. Whole groups are drawn then, as if other
               groups could have been asked: right where items of a group are alike, and wider
    seed       the same gives the same interval
    """
    generator = np.random.default_rng(seed)
    array = np.asarray(values, dtype=np.float64)
    if clusters is None:
        means = _means_of_draws(array, n_draws, generator)
    else:
        _, group = np.unique(np.asarray(clusters), return_inverse=True)
        sums, counts = np.bincount(group, weights=array), np.bincount(group)
        chosen = generator.integers(0, len(sums), (n_draws, len(sums)))
        means = sums[chosen].sum(1) / counts[chosen].sum(1)
    low, high = np.quantile(means, ((1 - level) / 2, (1 + level) / 2))
    return Interval(float(low), float(high), level)


def _means_of_draws(values: np.ndarray, n_draws: int, generator: np.random.Generator) -> np.ndarray:
    """The means of samples with replacement; few different values are drawn by their counts."""
    different, counts = np.unique(values, return_counts=True)
    n = len(values)
    if len(different) <= 64:
        drawn = generator.multinomial(n, counts / n, n_draws)
        return drawn @ different / n
    rows = max(1, _AT_ONCE // n)
    means = []
    for start in range(0, n_draws, rows):
        chosen = generator.integers(0, n, (min(rows, n_draws - start), n))
        means.append(values[chosen].mean(1))
    return np.concatenate(means)


def mcnemar(n_only_a: int, n_only_b: int) -> float:
    """The exact test whether two models are right equally often (McNemar 1947), two-sided.

    n_only_a   items that only model a has right; n_only_b likewise. The others say nothing
    returns    the p-value: of the binomial distribution with chance one half
    """
    n, k = n_only_a + n_only_b, min(n_only_a, n_only_b)
    if n == 0 or n_only_a == n_only_b:
        return 1.0
    logs = [_log_choose(n, i) - n * math.log(2) for i in range(k + 1)]
    return min(1.0, 2 * math.fsum(math.exp(one) for one in logs))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def paired_t(differences: Sequence[float] | np.ndarray) -> float:
    """Student's test whether the mean of paired differences is 0 (1908), two-sided: the p-value.

    One difference, or differences that are all equal, prove nothing: 1.0, unless they are equal and
    not 0, which is as sure as can be: 0.0.
    """
    array = np.asarray(differences, dtype=np.float64)
    n = len(array)
    if n < 2:
        return 1.0
    mean, spread = float(array.mean()), float(array.std(ddof=1))
    if spread == 0:
        return 1.0 if mean == 0 else 0.0
    t, df = mean / (spread / math.sqrt(n)), n - 1
    return _incomplete_beta(df / (df + t * t), df / 2, 0.5)


def compare_paired(
    a: Sequence[float] | np.ndarray,
    b: Sequence[float] | np.ndarray,
    *,
    clusters: Sequence[str] | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Model b against model a on the same items.

    Right and wrong (all values 0 or 1) are tested by `mcnemar`, everything else by `paired_t`; the
    interval is `bootstrap_mean` of the differences.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    assert first.shape == second.shape
    assert len(first) > 0
    differences = second - first
    n_worse, n_better = int((differences < 0).sum()), int((differences > 0).sum())
    binary = bool(np.isin(first, (0, 1)).all() and np.isin(second, (0, 1)).all())
    return Difference(
        mean=float(differences.mean()),
        interval=bootstrap_mean(differences, clusters=clusters, level=level, seed=seed),
        p_value=mcnemar(n_worse, n_better) if binary else paired_t(differences),
        test="exact McNemar test" if binary else "paired t-test",
        n_items=len(differences),
        n_worse=n_worse,
        n_better=n_better,
    )


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """I_x(a, b), by its continued fraction in Lentz's way (DLMF 8.17.22; Press et al. 6.4)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # where it converges slowly
        return 1 - _incomplete_beta(1 - x, b, a)
    log_front = a * math.log(x) + b * math.log1p(-x) - math.log(a)
    log_front += math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    tiny = 1e-300
    c, d = 1.0, 1 / ((1 - (a + b) * x / (a + 1)) or tiny)
    total = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for step in (even, odd):
            d = 1 / ((1 + step * d) or tiny)
            c = (1 + step / c) or tiny
            total *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return math.exp(log_front) * total
