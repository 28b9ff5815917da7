"""Fit the rule of recipes/scaling.py to the table of runs."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

Line = dict[str, Any]


def features(lines: Sequence[Line]) -> np.ndarray:
    """(lines, 4): parameters, bytes read, bytes there are, difficulty of the text."""
    return np.array(
        [
            (
                line["blocks"],
                line["trial"]["steps"]
                * line["trial"]["rows"]
                * line["trial"]["seq_len"]
                * line["train_bytes"]
                / line["train_tokens"],
                line["train_bytes"],
                line["difficulty"],
            )
            for line in lines
        ]
    )


def fit(lines: Sequence[Line]) -> tuple[dict[str, float], np.ndarray]:
    """The exponents and factors with the least squared error of the logarithm, and the errors."""
    P, D, U, h = features(lines).T
    seen = np.array([line["bits_per_byte"] for line in lines])
    best: tuple[float, dict[str, float], np.ndarray] | None = None
    grid = itertools.product(
        np.arange(0.1, 0.61, 0.05), np.arange(0.1, 0.61, 0.05), (2, 4, 8, 16), (0.5, 1.0, 1.5)
    )
    for alpha, beta, reuse, gamma in grid:
        effective = U * (1 + reuse * (1 - np.exp(-np.maximum(D / U - 1, 0) / reuse)))
        effective = np.minimum(effective, D)
        columns = np.stack(
            [np.ones_like(P), (P / 1e6) ** -alpha, (effective / 1e7) ** -beta,
             (P / U) ** gamma * np.maximum(D / U - 1, 0)], 1
        )  # fmt: skip
        weights = h / seen
        factors, *_ = np.linalg.lstsq(columns * weights[:, None], np.ones_like(seen), rcond=None)
        error = columns @ factors * h / seen - 1
        score = float(error @ error) + (1e3 if min(factors) < 0 else 0)
        if best is None or score < best[0]:
            found = {"alpha": alpha, "beta": beta, "reuse": reuse, "gamma": gamma}
            found |= dict(zip(("floor", "size", "data", "excess"), map(float, factors)))
            best = score, found, error
    assert best is not None
    return best[1], best[2]


def report(lines: Sequence[Line]) -> None:
    """Print the rule, and how far it is from every run."""
    rule, errors = fit(lines)
    print(", ".join(f"{name} = {value:.4g}" for name, value in rule.items()))
    for line, error in sorted(zip(lines, errors), key=lambda pair: str(pair[0]["trial"])):
        t = line["trial"]
        print(
            f"{t['text']:12} {t['vocab_size']:5} {t['n_layers']} x {t['d_model']:4} "
            f"{t['steps']:6} {line['bits_per_byte']:.4f} {error:+.1%}"
        )
    print(f"mean error {np.abs(errors).mean():.1%}, largest {np.abs(errors).max():.1%}")
