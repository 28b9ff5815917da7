"""Fit the rule of recipes/scaling.py to the table of runs."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

Line = dict[str, Any]
NAMES = ("FLOOR", "BY_SIZE", "BY_DATA", "BY_HEART", "BY_HEART with dropout")
# SIZE_EXPONENT, DATA_EXPONENT, REUSE, HEART_EXPONENT
GRID = (np.arange(0.1, 0.65, 0.05), np.arange(0.1, 0.85, 0.05), (2, 4, 8, 16), (0, 0.25, 0.5, 1))


def report(lines: Sequence[Line]) -> None:
    """Print the rule, and how far it is from every run."""
    exponents, factors, errors = fit(lines)
    print("SIZE_EXPONENT, DATA_EXPONENT, REUSE, HEART_EXPONENT =", exponents)
    for name, value in zip(NAMES, factors):
        print(f"{name} = {value:.3g}")
    for line, error in sorted(zip(lines, errors), key=lambda pair: str(pair[0]["trial"])):
        t = line["trial"]
        print(
            f"{t['text']:12} {t['vocab_size']:5} {t['n_layers']} x {t['d_model']:4} "
            f"{t['steps']:6} {t['dropout']:.1f} {line['bits_per_byte']:.4f} {error:+.1%}"
        )
    print(f"mean error {np.abs(errors).mean():.1%}, largest {np.abs(errors).max():.1%}")


def fit(lines: Sequence[Line]) -> tuple[tuple[float, ...], np.ndarray, np.ndarray]:
    """Exponents and factors with the least squared relative error, and the errors of all lines."""
    seen = np.array([line["bits_per_byte"] for line in lines])
    found = []
    for exponents in itertools.product(*GRID):
        columns = _columns(lines, *exponents) / seen[:, None]
        for factors in _nonnegative(columns):
            errors = columns @ factors - 1
            found.append((float(errors @ errors), exponents, factors, errors))
    _, exponents, factors, errors = min(found, key=lambda one: one[0])
    return tuple(float(e) for e in exponents), factors, errors


def _columns(
    lines: Sequence[Line], by_size: float, by_data: float, reuse: float, by_heart: float
) -> np.ndarray:
    """(lines, 5): what each of NAMES is multiplied by."""
    rows = []
    for line in lines:
        t = line["trial"]
        tokens = t["steps"] * t["rows"] * t["seq_len"]
        again = max(tokens / line["train_tokens"] - 1, 0.0)
        unique = line["train_bytes"]
        read = tokens * unique / line["train_tokens"]
        effective = min(read, unique * (1 + reuse * (1 - np.exp(-again / reuse))))
        size = line["blocks"] / 1e6
        heart = line["compressed"] * size**by_heart * again / 10
        rows.append(
            (
                line["compressed"],
                line["compressed"] * size**-by_size,
                line["drawn"] * (effective / 1e6) ** -by_data,
                heart * (t["dropout"] == 0),
                heart * (t["dropout"] > 0),
            )
        )
    return np.array(rows)


def _nonnegative(columns: np.ndarray) -> list[np.ndarray]:
    """The solutions of least squares to 1 with some factors 0 and none below."""
    solutions = []
    n = columns.shape[1]
    for kept in itertools.product((True, False), repeat=n):
        chosen = [i for i in range(n) if kept[i]]
        if not chosen:
            continue
        values, *_ = np.linalg.lstsq(columns[:, chosen], np.ones(len(columns)))
        if (values >= 0).all():
            factors = np.zeros(n)
            factors[chosen] = values
            solutions.append(factors)
    return solutions
